"""Change of sampling rate, of whole recordings and of streams."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

SAMPLE_RATES = (4000, 768000)
"""Hz: what is taken. Below, no speech is left to recognize; above, no microphone records."""
ZERO_CROSSINGS = 6
"""Of the low-pass filter's sinc, on each side; this and the next are torchaudio's defaults, with which speeds are
perturbed in training."""
ROLLOFF = 0.99
"""The filter's edge, as a part of the lower of the two Nyquist frequencies."""


class Resampler:
    """Changes the sample rate of a waveform that comes in blocks.

    Band-limited interpolation by a sinc in a Hann window, as in `torchaudio.functional.resample`; but each sample of
    the result is computed by itself, so that the blocks change nothing, and memory stays small for any pair of rates.

    Arguments
    ---------
    old_rate, new_rate : int
        Hz.

    Example
    -------
    >>> import numpy
    >>> resample = Resampler(44100, 16000)
    >>> blocks = [numpy.zeros(500, dtype="float32")] * 3
    >>> sum(len(block) for block in resample(blocks)), resample.output_length(1500)
    (545, 545)
    """

    def __init__(self, old_rate: int, new_rate: int) -> None:
        common = math.gcd(old_rate, new_rate)
        self.old, self.new = old_rate // common, new_rate // common
        # Samples of the result lie at `phase / new` behind an input sample, with `new` different phases.
        edge = min(self.old, self.new) * ROLLOFF / self.old
        self.reach = math.ceil(ZERO_CROSSINGS / edge)
        times = np.arange(-self.reach, self.reach + 2)[None, :] - np.arange(self.new)[:, None] / self.new
        crossings = np.clip(times * edge, -ZERO_CROSSINGS, ZERO_CROSSINGS)
        window = np.cos(crossings * (np.pi / (2 * ZERO_CROSSINGS))) ** 2
        self.filters = (np.sinc(crossings) * window * edge).astype(np.float32)

    def output_length(self, num_samples: int) -> int:
        """Samples that `num_samples` become, rounded up."""
        return -(-num_samples * self.new // self.old)

    def __call__(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """Resample blocks (S,) into as many, of other lengths, and one more."""
        if self.old == self.new:
            yield from blocks
            return
        # What is there of the input, from sample `first` on; before the beginning and behind the end it is zero.
        buffer, first = np.zeros(self.reach, dtype=np.float32), -self.reach
        received = done = 0
        for block in blocks:
            buffer = np.concatenate([buffer, block])
            received += len(block)
            # Filters reach so far to the right of the input sample they stand at, and one more.
            ready = self.output_length(max(0, received - self.reach - 1))
            yield self._filter(buffer, first, done, ready)
            done = ready
            unused = done * self.old // self.new - self.reach - first
            buffer, first = buffer[unused:], first + unused
        buffer = np.concatenate([buffer, np.zeros(self.reach + 1, dtype=np.float32)])
        yield self._filter(buffer, first, done, self.output_length(received))

    def _filter(self, buffer: Samples, first: int, start: int, stop: int) -> Samples:
        """Samples `start` to `stop` of the result."""
        if start == stop:
            return np.zeros(0, dtype=np.float32)
        places = np.arange(start, stop) * self.old
        windows = np.lib.stride_tricks.sliding_window_view(buffer, self.filters.shape[1])
        reached = windows[places // self.new - self.reach - first]
        result: Samples = np.einsum("nt,nt->n", reached, self.filters[places % self.new])
        return result
