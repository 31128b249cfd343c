"""What every recipe survives: SIGTERM, damaged checkpoints, other features; and errors of torch that users can mend."""

from __future__ import annotations

import dataclasses
import functools
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from speechbrain.lobes.features import Fbank
from speechbrain.processing.features import InputNormalization
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from biglittle_asr import cli
from biglittle_asr.messages import MENDABLE, explain_failure, visible
from biglittle_asr.recipe import run as running
from biglittle_asr.tasks.engine import checkpoints
from biglittle_asr.tasks.engine.brain import ResumableBrain
from biglittle_asr.tasks.speech.brain import describe_module
from support import hybrid_recipe, image_recipe, killing, speech_recipes
from support.ctc_recipe import write_tones
from support.repository import REPOSITORY

pytestmark = pytest.mark.slow

OUT = "out"


@dataclass(frozen=True)
class Recipe:
    """A recipe that trains in a second or two."""

    prepare: Callable[[Path], Any]
    """Writes its corpus into a folder."""
    arguments: Callable[..., list[str]]
    """Its command line, given the folder and keys to override."""
    main: Callable[[Sequence[str]], Any]
    other_inputs: tuple[dict[str, Any], ...]
    """Keys that feed the same network with something else."""

    @property
    def ends_in(self) -> str:
        """Folder of the checkpoints in the output folder."""
        return "save/iterations/1/checkpoints" if self is RECIPES["hybrid"] else "save"


def speech(task: str) -> Recipe:
    def arguments(folder: Path, **options: Any) -> list[str]:
        file = REPOSITORY / "hparams" / "LibriSpeech" / f"{task}_bl_resnet22.yaml"
        small = {
            "encoder": "!include:../encoders/bl_resnet22.yaml {input_size: !ref <n_mels>, channels: [4, 8, 8, 16]}",
            "number_of_epochs": 2,
            "dynamic_batching": False,
            "batch_size": 2,
            "skip_test": True,
            **({"valid_beam_size": 1, "test_beam_size": 1} if task != "ctc" else {}),
        }
        return speech_recipes.command(file, folder, **{**small, **options})

    return Recipe(
        lambda folder: write_tones(folder, ["ONE", "BAD", "GO", "ADD"]),
        arguments,
        speech_recipes.train("LibriSpeech", task),
        (
            {"n_mels": 40},
            {"compute_features": "{n_fft: 1024}"},
            {"feature_form": "hamming"},
            {"compute_features": "!new:biglittle_asr.features.LogMel {n_mels: 80, win_length: 20}"},
            {"normalize": "!new:biglittle_asr.features.SentenceNormalization {std: False}"},
        ),
    )


def darker() -> Any:
    """The recipe's preparation of images with another normalization."""
    crop = transforms.Compose([transforms.Resize(18), transforms.CenterCrop(16), transforms.ToTensor()])
    return transforms.Compose([*crop.transforms, transforms.Normalize((0.6, 0.5, 0.4), (0.2, 0.2, 0.2))])


def train_images(arguments: Sequence[str]) -> None:
    image_recipe.train(arguments)


def write_images(folder: Path) -> None:
    image_recipe.make_folder(folder / "data" / "train")
    image_recipe.make_folder(folder / "data" / "val", images=2)


def hybrid_arguments(folder: Path, **options: Any) -> list[str]:
    iterations = {"iterations": "[{epochs: 2}]", "valid_dataloader_opts": "{batch_size: 2}"}
    return hybrid_recipe.small(folder, **{**iterations, **options})


RECIPES = {
    **{task: speech(task) for task in speech_recipes.TASKS},
    "hybrid": Recipe(
        lambda folder: hybrid_recipe.write_corpus(folder),
        hybrid_arguments,
        hybrid_recipe.train("AN4"),
        (
            {"compute_features": "!new:biglittle_asr.features.LogMel {n_mels: 64, deltas: True, n_fft: 1024}"},
            {"normalize": "!new:biglittle_asr.features.SentenceNormalization {std: False}"},
        ),
    ),
    "images": Recipe(
        write_images,
        lambda folder, **options: image_recipe.tiny(
            image_recipe.PLAIN, folder / "data", folder, **{"number_of_epochs": 2, **options}
        ),
        train_images,
        (
            {"crop": 12},
            {"resize": 24},
            {"val_transform": "!apply:test_interruptions.darker []"},
        ),
    ),
}

every_recipe = pytest.mark.parametrize("name", RECIPES)


@pytest.fixture
def handlers() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


