"""NIST SPHERE: its header, and samples compressed by Shorten, which libsndfile cannot read.

LDC compressed much of its telephone speech with Shorten. Two programs decode it; the first one installed is used.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from os import PathLike
from typing import BinaryIO

MAGIC = b"NIST_1A"
HEADER_BYTES = 1024
COMPRESSED = "embedded-shorten"

DECODERS = {
    "sph2pipe": ("-f", "wav", "-p", "{path}"),
    "ffmpeg": ("-v", "error", "-nostdin", "-i", "{path}", "-c:a", "pcm_s16le", "-f", "wav", "-"),
}
"""Programs that write WAV to standard output, in the order in which they are tried. ffmpeg can decode Shorten after
pcm, but not after ulaw."""


def read_header(descriptor: int) -> dict[str, str] | None:
    r"""Read the fields of a SPHERE header, as text.

    Arguments
    ---------
    descriptor : int
        Descriptor of an open file; its position does not change.

    Returns
    -------
    dict from name to value, or None
        None if the file is not SPHERE.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.sph"
    >>> _ = path.write_bytes(b"NIST_1A\n   1024\nchannel_count -i 2\nsample_coding -s4 ulaw\nend_head\n")
    >>> with path.open("rb") as file:
    ...     read_header(file.fileno())
    {'channel_count': '2', 'sample_coding': 'ulaw'}
    """
    header = os.pread(descriptor, HEADER_BYTES, 0)
    if not header.startswith(MAGIC):
        return None
    fields = {}
    for line in header.decode("latin-1").split("\n"):
        if line.strip() == "end_head":
            break
        # The length of a string, as in -s4, is not always right.
        name, _, rest = line.partition(" -")
        if rest:
            fields[name] = rest.partition(" ")[2].strip()
    return fields


def is_compressed(header: Mapping[str, str]) -> bool:
    """Whether a file's samples are compressed by Shorten.

    Example
    -------
    >>> is_compressed({"sample_coding": "ulaw,embedded-shorten-v2.00"}), is_compressed({"sample_coding": "ulaw"})
    (True, False)
    """
    return COMPRESSED in header.get("sample_coding", "")


def decompress(path: str | PathLike[str]) -> BinaryIO:
    """Decode a compressed file with the first program that succeeds.

    Arguments
    ---------
    path : path
        A SPHERE file.

    Returns
    -------
    file
        WAV in a temporary file, which is deleted when it is closed.

    Raises
    ------
    ValueError
        If no such program is installed, or none could decode the file. The message does not name the file.
    """
    installed = {name: shutil.which(name) for name in DECODERS}
    problems = []
    for name, program in installed.items():
        if program is None:
            continue
        decoded = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (the caller closes it)
        arguments = [word.format(path=os.fspath(path)) for word in DECODERS[name]]
        done = subprocess.run(
            [program, *arguments], stdin=subprocess.DEVNULL, stdout=decoded, stderr=subprocess.PIPE, check=False
        )
        if done.returncode == 0 and os.fstat(decoded.fileno()).st_size > 0:
            decoded.seek(0)
            return decoded
        decoded.close()
        # The first line says most. ffmpeg begins messages with the name of a component in brackets.
        first = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0].rpartition("] ")[2].strip()
        problems.append(f"{name} cannot decode it ({first.rstrip('.') or f'exit status {done.returncode}'})")
    if problems:
        advice = "replace the file" if installed["sph2pipe"] else "install sph2pipe, or replace the file"
        raise ValueError(f"compressed by Shorten, and {', '.join(problems)}; {advice}.")
    raise ValueError(f"compressed by Shorten; install {' or '.join(DECODERS)}, which decode it.")
