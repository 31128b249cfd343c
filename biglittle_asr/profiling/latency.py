"""Wall-clock time of a forward pass: median and range over several passes."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Latency:
    """Time of a forward pass in milliseconds, and the conditions of the measurement."""

    median: float
    low: float
    high: float
    threads: int
    batch: int
    dtype: str
    runs: int
    """Number of forward passes measured."""
    machine: str

    def facts(self) -> dict[str, Any]:
        """Return what `biglittle profile --json` prints under latency_ms."""
        return {key: value for key, value in asdict(self).items() if key not in ("runs", "machine")}


def measure_latency(
    module: nn.Module,
    *example: Tensor,
    runs: int = 10,
    seconds: float = 5.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Latency:
    """Measure the median, lowest and highest time of up to `runs` forward passes, after a warm-up pass.

    Arguments
    ---------
    module : nn.Module
        The module, measured in evaluation mode on the device of `example`; its mode is restored. A sparse module
        computes its masks in every pass; freeze it to measure the trained network.
    *example : Tensor
        Arguments of its forward; the first axis of the first argument is the batch.
    runs : int
        Number of passes to measure, 1 or more.
    seconds : float
        Time in seconds after which no further pass begins; one pass is always measured.
    progress : callable
        Called with the number of passes done and the total.

    Example
    -------
    >>> measure_latency(nn.Linear(4, 4), torch.zeros(2, 4), runs=3).batch
    2
    """
    training = module.training
    times: list[float] = []
    begin = time.perf_counter()
    module.eval()
    try:
        with torch.inference_mode():
            while len(times) < 2 or (len(times) <= runs and time.perf_counter() - begin < seconds):
                _finish(example[0])
                start = time.perf_counter()
                module(*example)
                _finish(example[0])
                times.append(1000 * (time.perf_counter() - start))
                progress(len(times), runs + 1)
    finally:
        module.train(training)
    counted = times[1:]
    return Latency(
        median=statistics.median(counted),
        low=min(counted),
        high=max(counted),
        threads=torch.get_num_threads(),
        batch=len(example[0]),
        dtype=str(example[0].dtype).removeprefix("torch."),
        runs=len(counted),
        machine=machine(example[0].device),
    )


def machine(device: torch.device) -> str:
    """Describe the machine: processor or GPU, operating system, and PyTorch version."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = processor()
    return f"{name}, {platform.system()}, PyTorch {torch.__version__}"


def processor() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _finish(tensor: Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
