"""BatchNorm with training statistics over valid frames only, and over all processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.distributed as distributed
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from biglittle_asr.nnet.lengths import TimeMask


class MaskedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d on (B, C, T, F) that does not count padded frames, and is zero on them.

    In training, the valid frames are copied together and normalized as one batch. If several processes train together,
    their sums, sums of squares and counts are added up, so the result equals that of one process on the same global
    batch. Without a mask, in one process, it is PyTorch's BatchNorm2d and costs the same. Parameters, buffers and state
    dict are those of BatchNorm2d.

    Example
    -------
    >>> norm = MaskedBatchNorm2d(4)
    >>> x = torch.randn(2, 4, 6, 3)
    >>> y = norm(x, TimeMask(torch.tensor([6, 2]), 6))
    >>> y.shape, y[1, :, 2:].abs().sum().item()
    (torch.Size([2, 4, 6, 3]), 0.0)
    """

    counted = True
    """Whether this process contributes to the statistics; see :func:`uncounted`."""

    def forward(self, x: Tensor, mask: TimeMask | None = None) -> Tensor:
        """Normalize; in training, use the batch statistics and update the running ones.

        Arguments
        ---------
        x : Tensor, (B, C, T, F)
        mask : TimeMask, optional
            Valid frames of `x`; None if all are valid.

        Returns
        -------
        Tensor, (B, C, T, F)
            Zero on invalid frames.
        """
        if not self.training:
            y = super().forward(x)
            return y if mask is None else mask.zero_(y)
        if mask is not None and not mask.padded:
            mask = None
        if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
            return self._synchronized(x, mask)
        return super().forward(x) if mask is None else self._masked(x, mask)

    def _masked(self, x: Tensor, mask: TimeMask) -> Tensor:
        self._check_input_dim(x)
        momentum, running_mean, running_var = self._next_momentum(), self.running_mean, self.running_var
        if mask.count * x.shape[3] == 1:  # a single value has no variance
            running_mean = running_var = None
        y: Tensor = _MaskedBatchNorm.apply(
            x, self.weight, self.bias, running_mean, running_var, mask, momentum, self.eps
        )
        return y

    @torch.no_grad()
    def _next_momentum(self) -> float:
        """Count a batch, and return the weight of its statistics among the running ones."""
        if self.num_batches_tracked is None:
            return 0.0
        self.num_batches_tracked.add_(1)
        return 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum

    def _synchronized(self, x: Tensor, mask: TimeMask | None) -> Tensor:
        self._check_input_dim(x)
        y, mean, variance, count = _SynchronizedBatchNorm.apply(x, self.weight, self.bias, mask, self.eps, self.counted)
        momentum = self._next_momentum()
        if self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                unbiased = variance * (count / (count - 1).clamp(min=1))
                # If no process has counted frames, the running statistics do not change.
                weight = (momentum * (count > 0)).to(self.running_mean.dtype)
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight)
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), weight)
        return cast(Tensor, y)


class ZeroPadding(nn.Module):
    """What is left of a norm that is folded into the convolution before it: zeros on padding."""

    def forward(self, x: Tensor, mask: TimeMask | None = None) -> Tensor:
        """Map (B, C, T, F) to itself, with zeros on invalid frames in place."""
        return x if mask is None else mask.zero_(x)


@contextmanager
def uncounted(module: nn.Module) -> Iterator[None]:
    """Within this context, MaskedBatchNorm2d layers join in the statistics of all processes but add nothing to them.

    It is for a process without a batch, for which the others would otherwise wait.
    """
    norms = [each for each in module.modules() if isinstance(each, MaskedBatchNorm2d)]
    for norm in norms:
        norm.counted = False
    try:
        yield
    finally:
        for norm in norms:
            del norm.counted


class _MaskedBatchNorm(torch.autograd.Function):
    """PyTorch's BatchNorm, which has no masks, of the valid frames without the padding between them."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        mask: TimeMask,
        momentum: float,
        eps: float,
    ) -> Tensor:
        packed = mask.pack(x)
        y, mean, inverse_std = torch.native_batch_norm(
            packed, weight, bias, running_mean, running_var, True, momentum, eps
        )
        ctx.save_for_backward(packed, weight, mean, inverse_std)
        ctx.mask, ctx.bins, ctx.eps = mask, x.shape[3], eps
        return mask.unpack(y, ctx.bins)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        packed, weight, mean, inverse_std = ctx.saved_tensors
        dx, d_weight, d_bias = torch.ops.aten.native_batch_norm_backward(
            ctx.mask.pack(grads[0]), packed, weight, None, None, mean, inverse_std, True, ctx.eps, [True] * 3
        )
        return ctx.mask.unpack(dx, ctx.bins), d_weight, d_bias, None, None, None, None, None


class _SynchronizedBatchNorm(torch.autograd.Function):
    """Training statistics over all processes, with PyTorch's BatchNorm kernels.

    In both directions the kernels run in evaluation mode, with these statistics. The gradient is
    dx = weight / std * (dy - sum(dy) / n - xhat * sum(dy * xhat) / n), and its last two terms are themselves a
    normalization of x.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mask: TimeMask | None, eps: float, counted: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        packed = x if mask is None else mask.pack(x)
        # The kernel keeps sums in the precision of the running statistics passed to it, even for bfloat16 input.
        unused = torch.zeros_like(weight)
        mean, variance = torch.batch_norm_update_stats(packed, unused, unused.clone(), 0.0)
        count = packed.numel() // packed.shape[1] * counted
        sums = torch.stack([mean, variance + mean.square()]) * count if counted else weight.new_zeros(2, len(weight))
        numbers = torch.cat([sums.flatten(), sums.new_tensor([count])])
        distributed.all_reduce(numbers)
        sums, total = numbers[:-1].view_as(sums), numbers[-1]
        mean, square = sums / total.clamp(min=1)
        variance = (square - mean.square()).clamp_(min=0.0)
        y = functional.batch_norm(packed, mean, variance, weight, bias, eps=eps)
        ctx.save_for_backward(packed, weight, mean, variance, total)
        ctx.mask, ctx.bins, ctx.eps, ctx.counted = mask, x.shape[3], eps, counted
        ctx.mark_non_differentiable(mean, variance, total)
        return y if mask is None else mask.unpack(y, ctx.bins), mean, variance, total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        packed, weight, mean, variance, total = ctx.saved_tensors
        mask: TimeMask | None = ctx.mask
        dy = grads[0] if mask is None else mask.pack(grads[0])
        dx, d_weight, d_bias = torch.ops.aten.native_batch_norm_backward(
            dy, packed, weight, mean, variance, None, None, False, ctx.eps, [True] * 3
        )
        sums = torch.stack([d_weight, d_bias])
        distributed.all_reduce(sums)
        if ctx.counted:
            slope, offset = -sums / total.clamp(min=1) * weight * (variance + ctx.eps).rsqrt()
            dx += functional.batch_norm(packed, mean, variance, slope, offset, eps=ctx.eps)
        return dx if mask is None else mask.unpack(dx, ctx.bins), d_weight, d_bias, None, None, None
