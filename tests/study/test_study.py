"""Studies: no run is lost and none is done twice, whatever is killed; rows, status and refusals."""

from __future__ import annotations

import csv
import itertools
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from matplotlib.text import Text

from biglittle_asr.inference import load_model
from biglittle_asr.profiling import encoder_costs
from biglittle_asr.study import Results, Run, Study, read_study, summarize, write_report
from biglittle_asr.study.plan import StudyError, can_skip_test
from biglittle_asr.study.report import draw, plan_plots
from biglittle_asr.study.results import COLUMNS
from biglittle_asr.study.utterances import read_utterances
from support import studying
from support.recipe_files import RECIPE_FILES, settings_of
from support.repository import REPOSITORY

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the queue needs a POSIX system")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a recipe that takes a moment."""
    return studying.make_repository(tmp_path_factory.mktemp("repository"))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        reader = csv.DictReader(file, strict=True)
        rows = list(reader)
    assert tuple(reader.fieldnames or ()) == COLUMNS
    return rows


def journal(output: Path, name: str, seed: int) -> list[str]:
    return (output / "runs" / name / str(seed) / "out" / "journal.txt").read_text().splitlines()


def running_at_once(output: Path) -> int:
    """The most trainings that ran at the same time, of a study that was not disturbed."""
    events = []
    for path in output.glob("runs/*/*/out/journal.txt"):
        for line in path.read_text().splitlines():
            moment, what = line.split()[:2]
            events.append((float(moment), 1 if what == "start" else -1))
    level, most = 0, 0
    for _, change in sorted(events):
        level += change
        most = max(most, level)
    return most


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_run_is_a_row_in_the_order_of_the_file(repository: Path, tmp_path: Path, jobs: int) -> None:
    runs = [{"name": "b", "test": True}, {"name": "a", "overrides": {"errors": 4, "quotes": 'a, "b"'}, "seeds": 7}]
    study, output = studying.write_study(tmp_path, runs, overrides={"meet": jobs}), tmp_path / "out"
    argv = studying.command(repository, study, output, "--jobs", str(jobs))
    status, text = studying.finish(argv)
    assert status == 0, text
    rows = rows_of(output / "results.csv")
    assert sorted((row["name"], row["seed"]) for row in rows) == [("a", "7"), ("b", "1"), ("b", "2")]
    first = next(row for row in rows if (row["name"], row["seed"]) == ("b", "1"))
    expected = {"study": "toys", "epochs": "3", "minutes": "0.3", "dev_wer": "10.5", "dev_substitutions": "21"}
    expected |= {"dev_words": "200", "test_wer": "15.0", "test": "true", "parameters": "1000", "macs": "2000"}
    expected |= {"encoder_macs": "1900", "latency_ms": "12.35", "jobs": str(jobs), "threads": "1", "data": "toy"}
    assert {name: first[name] for name in expected} == expected
    last = next(row for row in rows if row["name"] == "a")
    assert last["test_wer"] == "" and json.loads(last["overrides"]) == {"meet": jobs, "errors": 4, "quotes": 'a, "b"'}
    letters = [each.operations for each in read_utterances(Results(output / "results.csv"), read_study(study).runs[0])]
    assert letters == 2 * ["C" * 85 + "S" * 15]
    assert {path.name for path in output.glob("results_utterances/*")} == {"b_1.csv", "b_2.csv"}
    assert len({row["commit"] for row in rows}) == 1 and all(row["cpu"] and row["torch"] for row in rows)
    started = [line for line in text.splitlines() if line.endswith("starts")]
    assert [line.split(maxsplit=1)[1] for line in started] == [
        "b, seed 1: starts",
        "b, seed 2: starts",
        "a, seed 7: starts",
    ]
    assert running_at_once(output) == jobs
    (start, _) = journal(output, "a", 7)
    assert f"threads 1 in {output / 'clone'}" in start
    # Again: nothing is left to do.
    status, text = studying.finish(argv)
    assert status == 0 and "starts" not in text and rows_of(output / "results.csv") == rows


