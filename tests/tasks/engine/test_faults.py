"""Faults of the machine under a training: a full or read-only disk, a changing corpus, a clock that is set back."""

from __future__ import annotations

import csv
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from support import killing
from support.ctc_recipe import WORDS, finish, load, small, write_tones

pytestmark = pytest.mark.slow

FULL = 20
"""At how many moments the disk fills, one after the other in one training."""


def spread(items: Sequence[Any], number: int) -> list[Any]:
    """As many items as asked, from the first to the last, at equal distances."""
    return [items[round(index * (len(items) - 1) / (number - 1))] for index in range(number)]


def run_and_listen(argv: list[str], place: Path, *fault: Any) -> tuple[int, str]:
    """Status of a training, and what it says; through a pipe, because on a full disk it could not say it to a file."""
    pipe = place / "said"
    os.mkfifo(pipe)
    said: list[str] = []
    listener = threading.Thread(target=lambda: said.append(pipe.read_text()))
    listener.start()
    status, _ = killing.run(argv, pipe, *fault)
    listener.join()
    pipe.unlink()
    return status, said[0]


def test_a_disk_that_is_full_at_any_moment_costs_only_the_work_since_the_last_checkpoint(
    tmp_path: Path, tiny_an4: Path
) -> None:
    out, argv = tmp_path / "out", killing.arguments(tiny_an4, tmp_path / "out", number_of_epochs=2)
    log = tmp_path / "log.txt"
    status, calls = killing.run(argv, log)
    assert status == 0, log.read_text()
    expected = killing.outcome(out)
    out.rename(tmp_path / "undisturbed")
    # Of all files that a training writes, in their order; what the test itself writes is left out.
    written = [name for name in calls if name.startswith(killing.WRITING) and killing.STEPS_NAME not in name]
    moments = spread(written, FULL)
    assert len(set(moments)) == FULL
    for moment in moments:
        before = killing.latest(out)
        status, said = run_and_listen(argv, tmp_path, moment, 1, killing.fill_disk)
        assert status == 1, (moment, said)
        assert [line for line in said.splitlines() if line.startswith("error: ")], (moment, said)
        assert "Traceback" not in said, (moment, said)
        assert (killing.latest(out) or (0, 0)) >= (before or (0, 0)), moment
    status, said = run_and_listen(argv, tmp_path)
    assert status == 0, said
    actual = killing.outcome(out)
    for part in expected:
        assert actual[part] == expected[part], part


@pytest.mark.skipif(sys.platform != "linux", reason="drops rights as Linux has them")
def test_a_read_only_output_folder_is_refused_and_goes_on_once_it_is_writable(tmp_path: Path, tiny_an4: Path) -> None:
    out, argv = tmp_path / "out", killing.arguments(tiny_an4, tmp_path / "out", number_of_epochs=1)
    status, said = run_and_listen(argv, tmp_path)
    assert status == 0, said
    expected = killing.outcome(out)
    out.rename(tmp_path / "undisturbed")
    status, said = run_and_listen(argv, tmp_path, "before a step", 4)
    assert status < 0 and killing.latest(out)
    folders = [out, *(path for path in out.rglob("*") if path.is_dir())]
    for path in [*folders, out / "log.txt"]:
        path.chmod(0o555)
    files = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    status, said = run_and_listen(argv, tmp_path, None, 0, killing.drop_rights)
    assert status == 1, said
    (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert f"{out}: is not writable" in error and "Traceback" not in said
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == files
    for path in [*folders, out / "log.txt"]:
        path.chmod(0o755)
    status, said = run_and_listen(argv, tmp_path)
    assert status == 0, said
    actual = killing.outcome(out)
    for part in expected:
        assert actual[part] == expected[part], part


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


ANOTHER_RATE = "replaced by another sampling rate"
CHANGES: dict[str, Callable[[Path], Any]] = {
    "deleted": Path.unlink,
    "cut": cut,
    "overwritten with text": lambda path: path.write_text("no audio"),
    ANOTHER_RATE: lambda path: soundfile.write(path, np.ones(800), 8000),
    "replaced by a folder": lambda path: (path.unlink(), path.mkdir()),
}


PLACES = [("train", "2"), ("dev", "2"), ("dev", ""), ("test", "")]


def test_files_that_change_under_a_training_are_left_out_and_listed(tmp_path: Path) -> None:
    write_tones(tmp_path, WORDS * 3)
    options = {"dynamic_batching": False, "batch_size": 2, "skip_prep": True, "cache_audio": False}
    brain, datasets, hparams = load(small(tmp_path, **options))
    changed = {f"u{2 * number}": change for number, change in enumerate(CHANGES.values())}
    fit = brain.fit_batch

    def fit_batch(batch: Any) -> Any:
        if hparams["epoch_counter"].current == 2 and changed:
            while changed:
                name, change = changed.popitem()
                change(tmp_path / f"{name}.wav")
        return fit(batch)

    expected, resampled = {*changed}, f"u{2 * list(CHANGES).index(ANOTHER_RATE)}"
    brain.fit_batch = fit_batch
    brain.fit_datasets(datasets, hparams)
    assert not changed
    finish(brain, datasets, hparams)
    with (tmp_path / "failed_files.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["epoch"] for row in rows} == {"2", ""}
    failed = {name: {row["ID"] for row in rows if (row["set"], row["epoch"]) == name} for name in PLACES}
    # The batch in which the files change has been read.
    assert failed["train", "2"] <= expected == failed["dev", "2"]
    # The final evaluation resamples, as for everybody.
    assert failed["dev", ""] == failed["test", ""] == expected - {resampled}


def test_a_clock_that_is_set_back_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tones(tmp_path, WORDS * 3)
    options = {"dynamic_batching": False, "batch_size": 2, "skip_prep": True, "number_of_epochs": 2}
    real, back = time.time, [0]
    monkeypatch.setattr(time, "time", lambda: real() - back[0])
    brain, datasets, hparams = load(small(tmp_path, **options))
    # After every step, by a clock that goes on.
    brain.ckpt_interval_minutes = 1e-9
    saved, fit = [], brain.fit_batch

    def fit_batch(batch: Any) -> Any:
        back[0] += 3600
        return fit(batch)

    brain.fit_batch = fit_batch
    save = brain._save_intra_epoch_ckpt
    brain._save_intra_epoch_ckpt = lambda: (saved.append((hparams["epoch_counter"].current, brain.step)), save())
    brain.fit_datasets(datasets, hparams)
    assert saved == [(epoch, step) for epoch in (1, 2) for step in range(1, 7)]
    # The latest checkpoint is that of the last epoch, which has the earliest time.
    again, _, _ = load(small(tmp_path, **options))
    found = again.checkpointer.find_checkpoints()
    assert [checkpoint.meta["epoch"] for checkpoint in found] == [2, 1]
    assert found[0].meta["unixtime"] < found[1].meta["unixtime"]
