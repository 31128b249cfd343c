"""Resampling of whole recordings and of streams."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

SAMPLE_RATES = (4000, 768000)
"""Lowest and highest accepted rate in Hz. Below, speech is not intelligible; above, no microphone records."""
ZERO_CROSSINGS = 6
"""Zero crossings of the low-pass filter's sinc on each side. This and ROLLOFF are torchaudio's defaults, which speed
perturbation in training uses too."""
ROLLOFF = 0.99
"""The filter's cutoff, as a fraction of the lower of the two Nyquist frequencies."""


class Resampler:
    """Resamples a waveform that comes in blocks.

    Band-limited interpolation by a sinc in a Hann window, as in `torchaudio.functional.resample`. Each output sample is
    computed independently, so that blocks do not change the result, and memory stays small for any pair of rates.

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
        # Output samples lie `phase / new` after an input sample, with `new` different phases.
        edge = min(self.old, self.new) * ROLLOFF / self.old
        self.reach = math.ceil(ZERO_CROSSINGS / edge)
        times = np.arange(-self.reach, self.reach + 2)[None, :] - np.arange(self.new)[:, None] / self.new
        crossings = np.clip(times * edge, -ZERO_CROSSINGS, ZERO_CROSSINGS)
        window = np.cos(crossings * (np.pi / (2 * ZERO_CROSSINGS))) ** 2
        self.filters = (np.sinc(crossings) * window * edge).astype(np.float32)

    def output_length(self, num_samples: int) -> int:
        """Number of output samples for `num_samples` input samples, rounded up."""
        return -(-num_samples * self.new // self.old)

    def __call__(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """Resample blocks (S,). Yields one block per input block, and one more at the end."""
        if self.old == self.new:
            yield from blocks
            return
        # The buffered input, from sample `first` on. Before the beginning and after the end, the input is zero.
        buffer, first = np.zeros(self.reach, dtype=np.float32), -self.reach
        received = done = 0
        for block in blocks:
            buffer = np.concatenate([buffer, block])
            received += len(block)
            # A filter reaches `reach` samples plus one to the right of its input sample.
            ready = self.output_length(max(0, received - self.reach - 1))
            yield self._filter(buffer, first, done, ready)
            done = ready
            unused = done * self.old // self.new - self.reach - first
            buffer, first = buffer[unused:], first + unused
        buffer = np.concatenate([buffer, np.zeros(self.reach + 1, dtype=np.float32)])
        yield self._filter(buffer, first, done, self.output_length(received))

    def _filter(self, buffer: Samples, first: int, start: int, stop: int) -> Samples:
        """Compute output samples `start` to `stop`."""
        if start == stop:
            return np.zeros(0, dtype=np.float32)
        places = np.arange(start, stop) * self.old
        windows = np.lib.stride_tricks.sliding_window_view(buffer, self.filters.shape[1])
        reached = windows[places // self.new - self.reach - first]
        result: Samples = np.einsum("nt,nt->n", reached, self.filters[places % self.new])
        return result