def test_no_run_is_lost_and_none_done_twice_whatever_is_killed(repository: Path, tmp_path: Path) -> None:
    problems, killed = studying.kill_and_check(repository, tmp_path, kills=6, runs=4, rng=random.Random(1))
    assert killed and not problems


def test_a_training_that_ended_before_its_row_was_added_is_not_repeated(repository: Path, tmp_path: Path) -> None:
    study, output = studying.write_study(tmp_path, [{"name": "a"}]), tmp_path / "out"
    argv = studying.command(repository, study, output)
    assert studying.finish(argv)[0] == 0
    rows, notes = rows_of(output / "results.csv"), journal(output, "a", 1)
    for lost in ("results.csv", "runs/a/1/costs.json"):
        (output / lost).unlink()
    status, text = studying.finish(argv)
    assert status == 0, text
    assert rows_of(output / "results.csv") == rows and journal(output, "a", 1) == notes


def test_children_die_with_a_queue_that_is_killed(repository: Path, tmp_path: Path) -> None:
    study = studying.write_study(tmp_path, [{"name": "slow"}], overrides={"epoch_seconds": 60})
    argv = studying.command(repository, study, tmp_path / "out", "--jobs", "2")
    process = studying.start(argv)
    wait_for(lambda: len(list((tmp_path / "out").glob("runs/*/*/out/journal.txt"))) == 2)
    children = studying.children_of(process.pid)
    process.kill()
    process.communicate()
    assert len(children) == 2
    wait_for(lambda: not any(Path(f"/proc/{number}").exists() for number in children))