Finished = Callable[[str], Path]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The folder of each recipe's corpus and undisturbed training, not to be changed."""

    @functools.cache
    def train(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name) / OUT
        RECIPES[name].prepare(folder)
        RECIPES[name].main(RECIPES[name].arguments(folder))
        return folder

    return train


def weights(out: Path, recipe: Recipe) -> dict[str, Any]:
    """Those of the last epoch's checkpoint."""
    path = max((out / recipe.ends_in).glob("CKPT+epoch-????")) / "model.ckpt"
    return torch.load(path, weights_only=True)


def test_no_task_is_missed() -> None:
    names = {kind.__name__.removesuffix("Brain").lower() for kind in every_brain() if not kind.__subclasses__()}
    assert names == {name.removesuffix("s") for name in RECIPES}


# SIGTERM


@every_recipe
@pytest.mark.parametrize("place", ["fit_batch", "evaluate_batch", "score_epoch"])
def test_sigterm_saves_a_checkpoint_from_which_the_same_weights_come(
    name: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handlers: None, finished: Finished
) -> None:
    recipe = RECIPES[name]
    recipe.prepare(tmp_path / "parts")
    steps: list[tuple[int, int]] = []
    fit = ResumableBrain.fit_batch

    def noted(brain: Any, batch: Any) -> Any:
        steps.append((brain.hparams.epoch_counter.current, brain.step))
        return fit(brain, batch)

    monkeypatch.setattr(ResumableBrain, "fit_batch", noted)
    sent: list[int] = []
    for owner in [kind for kind in every_brain() if place in vars(kind)]:
        monkeypatch.setattr(owner, place, terminated(vars(owner)[place], sent, 2 if place == "fit_batch" else 1))
    arguments = recipe.arguments(tmp_path / "parts")
    with pytest.raises(SystemExit) as stopped:
        recipe.main(arguments)
    assert stopped.value.code == 128 + signal.SIGTERM and sent
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert list((tmp_path / "parts" / recipe.ends_in).glob("CKPT+*"))
    before = list(steps)
    recipe.main(arguments)
    # Nothing is trained on twice.
    assert len(set(steps)) == len(steps) > len(before)
    one, other = weights(finished(name), recipe), weights(tmp_path / "parts", recipe)
    assert all(torch.equal(one[key], other[key]) for key in one)


def every_brain() -> list[type]:
    known, kinds = [ResumableBrain], [ResumableBrain]
    while kinds:
        kinds = [each for kind in kinds for each in kind.__subclasses__()]
        known += kinds
    return known


def terminated(method: Any, sent: list[int], call: int) -> Any:
    """The method, which gets SIGTERM at one of its calls."""
    calls = []

    def wrapped(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == call and not sent:
            sent.append(1)
            signal.raise_signal(signal.SIGTERM)
        return method(*arguments, **options)

    return wrapped


TERMINATED = (
    "before a step",
    "half a file of a checkpoint written",
    "in the quick evaluation of dev",
    "before an epoch is logged",
    "before the final transcripts of a set",
)
"""Moments of `killing.MOMENTS`."""


@pytest.mark.parametrize("workers", [0, 2])
def test_a_process_that_gets_sigterm_anywhere_ends_with_143(tmp_path: Path, tiny_an4: Path, workers: int) -> None:
    out, log = tmp_path / "out", tmp_path / "log.txt"
    argv = killing.arguments(tiny_an4, out, train_dataloader_opts=f"{{num_workers: {workers}}}", ckpt_interval_steps=0)
    status, _ = killing.run(argv, log)
    assert status == 0, log.read_text()
    expected = killing.outcome(out)
    out.rename(tmp_path / "undisturbed")
    for moment in TERMINATED:
        before = len(killing.steps(out)) if (out / killing.STEPS_NAME).exists() else 0
        status, _ = killing.run(argv, log, moment, 2 if before or "step" in moment else 1, signal.SIGTERM)
        if status == 0:
            shutil.rmtree(out)
            continue
        assert status == 128 + signal.SIGTERM, (moment, log.read_text())
        assert "the same command goes on from" in log.read_text()
        assert len(set(killing.steps(out))) == len(killing.steps(out))
    status, _ = killing.run(argv, log)
    assert status == 0, log.read_text()
    actual = killing.outcome(out)
    for part in expected:
        assert actual[part] == expected[part], part


# Damaged checkpoints


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": cut,
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "flipped": flip,
    "missing": Path.unlink,
    "text": lambda path: path.write_text("no"),
}


