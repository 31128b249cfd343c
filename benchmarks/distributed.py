#!/usr/bin/env python3
"""How fast `--engine ray` is with 1, 2 and more workers beside one process, and what limits it.

python benchmarks/distributed.py MODEL data/test.csv                 # about 10 minutes of audio or more
python benchmarks/distributed.py MODEL data/test.csv --repeat 5 --workers 1 2 4

One process transcribes all recordings with one thread. Then, for each number of workers, a cluster of this machine with
as many cores does. The rate is of the time between the first results and the last; the time until the first is the
start, which is paid once: Ray's processes, and in each worker the import of PyTorch and the model. The efficiency is
the rate over that of as many single processes. All times are by the clock, so run this on a quiet machine; the load at
the beginning is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from biglittle_asr.corpora.manifest import read_manifest, row_segment
from biglittle_asr.inference import load_model, transcribe
from biglittle_asr.inference.audio import Recording
from biglittle_asr.inference.distributed import SharedModel, cluster, distribute
from biglittle_asr.inference.evaluation import Result
from biglittle_asr.inference.transcription import Failure
from biglittle_asr.profiling.latency import machine
from biglittle_asr.threads import bound_spinning, usable_cores

GOOD = 0.85
"""An efficiency above this is that of the cores."""
QUIET = 1.0
"""Above this load, other programs have a part in the times."""
BUSY = 0.8
"""A driver that computes for more than this part of the time is the limit itself."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table or JSON."""
    options = parse(argv)
    bound_spinning()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    rows = read_manifest(options.data, ("ID", "wav"))
    once = [Recording.of_segment(row["ID"], row["wav"], row_segment(row)) for row in rows]
    recordings = [replace(each, name=f"{each.name}-{turn}") for turn in range(options.repeat) for each in once]
    model = SharedModel.of(options.model, load_model(options.model))
    recognizer = model.load()
    list(transcribe(recognizer, recordings[:3]))  # the first calls prepare things
    alone = timed(transcribe(recognizer, recordings))
    # One process has no start to be told apart.
    alone["rate"] = alone["seconds"] / alone["total_s"]
    table = []
    for workers in options.workers:
        with cluster(cores=workers):
            row = {"workers": workers, **timed(distribute(model, recordings))}
        row["efficiency"] = row["rate"] / (workers * alone["rate"])
        table.append({**row, "limit": limit(row, load)})
    facts = {"machine": machine(torch.device("cpu")), "load": load, "recordings": len(recordings), "process": alone}
    if options.json:
        print(json.dumps({**facts, "rows": table}))
        return
    print(
        f"{facts['machine']}, load {load:.1f} before; {len(recordings)} recordings, {alone['seconds']:.0f} s of audio"
    )
    print(f"  one process: {alone['rate']:.0f} times faster than real time")
    for row in table:
        print(
            f"  {row['workers']} workers: {row['rate']:.0f}, efficiency {row['efficiency']:.0%}, start "
            f"{row['start_s']:.1f} s, driver busy {row['driver']:.0%} of the time; limit: {row['limit']}"
        )


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", type=Path, help="model folder, or its name")
    parser.add_argument("data", metavar="MANIFEST", type=Path, help="CSV file with columns ID and wav")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="(default: 1 2)")
    parser.add_argument("--repeat", type=int, default=1, help="transcribe all recordings so often (default: 1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(argv)


def timed(results: Iterable[Result]) -> dict[str, Any]:
    """Times of a run, and seconds of audio a second after the results that come first."""
    begin, cpu = time.perf_counter(), time.process_time()
    arrivals: list[tuple[float, float]] = []
    for each in results:
        if isinstance(each, Failure):
            raise SystemExit(str(each.error))
        arrivals.append((time.perf_counter() - begin, each.duration))
    start, total = arrivals[0][0], arrivals[-1][0]
    # A unit's results come at once.
    first = sum(duration for arrival, duration in arrivals if arrival - start < 0.01)
    seconds = sum(duration for _, duration in arrivals)
    return {
        "seconds": seconds,
        "start_s": start,
        "total_s": total,
        "rate": (seconds - first) / max(total - start, 1e-6),
        "driver": (time.process_time() - cpu) / total,
    }


def limit(row: dict[str, Any], load: float) -> str:
    """What more would make it faster."""
    if row["workers"] > usable_cores():
        return f"this machine's {usable_cores()} cores"
    if load > QUIET:
        return "not told, since other programs ran; measure again when the machine is quiet"
    if row["efficiency"] > GOOD:
        return "the workers' cores: as many more times as fast"
    if row["driver"] > BUSY:
        return "the driver"
    return "Ray's work between units, and the driver and the workers sharing cores"


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
