"""What the processes of a distributed training tell one another; one process alone is the simple case of it."""

from typing import Any

import torch
from speechbrain.utils.distributed import is_distributed_initialized
from torch import Tensor


def count_processes() -> int:
    """Of a distributed training; 1 for any other.

    Example
    -------
    >>> count_processes()
    1
    """
    return torch.distributed.get_world_size() if is_distributed_initialized() else 1


def gather(value: Any) -> list[Any]:
    """What each process of a distributed training has, on each of them.

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
    """What to divide a training loss by: what it is counted in (), averaged over the processes of a training.

    Gradients are averaged over processes. With this, they are those of one process on all their batches together,
    however unequal these are. Each process must call it once a step.
    """
    if count_processes() == 1:
        return count
    total = count.detach().double().clone()
    torch.distributed.all_reduce(total)
    return (total / count_processes()).clamp(min=1 / count_processes())
