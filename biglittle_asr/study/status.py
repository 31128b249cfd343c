"""Progress of a study, read from files: a table of its runs, and an estimate of the remaining time."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biglittle_asr.files import read_yaml
from biglittle_asr.study.locks import is_locked
from biglittle_asr.study.plan import Run, Study
from biglittle_asr.study.queue import Places, find_places, read_record
from biglittle_asr.study.results import Results, is_finished, read_epochs

ERRORS = ("dev_wer", "dev_top1_error")
"""Columns of epochs.csv, of which the first that exists is shown."""


@dataclass(frozen=True)
class State:
    """Progress of a run."""

    run: Run
    state: str
    """One of "done", "trained", "running", "stopped", "waiting" and "failed"."""
    epochs: int
    all_epochs: int | None
    """Total number of epochs; None if it is not known before the run starts."""
    minutes: float
    error: str
    """Final error on dev, or that of the last epoch, in percent."""
    remark: str = ""


def format_status(study: Study, folder: Path, results: Results, jobs: int) -> str:
    """Write a table of the runs with their state, and a summary in one line.

    Arguments
    ---------
    study : Study
    folder : pathlib.Path
        Folder of the study's files.
    results : Results
    jobs : int
        Number of trainings at a time, for the estimate.
    """
    rows = {(row["name"], row["seed"]): row for row in results.read()}
    states = [_find_state(run, folder, rows.get((run.name, str(run.seed))), results) for run in study.runs]
    table = [("run", "seed", "state", "epoch", "minutes", "dev error %", "")]
    for each in states:
        of = f" of {each.all_epochs}" if each.all_epochs and each.state != "done" else ""
        epoch = f"{each.epochs}{of}" if each.epochs or of else ""
        minutes = f"{each.minutes:.1f}" if each.epochs else ""
        table.append((each.run.name, str(each.run.seed), each.state, epoch, minutes, each.error, each.remark))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
    counts = {name: sum(each.state == name for each in states) for name in dict.fromkeys(s.state for s in states)}
    summary = ", ".join(f"{count} {name}" for name, count in counts.items())
    left = minutes_left(states, jobs)
    if left:
        summary += f"; about {_duration(left)} left with {jobs} at a time"
    elif left is None:
        summary += "; time left is not known yet"
    return "\n".join([*lines, "", summary])


def minutes_left(states: list[State], jobs: int) -> float | None:
    """Estimate the minutes until all runs are trained from their epochs so far; None if nothing is known yet.

    A run that has not begun is expected to take as long as others of its name, or else the average of all others.
    """
    whole: dict[str, list[float]] = {}
    for each in states:
        if each.state in ("done", "trained"):
            whole.setdefault(each.run.name, []).append(each.minutes)
        elif each.epochs and each.all_epochs:
            whole.setdefault(each.run.name, []).append(each.minutes / each.epochs * each.all_epochs)
    known = [minutes for each in whole.values() for minutes in each]
    left = []
    for each in states:
        if each.state in ("done", "trained", "failed"):
            continue
        if not known:
            return None
        left.append(max(statistics.mean(whole.get(each.run.name, known)) - each.minutes, 0.0))
    # A lower bound is the total work divided by the processes; another is the longest run.
    return max(sum(left) / jobs, max(left, default=0.0))


def _find_state(run: Run, folder: Path, row: Mapping[str, str] | None, results: Results) -> State:
    if row is not None and results.has(run):
        error = row["dev_wer"] or row["dev_top1_error"]
        error = f"{float(error):.2f}" if error else ""
        return State(run, "done", int(row["epochs"] or 0), None, float(row["minutes"] or 0), error)
    places = find_places(folder, run)
    epochs = read_epochs(places.out)
    minutes = sum(float(each["seconds"]) for each in epochs) / 60
    failure = read_record(places.failure)
    remark = ""
    if failure is not None:
        state, remark = "failed", str(failure.get("reason", ""))
    elif is_finished(run, places.out):
        state = "trained"
    elif is_locked(places.lock):
        state = "running"
    else:
        state = "stopped" if places.out.is_dir() else "waiting"
    return State(run, state, len(epochs), _all_epochs(places), minutes, _last_error(epochs), remark)


def _last_error(epochs: Sequence[Mapping[str, str]]) -> str:
    found = [epochs[-1][name] for name in ERRORS if epochs and epochs[-1].get(name)]
    return f"{float(found[0]):.2f}" if found else ""


def _all_epochs(places: Places) -> int | None:
    """Read the total number of epochs of a run from the YAML file that its recipe has written."""
    try:
        tree: Any = read_yaml(places.out / "hyperparams.yaml")
        if tree.get("iterations"):
            return sum(int(each["epochs"]) for each in tree["iterations"])
        return int(tree["number_of_epochs"])
    except (OSError, ArithmeticError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _duration(minutes: float) -> str:
    """Format minutes, such as 3 h 05 min.

    Example
    -------
    >>> _duration(185.2), _duration(0.6)
    ('3 h 05 min', '1 min')
    """
    whole = max(round(minutes), 1)
    return f"{whole // 60} h {whole % 60:02} min" if whole >= 60 else f"{whole} min"
