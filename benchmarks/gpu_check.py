"""The checks of gpu_check.sh: GPU results against CPU results, resuming a training, several processes, speed.

Each check is a function in `CHECKS` that yields rows of the table. It runs in its own process, within its time budget.
Rows yielded before a failure or timeout stay in the table.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import multiprocessing
import os
import queue
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

REPOSITORY = Path(__file__).resolve().parent.parent
IMAGE_RECIPE = ("recipes/ImageNet/train.py", "hparams/ImageNet/authors_bl_resnet50.yaml")
SPEECH_RECIPE = ("recipes/LibriSpeech/CTC/train.py", "hparams/LibriSpeech/ctc_bl_resnet22.yaml")
TRAINING = ("speechbrain", "torchaudio", "hyperpyyaml", "sentencepiece", "soundfile", "jiwer", "pandas", "tensorboard")
"""Modules that a recipe needs in addition to torch."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of networks and inputs in the checks."""

    encoders: Sequence[str] | None
    """Encoders to compare; None: all."""
    models: Sequence[str] | None
    """Image models to compare; None: all."""
    frames: int
    """Frames of the longest utterance."""
    pixels: int
    """Height and width of an image."""
    throughput: Sequence[str]
    """Command-line options of throughput.py."""
    batches: int
    """Batches per epoch."""
    image_options: Sequence[str]
    """Command-line options of the image recipe."""
    speech_options: Sequence[str]
    """Command-line options of the speech recipe."""


SIZES = {
    "full": Sizes(
        None,
        None,
        400,
        128,
        ["--time=1"],
        8,
        ["--batch_size=16"],
        ["--batch_size=8"],
    ),
    "small": Sizes(
        ["bl_resnet22", "resnet22", "bl_resnet22_context"],
        ["bl_resnet50", "resnet50", "bl_seresnext50_32x4d"],
        120,
        64,
        ["--time=0.5", "--batch=2", "--pixels=64", "--utterances=2", "--seconds=2"],
        4,
        ["--batch_size=4", "--crop=32", "--resize=36", "--model={blocks: [2, 2, 1, 1], big_little_stages: 2}"],
        ["--batch_size=2", "--encoder={channels: [4, 8, 8, 16], output_size: 32}"],
    ),
    "quick": Sizes(
        ["bl_resnet22"],
        ["bl_resnet50"],
        60,
        32,
        ["--time=0", "--batch=2", "--pixels=32", "--utterances=1", "--seconds=0.2"],
        4,
        ["--batch_size=2", "--crop=16", "--resize=18", "--model={blocks: [2, 2, 1, 1], big_little_stages: 2}"],
        ["--batch_size=2", "--encoder={channels: [4, 8, 8, 16], output_size: 32}"],
    ),
}
"""`full` is for GPUs, `small` for rehearsals on CPUs, `quick` for the tests."""


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    what: str
    passed: bool | None
    """None: not run."""
    measured: str
    allowed: str = ""


@dataclass(frozen=True)
class Check:
    """A check, its time budget and its requirements."""

    run: Callable[[torch.device, Sizes], Iterator[Row]]
    budget: float
    """Seconds, on GPUs and in rehearsals."""
    needs: Sequence[str] = ()
    """Modules that must be installed."""


def compare_logits(device: torch.device, sizes: Sizes) -> Iterator[Row]:
    """Compare float32 logits on the device with float64 on the CPU, and an utterance alone with the same in a batch."""
    from biglittle_asr.models import create_encoder, create_model, list_encoders, list_models

    kinds: dict[str, tuple[Sequence[str], Callable[[str], nn.Module]]] = {
        "encoders": (sizes.encoders or list_encoders(), create_encoder),
        "image models": (sizes.models or list_models(), create_model),
    }
    for kind, (names, create) in kinds.items():
        exact: dict[str, float] = {}
        alone: dict[str, float] = {}
        fast: dict[str, float] = {}
        for name in names:
            torch.manual_seed(0)
            network = create(name).eval()
            randomize_norms(network)
            if kind == "encoders":
                inputs = torch.randn(3, sizes.frames, 80)
                lengths = torch.tensor([1.0, 0.6, 0.15])
            else:
                inputs, lengths = torch.randn(2, 3, sizes.pixels, sizes.pixels), None
            reference = compute(network.double(), inputs.double(), lengths)
            network.float().to(device)
            inputs, lengths = inputs.to(device), None if lengths is None else lengths.to(device)
            batched = compute(network, inputs, lengths)
            exact[name] = deviation(batched, reference)
            if lengths is None:
                alone[name] = deviation(compute(network, inputs[1:], None), batched[1:])
            else:
                frames = round(float(lengths[1]) * sizes.frames)
                single = compute(network, inputs[1:2, :frames], None)
                alone[name] = deviation(single, batched[1:2, : single.shape[1]])
            if device.type == "cuda":
                fast[name] = deviation(compute(network, inputs, lengths, tf32=True), reference)
        yield worst(f"{kind} ({len(names)}): float32 against float64 on the CPU", exact, 1e-4)
        yield worst(f"{kind} ({len(names)}): alone against in a batch, float32", alone, 1e-4)
        if fast:
            yield worst(f"{kind} ({len(names)}): TF32 against float64 on the CPU", fast, 3e-2)


