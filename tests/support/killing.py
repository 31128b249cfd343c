"""Trainings that are killed: what tests/tasks/engine/test_survival.py does at a few moments, at as many as one likes.

    python tests/support/killing.py --moments 20 [--seed 1] [--precision bf16]

trains a small network on a small corpus undisturbed, then once for each of 20 random moments, at which the training is
ended by SIGKILL and started again, and compares what came out. Exit status 0 where nothing differs.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import ctypes
import hashlib
import importlib.util
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
STEPS_NAME = "steps.txt"

MOMENTS = {
    "before a step": ("biglittle_asr.tasks.speech.ctc", "CTCBrain.fit_batch"),
    "between gradient and weights": ("biglittle_asr.tasks.speech.ctc", "CTCBrain.optimizers_step"),
    "half a file of a checkpoint written": ("torch", "save"),
    "before a file of a checkpoint is forced to the disk": ("biglittle_asr.tasks.engine.checkpoints", "force_to_disk"),
    "before a checkpoint is deleted": ("biglittle_asr.tasks.engine.checkpoints", "Checkpointer._delete"),
    "half a checkpoint deleted": ("shutil", "rmtree"),
    "in the quick evaluation of dev": ("biglittle_asr.tasks.speech.ctc", "CTCBrain.evaluate_batch"),
    "before an epoch is logged": ("biglittle_asr.tasks.engine.brain", "log_epoch"),
    "between two logs of an epoch": ("biglittle_asr.tasks.engine.brain", "draw_epoch"),
    "before the model folder is written": ("biglittle_asr.tasks.speech.evaluation", "write_model_folder"),
    "before the final transcripts of a set": ("biglittle_asr.tasks.speech.evaluation", "transcribe_in_shares"),
    "before the model card gets the scores": ("biglittle_asr.tasks.speech.evaluation", "write_card"),
    "before the scores are written": ("biglittle_asr.tasks.speech.evaluation", "write_scores"),
}
"""Functions at a call of which a training can be killed, or a fault occur."""
WRITING = "before the file is written: "
"""With the name of a file of the output folder, a moment as well."""

CAPABILITIES_3, DAC_OVERRIDE, DAC_READ_SEARCH = 0x20080522, 1 << 1, 1 << 2
"""Constants of linux/capability.h."""


def fill_disk() -> None:
    """Let every later write to a file fail."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))


def drop_rights() -> None:
    """Let permissions of files count for root, too."""
    if os.geteuid() != 0:
        return
    library = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(CAPABILITIES_3, 0), (ctypes.c_uint32 * 6)()
    assert library.capget(header, sets) == 0, os.strerror(ctypes.get_errno())
    for place in (0, 1):  # those in effect, those permitted
        sets[place] &= ~(DAC_OVERRIDE | DAC_READ_SEARCH)
    assert library.capset(header, sets) == 0, os.strerror(ctypes.get_errno())


def arguments(data_folder: Path, output_folder: Path, **options: Any) -> list[str]:
    """Command line of a recipe that takes a second or two."""
    every = {
        "data_folder": data_folder,
        "output_folder": output_folder,
        "encoder": "{channels: [4, 8, 8, 16], output_size: 32}",
        "corpus_options": "{dev_utterances: 6}",
        "number_of_epochs": 3,
        "average_checkpoints": "[1, 2]",
        "precision": "fp32",
        "max_batch_length": 3,
        "ckpt_interval_steps": 2,
        **options,
    }
    file = REPOSITORY / "hparams" / "AN4" / "ctc_bl_resnet22.yaml"
    return [str(file), "--noprogressbar", *(f"--{key}={value}" for key, value in every.items())]


def run(
    argv: Sequence[str],
    log: Path,
    moment: str | None = None,
    count: int = 0,
    number: int | Callable[[], None] = signal.SIGKILL,
) -> tuple[int, dict[str, int]]:
    """Train in a process of its own.

    Arguments
    ---------
    argv : sequence of str
        Command line of the recipe.
    log : pathlib.Path
        Where its output is appended.
    moment : str, optional
        A key of `MOMENTS`, or `WRITING` and a file, when the process is killed; if not given, a fault occurs at the
        start.
    count : int
        At which call of that function, from 1.
    number : int or function
        Signal that it gets, or fault that occurs in it.

    Returns
    -------
    status : int
        Exit status; -9 if it was killed.
    calls : dict
        How often each moment occurred, if it was not; files in the order in which they were first written.
    """
    # One process imports everything once; each training is a copy of it.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["biglittle_asr.tasks.speech.train", "biglittle_asr.tasks.speech.ctc", "killing"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_train, args=(list(argv), log, moment, count, number, sender))
    process.start()
    sender.close()
    try:
        calls = receiver.recv()
    except EOFError:
        calls = {}
    process.join()
    assert process.exitcode is not None
    return process.exitcode, calls


