#!/usr/bin/env python3
"""Run a queue of trainings; make a table, figures and a verdict of their results.

python recipes/study.py STUDY.yaml --output FOLDER --data an4=/path/to/an4 --jobs 2      train the unfinished runs
python recipes/study.py STUDY.yaml --output FOLDER --status                              show progress
python recipes/study.py STUDY.yaml --output FOLDER --report                              write the table and figures
python recipes/study.py STUDY.yaml --verdict                                             compare networks on test

docs/studies.md explains the study file and the output folder.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from biglittle_asr.files import write_atomically
from biglittle_asr.study import (
    Queue,
    Results,
    Study,
    check_out,
    collect_utterances,
    decide,
    draw_comparisons,
    format_status,
    format_verdicts,
    read_study,
    write_report,
)
from biglittle_asr.study.locks import try_lock
from biglittle_asr.study.queue import find_places

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
    parser.add_argument(
        "study",
        type=Path,
        nargs="+",
        metavar="STUDY.yaml",
        help="file that lists the runs (docs/studies.md); several only with --picture",
    )
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
        "--results",
        type=Path,
        metavar="FILE.csv",
        help="table to add to (default: results.csv in FOLDER; without FOLDER, STUDY.csv beside STUDY.yaml)",
    )
    parser.add_argument("--commit", help="commit to run (default: that of the clone in FOLDER, else HEAD)")
    parser.add_argument("--retry", action="store_true", help="run failed runs again")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--status", action="store_true", help="only show progress")
    only.add_argument(
        "--collect",
        action="store_true",
        help="only write the test utterances of finished runs in FOLDER beside the table of results",
    )
    only.add_argument(
        "--verdict",
        type=Path,
        nargs="?",
        const=Path(),
        metavar="FILE.md",
        help="only compare the networks that the study file compares, on test; also write the table to FILE.md",
    )
    parser.add_argument("--json", action="store_true", help="with --verdict: print one JSON object instead")
    only.add_argument(
        "--picture", type=Path, metavar="FILE.svg", help="only draw the networks that the study files compare"
    )
    only.add_argument(
        "--report",
        type=Path,
        nargs="?",
        const=Path(),
        metavar="REPORT_FOLDER",
        help="only write the table and figures of the results (default: to `report` in FOLDER)",
    )
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> int:
    """Train, or do what one of the options says instead."""
    if options.json and options.verdict is None:
        raise ValueError("--json: goes with --verdict; leave it out.")
    folder = None if options.output is None else options.output.resolve()
    if options.verdict not in (None, Path()) and options.verdict.suffix != ".md":
        raise ValueError(f"--verdict {options.verdict}: the table is Markdown; end the file's name in .md.")
    if len(options.study) > 1 and (options.picture is None or options.results is not None or folder is not None):
        raise ValueError("Several studies: only for --picture, each with its table beside it; name one study.")
    studies = []
    for path in options.study:
        default = path.with_suffix(".csv") if folder is None else folder / "results.csv"
        studies.append((read_study(path), Results(options.results or default)))
    study, results = studies[0]
    if options.picture is not None:
        draw_comparisons(studies, options.picture, warn)
        return 0
    if options.verdict is not None:
        return tell_verdict(study, results, None if options.verdict == Path() else options.verdict, options.json)
    if folder is None and options.report in (None, Path()):
        raise ValueError("--output is missing: the folder for the clone and the runs.")
    if options.report is not None:
        target = folder / "report" if options.report == Path() else options.report
        for path in write_report(study, results, target, tell):
            print(path)
        return 0
    if options.status:
        print(format_status(study, folder, results, options.jobs))
        return 0
    if options.collect:
        results.check(study)
        written = [collect_utterances(results, run, find_places(folder, run).out) for run in study.runs]
        print("\n".join(str(path) for path in written if path) or "no finished run has scored words of a test set.")
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


def tell_verdict(study: Study, results: Results, path: Path | None, as_json: bool) -> int:
    """Print the verdict, and write it to a file; the exit status is 1 while runs are missing."""
    verdicts = decide(study, results)
    table = format_verdicts(verdicts)
    if path is not None:
        write_atomically(path, table)
    print(json.dumps({"comparisons": [asdict(each) for each in verdicts]}) if as_json else table, end="\n" * as_json)
    missing = dict.fromkeys(label for each in verdicts for label in each.missing)
    if missing:
        warn(f"no verdict on incomplete comparisons; not in {results.path} yet: {'; '.join(missing)}")
    return int(bool(missing))


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


def warn(message: str) -> None:
    """Print a line to standard error."""
    print(message, file=sys.stderr)


def tell(message: str) -> None:
    """Print a line with the time."""
    print(f"{time.strftime('%H:%M:%S')} {message}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