@every_recipe
def test_a_damaged_checkpoint_is_named_and_the_one_before_goes_on(
    name: str, tmp_path: Path, finished: Finished
) -> None:
    recipe = RECIPES[name]
    shutil.copytree(finished(name), tmp_path / "whole")
    expected, log = weights(tmp_path / "whole", recipe), tmp_path / "whole" / "log.txt"
    folder = tmp_path / "whole" / recipe.ends_in
    latest = max(folder.glob("CKPT+epoch-????"))
    files = sorted(path.name for path in latest.iterdir())
    assert {"CKPT.yaml", "model.ckpt", "optimizer.ckpt", "brain.ckpt"} <= set(files)
    for file, damage in (("CKPT.yaml", "empty"), ("model.ckpt", "cut")):
        DAMAGES[damage](latest / file)
        log.write_text("")
        recipe.main(recipe.arguments(tmp_path / "whole"))
        assert f"{latest}: is damaged ({file}" in log.read_text(), (file, damage)
        other = weights(tmp_path / "whole", recipe)
        assert all(torch.equal(expected[key], other[key]) for key in expected), (file, damage)
        assert (folder / f"damaged-{latest.name}").is_dir()
    for path in folder.glob("CKPT+*/model.ckpt"):
        cut(path)
    with pytest.raises(ValueError, match="is damaged .*model.ckpt.*no other checkpoint.*remove it"):
        recipe.main(recipe.arguments(tmp_path / "whole"))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["CKPT.yaml", "model.ckpt", "brain.ckpt"])
def test_every_damage_is_seen(tmp_path: Path, damage: str, file: str, caplog: Any) -> None:
    layer = torch.nn.Linear(2, 2)
    recoverables = {"model": layer, "brain": torch.nn.Linear(1, 1)}
    checkpointer = checkpoints.Checkpointer(tmp_path, recoverables)
    checkpointer.save_checkpoint(meta={"epoch": 1})
    checkpointer.save_checkpoint(meta={"epoch": 2})
    if (damage, file) == ("flipped", "CKPT.yaml"):
        pytest.skip("a letter of a text may be another and mean the same")
    DAMAGES[damage](tmp_path / "CKPT+epoch-0002" / file)
    again = checkpoints.Checkpointer(tmp_path, recoverables)
    loaded = again.recover_if_possible()
    assert loaded is not None and loaded.path.name == "CKPT+epoch-0001"
    assert f"CKPT+epoch-0002: is damaged ({file}" in caplog.text
    again.keep_only(again.find_checkpoints())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["CKPT+epoch-0001", "damaged-CKPT+epoch-0002"]


# Other features


@every_recipe
def test_other_inputs_are_refused_where_a_training_goes_on(name: str, tmp_path: Path, finished: Finished) -> None:
    recipe = RECIPES[name]
    shutil.copytree(finished(name), tmp_path, dirs_exist_ok=True)
    before = contents(tmp_path)
    assert {"hyperparams.yaml", "env.log"} <= before.keys()
    for change in recipe.other_inputs:
        for words in ([], ["--test_only"]):
            with pytest.raises(ValueError, match="was trained on other input: .* there, .* here; ") as error:
                recipe.main([*recipe.arguments(tmp_path, **change), *words])
            assert "\n" not in str(error.value)
            assert contents(tmp_path) == before
    recipe.main(recipe.arguments(tmp_path))


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the log, which every run continues, and tensorboard's, where every run opens an empty one."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(("log.txt", "events."))]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_another_network_is_refused_and_nothing_changed(tmp_path: Path, finished: Finished) -> None:
    recipe = RECIPES["ctc"]
    shutil.copytree(finished("ctc"), tmp_path, dirs_exist_ok=True)
    before = contents(tmp_path)
    assert "scores.json" in before
    encoder = "!include:../encoders/bl_resnet22.yaml {input_size: !ref <n_mels>, channels: [4, 8, 8, 32]}"
    with pytest.raises(ValueError, match="does not fit this training"):
        recipe.main(recipe.arguments(tmp_path, encoder=encoder, lr=0.5))
    assert contents(tmp_path) == before
    recipe.main(recipe.arguments(tmp_path, number_of_epochs=3))
    assert "number_of_epochs: 3" in (tmp_path / "hyperparams.yaml").read_text()


def test_features_of_other_packages_are_compared_as_well() -> None:
    same, alike, other = (describe_module(Fbank(n_mels=mels)) for mels in (40, 40, 20))
    assert same == alike and same["class"] == "Fbank"
    assert {key.rpartition(".")[2] for key in same if same[key] != other[key]} == {"n_mels"}
    normalize = InputNormalization()
    before = describe_module(normalize)
    normalize(torch.randn(2, 5, 3), torch.ones(2))
    assert describe_module(normalize) == before != describe_module(InputNormalization(std_norm=False))


