"""Several processes: their batches, their gradient, and their scores are those of one."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from speechbrain import Stage
from torch import distributed, multiprocessing

from biglittle_asr.inference import Failure
from biglittle_asr.recipe.run import load_recipe
from biglittle_asr.recipe.yaml import RecipeError
from biglittle_asr.tasks.engine import brain as engine
from biglittle_asr.tasks.engine.batches import EpochBatches, fixed_batches
from biglittle_asr.tasks.engine.brain import ResumableBrain
from biglittle_asr.tasks.images.brain import ImageBrain, find_image_sets
from biglittle_asr.tasks.images.settings import ImageRecipe
from biglittle_asr.tasks.speech.data import collate
from biglittle_asr.tasks.speech.evaluation import transcribe_in_shares
from biglittle_asr.tasks.speech.settings import CTCRecipe
from support import speech_recipes
from support.ctc_recipe import WORDS, load, small, write_tones
from support.image_recipe import PLAIN, make_folder, tiny
from support.networks import randomize_batchnorm

PROCESSES = 2


# Batches


def ragged(epoch: int) -> list[list[int]]:
    """Batches of one to four examples, others in each epoch."""
    generator = torch.Generator().manual_seed(epoch)
    order = torch.randperm(37, generator=generator).tolist()
    sizes = torch.randint(1, 5, (37,), generator=generator).tolist()
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    return [order[start : start + size] for start, size in zip(starts, sizes, strict=True) if start < 37]


def dealt(processes: int, epoch: int, resumed: tuple[int, int, int] = (0, 0, 0)) -> list[EpochBatches]:
    """What each process has."""
    every = []
    for process in range(processes):
        batches = EpochBatches(ragged)
        batches.deal(process, processes)
        batches.resume(*resumed)
        batches.set_epoch(epoch)
        every.append(batches)
    return every


def positions(batches: EpochBatches, first: int, last: int | None = None) -> list[int]:
    return [draw.position for batch in list(batches)[first:last] for draw in batch]


@pytest.mark.parametrize("processes", [1, 2, 3, 5, 64])
def test_every_example_is_drawn_once_by_one_process(processes: int) -> None:
    epochs = []
    for epoch in (1, 2):
        every = dealt(processes, epoch)
        assert len({len(batches) for batches in every}) == 1
        drawn = [positions(batches, 0) for batches in every]
        assert sorted(sum(drawn, [])) == list(range(37))
        epochs.append(drawn)
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("before", [1, 2, 3, 4])
@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_another_number_of_processes_goes_on_without_repeating_or_skipping(before: int, after: int) -> None:
    first = dealt(before, epoch=3)
    for steps in range(len(first[0])):
        seen = [position for batches in first for position in positions(batches, 0, steps)]
        resumed = (3, steps, first[0].taken(steps))
        then = dealt(after, 3, resumed)
        # The loader skips as many batches as there were steps.
        seen += [position for batches in then for position in positions(batches, steps)]
        assert sorted(seen) == list(range(37))
        assert {batches.taken(len(batches)) for batches in then} == {len(ragged(3))}
        # A third number goes on as well, and the next epoch is whole.
        third = dealt(3, 3, (3, len(then[0]), then[0].taken(len(then[0]))))
        assert not any(positions(batches, len(then[0])) for batches in third)
        assert sorted(sum((positions(batches, 0) for batches in dealt(after, 4, resumed)), [])) == list(range(37))


def test_a_batch_of_nothing_is_a_batch() -> None:
    batch = collate([])
    assert batch.examples is None and batch.failures == []


# Training and evaluation


def speech(task: str, folder: Path) -> tuple[Any, Any, Any]:
    brain, datasets, _ = speech_recipes.load(task, folder, distributed_backend="gloo")
    # In float32 the order alone of a batch of pure tones changes the first layer's gradient by 2 %.
    brain.model.encoder.double()
    extract = brain.extract_features

    def extract_precisely(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        features, frames = extract(*arguments)
        return features.double(), frames

    brain.extract_features = extract_precisely
    return brain, datasets.train, datasets.dev


def images(task: str, folder: Path) -> tuple[Any, Any, Any]:
    arguments = tiny(PLAIN, folder / "data", folder / "out", batch_size=3, crop=32, resize=34)
    hparams, run_opts = load_recipe([*arguments, "--device=cpu"], ImageRecipe)
    sets = find_image_sets(hparams)
    return ImageBrain(hparams["model"](num_classes=3), sets, hparams, run_opts), sets.train, sets.val


TASKS = {**dict.fromkeys(speech_recipes.TASKS, speech), "images": images}

TOLERANCE = {"transducer": 5e-5}
"""Relative, where it is not 1e-5: torchaudio computes the transducer's loss in float32, whatever the encoder is in."""

