"""Timing of long runs: seconds by activity, and a table of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import TypeVar

Item = TypeVar("Item")

IDLE = nullcontext()
"""Shared context manager of disabled measurements."""


class Stopwatch:
    """Charges time to the innermost open activity, so that shares add up to the whole.

    If disabled, a measurement costs one comparison.

    Arguments
    ---------
    enabled : bool
        Whether to measure.
    synchronize : callable, optional
        Waits for the device, such as `torch.cuda.synchronize`. It is called at every change of activity. Otherwise the
        time of a device that works asynchronously would be charged to the activity that waits for it.
    clock : callable
        Monotonic clock that returns seconds.

    Example
    -------
    >>> watch = Stopwatch(clock=iter([0.0, 1.0, 2.0, 5.0, 6.0, 8.0]).__next__)   # one reading a change
    >>> with watch("forward"):
    ...     with watch("features"):
    ...         pass
    >>> watch.seconds
    {'forward': 2.0, 'features': 3.0}
    >>> print(watch.table())
    activity      seconds    share    times
    features          3.0   37.5 %        1
    forward           2.0   25.0 %        1
    not measured      3.0   37.5 %
    total             8.0  100.0 %
    """

    def __init__(
        self,
        enabled: bool = True,
        synchronize: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.enabled = enabled
        self.seconds: dict[str, float] = {}
        """Seconds of each activity, without the activities inside it."""
        self.times: dict[str, int] = {}
        """Number of measurements of each activity."""
        self.parallel: dict[str, float] = {}
        """Seconds of other processes, parallel to this one."""
        self._synchronize = synchronize
        self._clock = clock
        self._open: list[str] = []
        self._start = self._changed = clock() if enabled else 0.0

    def __call__(self, activity: str) -> AbstractContextManager[None]:
        """Charge the time of a `with` block to an activity."""
        return _Activity(self, activity) if self.enabled else IDLE

    def each(self, activity: str, items: Iterable[Item]) -> Iterator[Item]:
        """Yield items, and charge the time to get each of them to an activity.

        Example
        -------
        >>> watch = Stopwatch(clock=iter(range(9)).__next__)
        >>> [block for block in watch.each("reading", "ab")], watch.seconds
        (['a', 'b'], {'reading': 3.0})
        """
        iterator = iter(items)
        while True:
            with self(activity):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def start(self, activity: str) -> None:
        """Open an activity, as entering the `with` block does."""
        if self.enabled:
            self._change()
            self._open.append(activity)
            self.seconds.setdefault(activity, 0.0)
            self.times[activity] = self.times.get(activity, 0) + 1

    def stop(self) -> None:
        """Close the innermost open activity."""
        if self.enabled:
            self._change()
            self._open.pop()

    def add(self, seconds: Mapping[str, float]) -> None:
        """Charge seconds measured elsewhere in this process, and subtract them from the open activity.

        Example
        -------
        >>> watch = Stopwatch(clock=iter([0.0, 0.0, 5.0]).__next__)
        >>> with watch("waiting for data"):
        ...     watch.add({"reading": 4.0})
        >>> watch.seconds
        {'waiting for data': 1.0, 'reading': 4.0}
        """
        if self.enabled:
            for activity, amount in seconds.items():
                self.seconds[activity] = self.seconds.get(activity, 0.0) + amount
                self.times[activity] = self.times.get(activity, 0) + 1
                if self._open:
                    self.seconds[self._open[-1]] -= amount

    def add_parallel(self, seconds: Mapping[str, float]) -> None:
        """Record seconds of another process, which ran in parallel and do not count in the whole."""
        if self.enabled:
            for activity, amount in seconds.items():
                self.parallel[activity] = self.parallel.get(activity, 0.0) + amount

    def table(self) -> str:
        """Write seconds, share of the time since this object was made, and number of measurements, longest first."""
        total = max(self._clock() - self._start, 1e-9)
        rows = sorted(self.seconds.items(), key=lambda row: -row[1])
        lines = [(name, seconds, f"{self.times[name]:9}") for name, seconds in rows]
        lines += [("not measured", total - sum(self.seconds.values()), ""), ("total", total, "")]
        width = max(len(name) for name in [*self.seconds, *self.parallel, "not measured"])
        text = [f"{'activity':{width}}  seconds    share    times"]
        text += [f"{name:{width}}{took:9.1f}{100 * took / total:7.1f} %{times}" for name, took, times in lines]
        if self.parallel:
            text.append("in worker processes, in parallel to the above:")
            text += [f"{name:{width}}{took:9.1f}" for name, took in sorted(self.parallel.items())]
        return "\n".join(text)

    def _change(self) -> None:
        if self._synchronize is not None:
            self._synchronize()
        now = self._clock()
        if self._open:
            self.seconds[self._open[-1]] += now - self._changed
        self._changed = now


class _Activity(AbstractContextManager[None]):
    def __init__(self, stopwatch: Stopwatch, activity: str) -> None:
        self.stopwatch = stopwatch
        self.activity = activity

    def __enter__(self) -> None:
        self.stopwatch.start(self.activity)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stopwatch.stop()
