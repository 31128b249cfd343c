"""Audio for a model: one channel at its sample rate, block by block, so that memory does not grow with length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from biglittle_asr.audio.files import WHOLE, AudioFile, Segment
from biglittle_asr.audio.resample import SAMPLE_RATES, Resampler, Samples
from biglittle_asr.shards import ShardMember

BLOCK_SECONDS = 4.0
BLOCK_VALUES = 2**22
"""Most samples per block, over all channels: a header may claim a thousand channels."""
CANCELLED = 1e-4
"""Channels cancel out if the energy of their mean is at most this part (-40 dB) of their own. One channel is then the
other inverted, as by a cable with swapped wires; the mean of independent channels loses only 3 dB."""

FULL_SCALE_INT16 = 32768
LARGEST_PEAK = 100.0
"""Largest float sample accepted. Full scale is 1; samples 40 dB above it are integers that were cast, not scaled."""


@dataclass(frozen=True)
class Recording:
    """An audio file to be transcribed, a part of one, or samples, whatever the sample rate and the number of channels.

    Example
    -------
    >>> import numpy, soundfile
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, numpy.ones((8000, 2)), 8000)
    >>> recording = Recording("a", path)
    >>> recording.duration(), len(recording.read(16000))
    (1.0, 16000)
    """

    name: str
    """Name in results."""
    path: Path | ShardMember | AudioSamples
    channel: int | None = None
    """The channel to read, from 1; None for the mean of all."""
    label: str | None = None
    """Name in error messages; its path if not given."""
    start: float = 0.0
    """Start within the file, in seconds."""
    length: float | None = None
    """Seconds to read; None for all up to the end."""

    @classmethod
    def of(
        cls, audio: AudioSource, sample_rate: int | None = None, channel: int | None = None, label: str = "samples"
    ) -> Recording:
        """Make a recording from a path, samples or another recording.

        Arguments
        ---------
        audio : path, numpy.ndarray, Tensor or Recording
            Arrays and tensors are samples as in :class:`AudioSamples`.
        sample_rate : int, optional
            Hz; required for samples, and not allowed otherwise.
        channel : int, optional
            Channel of a file, from 1; the mean of all channels if not given.
        label : str
            Name of samples.

        Raises
        ------
        TypeError
            If `audio` is of another type.
        ValueError
            If samples are given no sample rate or a file is given one; also as for :class:`AudioSamples`.
        """
        if isinstance(audio, np.ndarray | Tensor):
            if sample_rate is None:
                raise ValueError(f"{label}: need their rate in Hz; give sample_rate.")
            if channel is not None:
                raise ValueError(f"{label}: are of one channel; leave out channel.")
            return cls(label, AudioSamples(audio, sample_rate, label), label=label)
        if not isinstance(audio, str | PathLike | Recording):
            kind = type(audio).__name__
            raise TypeError(f"audio is a {kind}, but must be a path, a NumPy array, a tensor, or a list of these.")
        if sample_rate is not None:
            raise ValueError(f"{audio}: is no array of samples, so it has a rate of its own; leave out sample_rate.")
        if isinstance(audio, Recording):
            return audio if channel is None else replace(audio, channel=channel)
        path = Path(audio)
        if path.is_fifo():
            raise ValueError(f"{path}: is a pipe, which cannot be read twice; give a file.")
        return cls(path.stem, ShardMember.parse(audio) or path, channel)

    @classmethod
    def of_segment(cls, name: str, wav: str, segment: Segment) -> Recording:
        """Make a recording of a segment of a file or shard member, as a manifest names it."""
        path = ShardMember.parse(wav) or Path(wav)
        return cls(name, path, segment.channel, start=segment.start, length=segment.duration)

    def duration(self) -> float:
        """Duration in seconds, from the header.

        Raises
        ------
        OSError, ValueError
            If the file does not have the header of audio that can be transcribed.
        """
        with self._open() as file:
            _, count = self._place(file)
            return (file.num_samples if count is None else count) / file.sample_rate

    def read(self, sample_rate: int) -> Samples:
        """Read all samples; see :meth:`blocks`."""
        return np.concatenate(list(self.blocks(sample_rate)))

    def blocks(self, sample_rate: int, block_seconds: float = BLOCK_SECONDS) -> Iterator[Samples]:
        """Read samples (S,) block by block, resampled to `sample_rate`; block length does not change the samples.

        Arguments
        ---------
        sample_rate : int
            Hz.
        block_seconds : float
            Audio per read; live audio arrives with this delay.

        Raises
        ------
        OSError, ValueError
            If the file cannot be read to its end, holds only zeros (a muted microphone, a wrong channel), or its
            channels cancel each other out.
        """
        with self._open() as file:
            size = max(1, min(round(block_seconds * file.sample_rate), BLOCK_VALUES // file.channels))
            yield from Resampler(file.sample_rate, sample_rate)(self._one_channel(file, size))

    def _place(self, file: AudioFile) -> tuple[int, int | None]:
        """First sample and number of samples; None for all, since a pipe does not know its length."""
        segment = Segment(None, self.start, self.length)
        return (0, None) if segment == WHOLE else file.place(segment)

    def _open(self) -> AudioFile:
        file = self.path if isinstance(self.path, AudioSamples) else AudioFile(str(self.path), self.label)
        lowest, highest = SAMPLE_RATES
        problem = None
        if not lowest <= file.sample_rate <= highest:
            problem = f"sampled at {file.sample_rate} Hz; speech takes {lowest} to {highest} Hz; replace the file."
        elif self.channel is not None and not 1 <= self.channel <= file.channels:
            problem = f"has no channel {self.channel}, but {file.channels} in all; choose another."
        if problem is not None:
            file.close()
            raise ValueError(f"{file.label}: {problem}")
        return file

    def _one_channel(self, file: AudioFile, size: int) -> Iterator[Samples]:
        # Energies of the channels, and of the samples taken from them.
        channels, taken = 0.0, 0.0
        for block in file.blocks(size, *self._place(file)):
            if self.channel is not None:
                samples = block[:, self.channel - 1]
            else:
                samples = block[:, 0] if file.channels == 1 else block.mean(axis=1)
                if file.channels > 1:
                    channels += float(np.square(block, dtype=np.float64).mean(axis=1).sum())
            taken += float(np.dot(samples, samples))
            yield samples
        if taken <= channels * CANCELLED:
            if channels > 0:
                raise ValueError(
                    f"{file.label}: its channels cancel each other out when they are mixed; take one of them, with "
                    "--channel 1 (in Python channel=1)."
                )
            place = "" if self.channel is None else f" in channel {self.channel}"
            raise ValueError(f"{file.label}: holds nothing but zeros{place}; check the recording.")


class AudioSamples(AudioFile):
    """Samples of one channel in memory, as if they were the content of a file.

    Arguments
    ---------
    samples : numpy.ndarray or Tensor
        (S,), or (1, S) or (S, 1); floats with full scale 1, or 16-bit integers.
    sample_rate : int
        Hz.
    label : str
        Name in error messages.

    Raises
    ------
    ValueError
        If there are none, or they are ambiguous: several rows, which may be channels or utterances; integers of
        another size; floats far above full scale.

    Example
    -------
    >>> samples = AudioSamples(np.array([0, 16384, 0], dtype="int16"), 8000)
    >>> [block.tolist() for block in samples.blocks(2)]
    [[[0.0], [0.5]], [[0.0]]]
    """

    def __init__(self, samples: npt.NDArray[Any] | Tensor, sample_rate: int, label: str = "samples") -> None:
        if isinstance(samples, Tensor):
            samples = samples.detach().cpu()
            samples = (samples.float() if samples.is_floating_point() else samples).numpy()
        self.label, self.sample_rate, self.num_samples, self.channels = label, int(sample_rate), samples.size, 1
        if sample_rate != self.sample_rate:
            raise ValueError(f"{label}: sample_rate is {sample_rate}, but must be a whole number of Hz.")
        if not samples.size:
            raise ValueError(f"{label}: there are none; check what was read.")
        if max(samples.shape) != samples.size:
            raise ValueError(
                f"{label}: have the shape {samples.shape}, whose rows may be channels or utterances; give the mean of "
                "the channels (S,), or a list of utterances."
            )
        if samples.dtype != np.int16 and not np.issubdtype(samples.dtype, np.floating):
            raise ValueError(f"{label}: are of the type {samples.dtype}; give int16, or floats with full scale 1.")
        scale = FULL_SCALE_INT16 if samples.dtype == np.int16 else 1
        self._samples = (samples.astype(np.float32) / np.float32(scale)).reshape(-1, 1)
        peak = float(np.abs(self._samples).max())
        if peak > LARGEST_PEAK and np.isfinite(peak):
            raise ValueError(f"{label}: reach {peak:g}, but the full scale of floats is 1; divide by the integers'.")

    def __str__(self) -> str:
        return self.label

    def _read(self, size: int, first: int = 0, count: int | None = None) -> Iterator[npt.NDArray[np.float32]]:
        stop = self.num_samples if count is None else first + count
        for start in range(first, stop, size):
            yield self._samples[start : min(start + size, stop)]

    def _check_end(self) -> None:
        """Do nothing: nothing can follow."""

    def close(self) -> None:
        """Do nothing: memory is not closed."""


AudioSource: TypeAlias = str | PathLike[str] | npt.NDArray[Any] | Tensor | Recording
"""Types accepted as audio in Python."""
