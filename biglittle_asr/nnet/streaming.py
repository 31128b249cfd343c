"""Streaming: what the layers of a causal network keep between one chunk of frames and the next.

The forward pass of a chunk is that of a whole utterance. Only the layers that look back in time treat a
:class:`Stream` differently; all others hand it on.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from biglittle_asr.nnet.lengths import output_length

StreamState = tuple[Tensor, ...]
"""What a network keeps of the past, batch first in every tensor: `tuple(t[rows] for t in state)` is those streams'."""


class Stream:
    """One step of streaming: gives each layer what it kept at the last step, and collects what it keeps for the next.

    Layers have no names here. A forward pass meets them in the same order at every step, and so they find their own.

    Arguments
    ---------
    state : tuple of Tensor, optional
        What the last step left in `state`; None at the start.

    Example
    -------
    >>> first = Stream()
    >>> first.windows(torch.ones(1, 1, 1, 1), kernel=3, stride=1, left_frames=2).flatten()
    tensor([0., 0., 1.])
    >>> Stream(first.state).windows(torch.full((1, 1, 2, 1), 2.0), 3, 1, 2).flatten()
    tensor([0., 1., 2., 2.])
    """

    def __init__(self, state: Sequence[Tensor] | None = None):
        self._kept = None if state is None else iter(state)
        self._keeping: list[Tensor] = []

    @property
    def state(self) -> StreamState:
        """What the layers kept in this step."""
        return tuple(self._keeping)

    def windows(self, x: Tensor, kernel: int, stride: int, left_frames: int) -> Tensor:
        """The frames, old and new, under the windows that end within `x` (B, C, T, F); no frames if none ends there.

        A window of `kernel` frames, `left_frames` and a last one, ends at every `stride`-th frame from the first on.

        Raises
        ------
        ValueError
            For a window that has frames on the right as well.
        """
        if left_frames != kernel - 1:
            raise ValueError('a network that sees the future cannot stream: build it with time_padding "causal"')
        reach = max(kernel, stride)
        if reach == 1:
            return x
        # What is kept begins reach - 1 frames before the one that will end the next window. That frame is up to
        # stride - 1 ahead, and so the number of frames kept tells the phase of the stride.
        x = self.prepend(x, reach - 1)
        complete = output_length(x.shape[2] - (reach - 1), stride)
        self.keep(x[:, :, complete * stride :])
        return x[:, :, reach - kernel :] if complete else x[:, :, :0]

    def prepend(self, x: Tensor, zeros: int = 0) -> Tensor:
        """`x` (B, C, T, F) behind what was kept; behind so many frames of zeros at the start."""
        if self._kept is None:
            kept = x.new_zeros(x.shape[0], x.shape[1], zeros, x.shape[3])
        else:
            kept = next(self._kept).to(x.dtype)
        return torch.cat([kept, x], 2)

    def keep(self, x: Tensor) -> None:
        """Keep these frames for the next step."""
        # A copy, since a view would hold all that it was cut from; channels last, as convolutions are fastest.
        self._keeping.append(x.clone(memory_format=torch.channels_last))
