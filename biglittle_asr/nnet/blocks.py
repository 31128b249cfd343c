"""The residual blocks, from which stages are assembled.

They map (B, C, T, F) and an optional mask of valid frames to the block's result. `stride` is over (time, frequency);
containers read it to adapt the mask. With a stream, in causal mode, T is the number of frames of a chunk.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import cast

from torch import Tensor, nn

from biglittle_asr.nnet.layers import Layers, Pair, Shortcut, SqueezeExcite, TimeModule
from biglittle_asr.nnet.lengths import ReceptiveField, TimeMask, strided_mask
from biglittle_asr.nnet.streaming import Stream


class Block(TimeModule):
    """Base class of blocks, with the options, the shortcut and the sum.

    Arguments
    ---------
    in_channels, out_channels : int
    stride : (int, int)
        Over (time, frequency).
    layers : Layers
        Layer classes and time padding.
    shortcut : "pool" or "conv"
        See :class:`Shortcut`. Big-Little networks pool; torchvision's plain networks convolve.
    groups : int
        Groups of the 3x3 convolution (ResNeXt). Bottleneck only.
    base_width : int
        Channels per group at 64 output planes (4 for ResNeXt's "4d"); 64 with one group is a plain ResNet.
    squeeze_excite : bool
        Whether to scale the channels by :class:`SqueezeExcite` before the sum.
    last_activation : bool
        False leaves out the activation after the sum, for a branch that is then added to another.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: Pair = (1, 1),
        layers: Layers = Layers(),  # noqa: B008 (frozen)
        shortcut: str = "pool",
        groups: int = 1,
        base_width: int = 64,
        squeeze_excite: bool = False,
        last_activation: bool = True,
    ):
        super().__init__()
        if squeeze_excite and layers.time_padding == "causal":
            raise ValueError(
                "squeeze_excite averages over all time, so it sees the future: "
                'set squeeze_excite to False or time_padding to "same"'
            )
        self.stride, self.time_stride = stride, stride[0]
        self._build(in_channels, out_channels, stride, layers, groups, base_width)
        self.relu = layers.activation(inplace=True)
        self.downsample = Shortcut(layers, in_channels, out_channels, stride, shortcut)
        self.se_layer = SqueezeExcite(out_channels) if squeeze_excite else None
        self.last_activation = last_activation

    @abstractmethod
    def _build(
        self, in_channels: int, out_channels: int, stride: Pair, layers: Layers, groups: int, base_width: int
    ) -> None:
        """Make the convolutions and norms, under the names of the published checkpoints."""

    @property
    @abstractmethod
    def convolutions(self) -> Sequence[TimeModule]:
        """Convolutions of the residual path, in order."""

    @abstractmethod
    def residual(
        self, x: Tensor, mask: TimeMask | None, strided: TimeMask | None, stream: Stream | None = None
    ) -> Tensor:
        """Compute the residual path; `strided` is the mask after the strided convolution."""

    @abstractmethod
    def last_norm_scale(self) -> Tensor:
        """Scale of the last normalization of the residual path; at zero, the block equals its shortcut."""

    def forward(self, x: Tensor, mask: TimeMask | None = None, stream: Stream | None = None) -> Tensor:
        strided = strided_mask(mask, self.time_stride)
        y = self.residual(x, mask, strided, stream)
        if self.se_layer is not None:
            y = self.se_layer(y, strided)
        y = y + self.downsample(x, strided, stream)
        return self.relu(y) if self.last_activation else y

    def receptive_field(self, before: ReceptiveField) -> ReceptiveField:
        """Map the receptive field of the input to that of the output.

        Raises
        ------
        ValueError
            With squeeze-excite.
        """
        if self.se_layer is not None:
            raise ValueError("squeeze_excite averages over all time: every frame depends on every other one")
        residual = before
        for convolution in self.convolutions:
            residual = convolution.receptive_field(residual)
        return residual.merged(self.downsample.receptive_field(before))


class BasicBlock(Block):
    """Two 3x3 convolutions (He et al., 2016), the first of them strided.

    Example
    -------
    >>> import torch
    >>> BasicBlock(4, 8, stride=(2, 1))(torch.zeros(1, 4, 5, 6)).shape
    torch.Size([1, 8, 3, 6])
    """

    def _build(
        self, in_channels: int, out_channels: int, stride: Pair, layers: Layers, groups: int, base_width: int
    ) -> None:
        if groups != 1 or base_width != 64:
            raise ValueError("BasicBlock has neither groups nor base_width: use Bottleneck")
        self.conv1 = layers.conv2d(in_channels, out_channels, 3, stride=stride)
        self.bn1 = layers.norm(out_channels)
        self.conv2 = layers.conv2d(out_channels, out_channels, 3)
        self.bn2 = layers.norm(out_channels)

    @property
    def convolutions(self) -> Sequence[TimeModule]:
        return self.conv1, self.conv2

    def residual(
        self, x: Tensor, mask: TimeMask | None, strided: TimeMask | None, stream: Stream | None = None
    ) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x, stream=stream), strided))
        return self.bn2(self.conv2(y, stream=stream), strided)

    def last_norm_scale(self) -> Tensor:
        return cast(Tensor, self.bn2.weight)