def worst(what: str, deviations: Mapping[str, float], allowed: float) -> Row:
    """Row for several networks: the largest deviation and its network."""
    name = max(deviations, key=lambda each: deviations[each] if deviations[each] == deviations[each] else float("inf"))
    return Row(what, deviations[name] <= allowed, f"{deviations[name]:.1e} ({name})", f"{allowed:.0e}")


def deviation(values: Tensor, reference: Tensor) -> float:
    """Largest difference relative to the reference's largest value."""
    values, reference = values.detach().cpu().double(), reference.detach().cpu().double()
    if values.shape != reference.shape:
        return float("inf")
    return float((values - reference).abs().max() / reference.abs().max().clamp(min=1e-12))


def compute(network: nn.Module, inputs: Tensor, lengths: Tensor | None, tf32: bool = False) -> Tensor:
    """Run a forward pass; on GPUs with or without TF32."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    with torch.inference_mode():
        output: Tensor = network(inputs) if lengths is None else network(inputs, lengths)
    return output


def randomize_norms(network: nn.Module) -> None:
    """Randomize BatchNorm: new blocks end in a scale of zero, which would hide errors in them."""
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.0)
            nn.init.normal_(norm.bias, std=0.3)
            nn.init.normal_(norm.running_mean, std=0.3)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)


def compare_processes(device: torch.device, sizes: Sizes) -> Iterator[Row]:
    """Compare a gradient step of several processes, with masked BatchNorm, with that of one on the whole batch."""
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    # NCCL needs one GPU per process; with gloo, two processes can share one.
    launches = ([("nccl", gpus)] if gpus else []) + ([("gloo", 2)] if gpus < 2 else [])
    for backend, processes in launches:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        command += [__file__, "--worker", backend, "--device", device.type]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        count = f"{processes} process{'es' if processes > 1 else ''}"
        for part in ("loss", "gradient", "BatchNorm statistics"):
            what = f"{backend}, {count}: {part} against one process, float64"
            if done.returncode:
                yield Row(what, False, f"ended with exit status {done.returncode}", "1e-08")
                break
            found = json.loads(done.stdout.splitlines()[-1])[part]
            yield Row(what, found <= 1e-8, f"{found:.1e}", "1e-08")


def work(backend: str, device_type: str) -> None:
    """Run one process of `compare_processes`; the first prints its deviation from a single process."""
    rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = torch.device(device_type)
    if device.type == "cuda":
        device = torch.device("cuda", rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)
    features = torch.randn(2 * processes, 60, 80, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    lengths = torch.linspace(1.0, 0.3, 2 * processes, dtype=torch.float64)
    distributed.init_process_group(backend)
    mine = slice(rank, None, processes)
    together = step(features[mine].to(device), lengths[mine].to(device), len(features), processes)
    distributed.destroy_process_group()
    if rank == 0:
        single = step(features.to(device), lengths.to(device), len(features), 0)
        print(json.dumps({part: deviation(together[part], single[part]) for part in single}))


def step(features: Tensor, lengths: Tensor, total: int, processes: int) -> dict[str, Tensor]:
    """Run a training step on some of `total` utterances; `processes` 0 means a single process."""
    from biglittle_asr.models import create_encoder

    torch.manual_seed(0)
    encoder = create_encoder("bl_resnet22")
    randomize_norms(encoder)
    encoder.double().to(features.device)
    model: nn.Module = nn.parallel.DistributedDataParallel(encoder) if processes else encoder
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1)
    loss = model(features, lengths).square().mean((1, 2)).sum() / total
    # DistributedDataParallel averages gradients, but the loss is a sum over all utterances.
    (loss * max(processes, 1)).backward()
    gradient = torch.cat([weight.grad.flatten() for weight in encoder.parameters() if weight.grad is not None])
    optimizer.step()
    if processes:
        loss = loss.detach().clone()
        distributed.all_reduce(loss)
    statistics = [value.flatten() for name, value in encoder.named_buffers() if "running" in name]
    return {"loss": loss[None], "gradient": gradient, "BatchNorm statistics": torch.cat(statistics)}


def train_images(precision: str) -> Callable[[torch.device, Sizes], Iterator[Row]]:
    """Check the ImageNet recipe on images of noise."""

    def check(device: torch.device, sizes: Sizes) -> Iterator[Row]:
        with tempfile.TemporaryDirectory() as folder:
            data, options = Path(folder) / "data", list(sizes.image_options)
            batch_size = int(options[0].partition("=")[2])
            make_images(data, sizes.batches * batch_size)
            options += ["--train_dataloader_opts={num_workers: 0, pin_memory: False}"]
            options += ["--valid_dataloader_opts={batch_size: 16, num_workers: 0}", "--lr=0.01"]
            yield from resume(f"ImageNet recipe, {precision}", IMAGE_RECIPE, data, options, precision, device, sizes)

    return check


def train_speech(precision: str) -> Callable[[torch.device, Sizes], Iterator[Row]]:
    """Check the CTC recipe on noise in LibriSpeech's layout."""

    def check(device: torch.device, sizes: Sizes) -> Iterator[Row]:
        with tempfile.TemporaryDirectory() as folder:
            data, options = Path(folder) / "data", list(sizes.speech_options)
            batch_size = int(options[0].partition("=")[2])
            make_speech(data, sizes.batches * batch_size)
            options += ["--dynamic_batching=False", "--splits={train: train, dev: dev, test: test}"]
            options += ["--token_type=character", "--vocab_size=null", "--average_checkpoints=[1]"]
            options += ["--train_dataloader_opts={num_workers: 0}"]
            yield from resume(f"CTC recipe, {precision}", SPEECH_RECIPE, data, options, precision, device, sizes)

    return check