# Errors that users can mend


class Faulty(Dataset[int]):
    """A data set, to read which fails."""

    def __init__(self, fail: Callable[[], Any]) -> None:
        self.fail = fail

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        self.fail()
        return index


def exhausted() -> None:
    raise MemoryError


def broken() -> None:
    raise ValueError("a.wav: is broken; replace it.")


def read_in_worker(fail: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: list(DataLoader(Faulty(fail), num_workers=1))


def saved_on_a_full_disk() -> None:
    torch.save({"weights": torch.zeros(10000)}, "/dev/full")


FAILURES: dict[str, tuple[Callable[[], Any], str]] = {
    "no GPU": (lambda: torch.zeros(1, device="cuda:0"), "the device cannot be used here"),
    "no such device": (lambda: torch.zeros(1, device="gpu"), "the device cannot be used here"),
    "not this build's": (lambda: torch.zeros(1, device="xpu"), "the device cannot be used here"),
    "other vendor's": (lambda: torch.zeros(1, device="mps"), "the device cannot be used here"),
    "out of memory": (lambda: torch.empty(1 << 50), "memory is full"),
    "worker killed": (read_in_worker(lambda: os.kill(os.getpid(), signal.SIGKILL)), "a process that loads data was"),
    "worker left": (read_in_worker(lambda: os._exit(3)), "a process that loads data was killed"),
    "worker without memory": (read_in_worker(exhausted), "memory is full"),
    "what a worker said": (read_in_worker(broken), "a.wav: is broken; replace it."),
    "full disk": (saved_on_a_full_disk, "cannot be written"),
}
MESSAGES = {
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 15 GiB": "memory is full",
    "CUDA error: out of memory\nCUDA kernel errors might be": "memory is full",
    "CUBLAS error: CUBLAS_STATUS_ALLOC_FAILED when calling": "memory is full",
    "CUDA error: invalid device ordinal\nGPU device may be out of range": "the device cannot be used here",
    "CUDA error: no kernel image is available for execution on the device": "no code for this GPU",
    "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
    "shared memory.": "/dev/shm",
    "DataLoader worker (pid 7) is killed by signal: Killed. ": "a process that loads data was killed",
    "unable to open shared memory object </torch_1> in read-write mode: Too many open files (24)": "ulimit -n",
    "can't start new thread": "ulimit -u",
    "[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534": "cannot be written",
    "The server socket has failed to listen: EADDRINUSE, address already in use": "--master_port",
    "[gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.1]:1": "lost each other",
    "[gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 15000ms for recv": "distributed_timeout_minutes",
    "[Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=9)": "distributed_timeout_minutes",
}


@pytest.mark.parametrize("case", FAILURES)
@pytest.mark.filterwarnings("ignore")
def test_failures_that_users_can_mend_end_in_a_sentence(case: str, capsys: Any, monkeypatch: Any) -> None:
    cause, expected = FAILURES[case]
    if case == "no GPU" and torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SystemExit) as stopped:
        running.run(lambda argv: cause())
    assert stopped.value.code == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: ") and expected in said and "\n" not in said and said.endswith("."), said


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_of_torch_are_explained(message: str) -> None:
    said = explain_failure(RuntimeError(message))
    assert said is not None and MESSAGES[message] in said and "\n" not in said
    assert explain_failure(ValueError(message)) == visible(message)


def test_what_nobody_can_mend_keeps_its_traceback(handlers: None) -> None:
    def fail(argv: Sequence[str]) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)")

    with pytest.raises(RuntimeError, match="mat1"):
        running.run(fail)
    assert len(set(MENDABLE)) == len(MENDABLE)


@every_recipe
def test_a_device_that_is_not_there_is_named_before_the_work(name: str, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    for device in ("gpu", "cuda:99", "xpu", "mps"):
        with pytest.raises(ValueError, match=f"--device {device}: not usable here .*; take cpu"):
            recipe.main([*recipe.arguments(tmp_path), "--device", device])
    assert not (tmp_path / "save").exists()


def test_a_command_that_runs_out_of_memory_says_so(monkeypatch: Any, capsys: Any) -> None:
    def exhaust(options: Any) -> None:
        torch.empty(1 << 50)

    commands = [dataclasses.replace(each, run=exhaust, add_arguments=lambda parser: None) for each in cli.COMMANDS]
    monkeypatch.setattr(cli, "COMMANDS", commands)
    for command in commands:
        assert cli.main([command.name]) == 1
        assert "memory is full" in capsys.readouterr().err
