#!/usr/bin/env python3
"""Run a queue of trainings, and make a table and figures of their results.

python recipes/study.py STUDY.yaml --output FOLDER --data an4=/path/to/an4 --jobs 2      train the unfinished runs
python recipes/study.py STUDY.yaml --output FOLDER --status                              show progress
python recipes/study.py STUDY.yaml --output FOLDER --report                              write the table and figures

docs/studies.md explains the study file and the output folder.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from biglittle_asr.study import Queue, Results, check_out, format_status, read_study, write_report
from biglittle_asr.study.locks import try_lock

REPOSITORY = Path(__file__).resolve().parent.parent


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = parse(argv)
    try:
        return run(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description="Train the runs of a study, several at a time, and collect their results. The same command resumes "
        "an interrupted study and skips finished runs."
    )
    parser.add_argument("study", type=Path, metavar="STUDY.yaml", help="file that lists the runs (docs/studies.md)")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="folder for the clone and the runs")
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="a data folder that the study names; repeatable",
    )
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help="trainings at a time (default: 1)")
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help="threads per training (default: 1)")
    parser.add_argument(
        "--results", type=Path, metavar="FILE.csv", help="table to add to (default: results.csv in FOLDER)"
    )
    parser.add_argument("--commit", help="commit to run (default: that of the clone in FOLDER, else HEAD)")
    parser.add_argument("--retry", action="store_true", help="run failed runs again")
    parser.add_argument("--status", action="store_true", help="only show progress")
    parser.add_argument(
        "--report",
        type=Path,
        nargs="?",
        const=Path(),
        metavar="REPORT_FOLDER",
        help="only write the table and figures of the results (default: to `report` in FOLDER)",
    )
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> int:
    """Train, show progress, or write the report."""
    study = read_study(options.study)
    folder = options.output
    if folder is None and (options.report in (None, Path()) or options.results is None):
        raise ValueError("--output is missing: the folder for the clone and the runs.")
    folder = Path() if folder is None else folder.resolve()
    results = Results(options.results or folder / "results.csv")
    if options.status:
        print(format_status(study, folder, results, options.jobs))
        return 0
    if options.report is not None:
        target = folder / "report" if options.report == Path() else options.report
        for path in write_report(study, results, target, tell):
            print(path)
        return 0
    data_folders = read_data(options.data)
    folder.mkdir(parents=True, exist_ok=True)
    lock = try_lock(folder / "lock", patience=1.0)
    if lock is None:
        raise ValueError(f"{folder}: another queue is at work in this folder; --status shows its progress.")
    try:
        commit = check_out(REPOSITORY, folder / "clone", options.commit, tell)
        queue = Queue(study, folder, results, commit, data_folders, options.jobs, options.threads, options.retry, tell)
        return queue.run()
    finally:
        os.close(lock)


def read_data(words: Sequence[str]) -> dict[str, str]:
    """Read data folders by name; make paths absolute and keep URLs."""
    folders = {}
    for word in words:
        name, equals, place = word.partition("=")
        if not equals or not place:
            raise ValueError(f"--data {word}: write NAME=PATH, such as an4=/path/to/an4.")
        folders[name] = place if "://" in place else str(Path(place).resolve())
    return folders


def positive(text: str) -> int:
    """Argument type: an integer of at least 1."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not an integer of at least 1")
    return int(text)


def tell(message: str) -> None:
    """Print a line with the time."""
    print(f"{time.strftime('%H:%M:%S')} {message}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
