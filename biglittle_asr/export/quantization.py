"""Static quantization: weights and activations as 8-bit integers, with ranges measured on real input."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

Array = np.ndarray[Any, Any]

QUANTIZED = ("Conv", "MatMul", "Gemm", "Add", "Relu", "Resize")
"""Operators that are quantized. With padding and concatenation too, onnxruntime and OpenVINO are slower."""
BLOCK = 16
"""Channels that onnxruntime's kernels for 8-bit convolutions compute at a time; with fewer it has slower ones."""


def quantize(
    model: onnx.ModelProto, inputs: Iterable[Array], reduce_range: bool = False, exclude: Sequence[str] = ()
) -> onnx.ModelProto:
    """Quantize the convolutions and matrix products of a graph with one input, and what stands between them.

    Weights have a scale per output channel and are signed; activations are unsigned, with the range that they take on
    `inputs`. Quantized operators stand between nodes that quantize and dequantize (QDQ), which any runtime can read.

    Arguments
    ---------
    model : onnx.ModelProto
    inputs : iterable of numpy.ndarray
        Real inputs; some minutes of speech suffice.
    reduce_range : bool
        Weights of 7 bits, for x86 processors without VNNI, whose 8-bit products overflow.
    exclude : sequence of str
        Nodes that stay in floating point.

    Returns
    -------
    onnx.ModelProto
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    model = widened(model)
    name = model.graph.input[0].name

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter(inputs)

        def get_next(self) -> dict[str, Array] | None:
            found = next(self.rest, None)
            return None if found is None else {name: found}

    with TemporaryDirectory(prefix="biglittle") as folder, _quietly():
        plain, small = Path(folder, "plain.onnx"), Path(folder, "small.onnx")
        onnx.save(model, plain)
        quantize_static(
            plain,
            small,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            per_channel=True,
            reduce_range=reduce_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=list(exclude),
        )
        return onnx.load(small)


def widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """Widen the tensors between convolutions to at least :data:`BLOCK` channels, of zeros; outputs stay the same.

    Tensors that other operators than convolutions, sums and ReLU see stay as they are.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph = model.graph
    weights = {each.name: each for each in graph.initializer}
    convolutions = [
        node
        for node in graph.node
        if node.op_type == "Conv"
        and node.input[1] in weights
        and all(a.name != "group" or a.i == 1 for a in node.attribute)
    ]
    names = {node.name for node in convolutions}
    fixed = {each.name for each in (*graph.input, *graph.output, *graph.initializer)}
    connected: dict[str, set[str]] = {}
    """Tensor -> all tensors with which it shares its channels, by sums and activations."""
    for node in graph.node:
        tensors = {*node.input, *node.output}
        if node.op_type in ("Add", "Relu"):
            joined = tensors.union(*(connected.get(name, ()) for name in tensors))
            connected.update(dict.fromkeys(joined, joined))
        elif node.name not in names:
            fixed |= tensors

    def missing(tensor: str, channels: int) -> int:
        return 0 if fixed & connected.get(tensor, {tensor}) else max(0, BLOCK - channels)

    def padded(name: str, *widths: int) -> str:
        array = numpy_helper.to_array(weights[name])
        array = np.pad(array, [(0, width) for width in (*widths, 0, 0, 0)[: array.ndim]])
        graph.initializer.append(numpy_helper.from_array(array, f"{node.name}_{name}"))
        return f"{node.name}_{name}"

    for node in convolutions:
        outputs, inputs = weights[node.input[1]].dims[:2]
        more = missing(node.output[0], outputs), missing(node.input[0], inputs)
        if any(more):
            node.input[1] = padded(node.input[1], *more)
            node.input[2:] = [padded(bias, more[0]) for bias in node.input[2:]]
    used = {name for node in graph.node for name in node.input}
    kept = [each for each in graph.initializer if each.name in used]
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(kept)
    return model


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep the advice to preprocess the graph, which the exporter has done, from the user."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