def resume(
    what: str,
    recipe: tuple[str, str],
    data: Path,
    options: Sequence[str],
    precision: str,
    device: torch.device,
    sizes: Sizes,
) -> Iterator[Row]:
    """Train two epochs without a break, and again with a kill in the second epoch and a resume."""
    whole, broken = data.parent / "whole", data.parent / "broken"
    script, file = recipe
    argv = [script, file, "--noprogressbar", f"--device={device}", f"--precision={precision}", f"--data_folder={data}"]
    argv += ["--number_of_epochs=2", "--ckpt_interval_steps=2", *options]
    start = time.perf_counter()
    status, log = train([*argv, f"--output_folder={whole}"])
    seconds = time.perf_counter() - start
    if status:
        yield Row(f"{what}: trains", False, last_line(log) or f"exit status {status}")
        return
    losses = read_losses(whole)
    yield Row(
        f"{what}: trains",
        all(0 < loss < 100 for loss in losses),
        f"losses {', '.join(f'{loss:.4f}' for loss in losses)}, {seconds:.0f} s",
        "finite",
    )
    last = sizes.batches + sizes.batches // 2 + 1
    status, _ = train([*argv, f"--output_folder={broken}"], last)
    killed = status == -signal.SIGKILL and any((broken / "save").glob("CKPT*step*"))
    yield Row(f"{what}: killed after {last} steps", killed, f"exit status {status}", f"{-signal.SIGKILL}")
    status, log = train([*argv, f"--output_folder={broken}"])
    if status:
        yield Row(f"{what}: resumes", False, last_line(log) or f"exit status {status}")
        return
    apart = max(abs(a - b) / abs(b) for a, b in zip(read_losses(broken), losses, strict=True))
    # On a GPU, sums are added in another order each time; in 16 bits that shows.
    allowed = 1e-6 if device.type == "cpu" else 2e-2
    yield Row(f"{what}: resumed against not interrupted, losses", apart <= allowed, f"{apart:.1e}", f"{allowed:.0e}")


