"""Building blocks of Big-Little networks, for images and for speech: torch only, no files, no audio.

Tensors are (B, C, T, F): batch, channels, frames, mel bins; for images the last two are height and width.
"""

from biglittle_asr.nnet import sparse
from biglittle_asr.nnet.ablations import BigLittleBranches, BigLittlePyramid, BranchedStage, stage_for
from biglittle_asr.nnet.blocks import BasicBlock, Block, Blocks, Bottleneck, TimeBlock, initialize
from biglittle_asr.nnet.folding import fold, is_folded
from biglittle_asr.nnet.layers import (
    AveragePool2d,
    Conv2d,
    ConvNorm,
    Layers,
    Shortcut,
    SqueezeExcite,
    TimeModule,
    upsample,
)
from biglittle_asr.nnet.lengths import (
    ReceptiveField,
    TimeMask,
    frames_to_relative,
    output_length,
    relative_to_frames,
    valid_mask,
)
from biglittle_asr.nnet.normalization import MaskedBatchNorm2d, ZeroPadding
from biglittle_asr.nnet.stages import (
    BigLittleConfig,
    BigLittleStage,
    BigLittleStem,
    big_little_stem,
    mixed_stages,
    plain_stage,
)
from biglittle_asr.nnet.streaming import Stream, StreamState

__all__ = [
    "AveragePool2d",
    "BasicBlock",
    "BigLittleBranches",
    "BigLittleConfig",
    "BigLittlePyramid",
    "BigLittleStage",
    "BigLittleStem",
    "Block",
    "Blocks",
    "Bottleneck",
    "BranchedStage",
    "Conv2d",
    "ConvNorm",
    "Layers",
    "MaskedBatchNorm2d",
    "ReceptiveField",
    "Shortcut",
    "SqueezeExcite",
    "Stream",
    "StreamState",
    "TimeBlock",
    "TimeMask",
    "TimeModule",
    "ZeroPadding",
    "big_little_stem",
    "fold",
    "frames_to_relative",
    "initialize",
    "is_folded",
    "mixed_stages",
    "output_length",
    "plain_stage",
    "relative_to_frames",
    "sparse",
    "stage_for",
    "upsample",
    "valid_mask",
]
