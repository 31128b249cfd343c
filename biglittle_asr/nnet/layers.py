"""Layers with a time axis: convolution, shortcut pooling, upsampling, squeeze-and-excitation.

The layout is always (B, C, T, F); for images T is height and F is width. Each layer maps T frames to ceil(T / stride)
for every T, and in causal mode pads time on the left only. With a stream, T is the number of frames of a chunk,
earlier frames take the place of that padding, and the output has the frames that the chunk completes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from biglittle_asr.nnet.lengths import ReceptiveField, TimeMask, output_length
from biglittle_asr.nnet.normalization import MaskedBatchNorm2d
from biglittle_asr.nnet.streaming import Stream

TimePadding = Literal["same", "causal"]
Pair = tuple[int, int]


class TimeModule(nn.Module, ABC):
    """A module with a time axis: it ignores padding, can stream if it is causal, and knows its receptive field.

    Attributes
    ----------
    time_stride : int
        Input frames per output frame.
    """

    time_stride: int = 1

    @abstractmethod
    def forward(self, x: Tensor, mask: TimeMask | None = None, stream: Stream | None = None) -> Tensor:
        """Map (B, C, T, F) to (B, C', ceil(T / time_stride), F').

        Arguments
        ---------
        x : Tensor, (B, C, T, F)
        mask : TimeMask, optional
            Valid frames of `x`, or of the *result* for :class:`ConvNorm` and :class:`Shortcut`. Convolutions and pools
            do not read it, because the normalization after them zeroes padding.
        stream : Stream, optional
            Frames kept between chunks; T is then the number of frames of a chunk.
        """

    @abstractmethod
    def receptive_field(self, before: ReceptiveField) -> ReceptiveField:
        """Map the receptive field of the input to that of the output."""


class Conv2d(nn.Conv2d, TimeModule):
    """Convolution over (B, C, T, F) without bias, with an odd kernel; each axis becomes ceil(size / stride).

    Arguments
    ---------
    in_channels, out_channels : int
    kernel_size : int or (int, int)
        Odd, over (time, frequency).
    stride : int or (int, int)
        Over (time, frequency).
    groups : int
    time_padding : "same" or "causal"
        "same" pads time equally at both ends; "causal" pads the left end only, so that no frame sees the future.

    Raises
    ------
    ValueError
        If the kernel is even or `time_padding` is unknown.

    Example
    -------
    >>> Conv2d(1, 4, 3, stride=(2, 1))(torch.zeros(1, 1, 5, 8)).shape
    torch.Size([1, 4, 3, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        groups: int = 1,
        time_padding: TimePadding = "same",
    ):
        time_kernel, frequency_kernel = as_pair(kernel_size)
        if time_kernel % 2 == 0 or frequency_kernel % 2 == 0:
            raise ValueError(f"kernel_size {kernel_size} must be odd on both axes: an even one has no centre frame")
        check_time_padding(time_padding)
        self.left_frames = time_kernel - 1 if time_padding == "causal" else 0
        padding = (0 if self.left_frames else (time_kernel - 1) // 2, (frequency_kernel - 1) // 2)
        super().__init__(
            in_channels, out_channels, (time_kernel, frequency_kernel), as_pair(stride), padding, groups=groups,
            bias=False,
        )  # fmt: skip
        self.time_stride = self.stride[0]

    def forward(self, x: Tensor, mask: TimeMask | None = None, stream: Stream | None = None) -> Tensor:
        left_frames = self.left_frames
        if stream is not None:
            x, left_frames = stream.windows(x, self.kernel_size[0], self.stride[0], left_frames), 0
            if not x.shape[2]:
                return x.new_zeros(x.shape[0], self.out_channels, 0, output_length(x.shape[3], self.stride[1]))
        # oneDNN's bfloat16 kernels for AMX give wrong outputs and weight gradients if a stride leaves one column
        # (torch 2.14 on the CPU). Padding with zeros, as at the border, makes it two columns.
        only_column = self.kernel_size[1] > 1 and 1 < self.stride[1] and x.shape[3] <= self.stride[1]
        only_column = only_column and is_cpu_bfloat16(x)
        missing_bins = self.stride[1] + 1 - x.shape[3] if only_column else 0
        if left_frames or missing_bins:
            x = functional.pad(x, (0, missing_bins, left_frames, 0))
        if only_column:
            return super().forward(x)[..., :1]
        return super().forward(x)

    def receptive_field(self, before: ReceptiveField) -> ReceptiveField:
        return before.windowed(self.kernel_size[0], self.stride[0], self.left_frames + int(self.padding[0]))


def is_cpu_bfloat16(x: Tensor) -> bool:
    """Whether a convolution of `x` is computed on the CPU in bfloat16."""
    autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return x.device.type == "cpu" and (autocast or x.dtype == torch.bfloat16)


class AveragePool2d(TimeModule):
    """Average pooling of a strided shortcut: kernel 2s - 1 on each axis of stride s, border zeros included.

    Stride 2 gives the published kernel of 3; an axis of stride 1 is not changed.

    Arguments
    ---------
    stride : (int, int)
        Over (time, frequency).
    time_padding : "same" or "causal"

    Example
    -------
    >>> AveragePool2d((1, 2))(torch.ones(1, 1, 2, 4))
    tensor([[[[0.6667, 1.0000],
              [0.6667, 1.0000]]]])
    """

    def __init__(self, stride: Pair, time_padding: TimePadding = "same"):
        super().__init__()
        check_time_padding(time_padding)
        self.stride = stride
        self.kernel_size = (2 * stride[0] - 1, 2 * stride[1] - 1)
        self.left_frames = self.kernel_size[0] - 1 if time_padding == "causal" else 0
        self.padding = (0 if self.left_frames else stride[0] - 1, stride[1] - 1)
        self.time_stride = stride[0]

    def forward(self, x: Tensor, mask: TimeMask | None = None, stream: Stream | None = None) -> Tensor:
        if stream is not None:
            x = stream.windows(x, self.kernel_size[0], self.stride[0], self.left_frames)
            if not x.shape[2]:
                return x.new_zeros(x.shape[0], x.shape[1], 0, output_length(x.shape[3], self.stride[1]))
        elif self.left_frames:
            x = functional.pad(x, (0, 0, self.left_frames, 0))
        if torch.onnx.is_in_onnx_export():
            # The same as a convolution of each channel, since onnxruntime's pooling of 8-bit integers takes longer than
            # the block around it, and OpenVINO leaves its layout for pooling.
            weight = x.new_full((x.shape[1], 1, *self.kernel_size), 1 / math.prod(self.kernel_size))
            return functional.conv2d(x, weight, None, self.stride, self.padding, groups=x.shape[1])
        return functional.avg_pool2d(x, self.kernel_size, self.stride, self.padding)

    def receptive_field(self, before: ReceptiveField) -> ReceptiveField:
        return before.windowed(self.kernel_size[0], self.stride[0], self.left_frames + self.padding[0])

    def extra_repr(self) -> str:
        return f"stride={self.stride}, kernel_size={self.kernel_size}"


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation (Hu et al., 2018): scales channels by gates computed from their means.

    Arguments
    ---------
    channels : int
    reduction : int
        Ratio of `channels` to the hidden width, which is at least 1; 16 as published.

    Example
    -------
    >>> SqueezeExcite(32)(torch.ones(2, 32, 5, 4)).shape
    torch.Size([2, 32, 5, 4])
    """

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        hidden = max(1, channels // reduction)
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor, mask: TimeMask | None = None) -> Tensor:
        """(B, C, T, F) -> (B, C, T, F); the mean is over valid frames."""
        if mask is None:
            mean = x.mean((2, 3), keepdim=True)
        else:
            count = (mask.lengths * x.shape[3])[:, None, None, None]
            accurate = torch.promote_types(x.dtype, torch.float32)
            mean = (x.sum((2, 3), keepdim=True, dtype=accurate) / count).to(x.dtype)
        return x * torch.sigmoid(self.fc2(functional.relu(self.fc1(mean))))


def upsample(
    x: Tensor,
    factor: Pair,
    size: Pair,
    mode: str = "nearest",
    mask: TimeMask | None = None,
    stream: Stream | None = None,
) -> Tensor:
    """Multiply time and frequency by `factor`, and crop to `size`.

    With cropping, frame t of the result comes from frame t // factor of `x` for every length, odd ones included.
    Bilinear interpolation looks one frame past the end, so each utterance's last valid frame is repeated there, as at
    the border of an unpadded utterance.

    Arguments
    ---------
    x : Tensor, (B, C, T, F)
    factor : (int, int)
    size : (int, int)
        Frames and bins of the result, at most `factor` times those of `x`.
    mode : "nearest" or "bilinear"
    mask : TimeMask, optional
        Valid frames of `x`. Invalid frames of the result are not zeroed here.
    stream : Stream, optional
        Keeps the cropped frames, which are the first frames of the next step.

    Example
    -------
    >>> upsample(torch.tensor([[[[1.0], [2.0]]]]), (2, 1), (3, 1)).flatten()
    tensor([1., 1., 2.])
    """
    if factor != (1, 1):
        if not x.shape[2]:
            x = x.repeat_interleave(factor[1], 3)  # interpolate refuses a step without coarse frames
        elif mode == "bilinear":
            if mask is not None:
                last = torch.arange(x.shape[2], device=x.device).minimum(mask.lengths[:, None] - 1)
                x = x.gather(2, last[:, None, :, None].expand_as(x))
            x = functional.interpolate(
                x, scale_factor=(float(factor[0]), float(factor[1])), mode="bilinear", align_corners=False
            )
        else:
            # By factor rather than by size, whose float32 index arithmetic goes wrong for long inputs.
            x = functional.interpolate(x, scale_factor=(float(factor[0]), float(factor[1])), mode="nearest")
    if stream is not None and factor[0] > 1:
        x = stream.prepend(x)
        stream.keep(x[:, :, size[0] :])
    if torch.onnx.is_in_onnx_export():
        # OpenVINO crops too much by negative padding of a size that it learns at run time.
        return x[:, :, : size[0], : size[1]]
    # Crop by negative padding, since the gradient of a slice is channels first, which is slow.
    extra = (size[0] - x.shape[2], size[1] - x.shape[3])
    unchanged = not torch.compiler.is_exporting() and extra == (0, 0)
    return x if unchanged else functional.pad(x, (0, extra[1], 0, extra[0]))


@dataclass(frozen=True)
class Layers:
    """The layer classes of blocks, and their time padding. Replace one for a sparse or quantized network.

    Example
    -------
    >>> Layers(time_padding="causal").conv2d(1, 2, 3).left_frames
    2
    """

    conv: Callable[..., TimeModule] = Conv2d
    """Called with (in_channels, out_channels, kernel_size, stride=, groups=, time_padding=)."""
    norm: Callable[[int], nn.Module] = MaskedBatchNorm2d
    """Called with the number of channels; its forward takes (x, mask) and returns zeros on invalid frames."""
    activation: Callable[..., nn.Module] = nn.ReLU
    """Called with inplace=True; must keep zero at zero."""
    time_padding: TimePadding = "same"
    """"same", or "causal": no frame sees the future."""

    def __post_init__(self) -> None:
        check_time_padding(self.time_padding)

    def conv2d(self, *args: Any, **kwargs: Any) -> TimeModule:
        """Make a convolution with this time padding."""
        return self.conv(*args, **kwargs, time_padding=self.time_padding)

    def pool2d(self, stride: Pair) -> AveragePool2d:
        """Make a shortcut's average pooling with this time padding."""
        return AveragePool2d(stride, self.time_padding)


class ConvNorm(nn.Sequential, TimeModule):
    """Convolution (child 0) and normalization (child 1); takes (B, C, T, F) and the mask of the *result*.

    Example
    -------
    >>> ConvNorm(Layers(), 4, 8, 1)(torch.zeros(2, 4, 5, 3)).shape
    torch.Size([2, 8, 5, 3])
    """

    def __init__(self, layers: Layers, in_channels: int, out_channels: int, kernel_size: int, stride: int | Pair = 1):
        super().__init__(
            layers.conv2d(in_channels, out_channels, kernel_size, stride=stride), layers.norm(out_channels)
        )
        self.time_stride = as_pair(stride)[0]

    def forward(self, x: Tensor, mask: TimeMask | None = None, stream: Stream | None = None) -> Tensor:
        return self[1](self[0](x, stream=stream), mask)

    def receptive_field(self, before: ReceptiveField) -> ReceptiveField:
        return cast(TimeModule, self[0]).receptive_field(before)


class Shortcut(nn.Sequential, TimeModule):
    """The shortcut of a residual block: pooling if the block strides, and a 1x1 convolution if channels change.

    Children have the names of the published checkpoints: kind "pool" has the pooling, if any, at 0, then convolution
    and norm; kind "conv" has torchvision's strided convolution at 0 and norm at 1. Without stride or change of channels
    it is empty and returns its input.

    Arguments
    ---------
    layers : Layers
    in_channels, out_channels : int
    stride : (int, int)
    kind : "pool" or "conv"
        "pool" averages before a 1x1 convolution of stride 1; "conv" strides the convolution.

    Raises
    ------
    ValueError
        If the kind is unknown.

    Example
    -------
    >>> Shortcut(Layers(), 4, 8, (1, 2))(torch.zeros(1, 4, 5, 6)).shape
    torch.Size([1, 8, 5, 3])
    """

    def __init__(self, layers: Layers, in_channels: int, out_channels: int, stride: Pair, kind: str = "pool"):
        if kind not in ("pool", "conv"):
            raise ValueError(f'shortcut is {kind!r}: take "pool" (average pool, then 1x1) or "conv" (strided 1x1)')
        strided = stride != (1, 1)
        modules: list[nn.Module] = []
        if kind == "pool" and strided:
            modules.append(layers.pool2d(stride))
        if in_channels != out_channels or (kind == "conv" and strided):
            conv_stride = stride if kind == "conv" else 1
            modules += [
                layers.conv2d(in_channels, out_channels, 1, stride=conv_stride),
                layers.norm(out_channels),
            ]
        super().__init__(*modules)
        self.time_stride = stride[0]

    def forward(self, x: Tensor, mask: TimeMask | None = None, stream: Stream | None = None) -> Tensor:
        """Map (B, C, T, F), zero on invalid frames, to the result's shape, zero on frames invalid in `mask`."""
        if not len(self):
            return x
        if len(self) == 1:
            x = self[0](x, stream=stream)
            return x if mask is None else mask.zero_(x)
        *head, norm = self
        for module in head:
            x = module(x, stream=stream)
        return norm(x, mask)

    def receptive_field(self, before: ReceptiveField) -> ReceptiveField:
        for module in self:
            if isinstance(module, TimeModule):  # the norm is not one
                before = module.receptive_field(before)
        return before


def as_pair(value: int | Pair) -> Pair:
    """Return (value, value), or the pair itself.

    Example
    -------
    >>> as_pair(3)
    (3, 3)
    """
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def check_time_padding(time_padding: str) -> None:
    """Raise ValueError unless `time_padding` is "same" or "causal"."""
    if time_padding not in ("same", "causal"):
        raise ValueError(f'time_padding is {time_padding!r}: take "same" or "causal"')
