#!/usr/bin/env python3
"""Measure training and inference throughput, in images or seconds of audio per second.

python benchmarks/throughput.py            # a table: on a GPU if there is one, else on the CPU at a small size
python benchmarks/throughput.py --json     # the same for scripts

A training step is forward, backward and an SGD step. Encoders use a simple loss instead of CTC, which costs little.
Data are random and already on the device, so only the network is measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from biglittle_asr.models import create_encoder, create_model
from biglittle_asr.profiling.latency import machine

FRAMES_A_SECOND = 100
IMAGES = ("bl_resnet50", "resnet50")
ENCODERS = ("bl_resnet22", "resnet22")
WARMING = 2
"""Uncounted first steps, which compile, allocate and choose algorithms."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Sizes:
    """Default input sizes."""

    batch: int
    """Images per batch."""
    pixels: int
    """Height and width of an image."""
    utterances: int
    """Utterances per batch."""
    seconds: float
    """Duration of an utterance."""


SIZES = {"cuda": Sizes(128, 224, 32, 15.0), "cpu": Sizes(4, 96, 2, 10.0)}


@dataclass(frozen=True)
class Row:
    """A measurement."""

    network: str
    work: str
    """Training or inference."""
    input: str
    precision: str
    compiled: bool
    throughput: float | None
    """Images or seconds of audio per second; None if it could not be measured."""
    unit: str
    memory: float | None
    """Peak GPU memory in GB."""
    note: str = ""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = parse(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    facts = {"machine": machine(device), "threads": torch.get_num_threads()}
    if not options.json:
        print("{machine}, {threads} threads".format(**facts), flush=True)
        print(LINE.format("network", "work", "input", "precision", "compiled", "throughput", "", "GB"), flush=True)
    rows = []
    for row in measurements(options, device):
        rows.append(asdict(row))
        if not options.json:
            print(describe(row), flush=True)
    if options.json:
        print(json.dumps({**facts, "rows": rows}))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; sizes default to those of the device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--images", nargs="*", default=IMAGES, metavar="NAME", help="image models")
    parser.add_argument("--encoders", nargs="*", default=ENCODERS, metavar="NAME", help="acoustic encoders")
    parser.add_argument("--precision", nargs="+", default=["bf16"], choices=sorted(DTYPES))
    parser.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, default=True, help="also measure with torch.compile"
    )
    parser.add_argument("--batch", type=int, help="images per batch")
    parser.add_argument("--pixels", type=int, help="height and width of an image")
    parser.add_argument("--utterances", type=int, help="utterances per batch")
    parser.add_argument("--seconds", type=float, help="duration of an utterance")
    parser.add_argument("--time", type=float, default=3.0, help="seconds per measurement (default: 3)")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    options = parser.parse_args(argv)
    for name, value in asdict(SIZES["cuda" if options.device.startswith("cuda") else "cpu"]).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def measurements(options: argparse.Namespace, device: torch.device) -> Iterator[Row]:
    """Yield measurements as they finish."""
    frames = round(options.seconds * FRAMES_A_SECOND)
    images = torch.randn(options.batch, 3, options.pixels, options.pixels, device=device)
    features = torch.randn(options.utterances, frames, 80, device=device)
    works = [
        (name, create_model, images.to(memory_format=torch.channels_last), "images/s", options.batch)
        for name in options.images
    ] + [
        (name, create_encoder, features, "s of audio/s", options.utterances * options.seconds)
        for name in options.encoders
    ]
    for name, create, example, unit, amount in works:
        for precision in options.precision:
            for compiled in (False, True) if options.compile else (False,):
                for work, measure in (("inference", infer), ("training", train)):
                    torch.manual_seed(0)
                    # torch's annotations lack the argument memory_format.
                    network: Any = create(name).to(device)
                    network = network.to(memory_format=torch.channels_last)
                    place = " x ".join(map(str, example.shape))
                    if device.type == "cuda":
                        torch.cuda.reset_peak_memory_stats(device)
                    rate, note = None, ""
                    try:
                        step = measure(torch.compile(network) if compiled else network, example, DTYPES[precision])
                        rate = amount / median_time(step, device, options.time)
                    # A missing compiler or too little memory must not stop the other rows.
                    except Exception as error:
                        note = (str(error) or type(error).__name__).strip().splitlines()[0]
                    memory = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
                    yield Row(name, work, place, precision, compiled, rate, unit, memory, note)


def infer(network: nn.Module, example: Tensor, dtype: torch.dtype) -> Callable[[], Any]:
    """Make a forward pass in evaluation mode."""
    network.eval()

    def step() -> None:
        with torch.inference_mode(), torch.autocast(example.device.type, dtype, enabled=dtype != torch.float32):
            network(example)

    return step


def train(network: nn.Module, example: Tensor, dtype: torch.dtype) -> Callable[[], Any]:
    """Make a training step."""
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)
    labels = torch.zeros(len(example), dtype=torch.long, device=example.device)

    def step() -> None:
        with torch.autocast(example.device.type, dtype, enabled=dtype != torch.float32):
            output = network(example)
        output = output.float()
        loss = functional.cross_entropy(output, labels) if output.dim() == 2 else output.square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def median_time(step: Callable[[], Any], device: torch.device, seconds: float) -> float:
    """Median time of a step in seconds."""
    for _ in range(WARMING):
        step()
    times: list[float] = []
    while not times or sum(times) < seconds:
        finish(device)
        start = time.perf_counter()
        step()
        finish(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def finish(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


LINE = "{:<16}{:<11}{:<22}{:<11}{:<10}{:>10} {:<13}{:>6}"


def describe(row: Row) -> str:
    """Format a line of the table."""
    rate = "-" if row.throughput is None else f"{row.throughput:.1f}"
    memory = "" if row.memory is None else f"{row.memory:.1f}"
    compiled = "yes" if row.compiled else "no"
    line = LINE.format(row.network, row.work, row.input, row.precision, compiled, rate, row.unit, memory)
    return f"{line.rstrip()}  {row.note}".rstrip()


if __name__ == "__main__":
    main()
