"""Reads OpenFst's files of graphs: vector and const, with standard arcs, which Kaldi writes.

OpenFst itself trusts the numbers in a file, and crashes on a damaged one.
"""

from __future__ import annotations

import struct
from os import PathLike
from pathlib import Path

import numpy as np

from biglittle_asr.decoding.hmm.graph import Arcs

MAGIC, SYMBOLS_MAGIC = 2125659606, 2125658996
TYPES = (b"vector", b"const")
ARC = np.dtype([("input", "<i4"), ("output", "<i4"), ("cost", "<f4"), ("target", "<i4")])
CONST_STATE = np.dtype([("cost", "<f4"), ("first", "<u4"), ("arcs", "<u4"), ("others", "<u4", 2)])
VECTOR_STATE = struct.Struct("<fq")
"""Cost of ending in the state, and its number of arcs, which follow."""
SYMBOLS, ALIGNED = 1 | 2, 4
"""Flags: tables of symbols follow the header; states and arcs begin at multiples of 16 bytes."""
ALIGNED_VERSION = 1
"""Version of const files that are always aligned."""


class _Damaged(Exception):
    """The file is not a graph, or not a whole one."""


class _Bytes:
    """Reads a file's bytes from the beginning."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def take(self, count: int) -> bytes:
        if not 0 <= count <= len(self.data) - self.place:
            raise _Damaged
        self.place += count
        return self.data[self.place - count : self.place]

    def numbers(self, form: str) -> tuple[int, ...]:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))

    def text(self) -> bytes:
        return self.take(*self.numbers("i"))

    def array(self, kind: np.dtype, count: int) -> np.ndarray:
        if not 0 <= count <= len(self.data):
            raise _Damaged
        return np.frombuffer(self.take(count * kind.itemsize), kind)

    def align(self) -> None:
        self.place = min(len(self.data), self.place + -self.place % 16)


def read_arcs(path: str | PathLike[str]) -> Arcs:
    r"""Read a graph.

    Arguments
    ---------
    path : path
        Such as Kaldi's HCLG.fst.

    Returns
    -------
    Arcs
        In the file's order.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not such a file, or is damaged.

    Example
    -------
    >>> import kaldifst
    >>> path = str(getfixture("tmp_path") / "a.fst")
    >>> _ = kaldifst.compile("0 1 3 4 0.5\n1 2.5").write(path)
    >>> arcs = read_arcs(path)
    >>> arcs.inputs.tolist(), arcs.outputs.tolist(), arcs.costs.tolist(), arcs.final
    ([3], [4], [0.5], {1: 2.5})
    """
    try:
        return _read(_Bytes(Path(path).read_bytes()))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such graph; check the path.") from error
    except _Damaged as error:
        raise ValueError(
            f"{path}: is not a whole OpenFst graph (vector or const, standard arcs); check the path, or copy it again."
        ) from error


def _read(file: _Bytes) -> Arcs:
    if file.numbers("i") != (MAGIC,):
        raise _Damaged
    kind, arc_kind = file.text(), file.text()
    if kind not in TYPES or arc_kind != b"standard":
        raise _Damaged
    version, flags, _, start, num_states, num_arcs = file.numbers("iiQqqq")
    for _ in range((flags & SYMBOLS).bit_count()):
        _pass_symbols(file)
    if kind == b"vector":
        ends, counts, arcs = _vector(file, num_states)
    else:
        is_aligned = version == ALIGNED_VERSION or bool(flags & ALIGNED)
        ends, counts, arcs = _const(file, num_states, num_arcs, is_aligned)
    targets, labels = arcs["target"], (arcs["input"], arcs["output"])
    if not 0 <= start < len(ends) or any((label < 0).any() for label in labels):
        raise _Damaged
    if ((targets < 0) | (targets >= len(ends))).any() or np.isnan(arcs["cost"]).any() or np.isnan(ends).any():
        raise _Damaged
    sources = np.repeat(np.arange(len(ends), dtype=np.int32), counts)
    final = {int(state): float(ends[state]) for state in np.flatnonzero(ends != np.inf)}
    inputs, outputs = (np.array(label) for label in labels)
    return Arcs(start, sources, np.array(targets), inputs, outputs, arcs["cost"].astype(np.float64), final)


def _pass_symbols(file: _Bytes) -> None:
    if file.numbers("i") != (SYMBOLS_MAGIC,):
        raise _Damaged
    file.text()
    _, size = file.numbers("qq")
    for _ in range(size):
        file.text()
        file.take(8)


def _vector(file: _Bytes, num_states: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Costs of ending in each state, its number of arcs, and all arcs."""
    ends: list[float] = []
    counts: list[int] = []
    arcs: list[bytes] = []
    # A graph that was written to a pipe does not know the number of its states.
    while len(ends) < num_states or (num_states < 0 and file.place < len(file.data)):
        end, count = VECTOR_STATE.unpack(file.take(VECTOR_STATE.size))
        ends.append(end)
        counts.append(count)
        arcs.append(file.take(count * ARC.itemsize))
    return np.array(ends, np.float32), np.array(counts, np.int64), np.frombuffer(b"".join(arcs), ARC)


def _const(file: _Bytes, num_states: int, num_arcs: int, is_aligned: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As :func:`_vector`."""
    if is_aligned:
        file.align()
    states = file.array(CONST_STATE, num_states)
    if is_aligned:
        file.align()
    arcs = file.array(ARC, num_arcs)
    counts = states["arcs"].astype(np.int64)
    if (states["first"] != np.cumsum(counts) - counts).any() or counts.sum() != len(arcs):
        raise _Damaged
    return states["cost"], counts, arcs
