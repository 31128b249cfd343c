"""Stages: residual blocks at one resolution, plain or Big-Little, and the Big-Little stem of the image nets.

A Big-Little stage (Chen et al., ICLR 2019) runs a **big** branch, most of the blocks at half the resolution, beside a
**little** branch, few and narrow blocks at full resolution, adds the two, and ends in one fusion block:

              .-> big: n - 1 blocks, C channels, 1/2 resolution ----------> upsample x 2 --.
    x (B,C,T,F)                                                                            +-> ReLU -> fusion block
              '-> little: max(1, n // beta - 1) blocks, C / alpha channels -> 1x1 to C ----'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from biglittle_asr.nnet.blocks import BasicBlock, BlockFactory, Blocks
from biglittle_asr.nnet.layers import ConvNorm, Layers, Pair, upsample
from biglittle_asr.nnet.lengths import ReceptiveField, TimeMask, strided_mask
from biglittle_asr.nnet.streaming import Stream


@dataclass(frozen=True)
class BigLittleConfig:
    """How a stage splits into branches and merges them. The one place of alpha, beta, branch strides and merging.

    Branch 0 is the big one; branch j has C / alpha^j channels, max(1, n // beta^j - 1) blocks, and works at
    1 / big_stride^(branches - 1 - j) of the stage's resolution. For two branches this is the published network; for
    more, no rule was published, and this one is ours.

    Example
    -------
    >>> config = BigLittleConfig(alpha=4, beta=2)
    >>> [config.branch_blocks(6, j) for j in range(2)], [config.branch_channels(64, j) for j in range(2)]
    ([5, 2], [64, 16])
    """

    alpha: int = 2
    """Divides the channels of each next branch. Published: 2 for images, 4 for speech."""
    beta: int = 4
    """Divides the blocks of each next branch. Published: 4 for images, 2 or 3 for speech."""
    branches: int = 2
    """Number of branches K."""
    big_stride: Pair = (2, 2)
    """(time, frequency) stride between one branch and the next; 1 or 2 each. (1, 2) keeps the big branch's frames."""
    upsampling: str = "nearest"
    """"nearest", as the published weights need, or "bilinear", which sees one big frame ahead."""
    merge: str = "add"
    """"add" (1x1 and sum) or "concat" (concatenation and 1x1)."""

    def __post_init__(self) -> None:
        for key, least in (("alpha", 1), ("beta", 1), ("branches", 2)):
            value = getattr(self, key)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{key} is {value!r}: take a whole number from {least} up")
        if not isinstance(self.big_stride, Sequence) or len(self.big_stride) != 2 or not set(self.big_stride) <= {1, 2}:
            raise ValueError(f"big_stride is {self.big_stride!r}: take 1 or 2 for time and for frequency, as (2, 2)")
        object.__setattr__(self, "big_stride", tuple(self.big_stride))
        if self.upsampling not in ("nearest", "bilinear"):
            raise ValueError(f'upsampling is {self.upsampling!r}: take "nearest" or "bilinear"')
        if self.merge not in ("add", "concat"):
            raise ValueError(f'merge is {self.merge!r}: take "add" or "concat"')

    def branch_blocks(self, blocks: int, branch: int) -> int:
        """Blocks of a branch in a stage of `blocks`, one of which is the fusion block."""
        return max(1, blocks // self.beta**branch - 1)

    def branch_channels(self, channels: int, branch: int) -> int:
        """Channels of a branch in a stage of `channels`."""
        narrow, rest = divmod(channels, self.alpha**branch)
        if rest or not narrow:
            raise ValueError(
                f"alpha {self.alpha} with {self.branches} branches does not divide {channels} channels: "
                "choose an alpha that does"
            )
        return narrow

    def branch_stride(self, branch: int) -> Pair:
        """Stride of a branch relative to the stage's resolution."""
        steps = self.branches - 1 - branch
        return self.big_stride[0] ** steps, self.big_stride[1] ** steps

    def branch_options(self, options: Mapping[str, Any], branch: int) -> dict[str, Any]:
        """Block options of a branch: a narrow ResNeXt branch has fewer groups, each as wide as before."""
        groups = options.get("groups", 1)
        if groups == 1:
            return dict(options)
        scale = self.alpha**branch
        if groups % scale:
            raise ValueError(
                f"alpha {self.alpha} with {self.branches} branches does not divide {groups} groups: "
                "choose an alpha that does"
            )
        return {**options, "groups": groups // scale, "base_width": options.get("base_width", 64) * scale}


def plain_stage(
    in_channels: int,
    out_channels: int,
    blocks: int,
    stride: Pair = (1, 1),
    block: BlockFactory = BasicBlock,
    layers: Layers = Layers(),  # noqa: B008 (frozen)
    **options: Any,
) -> Blocks:
    """`blocks` residual blocks, 1 or more, the first of them strided: a stage of a plain ResNet.

    Example
    -------
    >>> plain_stage(4, 8, 2, stride=(1, 2))(torch.zeros(1, 4, 5, 6)).shape
    torch.Size([1, 8, 5, 3])
    """
    if blocks < 1:
        raise ValueError(f"a stage needs 1 block or more; got {blocks}")
    last_activation = options.pop("last_activation", True)
    return Blocks(
        block(
            in_channels if index == 0 else out_channels,
            out_channels,
            stride=stride if index == 0 else (1, 1),
            layers=layers,
            last_activation=last_activation or index < blocks - 1,
            **options,
        )
        for index in range(blocks)
    )


class BigLittleBranches(nn.Module):
    """Branches that run side by side from one input and are merged at the finest branch's resolution.

    Children are `big`, `little` and `little_e`, as in the published checkpoints; further branches are `little2`, ...

    Arguments
    ---------
    branches : sequence of Blocks
        From the coarsest to the finest; neighbours differ by `config.big_stride`. None ends in an activation.
    channels : sequence of int
        What each branch puts out; the first is what the merged result has.
    config : BigLittleConfig
    layers : Layers
    """

    def __init__(self, branches: Sequence[Blocks], channels: Sequence[int], config: BigLittleConfig, layers: Layers):
        super().__init__()
        self.config = config
        self.names = ["big", "little"] + [f"little{j}" for j in range(2, len(branches))]
        for name, branch in zip(self.names, branches, strict=True):
            self.add_module(name, branch)
        if config.merge == "add":
            for name, narrow in zip(self.names[1:], channels[1:], strict=True):
                self.add_module(f"{name}_e", ConvNorm(layers, narrow, channels[0], 1))
        else:
            self.concat = ConvNorm(layers, sum(channels), channels[0], 1)
        self.relu = layers.activation(inplace=True)
        if config.upsampling == "bilinear" and layers.time_padding == "causal" and config.big_stride[0] > 1:
            raise ValueError(
                'bilinear upsampling sees the future: set upsampling to "nearest" or time_padding to "same"'
            )

    @property
    def time_stride(self) -> int:
        """Time stride from the input to the merged result."""
        return self.get_submodule(self.names[-1]).time_stride  # type: ignore[return-value]

    def forward(self, x: Tensor, mask: TimeMask | None = None, stream: Stream | None = None) -> Tensor:
        """(B, C, T, F) with the mask of its valid frames -> (B, C', T', F')."""
        merged: Tensor | None = None
        merged_mask: TimeMask | None = None
        for name in self.names:
            branch = self.get_submodule(name)
            y = branch(x, mask, stream)
            y_mask = strided_mask(mask, branch.time_stride)  # type: ignore[arg-type]
            if self.config.merge == "add" and name != "big":
                y = self.get_submodule(f"{name}_e")(y, y_mask, stream)
            if merged is not None:
                size = (y.shape[2], y.shape[3])
                coarse = upsample(merged, self.config.big_stride, size, self.config.upsampling, merged_mask, stream)
                y = coarse + y if self.config.merge == "add" else torch.cat([coarse, y], 1)
            merged, merged_mask = y, y_mask
        assert merged is not None
        if self.config.merge == "concat":
            return self.relu(self.concat(merged, merged_mask, stream))
        # A coarse frame that straddles the end reaches one fine frame past it.
        return self.relu(merged if merged_mask is None else merged_mask.zero_(merged))

    def receptive_field(self, before: ReceptiveField) -> ReceptiveField:
        """The receptive field of the output, from that of the input."""
        merged: ReceptiveField | None = None
        for name in self.names:
            field: ReceptiveField = self.get_submodule(name).receptive_field(before)  # type: ignore[operator]
            if merged is not None:
                field = field.merged(merged.upsampled(self.config.big_stride[0], self.config.upsampling))
            merged = field
        assert merged is not None
        return merged


class BigLittleStage(BigLittleBranches):
    """Big and little branch, their merge, and the fusion block, which carries the stride into the next stage.

    Arguments
    ---------
    in_channels, out_channels : int
    blocks : int
        Blocks n of the plain stage that this one stands for: n - 1 big ones and the fusion block, at least 2.
    config : BigLittleConfig
    stride : (int, int)
        (time, frequency) stride of the fusion block.
    block : callable
        BasicBlock or Bottleneck.
    layers : Layers
    **options
        Passed to every block: shortcut, groups, base_width, squeeze_excite.

    Raises
    ------
    ValueError
        For fewer than 2 blocks, an alpha that does not divide the channels, or bilinear upsampling in causal mode.

    Example
    -------
    >>> stage = BigLittleStage(4, 8, blocks=3, config=BigLittleConfig(alpha=4, beta=2), stride=(2, 2))
    >>> stage(torch.zeros(1, 4, 5, 6)).shape
    torch.Size([1, 8, 3, 3])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        blocks: int,
        config: BigLittleConfig = BigLittleConfig(),  # noqa: B008 (frozen)
        stride: Pair = (1, 1),
        block: BlockFactory = BasicBlock,
        layers: Layers = Layers(),  # noqa: B008 (frozen)
        **options: Any,
    ):
        if blocks < 2:
            raise ValueError(f"a Big-Little stage needs 2 blocks or more, one of them the fusion block; got {blocks}")
        channels = [config.branch_channels(out_channels, j) for j in range(config.branches)]
        super().__init__(
            [
                plain_stage(
                    in_channels,
                    channels[j],
                    blocks - 1 if j == 0 else config.branch_blocks(blocks, j),
                    config.branch_stride(j),
                    block,
                    layers,
                    # The little branch ends in the 1x1 of its merge, so it keeps its activation; the big one is added.
                    last_activation=j > 0,
                    **config.branch_options(options, j),
                )
                for j in range(config.branches)
            ],
            channels,
            config,
            layers,
        )
        self.fusion = Blocks([block(out_channels, out_channels, stride=stride, layers=layers, **options)])

    @property
    def time_stride(self) -> int:
        return super().time_stride * self.fusion.time_stride

    def forward(self, x: Tensor, mask: TimeMask | None = None, stream: Stream | None = None) -> Tensor:
        """(B, C, T, F) with the mask of its valid frames -> (B, C', ceil(T / s), ceil(F / s'))."""
        return self.fusion(super().forward(x, mask, stream), strided_mask(mask, super().time_stride), stream)

    def receptive_field(self, before: ReceptiveField) -> ReceptiveField:
        return self.fusion.receptive_field(super().receptive_field(before))


def mixed_stages(
    in_channels: int,
    channels: Sequence[int],
    blocks: Sequence[int],
    strides: Sequence[Pair],
    big_little_stages: int,
    config: BigLittleConfig,
    block: BlockFactory = BasicBlock,
    layers: Layers = Layers(),  # noqa: B008 (frozen)
    **options: Any,
) -> list[nn.Module]:
    """The stages of a network, Big-Little first and plain after that, each at the resolution of its plain twin.

    Arguments
    ---------
    in_channels : int
        Channels of the stem.
    channels, blocks : sequence of int
        Of each stage.
    strides : sequence of (int, int)
        Stride into each stage. A plain stage strides in its own first block, a Big-Little one in the fusion block of
        the one before it; the first, if it is Big-Little, has none before it and needs (1, 1).
    big_little_stages : int
        How many stages, from the first, are Big-Little; 0 makes a plain network.
    config, block, layers, **options
        As for :class:`BigLittleStage`.

    Example
    -------
    >>> stages = mixed_stages(4, (4, 8), (2, 2), ((1, 1), (2, 2)), 1, BigLittleConfig())
    >>> [type(stage).__name__ for stage in stages], [stage.time_stride for stage in stages]
    (['BigLittleStage', 'Blocks'], [1, 2])
    """
    widths = [in_channels, *channels]
    stages: list[nn.Module] = []
    for index, (count, stride) in enumerate(zip(blocks, strides, strict=True)):
        ends = (widths[index], widths[index + 1], count)
        if index < big_little_stages:
            leaves = strides[index + 1] if index + 1 < big_little_stages else (1, 1)
            stages.append(BigLittleStage(*ends, config, leaves, block, layers, **options))
        else:
            stages.append(plain_stage(*ends, stride, block, layers, **options))
    return stages


class BigLittlePyramid(BigLittleBranches):
    """Branches that run apart through all stages and merge once, at the end: the ablation of frequent merging.

    A stage's n blocks are n in the big branch here, since there is no fusion block to count. The big branch takes its
    extra stride at the very first block.

    Arguments
    ---------
    in_channels : int
    channels, blocks : sequence of int
        Of each stage.
    strides : sequence of (int, int)
        Stride into each stage.
    config : BigLittleConfig
    block, layers, **options
        As for :class:`BigLittleStage`.

    Example
    -------
    >>> pyramid = BigLittlePyramid(4, (4, 8), (2, 2), ((1, 1), (2, 2)), BigLittleConfig(alpha=4, beta=2))
    >>> pyramid(torch.zeros(1, 4, 6, 8)).shape
    torch.Size([1, 8, 3, 4])
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int],
        blocks: Sequence[int],
        strides: Sequence[Pair],
        config: BigLittleConfig,
        block: BlockFactory = BasicBlock,
        layers: Layers = Layers(),  # noqa: B008 (frozen)
        **options: Any,
    ):
        branches = []
        for j in range(config.branches):
            stages: list[Any] = []
            width, extra = in_channels, config.branch_stride(j)
            for index, (stage_channels, count, stride) in enumerate(zip(channels, blocks, strides, strict=True)):
                narrow = config.branch_channels(stage_channels, j)
                stages += plain_stage(
                    width,
                    narrow,
                    count if j == 0 else config.branch_blocks(count, j),
                    (stride[0] * extra[0], stride[1] * extra[1]) if index == 0 else stride,
                    block,
                    layers,
                    last_activation=j > 0 or index < len(channels) - 1,
                    **config.branch_options(options, j),
                )
                width = narrow
            branches.append(Blocks(stages))
        super().__init__(
            branches, [config.branch_channels(channels[-1], j) for j in range(config.branches)], config, layers
        )


