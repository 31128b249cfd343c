"""Counters of a server, in Prometheus' text format (version 0.0.4)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
TRANSCRIPTIONS, STREAMS = "transcriptions", "streams"


@dataclass
class Metrics:
    """What a server has done. Each entry is changed by one thread only, so that no lock is needed.

    Example
    -------
    >>> metrics = Metrics()
    >>> metrics.requests[200] += 1
    >>> print(metrics.text().splitlines()[2])
    biglittle_requests_total{status="200"} 1
    """

    requests: Counter[int] = field(default_factory=Counter)
    """Responses by status; 101 are streams that were accepted."""
    audio_seconds: dict[str, float] = field(default_factory=lambda: {TRANSCRIPTIONS: 0.0, STREAMS: 0.0})
    """Audio transcribed."""
    compute_seconds: dict[str, float] = field(default_factory=lambda: {TRANSCRIPTIONS: 0.0, STREAMS: 0.0})
    """Time for it, without waiting."""
    streams: int = 0
    """Open streams."""
    queue: int = 0
    """Requests for transcriptions that are uploading, waiting or computing."""

    def text(self) -> str:
        """The counters for Prometheus."""
        tables = (
            ("requests_total", "counter", "Responses by status.", "status", sorted(self.requests.items())),
            ("audio_seconds_total", "counter", "Audio transcribed.", "kind", self.audio_seconds.items()),
            ("compute_seconds_total", "counter", "Time computing.", "kind", self.compute_seconds.items()),
            ("streams", "gauge", "Open streams.", "", [("", self.streams)]),
            ("queue_length", "gauge", "Transcriptions uploading, waiting or computing.", "", [("", self.queue)]),
        )
        lines = []
        for name, kind, meaning, label, rows in tables:
            lines += [f"# HELP biglittle_{name} {meaning}", f"# TYPE biglittle_{name} {kind}"]
            for key, value in rows:
                labels = f'{{{label}="{key}"}}' if label else ""
                lines.append(f"biglittle_{name}{labels} {value}")
        return "\n".join(lines) + "\n"
