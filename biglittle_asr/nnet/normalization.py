"""BatchNorm with training statistics over valid frames only, and over all processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from biglittle_asr.nnet.lengths import TimeMask


class MaskedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d on (B, C, T, F) that does not count padded frames, and is zero on them.

    Training statistics are computed from sums, sums of squares and counts over valid frames. If several processes train
    together, these are summed over all of them, so the result equals that of one process on the same global batch.
    Without a mask, in one process, it is PyTorch's BatchNorm2d and costs the same. Parameters, buffers and state dict
    are those of BatchNorm2d.

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
        together = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
        if not self.training or (mask is None and not together):
            y = super().forward(x)
            return y if mask is None else mask.zero_(y)
        self._check_input_dim(x)
        count = x.new_tensor(x.shape[0] * x.shape[2], dtype=torch.long) if mask is None else mask.count
        y, mean, variance, count = _MaskedBatchNorm.apply(
            x, self.weight, self.bias, mask, count * x.shape[3] * self.counted, self.eps, together, self.counted
        )
        self._update_running(mean, variance, count)
        return y

    @torch.no_grad()
    def _update_running(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        if self.num_batches_tracked is None or self.running_mean is None or self.running_var is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        unbiased = variance * (count / (count - 1).clamp(min=1))
        # If no process has counted frames, the running statistics do not change.
        weight = (momentum * (count > 0)).to(self.running_mean.dtype)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), weight)


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
    """Masked training statistics with PyTorch's BatchNorm kernels, which have no masks.

    The fast kernels sum over all positions; the sums over the few invalid positions are then subtracted. In both
    directions the kernels then run in evaluation mode, with these statistics. The gradient is
    dx = weight / std * (dy - sum(dy) / n - xhat * sum(dy * xhat) / n), and its last two terms are themselves a
    normalization of x.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mask: TimeMask | None,
        count: Tensor,
        eps: float,
        together: bool,
        counted: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        # The kernel keeps sums in the precision of the running statistics passed to it, even for bfloat16 input.
        unused = torch.zeros_like(weight)
        mean, variance = torch.batch_norm_update_stats(x, unused, unused.clone(), 0.0)
        sums = torch.stack([mean, variance + mean.square()]) * (x.numel() // x.shape[1])
        if mask is not None:
            invalid = x[mask.invalid].to(sums.dtype)
            sums -= torch.stack([invalid.sum((0, 2)), invalid.square().sum((0, 2))])
        count = count.to(sums.dtype)
        if not counted:
            sums = torch.zeros_like(sums)
        if together:
            packed = torch.cat([sums.flatten(), count[None]])
            distributed.all_reduce(packed)
            sums, count = packed[:-1].view_as(sums), packed[-1]
        mean, square = sums / count.clamp(min=1)
        variance = (square - mean.square()).clamp_(min=0.0)
        y = functional.batch_norm(x, mean, variance, weight, bias, eps=eps)
        if mask is not None:
            mask.zero_(y)
        ctx.save_for_backward(x, weight, mean, variance, count)
        ctx.mask, ctx.eps, ctx.together, ctx.counted = mask, eps, together, counted
        ctx.mark_non_differentiable(mean, variance, count)
        return y, mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, count = ctx.saved_tensors
        dy, mask = grads[0], ctx.mask
        inverse_std = (variance + ctx.eps).rsqrt()
        dx, d_weight, d_bias = torch.ops.aten.native_batch_norm_backward(
            dy, x, weight, mean, variance, mean, inverse_std, False, ctx.eps, [True, True, True]
        )
        if mask is not None:
            dy_invalid, x_invalid = dy[mask.invalid].to(mean.dtype), x[mask.invalid].to(mean.dtype)
            d_bias -= dy_invalid.sum((0, 2))
            d_weight -= (dy_invalid * (x_invalid - mean[:, None])).sum((0, 2)) * inverse_std
        sums = torch.stack([d_weight, d_bias])
        if ctx.together:
            distributed.all_reduce(sums)
        if ctx.counted:
            slope, offset = -sums / count.clamp(min=1) * weight * inverse_std
            dx += functional.batch_norm(x, mean, variance, slope, offset, eps=ctx.eps)
        if mask is not None:
            mask.zero_(dx)
        return dx, d_weight, d_bias, None, None, None, None, None
