#!/usr/bin/env python3
"""Inference time of networks in every runtime and precision, and whether a Big-Little network's time follows its MACs.

python benchmarks/inference.py --output results/inference              # all that docs/performance.md shows
python benchmarks/inference.py bl_resnet22 --seconds 10 --threads 1 --batch 1    # a small part of it
python benchmarks/inference.py bl_resnet50 --runtimes torch optimized  # before and after optimize()
python benchmarks/inference.py --onnx results/onnx --rounds 0          # only make the ONNX files, for a later run

Networks are Big-Little encoders and image classifiers, each with its plain twin, and SpeechBrain's encoders. The first
value of --threads, --batch and --seconds holds for all of them. With the other values, one at a time, the first network
and its twin are measured; with several durations also their peak memory, in a process for each row.

In each round, a network and its twin run once in every runtime, so that other work on the machine slows all alike.
Times are medians over rounds, of CPU time on one thread and of the clock on several; a ratio is the median of the
ratios within a round, with its quartiles. The folder of --output gets table.md, times.json, times.csv and times.svg.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from twins import FRAMES_A_SECOND, Step, in_turns

from biglittle_asr.export import image_graph, quantize, utterance_graph
from biglittle_asr.export.files import own_metadata, serialized
from biglittle_asr.export.graphs import OPSET, UtteranceNetwork
from biglittle_asr.files import write_atomically
from biglittle_asr.inference import optimize
from biglittle_asr.inference.runtimes import RUNTIMES, TORCH, OpenVINO
from biglittle_asr.messages import first_line
from biglittle_asr.models import BigLittleEncoder, ImageClassifier, create_encoder, create_model, list_encoders
from biglittle_asr.models import list_models as list_classifiers
from biglittle_asr.models.foreign import ForeignEncoder, conformer, crdnn
from biglittle_asr.profiling import count_costs, encoder_costs
from biglittle_asr.profiling.latency import machine
from biglittle_asr.study.results import describe_machine

if TYPE_CHECKING:
    import onnx

FOREIGN = {
    "conformer": lambda: conformer(80, [64, 32], 144, 4, 12, 1024, 31, 0.1),
    "crdnn": lambda: crdnn(80, [128, 256], 4, 1024, 2, 512, 4, 0.15),
}
"""SpeechBrain's encoders, with the sizes of hparams/encoders."""
DEFAULT = (
    "bl_resnet36_context", "bl_resnet22_context", "bl_resnet22", "bl_resnet34", "bl_resnet22_half", "bl_resnet34_half",
    *FOREIGN, "bl_resnet50",
)  # fmt: skip
TORCHVISION = "torchvision's "
"""What the names of torchvision's classifiers begin with."""
PRECISIONS = ("fp32", "bf16", "int8")
OPTIMIZED = "optimized"
"""PyTorch after optimize()."""
PIXELS = 224
CALIBRATION = 4
"""Inputs whose ranges int8 takes; times do not depend on them."""
FEWEST_ROUNDS = 3


@dataclass(frozen=True)
class Load:
    """How a network is called."""

    threads: int
    batch: int
    """Utterances or images."""
    seconds: float
    """Seconds of audio in an utterance."""


