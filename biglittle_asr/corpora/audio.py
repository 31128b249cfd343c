"""Reading audio files: every reader of audio in this package goes through here.

soundfile reads WAV, FLAC, AIFF, OGG, MP3 and NIST SPHERE (either byte order) in place, by what is in a file, whatever
it is called. What it cannot read, or reads only in part without saying so, becomes one sentence that names the file.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile

SPHERE_MAGIC = b"NIST_1A"
SPHERE_HEADER_BYTES = 1024
IFF_BYTE_ORDERS = {b"RIFF": "<", b"RIFX": ">", b"FORM": ">"}
"""First word of WAV (either byte order) and AIFF -> byte order of its numbers."""
IFF_AUDIO_CHUNKS = (b"data", b"SSND")
IFF_UNKNOWN_BYTES = 0x7FFF0000
"""Sizes from here up are what programs write that do not know the length yet, such as ffmpeg into a pipe."""
IFF_MAX_CHUNKS = 1000
"""So many are looked at before the samples."""
UNKNOWN_SAMPLES = 2**60
"""libsndfile gives lengths beyond it where it does not know."""
BLOCK_SAMPLES = 65536


class AudioFileError(ValueError):
    """An audio file cannot be used.

    Arguments
    ---------
    message : str
        One sentence that begins with the file.
    fault : str
        In a word, a key of `biglittle_asr.corpora.checks.FAULTS`.
    """

    def __init__(self, message: str, fault: str = "unreadable") -> None:
        super().__init__(message)
        self.fault = fault


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


class AudioFile:
    """An audio file, open to be read block by block; a context manager.

    Arguments
    ---------
    path : path
        A file in any format soundfile knows (WAV, FLAC, NIST SPHERE, ...); or a pipe, in those that need no way back
        (WAV, not FLAC).
    label : str
        What to call it in error messages; its path if not given.

    Attributes
    ----------
    num_samples : int
        Length in samples (of each channel); 0 for a pipe, which ends when it ends.
    sample_rate : int
        Hz.
    channels : int

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OSError
        If it may not be read.
    AudioFileError
        If the file is unreadable, empty, or shorter than its own header says; a ValueError.

    Example
    -------
    >>> import numpy, soundfile
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, numpy.zeros((100, 2)), 8000)
    >>> with AudioFile(path) as file:
    ...     file.num_samples, file.channels, [len(block) for block in file.blocks(60)]
    (100, 2, [60, 40])
    """

    def __init__(self, path: str | PathLike[str], label: str | None = None) -> None:
        path = Path(path)
        self.label = label if label is not None else str(path)
        is_pipe = path.exists() and not path.is_file() and not path.is_dir()
        if not path.is_file() and not is_pipe:
            kind = "a folder, not an audio file" if path.is_dir() else "no such audio file"
            raise FileNotFoundError(f"{self.label}: {kind}; check the path.")
        # By descriptor, for libsndfile trusts some names, such as *.raw, more than the content. It reads from where the
        # descriptor stands, so nothing may buffer.
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise OSError(f"{self.label}: cannot be opened ({error.strerror}); check its permissions.") from error
        try:
            if not is_pipe:
                _refuse_cut_off(self._file.fileno(), self.label)
            try:
                self._sound = soundfile.SoundFile(self._file.fileno(), closefd=False)
            except (soundfile.SoundFileError, TypeError) as error:
                advice = "pipe it as WAV, or give a file" if is_pipe else "replace the file"
                raise AudioFileError(f"{self.label}: not readable as audio ({_reason(error)}); {advice}.") from error
            self.sample_rate: int = self._sound.samplerate
            self.channels: int = self._sound.channels
            self.num_samples: int = 0 if is_pipe else self._sound.frames
            if is_pipe:
                return
            if self.num_samples >= UNKNOWN_SAMPLES:
                self.num_samples = sum(len(block) for block in self._read(BLOCK_SAMPLES))
                self._sound.seek(0)
            if self.num_samples < 1:
                raise AudioFileError(f"{self.label}: holds no samples; replace the file or leave it out.", "empty")
            promised = _sphere_sample_count(self._file.fileno())
            if promised is not None and self.num_samples < promised:
                raise self._cut_off(self.num_samples, promised)
        except BaseException:
            self.close()
            raise

    def blocks(self, size: int = BLOCK_SAMPLES) -> Iterator[npt.NDArray[np.float32]]:
        """Read all samples, once.

        Arguments
        ---------
        size : int
            Samples of a block; the last may have fewer.

        Yields
        ------
        numpy.ndarray
            Shape (samples, channels), float32, full scale 1.

        Raises
        ------
        AudioFileError
            If the file breaks off, or holds samples that are not finite numbers; a ValueError.
        """
        count = 0
        for block in self._read(size):
            finite = np.isfinite(block).all(axis=1)
            if not finite.all():
                seconds = (count + int(np.argmin(finite))) / self.sample_rate
                raise AudioFileError(
                    f"{self.label}: a sample at {seconds:.2f} s is not a finite number; replace the file.", "not_finite"
                )
            count += len(block)
            yield block
        if count < self.num_samples:
            raise self._cut_off(count, self.num_samples)

    def _read(self, size: int) -> Iterator[npt.NDArray[np.float32]]:
        while True:
            try:
                block = self._sound.read(size, dtype="float32", always_2d=True)
            except soundfile.SoundFileError as error:
                raise AudioFileError(f"{self.label}: broken audio ({_reason(error)}); replace the file.") from error
            if len(block):
                yield block
            if len(block) < size:
                return

    def _cut_off(self, held: int, promised: int) -> AudioFileError:
        return AudioFileError(
            f"{self.label}: holds {held} of the {promised} samples its header promises; replace it.", "truncated"
        )

    def close(self) -> None:
        """Close the file."""
        sound = getattr(self, "_sound", None)
        if sound is not None:
            sound.close()
        self._file.close()

    def __enter__(self) -> AudioFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


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
    AudioFileError
        If the file is unreadable, empty, shorter than its own header says, or has several channels; a ValueError.

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
    with AudioFile(path) as file:
        return _one_channel(file)


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
    AudioFileError
        If the file is unreadable, empty, shorter than its own header says, or has several channels; a ValueError.

    Example
    -------
    >>> import numpy, soundfile
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, numpy.full(4, 0.5, dtype="float32"), 8000)
    >>> read_audio(path)
    (array([0.5, 0.5, 0.5, 0.5], dtype=float32), 8000)
    """
    with AudioFile(path) as file:
        info = _one_channel(file)
        return np.concatenate(list(file.blocks()))[:, 0], info.sample_rate


