"""BatchNorm whose training statistics come from valid frames only, over all processes."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor, nn

from biglittle_asr.nnet.lengths import TimeMask


class MaskedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d on (B, C, T, F) that neither counts padded frames nor lets anything but zeros out on them.

    In training the statistics are sums, squares and counts over valid frames; where several processes train together,
    these three are summed over all of them, so that N processes compute what one would on the same global batch.
    Without a mask, in one process, it is torch's BatchNorm2d and costs the same. Parameters, buffers and state dict
    are BatchNorm2d's.

    Example
    -------
    >>> norm = MaskedBatchNorm2d(4)
    >>> x = torch.randn(2, 4, 6, 3)
    >>> y = norm(x, TimeMask(torch.tensor([6, 2]), 6))
    >>> y.shape, y[1, :, 2:].abs().sum().item()
    (torch.Size([2, 4, 6, 3]), 0.0)
    """

    def forward(self, x: Tensor, mask: TimeMask | None = None) -> Tensor:
        """
        Arguments
        ---------
        x : Tensor, (B, C, T, F)
        mask : TimeMask, optional
            Valid frames of `x`; None where all are.

        Returns
        -------
        Tensor, (B, C, T, F)
            Zero on invalid frames.
        """
        together = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
        if not self.training or (mask is None and not together):
            y = super().forward(x)
            return y if mask is None else y * mask.frames(y.dtype)
        self._check_input_dim(x)
        count = x.new_tensor(x.shape[0] * x.shape[2], dtype=torch.long) if mask is None else mask.count
        frames = None if mask is None else mask.frames(x.dtype)
        y, mean, variance, count = _MaskedBatchNorm.apply(
            x, self.weight, self.bias, frames, count * x.shape[3], self.eps, together
        )
        if self.track_running_stats:
            self._update_running(mean, variance, count)
        return y

    @torch.no_grad()
    def _update_running(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        self.num_batches_tracked.add_(1)
        momentum = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        unbiased = variance * (count / (count - 1).clamp(min=1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)


class _MaskedBatchNorm(torch.autograd.Function):
    """Masked training statistics on torch's own BatchNorm kernels, which know no masks.

    With zeros on the N - n invalid of N positions, sums over all positions are sums over the n valid ones, so the
    kernels' mean and variance over N give the valid ones by a factor r = N / n. The same holds for the two sums of
    the backward pass: torch's training backward divides them by N, and
    r * backward(dy) - (r - 1) * dy * weight / std is what dividing them by n gives.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        frames: Tensor | None,
        count: Tensor,
        eps: float,
        together: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if frames is not None:
            x = x * frames
        positions = x.numel() // x.shape[1]
        # The kernel keeps sums in the precision of the running statistics it is handed, even for bfloat16 input.
        unused = torch.zeros_like(weight)
        mean, variance = torch.batch_norm_update_stats(x, unused, unused.clone(), 0.0)
        sums = torch.stack([mean, variance + mean.square()]) * positions
        count = count.to(sums.dtype)
        if together:
            packed = torch.cat([sums.flatten(), count[None]])
            distributed.all_reduce(packed)
            sums, count = packed[:-1].view_as(sums), packed[-1]
        mean, square = sums / count
        variance = (square - mean.square()).clamp_(min=0.0)
        inverse_std = (variance + eps).rsqrt()
        y = torch.nn.functional.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)
        if frames is not None:
            y.mul_(frames)
        ctx.save_for_backward(x, weight, frames, mean, inverse_std, count)
        ctx.eps, ctx.together, ctx.positions = eps, together, positions
        ctx.mark_non_differentiable(mean, variance, count)
        return y, mean, variance, count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, frames, mean, inverse_std, count = ctx.saved_tensors
        dy = grads[0] if frames is None else grads[0] * frames
        variance = inverse_std.square().reciprocal() - ctx.eps
        local = torch.ops.aten.native_batch_norm_backward(
            dy, x, weight, mean, variance, mean, inverse_std, not ctx.together, ctx.eps, [True, True, True]
        )
        dx, d_weight, d_bias = local
        scale = weight * inverse_std
        if ctx.together:
            # The kernel's evaluation mode gave dx = dy * scale; the sums over all processes are subtracted here.
            sums = torch.stack([d_weight, d_bias])
            distributed.all_reduce(sums)
            dot, total = sums / count
            slope = -scale * dot * inverse_std
            offset = -scale * total - slope * mean
            dx = dx + (x * _channelwise(slope, x) + _channelwise(offset, x))
        else:
            ratio = ctx.positions / count
            dx = (dx * ratio.to(dx.dtype)).addcmul_(dy, _channelwise((1 - ratio) * scale, dy))
        if frames is not None:
            dx = dx * frames
        return dx, d_weight, d_bias, None, None, None, None


def _channelwise(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.dtype)[None, :, None, None]
