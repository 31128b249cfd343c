#!/usr/bin/env python3
"""Inference time of networks in every runtime and precision, and whether a Big-Little network's time follows its MACs.

python benchmarks/inference.py                                             # several shapes, 10 s of audio, one thread
python benchmarks/inference.py bl_resnet22 bl_resnet50 conformer --batch 16 --threads 2 --runtimes onnxruntime
python benchmarks/inference.py bl_resnet50 --runtimes torch optimized      # before and after optimize()
python benchmarks/inference.py --precisions fp32 bf16 --output results/inference   # table.md, times.json, times.svg

Every Big-Little network is measured beside its plain twin. In each round every network runs once in every runtime, so
that other work on the machine slows all of them alike. Times are medians over rounds, of CPU time on one thread and of
the clock on several; a ratio is the median of the ratios within a round, with its quartiles.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from twins import FRAMES_A_SECOND, Step, in_turns

from biglittle_asr.export import image_graph, quantize, utterance_graph
from biglittle_asr.export.files import own_metadata, serialized
from biglittle_asr.export.graphs import UtteranceNetwork
from biglittle_asr.inference import optimize
from biglittle_asr.inference.runtimes import RUNTIMES, TORCH, OpenVINO
from biglittle_asr.models import BigLittleEncoder, create_encoder, create_model, list_encoders, list_models
from biglittle_asr.models.foreign import ForeignEncoder, conformer, crdnn
from biglittle_asr.profiling import count_costs, encoder_costs
from biglittle_asr.profiling.latency import machine
from biglittle_asr.study.results import describe_machine

DEFAULT = ("bl_resnet36_context", "bl_resnet22_context", "bl_resnet22", "bl_resnet22_half", "bl_resnet34")
FOREIGN = {
    "conformer": lambda: conformer(80, [64, 32], 144, 4, 12, 1024, 31, 0.1),
    "crdnn": lambda: crdnn(80, [128, 256], 4, 1024, 2, 512, 4, 0.15),
}
"""SpeechBrain's encoders, with the sizes of hparams/encoders."""
PRECISIONS = ("fp32", "bf16", "int8")
OPTIMIZED = "optimized"
"""PyTorch after optimize()."""
PIXELS = 224
CALIBRATION = 4
"""Inputs whose ranges int8 takes; times do not depend on them."""


@dataclass
class Network:
    """A network to measure."""

    name: str
    module: nn.Module
    macs: int
    example: Tensor
    """Its input: features (B, T, F), or images (B, C, H, W)."""
    twin: str | None = None


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    options = parse(argv)
    torch.set_num_threads(options.threads)
    networks = list(chosen(options))
    rows, steps = [], []
    with tempfile.TemporaryDirectory() as folder:
        for network in networks:
            for runtime in options.runtimes:
                for precision in options.precisions:
                    step = prepare(network, runtime, precision, options.threads, Path(folder))
                    if step is not None:
                        rows.append({"network": network.name, "runtime": runtime, "precision": precision})
                        steps.append(step)
        clock = "cpu" if options.threads == 1 else "wall"
        rounds = in_turns(steps, options.rounds)[clock]
    summarize(rows, rounds, {network.name: network for network in networks})
    facts = {
        "machine": machine(torch.device("cpu")),
        "flags": describe_machine()["cpu_flags"],
        **{name: getattr(options, name) for name in ("threads", "batch", "seconds", "rounds")},
    }
    if options.json:
        print(json.dumps({**facts, "rows": rows}))
    else:
        print(table(facts, rows))
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "times.json").write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")
        (options.output / "table.md").write_text(table(facts, rows) + "\n")
        draw(facts, rows, options.output / "times.svg")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = ", ".join([*list_encoders(), *FOREIGN, "resnet50, bl_resnet50 and other image models"])
    parser.add_argument("names", metavar="NETWORK", nargs="*", default=DEFAULT, help=f"of {known}")
    parser.add_argument("--runtimes", nargs="+", choices=(TORCH, OPTIMIZED, *RUNTIMES), default=(TORCH, *RUNTIMES))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=("fp32", "int8"))
    parser.add_argument("--threads", type=int, default=1, help="(default: 1)")
    parser.add_argument("--batch", type=int, default=1, help="utterances or images (default: 1)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of audio in an utterance (default: 10)")
    parser.add_argument("--rounds", type=int, default=15, help="passes of each network (default: 15)")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="folder for a table and a picture")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(argv)


