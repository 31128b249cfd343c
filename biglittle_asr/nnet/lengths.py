"""Time arithmetic: integer lengths, strides, receptive fields, and the mask of valid frames.

No other module computes with lengths.

Lengths are integers everywhere in this package. SpeechBrain's relative lengths occur only at the interface to it, where
:func:`frames_to_relative` and :func:`relative_to_frames` convert them.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

IntOrTensor = TypeVar("IntOrTensor", int, Tensor)


def output_length(length: IntOrTensor, stride: int) -> IntOrTensor:
    """Number of frames after a time stride: ceil(length / stride).

    Every strided module of this package follows this rule, so strides compose: ceil(ceil(n / a) / b) = ceil(n / ab).

    Arguments
    ---------
    length : int or Tensor of int64
        Number of input frames.
    stride : int
        Total time stride, at least 1.

    Example
    -------
    >>> output_length(101, 4)
    26
    >>> output_length(torch.tensor([1, 4, 5]), 4)
    tensor([1, 1, 2])
    """
    return (length + (stride - 1)) // stride


def valid_mask(lengths: Tensor, size: int) -> Tensor:
    """Make a boolean mask (B, size), True on the valid frames of each utterance.

    Arguments
    ---------
    lengths : Tensor of int64, (B,)
        Number of valid frames.
    size : int
        Number of frames of the padded batch.

    Example
    -------
    >>> valid_mask(torch.tensor([1, 3]), 3).int()
    tensor([[1, 0, 0],
            [1, 1, 1]], dtype=torch.int32)
    """
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def relative_to_frames(relative: Tensor, size: int) -> Tensor:
    """Convert SpeechBrain's relative lengths in (0, 1] to integer lengths (B,), rounded and at least 1.

    Arguments
    ---------
    relative : Tensor of float, (B,)
        Valid frames of each utterance as a fraction of `size`.
    size : int
        Number of frames of the padded batch.

    Raises
    ------
    ValueError
        If a relative length is above 1, not above 0, or NaN; values above 1 are most likely frame counts.

    Example
    -------
    >>> relative_to_frames(torch.tensor([1.0, 0.5]), 10)
    tensor([10,  5])
    """
    checked = relative.numel() and not torch.compiler.is_exporting()
    if checked and not bool(((relative > 0) & (relative <= 1 + 1e-4)).all()):
        raise ValueError(
            f"relative lengths must lie in (0, 1], got {relative.min().item():g} to {relative.max().item():g}: "
            "divide the number of valid frames by the number of frames of the padded batch"
        )
    return (relative * size).round().long().clamp(1, size)


def frames_to_relative(frames: Tensor, size: int) -> Tensor:
    """Convert integer lengths to SpeechBrain's relative lengths (B,), float32.

    Example
    -------
    >>> frames_to_relative(torch.tensor([10, 5]), 10)
    tensor([1.0000, 0.5000])
    """
    return frames.to(torch.float32) / size


@dataclass(frozen=True)
class ReceptiveField:
    """The frames of the network's input on which each frame of a tensor can depend.

    The method `receptive_field(before)` of a module maps the field of its input to that of its output. The field is
    exact: after strides and upsampling, odd frames see farther to one side than even ones.

    Example
    -------
    >>> field = ReceptiveField().windowed(kernel=3, stride=2, left=1)
    >>> field
    ReceptiveField(stride=2, spans=((-1, 1),))
    >>> field.upsampled(2)
    ReceptiveField(stride=1, spans=((-1, 1), (-1, 1)))
    >>> field.upsampled(2).left, field.upsampled(2).right, field.upsampled(2).alignment
    (2, 1, 2)
    """

    stride: int = 1
    """Number of input frames from one frame to the next."""
    spans: tuple[tuple[int, int], ...] = ((0, 0),)
    """First and last input frames that frames 0, 1, ... see; later frames repeat these, shifted by `alignment`."""

    @property
    def alignment(self) -> int:
        """Number of input frames after which the spans repeat; this shifts every tensor before by whole frames."""
        return self.stride * len(self.spans)

    @property
    def left(self) -> int:
        """Largest number of input frames that a frame t sees before frame `stride * t`."""
        return max(self.stride * t - first for t, (first, _) in enumerate(self.spans))

    @property
    def right(self) -> int:
        """Largest number of input frames that a frame t sees after frame `stride * t`."""
        return max(last - self.stride * t for t, (_, last) in enumerate(self.spans))

    def windowed(self, kernel: int, stride: int, left: int) -> ReceptiveField:
        """The field after a layer whose frame t reads `kernel` frames, `left` of them before frame `stride * t`."""
        step = self.stride * stride
        count = math.lcm(self.alignment, step) // step
        starts = [stride * t - left for t in range(count)]
        return ReceptiveField(step, tuple(self._seen_by(range(start, start + kernel)) for start in starts))

    def upsampled(self, factor: int, mode: str = "nearest") -> ReceptiveField:
        """The field after :func:`upsample`: frame t is frame t // `factor`, or interpolates it and a neighbor."""
        times = range(factor * len(self.spans))
        if mode == "nearest" or factor == 1:
            read = [(t // factor,) * 2 for t in times]
        else:
            read = [((2 * t + 1 - factor) // (2 * factor), (2 * t + 1 + factor) // (2 * factor)) for t in times]
        return ReceptiveField(self.stride // factor, tuple(map(self._seen_by, read)))

    def merged(self, other: ReceptiveField) -> ReceptiveField:
        """The field of the sum or concatenation of two tensors of the same stride."""
        spans = []
        for t in range(math.lcm(self.alignment, other.alignment) // self.stride):
            firsts, lasts = zip(self._seen_by([t]), other._seen_by([t]), strict=True)
            spans.append((min(firsts), max(lasts)))
        return ReceptiveField(self.stride, tuple(spans))

    def _seen_by(self, frames: Iterable[int]) -> tuple[int, int]:
        """First and last input frames that any of these frames sees."""
        spans = []
        for frame in frames:
            periods, t = divmod(frame, len(self.spans))
            spans.append([periods * self.alignment + end for end in self.spans[t]])
        return min(first for first, _ in spans), max(last for _, last in spans)


class TimeMask:
    """The valid frames of a padded batch at one time resolution; :meth:`strided` gives coarser ones.

    Modules of this package keep one invariant: **a tensor is zero on frames that are invalid in its mask**. A padded
    utterance then sees the same zeros as its own border padding, so its output does not depend on the batch.
    Convolutions break the invariant at the border, and the normalization after each of them restores it.

    Arguments
    ---------
    lengths : Tensor of int64, (B,)
        Number of valid frames, each in 1 .. size.
    size : int
        Number of frames of the padded batch.

    Example
    -------
    >>> mask = TimeMask(torch.tensor([2, 5]), 5)
    >>> mask.zero_(torch.ones(2, 1, 5, 1)).flatten(1)
    tensor([[1., 1., 0., 0., 0.],
            [1., 1., 1., 1., 1.]])
    >>> mask.strided(2).lengths
    tensor([1, 3])
    """

    def __init__(self, lengths: Tensor, size: int):
        self.lengths = lengths
        self.size = size
        self._strided: dict[int, TimeMask] = {}
        self._padding: dict[Hashable, list[Tensor]] = {}

    @classmethod
    def for_batch(cls, lengths: Tensor | None, size: int) -> TimeMask | None:
        """Make the mask of a batch, or None if no frame is padding, so that modules take their unmasked path.

        Raises
        ------
        ValueError
            If a length lies outside 1 .. size.
        """
        if lengths is None:
            return None
        if torch.compiler.is_exporting():  # an exported graph knows no values
            return cls(lengths, size)
        mask = cls(lengths, size)
        shortest, longest = min(mask.frames), max(mask.frames)
        if shortest < 1 or longest > size:
            raise ValueError(f"lengths must lie in 1 .. {size}, the frames of the batch; got {shortest} .. {longest}")
        return None if shortest == size else mask

    @cached_property
    def frames(self) -> list[int]:
        """:attr:`lengths` as integers, so that a device is waited for once per batch rather than in every layer."""
        frames: list[int] = self.lengths.tolist()
        return frames

    @property
    def count(self) -> int:
        """Number of valid frames in the batch."""
        return sum(self.frames)

    @property
    def padded(self) -> bool:
        """Whether any frame is invalid; a strided mask may have none."""
        return self.count < len(self.frames) * self.size

    @cached_property
    def _valid(self) -> Tensor:
        """Indices of the valid frames among the B * T frames of the batch."""
        return torch.nonzero(valid_mask(self.lengths, self.size).flatten()).squeeze(1)

    @cached_property
    def _runs(self) -> list[int]:
        """Numbers of valid and of invalid frames of each utterance, in turns."""
        return [frames for valid in self.frames for frames in (valid, self.size - valid)]

    def pack(self, x: Tensor) -> Tensor:
        """The vectors of `x` (B, C, T, F) on valid frames, one after another: (:attr:`count` * F, C). No gradient.

        Example
        -------
        >>> mask = TimeMask(torch.tensor([2, 1]), 2)
        >>> mask.pack(torch.arange(4.0).view(2, 1, 2, 1)).flatten()
        tensor([0., 1., 2.])
        >>> mask.unpack(torch.ones(3, 1), bins=1).flatten(1)
        tensor([[1., 1.],
                [1., 0.]])
        """
        frames = x.permute(0, 2, 3, 1).reshape(x.shape[0] * x.shape[2], -1)  # a view in channels-last format
        return frames.index_select(0, self._valid).view(-1, x.shape[1])

    def unpack(self, packed: Tensor, bins: int) -> Tensor:
        """Undo :meth:`pack` of a tensor with F = `bins`: (B, C, T, F), channels last, zero on invalid frames."""
        channels = packed.shape[1]
        key = (bins, channels, packed.dtype, packed.device)
        if key not in self._padding:
            zeros = packed.new_zeros((self.size - min(self.frames)) * bins, channels)
            self._padding[key] = [zeros[: (self.size - frames) * bins] for frames in self.frames]
        valid = packed.split([frames * bins for frames in self.frames])
        blocks = [block for pair in zip(valid, self._padding[key], strict=True) for block in pair]
        shape = (len(self.frames), channels, self.size, bins)
        x = torch.empty(shape, dtype=packed.dtype, device=packed.device, memory_format=torch.channels_last)
        torch.cat(blocks, out=x.permute(0, 2, 3, 1).view(-1, channels))
        return x

    def zero_(self, x: Tensor) -> Tensor:
        """Set the invalid frames of `x` (B, C, T, F) to zero in place, even NaN values, and return `x`."""
        if torch.compiler.is_exporting() or not x.is_contiguous(memory_format=torch.channels_last):
            return x.masked_fill_(~valid_mask(self.lengths, x.shape[2])[:, None, :, None], 0)
        return cast(Tensor, _ZeroPadding.apply(x, self)) if x.requires_grad else self._zero_(x)

    def _zero_(self, x: Tensor) -> Tensor:
        # In channels-last format, the padding of an utterance is one block of memory.
        torch._foreach_zero_(x.permute(0, 2, 3, 1).flatten(0, 1).split(self._runs)[1::2])
        return x

    def strided(self, stride: int) -> TimeMask:
        """The mask after a module of this time stride."""
        if stride == 1:
            return self
        if stride not in self._strided:
            mask = TimeMask(output_length(self.lengths, stride), output_length(self.size, stride))
            if not torch.compiler.is_exporting():
                mask.frames = [output_length(frames, stride) for frames in self.frames]
            self._strided[stride] = mask
        return self._strided[stride]


class _ZeroPadding(torch.autograd.Function):
    """:meth:`TimeMask.zero_` with a gradient that costs no more than a copy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: TimeMask) -> Tensor:
        ctx.mask = mask
        ctx.mark_dirty(x)
        return mask._zero_(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.mask.zero_(grads[0].clone()), None


def strided_mask(mask: TimeMask | None, stride: int) -> TimeMask | None:
    """`mask.strided(stride)`, or None if there is no mask."""
    return None if mask is None else mask.strided(stride)