def outcome(folder: Path) -> dict[str, Any]:
    """What a training left, without times: equal for equal trainings."""
    import torch
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with (folder / "epochs.csv").open(newline="") as file:
        epochs = [{name: row[name] for name in row if name != "seconds"} for row in csv.DictReader(file)]
    checkpoints = {}
    for path in sorted((folder / "save").glob("*CKPT+*")):
        parts = [torch.load(path / f"{part}.ckpt", weights_only=True) for part in ("model", "optimizer")]
        checkpoints[path.name] = _digest(parts)
    board = EventAccumulator(str(folder / "tensorboard")).Reload()
    tags = sorted(tag for tag in board.Tags()["scalars"] if tag != "seconds")
    return {
        "weights": hashlib.sha256((folder / "model" / "model.safetensors").read_bytes()).hexdigest(),
        "checkpoints": checkpoints,
        "epochs": epochs,
        "train_log.txt": re.sub(r"seconds: [^ ,]+", "", (folder / "train_log.txt").read_text()),
        "tensorboard": {tag: [(event.step, event.value) for event in board.Scalars(tag)] for tag in tags},
        "transcripts": [(folder / f"wer_{name}.txt").read_text() for name in ("dev", "test")],
        "card": (folder / "model" / "README.md").read_text().split("## Word error rate")[1],
        "half-written": sorted(path.name for path in (folder / "save").glob("partial-*")),
    }


def steps(folder: Path) -> list[tuple[int, int]]:
    """Epoch and step of every batch that was trained on, in all runs."""
    return [tuple(json.loads(line)) for line in (folder / STEPS_NAME).read_text().splitlines()]


def latest(folder: Path) -> tuple[int, int] | None:
    """Epoch and step of the latest checkpoint; step 0 of the next epoch for one at an epoch's end."""
    found = [re.fullmatch(r"CKPT\+epoch-(\d+)(?:-step-(\d+))?", path.name) for path in (folder / "save").glob("CKPT+*")]
    places = [(int(each[1]), int(each[2])) if each[2] else (int(each[1]) + 1, 0) for each in found if each]
    return max(places, default=None)


def _train(
    argv: list[str], log: Path, moment: str | None, count: int, number: int | Callable[[], None], sender: Any
) -> None:
    """Run the recipe, in the process that may be killed."""
    import torch

    from biglittle_asr.recipe.run import run as run_recipe

    torch.set_num_threads(1)
    # A process that a fork server made would start its own the same way; a training's loaders are forked.
    multiprocessing.set_start_method("fork", force=True)
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    calls = dict.fromkeys(MOMENTS, 0)
    for name, (module, path) in MOMENTS.items():
        _watch(name, module, path, calls, count if name == moment else 0, number)
    if callable(number) or not moment:
        _watch_writes(argv, calls, moment or "", count, number)
    spec = importlib.util.spec_from_file_location("train", REPOSITORY / "recipes" / "AN4" / "CTC" / "train.py")
    assert spec is not None and spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    sys.argv[1:] = argv
    if moment is None and callable(number):
        number()
    run_recipe(recipe.main)
    sender.send(calls)


def _watch(
    name: str, module: str, path: str, calls: dict[str, int], deadly: int, number: int | Callable[[], None]
) -> None:
    """Count the calls of a function, and kill the process at one of them."""
    owner: Any = importlib.import_module(module)
    *outer, attribute = path.split(".")
    for each in outer:
        owner = getattr(owner, each)
    real = getattr(owner, attribute)

    def watched(*given: Any, **named: Any) -> Any:
        calls[name] += 1
        if calls[name] == deadly and callable(number):
            number()
        elif calls[name] == deadly:
            if number == signal.SIGKILL:
                _leave_half(attribute, real, given)
            os.kill(os.getpid(), number)
        if attribute == "fit_batch":
            brain = given[0]
            # A full disk must not end the training here.
            with contextlib.suppress(OSError), (brain.output_folder / STEPS_NAME).open("a") as file:
                file.write(f"[{brain.hparams.epoch_counter.current}, {brain.step}]\n")
        return real(*given, **named)

    setattr(owner, attribute, watched)