def chosen(options: argparse.Namespace) -> Iterator[Network]:
    """The networks of the command line, each Big-Little one with its plain twin behind it."""
    frames = round(options.seconds * FRAMES_A_SECOND)
    for name in dict.fromkeys(options.names):
        plain = name.removeprefix("bl_")
        if name in list_models():
            images = torch.randn(options.batch, 3, PIXELS, PIXELS)
            for each in dict.fromkeys((name, plain)):
                model = create_model(each).eval()
                yield Network(
                    each, model, count_costs(model, images[:1]).macs, images, plain if each != plain else None
                )
        elif name in FOREIGN:
            features = torch.randn(options.batch, frames, 80)
            encoder = FOREIGN[name]().eval()
            second = torch.randn(1, FRAMES_A_SECOND, 80)
            yield Network(name, encoder, count_costs(encoder, second).macs, features)
        elif name in list_encoders():
            twin = create_encoder(name, big_little_stages=0)
            own = create_encoder(name)
            features = torch.randn(options.batch, frames, own.config.input_size)
            pair = [(name, own)] if own.config == twin.config else [(name, own), (f"{name}'s twin", twin)]
            for each, encoder in pair:
                twin_name = pair[1][0] if encoder is own and len(pair) == 2 else None
                yield Network(each, encoder.eval(), encoder_costs(encoder).macs, features, twin_name)
        else:
            raise SystemExit(f"error: no network is named {name}; --help lists them.")


def prepare(network: Network, runtime: str, precision: str, threads: int, folder: Path) -> Step | None:
    """A forward pass to time; None where a runtime has no such precision or cannot take the network."""
    if runtime == TORCH:
        return None if precision == "int8" else torch_step(network, precision)
    if runtime == OPTIMIZED:
        return None if precision == "int8" else optimized_step(network, precision)
    if precision == "bf16" and runtime != OpenVINO.name:
        return None
    try:
        path = exported(network, precision, folder)
    except Exception as error:  # the exporter has many, and other networks are still to be measured
        print(f"{network.name} in {runtime}, {precision}: left out ({str(error).splitlines()[0][:120]}).")
        return None
    session = RUNTIMES[runtime](path, threads) if precision != "bf16" else BFloat16(path, threads)
    array = network.example.numpy()
    if array.ndim == 4:
        inputs = [array]
    else:
        inputs = [np.ascontiguousarray(array.transpose(0, 2, 1)), np.full(len(array), array.shape[1])]
    return lambda: session.run(inputs)


class BFloat16(OpenVINO):
    """OpenVINO in bfloat16."""

    hint = "bf16"


def torch_step(network: Network, precision: str) -> Step:
    """A forward pass in PyTorch."""

    def step() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            network.module(network.example)

    return step


def optimized_step(network: Network, precision: str) -> Step | None:
    """A forward pass in PyTorch after optimize(), which takes networks of this package only."""
    if isinstance(network.module, ForeignEncoder):
        return None
    module = optimize(network.module, dtype=torch.bfloat16 if precision == "bf16" else None)

    def step() -> None:
        with torch.inference_mode():
            module(network.example)

    return step


