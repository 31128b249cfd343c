"""Reading audio files: every reader of audio in this package goes through here.

soundfile reads WAV, FLAC and NIST SPHERE (either byte order) in place. What it cannot read, or reads only in part
without saying so, becomes one sentence that names the file.
"""

from __future__ import annotations

import re
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile

SPHERE_MAGIC = b"NIST_1A"
SPHERE_HEADER_BYTES = 1024


class AudioInfo(NamedTuple):
    """What the header of a one-channel audio file says."""

    num_samples: int
    """Length in samples."""
    sample_rate: int
    """Samples per second, in Hz."""

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate


def audio_info(path: str | PathLike[str]) -> AudioInfo:
    """Read the header of a one-channel audio file, without its samples.

    Arguments
    ---------
    path : path
        A file in any format soundfile knows (WAV, FLAC, NIST SPHERE, ...).

    Returns
    -------
    AudioInfo
        Length in samples and sample rate in Hz.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is unreadable, empty, shorter than its own header says, or has several channels.

    Example
    -------
    >>> import numpy, soundfile
    >>> folder = getfixture("tmp_path")
    >>> soundfile.write(folder / "a.flac", numpy.zeros(8000, dtype="int16"), 16000)
    >>> audio_info(folder / "a.flac")
    AudioInfo(num_samples=8000, sample_rate=16000)
    >>> audio_info(folder / "a.flac").duration
    0.5
    """
    path = _existing_file(path)
    try:
        header = soundfile.info(path)
    except soundfile.SoundFileError as error:
        raise ValueError(f"{path}: not readable as audio ({_reason(error)}); replace the file.") from error
    if header.channels != 1:
        raise ValueError(f"{path}: has {header.channels} channels where one is expected; split it into one file each.")
    if header.frames < 1:
        raise ValueError(f"{path}: holds no samples; replace the file or leave the utterance out.")
    promised = _sphere_sample_count(path)
    if promised is not None and header.frames < promised:
        raise ValueError(f"{path}: holds {header.frames} of the {promised} samples its header promises; replace it.")
    return AudioInfo(header.frames, header.samplerate)


def read_audio(path: str | PathLike[str]) -> tuple[npt.NDArray[np.float32], int]:
    """Read a one-channel audio file.

    Arguments
    ---------
    path : path
        A file in any format soundfile knows (WAV, FLAC, NIST SPHERE, ...).

    Returns
    -------
    samples : numpy.ndarray
        Shape (S,), float32, in [-1, 1).
    sample_rate : int
        Hz.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is unreadable, empty, shorter than its own header says, or has several channels.

    Example
    -------
    >>> import numpy, soundfile
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, numpy.full(4, 0.5, dtype="float32"), 8000)
    >>> read_audio(path)
    (array([0.5, 0.5, 0.5, 0.5], dtype=float32), 8000)
    """
    info = audio_info(path)
    try:
        samples, sample_rate = soundfile.read(path, dtype="float32")
    except soundfile.SoundFileError as error:
        raise ValueError(f"{path}: broken audio ({_reason(error)}); replace the file.") from error
    if len(samples) < info.num_samples:
        raise ValueError(
            f"{path}: holds {len(samples)} of the {info.num_samples} samples its header promises; replace it."
        )
    return samples, sample_rate


def _existing_file(path: str | PathLike[str]) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such audio file; check the path.")
    return path


def _sphere_sample_count(path: Path) -> int | None:
    """Length that a SPHERE header states; libsndfile goes by the file's size and so misses a cut-off download."""
    with path.open("rb") as file:
        header = file.read(SPHERE_HEADER_BYTES)
    if not header.startswith(SPHERE_MAGIC):
        return None
    found = re.search(rb"^sample_count -i (\d+)", header, re.MULTILINE)
    return int(found[1]) if found else None


def _reason(error: soundfile.SoundFileError) -> str:
    """libsndfile's own words, without the path that ours already start with."""
    text = getattr(error, "error_string", None) or str(error)
    return text.rstrip(".")
