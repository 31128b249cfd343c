"""Reading audio files: every reader of audio in this package goes through here.

soundfile reads WAV, FLAC, AIFF, OGG, MP3 and NIST SPHERE (either byte order) in place, by what is in a file, whatever
it is called. What it cannot read, or reads only in part without saying so, becomes one sentence that names the file.
Of a long recording an utterance is a :class:`Segment`: only that is read.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile

from biglittle_asr.corpora import sphere
from biglittle_asr.corpora.shards import ShardMember

AUDIO_SUFFIXES = frozenset(
    ".aif .aifc .aiff .au .caf .flac .mp3 .nist .oga .ogg .opus .rf64 .snd .sph .w64 .wav .wave .wv1 .wv2".split()
)
"""Names of audio in a folder, upper or lower case; a file that is named itself may be called anything."""
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


class Segment(NamedTuple):
    """What of an audio file is meant; all of it, if nothing else is said."""

    channel: int | None = None
    """From 1; None where the file has one channel."""
    start: float = 0.0
    """Seconds from the beginning."""
    duration: float | None = None
    """Seconds; None: to the end."""


WHOLE = Segment()


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
        A file in any format soundfile knows (WAV, FLAC, NIST SPHERE, ...), or SPHERE compressed by Shorten, which is
        decoded as a whole; or a pipe, in formats that need no way back (WAV, not FLAC). A file in a shard is named by
        the text of a :class:`~biglittle_asr.corpora.shards.ShardMember`.
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
    AudioFileError, ShardError
        If the file is unreadable, empty, or shorter than its own header says, or its shard is; a ValueError.

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
        member = ShardMember.parse(path)
        self.label = label if label is not None else str(path)
        if member is None:
            self._open(Path(path))
            return
        # libsndfile, and what decodes Shorten, read files. This one has no name any more once it is open.
        with tempfile.NamedTemporaryFile() as copy:
            copy.write(member.read())
            copy.flush()
            self._open(Path(copy.name))

    def _open(self, path: Path) -> None:
        is_pipe = path.exists() and not path.is_file() and not path.is_dir()
        if not path.is_file() and not is_pipe:
            kind = "a folder, not an audio file" if path.is_dir() else "no such audio file"
            raise FileNotFoundError(f"{self.label}: {kind}; check the path.")
        # By descriptor, for libsndfile trusts some names, such as *.raw, more than the content. It reads from where the
        # descriptor stands, so nothing may buffer.
        try:
            self._file: BinaryIO = path.open("rb", buffering=0)
        except OSError as error:
            raise OSError(f"{self.label}: cannot be opened ({error.strerror}); check its permissions.") from error
        self._is_pipe = is_pipe
        try:
            header = None if is_pipe else sphere.read_header(self._file.fileno())
            if header is not None and sphere.is_compressed(header):
                self._replace(path)
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
            # libsndfile goes by the file's size, and so misses a cut-off download.
            promised = (header or {}).get("sample_count", "")
            if promised.isdecimal() and self.num_samples < int(promised):
                raise self._cut_off(self.num_samples, int(promised))
        except BaseException:
            self.close()
            raise

    def _replace(self, path: Path) -> None:
        """Go on with what a compressed file is decoded to."""
        try:
            decoded = sphere.decompress(path)
        except ValueError as error:
            raise AudioFileError(f"{self.label}: {error}") from error
        self._file.close()
        self._file = decoded

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate

    def place(self, segment: Segment) -> tuple[int, int]:
        """First sample and number of samples of a segment.

        Raises
        ------
        AudioFileError
            If it is not within the file, or empty; a ValueError.
        """
        first = round(segment.start * self.sample_rate)
        count = self.num_samples - first if segment.duration is None else round(segment.duration * self.sample_rate)
        if first < 0 or count < 1 or first + count > self.num_samples:
            stop = self.duration if segment.duration is None else segment.start + segment.duration
            raise AudioFileError(
                f"{self.label}: lasts {self.duration:.2f} s and has no segment from {segment.start:.2f} to {stop:.2f} "
                "s; correct the times.",
                "times",
            )
        return first, count

    def read(self, segment: Segment = WHOLE) -> npt.NDArray[np.float32]:
        """Samples (S,) of a segment, float32, full scale 1.

        Raises
        ------
        AudioFileError
            If it is not within the file, or its channel is not there, or not said of a file that has several; and as
            :meth:`blocks`; a ValueError.
        """
        column = (_one_channel(self) if segment.channel is None else segment.channel) - 1
        if not 0 <= column < self.channels:
            raise AudioFileError(
                f"{self.label}: has no channel {segment.channel}, but {self.channels} in all; correct the channel.",
                "channels",
            )
        first, count = self.place(segment)
        return np.concatenate([block[:, column] for block in self.blocks(first=first, count=count)])

    def blocks(
        self, size: int = BLOCK_SAMPLES, first: int = 0, count: int | None = None
    ) -> Iterator[npt.NDArray[np.float32]]:
        """Read samples; a pipe's only once, and from the beginning.

        Arguments
        ---------
        size : int
            Samples of a block; the last may have fewer.
        first : int
            The first sample.
        count : int, optional
            How many; up to the end if not given.

        Yields
        ------
        numpy.ndarray
            Shape (samples, channels), float32, full scale 1.

        Raises
        ------
        AudioFileError
            If the file breaks off, or holds samples that are not finite numbers; a ValueError.
        """
        place, stop = first, self.num_samples if count is None else first + count
        for block in self._read(size, first, count):
            finite = np.isfinite(block).all(axis=1)
            if not finite.all():
                seconds = (place + int(np.argmin(finite))) / self.sample_rate
                raise AudioFileError(
                    f"{self.label}: a sample at {seconds:.2f} s is not a finite number; replace the file.", "not_finite"
                )
            place += len(block)
            yield block
        if place < stop:
            raise self._cut_off(place, self.num_samples)

    def _read(self, size: int, first: int = 0, count: int | None = None) -> Iterator[npt.NDArray[np.float32]]:
        left = count
        try:
            if not self._is_pipe and self._sound.tell() != first:
                self._sound.seek(first)
            while left is None or left > 0:
                wanted = size if left is None else min(size, left)
                block = self._sound.read(wanted, dtype="float32", always_2d=True)
                if len(block):
                    yield block
                if len(block) < wanted:
                    return
                left = None if left is None else left - len(block)
        except soundfile.SoundFileError as error:
            raise AudioFileError(f"{self.label}: broken audio ({_reason(error)}); replace the file.") from error

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
        A file in any format soundfile knows (WAV, FLAC, NIST SPHERE, ...), or the text of a
        :class:`~biglittle_asr.corpora.shards.ShardMember`.

    Returns
    -------
    AudioInfo
        Length in samples and sample rate in Hz.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    AudioFileError, ShardError
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
        _one_channel(file)
        return AudioInfo(file.num_samples, file.sample_rate)


def read_audio(path: str | PathLike[str], segment: Segment = WHOLE) -> tuple[npt.NDArray[np.float32], int]:
    """Read a one-channel audio file, or a segment of one channel of any.

    Arguments
    ---------
    path : path
        A file in any format soundfile knows (WAV, FLAC, NIST SPHERE, ...), or the text of a
        :class:`~biglittle_asr.corpora.shards.ShardMember`.
    segment : Segment
        What to read of it.

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
    AudioFileError, ShardError
        If the file is unreadable, empty, shorter than its own header says, has several channels and none is named, or
        has not that segment; a ValueError.

    Example
    -------
    >>> import numpy, soundfile
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, numpy.full(4, 0.5, dtype="float32"), 8000)
    >>> read_audio(path)
    (array([0.5, 0.5, 0.5, 0.5], dtype=float32), 8000)
    >>> read_audio(path, Segment(channel=1, start=2 / 8000, duration=1 / 8000))
    (array([0.5], dtype=float32), 8000)
    """
    with AudioFile(path) as file:
        return file.read(segment), file.sample_rate


def _one_channel(file: AudioFile) -> int:
    """The only channel of a file."""
    if file.channels != 1:
        raise AudioFileError(
            f"{file.label}: has {file.channels} channels where one is expected; split it into one file each.",
            "channels",
        )
    return 1


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


def _reason(error: Exception) -> str:
    """libsndfile's own words, without the path that ours already start with."""
    text = getattr(error, "error_string", None) or str(error)
    return text.rstrip(".")