@dataclass
class Network:
    """A network to measure."""

    name: str
    module: nn.Module
    macs: int
    """Multiply-accumulates per image, or per second of audio."""
    twin: str | None = None

    @property
    def takes_images(self) -> bool:
        """Whether it takes images; otherwise, features."""
        return not isinstance(self.module, BigLittleEncoder | ForeignEncoder)

    def example(self, load: Load) -> Tensor:
        """An input: features (B, T, F), or images (B, C, H, W)."""
        generator = torch.Generator().manual_seed(0)
        if self.takes_images:
            return torch.randn(load.batch, 3, PIXELS, PIXELS, generator=generator)
        return torch.randn(load.batch, round(load.seconds * FRAMES_A_SECOND), 80, generator=generator)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    options = parse(argv)
    base, *others = loads(options)
    facts = {
        "machine": machine(torch.device("cpu")),
        "flags": describe_machine()["cpu_flags"],
        **asdict(base),
        "rounds": options.rounds,
    }
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.onnx or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for index, name in enumerate(dict.fromkeys(options.names)):
            networks = list(found(name))
            measured = [base, *others] if index == 0 else [base]
            if networks[0].takes_images:
                measured = [each for each in measured if each.seconds == base.seconds]
            for load in measured:
                tell(f"{name}: {load.threads} thread(s), batch {load.batch}, {load.seconds:g} s")
                rows += measure(networks, load, options, folder, is_first=load == base)
            if len(options.seconds) > 1 and options.rounds and index == 0 and not networks[0].takes_images:
                add_memory([row for row in rows if row["ms"] is not None], base, options.seconds, folder)
    if not options.rounds:
        return
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        write_atomically(options.output / "times.json", json.dumps({**facts, "rows": rows}, indent=1) + "\n")
        write_atomically(options.output / "times.csv", as_csv(rows))
        write_atomically(options.output / "table.md", tables(facts, rows) + "\n")
        draw(facts, rows, options.output / "times.svg")
    print(json.dumps({**facts, "rows": rows}) if options.json else tables(facts, rows))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = ", ".join([*list_encoders(), *FOREIGN, "bl_resnet50 and other image models"])
    parser.add_argument("names", metavar="NETWORK", nargs="*", default=DEFAULT, help=f"of {known}")
    runtimes = (TORCH, OPTIMIZED, *RUNTIMES)
    parser.add_argument("--runtimes", nargs="+", choices=runtimes, default=runtimes)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="(default: 1, then 2)")
    parser.add_argument(
        "--batch", nargs="+", type=int, default=[1, 16], help="utterances or images (default: 1, then 16)"
    )
    parser.add_argument(
        "--seconds", nargs="+", type=float, default=[10, 1, 60, 600], help="of audio (default: 10, then 1, 60, 600)"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=9,
        help="passes of each network (default: 9), fewer for more audio; 0 only exports",
    )
    parser.add_argument("--onnx", type=Path, metavar="FOLDER", help="folder in which ONNX files are kept, or found")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="folder for tables, rows and a picture")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    for name in options.names:
        if name not in (*list_encoders(), *FOREIGN, *list_classifiers()):
            parser.error(f"no network is named {name}; --help lists them.")
    return options


def loads(options: argparse.Namespace) -> list[Load]:
    """The first value of each option together, then the others one at a time."""
    base = Load(options.threads[0], options.batch[0], options.seconds[0])
    others = {"threads": options.threads[1:], "batch": options.batch[1:], "seconds": options.seconds[1:]}
    return [base, *(replace(base, **{key: value}) for key, values in others.items() for value in values)]


def tell(line: str) -> None:
    """Tell what is done now, apart from what is printed in the end."""
    print(line, file=sys.stderr, flush=True)


def found(name: str) -> Iterator[Network]:
    """A named network, with its plain twin behind it if it has one, and torchvision's own network behind that."""
    if name in list_classifiers():
        plain = name.removeprefix("bl_")
        for each in dict.fromkeys((name, plain)):
            yield _classifier(each, create_model(each), plain if each != plain else None)
        try:
            import torchvision

            theirs = torchvision.models.get_model(plain)
        except (ImportError, ValueError):  # it is not installed, or has no such network
            return
        yield _classifier(TORCHVISION + plain, theirs)
    elif name in FOREIGN:
        foreign = FOREIGN[name]().eval()
        yield Network(name, foreign, count_costs(foreign, torch.randn(1, FRAMES_A_SECOND, 80)).macs)
    else:
        twin = create_encoder(name, big_little_stages=0)
        own = create_encoder(name)
        pair = [(name, own)] if own.config == twin.config else [(name, own), (f"{name}'s twin", twin)]
        for each, encoder in pair:
            twin_name = pair[1][0] if encoder is own and len(pair) == 2 else None
            yield Network(each, encoder.eval(), encoder_costs(encoder).macs, twin_name)


