"""Decodes formats that libsndfile does not know with ffmpeg, if it is installed: MPEG-4, WebM, AAC, AMR and others.

Only files whose first bytes match :data:`FORMATS` go to ffmpeg, as it would decode almost any file as some audio. Its
output is used only if it reports no errors.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from os import PathLike
from typing import BinaryIO, NamedTuple

MAGIC_BYTES = 48


class Format(NamedTuple):
    """A format for ffmpeg to decode."""

    name: str
    """Name in messages."""
    demuxer: str
    """Name for `ffmpeg -f`."""
    place: int
    """Offset of the marker."""
    mark: bytes
    """Bytes that identify the format."""
    needed: bool = True
    """False if libsndfile can read some files of the format; ffmpeg then decodes only the others."""


FORMATS = (
    Format("MPEG-4 audio", "mov", 4, b"ftyp"),
    Format("Matroska or WebM audio", "matroska", 0, b"\x1a\x45\xdf\xa3"),
    Format("Windows Media audio", "asf", 0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    Format("AMR audio", "amr", 0, b"#!AMR"),
    Format("AC-3 audio", "ac3", 0, b"\x0b\x77"),
    Format("AAC audio", "aac", 0, b"\xff\xf1"),
    Format("AAC audio", "aac", 0, b"\xff\xf9"),
    Format("Speex audio", "ogg", 28, b"Speex   "),
    Format("FLAC in Ogg", "ogg", 28, b"\x7fFLAC", needed=False),
    Format("CAF audio", "caf", 0, b"caff", needed=False),
)


def recognize(magic: bytes) -> Format | None:
    r"""Recognize the format of a file by its first bytes; None if it is not in :data:`FORMATS`.

    Example
    -------
    >>> recognize(b"\0\0\0\x1cftypM4A ").name
    'MPEG-4 audio'
    >>> recognize(b"RIFF")
    """
    return next((each for each in FORMATS if magic.startswith(each.mark, each.place)), None)


def is_installed() -> bool:
    """Whether ffmpeg is installed."""
    return shutil.which("ffmpeg") is not None


def decode(path: str | PathLike[str], form: Format) -> BinaryIO:
    """Decode the first audio stream of a file.

    Arguments
    ---------
    path : path
    form : Format
        The file's format, from :func:`recognize`.

    Returns
    -------
    file
        16-bit W64 in a temporary file, which is deleted when it is closed.

    Raises
    ------
    ValueError
        If ffmpeg is not installed, or reports an error. The message does not name the file.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise ValueError(
            f"is {form.name}, which needs ffmpeg; install it, or convert the file elsewhere (ffmpeg -i FILE FILE.flac)."
        )
    # "file:" prevents ffmpeg from reading a name as an option or a URL.
    name = f"file:{os.fspath(path)}"
    arguments = ["-v", "error", "-nostdin", "-y", "-xerror", "-protocol_whitelist", "file", "-f", form.demuxer]
    arguments += ["-i", name, "-map", "0:a:0", "-c:a", "pcm_s16le", "-f", "w64"]
    with tempfile.NamedTemporaryFile() as decoded:
        done = subprocess.run(
            [program, *arguments, decoded.name], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        # ffmpeg begins messages with the name of a component in brackets.
        complaint = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0].rpartition("] ")[2].strip()
        if done.returncode == 0 and not complaint:
            return open(decoded.name, "rb", buffering=0)  # noqa: SIM115 (the caller closes it)
    if "matches no streams" in complaint:
        raise ValueError(f"is {form.name} without any sound; leave it out.")
    complaint = complaint.replace(f"{name}: ", "").rstrip(".") or f"exit status {done.returncode}"
    raise ValueError(f"is {form.name} that ffmpeg cannot decode whole ({complaint}); replace the file.")
