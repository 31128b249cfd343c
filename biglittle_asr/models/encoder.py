"""Acoustic encoders: log-mel features in, one vector every `time_stride` frames out.

:class:`BigLittleEncoder` is one constructor for Big-Little networks and for the plain twins they are compared with:
same stem, same head, same resolution in every stage; only the stages differ. :func:`create_encoder` makes the named
presets. The networks follow Chen et al. (ICLR 2019), section 4.3; the speech half of that work was never published,
so depths, widths and strides are this project's reading of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from biglittle_asr.messages import unknown
from biglittle_asr.models.checks import check_fields, check_four, check_positive
from biglittle_asr.nnet import (
    BasicBlock,
    BigLittleConfig,
    BigLittlePyramid,
    Blocks,
    Layers,
    ReceptiveField,
    Stream,
    StreamState,
    TimeBlock,
    TimeMask,
    frames_to_relative,
    initialize,
    mixed_stages,
    output_length,
    relative_to_frames,
)
from biglittle_asr.nnet.layers import ConvNorm, Pair
from biglittle_asr.nnet.lengths import IntOrTensor, strided_mask

TIME_STRIDES: dict[int, tuple[int, ...]] = {
    1: (1, 1, 1, 1, 1),
    2: (2, 1, 1, 1, 1),
    4: (2, 1, 2, 1, 1),
    8: (2, 1, 2, 2, 1),
}
"""Total time stride -> time stride of the stem and of the entry to each stage."""

FREQUENCY_STRIDES = (2, 1, 2, 2, 2)
"""Frequency stride of the stem and of the entry to each stage."""

BLOCK_OPTIONS = ("shortcut", "squeeze_excite")
"""Arguments of BasicBlock that are left to choose."""


@dataclass(frozen=True)
class EncoderConfig:
    """The shape of an acoustic encoder. Every field is an argument of :func:`create_encoder`, and of a YAML."""

    input_size: int = 80
    """Features a frame, all channels counted: mel bins x `input_channels`."""
    input_channels: int = 1
    """1 for log-mel features, 3 with deltas and delta-deltas, which come as (static, delta, delta-delta)."""
    channels: Sequence[int] = (32, 64, 128, 256)
    """Output channels of the four stages; the stem has those of the first."""
    blocks: Sequence[int] = (3, 3, 2, 2)
    """Basic blocks of the four stages."""
    time_stride: int = 4
    """Frames in per frame out: 1 (a hybrid's one posterior a frame), 2, 4 (default), 8."""
    pool_frequency: bool = True
    """True averages over frequency before the head. False shows the head every bin, so that it need not learn from the
    border's zeros where in frequency something is: faster to train, at 1/20 more MACs."""
    output_size: int = 512
    """Dimension D of the output."""
    context_blocks: int = 0
    """Blocks that convolve over time only, behind the head: for words to be spelled as a whole, a frame has to see more
    of them than the stages show it."""
    context_kernel: int = 15
    """Frames that each of these sees, at the time stride of the output; odd."""
    big_little_stages: int = 4
    """How many stages, from the first, are Big-Little; 0 makes the plain twin. The image nets leave the last plain."""
    alpha: int = 4
    """Divides the channels of the little branch."""
    beta: int = 2
    """Divides the blocks of the little branch, which has max(1, n // beta - 1) in a stage of n."""
    branches: int = 2
    """Number of branches; the published networks have 2."""
    big_stride: Pair = (2, 2)
    """(time, frequency) stride of the big branch inside its stage; (1, 2) keeps its time resolution."""
    upsampling: str = "nearest"
    """How the big branch comes back to full resolution: "nearest" or "bilinear"."""
    merge: str = "add"
    """"add" or "concat"."""
    pyramid: bool = False
    """True merges the branches once, before the head, instead of once a stage: an ablation."""
    time_padding: str = "same"
    """"same", or "causal": no frame sees the future."""
    block: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of every block: those of `BLOCK_OPTIONS`."""

    def __post_init__(self) -> None:
        check_positive(self, ("input_size", "input_channels", "output_size", "context_kernel"))
        check_four(self, ("channels", "blocks"))
        if not isinstance(self.context_blocks, int) or self.context_blocks < 0:
            raise ValueError(f"context_blocks is {self.context_blocks!r}: take a whole number from 0 up")
        if not isinstance(self.time_stride, int) or self.time_stride not in TIME_STRIDES:
            raise ValueError(f"time_stride is {self.time_stride!r}: take one of {', '.join(map(str, TIME_STRIDES))}")
        for option in self.block:
            if option not in BLOCK_OPTIONS:
                raise ValueError(unknown("block argument", option, BLOCK_OPTIONS))
        if self.input_size % self.input_channels:
            raise ValueError(
                f"input_size {self.input_size} is not a multiple of input_channels {self.input_channels}: "
                "input_size counts all features of a frame, mel bins x channels"
            )
        if self.big_little_stages not in range(5):
            raise ValueError(f"big_little_stages is {self.big_little_stages!r}: take 0 (the plain twin) to 4")
        if self.pyramid and self.big_little_stages != 4:
            raise ValueError("pyramid runs the branches through all stages: set big_little_stages to 4")


class BigLittleEncoder(nn.Module):
    """Acoustic encoder that stands wherever SpeechBrain expects one. Its output does not depend on the padding.

    Arguments
    ---------
    **config
        Fields of :class:`EncoderConfig`.

    Attributes
    ----------
    config : EncoderConfig
    output_size : int
        Dimension D of the output.
    time_stride : int
        Frames in per frame out; T' = ceil(T / time_stride).

    Raises
    ------
    ValueError
        For a value that no network can be built with.

    Example
    -------
    >>> encoder = BigLittleEncoder(input_size=40, alpha=4, beta=2)
    >>> encoder(torch.randn(2, 101, 40), torch.tensor([1.0, 0.5])).shape
    torch.Size([2, 26, 512])
    """

    def __init__(self, **config: Any):
        super().__init__()
        check_fields(EncoderConfig, config, "encoder argument")
        self.config = c = EncoderConfig(**config)
        self.output_size, self.time_stride = c.output_size, c.time_stride
        layers = Layers(time_padding=c.time_padding)  # type: ignore[arg-type]
        strides = list(zip(TIME_STRIDES[c.time_stride], FREQUENCY_STRIDES, strict=True))
        self.stem = ConvNorm(layers, c.input_channels, c.channels[0], 5, strides[0])
        self.relu = layers.activation(inplace=True)
        self.stages = nn.ModuleList(_stages(c, layers, strides[1:]))
        bins = output_length(c.input_size // c.input_channels, math.prod(FREQUENCY_STRIDES))
        self.head = nn.Linear(c.channels[-1] * (1 if c.pool_frequency else bins), c.output_size)
        self.time_blocks = Blocks(TimeBlock(c.output_size, c.context_kernel, layers) for _ in range(c.context_blocks))
        initialize(self)

    def forward(self, x: Tensor, lengths: Tensor | None = None, **kwargs: Any) -> Tensor:
        """The encoder as SpeechBrain calls it.

        Arguments
        ---------
        x : Tensor, (B, T, F)
            Features, padded at the end.
        lengths : Tensor of float, (B,), optional
            Relative lengths in (0, 1]; None calls every frame valid.
        **kwargs
            What SpeechBrain's recipes pass to any encoder and a convolutional one has no use for (`pad_idx`,
            `dynchunktrain_config`).

        Returns
        -------
        Tensor, (B, T', D)
            Zero on padding.
        """
        frames = None if lengths is None else relative_to_frames(lengths, x.shape[1])
        return self._encode(x, frames)

    def encode(self, x: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder as this project calls it: integer lengths in and out.

        Arguments
        ---------
        x : Tensor, (B, T, F)
        frames : Tensor of int64, (B,)
            Valid frames of each utterance, 1 .. T.

        Returns
        -------
        Tensor, (B, T', D), and Tensor of int64, (B,)

        Example
        -------
        >>> encoder = create_encoder("bl_resnet22_half", input_size=40)
        >>> y, frames = encoder.encode(torch.randn(2, 101, 40), torch.tensor([101, 50]))
        >>> y.shape, frames
        (torch.Size([2, 26, 512]), tensor([26, 13]))
        """
        return self._encode(x, frames), self.output_lengths(frames)

    def initial_state(self, batch: int = 1) -> StreamState:
        """The state before the first :meth:`step`, for `batch` streams that run side by side."""
        weight = self.head.weight
        return self._step(weight.new_zeros(batch, 0, self.config.input_size), None)[1]

    def step(self, x: Tensor, state: StreamState) -> tuple[Tensor, StreamState]:
        """The encoder on a stream: the next frames in, the frames out that they complete.

        Put together, what comes out is what :meth:`encode` makes of the whole utterance, whatever the chunks. After n
        frames in, ceil(n / time_stride) have come out; the first with the first. Work and state of a step do not depend
        on what went before.

        Arguments
        ---------
        x : Tensor, (B, T, F)
            The next T frames of each stream; 0 or more.
        state : tuple of Tensor
            From :meth:`initial_state` or the last step. It is left as it was: from a state that was held on to, a
            stream can go on a second time.

        Returns
        -------
        Tensor, (B, T', D), and the state after these frames
            T' may be 0.

        Raises
        ------
        ValueError
            For an encoder that is not causal or is in training mode, and for a state of another batch.

        Example
        -------
        >>> encoder = create_encoder("bl_resnet22_half", input_size=40, time_padding="causal").eval()
        >>> state = encoder.initial_state()
        >>> for chunk in torch.randn(1, 20, 40).split(7, dim=1):
        ...     y, state = encoder.step(chunk, state)
        ...     print(tuple(y.shape))
        (1, 2, 512)
        (1, 2, 512)
        (1, 1, 512)
        """
        if state[0].shape[0] != x.shape[0]:
            raise ValueError(f"the state is that of {state[0].shape[0]} streams, but the chunk has {x.shape[0]}")
        return self._step(x, state)

    @torch.no_grad()
    def _step(self, x: Tensor, state: StreamState | None) -> tuple[Tensor, StreamState]:
        if self.training:
            raise ValueError("an encoder in training mode cannot stream: call its eval() first")
        stream = Stream(state)
        return self._encode(x, None, stream), stream.state

    def output_lengths(self, n: IntOrTensor) -> IntOrTensor:
        """Frames out for `n` frames in: ceil(n / time_stride)."""
        return output_length(n, self.time_stride)

    def relative_output_lengths(self, lengths: Tensor, size: int) -> Tensor:
        """SpeechBrain's relative lengths of the output, exact, from those of an input of `size` frames."""
        frames = self.output_lengths(relative_to_frames(lengths, size))
        return frames_to_relative(frames, output_length(size, self.time_stride))

    @property
    def context(self) -> tuple[int, int]:
        """Input frames (left, right) before and after frame `time_stride * t` on which output frame t can depend.

        Every t keeps to it, and some t reach it. In causal mode nothing lies to the right.

        Raises
        ------
        ValueError
            With squeeze-excite, which averages over all time.

        Example
        -------
        >>> create_encoder("bl_resnet22").context, create_encoder("bl_resnet22", time_padding="causal").context
        ((112, 88), (200, 0))
        """
        field = self._receptive_field()
        return field.left, field.right

    @property
    def alignment(self) -> int:
        """An input shifted by a multiple of so many frames gives the output shifted by whole frames, and the same.

        It is a multiple of `time_stride`, larger where the big branches of the last stages stride further than that.
        Long audio cut into windows that begin at multiples of it, and overlap by `context`, comes out as in one piece.

        Raises
        ------
        ValueError
            With squeeze-excite, which averages over all time.

        Example
        -------
        >>> create_encoder("bl_resnet22").alignment, create_encoder("resnet22").alignment
        (8, 4)
        """
        return self._receptive_field().alignment

    def _receptive_field(self) -> ReceptiveField:
        field = self.stem.receptive_field(ReceptiveField())
        for stage in self.stages:
            field = stage.receptive_field(field)  # type: ignore[operator]
        return self.time_blocks.receptive_field(field)

    def _encode(self, x: Tensor, frames: Tensor | None, stream: Stream | None = None) -> Tensor:
        c = self.config
        if x.dim() != 3 or x.shape[2] != c.input_size:
            raise ValueError(
                f"features of shape {tuple(x.shape)} do not fit an encoder of input_size {c.input_size}: "
                "it takes (batch, frames, input_size)"
            )
        batch, size, _ = x.shape
        if frames is not None and frames.shape != (batch,):
            raise ValueError(
                f"lengths of shape {tuple(frames.shape)} do not fit a batch of {batch}: "
                "take one length for each utterance"
            )
        mask = TimeMask.for_batch(frames, size)
        planes = x.unflatten(2, (c.input_channels, -1)).transpose(1, 2)
        # Convolutions are fastest channels last. Copied, because with a single channel .contiguous() is satisfied by
        # strides that the convolution takes for channels first, and the whole network would follow.
        x = torch.empty(planes.shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        x.copy_(planes)
        if mask is not None:
            mask.zero_(x)
        mask = strided_mask(mask, TIME_STRIDES[c.time_stride][0])
        x = self.relu(self.stem(x, mask, stream))
        for stage in self.stages:
            x = stage(x, mask, stream)
            mask = strided_mask(mask, stage.time_stride)  # type: ignore[arg-type]
        # (B, C, T', F') -> (B, T', F' * C)
        x = x.mean(3).transpose(1, 2) if c.pool_frequency else x.permute(0, 2, 3, 1).flatten(2)
        # (B, T', D) -> (B, D, T', 1), and back
        x = self.head(x).transpose(1, 2).unsqueeze(3)
        if mask is not None:
            mask.zero_(x)
        return self.time_blocks(x, mask, stream).squeeze(3).transpose(1, 2)


def _stages(c: EncoderConfig, layers: Layers, strides: Sequence[Pair]) -> list[nn.Module]:
    """The network between stem and head; `strides` lead into each stage."""
    big_little = BigLittleConfig(
        alpha=c.alpha,
        beta=c.beta,
        branches=c.branches,
        big_stride=c.big_stride,
        upsampling=c.upsampling,
        merge=c.merge,
    )
    if c.pyramid:
        return [
            BigLittlePyramid(c.channels[0], c.channels, c.blocks, strides, big_little, BasicBlock, layers, **c.block)
        ]
    return mixed_stages(
        c.channels[0], c.channels, c.blocks, strides, c.big_little_stages, big_little, BasicBlock, layers, **c.block
    )


RESNET22 = {"blocks": (3, 3, 2, 2)}
RESNET34 = {"blocks": (3, 4, 6, 3)}
RESNET36 = {"blocks": (3, 4, 6, 4)}
PLAIN = {"big_little_stages": 0}
HALF = {"channels": (16, 32, 64, 128)}
CONTEXT = {"channels": (24, 48, 96, 192), "pool_frequency": False, "output_size": 256, "context_blocks": 8}
# Many narrow blocks, since a Big-Little stage saves in all but the last; of the four, the last stage saves least.
DEEP_CONTEXT = {**RESNET36, **CONTEXT, "channels": (32, 64, 64, 64)}

PRESETS: dict[str, dict[str, Any]] = {
    "resnet22": {**RESNET22, **PLAIN},
    "bl_resnet22": {**RESNET22},
    "resnet34": {**RESNET34, **PLAIN},
    "bl_resnet34": {**RESNET34},
    "resnet22_half": {**RESNET22, **PLAIN, **HALF},
    "bl_resnet22_half": {**RESNET22, **HALF},
    "resnet34_half": {**RESNET34, **PLAIN, **HALF},
    "bl_resnet34_half": {**RESNET34, **HALF},
    "resnet22_context": {**RESNET22, **PLAIN, **CONTEXT},
    "bl_resnet22_context": {**RESNET22, **CONTEXT, "big_stride": (1, 2)},
    "resnet36_context": {**DEEP_CONTEXT, **PLAIN},
    "bl_resnet36_context": {**DEEP_CONTEXT},
    "bl_pyramid_resnet22": {**RESNET22, "pyramid": True},
    "bl_pyramid_resnet34": {**RESNET34, "pyramid": True},
}
"""Preset -> what it sets in :class:`EncoderConfig`. A new preset is a new entry here."""


def list_encoders() -> list[str]:
    """Names of the presets, sorted.

    Example
    -------
    >>> "bl_resnet22" in list_encoders()
    True
    """
    return sorted(PRESETS)


def create_encoder(name: str, **overrides: Any) -> BigLittleEncoder:
    """An encoder by the name of its preset, with any field of :class:`EncoderConfig` overridden.

    Arguments
    ---------
    name : str
        One of :func:`list_encoders`.
    **overrides
        For example alpha, beta, input_size, input_channels, time_stride, time_padding.

    Raises
    ------
    ValueError
        For an unknown preset or field, or a value that no network can be built with.

    Example
    -------
    >>> encoder = create_encoder("bl_resnet22", alpha=4, beta=2, input_size=192, input_channels=3, time_stride=1)
    >>> sum(p.numel() for p in encoder.parameters())
    3203184
    """
    if name not in PRESETS:
        raise ValueError(unknown("encoder preset", name, PRESETS))
    return BigLittleEncoder(**{**PRESETS[name], **overrides})