def _classifier(name: str, model: nn.Module, twin: str | None = None) -> Network:
    return Network(name, model.eval(), count_costs(model, torch.randn(1, 3, PIXELS, PIXELS)).macs, twin)


def measure(
    networks: list[Network], load: Load, options: argparse.Namespace, folder: Path, is_first: bool
) -> list[dict[str, Any]]:
    """The rows of a network and its twin in every runtime and precision; if it is the first time, after a trial."""
    torch.set_num_threads(load.threads)
    rows: list[dict[str, Any]] = []
    steps: list[Step] = []
    for network in networks:
        for runtime in options.runtimes:
            for precision in options.precisions:
                if not supported(network, runtime, precision):
                    continue
                row = {"network": network.name, "runtime": runtime, "precision": precision, **asdict(load)}
                row |= {"macs": network.macs, "ms": None, "note": ""}
                try:
                    step = prepare(network, runtime, precision, load, folder)
                    if is_first and options.rounds:
                        step()
                    steps.append(step)
                    row["step"] = len(steps) - 1
                except Exception as error:  # exporters and runtimes have many, and other networks remain
                    row["note"] = f"not measured: {first_line(error)}"
                    tell(f"{network.name}, {runtime}, {precision}: {row['note']}")
                rows.append(row)
    if options.rounds:
        audio = load.seconds / options.seconds[0] * load.batch / options.batch[0]
        count = max(min(options.rounds, FEWEST_ROUNDS), round(options.rounds / max(1.0, audio)))
        clock = "cpu" if load.threads == 1 else "wall"
        summarize(rows, in_turns(steps, count)[clock], {each.name: each for each in networks})
    for row in rows:
        row.pop("step", None)
    return rows


def supported(network: Network, runtime: str, precision: str) -> bool:
    """Whether there is such a combination."""
    if runtime == OPTIMIZED and not isinstance(network.module, BigLittleEncoder | ImageClassifier):
        return False
    if runtime in (TORCH, OPTIMIZED):
        return precision != "int8"
    return precision != "bf16" or runtime == OpenVINO.name


def prepare(network: Network, runtime: str, precision: str, load: Load, folder: Path) -> Step:
    """A forward pass to time."""
    example = network.example(load)
    if runtime in (TORCH, OPTIMIZED):
        is_bf16, module = precision == "bf16", network.module
        if runtime == OPTIMIZED:
            module = optimize(module, dtype=torch.bfloat16 if is_bf16 else None)

        def step() -> None:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=is_bf16 and runtime == TORCH):
                module(example)

        return step
    path = exported(network, precision, folder)
    session = RUNTIMES[runtime](path, load.threads) if precision != "bf16" else BFloat16(path, load.threads)
    if isinstance(network.module, BigLittleEncoder):
        planes = np.ascontiguousarray(example.numpy().transpose(0, 2, 1))
        inputs = [planes, np.full(len(planes), planes.shape[2])]
    else:
        inputs = [example.numpy()]
    return lambda: session.run(inputs)


class BFloat16(OpenVINO):
    """OpenVINO in bfloat16."""

    hint = "bf16"


def exported(network: Network, precision: str, folder: Path) -> Path:
    """The network as an ONNX file, made once."""
    path = folder / f"{network.name}.{'int8' if precision == 'int8' else 'fp32'}.onnx".replace(" ", "_").replace(
        "'", ""
    )
    if not path.is_file():
        write_atomically(path, serialized(graph_of(network, precision == "int8")))
    return path


