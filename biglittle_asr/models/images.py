"""Image classifiers: Big-Little ResNet, ResNeXt and SE-ResNeXt, and the plain networks as their baselines.

:class:`ImageClassifier` builds all of them: a stem, four stages, the mean over the image, and a linear layer.
:func:`create_model` makes the named networks of `MODELS`. Big-Little networks (Chen et al., ICLR 2019) have the layers
and layer names of the authors' published checkpoints; plain ones (He et al., 2016, stride on the 3x3) have those of
torchvision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from torch import Tensor, nn

from biglittle_asr.messages import unknown
from biglittle_asr.models.checks import check_fields, check_four, check_positive
from biglittle_asr.nnet import (
    BasicBlock,
    BigLittleConfig,
    BigLittleStem,
    Bottleneck,
    Conv2d,
    MaskedBatchNorm2d,
    big_little_stem,
    initialize,
    mixed_stages,
    stage_for,
)
from biglittle_asr.nnet.blocks import BlockFactory
from biglittle_asr.nnet.layers import Pair

STEM_CHANNELS = 64
STRIDES: tuple[Pair, ...] = ((1, 1), (2, 2), (2, 2), (2, 2))
"""Stride into each stage, the same for Big-Little and plain networks."""
BLOCKS: dict[str, BlockFactory] = {"basic": BasicBlock, "bottleneck": Bottleneck}
STEMS = ("imagenet", "small")


@dataclass(frozen=True)
class ImageConfig:
    """The shape of an image classifier. Every field is an argument of :func:`create_model` in Python and in YAML."""

    num_classes: int = 1000
    """Number of classes, the size of the output."""
    blocks: Sequence[int] = (3, 4, 6, 3)
    """Number n of residual blocks in each of the four stages."""
    channels: Sequence[int] = (256, 512, 1024, 2048)
    """Output channels of the four stages."""
    block: str = "bottleneck"
    """Type of the blocks: "basic" (two 3x3) or "bottleneck" (1x1, 3x3, 1x1)."""
    groups: int = 1
    """Groups of the bottleneck's 3x3 (ResNeXt: 32 or 64)."""
    base_width: int = 64
    """Channels per group at 64 planes (4 for ResNeXt's "4d"); 64 with one group is ResNet."""
    squeeze_excite: bool = False
    """Whether every block has a squeeze-and-excitation layer, which scales channels by gates from their means."""
    shortcut: str = "pool"
    """Shortcut of strided blocks: "pool" (average, then 1x1, as in Big-Little) or "conv" (strided 1x1, torchvision)."""
    big_little_stages: int = 3
    """Number of Big-Little stages, from the first: 3 as published, since the last has only 7x7 pixels; 0 for plain."""
    alpha: int = 2
    """The little branch has 1 / alpha of the channels, in the stem too."""
    beta: int = 4
    """In a stage of n blocks, the little branch has max(1, n // beta - 1)."""
    branches: int = 2
    """Number of branches per stage; the published networks have 2."""
    upsampling: str = "nearest"
    """Upsampling of the big branch to full resolution: "nearest", which published weights need, or "bilinear"."""
    merge: str = "add"
    """Merge of the branches: "add" or "concat"."""
    stem: str = "imagenet"
    """Type of the stem. "imagenet" divides height and width by 4. "small", for images of 32 or 64 pixels, is one 3x3
    convolution, as is usual on CIFAR, in Big-Little and plain networks alike; it was not published for Big-Little."""
    small_stem_stride: int = 1
    """Stride of the "small" stem; 2 needs a quarter of the MACs. The "imagenet" stem has its own."""
    input_channels: int = 3
    """3 for color images, 1 for gray ones."""

    def __post_init__(self) -> None:
        check_positive(self, ("num_classes", "input_channels", "groups", "base_width"))
        check_four(self, ("blocks", "channels"))
        if self.block not in BLOCKS:
            raise ValueError(f"block is {self.block!r}: take {' or '.join(BLOCKS)}")
        if self.stem not in STEMS:
            raise ValueError(f"stem is {self.stem!r}: take {' or '.join(STEMS)}")
        if self.small_stem_stride not in (1, 2):
            raise ValueError(f"small_stem_stride is {self.small_stem_stride!r}: take 1 or 2")
        if self.big_little_stages not in range(5):
            raise ValueError(f"big_little_stages is {self.big_little_stages!r}: take 0 (plain) to 4")


