"""Trained networks as ONNX files, for programs without PyTorch. Needs `pip install 'biglittle-asr[export]'`.

- `graphs.py`: networks as ONNX graphs, in the form that sherpa-onnx and onnx-asr read
- `quantization.py`: 8-bit integers in place of floats, by ranges measured on real audio
- `files.py`: ONNX files written, compared with the network they were made of, and read again without trust
"""

from biglittle_asr.export.files import FLOAT, INT8, STREAMING, TOKENS, ExportError, metadata_of, tokens_text
from biglittle_asr.export.graphs import Inputs, image_graph, stream_graph, utterance_graph
from biglittle_asr.export.quantization import quantize

__all__ = [
    "FLOAT",
    "INT8",
    "STREAMING",
    "TOKENS",
    "ExportError",
    "Inputs",
    "image_graph",
    "metadata_of",
    "quantize",
    "stream_graph",
    "tokens_text",
    "utterance_graph",
]