def graph_of(network: Network, is_int8: bool) -> onnx.ModelProto:
    """The network as an ONNX graph."""
    import onnx

    module: Any = network.module
    facts = own_metadata(inputs="normalized")
    shape: tuple[int, ...] = (1, FRAMES_A_SECOND * 2, 80)
    if isinstance(module, BigLittleEncoder):
        shape = (1, 80, FRAMES_A_SECOND * 2)
    elif network.takes_images:
        shape = (1, 3, PIXELS, PIXELS)
    calibration = [
        np.random.default_rng(seed).normal(size=shape).astype(np.float32)
        for seed in range(CALIBRATION if is_int8 else 0)
    ]
    small: Callable[[Any], Any] = (lambda graph: quantize(graph, calibration)) if is_int8 else (lambda graph: graph)
    if isinstance(module, BigLittleEncoder):
        return utterance_graph(UtteranceNetwork(module, nn.Identity()), facts, small)
    graph = small(image_graph(module, 3, PIXELS, facts) if network.takes_images else foreign_graph(module))
    onnx.helper.set_model_props(graph, facts)  # which quantization drops
    return graph


def foreign_graph(module: ForeignEncoder) -> onnx.ModelProto:
    """The graph of one of SpeechBrain's encoders: `features` (B, T, F) to `outputs` (B, T', D), without lengths.

    PyTorch's exporter makes invalid graphs of SpeechBrain's convolutions. They squeeze an axis that need not be of size
    1, which does nothing in PyTorch and is an error in ONNX.
    """
    free = torch.export.Dim.AUTO
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            module, (torch.randn(2, 200, 80),), dynamic_shapes={"x": {0: free, 1: free}}, strict=False
        )
        for node in list(program.graph.nodes):
            if node.target is torch.ops.aten.squeeze.dim:
                source, axis = node.args
                if source.meta["val"].shape[axis] != 1:
                    node.replace_all_uses_with(source)
                    program.graph.erase_node(node)
        found = torch.onnx.export(
            program, dynamo=True, opset_version=OPSET, input_names=["features"], output_names=["outputs"], verbose=False
        )
    assert found is not None
    model = found.model_proto
    # The exporter notes the number of frames of its example as that of all outputs.
    for each in model.graph.output:
        each.type.tensor_type.ClearField("shape")
    return model


def summarize(rows: list[dict[str, Any]], rounds: Sequence[Sequence[float]], networks: dict[str, Network]) -> None:
    """Add to each row its times, and its ratio to its twin's row of the same runtime and precision."""
    steps = {(row["network"], row["runtime"], row["precision"]): row["step"] for row in rows if "step" in row}
    for row in rows:
        if "step" not in row:
            continue
        times = [each[row["step"]] for each in rounds]
        row |= {"ms": statistics.median(times), "low_ms": min(times), "high_ms": max(times)}
        twin = networks[row["network"]].twin or ""
        place = steps.get((twin, row["runtime"], row["precision"]))
        if place is None:
            continue
        ratios = sorted(each[row["step"]] / each[place] for each in rounds)
        quarter = len(ratios) // 4
        row |= {
            "macs_ratio": row["macs"] / networks[twin].macs,
            "ratio": statistics.median(ratios),
            "ratio_low": ratios[quarter],
            "ratio_high": ratios[-1 - quarter],
        }


def add_memory(rows: list[dict[str, Any]], base: Load, seconds: Sequence[float], folder: Path) -> None:
    """Add to the rows of every duration how much memory a pass takes beside the network and the libraries."""
    durations = sorted(seconds)
    works = {(row["network"], row["runtime"], row["precision"]) for row in rows}
    for work in sorted(works):
        tell(f"memory of {', '.join(work)}")
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            peaks = process.submit(peak_megabytes, *work, base, durations, folder).result()
        for row in rows:
            own = (row["network"], row["runtime"], row["precision"]) == work
            if own and (row["threads"], row["batch"]) == (base.threads, base.batch):
                row["peak_mb"] = peaks[durations.index(row["seconds"])]