def _watch_writes(
    argv: list[str], calls: dict[str, int], moment: str, deadly: int, number: int | Callable[[], None]
) -> None:
    """Count how often each file of the output folder is opened to be written, and let a fault occur at one of them."""
    import torch

    (folder,) = [word.partition("=")[2] for word in argv if word.startswith("--output_folder=")]
    real = torch.save

    def save(value: Any, path: Any, *given: Any, **named: Any) -> None:
        # It opens the file outside Python.
        note(path)
        real(value, path, *given, **named)

    def watch(event: str, given: tuple[Any, ...]) -> None:
        if event == "open" and given[2] & (os.O_WRONLY | os.O_RDWR):
            note(given[0])

    def note(file: Any) -> None:
        if not isinstance(file, str | Path) or not Path(os.path.abspath(file)).is_relative_to(folder):
            return
        path = Path(os.path.abspath(file))
        # Temporary names have the number of the process in them, and those of tensorboard the time.
        name = re.sub(r"\.\d+(\..*)?$", "", path.relative_to(folder).as_posix())
        calls[f"{WRITING}{name}"] = calls.get(f"{WRITING}{name}", 0) + 1
        if f"{WRITING}{name}" == moment and calls[moment] == deadly and callable(number):
            number()

    torch.save = save
    sys.addaudithook(watch)


def _leave_half(attribute: str, real: Any, given: tuple[Any, ...]) -> None:
    """Do half of what a function does to the disk."""
    if attribute == "save":
        real(*given)
        os.truncate(given[1], os.path.getsize(given[1]) // 2)
    elif attribute == "rmtree":
        files = sorted(path for path in Path(given[0]).rglob("*") if path.is_file())
        for path in files[: len(files) // 2]:
            path.unlink()


def _digest(value: Any) -> str:
    """Digest of nested tensors and numbers."""
    import torch

    digest = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, torch.Tensor):
            digest.update(str((part.dtype, tuple(part.shape))).encode() + part.contiguous().numpy().tobytes())
        elif isinstance(part, dict):
            for key in part:
                digest.update(repr(key).encode())
                add(part[key])
        elif isinstance(part, list | tuple):
            for each in part:
                add(each)
        else:
            digest.update(repr(part).encode())

    add(value)
    return digest.hexdigest()


def main() -> int:
    """Run the command line."""
    from support.corpora import make_an4

    parser = argparse.ArgumentParser(description="Kill trainings at random moments, and compare what comes out.")
    parser.add_argument("--moments", type=int, default=20, help="trainings to kill (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the choice of moments (default: %(default)s)")
    parser.add_argument("--precision", default="fp32", help="of the training (default: %(default)s)")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = make_an4(folder / "an4")
        out, log = folder / "out", folder / "log.txt"
        # The same folder every time: its name is in what is written.
        status, calls = run(arguments(data, out, precision=options.precision), log)
        if status != 0:
            print(log.read_text())
            return 1
        expected, whole = outcome(out), steps(out)
        # Every kind of moment in turn; which of its calls, by chance.
        for number in range(options.moments):
            moment = list(MOMENTS)[number % len(MOMENTS)]
            count, workers = rng.randint(1, calls[moment]), rng.choice((0, 2))
            shutil.rmtree(out)
            loader = f"{{num_workers: {workers}}}"
            argv = arguments(data, out, precision=options.precision, train_dataloader_opts=loader)
            killed, _ = run(argv, log, moment, count)
            before, done = latest(out), len(steps(out)) if (out / STEPS_NAME).exists() else 0
            resumed, _ = run(argv, log)
            again = steps(out)[done:]
            # Training goes on at the very next batch after the latest checkpoint.
            start = again == [place for place in whole if before is None or place > before]
            differing = [key for key in expected if outcome(out)[key] != expected[key]] if resumed == 0 else ["status"]
            good = killed == -signal.SIGKILL and not differing and start
            wrong += not good
            print(
                f"{number + 1:3} {moment}, call {count} of {calls[moment]}, {workers} workers: checkpoint {before}, "
                f"went on at {again[0] if again else 'evaluation'}: "
                f"{'same weights, logs, transcripts' if good else f'DIFFERS {differing} {killed} {resumed}'}",
                flush=True,
            )
        if wrong:
            print(log.read_text()[-5000:])
    print(f"{options.moments - wrong} of {options.moments} killed trainings ended as the undisturbed one did.")
    return int(wrong > 0)


if __name__ == "__main__":
    # Processes that are started import this file by its name.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from support import killing

    sys.exit(killing.main())