EPOCHS: dict[int, list[list[int]]] = {1: [[0, 1], [2, 3, 4], [5, 6]], 2: [[7]]}
"""Unequal batches; one that two processes share; one of a single example, which only one of them has."""


def outcome(task: str, folder: Path) -> Mapping[str, Any]:
    """Gradients of each step of two epochs, and the scores of an evaluation, without any step of the optimizer."""
    torch.manual_seed(0)
    brain, train, dev = TASKS[task](task, folder)
    brain.optimizers_step = lambda: None
    randomize_batchnorm(brain.model, torch.Generator().manual_seed(1))
    loader = brain.make_dataloader(train, Stage.TRAIN, batch_sampler=EpochBatches(lambda epoch: EPOCHS.get(epoch, [])))
    brain.on_fit_start()
    gradients, names = [], []
    for epoch in EPOCHS:
        brain.hparams.epoch_counter.current = epoch
        brain.on_stage_start(Stage.TRAIN, epoch)
        brain.modules.train()
        for batch in loader if brain.distributed_launch else joint(brain, train):
            brain.step += 1
            brain.fit_batch(batch)
            gradients.append({name: each.grad.clone() for name, each in brain.model.named_parameters()})
            names.append([] if batch.examples is None else list(batch.examples.id))
            brain.zero_grad()
        brain.step = 0
    statistics = {name: each.clone() for name, each in brain.model.named_buffers()}
    brain.evaluate(dev, test_loader_kwargs={"batch_size": 1})
    return {
        "results": final_results(brain, folder) if task != "images" else [],
        "gradients": gradients,
        "names": names,
        "statistics": statistics,
        "texts": dict(brain.hypotheses) if task != "images" else {},
        "loss": brain.progress.loss,
        "scores": brain.score_epoch(),
        "evaluated": brain.progress.utterances if task != "images" else brain.progress.images,
    }


def final_results(brain: Any, folder: Path) -> list[tuple[str, str]]:
    """Name and text, or the reason why there is none, of each utterance of test and of one that cannot be read."""
    rows = speech_recipes.rows_of_test(folder)
    rows.insert(3, {**rows[0], "ID": "lost", "wav": str(folder / "lost.wav")})
    brain.model.encoder.float()
    recognizer = brain.recognizer()
    recognizer.stopwatch = brain.stopwatch
    results = transcribe_in_shares(recognizer, rows)
    return [(each.recording.name, str(each.error) if isinstance(each, Failure) else each.text) for each in results]


def joint(brain: Any, train: Any) -> list[Any]:
    """The batches of two processes, as one process has them."""
    dataset, make, _ = brain.read(train)
    batches = list(brain.train_batches)
    groups = [batches[start : start + PROCESSES] for start in range(0, len(batches), PROCESSES)]
    return [make([dataset[draw] for batch in group for draw in batch]) for group in groups]