def peak_megabytes(
    name: str, runtime: str, precision: str, base: Load, durations: Sequence[float], folder: Path
) -> list[float | None]:
    """For ascending durations, how far memory rises above that of the process that has loaded the network (Linux)."""
    torch.set_num_threads(base.threads)
    network = next(each for each in found(name.removesuffix("'s twin")) if each.name == name)
    peaks: list[float | None] = []
    before = None
    for seconds in durations:
        step = prepare(network, runtime, precision, replace(base, seconds=seconds), folder)
        try:
            before = before or _status("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
            step()
            peaks.append((_status("VmHWM") - before) / 1024)
        except (OSError, StopIteration):
            peaks.append(None)
        del step
    return peaks


def _status(key: str) -> int:
    """A number of kilobytes that the kernel tells of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{key}:")).split()[1])


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a table of comma-separated values."""
    import pandas

    text: str = pandas.DataFrame(rows).to_csv(index=False)
    return text


def tables(facts: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown: times of all networks; of the first with other loads; memory; what is missing, and why."""

    def at_base(row: dict[str, Any]) -> bool:
        return all(row[key] == facts[key] for key in ("threads", "batch", "seconds"))

    def label(row: dict[str, Any]) -> str:
        return "{network}, {threads} thread(s), batch {batch}, {seconds:g} s".format(**row)

    def ratio(row: dict[str, Any]) -> str:
        return f" ({row['ratio']:.2f})" if "ratio" in row else ""

    first = rows[0]["network"]
    others = {row["network"]: row for row in rows if row["network"].startswith(first)}
    shares = {row["network"]: row for row in rows if "macs_ratio" in row}
    parts = [
        "{machine} ({flags}), {threads} thread(s), batch {batch}, {seconds:g} s of audio; medians of {rounds} rounds, "
        "in ms. In brackets: the part of the plain twin's.".format(**facts),
        pivot(
            [row for row in rows if at_base(row)],
            lambda row: (
                row["network"] + (f" ({shares[row['network']]['macs_ratio']:.2f})" if row["network"] in shares else "")
            ),
            "network (MACs)",
            lambda row: f"{row['ms']:,.1f}{ratio(row)}",
        ),
    ]
    varied = [row for row in rows if row["network"] in others]
    if not all(map(at_base, varied)):
        parts += [
            "The same per second of audio, or per image:",
            pivot(varied, label, "load", lambda row: f"{row['ms'] / amount(row):,.2f}{ratio(row)}"),
        ]
    if any("peak_mb" in row for row in rows):
        parts += [
            "Peak memory in MB, beside the network and the libraries:",
            pivot(
                [row for row in rows if row.get("peak_mb") is not None],
                label,
                "load",
                lambda row: f"{row['peak_mb']:,.0f}",
            ),
        ]
    parts += [f"{row['network']}, {row['runtime']}, {row['precision']}: {row['note']}." for row in rows if row["note"]]
    return "\n\n".join(part for part in parts if part)


def amount(row: dict[str, Any]) -> float:
    """Seconds of audio, or images, of a pass."""
    return float(
        row["batch"] * (1 if row["network"].removeprefix(TORCHVISION) in list_classifiers() else row["seconds"])
    )


def pivot(
    rows: Sequence[dict[str, Any]],
    label: Callable[[dict[str, Any]], str],
    head: str,
    cell: Callable[[dict[str, Any]], str],
) -> str:
    """A Markdown table with a line for each label and a column for each runtime and precision."""
    columns = list(dict.fromkeys((row["runtime"], row["precision"]) for row in rows))
    lines: dict[str, dict[tuple[str, str], str]] = {}
    for row in rows:
        text = "not measured" if row["ms"] is None else cell(row)
        lines.setdefault(label(row), {})[row["runtime"], row["precision"]] = text
    return "\n".join(
        [
            " | ".join([f"| {head}", *map(", ".join, columns)]) + " |",
            "|---" * (len(columns) + 1) + "|",
            *(
                " | ".join([f"| {name}", *(cells.get(column, "") for column in columns)]) + " |"
                for name, cells in lines.items()
            ),
        ]
    )


def draw(facts: dict[str, Any], rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw time against MACs, both as parts of the twin's: on the diagonal, time follows MACs."""
    from matplotlib.figure import Figure

    base = [row for row in rows if all(row[key] == facts[key] for key in ("threads", "batch", "seconds"))]
    pairs = [row for row in base if "ratio" in row]
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
