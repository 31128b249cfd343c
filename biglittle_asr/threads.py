"""How long the idle threads of OpenMP spin; for programs to set before they import torch. The library never does.

Between two parallel loops, a thread of OpenMP waits: it spins, ready at once, and sleeps after a while. GNU's OpenMP,
which PyTorch's wheels for Linux bring, spins for milliseconds; Intel's and LLVM's for 200 ms. Where other programs,
or a container's CPU quota, leave fewer cores than there are threads, spinning threads take the time that the working
ones need, and a forward pass takes many times as long (`benchmarks/spinning.py` measures it).
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

BOUNDS = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}
"""GNU's OpenMP: turns of a loop, measured in docs/training.md. Intel's and LLVM's: milliseconds, the least but none."""

SETTINGS = frozenset({*BOUNDS, "OMP_WAIT_POLICY", "KMP_LIBRARY"})
"""Whoever sets one of these has decided how threads wait."""


def usable_cores() -> int:
    """Cores that this process may use.

    Example
    -------
    >>> usable_cores() >= 1
    True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def bound_spinning(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have OpenMP's idle threads sleep soon, in this process and those that it starts, unless the user decided.

    OpenMP reads the environment once, as it is loaded: call this before torch is imported.

    Arguments
    ---------
    environment : mutable mapping
        Where to set it.

    Example
    -------
    >>> environment = {}
    >>> bound_spinning(environment)
    >>> environment
    {'GOMP_SPINCOUNT': '10000', 'KMP_BLOCKTIME': '1'}
    >>> environment = {"OMP_WAIT_POLICY": "ACTIVE"}
    >>> bound_spinning(environment)
    >>> environment
    {'OMP_WAIT_POLICY': 'ACTIVE'}
    """
    if SETTINGS.isdisjoint(environment):
        environment.update(BOUNDS)
