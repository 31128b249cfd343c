"""Reads untrusted safetensors files: the header is checked against the expected tensors before anything is loaded.

The format: 8 bytes with the header's size, a JSON header with type, shape and place of every tensor, and the data
(https://huggingface.co/docs/safetensors, section "Format").
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from biglittle_asr.files import LFS_POINTER, parse_json, refuse_pointer
from biglittle_asr.messages import show
from biglittle_asr.models.checkpoints import AVERAGED, plain_names

SIZE_BYTES = 8
LARGEST_HEADER = 16 << 20
DTYPES = {torch.float32: "F32", torch.float64: "F64", torch.int64: "I64", torch.int32: "I32", torch.bool: "BOOL"}
HALF = "F16"
"""Type that may stand for float32, in half the space."""
HALVED = 1024
"""Smallest number of elements of a tensor that :func:`halve` halves: norms and statistics stay as they are."""
METADATA = "__metadata__"
"""The header entry that is not a tensor."""
VARIANCES = (".running_var", ".variance")
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""First bytes of files that `torch.save` and `pickle` write."""


def read_weights(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file if they are exactly the expected ones.

    Names may have the prefixes of DataParallel, AveragedModel and torch.compile. Float16 becomes float32.

    Arguments
    ---------
    path : pathlib.Path
        A regular file.
    expected : mapping from str to Tensor
        Tensors with the expected names, shapes and types; values are not read, and may be on the meta device.

    Raises
    ------
    ValueError
        If the file is not a safetensors file, the names, shapes, types or places of its tensors are not as expected,
        a value is infinite or NaN, or a variance is negative. Nothing larger than the file is allocated.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        refuse_pointer(file.peek(len(LFS_POINTER)))
        start = file.read(SIZE_BYTES)
        if start.startswith(PICKLES):
            raise ValueError("is a pickle, which can run any program; model folders hold safetensors only.")
        header_size = int.from_bytes(start, "little")
        if len(start) < SIZE_BYTES or header_size > size - SIZE_BYTES:
            raise ValueError(
                f"is not a whole safetensors file: of {size} bytes, it claims {header_size} for its header."
            )
        if header_size > LARGEST_HEADER:
            raise ValueError(f"has a header of {header_size} bytes; up to {LARGEST_HEADER} are read.")
        header = file.read(header_size)
        try:
            tensors = parse_json(header)
        except ValueError as error:
            raise ValueError(f"is not a safetensors file: its header {error}") from error
        names = plain_names(name for name in tensors if name != METADATA) if isinstance(tensors, dict) else {}
        _check_header(tensors, names, expected, size - SIZE_BYTES - header_size)
        data = start + header + file.read()
    try:
        loaded = safetensors.torch.load(data)
        loaded = {plain: _widened(loaded[name]) for name, plain in names.items()}
    except SafetensorError as error:
        raise ValueError(f"is not a safetensors file ({show(str(error))}).") from error
    for name, tensor in loaded.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"tensor {name} has values that are infinite or not a number.")
        if name.endswith(VARIANCES) and bool((tensor < 0).any()):
            raise ValueError(f"tensor {name} has values below 0, which no variance has.")
    return loaded


def halve(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Round the large float32 tensors of a state dict to float16.

    Raises
    ------
    ValueError
        If a value is too large for float16.

    Example
    -------
    >>> {name: tensor.dtype for name, tensor in halve({"a": torch.zeros(2000), "b": torch.zeros(2)}).items()}
    {'a': torch.float16, 'b': torch.float32}
    """
    found = {
        name: tensor.half() if tensor.dtype == torch.float32 and tensor.numel() >= HALVED else tensor
        for name, tensor in weights.items()
    }
    for name, tensor in found.items():
        if bool(torch.isinf(tensor).any()):
            raise ValueError(f"tensor {name} has values that are too large for float16; keep float32.")
    return found


def _widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.float16 else tensor


def _check_header(header: Any, names: Mapping[str, str], expected: Mapping[str, Tensor], data_size: int) -> None:
    if not isinstance(header, dict):
        raise ValueError("is not a safetensors file: its header is no JSON object.")
    tensors = {names.get(name, name): entry for name, entry in header.items() if name != METADATA}
    if AVERAGED in header and AVERAGED not in names:
        expected = {**expected, AVERAGED: torch.zeros((), dtype=torch.int64, device="meta")}
    missing = [name for name in expected if name not in tensors]
    if missing:
        raise ValueError(f"lacks the tensor {missing[0]} ({len(missing)} of {len(expected)} are missing).")
    unknown = [name for name in tensors if name not in expected]
    if unknown:
        raise ValueError(f"has the tensor {show(unknown[0])}, which the network of config.json does not have.")
    spans = []
    for name, entry in tensors.items():
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"tensor {name}: the header has {show(entry)} for dtype, shape and data_offsets.")
        like = expected[name]
        halved = entry["dtype"] == HALF and like.dtype == torch.float32
        if entry["shape"] != list(like.shape) or not (halved or entry["dtype"] == DTYPES[like.dtype]):
            raise ValueError(
                f"tensor {name} is {show(entry['dtype'])} of shape {show(entry['shape'])}, but the network of "
                f"config.json has {DTYPES[like.dtype]} of shape {list(like.shape)}."
            )
        span = entry["data_offsets"]
        if not isinstance(span, list) or len(span) != 2 or any(type(offset) is not int for offset in span):
            raise ValueError(f"tensor {name}: data_offsets is {show(span)}, but must be two whole numbers.")
        if span[1] - span[0] != like.numel() * (2 if halved else like.element_size()):
            raise ValueError(f"tensor {name}: data_offsets {show(span)} do not fit its shape.")
        spans.append((*span, name))
    end = 0
    for first, last, name in sorted(spans):
        if first != end:
            raise ValueError(f"tensor {name}: its data begin at {first}, but those before it end at {end}.")
        end = last
    if end != data_size:
        raise ValueError(f"is not a whole safetensors file: it has {data_size} bytes of data, and should have {end}.")
