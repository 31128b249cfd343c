"""File locks that are released when the processes that hold them end, for whatever reason."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def try_lock(path: Path, patience: float = 0.0) -> int | None:
    """Lock a file, which is created if it does not exist.

    The lock is held by this process and by all processes that inherit its descriptor, until the last of them ends.

    Arguments
    ---------
    path : pathlib.Path
    patience : float
        Time to keep trying, in seconds.

    Returns
    -------
    int or None
        Descriptor, which :func:`os.close` unlocks; None if another process holds the lock.
    """
    end = time.monotonic() + patience
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() > end:
                os.close(descriptor)
                return None
            time.sleep(0.05)


def is_locked(path: Path) -> bool:
    """Whether another process holds the lock of a file."""
    if not path.exists():
        return False
    descriptor = try_lock(path)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is None


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Lock a folder itself, without a lock file, and wait for the lock if needed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
