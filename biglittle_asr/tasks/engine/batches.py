"""Batches of an epoch, drawn so that an interrupted epoch goes on with the same ones."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch.utils.data import Sampler

SORTINGS = ("random", "ascending", "descending")


class Draw(NamedTuple):
    """An utterance as one epoch of a training draws it."""

    epoch: int
    position: int
    """In the dataset."""


class Failure(NamedTuple):
    """An example whose file could not be used when it was needed."""

    id: str
    reason: str
    words: str = ""
    """Of an utterance."""
    speaker: str = ""


class EpochBatches(Sampler[list[Draw]]):
    """The batches of each epoch, which follow from seed and epoch alone, dealt out to the processes of a training.

    In each step every process takes the next batch. If fewer batches than processes are left for the last step, their
    examples are dealt out instead. So every example is drawn once in an epoch, whatever the number of processes, even
    if that changes within it.

    Arguments
    ---------
    make : callable
        From the number of an epoch to its batches, lists of indices.

    Example
    -------
    >>> batches = EpochBatches(lambda epoch: [[epoch, 1], [2]])
    >>> batches.set_epoch(7)
    >>> next(iter(batches))
    [Draw(epoch=7, position=7), Draw(epoch=7, position=1)]
    """

    def __init__(self, make: Callable[[int], list[list[int]]]) -> None:
        self.make = make
        self.process, self.processes = 0, 1
        self.resumed = (0, 0, 0)
        self.epoch, self.batches = 0, make(0)
        self._deal()

    def deal(self, process: int, processes: int) -> None:
        """Deal the batches out to so many processes, of which this is the one of that number, from 0."""
        self.process, self.processes = process, processes
        self._deal()

    def resume(self, epoch: int, steps: int, taken: int) -> None:
        """Go on in an epoch in which so many steps have taken so many of its batches."""
        self.resumed = (epoch, steps, taken)
        self._deal()

    def set_epoch(self, epoch: int) -> None:
        """Make the batches of an epoch; SpeechBrain calls this before each."""
        if epoch != self.epoch:
            self.epoch, self.batches = epoch, self.make(epoch)
        self._deal()

    def _deal(self) -> None:
        of, steps, taken = self.resumed
        self.steps_before, self.taken_before = (steps, taken) if of == self.epoch else (0, 0)
        left = self.batches[self.taken_before :]
        rest = len(left) // self.processes * self.processes
        # The loader skips what comes in place of the steps that were taken.
        self.own: list[list[int]] = [[] for _ in range(self.steps_before)] + left[self.process : rest : self.processes]
        if left[rest:]:
            examples = [index for batch in left[rest:] for index in batch]
            self.own.append(examples[self.process :: self.processes])

    def taken(self, steps: int) -> int:
        """How many batches of the epoch are taken, by all processes, after so many steps of each.

        Example
        -------
        >>> batches = EpochBatches(lambda epoch: [[index] for index in range(5)])
        >>> batches.deal(process=0, processes=2)
        >>> [batches.taken(steps) for steps in range(4)]
        [0, 2, 4, 5]
        """
        return min(self.taken_before + (steps - self.steps_before) * self.processes, len(self.batches))

    def __iter__(self) -> Iterator[list[Draw]]:
        for batch in self.own:
            yield [Draw(self.epoch, index) for index in batch]

    def __len__(self) -> int:
        return len(self.own)

    def digest(self, names: Sequence[str]) -> str:
        """Short text that differs where the order of the epoch differs, given the names of all utterances."""
        order = [[names[index] for index in batch] for batch in self.batches]
        return hashlib.sha256(repr(order).encode()).hexdigest()[:16]


def fixed_batches(total: int, size: int, seed: int, shuffle: bool = True) -> Callable[[int], list[list[int]]]:
    """Batches of a fixed size, in an order that follows from seed and epoch; the last of an epoch may be smaller.

    Returns
    -------
    callable
        From the number of an epoch to its batches, for :class:`EpochBatches`.

    Example
    -------
    >>> fixed_batches(5, 2, seed=1, shuffle=False)(1)
    [[0, 1], [2, 3], [4]]
    """

    def batches(epoch: int) -> list[list[int]]:
        order = list(range(total))
        if shuffle:
            generator = torch.Generator().manual_seed(seed + epoch)
            order = torch.randperm(total, generator=generator).tolist()
        return [order[start : start + size] for start in range(0, total, size)]

    return batches
