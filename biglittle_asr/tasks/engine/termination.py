"""SIGTERM during training: finish the step, write a checkpoint, and end the process with exit status 143.

SLURM sends this signal before a time limit or a preemption, and kills remaining processes some seconds later.
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
    """A context in which SIGTERM only sets a flag, which the training reads at its next step.

    It changes nothing if the process ignores the signal anyway, or outside the main thread.

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
        """Whether any process of a distributed training got the signal; each process must call it at the same place."""
        if count_processes() == 1:
            return self.requested
        requested = torch.tensor(int(self.requested), device=device)
        torch.distributed.all_reduce(requested, torch.distributed.ReduceOp.MAX)
        return bool(requested)


def end() -> None:
    """End the process as SIGTERM would."""
    sys.exit(128 + signal.SIGTERM)


def worker_init() -> Callable[[int], None]:
    """Make a loader's `worker_init_fn`: worker processes ignore SIGTERM until the training process exits.

    SLURM sends the signal to all processes of a job, but the current step still needs its batch. Python ends the
    workers by the same signal when it exits.

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
