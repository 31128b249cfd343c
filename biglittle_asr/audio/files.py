"""Reads audio files. All audio in this package is read here.

soundfile reads WAV, FLAC, AIFF, OGG, MP3 and NIST SPHERE (either byte order) in place. It goes by a file's content, not
its name. :mod:`~biglittle_asr.audio.containers` finds files that soundfile would silently read only in part. Other
formats, such as MPEG-4, are decoded by ffmpeg if it is installed. A file is read completely, or an error names it and
says why not. An utterance in a long recording is a :class:`Segment`; only that segment is read.
"""

from __future__ import annotations

import errno
import math
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile

from biglittle_asr.audio import ffmpeg, sphere
from biglittle_asr.audio.containers import (
    OTHER_MAGIC_BYTES,
    DamageError,
    FileBytes,
    StreamBytes,
    View,
    examine,
    has_another_flac,
    recognize,
    stream_part,
)
from biglittle_asr.files import LFS_POINTER, refuse_pointer
from biglittle_asr.shards import ShardMember

AUDIO_SUFFIXES = frozenset(
    ".aac .aif .aifc .aiff .amr .au .caf .flac .m4a .m4b .mka .mp2 .mp3 .mp4 .nist .oga .ogg .opus .rf64 .snd .sph "
    ".w64 .wav .wave .webm .wma .wv1 .wv2".split()
)
"""Extensions of audio files in a folder, in upper or lower case. A single file may have any extension."""
STANDARD_INPUT = Path("/dev/stdin")
"""Read by its descriptor, as it may be a socket, which cannot be opened by name."""
UNKNOWN_SAMPLES = 2**60
"""libsndfile returns larger lengths if a length is unknown."""
BLOCK_SAMPLES = 65536
MPEG_CODECS = ("MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III")
SEEKABLE_CODECS = (
    *("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"),
    *MPEG_CODECS,
)
"""Codecs in which libsndfile seeks exactly. It cannot seek in GSM, and in Vorbis it is off by up to 800 samples. Such
files are decoded from the beginning up to the requested sample."""
FLAC_BUFFER = 65536
"""Largest number of bytes that the decoder reads ahead."""
MPEG_RUN_UP = 40 * 1152
"""Samples to decode before the requested ones: an MP3 frame has some of its bits in up to 511 bytes of earlier frames,
which can be as small as 24 bytes."""


class AudioFileError(ValueError):
    """An audio file cannot be used.

    Arguments
    ---------
    message : str
        One sentence that begins with the file.
    fault : str
        A key of `biglittle_asr.corpora.checks.FAULTS`.
    """

    def __init__(self, message: str, fault: str = "unreadable") -> None:
        super().__init__(message)
        self.fault = fault


class Segment(NamedTuple):
    """A part of an audio file; by default all of it."""

    channel: int | None = None
    """Number of the channel, from 1; None for the only channel of a file."""
    start: float = 0.0
    """Start in seconds."""
    duration: float | None = None
    """Duration in seconds; None for everything up to the end."""


WHOLE = Segment()


class _Sound(soundfile.SoundFile):
    """soundfile's reader without its seek after every read, which some formats cannot do, and which breaks MP3."""

    def seekable(self) -> bool:
        """Return False, so that soundfile does not seek on its own."""
        return False


