"""Plain and Big-Little stages of residual blocks, and the Big-Little stem of the image networks.

A Big-Little stage (Chen et al., ICLR 2019) has a **big** branch, with most of the blocks at half resolution, and a
**little** branch, with few, narrow blocks at full resolution. It adds the two, and ends in one fusion block:

              .-> big: n - 1 blocks, C channels, 1/2 resolution ----------> upsample x 2 --.
    x (B,C,T,F)                                                                            +-> ReLU -> fusion block
              '-> little: max(1, n // beta - 1) blocks, C / alpha channels -> 1x1 to C ----'

The paper compares this stage with other ways to split and merge, which are in :mod:`biglittle_asr.nnet.ablations`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor

from biglittle_asr.nnet.blocks import BasicBlock, BlockFactory, Blocks
from biglittle_asr.nnet.layers import ConvNorm, Layers, Pair, TimeModule, upsample
from biglittle_asr.nnet.lengths import ReceptiveField, TimeMask, strided_mask
from biglittle_asr.nnet.streaming import Stream


@dataclass(frozen=True)
class BigLittleConfig:
    """How a stage splits into branches and merges them: all rules for alpha, beta and branch strides.

    Branch 0 is the big one. Branch j has C / alpha^j channels and max(1, n // beta^j - 1) blocks, and works at
    1 / big_stride^(branches - 1 - j) of the stage's resolution. With two branches this is the published network. For
    more branches no rule was published; this one is the project's own.

    Example
    -------
    >>> config = BigLittleConfig(alpha=4, beta=2)
    >>> [config.branch_blocks(6, j) for j in range(2)], [config.branch_channels(64, j) for j in range(2)]
    ([5, 2], [64, 16])
    """

    alpha: int = 2
    """Ratio of channels between one branch and the next. Published: 2 for images, 4 for speech."""
    beta: int = 4
    """Ratio of blocks between one branch and the next. Published: 4 for images, 2 or 3 for speech."""
    branches: int = 2
    """Number of branches K."""
    big_stride: Pair = (2, 2)
    """(time, frequency) stride between adjacent branches; 1 or 2 each. (1, 2) keeps the big branch's frame rate."""
    upsampling: str = "nearest"
    """"nearest", which published weights need, or "bilinear", which sees one big frame ahead."""
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

    @property
    def published(self) -> bool:
        """Whether :class:`BigLittleStage` supports it; other stages are in :mod:`biglittle_asr.nnet.ablations`."""
        return (self.branches, self.upsampling, self.merge) == (2, "nearest", "add")

    def branch_blocks(self, blocks: int, branch: int) -> int:
        """Number of blocks of a branch in a stage of `blocks`, one of which is the fusion block."""
        return max(1, blocks // self.beta**branch - 1)

    def branch_channels(self, channels: int, branch: int) -> int:
        """Number of channels of a branch in a stage of `channels`."""
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
        """Block options of a branch: a narrow ResNeXt branch has fewer groups of the same width."""
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
    """Make a stage of a plain ResNet: `blocks` residual blocks, 1 or more, the first of them strided.

    Example
    -------
    >>> import torch
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


class BigLittleStage(TimeModule):
    """Big and little branches, their sum, and the fusion block, which has the stride into the next stage.

    Children are `big`, `little`, `little_e` (the 1x1 of the merge), as in the published checkpoints, and `fusion`.

    Arguments
    ---------
    in_channels, out_channels : int
    blocks : int
        Number n of blocks of the equivalent plain stage, at least 2: n - 1 in the big branch, and the fusion block.
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
        If there are fewer than 2 blocks, alpha does not divide the channels, or the config is not the published one.

    Example
    -------
    >>> import torch
    >>> stage = BigLittleStage(4, 8, blocks=3, config=BigLittleConfig(alpha=4, beta=2), stride=(2, 2))
    >>> stage(torch.zeros(1, 4, 5, 6)).shape
    torch.Size([1, 8, 3, 3])
    """

    names = ("big", "little")
    """Names of the branches."""

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
        super().__init__()
        if not config.published:
            raise ValueError(f"{config} is an ablation: build the stage with nnet.ablations.BranchedStage")
        self.big, self.little = stage_branches(in_channels, out_channels, blocks, config, block, layers, **options)
        self.little_e = ConvNorm(layers, config.branch_channels(out_channels, 1), out_channels, 1)
        self.relu = layers.activation(inplace=True)
        self.fusion = Blocks([block(out_channels, out_channels, stride=stride, layers=layers, **options)])
        self.config, self.time_stride = config, self.fusion.time_stride

    def forward(self, x: Tensor, mask: TimeMask | None = None, stream: Stream | None = None) -> Tensor:
        return self.fusion(self._merged(x, mask, stream), mask, stream)

    def _merged(self, x: Tensor, mask: TimeMask | None, stream: Stream | None) -> Tensor:
        big = self.big(x, mask, stream)
        little = self.little_e(self.little(x, mask, stream), mask, stream)
        y = upsample(big, self.config.big_stride, (little.shape[2], little.shape[3]), stream=stream) + little
        if mask is not None:
            mask.zero_(y)  # a coarse frame that straddles the utterance's end reaches one fine frame past it
        return self.relu(y)

    def receptive_field(self, before: ReceptiveField) -> ReceptiveField:
        big, little = self.big.receptive_field(before), self.little.receptive_field(before)
        return self.fusion.receptive_field(little.merged(big.upsampled(self.config.big_stride[0])))


def stage_branches(
    in_channels: int,
    out_channels: int,
    blocks: int,
    config: BigLittleConfig,
    block: BlockFactory,
    layers: Layers,
    **options: Any,
) -> list[Blocks]:
    """Make the branches of a stage, the big one first; arguments are those of :class:`BigLittleStage`."""
    if blocks < 2:
        raise ValueError(f"a Big-Little stage needs 2 blocks or more, one of them the fusion block; got {blocks}")
    channels = [config.branch_channels(out_channels, j) for j in range(config.branches)]
    return [
        plain_stage(
            in_channels,
            channels[j],
            blocks - 1 if j == 0 else config.branch_blocks(blocks, j),
            config.branch_stride(j),
            block,
            layers,
            # The little branch is followed by the 1x1 of the merge, so it keeps its activation; the big one is added.
            last_activation=j > 0,
            **config.branch_options(options, j),
        )
        for j in range(config.branches)
    ]


def mixed_stages(
    in_channels: int,
    channels: Sequence[int],
    blocks: Sequence[int],
    strides: Sequence[Pair],
    big_little_stages: int,
    config: BigLittleConfig,
    block: BlockFactory = BasicBlock,
    layers: Layers = Layers(),  # noqa: B008 (frozen)
    stage: Callable[..., TimeModule] = BigLittleStage,
    **options: Any,
) -> list[TimeModule]:
    """Make the stages of a network, first Big-Little and then plain, each at the resolution of its plain twin.

    Arguments
    ---------
    in_channels : int
        Channels of the stem.
    channels, blocks : sequence of int
        Output channels and number of blocks of each stage.
    strides : sequence of (int, int)
        Stride into each stage. A plain stage strides in its own first block; a Big-Little stage, in the fusion block of
        the previous stage. If the first stage is Big-Little, its stride must be (1, 1).
    big_little_stages : int
        Number of Big-Little stages, from the first; 0 makes a plain network.
    config, block, layers, **options
        As for :class:`BigLittleStage`.
    stage : callable
        Class of Big-Little stages; see :func:`biglittle_asr.nnet.ablations.stage_for`.

    Example
    -------
    >>> stages = mixed_stages(4, (4, 8), (2, 2), ((1, 1), (2, 2)), 1, BigLittleConfig())
    >>> [type(stage).__name__ for stage in stages], [stage.time_stride for stage in stages]
    (['BigLittleStage', 'Blocks'], [1, 2])
    """
    widths = [in_channels, *channels]
    stages: list[TimeModule] = []
    for index, (count, stride) in enumerate(zip(blocks, strides, strict=True)):
        ends = (widths[index], widths[index + 1], count)
        if index < big_little_stages:
            leaves = strides[index + 1] if index + 1 < big_little_stages else (1, 1)
            stages.append(stage(*ends, config, leaves, block, layers, **options))
        else:
            stages.append(plain_stage(*ends, stride, block, layers, **options))
    return stages


class BigLittleStem(TimeModule):
    """The stem of the published image networks: 7x7 of stride 2, a big and a little path of stride 2, and a 1x1.

    Arguments
    ---------
    in_channels : int
        3 for RGB images.
    channels : int
    alpha : int
        The little path has 1 / alpha of the channels.
    layers : Layers

    Example
    -------
    >>> import torch
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
        return big_little_stem(self, x, mask, stream)

    def receptive_field(self, before: ReceptiveField) -> ReceptiveField:
        big = little = self.conv1.receptive_field(before)
        for layer in (self.l_conv0, self.l_conv1, self.l_conv2):
            little = layer.receptive_field(little)
        merged = little.merged(self.b_conv0.receptive_field(big))
        return self.bl_init.receptive_field(merged)


def big_little_stem(layers: Any, x: Tensor, mask: TimeMask | None = None, stream: Stream | None = None) -> Tensor:
    """Compute the stem of a module that has the layers of :class:`BigLittleStem`, as published networks do."""
    half, quarter = strided_mask(mask, 2), strided_mask(mask, 4)
    x = layers.relu(layers.bn1(layers.conv1(x, stream=stream), half))
    big = layers.bn_b0(layers.b_conv0(x, stream=stream), quarter)
    little = layers.relu(layers.bn_l0(layers.l_conv0(x, stream=stream), half))
    little = layers.relu(layers.bn_l1(layers.l_conv1(little, stream=stream), quarter))
    little = layers.bn_l2(layers.l_conv2(little, stream=stream), quarter)
    merged = layers.bl_init(layers.relu(big + little), stream=stream)
    return cast(Tensor, layers.relu(layers.bn_bl_init(merged, quarter)))