class TimeBlock(BasicBlock):
    """A convolution of each channel over time, then a 1x1 across channels: a wide context at low cost.

    It is a basic block whose two convolutions form QuartzNet's separable convolution (Kriman et al., 2020).

    Arguments
    ---------
    channels : int
    kernel_size : int
        Kernel size in frames; odd.
    layers : Layers

    Example
    -------
    >>> import torch
    >>> TimeBlock(8, kernel_size=15)(torch.zeros(1, 8, 20, 1)).shape
    torch.Size([1, 8, 20, 1])
    """

    def __init__(self, channels: int, kernel_size: int, layers: Layers = Layers()):  # noqa: B008 (frozen)
        self.kernel_size = kernel_size
        super().__init__(channels, channels, layers=layers)

    def _build(
        self, in_channels: int, out_channels: int, stride: Pair, layers: Layers, groups: int, base_width: int
    ) -> None:
        self.conv1 = layers.conv2d(in_channels, in_channels, (self.kernel_size, 1), groups=in_channels)
        self.bn1 = layers.norm(in_channels)
        self.conv2 = layers.conv2d(in_channels, out_channels, 1)
        self.bn2 = layers.norm(out_channels)


class Bottleneck(Block):
    """1x1, 3x3 and 1x1 convolutions, with `out_channels` / 4 channels in between; the 3x3 is strided ("v1.5").

    With `groups` and `base_width` it is ResNeXt's (Xie et al., 2017): out * base_width / 64 / 4 channels per group.

    Example
    -------
    >>> import torch
    >>> block = Bottleneck(64, 256, groups=32, base_width=4, squeeze_excite=True)
    >>> block(torch.zeros(1, 64, 5, 6)).shape, block.conv2.weight.shape
    (torch.Size([1, 256, 5, 6]), torch.Size([128, 4, 3, 3]))
    """

    def _build(
        self, in_channels: int, out_channels: int, stride: Pair, layers: Layers, groups: int, base_width: int
    ) -> None:
        width = out_channels * base_width // 64 // 4 * groups
        if width < 1:
            raise ValueError(
                f"Bottleneck of {out_channels} channels and base_width {base_width} has no channels in between: "
                "take more channels, a smaller alpha, or BasicBlock"
            )
        self.conv1 = layers.conv2d(in_channels, width, 1)
        self.bn1 = layers.norm(width)
        self.conv2 = layers.conv2d(width, width, 3, stride=stride, groups=groups)
        self.bn2 = layers.norm(width)
        self.conv3 = layers.conv2d(width, out_channels, 1)
        self.bn3 = layers.norm(out_channels)

    @property
    def convolutions(self) -> Sequence[TimeModule]:
        return self.conv1, self.conv2, self.conv3

    def residual(
        self, x: Tensor, mask: TimeMask | None, strided: TimeMask | None, stream: Stream | None = None
    ) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x, stream=stream), mask))
        y = self.relu(self.bn2(self.conv2(y, stream=stream), strided))
        return self.bn3(self.conv3(y, stream=stream), strided)

    def last_norm_scale(self) -> Tensor:
        return cast(Tensor, self.bn3.weight)


BlockFactory = Callable[..., Block]
"""Called with (in_channels, out_channels, stride, layers, ...): BasicBlock, Bottleneck, or a partial of one."""


class Blocks(nn.Sequential, TimeModule):
    """A sequence of residual blocks, which adapts the mask to their strides.

    Example
    -------
    >>> import torch
    >>> blocks = Blocks([BasicBlock(4, 4, (2, 2)), BasicBlock(4, 4)])
    >>> blocks(torch.zeros(1, 4, 5, 6)).shape, blocks.time_stride
    (torch.Size([1, 4, 3, 3]), 2)
    """

    def __init__(self, blocks: Iterable[Block]):
        super().__init__(*blocks)
        self.time_stride = math.prod(block.time_stride for block in self)

    def __iter__(self) -> Iterator[Block]:
        return cast(Iterator[Block], super().__iter__())

    def forward(self, x: Tensor, mask: TimeMask | None = None, stream: Stream | None = None) -> Tensor:
        for block in self:
            x = block(x, mask, stream)
            mask = strided_mask(mask, block.time_stride)
        return x

    def receptive_field(self, before: ReceptiveField) -> ReceptiveField:
        for block in self:
            before = block.receptive_field(before)
        return before


def initialize(module: nn.Module) -> None:
    """Initialize convolutions by Kaiming normal (fan out), and set the last norm's scale of every block to zero.

    Each block thus starts as its shortcut (Goyal et al., 2017), as in the published Big-Little networks. On the device
    "meta" there is nothing to initialize.
    """
    if any(parameter.is_meta for parameter in module.parameters()):
        # PyTorch would import its compiler for random numbers without storage, which takes a second.
        return
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            nn.init.kaiming_normal_(child.weight, mode="fan_out", nonlinearity="relu")
            if child.bias is not None:
                nn.init.zeros_(child.bias)
    for child in module.modules():
        if isinstance(child, Block):
            nn.init.zeros_(child.last_norm_scale())
