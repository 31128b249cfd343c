"""Ablations of the Big-Little stage: more branches, other upsampling, concatenation, or one merge at the end.

Chen et al. (ICLR 2019) compare their network with some of these. No shipped YAML file uses them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from biglittle_asr.nnet.blocks import BasicBlock, BlockFactory, Blocks
from biglittle_asr.nnet.layers import ConvNorm, Layers, Pair, TimeModule, upsample
from biglittle_asr.nnet.lengths import ReceptiveField, TimeMask, strided_mask
from biglittle_asr.nnet.stages import BigLittleConfig, BigLittleStage, plain_stage, stage_branches
from biglittle_asr.nnet.streaming import Stream


class BigLittleBranches(TimeModule):
    """Parallel branches from one input, merged at the resolution of the finest branch.

    Children are `big`, `little` and `little_e`, as in the published checkpoints; further branches are `little2`, ...

    Arguments
    ---------
    branches : sequence of Blocks
        From the coarsest to the finest; adjacent ones differ by a factor of `config.big_stride`. None ends in an
        activation.
    channels : sequence of int
        Output channels of each branch; the merged result has as many as the first.
    config : BigLittleConfig
    layers : Layers
    """

    def __init__(self, branches: Sequence[Blocks], channels: Sequence[int], config: BigLittleConfig, layers: Layers):
        super().__init__()
        self.config = config
        self.names = ["big", "little"] + [f"little{j}" for j in range(2, len(branches))]
        self.time_stride = branches[-1].time_stride
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

    def branch(self, name: str) -> Blocks:
        """The branch of this name."""
        return cast(Blocks, self.get_submodule(name))

    def forward(self, x: Tensor, mask: TimeMask | None = None, stream: Stream | None = None) -> Tensor:
        merged: Tensor | None = None
        merged_mask: TimeMask | None = None
        for name in self.names:
            branch = self.branch(name)
            y = branch(x, mask, stream)
            y_mask = strided_mask(mask, branch.time_stride)
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
        # A coarse frame that straddles the utterance's end reaches one fine frame past it.
        return self.relu(merged if merged_mask is None else merged_mask.zero_(merged))

    def receptive_field(self, before: ReceptiveField) -> ReceptiveField:
        merged: ReceptiveField | None = None
        for name in self.names:
            field = self.branch(name).receptive_field(before)
            if merged is not None:
                field = field.merged(merged.upsampled(self.config.big_stride[0], self.config.upsampling))
            merged = field
        assert merged is not None
        return merged


class BranchedStage(BigLittleBranches):
    """:class:`BigLittleStage` with any number of branches, upsampling and merge; arguments are the same.

    Further branches are `little2`, ..., each with its 1x1; merge "concat" has one 1x1 for all, `concat`.

    Raises
    ------
    ValueError
        As for :class:`BigLittleStage`; also for bilinear upsampling in causal mode.

    Example
    -------
    >>> BranchedStage(4, 8, blocks=4, config=BigLittleConfig(2, 2, branches=3))(torch.zeros(1, 4, 5, 6)).shape
    torch.Size([1, 8, 5, 6])
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
        super().__init__(
            stage_branches(in_channels, out_channels, blocks, config, block, layers, **options),
            [config.branch_channels(out_channels, j) for j in range(config.branches)],
            config,
            layers,
        )
        self.fusion = Blocks([block(out_channels, out_channels, stride=stride, layers=layers, **options)])
        self.merged_stride = self.time_stride
        self.time_stride *= self.fusion.time_stride

    def forward(self, x: Tensor, mask: TimeMask | None = None, stream: Stream | None = None) -> Tensor:
        return self.fusion(super().forward(x, mask, stream), strided_mask(mask, self.merged_stride), stream)

    def receptive_field(self, before: ReceptiveField) -> ReceptiveField:
        return self.fusion.receptive_field(super().receptive_field(before))


def stage_for(config: BigLittleConfig) -> type[BigLittleStage | BranchedStage]:
    """The class for the stages of a config.

    Example
    -------
    >>> stage_for(BigLittleConfig()).__name__, stage_for(BigLittleConfig(merge="concat")).__name__
    ('BigLittleStage', 'BranchedStage')
    """
    return BigLittleStage if config.published else BranchedStage


class BigLittlePyramid(BigLittleBranches):
    """Branches that run separately through all stages and merge once, at the end: the ablation of frequent merging.

    The big branch has all n blocks of a stage, since there is no fusion block. It takes its extra stride in the very
    first block.

    Arguments
    ---------
    in_channels : int
    channels, blocks : sequence of int
        Output channels and number of blocks of each stage.
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