@pytest.mark.slow
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_queue_and_children_and_the_same_command_goes_on(
    repository: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    study = studying.write_study(tmp_path, [{"name": "slow", "seeds": 1}], overrides={"epoch_seconds": 0.5})
    argv = studying.command(repository, study, tmp_path / "out")
    process = studying.start(argv)
    table = tmp_path / "out" / "runs" / "slow" / "1" / "out" / "epochs.csv"
    wait_for(table.exists)
    (child,) = studying.children_of(process.pid)
    process.send_signal(number)
    text, _ = process.communicate(timeout=30)
    assert process.returncode == status and "continues from the last checkpoints" in text
    assert not Path(f"/proc/{child}").exists() and not (table.parent.parent / "failed.json").exists()
    status, text = studying.finish(argv)
    assert status == 0 and "continues after epoch" in text
    assert len(rows_of(tmp_path / "out" / "results.csv")) == 1


def test_a_run_that_fails_is_told_and_the_others_go_on(repository: Path, tmp_path: Path) -> None:
    runs = [{"name": "bad", "overrides": {"fail": "the disk is full"}, "seeds": 1}, {"name": "good", "seeds": 1}]
    study, output = studying.write_study(tmp_path, runs), tmp_path / "out"
    argv = studying.command(repository, study, output)
    for again in (False, False, True):
        status, text = studying.finish([*argv, "--retry"] if again else argv)
        assert status == 1 and "bad, seed 1: " in text and "the disk is full" in text
    assert len(journal(output, "bad", 1)) == 2, "once, and once more when that was asked for"
    assert [row["name"] for row in rows_of(output / "results.csv")] == ["good"]
    failure = json.loads((output / "runs" / "bad" / "1" / "failed.json").read_text())
    assert failure["status"] == 1 and failure["reason"] == "error: the disk is full"
    _, text = studying.finish([*argv, "--status"])
    assert "failed" in text and "the disk is full" in text and "1 failed, 1 done" in text


def test_a_child_that_is_killed_goes_on_and_fails_if_it_gets_no_further(repository: Path, tmp_path: Path) -> None:
    study = studying.write_study(tmp_path, [{"name": "slow", "seeds": 1}], overrides={"epoch_seconds": 60})
    process = studying.start(studying.command(repository, study, tmp_path / "out"))
    path = tmp_path / "out" / "runs" / "slow" / "1" / "out" / "journal.txt"
    for count in (1, 2):
        wait_for(lambda: path.exists() and len(path.read_text().splitlines()) == count)  # noqa: B023
        os.kill(studying.children_of(process.pid)[0], signal.SIGKILL)
    text, _ = process.communicate(timeout=30)
    assert process.returncode == 1 and "started again" in text and "ended by signal 9, 2 times" in text


def test_two_queues_on_one_folder_are_refused(repository: Path, tmp_path: Path) -> None:
    study = studying.write_study(tmp_path, [{"name": "slow", "seeds": 1}], overrides={"epoch_seconds": 60})
    argv = studying.command(repository, study, tmp_path / "out")
    process = studying.start(argv)
    wait_for(lambda: list((tmp_path / "out").glob("runs/*/*/out/journal.txt")))
    status, text = studying.finish(argv)
    assert status == 1 and "another queue is at work" in text and text.count("\n") == 1
    _, text = studying.finish([*argv, "--status"])
    assert "running" in text and "1 running" in text
    process.kill()
    process.communicate()


def test_two_studies_may_add_to_one_table(repository: Path, tmp_path: Path) -> None:
    table, queues = tmp_path / "results.csv", []
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        study = studying.write_study(tmp_path / name, [{"name": name, "seeds": [1, 2, 3]}])
        argv = studying.command(repository, study, tmp_path / name / "out", "--jobs", "3", "--results", str(table))
        queues.append((argv, studying.start(argv)))
    for _, process in queues:
        text, _ = process.communicate(timeout=60)
        assert process.returncode == 0, text
    assert len({(row["name"], row["seed"]) for row in rows_of(table)}) == len(rows_of(table)) == 9
    # On another machine, rows that were committed count as done.
    (tmp_path / "elsewhere").mkdir()
    argv = [word.replace(str(tmp_path / "one" / "out"), str(tmp_path / "elsewhere")) for word in queues[0][0]]
    status, text = studying.finish(argv)
    assert status == 0 and "3 of them done before" in text and not list((tmp_path / "elsewhere").glob("runs/*"))


def test_test_can_be_scored_later(repository: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    for test in (False, True, False):
        study = studying.write_study(tmp_path, [{"name": "a", "seeds": 1, "test": test}])
        status, text = studying.finish(studying.command(repository, study, output))
        assert status == 0, text
    assert [row["test_wer"] for row in rows_of(output / "results.csv")] == ["", "15.0"]


def test_utterances_that_do_not_add_up_are_told_and_lose_no_row(repository: Path, tmp_path: Path) -> None:
    study = studying.write_study(tmp_path, [{"name": "a", "test": True, "overrides": {"lost": 1}}])
    status, text = studying.finish(studying.command(repository, study, tmp_path / "out"))
    assert status == 0 and "has 100 words, but the scores of a, seed 2 have 200" in text
    assert len(rows_of(tmp_path / "out" / "results.csv")) == 2
    assert not list(tmp_path.glob("out/results_utterances/*"))


def test_edits_of_the_work_tree_do_not_reach_the_runs(repository: Path, tmp_path: Path) -> None:
    recipe = repository / "recipes" / "train.py"
    before, study = recipe.read_text(), studying.write_study(tmp_path, [{"name": "a", "seeds": 1}])
    recipe.write_text("raise SystemExit('edited')\n")
    try:
        status, text = studying.finish(studying.command(repository, study, tmp_path / "out"))
    finally:
        recipe.write_text(before)
    assert status == 0, text
    assert "warning: changes that are not committed are not in the runs: recipes/train.py" in text
    clone = tmp_path / "out" / "clone" / "recipes" / "train.py"
    clone.write_text("")
    status, text = studying.finish(studying.command(repository, study, tmp_path / "out"))
    assert status == 1 and "files of this clone were changed" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    "runs, words, problem",
    [
        ([{"name": "a", "recipe": "recipes/none.py"}], [], "has no file recipes/none.py"),
        ([{"name": "a", "data": "other"}], [], "give --data other="),
        ([{"name": "a", "data": None}, {"name": "a", "data": None}], [], "has a, seed 1 twice"),
        ([{"name": "a", "test": None, "sedes": 1}], [], "did you mean 'seeds'?"),
        ([{"name": "a/b"}], [], "must be of up to 100 letters"),
        ([{"name": "a", "seeds": "many"}], [], "must be whole numbers"),
        ([{"name": "a", "overrides": {"skip_test": True}}], [], "which the queue sets itself"),
        ([{"name": "a"}], ["--commit", "0" * 40], "git rev-parse failed"),
        ([{"name": "a"}], ["--data", "toy=/no/such/folder"], "no such folder"),
        ([{"name": "a"}], ["--results", "/no/such/folder/results.csv"], "/no/such/folder: no such folder"),
        ([], [], "has no list of runs"),
    ],
)
def test_what_cannot_be_run_is_refused_in_a_sentence(
    repository: Path, tmp_path: Path, runs: list[dict[str, Any]], words: list[str], problem: str
) -> None:
    study = studying.write_study(tmp_path, runs)
    status, text = studying.finish(studying.command(repository, study, tmp_path / "out", *words))
    assert status == 1 and problem in text and text.count("error: ") == 1 and "Traceback" not in text
    assert not list((tmp_path / "out").glob("runs/*/*/out"))


def test_other_settings_need_another_name(repository: Path, tmp_path: Path) -> None:
    for number, lr in enumerate((1, 2)):
        study = studying.write_study(tmp_path, [{"name": "a", "seeds": 1, "overrides": {"lr": lr}}])
        status, text = studying.finish(studying.command(repository, study, tmp_path / "out"))
        assert status == number, text
    assert "was started with other settings" in text
    table = str(tmp_path / "out" / "results.csv")
    status, text = studying.finish(studying.command(repository, study, tmp_path / "new", "--results", table))
    assert status == 1 and "give other settings another name" in text


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPE_FILES, ids=lambda path: path.stem)
def test_the_queue_knows_which_recipes_may_skip_test(path: Path) -> None:
    assert can_skip_test(path) == ("skip_test" in settings_of(path).names())


