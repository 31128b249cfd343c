"""Reads weights from files: published checkpoints, torchvision's, and those of this project's trainings.

Nothing in a file is executed. PyTorch's restricted unpickler reads pickles; it makes only tensors, plain values, and
the types of `SAFE`, which the authors' files contain.
"""

from __future__ import annotations

import argparse
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from biglittle_asr.files import LFS_POINTER, read_yaml, refuse_pointer
from biglittle_asr.messages import some

STATE_DICT_KEYS = ("state_dict", "model")
"""Keys of the state dict in a checkpoint that also has epoch, optimizer and the like: the authors', torchvision's."""
WRAPPERS = frozenset({"module", "_orig_mod"})
"""Parts of a key that DataParallel and AveragedModel ("module") or torch.compile ("_orig_mod") add."""
AVERAGED = "n_averaged"
"""A counter that AveragedModel adds."""
META, PARAMETERS = "CKPT.yaml", ".ckpt"
"""In a training's checkpoint, SpeechBrain's name for the file of facts, and the suffix of its other files."""
CHECKSUMS = "checksums"
"""Entry of the file of facts: the CRC-32 of each other file."""

SAFE: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *sorted({type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "?")}, key=str),
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    (np.float64(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
]
"""Types that a pickle may contain beside tensors: training settings, and NumPy scalars such as the best accuracy. They
run no code of the file's choosing, and the authors' files cannot be read without them."""


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Strip from tensor names what wrappers around the network, or around its parts, have added.

    Arguments
    ---------
    names : iterable of str
        Names in a file.

    Returns
    -------
    dict from str to str
        Name in the file -> plain name, without AveragedModel's counter.

    Example
    -------
    >>> plain_names(["n_averaged", "module.stem._orig_mod.conv.weight", "module.fc.bias"])
    {'module.stem._orig_mod.conv.weight': 'stem.conv.weight', 'module.fc.bias': 'fc.bias'}
    """
    plain = {name: ".".join(part for part in name.split(".") if part not in WRAPPERS) for name in names}
    # If plain names collide, the file holds several networks, so names are kept.
    return (
        {name: new for name, new in plain.items() if new != AVERAGED}
        if len({*plain.values()}) == len(plain)
        else {name: name for name in plain}
    )


def read_checkpoint(path: str | PathLike[str]) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, by their keys without the parts that wrappers such as DataParallel add.

    Arguments
    ---------
    path : path
        A `.safetensors` file, or a file of any name from `torch.save`: a state dict, or a dict with one under
        "state_dict" or "model".

    Raises
    ------
    ValueError
        If the file is neither, is truncated, or would need code to be run.
    OSError
        If it cannot be opened.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> torch.save({"epoch": 1, "state_dict": {"module.fc.bias": torch.zeros(10)}}, folder / "net.pth.tar")
    >>> {key: tuple(value.shape) for key, value in read_checkpoint(folder / "net.pth.tar").items()}
    {'fc.bias': (10,)}
    """
    # Imported here, so that networks can be made without it.
    import safetensors.torch

    path = Path(path)
    with path.open("rb") as file:  # raises the system's error for a missing file, which the readers below would hide
        start = file.read(len(LFS_POINTER))
    try:
        refuse_pointer(start)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    # Broken files make the readers raise almost any exception.
    try:
        if path.suffix == ".safetensors":
            tensors = safetensors.torch.load_file(path)
            return {plain: tensors[name] for name, plain in plain_names(tensors).items()}
        with torch.serialization.safe_globals(SAFE):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path}: {_reason(error)}") from error
    if isinstance(content, Mapping):
        content = next((content[key] for key in STATE_DICT_KEYS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping) or not content or not all(map(_is_entry, content.items())):
        raise ValueError(f'{path}: holds no weights; a state dict, or one under "state_dict" or "model", is expected.')
    return {plain: content[name] for name, plain in plain_names(content).items()}


def load_checkpoint(model: nn.Module, path: str | PathLike[str]) -> None:
    """Load the weights of a checkpoint into a model, which is changed only if all of them fit.

    Arguments
    ---------
    model : nn.Module
        On any device and of any floating-point type; the weights are converted.
    path : path
        As for :func:`read_checkpoint`.

    Raises
    ------
    ValueError
        As for :func:`read_checkpoint`; also if keys or shapes are not the model's, or a value is infinite or NaN.
    OSError
        If it cannot be opened.

    Example
    -------
    >>> from biglittle_asr.models import create_model
    >>> net, path = create_model("resnet18", num_classes=10), getfixture("tmp_path") / "net.pt"
    >>> torch.save(net.state_dict(), path)
    >>> load_checkpoint(net, path)
    >>> load_checkpoint(create_model("resnet18", num_classes=100), path)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: .../net.pt: has weights for 10 classes, but the model has 100: create it with num_classes=10.
    """
    found, expected = read_checkpoint(path), model.state_dict()
    # Files older than BatchNorm's counter lack it; no output of a trained network depends on it.
    missing = [key for key in expected if key not in found and not key.endswith("num_batches_tracked")]
    strange = [key for key in found if key not in expected]
    shapes = [key for key, value in found.items() if key in expected and value.shape != expected[key].shape]
    if not missing and not strange and shapes == [key for key in ("fc.weight", "fc.bias") if key in expected]:
        if all(found[key].shape[1:] == expected[key].shape[1:] and found[key].dim() for key in shapes):
            here, there = len(found[shapes[0]]), len(expected[shapes[0]])
            raise ValueError(
                f"{path}: has weights for {here} classes, but the model has {there}: create it with num_classes={here}."
            )
    differences = []
    if missing:
        differences.append(f"lacks {len(missing)} of the model's {len(expected)} keys ({some(missing)})")
    if strange:
        differences.append(f"has {_keys(strange)} that the model does not have ({some(strange)})")
    if shapes:
        unlike = [f"{key} is {_shape(found[key])} instead of {_shape(expected[key])}" for key in shapes]
        differences.append(f"has {_keys(shapes)} of another shape ({some(unlike)})")
    if differences:
        raise ValueError(f"{path}: is no checkpoint of this model: it {', '.join(differences)}.")
    for key, value in found.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"{path}: {key} has values that are infinite or not a number.")
    model.load_state_dict({**expected, **found})