class BigLittleStem(nn.Module):
    """The published image nets' stem: 7x7 stride 2, then stride 2 again along a big and a little path, and a 1x1.

    Arguments
    ---------
    in_channels : int
        3 for RGB images.
    channels : int
    alpha : int
        Divides the little path's channels.
    layers : Layers

    Example
    -------
    >>> BigLittleStem(3, 64, alpha=2)(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 64, 8, 8])
    """

    time_stride = 4

    def __init__(self, in_channels: int = 3, channels: int = 64, alpha: int = 2, layers: Layers = Layers()):  # noqa: B008
        super().__init__()
        narrow = BigLittleConfig(alpha=alpha).branch_channels(channels, 1)
        self.conv1, self.bn1 = layers.conv2d(in_channels, channels, 7, stride=2), layers.norm(channels)
        self.b_conv0, self.bn_b0 = layers.conv2d(channels, channels, 3, stride=2), layers.norm(channels)
        self.l_conv0, self.bn_l0 = layers.conv2d(channels, narrow, 3), layers.norm(narrow)
        self.l_conv1, self.bn_l1 = layers.conv2d(narrow, narrow, 3, stride=2), layers.norm(narrow)
        self.l_conv2, self.bn_l2 = layers.conv2d(narrow, channels, 1), layers.norm(channels)
        self.bl_init, self.bn_bl_init = layers.conv2d(channels, channels, 1), layers.norm(channels)
        self.relu = layers.activation(inplace=True)

    def forward(self, x: Tensor, mask: TimeMask | None = None, stream: Stream | None = None) -> Tensor:
        """(B, C, T, F) with the mask of its valid frames -> (B, C', ceil(T / 4), ceil(F / 4))."""
        half, quarter = strided_mask(mask, 2), strided_mask(mask, 4)
        x = self.relu(self.bn1(self.conv1(x, stream), half))
        big = self.bn_b0(self.b_conv0(x, stream), quarter)
        little = self.relu(self.bn_l0(self.l_conv0(x, stream), half))
        little = self.relu(self.bn_l1(self.l_conv1(little, stream), quarter))
        little = self.bn_l2(self.l_conv2(little, stream), quarter)
        return self.relu(self.bn_bl_init(self.bl_init(self.relu(big + little), stream), quarter))

    def receptive_field(self, before: ReceptiveField) -> ReceptiveField:
        """The receptive field of the output, from that of the input."""
        big = little = self.conv1.receptive_field(before)  # type: ignore[operator]
        for layer in (self.l_conv0, self.l_conv1, self.l_conv2):
            little = layer.receptive_field(little)  # type: ignore[operator]
        merged = little.merged(self.b_conv0.receptive_field(big))  # type: ignore[operator]
        return self.bl_init.receptive_field(merged)  # type: ignore[operator]
