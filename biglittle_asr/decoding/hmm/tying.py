"""HMM states, and which of them share an output of the network.

The HMM of a phone is a left-to-right sequence of states with self-loops. All transitions are equally likely, and every
path through an utterance has one transition per frame. So transitions add the same to all paths and are left out.
A state in context is known by four numbers: phone, position in the phone, left and right neighbor of the phone.
Silence is a phone, and the neighbor of the first and last phone of an utterance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from biglittle_asr.messages import first_line

Integers = npt.NDArray[np.int32]
Reals = npt.NDArray[np.float32]

NO_STATE = -1


@dataclass(frozen=True, eq=False)
class Tying:
    """Maps states in context to outputs of the network.

    A state in context is an index into the flattened table.

    Example
    -------
    >>> tying = monophones(("SIL", "AH", "T"), states=3, silence_states=1)
    >>> tying.size
    7
    >>> state = tying.context_state(phone=1, position=2, left=0, right=2)
    >>> tying.outputs[state].item(), tying.name(tying.outputs[state])
    (3, 'AH.3')
    """

    phones: tuple[str, ...]
    """Names of the phones; the first is silence."""
    table: Integers
    """(phones, positions, phones, phones) output by phone, position, left and right neighbor; -1 at positions that a
    phone does not have."""

    @property
    def size(self) -> int:
        """Number of outputs V, which is the number of tied states."""
        return int(self.table.max()) + 1

    @property
    def positions(self) -> int:
        """Number of states of the longest phone."""
        return self.table.shape[1]

    def num_states(self, phone: int) -> int:
        """Return the number of states of a phone."""
        return int((self.table[phone, :, 0, 0] != NO_STATE).sum())

    @cached_property
    def outputs(self) -> Integers:
        """Output of each state in context."""
        return self.table.reshape(-1)

    def context_state(self, phone: int, position: int, left: int, right: int) -> int:
        """Return the index of a state in context."""
        return int(np.ravel_multi_index((phone, position, left, right), self.table.shape))

    def without_context(self, states: Integers) -> Integers:
        """Remove the context of states: returns `phone * positions + position`."""
        return states // len(self.phones) ** 2

    @cached_property
    def monophone_of(self) -> Integers:
        """(V,) phone and position of each output, encoded as in :meth:`without_context`."""
        used = np.flatnonzero(self.outputs != NO_STATE).astype(np.int32)
        result = np.zeros(self.size, np.int32)
        result[self.outputs[used]] = self.without_context(used)
        return result

    def origin(self, coarse: Tying) -> npt.NDArray[np.int64]:
        """Return the (V,) outputs of a coarser tying that contain each output of this one."""
        used = self.outputs != NO_STATE
        result = np.zeros(self.size, np.int64)
        result[self.outputs[used]] = coarse.outputs[used]
        return result

    def name(self, output: int) -> str:
        """Name an output by its phone and its position, counted from 1."""
        phone, position = divmod(int(self.monophone_of[output]), self.positions)
        return f"{self.phones[phone]}.{position + 1}"

    def write(self, path: str | PathLike[str]) -> None:
        """Write a file for :func:`read_tying`."""
        with open(path, "wb") as file:
            np.savez_compressed(file, phones=np.array(self.phones), table=self.table)


def monophones(phones: Sequence[str], states: int = 3, silence_states: int = 3) -> Tying:
    """Make a tying whose states are the same in every context.

    Arguments
    ---------
    phones : sequence of str
        Names of the phones, silence first.
    states : int
        Number of states of each phone, which is also its shortest duration in frames: usually 3 at 10 ms per frame,
        and 1 at 40 ms.
    silence_states : int
        Number of states of silence.

    Raises
    ------
    ValueError
        If a number of states is below 1.
    """
    if min(states, silence_states) < 1:
        raise ValueError(f"a phone has at least one state, but states is {states}, silence_states {silence_states}.")
    table = np.full((len(phones), max(states, silence_states), len(phones), len(phones)), NO_STATE, np.int32)
    output = 0
    for phone in range(len(phones)):
        for position in range(states if phone else silence_states):
            table[phone, position] = output
            output += 1
    return Tying(tuple(phones), table)


def read_tying(path: str | PathLike[str]) -> Tying:
    """Read a file of :meth:`Tying.write`; no code in it is executed.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not such a file.
    """
    phones, table = read_arrays(path, "tied states", "phones", "table")
    if table.ndim != 4 or phones.shape != table.shape[:1] or {*table.shape[2:]} != {*phones.shape}:
        raise ValueError(f"{path}: holds no tied states; restore it, or train again.")
    return Tying(tuple(map(str, phones)), table.astype(np.int32))


def read_arrays(path: str | PathLike[str], what: str, *names: str) -> list[npt.NDArray[Any]]:
    """Read arrays of a file of NumPy's savez; no code in it is executed.

    Arguments
    ---------
    path : path
    what : str
        What the file holds, for messages.
    *names : str
        The arrays' names.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, or lacks an array.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.npz"
    >>> np.savez(path, ids=np.array(["a"]))
    >>> read_arrays(path, "alignments", "ids")[0].tolist()
    ['a']
    """
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as arrays:
                return [arrays[name] for name in names]
        # NumPy and zipfile document no list of what a damaged file raises.
        except Exception as error:
            raise ValueError(f"{path}: holds no {what} ({first_line(error)}); restore it, or train again.") from error
