"""What a training must survive: being killed at any moment, and files that fail under it."""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from biglittle_asr.corpora import prepare
from biglittle_asr.tasks.engine import brain as shared
from support import killing
from support.corpora import FILE_FAULTS, break_an4, break_audio
from support.ctc_recipe import WORDS, finish, load, small, train_an4, write_tones

pytestmark = pytest.mark.slow

CHAIN = [
    ("between gradient and weights", 4),
    ("half a file of a checkpoint written", 3),
    ("half a checkpoint deleted", 4),
    ("between two logs of an epoch", 1),
    ("before the model folder is written", 1),
    ("before the model card gets the scores", 1),
]
"""Moments, one after the other in one training, and at which call after each start."""


def test_a_training_killed_again_and_again_ends_in_the_same_weights(tmp_path: Path, tiny_an4: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log.txt"
    status, calls = killing.run(killing.arguments(tiny_an4, out), log)
    assert status == 0, log.read_text()
    assert all(calls.values()), f"a moment never came: {calls}"
    expected = killing.outcome(out)
    out.rename(tmp_path / "undisturbed")
    for number, (moment, count) in enumerate(CHAIN):
        # Neither does the number of loading processes change anything.
        argv = killing.arguments(tiny_an4, out, train_dataloader_opts=f"{{num_workers: {2 * (number % 2)}}}")
        before = killing.latest(out)
        done = len(killing.steps(out)) if before else 0
        status, _ = killing.run(argv, log, moment, count)
        assert status == -signal.SIGKILL, log.read_text()
        again = killing.steps(out)[done:]
        if before and again:
            assert again[0] == (before[0], before[1] + 1), "it did not go on right after the last checkpoint"
    status, _ = killing.run(killing.arguments(tiny_an4, out), log)
    assert status == 0, log.read_text()
    actual = killing.outcome(out)
    for part in expected:
        assert actual[part] == expected[part], part
    assert not expected["half-written"]
    assert os.listdir(out / "save") and [row["epoch"] for row in expected["epochs"]] == ["1", "2", "3"]


def test_a_corpus_with_every_fault_trains_to_the_end(tmp_path: Path, tiny_an4: Path) -> None:
    rows = prepare("an4", tiny_an4, tmp_path / "before", dev_utterances=6)
    with rows["train"].open() as file:
        names = [row["ID"] for row in csv.DictReader(file)]
    broken = dict(zip(names[:: len(names) // len(FILE_FAULTS)], FILE_FAULTS, strict=False))
    break_an4(tiny_an4, broken)
    unreadable = next(tiny_an4.rglob("an1-fcaw-b.sph"))
    break_audio(unreadable, "truncated")
    arguments = [*small(tmp_path / "out", data_folder=tiny_an4, number_of_epochs=1), "--profile"]
    train_an4()(arguments)
    with (tmp_path / "out" / "save" / "manifests" / "report.csv").open() as file:
        report = {row["ID"]: row["fault"] for row in csv.DictReader(file)}
    assert set(broken.values()) == set(FILE_FAULTS)
    assert report == {**broken, "an1-fcaw-b": "truncated"}
    # The three words of the test utterance that cannot be read are scored, and the file is named.
    assert "in 12 words" in (tmp_path / "out" / "wer_test.txt").read_text()
    with (tmp_path / "out" / "failed_files.csv").open() as file:
        failed = [(row["epoch"], row["set"], row["ID"]) for row in csv.DictReader(file)]
    assert failed == [("", "test", "an1-fcaw-b")]
    profile = (tmp_path / "out" / "profile.txt").read_text()
    for activity in ("reading", "speed perturbation", "features", "augmentation", "encoder", "loss", "backward"):
        assert f"\n{activity} " in profile
    for activity in ("optimizer", "decoding", "waiting for data", "checkpointing"):
        assert f"\n{activity} " in profile
    with pytest.raises(ValueError, match="are faulty, such as"):
        options = "{dev_utterances: 6, strict: True}"
        train_an4()(small(tmp_path / "out", data_folder=tiny_an4, corpus_options=options))


def test_files_that_fail_during_training_are_left_out_and_listed(tmp_path: Path) -> None:
    write_tones(tmp_path, WORDS * 3)
    # One utterance a batch: a batch may be of nothing but a file that fails.
    options = {"dynamic_batching": False, "batch_size": 1, "skip_prep": True, "cache_audio": False}
    brain, datasets, hparams = load(small(tmp_path, **options))
    (tmp_path / "u1.wav").unlink()
    brain.fit_datasets(datasets, hparams)
    assert brain.optimizer_step == 2 * 11
    scores = finish(brain, datasets, hparams)
    assert scores["test"].all.words == 3 * sum(len(text.split()) for text in WORDS)
    assert scores["test"].all.deletions >= len(WORDS[1].split())
    with (tmp_path / "failed_files.csv").open() as file:
        failed = [(row["epoch"], row["set"], row["ID"]) for row in csv.DictReader(file)]
    places = [("1", "train"), ("1", "dev"), ("2", "train"), ("2", "dev"), ("", "dev"), ("", "test")]
    assert failed == [(*place, "u1") for place in places]
    log = (tmp_path / "log.txt").read_text()
    assert "epoch 2, train: 1 utterance could not be read, left out:" in log and "u1.wav: no such audio file" in log
    assert "u1: could not be read in one epoch or more" in log


def test_a_disk_that_fails_stops_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tones(tmp_path, WORDS)
    brain, datasets, hparams = load(small(tmp_path, skip_prep=True))
    monkeypatch.setattr(shared, "FEW", 1)
    for path in tmp_path.glob("*.wav"):
        path.unlink()
    with pytest.raises(ValueError, match="training utterances of epoch 1 could not be read, .*no such audio file"):
        brain.fit_datasets(datasets, hparams)


class Harmful:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("executed"),)


def test_a_checkpoint_that_cannot_be_used_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_tones(tmp_path)
    brain, datasets, hparams = load(small(tmp_path, skip_prep=True, number_of_epochs=1))
    brain.fit_datasets(datasets, hparams)
    path = tmp_path / "save" / "CKPT+epoch-0001" / "model.ckpt"
    whole = path.read_bytes()
    for damage in ("pickle", "cut", "foreign"):
        options = {"encoder": "{channels: [4, 8, 8, 32], output_size: 16}"} if damage == "foreign" else {}
        if damage == "pickle":
            torch.save({"output.bias": Harmful()}, path)
        else:
            path.write_bytes(whole if damage == "foreign" else whole[: len(whole) // 2])
        expected = "does not fit this training" if damage == "foreign" else "is damaged"
        with pytest.raises(ValueError, match=f"CKPT.epoch-0001: {expected}") as error:
            brain, datasets, hparams = load(small(tmp_path, skip_prep=True, number_of_epochs=2, **options))
            brain.fit_datasets(datasets, hparams)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "executed").exists()


def test_checkpoints_by_step_spare_an_accumulation(tmp_path: Path) -> None:
    write_tones(tmp_path, WORDS * 3)
    options = {"dynamic_batching": False, "batch_size": 2, "grad_accumulation_factor": 2, "ckpt_interval_steps": 3}
    brain, datasets, hparams = load(small(tmp_path, skip_prep=True, number_of_epochs=1, **options))
    saved = []
    save = brain._save_intra_epoch_ckpt
    brain._save_intra_epoch_ckpt = lambda: (saved.append(brain.step), save())
    brain.fit_datasets(datasets, hparams)
    assert saved == [4]
    assert [path.name for path in (tmp_path / "save").glob("*CKPT*")] == ["CKPT+epoch-0001"]
