"""SIGTERM in a training: the step is finished and a checkpoint written before the process ends, with exit status 143.

SLURM sends this signal before a time limit or a preemption, and kills what is left some seconds later.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from multiprocessing.util import Finalize
from types import FrameType
from typing import Any

import torch

from biglittle_asr.tasks.engine.batches import count_processes


class Termination:
    """While it is entered, SIGTERM only makes a note, which the training reads at its next step.

    Where the process ignores the signal anyway, or outside of the main thread, nothing changes.

    Example
    -------
    >>> with Termination() as termination:
    ...     signal.raise_signal(signal.SIGTERM)
    ...     termination.is_requested(torch.device("cpu"))
    True
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: Any = signal.SIG_IGN

    def __enter__(self) -> Termination:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.getsignal(signal.SIGTERM)
        if self._before != signal.SIG_IGN:
            signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before != signal.SIG_IGN:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True

    def is_requested(self, device: str | torch.device) -> bool:
        """Whether any process of a distributed training got the signal; each must call it at the same place."""
        if count_processes() == 1:
            return self.requested
        requested = torch.tensor(int(self.requested), device=device)
        torch.distributed.all_reduce(requested, torch.distributed.ReduceOp.MAX)
        return bool(requested)


def end() -> None:
    """End the process as one that SIGTERM has ended."""
    sys.exit(128 + signal.SIGTERM)


def worker_init() -> Callable[[int], None]:
    """The `worker_init_fn` of a loader whose processes leave SIGTERM to the one that trains, until that one exits.

    SLURM sends the signal to all processes of a job, and the step needs its batch. Python ends such processes by the
    same signal when it exits.

    Returns
    -------
    callable
        Takes the worker's number.
    """
    leaving = multiprocessing.RawValue("b", 0)
    Finalize(None, setattr, (leaving, "value", 1), exitpriority=0)
    return partial(_leave_to_the_trainer, leaving)


def _leave_to_the_trainer(leaving: Any, worker: int) -> None:
    def handle(number: int, frame: FrameType | None) -> None:
        if leaving.value:
            os._exit(0)

    signal.signal(signal.SIGTERM, handle)
