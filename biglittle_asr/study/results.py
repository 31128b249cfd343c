"""The table of results: a CSV file with one row per finished run."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from biglittle_asr.files import InvalidJSON, read_json, read_table, write_table
from biglittle_asr.messages import first_line, show
from biglittle_asr.study.locks import locked_folder
from biglittle_asr.study.plan import Run, Study, StudyError

SETS = ("dev", "test", "hub5_test")
"""Sets whose word errors are in the table; hub5_test is the test set scored as NIST scores it."""

COUNTS = ("wer", "words", "substitutions", "deletions", "insertions")
"""Columns of each set."""

IMAGE_SCORES = ("dev_top1_error", "dev_top5_error", "dev_images")

COLUMNS = (
    *("study", "name", "seed", "commit", "recipe", "hparams", "overrides", "data", "test"),
    *("cpu", "cores", "cpu_flags", "torch", "threads", "jobs"),
    *("parameters", "macs", "encoder_macs", "head_macs", "latency_ms", "latency_low_ms"),
    *("epochs", "minutes"),
    *(f"{name}_{count}" for name in SETS for count in COUNTS),
    *IMAGE_SCORES,
)

WHOLE = ("epochs", "dev_images", *(f"{name}_{count}" for name in SETS for count in COUNTS if count != "wer"))
"""Columns of whole numbers."""
NUMBERS = (
    *("parameters", "macs", "encoder_macs", "head_macs", "latency_ms", "latency_low_ms", "minutes"),
    *(f"{name}_wer" for name in SETS),
    *("dev_top1_error", "dev_top5_error"),
)
"""Columns of other numbers."""

FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
"""CPU instructions that affect training time, and whether training uses bfloat16."""

Row = Mapping[str, str]


class Results:
    """The CSV file of results.

    To add a row, the whole file is rewritten, flushed to disk and then moved over the old one. So the file stays
    complete whatever is killed, and several studies may add to it at the same time.

    Arguments
    ---------
    path : pathlib.Path
        Path of the file, which need not exist; its folder must exist.

    Example
    -------
    >>> results = Results(getfixture("tmp_path") / "results.csv")
    >>> run = Run("small", 1, "train.py", "small.yaml")
    >>> results.has(run)
    False
    >>> results.add(run, {"study": "widths", "dev_wer": 12.5})
    True
    >>> results.has(run), results.add(run, {"study": "widths"}), results.read()[0]["dev_wer"]
    (True, False, '12.5')
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[dict[str, str]]:
        """Read all rows.

        Raises
        ------
        StudyError
            If it is not a table of results.
        """
        if not self.path.is_file():
            return []
        try:
            rows = read_table(self.path, ("name", "seed"), advice="name another file for the results")
        except ValueError as error:
            raise StudyError(str(error)) from error
        unknown = [name for row in rows[:1] for name in row if name not in COLUMNS]
        if unknown:
            raise StudyError(
                f"{self.path}: has the column '{unknown[0]}', so it is not a table of results; name another file."
            )
        for row in rows:
            for columns, kind in ((WHOLE, "a whole number"), (NUMBERS, "a number")):
                wrong = [name for name in columns if row.get(name) and not _is_number(row[name], columns is WHOLE)]
                if wrong:
                    raise StudyError(
                        f"{self.path}: {wrong[0]} of {show(row['name'])}, seed {show(row['seed'])}, is "
                        f"{show(row[wrong[0]])}, but must be {kind}; correct the line."
                    )
        return [{name: row.get(name, "") for name in COLUMNS} for row in rows]

    def has(self, run: Run) -> bool:
        """Whether the table has the result of a run, including test if the run scores it; see :meth:`row`."""
        return self.row(run) is not None

    def row(self, run: Run) -> Row | None:
        """Return the row of a run, the last one if test was scored later; None if the table does not have it.

        Raises
        ------
        StudyError
            If a row has the same name and seed, but other settings.
        """
        return _find(self.read(), run, self.path)

    def check(self, study: Study) -> None:
        """Check that rows can be added, before anything is trained.

        Raises
        ------
        FileNotFoundError
            If the file's folder does not exist.
        StudyError
            If a row has the same name and seed as a run, but other settings.
        """
        if not self.path.parent.is_dir():
            raise FileNotFoundError(
                f"{self.path.parent}: no such folder; make it, or name another file for the results."
            )
        rows = self.read()
        for run in study.runs:
            _find(rows, run, self.path)

    def add(self, run: Run, facts: Mapping[str, Any]) -> bool:
        """Add the row of a run unless the table has it; returns whether it was added."""
        values = {"name": run.name, "seed": run.seed, **run.settings(), "test": _truth(run.test), **facts}
        with locked_folder(self.path.parent):
            rows: list[Mapping[str, Any]] = [*self.read()]
            if _find(rows, run, self.path):
                return False
            table = [[row.get(name, "") for name in COLUMNS] for row in [*rows, values]]
            write_table(self.path, COLUMNS, table, durable=True)
        return True


