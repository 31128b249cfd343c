"""Limits the spinning of idle OpenMP threads. Programs call this before they import torch; the library never does.

Between two parallel loops, an OpenMP thread first spins, so that it is ready at once, and later sleeps. GNU's OpenMP,
which PyTorch's wheels for Linux include, spins for milliseconds; Intel's and LLVM's spin for 200 ms. If other programs
or a container's CPU quota leave fewer cores than threads, spinning threads take time from working ones, and a forward
pass takes many times as long (`benchmarks/spinning.py` measures this).
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

BOUNDS = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}
"""For GNU's OpenMP, loop iterations (measured in docs/training.md). For Intel's and LLVM's, milliseconds; 1 is the
smallest value above 0."""

SETTINGS = frozenset({*BOUNDS, "OMP_WAIT_POLICY", "KMP_LIBRARY"})
"""Variables that say how threads wait. If the user has set one, nothing is changed."""


def usable_cores() -> int:
    """Cores that this process may use.

    Example
    -------
    >>> usable_cores() >= 1
    True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def bound_spinning(environment: MutableMapping[str, str] = os.environ) -> None:
    """Make idle OpenMP threads sleep soon, in this process and its child processes, unless the user has set otherwise.

    OpenMP reads the environment once, when it is loaded, so call this before torch is imported.

    Arguments
    ---------
    environment : mutable mapping
        Environment variables to change.

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
