"""Audio that libsndfile does not know, decoded by ffmpeg where it is installed: MPEG-4, WebM, AAC, AMR and others.

A file is given to ffmpeg only if its first bytes are those of a format in :data:`FORMATS`, for ffmpeg takes almost any
file for some audio; and what it decodes is taken only if it had nothing to complain about.
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
    """In messages."""
    demuxer: str
    """As `ffmpeg -f` has it."""
    place: int
    """Where its mark begins."""
    mark: bytes
    """The bytes that tell it."""
    needed: bool = True
    """False where libsndfile reads some such files; ffmpeg is asked for the others."""


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
    r"""The format of a file that begins with these bytes; None if ffmpeg is of no help.

    Example
    -------
    >>> recognize(b"\0\0\0\x1cftypM4A ").name
    'MPEG-4 audio'
    >>> recognize(b"RIFF")
    """
    return next((each for each in FORMATS if magic.startswith(each.mark, each.place)), None)


def is_installed() -> bool:
    """Whether ffmpeg is."""
    return shutil.which("ffmpeg") is not None


def decode(path: str | PathLike[str], form: Format) -> BinaryIO:
    """Decode the first sound of a file.

    Arguments
    ---------
    path : path
    form : Format
        What :func:`recognize` found it to be.

    Returns
    -------
    file
        16-bit W64 in a temporary file, which is gone when it is closed.

    Raises
    ------
    ValueError
        What is wrong, without the file's name: ffmpeg is not installed, or finds fault with the file.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise ValueError(
            f"is {form.name}, which needs ffmpeg; install it, or convert the file elsewhere (ffmpeg -i FILE FILE.flac)."
        )
    # A name may look like an option or an address; "file:" says that it is neither.
    name = f"file:{os.fspath(path)}"
    arguments = ["-v", "error", "-nostdin", "-y", "-xerror", "-protocol_whitelist", "file", "-f", form.demuxer]
    arguments += ["-i", name, "-map", "0:a:0", "-c:a", "pcm_s16le", "-f", "w64"]
    with tempfile.NamedTemporaryFile() as decoded:
        done = subprocess.run(
            [program, *arguments, decoded.name], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        # ffmpeg puts the part of itself that speaks in front, in brackets.
        complaint = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0].rpartition("] ")[2].strip()
        if done.returncode == 0 and not complaint:
            return open(decoded.name, "rb", buffering=0)  # noqa: SIM115 (the caller closes it)
    if "matches no streams" in complaint:
        raise ValueError(f"is {form.name} without any sound; leave it out.")
    complaint = complaint.replace(f"{name}: ", "").rstrip(".") or f"exit status {done.returncode}"
    raise ValueError(f"is {form.name} that ffmpeg cannot decode whole ({complaint}); replace the file.")
