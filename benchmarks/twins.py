#!/usr/bin/env python3
"""What a Big-Little encoder saves against its plain twin: MACs, and time measured in turns with it.

python benchmarks/twins.py bl_resnet22 bl_resnet22_context big_stride=[2,2]     # encoders, with options behind them
python benchmarks/twins.py bl_resnet22 --optimized --onnx                       # also optimized, and in onnxruntime
python benchmarks/twins.py bl_resnet22 --training --precision bf16              # also a training step, and its masks

The twin is the same encoder with all stages plain. In each round every network runs once, so that other work on the
machine slows all of them alike. Times are medians over rounds, by the clock and of the process's CPU, which waiting for
other processes does not lengthen; a ratio is the median of the ratios within a round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biglittle_asr.commands.networks import override
from biglittle_asr.inference import optimize
from biglittle_asr.models import BigLittleEncoder, create_encoder
from biglittle_asr.profiling import encoder_costs
from biglittle_asr.profiling.latency import machine
from biglittle_asr.study.results import describe_machine

FRAMES_A_SECOND = 100
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Step = Callable[[], Any]


def main(argv: Sequence[str] | None = None) -> None:
    """Count, measure, print."""
    options = parse(argv)
    torch.set_num_threads(options.threads)
    facts = {
        "machine": machine(torch.device("cpu")),
        "flags": describe_machine()["cpu_flags"],
        "threads": options.threads,
    }
    batch = options.batch, options.seconds, options.precision
    works: dict[str, Callable[[BigLittleEncoder], Step]] = {"forward": lambda each: forward(each, options.seconds)}
    if options.optimized:
        works["optimized"] = lambda each: forward(optimize(each.eval()), options.seconds)
    if options.training:
        works["training"] = lambda each: training_step(each, *batch)
        works["unmasked"] = lambda each: training_step(each, *batch, shortest=1.0)
    if options.onnx:
        works["onnx"] = lambda each: onnx_step(each, options.seconds, options.threads)
    pairs = {name: pair(name) for name in models(options.words)}
    rows: list[dict[str, Any]] = [{"name": name, **counts(*networks)} for name, networks in pairs.items()]
    steps = {
        (name, work, which): make(network)
        for name, networks in pairs.items()
        for work, make in works.items()
        for which, network in zip(("ours", "twins"), networks, strict=True)
    }
    for clock, rounds in in_turns(list(steps.values()), options.rounds).items():
        times = dict(zip(steps, zip(*rounds, strict=True), strict=True))
        for row in rows:
            for work in works:
                ours, twins = times[row["name"], work, "ours"], times[row["name"], work, "twins"]
                row[f"{work}_{clock}"] = {
                    "ms": statistics.median(ours),
                    "twin_ms": statistics.median(twins),
                    "ratio": ratio(ours, twins),
                }
            if options.training:
                row[f"masks_{clock}"] = {
                    f"{prefix}part": 1
                    - ratio(times[row["name"], "unmasked", which], times[row["name"], "training", which])
                    for prefix, which in (("", "ours"), ("twin_", "twins"))
                }
    if options.json:
        print(json.dumps({**facts, "rows": rows}))
        return
    print("{machine} ({flags}), {threads} threads; times in ms".format(**facts))
    for row in rows:
        print(row["name"])
        print("  parameters {parameters:,} of {twin_parameters:,}".format(**row))
        print("  MACs a second {macs:,} of {twin_macs:,}: {macs_ratio:.3f}".format(**row))
        for work in works:
            times = ("{ms:.1f} of {twin_ms:.1f}: {ratio:.3f}".format(**row[f"{work}_{clock}"]) for clock in CLOCKS)
            print(f"  {work} {', CPU '.join(times)}")
        if options.training:
            parts = ("{part:.1%}, twin {twin_part:.1%}".format(**row[f"masks_{clock}"]) for clock in CLOCKS)
            print(f"  masks, of a training step {', CPU '.join(parts)}")


def ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """The median of the ratios within a round."""
    return statistics.median(a / b for a, b in zip(times, others, strict=True))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", metavar="ENCODER [KEY=VALUE ...]", nargs="+", help="presets, options behind them")
    parser.add_argument("--rounds", type=int, default=20, help="passes of each network (default: 20)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of audio in an utterance (default: 10)")
    parser.add_argument("--threads", type=int, default=1, help="(default: 1)")
    parser.add_argument("--optimized", action="store_true", help="time a forward pass after optimize() too")
    parser.add_argument(
        "--training",
        action="store_true",
        help="time a training step too, forward and backward, with padding and without",
    )
    parser.add_argument("--batch", type=int, default=2, help="utterances of a training step (default: 2)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of training (default: fp32)")
    parser.add_argument("--onnx", action="store_true", help="time onnxruntime too; needs onnxscript and onnxruntime")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(argv)


def models(words: Sequence[str]) -> list[str]:
    """The words of each encoder, joined: a preset and the options behind it."""
    starts = [index for index, word in enumerate(words) if "=" not in word]
    if not starts or starts[0]:
        raise SystemExit(f"error: '{words[0]}' is an option: name the encoder before it.")
    return [" ".join(words[start:end]) for start, end in zip(starts, [*starts[1:], len(words)], strict=True)]


def pair(name: str) -> tuple[BigLittleEncoder, BigLittleEncoder]:
    """A Big-Little encoder and its twin."""
    preset, *words = name.split()
    config = dict(map(override, words))
    return create_encoder(preset, **config), create_encoder(preset, **{**config, "big_little_stages": 0})


def counts(encoder: BigLittleEncoder, twin: BigLittleEncoder) -> dict[str, Any]:
    """Parameters and MACs a second, without an output layer."""
    ours, twins = encoder_costs(encoder), encoder_costs(twin)
    return {
        "parameters": ours.parameters,
        "twin_parameters": twins.parameters,
        "macs": ours.macs,
        "twin_macs": twins.macs,
        "macs_ratio": ours.macs / twins.macs,
    }


def features(encoder: BigLittleEncoder, batch: int, seconds: float) -> Tensor:
    """Random ones."""
    return torch.randn(batch, round(seconds * FRAMES_A_SECOND), encoder.config.input_size)


def forward(encoder: BigLittleEncoder, seconds: float) -> Step:
    """One utterance in evaluation mode."""
    encoder.eval()
    x = features(encoder, 1, seconds)

    def step() -> None:
        with torch.inference_mode():
            encoder(x)

    return step


def training_step(encoder: BigLittleEncoder, batch: int, seconds: float, precision: str, shortest: float = 0.8) -> Step:
    """Forward and backward of a batch from the longest to the shortest utterance; equal ones (1) need no masks."""
    x = features(encoder, batch, seconds)
    lengths = torch.linspace(1.0, shortest, batch)

    def step() -> None:
        encoder.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            y = encoder(x, lengths)
        y.float().square().mean().backward()  # type: ignore[no-untyped-call]
        encoder.zero_grad(set_to_none=True)

    return step


def onnx_step(encoder: BigLittleEncoder, seconds: float, threads: int) -> Step:
    """One utterance in onnxruntime, float32, exported in that length."""
    import onnxruntime

    x = features(encoder, 1, seconds)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encoder.onnx"
        torch.onnx.export(encoder.eval(), (x,), path, dynamo=True, external_data=False, verbose=False)
        session = onnxruntime.InferenceSession(path.read_bytes(), settings, providers=["CPUExecutionProvider"])
    name, array = session.get_inputs()[0].name, x.numpy()
    return lambda: session.run(None, {name: array})


def in_turns(steps: Sequence[Step], rounds: int) -> dict[str, list[list[float]]]:
    """By each clock, milliseconds of each step in each round, after one round that is not counted."""
    measured: dict[str, list[list[float]]] = {clock: [] for clock in CLOCKS}
    for _ in range(rounds + 1):
        times = []
        for step in steps:
            start = [clock() for clock in CLOCKS.values()]
            step()
            times.append([1000 * (clock() - since) for clock, since in zip(CLOCKS.values(), start, strict=True)])
        for index, clock in enumerate(CLOCKS):
            measured[clock].append([each[index] for each in times])
    return {clock: turns[1:] for clock, turns in measured.items()}


if __name__ == "__main__":
    main()
