"""Networks as ONNX graphs.

A graph for speech takes a padded batch with lengths, and runs its utterances one after another in a loop, each at its
own length. So padding cannot change an output, not even after quantization, and no layer needs a mask: masks would make
onnxruntime half as slow again, since it leaves its blocked layout for each of them.
"""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from biglittle_asr.features import GlobalNormalization, LogMel
from biglittle_asr.models import BigLittleEncoder

if TYPE_CHECKING:
    import onnx

OPSET = 20
Inputs = Literal["audio", "features", "normalized"]
"""What a graph takes: samples (B, S), log-mel features (B, F, T), or normalized features (B, F, T)."""

Head = Callable[[Tensor], Tensor]
"""From an encoder's frames (1, T', D) to what decoding reads, (1, T', V)."""


class UtteranceNetwork(nn.Module):
    """From one utterance without padding to what decoding reads.

    Arguments
    ---------
    encoder : BigLittleEncoder
    head : function from Tensor to Tensor
        The rest of the network: (1, T', D) -> (1, T', V).
    normalize : nn.Module, optional
        One of `biglittle_asr.features.NORMALIZATIONS`; None if the input is normalized.
    compute_features : LogMel, optional
        None if the input is features.
    """

    def __init__(
        self, encoder: BigLittleEncoder, head: Head, normalize: Any = None, compute_features: LogMel | None = None
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.normalize = normalize
        self.compute_features = compute_features
        if compute_features is not None:
            self.compute_features = LogMel(**compute_features.config)
            self.compute_features.mel = ConvolvedMel(self.compute_features.mel)

    def forward(self, x: Tensor) -> Tensor:
        """Map (1, F, T) features, or (1, S) samples if there is `compute_features`, to (1, T', V)."""
        if self.compute_features is None:
            x = x.transpose(1, 2)
        else:
            x, _ = self.compute_features(x, _whole(x))
        if isinstance(self.normalize, GlobalNormalization):
            x = self.normalize.step(x)
        elif self.normalize is not None:
            x = self.normalize(x, _whole(x))
        return self.head(self.encoder(x))


class ConvolvedMel(nn.Module):
    """A mel spectrogram by convolution, since few runtimes know the short-time Fourier transform.

    Arguments
    ---------
    mel : torchaudio.transforms.MelSpectrogram
        The spectrogram to compute, of power and without centering.

    Example
    -------
    >>> mel, samples = LogMel().mel, torch.randn(1, 1000)
    >>> torch.allclose(ConvolvedMel(mel)(samples), mel(samples), rtol=1e-3, atol=1e-3)
    True
    """

    def __init__(self, mel: Any) -> None:
        super().__init__()
        self.n_fft, self.n_mels, self.mel_scale = mel.n_fft, mel.n_mels, mel.mel_scale
        self.hop = mel.hop_length
        window = torch.zeros(mel.n_fft, dtype=torch.float64)
        start = (mel.n_fft - mel.win_length) // 2
        window[start : start + mel.win_length] = mel.spectrogram.window
        times = torch.arange(mel.n_fft, dtype=torch.float64)
        angles = 2 * math.pi / mel.n_fft * torch.outer(times[: mel.n_fft // 2 + 1], times)
        kernels = torch.cat([angles.cos(), angles.sin()]) * window
        self.kernels: Tensor
        self.register_buffer("kernels", kernels.float().unsqueeze(1))

    def forward(self, samples: Tensor) -> Tensor:
        """Map samples (B, S) to energies (B, n_mels, T)."""
        parts = functional.conv1d(samples.unsqueeze(1), self.kernels, stride=self.hop)
        real, imaginary = parts.square().chunk(2, dim=1)
        energies: Tensor = self.mel_scale(real + imaginary)
        return energies


class StepNetwork(nn.Module):
    """The next frames of a stream, with the encoder's state in one tensor; takes windows of one size.

    Arguments
    ---------
    encoder : BigLittleEncoder
        Causal.
    head : function from Tensor to Tensor
    normalize : GlobalNormalization, optional
    window : int
        Frames per step, a multiple of the encoder's alignment, so that the state keeps its size.
    """

    def __init__(self, encoder: BigLittleEncoder, head: Head, normalize: Any, window: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.normalize = normalize
        self.window = window
        first = encoder.initial_state()
        _, state = encoder.step(torch.zeros(1, window, encoder.config.input_size), first)
        self.shapes = [tuple(each.shape[1:]) for each in state]
        # A stream begins with zeros in every layer, so that a runtime can begin with zeros.
        if window % encoder.alignment or self.shapes != [tuple(each.shape[1:]) for each in first]:
            raise ValueError(
                f"steps of {window} frames are not a multiple of the encoder's alignment, {encoder.alignment}."
            )
        self.state_size = sum(map(math.prod, self.shapes))

    def forward(self, features: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """Map features (B, F, window) and a state (B, N) to outputs (B, window / time_stride, V) and the next state."""
        x = features.transpose(1, 2)
        if self.normalize is not None:
            x = self.normalize.step(x)
        pieces = cache.split(list(map(math.prod, self.shapes)), dim=1)
        state = tuple(piece.reshape(piece.shape[0], *shape) for piece, shape in zip(pieces, self.shapes, strict=True))
        encoded, state = self.encoder.step(x, state)
        return self.head(encoded), torch.cat([each.flatten(1) for each in state], dim=1)


def _whole(x: Tensor) -> Tensor:
    """The length (1,) of an utterance without padding."""
    return torch.full((1,), x.shape[1], dtype=torch.long)


def utterance_graph(
    module: UtteranceNetwork,
    metadata: Mapping[str, str],
    prepare: Callable[[onnx.ModelProto], onnx.ModelProto] | None = None,
) -> onnx.ModelProto:
    """Make the graph of a network for a padded batch of utterances.

    Inputs, with the names that NeMo gives them: `audio_signal`, features (B, F, T), or samples (B, S) if the module
    computes features; `length` (B,), int64. Outputs: `logprobs` (B, T', V), zero after each utterance's end; `frames`
    (B,), int64.

    Arguments
    ---------
    module : UtteranceNetwork
    metadata : mapping from str to str
        Facts for the programs that read the file.
    prepare : function from onnx.ModelProto to onnx.ModelProto, optional
        Changes the graph of a single utterance (1, F, T) -> (1, T', V) before the loop is put around it, such as
        :func:`quantize`.
    """
    name, example, axis = "features", torch.randn(1, module.encoder.config.input_size, 200), 2
    if module.compute_features is not None:
        name, example, axis = "audio", torch.randn(1, 4 * module.compute_features.sample_rate) / 10, 1
    length = torch.export.Dim("length", min=1, max=1 << 30)
    single = to_onnx(module, {name: example}, ["outputs"], {name: {axis: length}})
    if prepare is not None:
        single = prepare(single)
    return _with_metadata(_looped(single, module), metadata)


def stream_graph(module: StepNetwork, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """Make the graph of one step of B streams, in the form of sherpa-onnx's online NeMo models.

    Inputs, by position: `features` (B, F, window); `lengths` (B,), int64, not used; `state` (B, 1, 1, N), zeros at the
    start; two placeholders for further caches. Outputs: `outputs` (B, window / time_stride, V), `frames` (B,), the
    next state and the placeholders.
    """
    batch = torch.export.Dim("batch", min=1, max=1 << 16)
    example = (torch.randn(2, module.encoder.config.input_size, module.window), torch.zeros(2, module.state_size))
    graph = to_onnx(
        module,
        dict(zip(("features", "cache"), example, strict=True)),
        ["outputs", "next_cache"],
        {"features": {0: batch}, "cache": {0: batch}},
    )
    return _with_metadata(_with_caches(graph, module), metadata)


def image_graph(model: nn.Module, channels: int, size: int, metadata: Mapping[str, str]) -> onnx.ModelProto:
    """Make the graph of an image classifier: `images` (B, C, H, W) to `logits` (B, classes)."""
    batch = torch.export.Dim("batch", min=1, max=1 << 16)
    graph = to_onnx(model, {"images": torch.randn(2, channels, size, size)}, ["logits"], {"images": {0: batch}})
    return _with_metadata(graph, metadata)


def to_onnx(
    module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str], dynamic: Mapping[str, Any]
) -> onnx.ModelProto:
    """Export a module in evaluation mode, all weights inside, with PyTorch's exporter."""
    with _quietly(), torch.inference_mode(False), torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=[dynamic.get(name, {}) for name in inputs],
            verbose=False,
        )
        assert program is not None
        return program.model_proto


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep the exporter's warnings from the user, whom they do not concern."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _looped(single: onnx.ModelProto, module: UtteranceNetwork) -> onnx.ModelProto:
    """Put a loop over the utterances of a batch around the graph of one, which keeps its weights inside.

    Weights outside of the loop's body would hinder onnxruntime from laying them out in blocks.
    """
    from onnx import TensorProto, helper

    node = helper.make_node
    (source,) = single.graph.input
    shape = [each.dim_value or each.dim_param for each in source.type.tensor_type.shape.dim]
    (found,) = single.graph.output
    size = found.type.tensor_type.shape.dim[2].dim_value
    compute, stride = module.compute_features, module.encoder.time_stride

    def frames(length: str, result: str) -> list[onnx.NodeProto]:
        """Nodes that compute the number of output frames of a length."""
        if compute is None:
            own, count = [], length
        else:
            own = [
                node("Sub", [length, "center"], [f"{result}_after"]),
                node("Div", [f"{result}_after", "hop"], [f"{result}_hops"]),
                node("Add", [f"{result}_hops", "one"], [f"{result}_features"]),
            ]
            count = f"{result}_features"
        return [
            *own,
            node("Add", [count, "stride_less_one"], [f"{result}_raised"]),
            node("Div", [f"{result}_raised", "stride"], [result]),
        ]

    def integers(name: str, values: Sequence[int]) -> onnx.TensorProto:
        return helper.make_tensor(name, TensorProto.INT64, [len(values)], list(values))

    body = helper.make_graph(
        [
            node("Gather", ["audio_signal", "index"], ["row"], axis=0),
            node("Gather", ["length", "index"], ["own_length"], axis=0),
            node("Unsqueeze", ["own_length", "first"], ["end"]),
            node("Slice", ["row", "first", "end", "last_axis"], ["cut"]),
            node("Unsqueeze", ["cut", "first"], [source.name]),
            *single.graph.node,
            node("Squeeze", [found.name, "first"], ["rows"]),
            node("Shape", ["rows"], ["own_frames"], start=0, end=1),
            node("Sub", ["most_frames", "own_frames"], ["missing"]),
            node("Concat", ["first", "first", "missing", "first"], ["pads"], axis=0),
            node("Pad", ["rows", "pads"], ["padded"]),
            node("Identity", ["go_on"], ["still_go_on"]),
        ],
        "utterance",
        [
            helper.make_tensor_value_info("index", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
        ],
        [
            helper.make_tensor_value_info("still_go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("padded", TensorProto.FLOAT, None),
        ],
        initializer=[*single.graph.initializer, integers("first", [0]), integers("last_axis", [len(shape) - 2])],
    )
    constants = {"stride": [stride], "stride_less_one": [stride - 1], "zero_axis": [0], "one": [1]}
    if compute is not None:
        constants |= {"center": [compute.center_samples], "hop": [compute.hop_samples]}
    graph = helper.make_graph(
        [
            node("Shape", ["audio_signal"], ["longest"], start=len(shape) - 1, end=len(shape)),
            *frames("longest", "most_frames"),
            node("Shape", ["audio_signal"], ["batch_size"], start=0, end=1),
            node("Squeeze", ["batch_size", "zero_axis"], ["utterances"]),
            node("Loop", ["utterances", ""], ["logprobs"], body=body),
            *frames("length", "frames"),
        ],
        "biglittle_asr",
        [
            helper.make_tensor_value_info("audio_signal", TensorProto.FLOAT, ["batch", *shape[1:]]),
            helper.make_tensor_value_info("length", TensorProto.INT64, ["batch"]),
        ],
        [
            helper.make_tensor_value_info("logprobs", TensorProto.FLOAT, ["batch", "frames", size]),
            helper.make_tensor_value_info("frames", TensorProto.INT64, ["batch"]),
        ],
        initializer=[integers(name, values) for name, values in constants.items()],
    )
    return _model_like(single, graph)


def _with_caches(step: onnx.ModelProto, module: StepNetwork) -> onnx.ModelProto:
    """Give the graph of a step the inputs and outputs of sherpa-onnx's online NeMo models."""
    from onnx import TensorProto, helper

    node, info = helper.make_node, helper.make_tensor_value_info
    size = [each.dim_value for each in step.graph.output[0].type.tensor_type.shape.dim][1:]
    features = list(step.graph.input[0].type.tensor_type.shape.dim)
    state: list[str | int | None] = ["batch", 1, 1, module.state_size]
    placeholders: list[tuple[str, int, list[str | int | None]]] = [
        ("cache_last_time", TensorProto.FLOAT, ["batch", 1, 1, 1]),
        ("cache_last_channel_len", TensorProto.INT64, ["batch"]),
    ]
    graph = helper.make_graph(
        [
            node("Squeeze", ["cache_last_channel", "inner_axes"], ["cache"]),
            *step.graph.node,
            node("Unsqueeze", ["next_cache", "inner_axes"], ["cache_last_channel_next"]),
            node("Add", ["lengths", "stride_less_one"], ["raised"]),
            node("Div", ["raised", "stride"], ["frames"]),
            *(node("Identity", [name], [f"{name}_next"]) for name, _, _ in placeholders),
        ],
        "biglittle_asr",
        [
            info("features", TensorProto.FLOAT, ["batch", *(each.dim_value for each in features[1:])]),
            info("lengths", TensorProto.INT64, ["batch"]),
            info("cache_last_channel", TensorProto.FLOAT, state),
            *(info(*each) for each in placeholders),
        ],
        [
            info("outputs", TensorProto.FLOAT, ["batch", *size]),
            info("frames", TensorProto.INT64, ["batch"]),
            info("cache_last_channel_next", TensorProto.FLOAT, state),
            *(info(f"{name}_next", kind, shape) for name, kind, shape in placeholders),
        ],
        initializer=[
            *step.graph.initializer,
            helper.make_tensor("inner_axes", TensorProto.INT64, [2], [1, 2]),
            helper.make_tensor("stride", TensorProto.INT64, [], [module.encoder.time_stride]),
            helper.make_tensor("stride_less_one", TensorProto.INT64, [], [module.encoder.time_stride - 1]),
        ],
    )
    return _model_like(step, graph)


def _model_like(other: onnx.ModelProto, graph: onnx.GraphProto) -> onnx.ModelProto:
    """Make a model of a graph with the operator sets of another, and check it."""
    import onnx

    model = onnx.helper.make_model(
        graph,
        opset_imports=list(other.opset_import),
        ir_version=other.ir_version,
        functions=list(other.functions),
        producer_name="biglittle_asr",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _with_metadata(model: onnx.ModelProto, metadata: Mapping[str, str]) -> onnx.ModelProto:
    import onnx

    onnx.helper.set_model_props(model, dict(metadata))
    return model
