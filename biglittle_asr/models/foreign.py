"""SpeechBrain's own encoders as baselines, with the interface of the recipes' encoders: integer frames in and out.

As in SpeechBrain, their outputs depend on padding. `biglittle_asr.models` does not import this module, since the other
models need only PyTorch.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from speechbrain.lobes.models.convolution import ConvolutionFrontEnd
from speechbrain.lobes.models.CRDNN import CRDNN
from speechbrain.lobes.models.transformer.TransformerASR import EncoderWrapper, TransformerASR
from speechbrain.nnet.containers import LengthsCapableSequential
from speechbrain.nnet.RNN import LSTM
from torch import Tensor, nn

from biglittle_asr.models.encoder import lengths_by_any_name
from biglittle_asr.nnet import frames_to_relative, output_length, relative_to_frames
from biglittle_asr.nnet.lengths import IntOrTensor

EDGE_FRAMES, EDGE_PART = 2, 0.1
"""The number of output frames may differ from that of the time stride by this many, plus this part of it, because of
convolutions without padding and rounding."""


class ForeignEncoder(nn.Module):
    """A sequence of SpeechBrain modules as an encoder of this project's recipes.

    Arguments
    ---------
    modules : sequence of nn.Module
        The first takes features (B, T, F), the last gives (B, T', D). Modules whose forward has an argument `lengths`
        or `wav_lens` are given relative lengths.
    output_size : int
        Dimension D of the output.
    time_stride : int
        Input frames per output frame.

    Example
    -------
    >>> encoder = ForeignEncoder([nn.Linear(80, 16)], output_size=16, time_stride=1)
    >>> y, frames = encoder.encode(torch.randn(2, 9, 80), torch.tensor([9, 4]))
    >>> y.shape, frames.tolist()
    (torch.Size([2, 9, 16]), [9, 4])
    """

    def __init__(self, modules: Sequence[nn.Module], output_size: int, time_stride: int) -> None:
        super().__init__()
        self.chain = LengthsCapableSequential(*modules)
        self.output_size, self.time_stride = output_size, time_stride

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
        """Encode features (B, T, F) to (B, T', D); arguments are those of :meth:`BigLittleEncoder.forward`.

        Raises
        ------
        ValueError
            If the modules have a time stride other than `time_stride`.
        """
        if dynchunktrain_config is not None:
            warnings.warn("dynchunktrain_config is not passed on to the modules of a ForeignEncoder", stacklevel=4)
        y: Tensor = self.chain(x, lengths_by_any_name(lengths, wav_lens, wav_len))
        expected = output_length(x.shape[1], self.time_stride)
        if abs(y.shape[1] - expected) > EDGE_FRAMES + EDGE_PART * expected:
            raise ValueError(
                f"ForeignEncoder: its modules make {y.shape[1]} frames of {x.shape[1]}, where a time_stride of "
                f"{self.time_stride} makes {expected}; set time_stride to {max(1, round(x.shape[1] / y.shape[1]))}."
            )
        return y

    def encode(self, x: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Encode features (B, T, F) with integer frames (B,) to (B, T', D) and integer frames (B,).

        Some of these encoders round T' down, which drops the last frame of the longest utterances.
        """
        y = self(x, frames_to_relative(frames, x.shape[1]))
        return y, self.output_lengths(frames).clamp(max=y.shape[1])

    def output_lengths(self, n: IntOrTensor) -> IntOrTensor:
        """Number of output frames for `n` input frames: ceil(n / time_stride)."""
        return output_length(n, self.time_stride)

    def relative_output_lengths(self, lengths: Tensor, size: int) -> Tensor:
        """Relative output lengths for SpeechBrain, from the relative lengths of an input of `size` frames."""
        frames = self.output_lengths(relative_to_frames(lengths, size))
        return frames_to_relative(frames, output_length(size, self.time_stride))


def crdnn(
    input_size: int = 80,
    cnn_channels: Sequence[int] = (128, 256),
    rnn_layers: int = 4,
    rnn_neurons: int = 1024,
    dnn_blocks: int = 2,
    dnn_neurons: int = 512,
    time_stride: int = 4,
    dropout: float = 0.15,
) -> ForeignEncoder:
    """Create SpeechBrain's CRDNN: convolutions, a bidirectional LSTM and linear layers, sized as for LibriSpeech.

    Example
    -------
    >>> encoder = crdnn(cnn_channels=(4, 4), rnn_layers=1, rnn_neurons=8, dnn_neurons=16)
    >>> encoder.encode(torch.randn(2, 40, 80), torch.tensor([40, 20]))[0].shape
    torch.Size([2, 10, 16])
    """
    network = CRDNN(
        input_size=input_size,
        dropout=dropout,
        cnn_blocks=len(cnn_channels),
        cnn_channels=list(cnn_channels),
        inter_layer_pooling_size=[2] * len(cnn_channels),
        time_pooling=True,
        time_pooling_size=time_stride,
        rnn_class=LSTM,
        rnn_layers=rnn_layers,
        rnn_neurons=rnn_neurons,
        rnn_re_init=True,
        dnn_blocks=dnn_blocks,
        dnn_neurons=dnn_neurons,
    )
    return ForeignEncoder([network], dnn_neurons if dnn_blocks else 2 * rnn_neurons, time_stride)


def conformer(
    input_size: int = 80,
    cnn_channels: Sequence[int] = (64, 32),
    d_model: int = 144,
    heads: int = 4,
    layers: int = 12,
    d_ffn: int = 1024,
    kernel_size: int = 31,
    dropout: float = 0.1,
) -> ForeignEncoder:
    """Create SpeechBrain's Conformer encoder with its convolutional front end, sized as its small LibriSpeech recipe.

    Every convolution of the front end halves the frame rate.

    Example
    -------
    >>> encoder = conformer(cnn_channels=(4, 4), d_model=16, layers=1, d_ffn=16)
    >>> encoder.encode(torch.randn(2, 40, 80), torch.tensor([40, 20]))[0].shape
    torch.Size([2, 10, 16])
    """
    blocks = len(cnn_channels)
    front_end = ConvolutionFrontEnd(
        input_shape=(8, 10, input_size),
        num_blocks=blocks,
        num_layers_per_block=1,
        out_channels=list(cnn_channels),
        kernel_sizes=[3] * blocks,
        strides=[2] * blocks,
        residuals=[False] * blocks,
        dropout=dropout,
    )
    with torch.no_grad():
        width = front_end(torch.zeros(1, 8, input_size)).flatten(2).shape[2]
    transformer = TransformerASR(
        tgt_vocab=1,
        input_size=width,
        d_model=d_model,
        nhead=heads,
        num_encoder_layers=layers,
        num_decoder_layers=0,
        d_ffn=d_ffn,
        kernel_size=kernel_size,
        dropout=dropout,
        activation=nn.GELU,
        encoder_module="conformer",
        attention_type="RelPosMHAXL",
        normalize_before=True,
        causal=False,
    )
    return ForeignEncoder([front_end, EncoderWrapper(transformer)], d_model, 2**blocks)