def train(argv: Sequence[str], last_step: int | None = None) -> tuple[int, str]:
    """Run a recipe in a fresh process, killed after `last_step` if given; return its exit status and output."""
    # A process that has used CUDA cannot fork. On a CPU, forking saves seconds of imports per run.
    context = multiprocessing.get_context("spawn" if torch.cuda.is_available() else "forkserver")
    if isinstance(context, multiprocessing.context.ForkServerContext):
        context.set_forkserver_preload(["biglittle_asr.tasks.images.brain", "biglittle_asr.tasks.speech.train"])
    with tempfile.NamedTemporaryFile("r", suffix=".log") as log:
        process = context.Process(target=run_recipe, args=(list(argv), last_step, log.name))
        process.start()
        process.join()
        return process.exitcode or 0, log.read()


def run_recipe(argv: list[str], last_step: int | None, log: str) -> None:
    """Run a recipe's script as from the command line."""
    from biglittle_asr.tasks.engine.brain import ResumableBrain

    fit_batch = ResumableBrain.fit_batch
    steps = 0

    def count(brain: ResumableBrain, batch: Any) -> Tensor:
        nonlocal steps
        if steps == last_step:
            os.kill(os.getpid(), signal.SIGKILL)
        steps += 1
        return fit_batch(brain, batch)

    ResumableBrain.fit_batch = count  # type: ignore[method-assign]
    os.chdir(REPOSITORY)
    sys.argv = argv
    with open(log, "w", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        runpy.run_path(argv[0], run_name="__main__")


def read_losses(output_folder: Path) -> list[float]:
    """Training loss of each epoch."""
    with (output_folder / "epochs.csv").open(encoding="utf-8", newline="") as file:
        return [float(row["train_loss"]) for row in csv.DictReader(file)]


def last_line(text: str) -> str:
    """Last line of a program's output, shortened for the table."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].replace("|", "/")[:200] if lines else ""


def make_images(folder: Path, count: int) -> None:
    """Write class folders of noise images."""
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    for name, images in (("train", count), ("val", 4)):
        for index in range(images):
            path = folder / name / f"class{index % 2}" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (260, 260, 3), dtype=np.uint8)).save(path)


def make_speech(folder: Path, count: int) -> None:
    """Write noise with transcripts in LibriSpeech's layout."""
    import numpy as np
    import soundfile

    generator = np.random.default_rng(0)
    for number, (name, utterances) in enumerate((("train", count), ("dev", 2), ("test", 2))):
        reader = str(number + 1)
        chapter = folder / name / reader / "1"
        chapter.mkdir(parents=True)
        lines = []
        for index in range(utterances):
            utterance = f"{reader}-1-{index:04d}"
            lines.append(f"{utterance} {('YES', 'NO', 'STOP')[index % 3]}\n")
            noise = 0.1 * generator.standard_normal(16000 + 500 * index)
            soundfile.write(chapter / f"{utterance}.flac", noise.clip(-1, 1), 16000)
        (chapter / f"{reader}-1.trans.txt").write_text("".join(lines), encoding="utf-8")


def measure_throughput(device: torch.device, sizes: Sizes) -> Iterator[Row]:
    """Measure throughput and peak memory, and compare Big-Little networks with their twins."""
    from throughput import ENCODERS, IMAGES, measurements, parse

    options = parse([f"--device={device}", "--no-compile", *sizes.throughput])
    rates: dict[tuple[str, str], float] = {}
    for row in measurements(options, device):
        memory = "" if row.memory is None else f", peak {row.memory:.1f} GB"
        what = f"{row.network}, {row.work}, {row.precision}, {row.input}"
        if row.throughput is None:
            yield Row(what, False, row.note)
            continue
        rates[row.network, row.work] = row.throughput
        yield Row(what, True, f"{row.throughput:,.1f} {row.unit}{memory}")
    for network, twin in (ENCODERS, IMAGES):
        for kind in ("inference", "training"):
            if {(network, kind), (twin, kind)} <= rates.keys():
                ratio = rates[network, kind] / rates[twin, kind]
                yield Row(f"{network} against {twin}, {kind}", True, f"{ratio:.2f} times as fast")


CHECKS = {
    "logits": Check(compare_logits, 90),
    "processes": Check(compare_processes, 60),
    "throughput": Check(measure_throughput, 80),
    "images-bf16": Check(train_images("bf16"), 60, (*TRAINING, "torchvision", "PIL")),
    "speech-bf16": Check(train_speech("bf16"), 60, TRAINING),
    "images-fp16": Check(train_images("fp16"), 60, (*TRAINING, "torchvision", "PIL")),
    "speech-fp16": Check(train_speech("fp16"), 60, TRAINING),
}
"""The checks by name; their budgets add up to 470 s."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the checks and print the table; return 1 if any failed."""
    options = parse_arguments(argv)
    if options.worker:
        work(options.worker, options.device)
        return 0
    if options.list_missing:
        print(", ".join(missing({module for check in CHECKS.values() for module in check.needs})))
        return 0
    device = torch.device(options.device)
    sizes = SIZES["quick" if options.quick else "full" if device.type == "cuda" else "small"]
    from biglittle_asr.profiling.latency import machine

    lines = [
        f"{machine(device)}, {max(torch.cuda.device_count(), 1) if device.type == 'cuda' else os.cpu_count()} "
        f"{'GPUs' if device.type == 'cuda' else 'CPUs'}, {time.strftime('%Y-%m-%d')}",
        "",
        "| check | what | result | measured | allowed |",
        "|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    outcomes: list[bool | None] = []
    for name in options.checks:
        for row in run_check(name, device, sizes, options.patience):
            outcomes.append(row.passed)
            result = {True: "pass", False: "**FAIL**", None: "not run"}[row.passed]
            lines.append(f"| {name} | {row.what} | {result} | {row.measured} | {row.allowed} |")
            print(lines[-1], flush=True)
    passed, failed, left = (outcomes.count(outcome) for outcome in (True, False, None))
    lines += ["", f"{passed} passed, {failed} failed, {left} not run."]
    print("\n".join(lines[-2:]))
    if options.output:
        options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 1 if failed else 0


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    parser.add_argument("--checks", nargs="+", choices=CHECKS, default=list(CHECKS), help="checks (default: all)")
    parser.add_argument("--quick", action="store_true", help="use the smallest networks and inputs")
    parser.add_argument("--patience", type=float, default=1.0, help="factor for the checks' time budgets (default: 1)")
    parser.add_argument("--list-missing", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--worker", metavar="BACKEND", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def missing(modules: set[str]) -> list[str]:
    """Modules that cannot be imported."""
    return sorted(module for module in modules if importlib.util.find_spec(module) is None)


def run_check(name: str, device: torch.device, sizes: Sizes, patience: float = 1.0) -> Iterator[Row]:
    """Yield the rows of a check as they come; a failure or timeout is a row too."""
    check = CHECKS[name]
    absent = missing(set(check.needs))
    if absent:
        yield Row("all", None, f"needs {', '.join(absent)}")
        return
    if name.endswith("fp16") and device.type == "cpu":
        yield Row("all", None, "float16 needs a GPU")
        return
    context = multiprocessing.get_context("spawn")
    rows: Any = context.Queue()
    process = context.Process(target=report, args=(name, str(device), sizes, rows))
    process.start()
    budget = patience * check.budget
    deadline = time.monotonic() + budget
    try:
        while True:
            try:
                row = rows.get(timeout=min(1.0, max(deadline - time.monotonic(), 0.01)))
            except queue.Empty:
                if time.monotonic() > deadline:
                    yield Row("time", False, f"not done after {budget:g} s")
                    return
                if not process.is_alive() and rows.empty():
                    yield Row("all", False, f"ended with exit status {process.exitcode}")
                    return
                continue
            if row is None:
                process.join(deadline - time.monotonic())
                return
            yield row
    finally:
        if process.is_alive():
            end(process)


def end(process: Any) -> None:
    """End a check and its child processes. SIGTERM comes first: killing torchrun would leave its processes running."""
    for way in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, way)
        except ProcessLookupError:
            process.kill()
        process.join(5.0)


def report(name: str, device: str, sizes: Sizes, rows: Any) -> None:
    """Run a check in its process and send its rows."""
    os.setsid()
    try:
        for row in CHECKS[name].run(torch.device(device), sizes):
            rows.put(row)
    # An error in one check must not stop the others.
    except Exception as error:
        rows.put(Row("all", False, last_line(f"{type(error).__name__}: {error}")))
    rows.put(None)


if __name__ == "__main__":
    sys.exit(main())
