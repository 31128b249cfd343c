#!/usr/bin/env python3
"""Time a forward pass on a quiet and on a busy CPU, for different spin times of OpenMP's idle threads.

python benchmarks/spinning.py              # a Markdown table of medians, with the lowest and highest round
python benchmarks/spinning.py --rounds 5   # for a machine that others use too

Between two parallel loops, a thread either spins, which occupies a core, or sleeps and must be woken. OpenMP reads the
setting when it is loaded, so each setting runs in its own process. The settings take turns, so that other load on the
machine affects all of them equally. Busy processes, one per CPU, compute without a pause.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence

from biglittle_asr.threads import SETTINGS

WAYS: dict[str, dict[str, str]] = {
    "unset": {},
    "GOMP_SPINCOUNT=0": {"GOMP_SPINCOUNT": "0"},
    **{f"GOMP_SPINCOUNT={count}": {"GOMP_SPINCOUNT": str(count)} for count in (3_000, 10_000, 30_000, 50_000)},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
}
"""Settings of GNU's OpenMP."""

LLVM_WAYS: dict[str, dict[str, str]] = {
    "unset": {},
    **{f"KMP_BLOCKTIME={milliseconds}": {"KMP_BLOCKTIME": str(milliseconds)} for milliseconds in (0, 1, 10)},
}
"""Settings of Intel's and LLVM's OpenMP, in milliseconds."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="bl_resnet22")
    parser.add_argument("--seconds", type=float, nargs="+", default=[1.0, 10.0], help="s of audio (default: 1 10)")
    parser.add_argument("--threads", type=int, default=2, help="threads of the network (default: 2)")
    parser.add_argument("--busy", type=int, default=os.cpu_count(), help="busy processes (default: one per CPU)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements per setting (default: 3)")
    parser.add_argument("--time", type=float, default=2.0, help="seconds per measurement (default: 2)")
    parser.add_argument("--llvm", metavar="LIBRARY", help="a libiomp5.so or libomp.so to use instead of torch's own")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.measure:
        print(json.dumps(measure(options)))
        return
    ways = LLVM_WAYS if options.llvm else WAYS
    found: dict[tuple[str, bool], list[list[float]]] = defaultdict(list)
    print(f"{options.threads} threads on {os.cpu_count()} CPUs; load before: {os.getloadavg()[0]:.1f}", flush=True)
    for _, busy in itertools.product(range(options.rounds), (False, True)):
        with busy_processes(options.busy if busy else 0):
            for way, setting in ways.items():
                found[way, busy].append(start(setting, options, sys.argv[1:] if argv is None else argv))
    heads = [f"{seconds:g} s, {state}" for state in ("quiet", "busy") for seconds in options.seconds]
    print(f"\n| ms | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 1)}")
    for way in ways:
        columns = [column for busy in (False, True) for column in zip(*found[way, busy], strict=True)]
        print(f"| {way} | {' | '.join(map(describe, columns))} |")


def describe(times: Sequence[float]) -> str:
    """Format the median, lowest and highest round."""
    return f"{statistics.median(times):.1f} ({min(times):.1f} to {max(times):.1f})"


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Run processes that compute without a pause."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def start(setting: dict[str, str], options: argparse.Namespace, argv: Sequence[str]) -> list[float]:
    """Measure in a process with only this setting."""
    environment = {key: value for key, value in os.environ.items() if key not in SETTINGS}
    environment |= {"OMP_NUM_THREADS": str(options.threads), **setting}
    if options.llvm:
        environment["LD_PRELOAD"] = options.llvm
    done = subprocess.run(
        [sys.executable, __file__, *argv, "--measure"], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    times: list[float] = json.loads(done.stdout)
    return times


def measure(options: argparse.Namespace) -> list[float]:
    """Median milliseconds per forward pass, for each length."""
    import torch
    from throughput import infer, median_time

    from biglittle_asr.models import create_encoder

    torch.manual_seed(0)
    encoder = create_encoder(options.encoder)
    examples = [torch.randn(1, round(100 * seconds), 80) for seconds in options.seconds]
    steps = [infer(encoder, example, torch.float32) for example in examples]
    return [1000 * median_time(step, examples[0].device, options.time) for step in steps]


if __name__ == "__main__":
    main()