@pytest.mark.parametrize("path", sorted((REPOSITORY / "docs").rglob("*.yaml")), ids=lambda path: path.stem)
def test_studies_of_the_docs_are_runs_of_recipes(path: Path) -> None:
    for run in read_study(path).runs:
        assert (REPOSITORY / run.recipe).is_file()
        assert run.test is None or can_skip_test(REPOSITORY / run.hparams)


def test_a_study_file_that_is_no_yaml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("runs: [\n")
    with pytest.raises(StudyError, match="line 2: is not valid YAML"):
        read_study(path)


def wait_for(condition: Any) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


# A real recipe


@pytest.mark.slow
def test_a_real_recipe_ends_in_a_row(tmp_path: Path, tiny_an4: Path) -> None:
    repository = tmp_path / "repository"
    for name in ("biglittle_asr", "recipes", "hparams"):
        shutil.copytree(REPOSITORY / name, repository / name, ignore=shutil.ignore_patterns("__pycache__"))
    studying.commit(repository)
    study = tmp_path / "an4.yaml"
    study.write_text(REAL)
    argv = [sys.executable, str(repository / "recipes" / "study.py"), str(study), "--output", str(tmp_path / "out")]
    status, text = studying.finish([*argv, "--data", f"an4={tiny_an4}"])
    assert status == 0, text
    (row,) = rows_of(tmp_path / "out" / "results.csv")
    out = tmp_path / "out" / "runs" / "tiny" / "3" / "out"
    assert f"WER {float(row['test_wer']):.2f} %" in (out / "wer_test.txt").read_text()
    utterances = read_utterances(Results(tmp_path / "out" / "results.csv"), read_study(study).runs[0])
    assert sum(each.errors for each in utterances) / int(row["test_words"]) == pytest.approx(
        float(row["test_wer"]) / 100
    )
    model = load_model(out / "model").model
    assert int(row["parameters"]) == sum(parameter.numel() for parameter in model.parameters())
    assert int(row["encoder_macs"]) == encoder_costs(model.encoder).macs
    assert float(row["latency_ms"]) > 0 and row["epochs"] == "1" and f"commit {row['commit'][:12]}" in text


