"""HMM states and which of them share an output of the network.

The HMM of a phone is a row of states, each left for the next or for itself. Every such step is equally likely, and a
path through an utterance has as many steps as there are frames, so transitions add the same to all paths and are left
out. In context a state is known by four numbers: phone, position in the row, left and right neighbor of the phone.
Silence is a phone, and the neighbor of what is first or last in an utterance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int32]
Reals = npt.NDArray[np.float32]

NO_STATE = -1


@dataclass(frozen=True, eq=False)
class Tying:
    """Which output of the network stands for which state in context.

    A state in context is one integer: the index into the flattened table.

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
    """(phones, positions, phones, phones): output of phone, position, left and right neighbor; -1 where a phone has
    fewer states than the longest."""

    @property
    def size(self) -> int:
        """Number of outputs V, which is that of tied states."""
        return int(self.table.max()) + 1

    @property
    def positions(self) -> int:
        """States of the longest phone."""
        return self.table.shape[1]

    def num_states(self, phone: int) -> int:
        """States of a phone."""
        return int((self.table[phone, :, 0, 0] != NO_STATE).sum())

    @cached_property
    def outputs(self) -> Integers:
        """Output of each state in context."""
        return self.table.reshape(-1)

    def context_state(self, phone: int, position: int, left: int, right: int) -> int:
        """The integer that stands for a state in context."""
        return int(np.ravel_multi_index((phone, position, left, right), self.table.shape))

    def without_context(self, states: Integers) -> Integers:
        """Phone and position of states in context, as one integer: `phone * positions + position`."""
        return states // len(self.phones) ** 2

    @cached_property
    def monophone_of(self) -> Integers:
        """(V,) phone and position of each output, as :meth:`without_context` gives them."""
        used = np.flatnonzero(self.outputs != NO_STATE).astype(np.int32)
        result = np.zeros(self.size, np.int32)
        result[self.outputs[used]] = self.without_context(used)
        return result

    def origin(self, coarse: Tying) -> npt.NDArray[np.int64]:
        """(V,) output of another tying, with no more outputs than this one has, that each output is a part of."""
        used = self.outputs != NO_STATE
        result = np.zeros(self.size, np.int64)
        result[self.outputs[used]] = coarse.outputs[used]
        return result

    def name(self, output: int) -> str:
        """An output's phone, and its position counted from 1."""
        phone, position = divmod(int(self.monophone_of[output]), self.positions)
        return f"{self.phones[phone]}.{position + 1}"

    def write(self, path: str | PathLike[str]) -> None:
        """Write a file for :func:`read_tying`."""
        with open(path, "wb") as file:
            np.savez_compressed(file, phones=np.array(self.phones), table=self.table)


def monophones(phones: Sequence[str], states: int = 3, silence_states: int = 3) -> Tying:
    """States that are the same in every context.

    Arguments
    ---------
    phones : sequence of str
        Silence first.
    states : int
        Of each phone; it lasts as many frames at least. 3 at 10 ms a frame, as is usual; 1 at 40 ms.
    silence_states : int
        Of silence.

    Raises
    ------
    ValueError
        If a phone would have no states.
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
    """Read what :meth:`Tying.write` wrote; nothing in it is executed.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is none of these files.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Tying(tuple(map(str, arrays["phones"])), arrays["table"].astype(np.int32))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ValueError(f"{path}: holds no tied states ({error}); restore it, or train anew.") from error