def worker(rank: int, folder: str, ports: Mapping[str, int]) -> None:
    torch.set_num_threads(1)
    for task in TASKS:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": PROCESSES, "MASTER_ADDR": "127.0.0.1"}
        os.environ.update({name: str(value) for name, value in {**place, "MASTER_PORT": ports[task]}.items()})
        torch.save(outcome(task, Path(folder) / task), f"{folder}/{task}{rank}.pt")
        distributed.destroy_process_group()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """Results of one process and of each of two, for every task."""
    folder = tmp_path_factory.mktemp("processes")
    for task in speech_recipes.TASKS:
        write_tones(folder / task, ["ONE", "TWO NINE", "A B", "HELLO", "TEN", "NO", "Q", "SIX"])
    for name in ("train", "val"):
        make_folder(folder / "images" / "data" / name, images=3)
    (folder / "images" / "data" / "val" / "ape" / "0.png").write_bytes(b"no image")
    multiprocessing.spawn(worker, (str(folder), {task: free_port() for task in TASKS}), nprocs=PROCESSES)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    several = {task: [torch.load(folder / f"{task}{rank}.pt") for rank in range(PROCESSES)] for task in TASKS}
    found = {task: (outcome(task, folder / task), several[task]) for task in TASKS}
    torch.set_num_threads(threads)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_gradient_is_that_of_one_process_on_the_global_batch(outcomes: Mapping[str, Any], task: str) -> None:
    one, several = outcomes[task]
    assert len(one["gradients"]) == len(several[0]["gradients"]) == 3
    for step, names in enumerate(one["names"]):
        assert sorted(names) == sorted(several[0]["names"][step] + several[1]["names"][step])
        for name, gradient in one["gradients"][step].items():
            scale = max(float(gradient.abs().max()), 1e-3)
            for each in several:
                apart = float((each["gradients"][step][name] - gradient).abs().max()) / scale
                assert apart < TOLERANCE.get(task, 1e-5), (step, name)
    assert not several[1]["names"][-1]
    for name, expected in one["statistics"].items():
        for each in several:
            torch.testing.assert_close(each["statistics"][name], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_scores_are_those_of_one_process_and_every_example_is_scored_once(
    outcomes: Mapping[str, Any], task: str
) -> None:
    one, several = outcomes[task]
    if task != "images":
        assert [name for name, _ in one["results"]] == [
            "u0",
            "u1",
            "u2",
            "lost",
            *(f"u{index}" for index in range(3, 8)),
        ]
        assert "no such audio file" in dict(one["results"])["lost"]
    for each in several:
        assert each["texts"] == one["texts"] and each["results"] == one["results"]
        assert each["evaluated"] == one["evaluated"] == 8
        assert each["scores"] == pytest.approx(one["scores"])
        assert each["loss"] == pytest.approx(one["loss"], rel=1e-5)


@pytest.mark.slow
def test_a_checkpoint_of_two_processes_is_resumed_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tones(tmp_path, WORDS * 2)
    options = {"skip_prep": True, "number_of_epochs": 1, "dynamic_batching": False, "batch_size": 1}
    arguments = small(tmp_path, **options, ckpt_interval_steps=1)
    seen: list[str] = []
    fit_batch = ResumableBrain.fit_batch

    def interrupted(brain: ResumableBrain, batch: Any) -> torch.Tensor:
        if brain.step > 2:
            raise KeyboardInterrupt
        return fit_batch(brain, batch)

    monkeypatch.setattr(ResumableBrain, "fit_batch", interrupted)
    # What two processes would have written after two steps.
    monkeypatch.setattr(EpochBatches, "taken", lambda batches, steps: 2 * steps)
    brain, datasets, hparams = load(arguments)
    with pytest.raises(KeyboardInterrupt):
        brain.fit_datasets(datasets, hparams)
    monkeypatch.undo()

    def noted(brain: ResumableBrain, batch: Any) -> torch.Tensor:
        seen.extend(batch.examples.id)
        return fit_batch(brain, batch)

    monkeypatch.setattr(ResumableBrain, "fit_batch", noted)
    brain, datasets, hparams = load(arguments)
    brain.fit_datasets(datasets, hparams)
    order = [datasets.train.data_ids[index] for batch in fixed_batches(8, 1, hparams["seed"])(1) for index in batch]
    assert seen == order[4:]
    assert brain.optimizer_step == 2 + 4


def test_more_processes_than_gpus_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    arguments = tiny(PLAIN, tmp_path / "data", tmp_path / "out")
    with pytest.raises(RecipeError, match="started process 2 on a machine of 1 GPUs; start one process a GPU"):
        load_recipe([*arguments, "--device=cuda:1"], ImageRecipe)


@pytest.mark.parametrize("minutes", [0, -1, float("inf"), float("nan")])
def test_a_timeout_that_is_none_is_refused(tmp_path: Path, minutes: float) -> None:
    arguments = small(tmp_path, distributed_timeout_minutes=str(minutes).replace("inf", ".inf").replace("nan", ".nan"))
    with pytest.raises(RecipeError, match="distributed_timeout_minutes: is .*, but must be above 0"):
        load_recipe(arguments, CTCRecipe)


def test_processes_that_found_different_checkpoints_do_not_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tones(tmp_path)
    brain, datasets, hparams = load(small(tmp_path, skip_prep=True))
    monkeypatch.setattr(engine, "gather", lambda start: [start, (2, 4)])
    with pytest.raises(
        ValueError, match=r"different latest checkpoints \(process 0: epoch 0, step 0; process 1: epoch 2"
    ):
        brain.fit_datasets(datasets, hparams)


def test_a_checkpoint_inside_an_epoch_has_the_counts_of_all_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tones(tmp_path)
    brain, datasets, hparams = load(small(tmp_path, skip_prep=True))
    brain.train_batches = EpochBatches(lambda epoch: [[0]])
    parts = [brain.progress_type(failed=[(name, "lost")], seconds=1.0, order="o") for name in ("a", "b")]
    brain.progress, brain.progress_elsewhere = parts[0], parts[1:]
    brain._save_state(tmp_path / "state")
    for process, processes, expected in [(0, 2, "a"), (1, 2, "b"), (0, 1, "ab"), (0, 3, "ab"), (2, 3, "")]:
        monkeypatch.setattr(engine, "count_processes", lambda processes=processes: processes)
        monkeypatch.setattr(engine, "process_number", lambda process=process: process)
        monkeypatch.setattr(engine, "if_main_process", lambda process=process: process == 0)
        brain._load_state(tmp_path / "state", end_of_epoch=False)
        assert "".join(name for name, _ in brain.progress.failed) == expected
        assert brain.progress.order == "o"