def exported(network: Network, precision: str, folder: Path) -> Path:
    """The network as an ONNX file, made once."""
    path = folder / f"{network.name}.{'int8' if precision == 'int8' else 'fp32'}.onnx".replace(" ", "_")
    if path.is_file():
        return path
    facts, shape = own_metadata(inputs="normalized"), network.example.shape
    small: Callable[[Any], Any] = lambda graph: quantize(graph, calibration())  # noqa: E731
    if network.example.dim() == 4:

        def calibration() -> Iterator[Any]:
            return (np.random.default_rng(seed).normal(size=shape).astype(np.float32) for seed in range(CALIBRATION))

        graph = image_graph(network.module, shape[1], shape[2], facts)
        graph = small(graph) if precision == "int8" else graph
    else:

        def calibration() -> Iterator[Any]:
            size = (1, shape[2], shape[1])
            return (np.random.default_rng(seed).normal(size=size).astype(np.float32) for seed in range(CALIBRATION))

        module: Any = network.module
        if not isinstance(module, BigLittleEncoder):
            raise ValueError("of foreign encoders only PyTorch is measured")
        graph = utterance_graph(UtteranceNetwork(module, nn.Identity()), facts, small if precision == "int8" else None)
    path.write_bytes(serialized(graph))
    return path


def summarize(rows: list[dict[str, Any]], rounds: Sequence[Sequence[float]], networks: dict[str, Network]) -> None:
    """Add to each row its times, and its ratio to its twin's row of the same runtime and precision."""
    places = {(row["network"], row["runtime"], row["precision"]): index for index, row in enumerate(rows)}
    for index, row in enumerate(rows):
        times = [each[index] for each in rounds]
        network = networks[row["network"]]
        row |= {"macs": network.macs, "ms": statistics.median(times), "low_ms": min(times), "high_ms": max(times)}
        twin = places.get((network.twin or "", row["runtime"], row["precision"]))
        if twin is None:
            continue
        ratios = sorted(each[index] / each[twin] for each in rounds)
        quarter = len(ratios) // 4
        row |= {
            "macs_ratio": network.macs / networks[network.twin or ""].macs,
            "ratio": statistics.median(ratios),
            "ratio_low": ratios[quarter],
            "ratio_high": ratios[-1 - quarter],
        }


def table(facts: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "{machine} ({flags}), {threads} threads, batch {batch}, {seconds:g} s of audio; medians of {rounds} "
        "rounds.".format(**facts),
        "",
        "| network | runtime | precision | ms | of its twin's MACs | of its twin's time (quartiles) |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        ratio = "{macs_ratio:.3f} | {ratio:.2f} ({ratio_low:.2f} to {ratio_high:.2f})" if "ratio" in row else " | "
        lines.append(("| {network} | {runtime} | {precision} | {ms:.1f} | " + ratio + " |").format(**row))
    return "\n".join(lines)


def draw(facts: dict[str, Any], rows: list[dict[str, Any]], path: Path) -> None:
    """Draw time against MACs, both as parts of the twin's: on the diagonal, time follows MACs."""
    from matplotlib.figure import Figure

    pairs = [row for row in rows if "ratio" in row]
    if not pairs:
        return
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, label="time follows MACs")
    for name in dict.fromkeys((row["runtime"], row["precision"]) for row in pairs):
        own = [row for row in pairs if (row["runtime"], row["precision"]) == name]
        spread = [[r["ratio"] - r["ratio_low"] for r in own], [r["ratio_high"] - r["ratio"] for r in own]]
        points = [r["macs_ratio"] for r in own], [r["ratio"] for r in own]
        axes.errorbar(*points, yerr=spread, fmt="o", markersize=4, label=", ".join(name))
    for row in {row["network"]: row for row in pairs}.values():
        axes.annotate(row["network"], (row["macs_ratio"], 0.02), rotation=90, fontsize=7, color="0.4")
    axes.set(xlabel="MACs, of the plain twin's", ylabel="time, of the plain twin's", xlim=(0.3, 1), ylim=(0, 1.1))
    axes.set_title("{threads} thread(s), batch {batch}, {seconds:g} s".format(**facts), fontsize=9)
    axes.legend(fontsize=7)
    figure.savefig(path)


if __name__ == "__main__":
    main()