class ImageClassifier(nn.Module):
    """A network that maps images to one score (logit) per class.

    Arguments
    ---------
    config : ImageConfig, optional
        The shape of the network; by default the default of every field.
    **fields
        Fields of :class:`ImageConfig` that differ from it.

    Attributes
    ----------
    config : ImageConfig

    Raises
    ------
    ValueError
        If no network can be built with a value.

    Example
    -------
    >>> import torch
    >>> net = ImageClassifier(block="basic", channels=(8, 16, 24, 32), blocks=(2, 2, 2, 2), num_classes=10)
    >>> net(torch.zeros(4, 3, 64, 64)).shape
    torch.Size([4, 10])
    """

    def __init__(self, config: ImageConfig | None = None, **fields: Any):
        super().__init__()
        check_fields(ImageConfig, fields, "image model argument")
        self.config = c = replace(config or ImageConfig(), **fields)
        # Published files have no prefix for the stem's layers, so they belong to the network itself.
        for name, layer in _stem(c).named_children():
            self.add_module(name, layer)
        big_little = BigLittleConfig(c.alpha, c.beta, c.branches, upsampling=c.upsampling, merge=c.merge)
        self.layer1, self.layer2, self.layer3, self.layer4 = mixed_stages(
            STEM_CHANNELS,
            c.channels,
            c.blocks,
            STRIDES,
            c.big_little_stages,
            big_little,
            BLOCKS[c.block],
            shortcut=c.shortcut,
            groups=c.groups,
            base_width=c.base_width,
            squeeze_excite=c.squeeze_excite,
            stage=stage_for(big_little),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(c.channels[-1], c.num_classes)
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, height, width) of any size, normalized as in training, to logits (B, num_classes)."""
        if x.dim() != 4 or x.shape[1] != self.config.input_channels:
            raise ValueError(
                f"images of shape {tuple(x.shape)} do not fit a network of input_channels "
                f"{self.config.input_channels}: it takes (batch, input_channels, height, width)"
            )
        x = x.to(self.fc.bias.dtype)
        x = big_little_stem(self, x) if _has_big_little_stem(self.config) else plain_stem(self, x)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return cast(Tensor, self.fc(self.avgpool(x).flatten(1)))


class PlainStem(nn.Module):
    """A convolution, followed by max-pooling in the ImageNet networks.

    Example
    -------
    >>> import torch
    >>> PlainStem(3, 64, kernel_size=3)(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 64, 32, 32])
    """

    def __init__(self, in_channels: int, channels: int, kernel_size: int, stride: int = 1, pool: bool = False):
        super().__init__()
        self.conv1, self.bn1 = Conv2d(in_channels, channels, kernel_size, stride), MaskedBatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if pool else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return plain_stem(self, x)


def plain_stem(layers: Any, x: Tensor) -> Tensor:
    """Compute the stem of a module that has the layers of :class:`PlainStem`."""
    return cast(Tensor, layers.maxpool(layers.relu(layers.bn1(layers.conv1(x)))))


def _has_big_little_stem(c: ImageConfig) -> bool:
    return c.stem == "imagenet" and c.big_little_stages > 0


def _stem(c: ImageConfig) -> nn.Module:
    if _has_big_little_stem(c):
        return BigLittleStem(c.input_channels, STEM_CHANNELS, c.alpha)
    if c.stem == "small":
        return PlainStem(c.input_channels, STEM_CHANNELS, 3, c.small_stem_stride)
    return PlainStem(c.input_channels, STEM_CHANNELS, 7, 2, pool=True)


PLAIN = {"big_little_stages": 0, "shortcut": "conv"}
BASIC = {"block": "basic", "channels": (64, 128, 256, 512)}
DEPTH_50 = {"blocks": (3, 4, 6, 3)}
RESNEXT_32X4D = {"groups": 32, "base_width": 4}
RESNEXT_64X4D = {"groups": 64, "base_width": 4}
SE_RESNEXT_32X4D = {**RESNEXT_32X4D, "squeeze_excite": True}
# Published Big-Little networks have other numbers of blocks than plain networks of the same name.
DEPTH_101, BIG_LITTLE_DEPTH_101 = {"blocks": (3, 4, 23, 3)}, {"blocks": (4, 8, 18, 3)}
DEPTH_152, BIG_LITTLE_DEPTH_152 = {"blocks": (3, 8, 36, 3)}, {"blocks": (5, 12, 30, 3)}

MODELS: dict[str, dict[str, Any]] = {
    "resnet18": {**PLAIN, **BASIC, "blocks": (2, 2, 2, 2)},
    "resnet34": {**PLAIN, **BASIC, "blocks": (3, 4, 6, 3)},
    "resnet50": {**PLAIN, **DEPTH_50},
    "resnet101": {**PLAIN, **DEPTH_101},
    "resnet152": {**PLAIN, **DEPTH_152},
    "resnext50_32x4d": {**PLAIN, **DEPTH_50, **RESNEXT_32X4D},
    "resnext101_32x4d": {**PLAIN, **DEPTH_101, **RESNEXT_32X4D},
    "resnext101_64x4d": {**PLAIN, **DEPTH_101, **RESNEXT_64X4D},
    "seresnext50_32x4d": {**PLAIN, **DEPTH_50, **SE_RESNEXT_32X4D},
    "seresnext101_32x4d": {**PLAIN, **DEPTH_101, **SE_RESNEXT_32X4D},
    "bl_resnet50": {**DEPTH_50},
    "bl_resnet101": {**BIG_LITTLE_DEPTH_101},
    "bl_resnet152": {**BIG_LITTLE_DEPTH_152},
    "bl_resnext50_32x4d": {**DEPTH_50, **RESNEXT_32X4D},
    "bl_resnext101_32x4d": {**BIG_LITTLE_DEPTH_101, **RESNEXT_32X4D},
    "bl_resnext101_64x4d": {**BIG_LITTLE_DEPTH_101, **RESNEXT_64X4D},
    "bl_seresnext50_32x4d": {**DEPTH_50, **SE_RESNEXT_32X4D},
    "bl_seresnext101_32x4d": {**BIG_LITTLE_DEPTH_101, **SE_RESNEXT_32X4D},
}
"""Model -> fields of :class:`ImageConfig` that it sets. A new model is a new entry here."""


def list_models() -> list[str]:
    """Names of the image models, sorted.

    Example
    -------
    >>> "bl_resnet50" in list_models()
    True
    """
    return sorted(MODELS)


def create_model(name: str, **overrides: Any) -> ImageClassifier:
    """Create a named image classifier with random weights and any fields of :class:`ImageConfig` overridden.

    Arguments
    ---------
    name : str
        One of :func:`list_models`.
    **overrides
        For example alpha, beta, num_classes, stem.

    Raises
    ------
    ValueError
        If the model or a field is unknown, or no network can be built with a value.

    Example
    -------
    >>> import torch
    >>> with torch.device("meta"):
    ...     net = create_model("bl_resnet50", alpha=2, beta=4, num_classes=1000)
    >>> sum(p.numel() for p in net.parameters())
    26694568
    """
    if name not in MODELS:
        raise ValueError(unknown("image model", name, MODELS))
    return ImageClassifier(**{**MODELS[name], **overrides})