REAL = """\
defaults: {recipe: recipes/AN4/CTC/train.py, hparams: hparams/AN4/ctc_bl_resnet22.yaml, data: an4}
runs:
- name: tiny
  seeds: 3
  test: true
  overrides:
    encoder: {channels: [4, 8, 8, 16], output_size: 32}
    corpus_options: {dev_utterances: 6}
    number_of_epochs: 1
    average_checkpoints: [1]
    precision: fp32
"""


# Reports


@pytest.fixture
def three_networks(tmp_path: Path) -> tuple[Study, Results]:
    """Two networks with three seeds, one with a single run, of invented numbers."""
    study = Study(
        "toys",
        [Run(name, seed, "train.py", "a.yaml") for name in ("bl_small", "small") for seed in (1, 2, 3)]
        + [Run("bl_large", 1, "train.py", "a.yaml")],
    )
    results = Results(tmp_path / "results.csv")
    machine = {"cpu": "CPU", "cores": 2, "cpu_flags": "avx2", "torch": "2.11", "threads": 1, "jobs": 1}
    for run in study.runs:
        macs = {"bl_small": 100_000_000, "small": 150_000_000, "bl_large": 155_000_000}[run.name]
        facts = {"macs": macs, "encoder_macs": macs, "parameters": macs // 100, "latency_ms": macs / 1e6 + run.seed}
        facts |= {"epochs": 5, "minutes": 10 + run.seed, "dev_wer": 10.0 + run.seed * (2 if run.name == "small" else 1)}
        results.add(run, {"commit": "c" * 40, **machine, **facts})
    return study, results


def test_a_report_gives_means_and_ranges_and_calls_a_single_run_so(
    three_networks: tuple[Study, Results], tmp_path: Path
) -> None:
    messages: list[str] = []
    written = write_report(*three_networks, tmp_path / "report", messages.append)
    assert [path.name for path in written] == ["table.md", "dev_wer.png", "dev_wer.svg"] and not messages
    assert all(path.stat().st_size > 0 for path in written)
    lines = written[0].read_text().splitlines()
    assert lines[2] == (
        "| `bl_small` | 1, 2, 3 | 1,000,000 | 100,000,000 | 102.0 (101.0 to 103.0) | 5 | 12.0 (11.0 to 13.0) "
        "| 12.00 (11.00 to 13.00) |"
    )
    assert lines[4].endswith("| 11.0 (single run) | 11.00 (single run) |")
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|") and "test WER" not in lines[0]


def test_names_in_a_picture_cover_neither_points_nor_one_another(three_networks: tuple[Study, Results]) -> None:
    figure = draw(plan_plots(three_networks[0], summarize(*three_networks), "dev_wer"))
    assert len(figure.axes) == 2
    for axes in figure.axes:
        assert [text.get_text() for text in axes.texts] == ["bl_small", "small", "bl_large"]
        boxes = [Text.get_window_extent(text) for text in axes.texts]
        points = [axes.transData.transform(text.xy) for text in axes.texts]
        assert not any(first.overlaps(second) for first, second in itertools.combinations(boxes, 2))
        assert not any(box.contains(*point) for box in boxes for point in points)


def test_a_report_says_what_is_missing(three_networks: tuple[Study, Results], tmp_path: Path) -> None:
    study, results = three_networks
    messages: list[str] = []
    more = Study(study.name, [*study.runs, Run("late", 1, "train.py", "a.yaml")])
    write_report(more, results, tmp_path / "report", messages.append)
    assert len(messages) == 1 and messages[0].startswith("1 of 8 runs are not in") and "late, seed 1" in messages[0]
    with pytest.raises(StudyError, match="has no run of the study"):
        write_report(Study("other", [Run("late", 1, "train.py", "a.yaml")]), results, tmp_path / "none", print)


def test_times_of_two_machines_are_not_drawn_together(three_networks: tuple[Study, Results]) -> None:
    study, results = three_networks
    rows = rows_of(results.path)
    rows[-1]["cpu"] = "another CPU"
    with results.path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    messages: list[str] = []
    macs, times = draw(plan_plots(study, summarize(study, results), "dev_wer", messages.append)).axes
    assert len(macs.texts) == 3 and len(times.texts) == 2
    assert messages == ["not in the plot of times, as they were not measured on CPU: bl_large"]
