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
from typing import BinaryIO

from biglittle_asr.audio.containers import Format


def is_installed() -> bool:
    """Whether ffmpeg is installed."""
    return shutil.which("ffmpeg") is not None


def decode(path: str | PathLike[str], form: Format) -> BinaryIO:
    """Decode the first audio stream of a file.

    Arguments
    ---------
    path : path
    form : Format
        Format of the file, from :func:`~biglittle_asr.audio.containers.recognize`.

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
