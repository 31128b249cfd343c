"""Streaming: the frames that layers of a causal network keep between chunks.

A chunk takes the same forward pass as a whole utterance. Only layers that look back in time use the :class:`Stream`;
all others pass it on.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from biglittle_asr.nnet.lengths import output_length

StreamState = tuple[Tensor, ...]
"""Past frames that a network keeps, batch first in every tensor: `tuple(t[rows] for t in state)` selects streams."""


class Stream:
    """One step of streaming: gives each layer the frames it kept at the last step, and collects those for the next.

    Layers are identified by their order, which is the same in every forward pass.

    Arguments
    ---------
    state : tuple of Tensor, optional
        The `state` after the last step; None at the start.

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
        """Frames that the layers kept in this step."""
        return tuple(self._keeping)

    def windows(self, x: Tensor, kernel: int, stride: int, left_frames: int) -> Tensor:
        """The frames, old and new, of all windows that end within `x` (B, C, T, F); no frames if there are none.

        A window of `kernel` frames, `left_frames` and a last one, ends at every `stride`-th frame from the first on.

        Raises
        ------
        ValueError
            If a window also has frames on the right.
        """
        if left_frames != kernel - 1:
            raise ValueError('a network that sees the future cannot stream: build it with time_padding "causal"')
        reach = max(kernel, stride)
        if reach == 1:
            return x
        # Kept frames begin reach - 1 frames before the last frame of the next window. That frame is up to stride - 1
        # frames ahead, so the number of kept frames encodes the phase of the stride.
        x = self.prepend(x, reach - 1)
        complete = output_length(x.shape[2] - (reach - 1), stride)
        self.keep(x[:, :, complete * stride :])
        return x[:, :, reach - kernel :] if complete else x[:, :, :0]

    def prepend(self, x: Tensor, zeros: int = 0) -> Tensor:
        """Prepend the kept frames to `x` (B, C, T, F); at the start, prepend `zeros` frames of zeros."""
        if self._kept is None:
            kept = x.new_zeros(x.shape[0], x.shape[1], zeros, x.shape[3])
        else:
            kept = next(self._kept).to(x.dtype)
        return torch.cat([kept, x], 2)

    def keep(self, x: Tensor) -> None:
        """Keep these frames for the next step."""
        # A copy, since a view would keep the whole chunk in memory; channels last, in which convolutions are fastest.
        self._keeping.append(x.clone(memory_format=torch.channels_last))
