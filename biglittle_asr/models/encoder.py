"""Acoustic encoders, which map log-mel features to one vector per `time_stride` frames.

:class:`BigLittleEncoder` builds Big-Little networks and their plain twins, the baselines with the same stem, head and
resolution in every stage; only the stages differ. :func:`create_encoder` makes the named presets. The networks follow
Chen et al. (ICLR 2019), section 4.3. The code of its speech part was never published, so depths, widths and strides
are this project's interpretation.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

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
    TimeModule,
    frames_to_relative,
    initialize,
    mixed_stages,
    output_length,
    relative_to_frames,
    stage_for,
)
from biglittle_asr.nnet.layers import ConvNorm, Pair, TimePadding
from biglittle_asr.nnet.lengths import IntOrTensor, strided_mask

if TYPE_CHECKING:
    from speechbrain.utils.filter_analysis import FilterProperties

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
"""Arguments of BasicBlock that a configuration may set."""


@dataclass(frozen=True)
class EncoderConfig:
    """The shape of an acoustic encoder. Every field is an argument of :func:`create_encoder` in Python and in YAML."""

    input_size: int = 80
    """Features per frame over all channels: mel bins x `input_channels`."""
    input_channels: int = 1
    """1 for log-mel features, 3 with deltas and delta-deltas, in the order (static, delta, delta-delta)."""
    channels: Sequence[int] = (32, 64, 128, 256)
    """Output channels of the four stages; the stem has as many as the first."""
    blocks: Sequence[int] = (3, 3, 2, 2)
    """Basic blocks of the four stages."""
    time_stride: int = 4
    """Input frames per output frame: 1 (a posterior per frame, for hybrid models), 2, 4 or 8."""
    pool_frequency: bool = True
    """True averages over frequency before the head; the network can then tell frequencies only by the zeros at the
    border. False gives the head every bin, which trains faster, at 1/20 more MACs."""
    output_size: int = 512
    """Dimension D of the output."""
    context_blocks: int = 0
    """Blocks after the head that convolve over time only. They widen the context, which spelling whole words needs
    beyond that of the stages."""
    context_kernel: int = 15
    """Kernel size of each of these blocks in output frames; odd."""
    big_little_stages: int = 4
    """Number of Big-Little stages, from the first; 0 makes the plain twin. In the image networks, the last is plain."""
    alpha: int = 4
    """The little branch has 1 / alpha of the channels."""
    beta: int = 2
    """In a stage of n blocks, the little branch has max(1, n // beta - 1)."""
    branches: int = 2
    """Number of branches; the published networks have 2."""
    big_stride: Pair = (2, 2)
    """(time, frequency) stride of the big branch inside its stage; (1, 2) keeps its time resolution."""
    upsampling: str = "nearest"
    """Upsampling of the big branch to full resolution: "nearest" or "bilinear"."""
    merge: str = "add"
    """Merge of the branches: "add" or "concat"."""
    pyramid: bool = False
    """True merges the branches once, before the head, instead of once per stage: an ablation."""
    time_padding: TimePadding = "same"
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


@dataclass
class StreamingContext:
    """The state that SpeechBrain passes from one chunk of a stream to the next."""

    state: StreamState | None = None
    """None before the first chunk, which determines the number of streams."""


class BigLittleEncoder(nn.Module):
    """Acoustic encoder that works wherever SpeechBrain expects one. Its output does not depend on padding.

    Arguments
    ---------
    config : EncoderConfig, optional
        The shape of the network; by default the default of every field.
    **fields
        Fields of :class:`EncoderConfig` that differ from it.

    Attributes
    ----------
    config : EncoderConfig
    output_size : int
        Dimension D of the output.
    time_stride : int
        Input frames per output frame; T' = ceil(T / time_stride).

    Raises
    ------
    ValueError
        If no network can be built with a value.

    Example
    -------
    >>> encoder = BigLittleEncoder(input_size=40, alpha=4, beta=2)
    >>> encoder(torch.randn(2, 101, 40), torch.tensor([1.0, 0.5])).shape
    torch.Size([2, 26, 512])
    """

    def __init__(self, config: EncoderConfig | None = None, **fields: Any):
        super().__init__()
        check_fields(EncoderConfig, fields, "encoder argument")
        self.config = c = replace(config or EncoderConfig(), **fields)
        self.output_size, self.time_stride = c.output_size, c.time_stride
        layers = Layers(time_padding=c.time_padding)
        strides = list(zip(TIME_STRIDES[c.time_stride], FREQUENCY_STRIDES, strict=True))
        self.stem = ConvNorm(layers, c.input_channels, c.channels[0], 5, strides[0])
        self.relu = layers.activation(inplace=True)
        self.stages = nn.ModuleList(_stages(c, layers, strides[1:]))
        bins = output_length(c.input_size // c.input_channels, math.prod(FREQUENCY_STRIDES))
        self.head = nn.Linear(c.channels[-1] * (1 if c.pool_frequency else bins), c.output_size)
        self.time_blocks = Blocks(TimeBlock(c.output_size, c.context_kernel, layers) for _ in range(c.context_blocks))
        initialize(self)

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        pad_idx: int = 0,
        dynchunktrain_config: Any = None,
        *,
        wav_lens: Tensor | None = None,
        wav_len: Tensor | None = None,
    ) -> Tensor:
        """Encode features, called as SpeechBrain calls an encoder.

        Arguments
        ---------
        x : Tensor, (B, T, F)
            Features, padded at the end.
        lengths, wav_lens, wav_len : Tensor of float, (B,), optional
            Relative lengths in (0, 1], under any one of SpeechBrain's names for them. Without them, all frames are
            valid.
        pad_idx : int
            Not used; recipes pass it to every encoder.
        dynchunktrain_config : DynChunkTrainConfig, optional
            Not used, since a causal encoder streams without chunked training. A non-causal encoder, which cannot
            stream, warns.

        Returns
        -------
        Tensor, (B, T', D)
            Zero on padding.

        Raises
        ------
        ValueError
            If features or lengths do not fit, or lengths are given under several names.
        """
        lengths = lengths_by_any_name(lengths, wav_lens, wav_len)
        if dynchunktrain_config is not None and self.config.time_padding != "causal":
            warnings.warn(
                "dynchunktrain_config has no effect on an encoder that sees the future, which cannot stream: "
                'build it with time_padding "causal"',
                stacklevel=4,
            )
        frames = None if lengths is None else relative_to_frames(lengths, x.shape[1])
        return self._encode(x, frames)

    def encode(self, x: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Encode features with integer lengths, as this project calls an encoder.

        Arguments
        ---------
        x : Tensor, (B, T, F)
        frames : Tensor of int64, (B,)
            Number of valid frames of each utterance, 1 .. T.

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
        """The state before the first :meth:`step`, for `batch` parallel streams."""
        weight = self.head.weight
        return self._step(weight.new_zeros(batch, 0, self.config.input_size), None)[1]

    def step(self, x: Tensor, state: StreamState) -> tuple[Tensor, StreamState]:
        """Encode the next frames of a stream, and return the output frames that they complete.

        For any chunks, the concatenated outputs equal those of :meth:`encode` for the whole utterance. After n input
        frames, there are ceil(n / time_stride) output frames; the first input frame gives the first. Computation and
        state size of a step do not grow with the stream.

        Arguments
        ---------
        x : Tensor, (B, T, F)
            The next T frames of each stream; 0 or more.
        state : tuple of Tensor
            From :meth:`initial_state` or the previous step. It is not modified, so a stream can be continued more than
            once from a saved state.

        Returns
        -------
        Tensor, (B, T', D), and the state after these frames
            T' may be 0.

        Raises
        ------
        ValueError
            If the encoder is not causal or is in training mode, or the state has another batch size.

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

    def make_streaming_context(self, dynchunktrain_config: Any = None) -> StreamingContext:
        """Create SpeechBrain's context of parallel streams, for :meth:`forward_streaming`.

        `dynchunktrain_config` is not used: all chunk sizes give the same frames.

        Raises
        ------
        ValueError
            If the encoder is not causal or is in training mode.
        """
        self.initial_state()
        return StreamingContext()

    def forward_streaming(self, x: Tensor, context: StreamingContext) -> Tensor:
        """:meth:`step` as SpeechBrain calls it: (B, T, F) -> (B, T', D); updates the context in place.

        Example
        -------
        >>> encoder = create_encoder("bl_resnet22_half", input_size=40, time_padding="causal").eval()
        >>> context = encoder.make_streaming_context()
        >>> [encoder.forward_streaming(torch.randn(1, 7, 40), context).shape[1] for _ in range(4)]
        [2, 2, 2, 1]
        """
        state = self.initial_state(len(x)) if context.state is None else context.state
        y, context.state = self.step(x, state)
        return y

    def get_filter_properties(self) -> FilterProperties:
        """:attr:`context` in SpeechBrain's terms: a window around frame `time_stride * t`, or ending there if causal.

        Raises
        ------
        ValueError
            With squeeze-excite, which averages over all time.

        Example
        -------
        >>> create_encoder("bl_resnet22").get_filter_properties()
        FilterProperties(window_size=225, stride=4, dilation=1, causal=False)
        """
        # Imported here, since the package takes seconds to import and nothing else needs it.
        from speechbrain.utils.filter_analysis import FilterProperties

        left, right = self.context
        causal = self.config.time_padding == "causal"
        return FilterProperties(left + 1 if causal else 2 * max(left, right) + 1, self.time_stride, causal=causal)

    def output_lengths(self, n: IntOrTensor) -> IntOrTensor:
        """Number of output frames for `n` input frames: ceil(n / time_stride)."""
        return output_length(n, self.time_stride)

    def relative_output_lengths(self, lengths: Tensor, size: int) -> Tensor:
        """Exact relative output lengths for SpeechBrain, from the relative lengths of an input of `size` frames."""
        frames = self.output_lengths(relative_to_frames(lengths, size))
        return frames_to_relative(frames, output_length(size, self.time_stride))

    @property
    def context(self) -> tuple[int, int]:
        """Numbers of input frames before and after frame `time_stride * t` on which output frame t can depend.

        They are the maxima over all t. In causal mode the second is 0.

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
        """Number of input frames such that shifting the input by a multiple of it only shifts the output.

        It is a multiple of `time_stride`, and larger if the big branches of the last stages have a larger stride.
        Windows that begin at its multiples and overlap by `context` give the same output as one pass over long audio.

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
        for stage in self._time_stages():
            field = stage.receptive_field(field)
        return self.time_blocks.receptive_field(field)

    def _time_stages(self) -> Iterable[TimeModule]:
        return cast(Iterable[TimeModule], self.stages)

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
        # Convolutions are fastest in channels-last format. With a single channel, .contiguous() may keep strides that
        # the convolution takes for channels first, and the whole network would follow; so the input is copied.
        # The copy has the precision of the weights.
        dtype = self.head.bias.dtype
        x = torch.empty(planes.shape, dtype=dtype, device=x.device, memory_format=torch.channels_last)
        x.copy_(planes)
        if mask is not None:
            mask.zero_(x)
        mask = strided_mask(mask, TIME_STRIDES[c.time_stride][0])
        x = self.relu(self.stem(x, mask, stream))
        for stage in self._time_stages():
            x = stage(x, mask, stream)
            mask = strided_mask(mask, stage.time_stride)
        # (B, C, T', F') -> (B, T', F' * C)
        x = x.mean(3).transpose(1, 2) if c.pool_frequency else x.permute(0, 2, 3, 1).flatten(2)
        # (B, T', D) -> (B, D, T', 1), and back
        x = self.head(x).transpose(1, 2).unsqueeze(3)
        if mask is not None:
            mask.zero_(x)
        return self.time_blocks(x, mask, stream).squeeze(3).transpose(1, 2)


def lengths_by_any_name(
    lengths: Tensor | None, wav_lens: Tensor | None = None, wav_len: Tensor | None = None
) -> Tensor | None:
    """The lengths that a recipe passes under any of SpeechBrain's names.

    Raises
    ------
    ValueError
        If they are given under several names.

    Example
    -------
    >>> lengths_by_any_name(None, wav_lens=torch.tensor([1.0, 0.5]))
    tensor([1.0000, 0.5000])
    """
    given = [each for each in (lengths, wav_lens, wav_len) if each is not None]
    if len(given) > 1:
        raise ValueError("lengths, wav_lens and wav_len are names of one argument: pass only one of them")
    return given[0] if given else None


def _stages(c: EncoderConfig, layers: Layers, strides: Sequence[Pair]) -> list[TimeModule]:
    """Build the stages between stem and head; `strides` are those into each stage."""
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
        c.channels[0],
        c.channels,
        c.blocks,
        strides,
        c.big_little_stages,
        big_little,
        BasicBlock,
        layers,
        stage_for(big_little),
        **c.block,
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
"""Preset -> fields of :class:`EncoderConfig` that it sets. A new preset is a new entry here."""


def list_encoders() -> list[str]:
    """Names of the presets, sorted.

    Example
    -------
    >>> "bl_resnet22" in list_encoders()
    True
    """
    return sorted(PRESETS)


def create_encoder(name: str, **overrides: Any) -> BigLittleEncoder:
    """Create an encoder from a preset, with any fields of :class:`EncoderConfig` overridden.

    Arguments
    ---------
    name : str
        One of :func:`list_encoders`.
    **overrides
        For example alpha, beta, input_size, input_channels, time_stride, time_padding.

    Raises
    ------
    ValueError
        If the preset or a field is unknown, or no network can be built with a value.

    Example
    -------
    >>> encoder = create_encoder("bl_resnet22", alpha=4, beta=2, input_size=192, input_channels=3, time_stride=1)
    >>> sum(p.numel() for p in encoder.parameters())
    3203184
    """
    if name not in PRESETS:
        raise ValueError(unknown("encoder preset", name, PRESETS))
    return BigLittleEncoder(**{**PRESETS[name], **overrides})