def _find(rows: Sequence[Row], run: Run, path: Path) -> Row | None:
    found = [row for row in rows if (row["name"], row["seed"]) == (run.name, str(run.seed))]
    for row in found:
        for key, value in run.settings().items():
            if row[key] != value:
                raise StudyError(
                    f"{path}: has {run.label} with {key} '{row[key]}', not '{value}'; give other settings another name."
                )
    return next((row for row in reversed(found) if not run.test or row["test"] == _truth(True)), None)


def _is_number(text: str, whole: bool) -> bool:
    if whole:
        return text.isascii() and text.isdecimal() and len(text) < 19
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _truth(value: bool | None) -> str:
    return "" if value is None else str(value).lower()


def is_finished(run: Run, folder: Path) -> bool:
    """Whether a recipe's output folder has all results of a run."""
    scores = read_scores(folder)
    return scores is not None and (not run.test or "test_wer" in scores)


def read_scores(folder: Path) -> dict[str, Any] | None:
    """Read the final scores in a recipe's output folder, by column; None if the recipe has not finished.

    Raises
    ------
    StudyError
        If the file of scores is not what a recipe writes.
    """
    scores = _read_json(folder / "scores.json")
    if scores is not None:
        with _as_written(folder / "scores.json"):
            return {
                f"{name}_{count}": scores[name]["all"][count] for name in SETS if name in scores for count in COUNTS
            }
    images = _read_json(folder / "score.json")
    if images is not None:
        with _as_written(folder / "score.json"):
            values = (100 - images["top1"], 100 - images["top5"], images["images"])
            return dict(zip(IMAGE_SCORES, values, strict=True))
    return None


@contextmanager
def _as_written(path: Path) -> Iterator[None]:
    """Refuse a file whose values are not those that this project writes."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise StudyError(f"{path}: is not as it was written ({reason}); restore it, or remove it.") from error


def read_times(folder: Path) -> dict[str, Any]:
    """Read the number of epochs and the minutes of a finished training, with alignment but without final scoring.

    Raises
    ------
    ValueError
        If a table has something else than numbers, or no column `seconds`.
    """
    epochs = read_epochs(folder)
    rows = _read_table(folder / "iterations.csv") or epochs
    return {"epochs": len(epochs), "minutes": round(sum(float(row["seconds"]) for row in rows) / 60, 2)}


def read_epochs(folder: Path) -> list[dict[str, str]]:
    """Read the rows of a training's epochs.csv; for a hybrid system, those of all iterations."""
    iterations = sorted(folder.glob("iterations/*/epochs.csv"), key=lambda path: int(path.parent.name))
    return [row for path in (folder / "epochs.csv", *iterations) for row in _read_table(path)]


def read_costs(path: Path) -> dict[str, Any]:
    """Read parameters, MACs and latency from the output of `biglittle profile --json`; empty if there is none.

    Raises
    ------
    StudyError
        If the file is not what the command writes.
    """
    facts = _read_json(path) or {}
    names = ("parameters", "macs", "encoder_macs", "head_macs")
    with _as_written(path):
        costs = {name: facts[name] for name in names if name in facts}
        if facts.get("latency_ms"):
            costs["latency_ms"] = round(facts["latency_ms"]["median"], 2)
            costs["latency_low_ms"] = round(facts["latency_ms"]["low"], 2)
    return costs


def describe_machine() -> dict[str, Any]:
    """Describe the machine of a run, by column."""
    names, flags = [], set[str]()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = (part.strip() for part in line.partition(":"))
            if key == "model name":
                names.append(value)
            elif key in ("flags", "Features"):
                flags |= set(value.split())
    except OSError:
        pass
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "cpu_flags": " ".join(flag for flag in FLAGS if flag in flags),
        "torch": metadata.version("torch"),
    }


def _read_table(path: Path) -> list[dict[str, str]]:
    """Read the rows of a training's table of numbers; none if the file does not exist."""
    try:
        rows = read_table(path, ("seconds",), "restore it, or remove it", numbers=True)
    except FileNotFoundError:
        return []
    # Losses may be infinite.
    wrong = [row["seconds"] for row in rows if not math.isfinite(float(row["seconds"]))]
    if wrong:
        raise StudyError(f"{path}: its seconds are {show(wrong[0])} in a row; restore it, or remove it.")
    return rows


def _read_json(path: Path) -> Any:
    try:
        return read_json(path)
    except (FileNotFoundError, InvalidJSON):
        return None
