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
"""Operators that are quantized. With pooling, padding and concatenation too, onnxruntime and OpenVINO are slower."""


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


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep the advice to preprocess the graph, which the exporter has done, from the user."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
