"""Audio as a model wants it: one channel, at its sample rate, block by block, so that length costs no memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from biglittle_asr.audio.files import WHOLE, AudioFile, Segment
from biglittle_asr.audio.resample import SAMPLE_RATES, Resampler, Samples
from biglittle_asr.shards import ShardMember

BLOCK_SECONDS = 4.0
BLOCK_VALUES = 2**22
"""Samples of all channels of a block, at most: a header may claim a thousand channels."""
CANCELLED = 1e-4
"""Energy of the mean of all channels relative to theirs, up to which they cancel out: -40 dB. One channel is the other
turned upside down then, as a cable with swapped wires makes it; independent channels lose 3 dB."""


@dataclass(frozen=True)
class Recording:
    """An audio file to be transcribed, or a part of one, whatever its sample rate and its number of channels.

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
    """What results are called by."""
    path: Path | ShardMember
    channel: int | None = None
    """The channel to read, from 1; None for the mean of all."""
    label: str | None = None
    """What error messages call it; its path if not given."""
    start: float = 0.0
    """Seconds of the file to pass over."""
    length: float | None = None
    """Seconds to read; None: to the end."""

    @classmethod
    def of_segment(cls, name: str, wav: str, segment: Segment) -> Recording:
        """A recording that is a segment of a file, or of one in a shard, as a manifest names it."""
        path = ShardMember.parse(wav) or Path(wav)
        return cls(name, path, segment.channel, start=segment.start, length=segment.duration)

    def duration(self) -> float:
        """Seconds, from the header.

        Raises
        ------
        OSError, ValueError
            If the header is not that of audio that can be transcribed.
        """
        with self._open() as file:
            _, count = self._place(file)
            return (file.num_samples if count is None else count) / file.sample_rate

    def read(self, sample_rate: int) -> Samples:
        """All samples, see :meth:`blocks`."""
        return np.concatenate(list(self.blocks(sample_rate)))

    def blocks(self, sample_rate: int, block_seconds: float = BLOCK_SECONDS) -> Iterator[Samples]:
        """Samples (S,) block by block, resampled to `sample_rate`; they do not depend on how long the blocks are.

        Arguments
        ---------
        sample_rate : int
            Hz.
        block_seconds : float
            What is read at once: how long one waits for a block where audio comes as it is spoken.

        Raises
        ------
        OSError, ValueError
            If the file cannot be read to its end, or holds nothing but zeros: a muted microphone, a wrong channel,
            channels that cancel each other out.
        """
        with self._open() as file:
            size = max(1, min(round(block_seconds * file.sample_rate), BLOCK_VALUES // file.channels))
            yield from Resampler(file.sample_rate, sample_rate)(self._one_channel(file, size))

    def _place(self, file: AudioFile) -> tuple[int, int | None]:
        """First sample and number of samples; None for all, since a pipe does not know them."""
        segment = Segment(None, self.start, self.length)
        return (0, None) if segment == WHOLE else file.place(segment)

    def _open(self) -> AudioFile:
        file = AudioFile(str(self.path), self.label)
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
        # Energies of the channels, and of what is taken of them.
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
                    "--channel 1."
                )
            place = "" if self.channel is None else f" in channel {self.channel}"
            raise ValueError(f"{file.label}: holds nothing but zeros{place}; check the recording.")
