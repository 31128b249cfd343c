"""Audio that libsndfile does not know, decoded by ffmpeg where it is installed: MPEG-4, WebM, AAC, AMR and others.

A file is given to ffmpeg only if its first bytes are those of one that
:func:`~biglittle_asr.audio.containers.recognize` knows, for ffmpeg takes almost any
file for some audio; and what it decodes is taken only if it had nothing to complain about.
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
    """Whether ffmpeg is."""
    return shutil.which("ffmpeg") is not None


def decode(path: str | PathLike[str], form: Format) -> BinaryIO:
    """Decode the first sound of a file.

    Arguments
    ---------
    path : path
    form : Format
        What the file is.

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