class AudioFile:
    """An open audio file, read block by block; a context manager.

    Arguments
    ---------
    path : path
        One of these:
        a file in any format that soundfile knows (WAV, FLAC, NIST SPHERE, ...);
        a file that is first decoded completely: SPHERE compressed by Shorten, formats of ffmpeg, chained Ogg, FLAC of
        unknown length;
        a pipe, in formats that can be read without seeking (WAV, FLAC, but not MP3);
        :data:`STANDARD_INPUT`, which may be a socket;
        a file in a shard, given by the text of a :class:`~biglittle_asr.shards.ShardMember`.
    label : str
        Name in error messages; the path by default.

    Attributes
    ----------
    num_samples : int
        Length in samples per channel; 0 for a pipe, whose length is unknown.
    sample_rate : int
        Hz.
    channels : int

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OSError
        If there is no permission to read it.
    AudioFileError, ShardError
        A ValueError, if the file or its shard is unreadable, empty, or shorter than its header says, or if ffmpeg is
        needed but not installed.

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
        # libsndfile and the decoders of Shorten read files. This one loses its name once it is open.
        with tempfile.NamedTemporaryFile() as copy:
            copy.write(member.read())
            copy.flush()
            self._open(Path(copy.name))

    def _open(self, path: Path) -> None:
        self._file = self._open_bytes(path)
        self._view: View | None = None
        self._path = path.resolve() if path == STANDARD_INPUT else path
        self.num_samples = 0
        try:
            self._is_pipe = not stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
            if self._is_pipe:
                self._open_pipe()
            else:
                self._open_file()
        except DamageError as error:
            self.close()
            raise AudioFileError(f"{self.label}: {error}", error.fault) from error
        except BaseException:
            self.close()
            raise

    def _open_bytes(self, path: Path) -> BinaryIO:
        # Open by descriptor, as libsndfile trusts some names, such as *.raw, more than the content. It reads from the
        # descriptor's position, so the file must not be buffered.
        try:
            if path == STANDARD_INPUT:
                # If standard input was closed at the start, its number may belong to another file by now.
                if sys.__stdin__ is None:
                    raise OSError(errno.EBADF, "it is closed")
                return os.fdopen(os.dup(0), "rb", buffering=0)
            return path.open("rb", buffering=0)
        # A path with a NUL character raises ValueError.
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            raise FileNotFoundError(f"{self.label}: no such audio file; check the path.") from error
        except IsADirectoryError as error:
            raise FileNotFoundError(f"{self.label}: a folder, not an audio file; check the path.") from error
        except OSError as error:
            advice = "pipe audio into it" if path == STANDARD_INPUT else "check its permissions"
            raise OSError(f"{self.label}: cannot be opened ({error.strerror}); {advice}.") from error

    def _open_pipe(self) -> None:
        stream = StreamBytes(self._file.fileno())
        self._sound = self._open_sound(View(stream, stream_part(stream)), "pipe it as WAV, or give a file")
        self.sample_rate: int = self._sound.samplerate
        self.channels: int = self._sound.channels

    def _open_file(self) -> None:
        magic = os.pread(self._file.fileno(), max(OTHER_MAGIC_BYTES, len(LFS_POINTER)), 0)
        if magic.startswith(LFS_POINTER):
            try:
                refuse_pointer(magic)
            except ValueError as error:
                raise AudioFileError(f"{self.label}: {error}") from None
        header = sphere.read_header(self._file.fileno()) if magic.startswith(sphere.MAGIC) else None
        other = recognize(magic)
        if header is not None and sphere.is_compressed(header):
            self._replace(self._decode(sphere.decompress))
        elif other is not None and other.needed:
            self._replace(self._decode(lambda path: ffmpeg.decode(path, other)))
        try:
            self._open_parts()
        except AudioFileError:
            if other is None or other.needed or not ffmpeg.is_installed():
                raise
            self._replace(self._decode(lambda path: ffmpeg.decode(path, other)))
            self._open_parts()
        # libsndfile goes by the file's size, and so does not notice an incomplete download.
        promised = (header or {}).get("sample_count", "")
        if promised.isdecimal() and self.num_samples < int(promised):
            raise self._cut_off(self.num_samples, int(promised))

    def _open_parts(self) -> None:
        content = FileBytes(self._file.fileno())
        parts = examine(content)
        self._sound = self._open_sound(View(content, parts[0]) if len(parts) == 1 else None, "replace the file")
        self.sample_rate, self.channels = self._sound.samplerate, self._sound.channels
        if len(parts) > 1 or self._sound.frames >= UNKNOWN_SAMPLES:
            self._unroll([View(content, part) for part in parts])
        self.num_samples = self._sound.frames
        if self.num_samples < 1:
            raise AudioFileError(f"{self.label}: holds no samples; replace the file or leave it out.", "empty")

    def _open_sound(self, view: View | None, advice: str) -> _Sound:
        """Open a view, or the file itself, with libsndfile."""
        self._view, self._place = view, 0
        try:
            if view is not None:
                return _Sound(view)
            os.lseek(self._file.fileno(), 0, os.SEEK_SET)
            return _Sound(self._file.fileno(), closefd=False)
        except (soundfile.SoundFileError, TypeError) as error:
            if view is not None and view.problem is not None:
                raise view.problem from None
            raise AudioFileError(f"{self.label}: not readable as audio ({_reason(error)}); {advice}.") from error

    def _decode(self, decoder: Callable[[Path], BinaryIO]) -> BinaryIO:
        """Decode the file with another program."""
        try:
            return decoder(self._path)
        except ValueError as error:
            raise AudioFileError(f"{self.label}: {error}") from error

    def _replace(self, decoded: BinaryIO) -> None:
        """Replace the open file by its decoded copy."""
        self._file.close()
        self._file = decoded

    def _unroll(self, views: Sequence[View] = ()) -> None:
        """Decode the recordings of a file, in sequence, into one temporary file that can seek to any sample."""
        decoded = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (closed with this object)
        try:
            with soundfile.SoundFile(
                decoded.fileno(), "w", self.sample_rate, self.channels, "FLOAT", format="W64", closefd=False
            ) as copy:
                for view in views or (None,):
                    self._sound.close()
                    self._sound = self._open_sound(view, "replace the file")
                    found = (self._sound.samplerate, self._sound.channels)
                    if found != (self.sample_rate, self.channels):
                        raise AudioFileError(
                            f"{self.label}: joins recordings of {self.sample_rate} and {found[0]} Hz, with "
                            f"{self.channels} and {found[1]} channels; split it into one file each."
                        )
                    held = 0
                    for block in self._read(BLOCK_SAMPLES):
                        copy.write(block)
                        held += len(block)
                    if held < self._sound.frames < UNKNOWN_SAMPLES:
                        raise self._cut_off(held, self._sound.frames)
            self._sound.close()
            self._replace(decoded)
            self._sound = self._open_sound(None, "replace the file")
        except soundfile.SoundFileError as error:
            decoded.close()
            place = tempfile.gettempdir()
            reason = _reason(error)
            raise OSError(f"{self.label}: cannot be decoded into {place} ({reason}); make room.") from error
        except BaseException:
            decoded.close()
            raise
        self.num_samples = self._sound.frames

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate

    def place(self, segment: Segment) -> tuple[int, int]:
        """Convert a segment to its first sample and its number of samples.

        Raises
        ------
        AudioFileError
            A ValueError, if the segment is not within the file, or empty.
        """
        stop = self.duration if segment.duration is None else segment.start + segment.duration
        first = count = -1
        if math.isfinite(segment.start) and math.isfinite(stop):
            first = round(segment.start * self.sample_rate)
            count = self.num_samples - first if segment.duration is None else round(segment.duration * self.sample_rate)
        if first < 0 or count < 1 or first + count > self.num_samples:
            raise AudioFileError(
                f"{self.label}: lasts {self.duration:.2f} s and has no segment from {segment.start:.2f} to {stop:.2f} "
                "s; correct the times.",
                "times",
            )
        return first, count

    def read(self, segment: Segment = WHOLE) -> npt.NDArray[np.float32]:
        """Read the samples (S,) of a segment, float32, full scale 1.

        Raises
        ------
        AudioFileError
            A ValueError, if the segment is not within the file, its channel does not exist, or no channel is given for
            a file with several; also in the cases of :meth:`blocks`.
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
        """Read samples in blocks. A pipe can be read only once, from the beginning.

        Arguments
        ---------
        size : int
            Number of samples per block; the last block may have fewer.
        first : int
            The first sample.
        count : int, optional
            Number of samples; up to the end by default.

        Yields
        ------
        numpy.ndarray
            Shape (samples, channels), float32, full scale 1.

        Raises
        ------
        AudioFileError
            A ValueError, if the file is truncated, or has samples that are not finite numbers.
        """
        place, stop = first, self.num_samples if count is None else first + count
        for block in self._read(size, first, count):
            finite = np.isfinite(block).all(axis=1)
            if not finite.all():
                seconds = (place + int(np.argmin(finite))) / self.sample_rate
                raise AudioFileError(
                    f"{self.label}: a sample at {seconds:.2f} s is not a finite number; replace the recording.",
                    "not_finite",
                )
            place += len(block)
            yield block
        if place < stop:
            raise self._cut_off(place, self.num_samples)
        if first == 0 and place == self.num_samples:
            self._check_end()

    def _check_end(self) -> None:
        """Check that no other FLAC file follows, as libsndfile reads only the first of several joined files."""
        if self._is_pipe or self._sound.format != "FLAC":
            return
        content = FileBytes(self._file.fileno())
        place = os.lseek(self._file.fileno(), 0, os.SEEK_CUR)
        if has_another_flac(content, max(4, place - FLAC_BUFFER)):
            raise AudioFileError(
                f"{self.label}: is several FLAC files in one, of which only the first can be read; split it, or join "
                "them by a program that knows FLAC, such as sox."
            )

    def _read(self, size: int, first: int = 0, count: int | None = None) -> Iterator[npt.NDArray[np.float32]]:
        left = count
        if left is None and 0 < self.num_samples < UNKNOWN_SAMPLES:
            left = self.num_samples - first
        try:
            self._go_to(first)
            while left is None or left > 0:
                wanted = size if left is None else min(size, left)
                block = self._sound.read(wanted, dtype="float32", always_2d=True)
                if self._view is not None and self._view.problem is not None:
                    raise self._view.problem
                self._place += len(block)
                if len(block):
                    yield block
                if len(block) < wanted:
                    return
                left = None if left is None else left - len(block)
        except soundfile.SoundFileError as error:
            raise AudioFileError(f"{self.label}: broken audio ({_reason(error)}); replace the file.") from error

    def _go_to(self, first: int) -> None:
        """Move to a sample, so that it is read exactly as in sequence."""
        if self._is_pipe or self._place == first:
            return
        codec = self._sound.subtype
        if codec in SEEKABLE_CODECS:
            run_up = min(first, MPEG_RUN_UP if codec in MPEG_CODECS else 0)
            self._sound.seek(first - run_up)
            self._place = first - run_up
        elif first < self._place:
            self._sound.close()
            view = None if self._view is None else View(self._view.file, self._view.part)
            self._sound = self._open_sound(view, "replace the file")
        while self._place < first:
            passed = len(self._sound.read(min(BLOCK_SAMPLES, first - self._place), dtype="float32"))
            if passed == 0:
                raise self._cut_off(self._place, self.num_samples)
            self._place += passed

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


def read_audio(path: str | PathLike[str], segment: Segment = WHOLE) -> tuple[npt.NDArray[np.float32], int]:
    """Read a one-channel audio file, or a segment of one channel of any audio file.

    Arguments
    ---------
    path : path
        A file in any format that :class:`AudioFile` reads, or the text of a
        :class:`~biglittle_asr.shards.ShardMember`.
    segment : Segment
        The part to read.

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
        A ValueError, if the file is unreadable, empty, or shorter than its header says, has several channels and none
        is given, or does not contain the segment.

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
    """Return the number of the only channel; raises AudioFileError if there are several."""
    if file.channels != 1:
        raise AudioFileError(
            f"{file.label}: has {file.channels} channels where one is expected; split it into one file each.",
            "channels",
        )
    return 1


def _reason(error: Exception) -> str:
    """libsndfile's message without the path, which our messages already begin with."""
    text = getattr(error, "error_string", None) or str(error)
    return text.rstrip(".")