def _is_entry(entry: tuple[Any, Any]) -> bool:
    key, value = entry
    dense = isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
    return isinstance(key, str) and dense


def _reason(error: Exception) -> str:
    """Say what is wrong with a file, from the reader's exception."""
    forbidden = re.search(r"(?:GLOBAL|Unsupported (?:class|global|function))\s+(?:GLOBAL )?([\w.]+)", str(error))
    if forbidden:
        return (
            f"holds {forbidden[1]}, which only running code could make, and is not read; "
            "save the state dict alone, where you trust the file."
        )
    return "is not a whole file of weights (.safetensors, or what torch.save writes)."


def _keys(keys: list[str]) -> str:
    return f"{len(keys)} key{'s' if len(keys) > 1 else ''}"


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single value"


def checksum(path: Path) -> int:
    """The CRC-32 of a file."""
    found = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found = zlib.crc32(block, found)
    return found


def checkpoint_fault(folder: Path) -> str:
    """Describe the fault of a training's checkpoint folder; an empty text if it has none."""
    try:
        meta = read_yaml(folder / META, plain=True)
    except FileNotFoundError:
        return f"{META} is missing"
    except ValueError:
        return f"{META} is no YAML file"
    if not isinstance(meta, Mapping) or "end-of-epoch" not in meta:
        return f"{META} does not say how far the training was"
    checksums = meta.get(CHECKSUMS, {})
    if not isinstance(checksums, Mapping) or not all(isinstance(name, str) for name in checksums):
        return f"{META} is not as it was written"
    for path in sorted({*folder.glob(f"*{PARAMETERS}"), *(folder / name for name in checksums)}):
        if not path.is_file():
            return f"{path.name} is missing"
        if path.name in checksums and checksum(path) != checksums[path.name]:
            return f"{path.name} is not what was written"
        # Older checkpoints have no checksums. torch.save writes a ZIP archive, which is recognized by its end.
        with path.open("rb") as file:
            start = file.read(2)
        if not start or (start == b"PK" and not zipfile.is_zipfile(path)):
            return f"{path.name} is cut off"
    return ""
