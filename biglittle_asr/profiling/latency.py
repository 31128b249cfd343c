"""Wall-clock time of a forward pass, as a median over several, with its spread."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Latency:
    """Milliseconds of a forward pass, and what they were measured with."""

    median: float
    low: float
    high: float
    threads: int
    batch: int
    dtype: str


def measure_latency(module: nn.Module, *example: Tensor, runs: int = 10) -> Latency:
    """Median, lowest and highest time of `runs` forward passes, after one that is not counted.

    Arguments
    ---------
    module : nn.Module
        Measured in evaluation mode, on the device of `example`; its mode is restored.
    *example : Tensor
        Arguments of its forward; the first one's first axis is the batch.
    runs : int

    Example
    -------
    >>> measure_latency(nn.Linear(4, 4), torch.zeros(2, 4), runs=3).batch
    2
    """
    training, times = module.training, []
    module.eval()
    with torch.inference_mode():
        for _ in range(runs + 1):
            start = time.perf_counter()
            module(*example)
            if example[0].is_cuda:
                torch.cuda.synchronize()
            times.append(1000 * (time.perf_counter() - start))
    module.train(training)
    counted = times[1:]
    return Latency(
        median=statistics.median(counted),
        low=min(counted),
        high=max(counted),
        threads=torch.get_num_threads(),
        batch=len(example[0]),
        dtype=str(example[0].dtype).removeprefix("torch."),
    )
