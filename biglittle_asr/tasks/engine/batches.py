"""Batches, random numbers and sums of a training that do not depend on interruptions or the number of processes.

The batches of an epoch follow from seed and epoch. Augmentation of an utterance uses generators seeded for that
utterance and epoch; each step is seeded likewise. So neither the number of loading processes nor an interruption
changes a number, and a checkpoint need not hold any generator's state.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from speechbrain.utils.distributed import is_distributed_initialized
from torch import Tensor
from torch.utils.data import Sampler

SORTINGS = ("random", "ascending", "descending")


class Draw(NamedTuple):
    """An utterance as one epoch of a training draws it."""

    epoch: int
    position: int
    """Index in the dataset."""


class Failure(NamedTuple):
    """An example whose file could not be used when it was needed."""

    id: str
    reason: str
    words: str = ""
    """Transcript, for an utterance."""
    speaker: str = ""


class EpochBatches(Sampler[list[Draw]]):
    """The batches of each epoch, which follow from seed and epoch alone, distributed over the processes of a training.

    In each step every process takes the next batch. If fewer batches than processes are left for the last step, their
    examples are distributed instead. So every example is drawn once per epoch, whatever the number of processes, even
    if that number changes within the epoch.

    Arguments
    ---------
    make : callable
        Maps the number of an epoch to its batches, lists of indices.

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
        """Distribute the batches over `processes` processes; this one has the number `process`, counted from 0."""
        self.process, self.processes = process, processes
        self._deal()

    def resume(self, epoch: int, steps: int, taken: int) -> None:
        """Continue an epoch in which `steps` steps have used `taken` of its batches."""
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
        # The loader skips these placeholders for the steps that were taken.
        self.own: list[list[int]] = [[] for _ in range(self.steps_before)] + left[self.process : rest : self.processes]
        if left[rest:]:
            examples = [index for batch in left[rest:] for index in batch]
            self.own.append(examples[self.process :: self.processes])

    def taken(self, steps: int) -> int:
        """Count the batches of the epoch that all processes together have used after `steps` steps each.

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
        """Short text that identifies the order of the epoch, given the names of all utterances."""
        order = [[names[index] for index in batch] for batch in self.batches]
        return hashlib.sha256(repr(order).encode()).hexdigest()[:16]


def fixed_batches(total: int, size: int, seed: int, shuffle: bool = True) -> Callable[[int], list[list[int]]]:
    """Make batches of a fixed size, in an order that follows from seed and epoch; an epoch's last batch may be smaller.

    Returns
    -------
    callable
        Maps the number of an epoch to its batches, for :class:`EpochBatches`.

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


# Random numbers


def seed_all(*place: object) -> None:
    """Seed the generators of torch (every device), numpy and Python for one place in a training.

    Arguments
    ---------
    *place
        Identifies the place: numbers and strings such as seed, epoch and utterance.

    Example
    -------
    >>> seed_all(1234, 1, "utterance 1")
    >>> first = torch.rand(3)
    >>> _ = torch.rand(100)
    >>> seed_all(1234, 1, "utterance 1")
    >>> torch.equal(torch.rand(3), first)
    True
    """
    digest = hashlib.sha256(repr(place).encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little"))
    np.random.seed(int.from_bytes(digest[8:12], "little"))
    random.seed(digest[12:20])


# Processes; one process alone is the simple case of a distributed training


def count_processes() -> int:
    """Number of processes of a distributed training; 1 for any other.

    Example
    -------
    >>> count_processes()
    1
    """
    return torch.distributed.get_world_size() if is_distributed_initialized() else 1


def process_number() -> int:
    """Number of this process in a distributed training, from 0; 0 in any other, whatever SLURM's variables say.

    Example
    -------
    >>> process_number()
    0
    """
    return torch.distributed.get_rank() if is_distributed_initialized() else 0


def gather(value: Any) -> list[Any]:
    """Collect a value from each process of a distributed training; every process gets the list.

    Example
    -------
    >>> gather("mine")
    ['mine']
    """
    if not is_distributed_initialized():
        return [value]
    gathered: list[Any] = [None] * count_processes()
    torch.distributed.all_gather_object(gathered, value)
    return gathered


def mean_over_processes(count: Tensor) -> Tensor:
    """The divisor of a training loss: the number () of terms in the loss, averaged over all processes.

    Gradients are averaged over processes. With this divisor they equal those of one process with all batches together,
    however unequal the batches are. Each process must call it once per step.
    """
    if count_processes() == 1:
        return count
    total = count.detach().double().clone()
    torch.distributed.all_reduce(total)
    return (total / count_processes()).clamp(min=1 / count_processes())