def _one_channel(file: AudioFile) -> AudioInfo:
    if file.channels != 1:
        raise AudioFileError(
            f"{file.label}: has {file.channels} channels where one is expected; split it into one file each.",
            "channels",
        )
    return AudioInfo(file.num_samples, file.sample_rate)


def _refuse_cut_off(descriptor: int, label: str) -> None:
    """Hold a WAV or AIFF header's word against the size of the file: libsndfile reads what is there, without a word."""
    byte_order = IFF_BYTE_ORDERS.get(os.pread(descriptor, 4, 0))
    if byte_order is None:
        return
    file_bytes, place = os.fstat(descriptor).st_size, 12
    for _ in range(IFF_MAX_CHUNKS):
        header = os.pread(descriptor, 8, place)
        if len(header) < 8:
            return
        name, promised = struct.unpack(f"{byte_order}4sI", header)
        held = file_bytes - place - 8
        if held < promised < IFF_UNKNOWN_BYTES:
            raise AudioFileError(
                f"{label}: holds {held} of the {promised} bytes its header promises; replace the file.", "truncated"
            )
        if name in IFF_AUDIO_CHUNKS:
            return
        # Chunks begin at even places.
        place += 8 + promised + promised % 2


def _sphere_sample_count(descriptor: int) -> int | None:
    """Length that a SPHERE header states; libsndfile goes by the file's size and so misses a cut-off download."""
    header = os.pread(descriptor, SPHERE_HEADER_BYTES, 0)
    if not header.startswith(SPHERE_MAGIC):
        return None
    found = re.search(rb"^sample_count -i (\d+)", header, re.MULTILINE)
    return int(found[1]) if found else None


def _reason(error: Exception) -> str:
    """libsndfile's own words, without the path that ours already start with."""
    text = getattr(error, "error_string", None) or str(error)
    return text.rstrip(".")
