"""A small repository with a recipe that takes a moment, and a queue that is killed in it.

    python tests/support/studying.py --kills 50 [--seed 1]

does at as many moments as one likes what tests/study/test_study.py does at a few.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]

RECIPE = '''\
"""Pretends to train: an epoch takes a moment, and a checkpoint tells how many there are."""
import csv, fcntl, json, os, sys, time
from pathlib import Path

options = dict(word[2:].split("=", 1) for word in sys.argv[2:] if "=" in word)
out = Path(options["output_folder"])
out.mkdir(parents=True, exist_ok=True)
journal = out / "journal.txt"


def note(what):
    with journal.open("a") as file:
        file.write(what + "\\n")


alone = (out / "alone").open("w")
try:
    fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    note("two at once")
if (out / "scores.json").exists():
    note("trained twice")
note(f"{time.monotonic()} start {os.getpid()} threads {os.environ['OMP_NUM_THREADS']} in {os.getcwd()}")
# Wait until so many of the study have started: they only end if they run at the same time.
while len(list(out.parents[2].glob("*/*/out/journal.txt"))) < int(options.get("meet", 1)):
    time.sleep(0.02)
if options.get("fail"):
    sys.exit("error: " + options["fail"])
(out / "hyperparams.yaml").write_text("number_of_epochs: 3\\n")
table = out / "epochs.csv"
rows = list(csv.reader(table.open())) if table.exists() else [["epoch", "dev_wer", "seconds"]]
for epoch in range(len(rows), 4):
    time.sleep(float(options.get("epoch_seconds", 0.05)))
    rows.append([epoch, 50 / epoch, 6])
    partial = out / ".epochs.csv"
    with partial.open("w") as file:
        csv.writer(file).writerows(rows)
    partial.replace(table)


def score(errors):
    return {"all": {"wer": errors / 2, "words": 200, "substitutions": errors, "deletions": 0, "insertions": 0}}


scores = {"dev": score(20 + int(options["seed"]) + int(options.get("errors", 0)))}
if options["skip_test"] == "False":
    scores["test"] = score(30)
    words = f"REF:{' a' * 100}\\nHYP:{' a' * 85 + ' b' * 15}\\nOP: {'  ' * 85 + ' S' * 15}\\n\\n"
    ids = ("a", "b")[int(options.get("lost", 0)) :]
    blocks = (f"{each} (speaker {each}): 100 words, 15 errors\\n{words}" for each in ids)
    counts = f"{15 * len(ids)} errors in {100 * len(ids)} words: {15 * len(ids)} sub, 0 del, 0 ins"
    summary = f"WER 15.00 % ({counts}), SER 100.00 % ({len(ids)} of {len(ids)} utterances)\\n\\n"
    (out / "wer_test.txt").write_text("".join(["wer_test.txt\\n", summary, *blocks]))
partial = out / ".scores.json"
partial.write_text(json.dumps(scores))
note(f"{time.monotonic()} end")
partial.replace(out / "scores.json")
'''

PROFILE = """\
import json, sys

assert sys.argv[1] == "profile"
facts = {"parameters": 1000, "macs": 2000, "encoder_macs": 1900, "head_macs": 100}
facts["latency_ms"] = {"median": 12.345, "low": 11}
print(json.dumps(facts))
"""


def make_repository(folder: Path) -> Path:
    """A git repository with recipes/study.py, a recipe that pretends, and a command that pretends to profile."""
    files = {
        "recipes/study.py": (REPOSITORY / "recipes" / "study.py").read_text(),
        "recipes/train.py": RECIPE,
        "hparams/base.yaml": "skip_test: False\n",
        "hparams/small.yaml": "!include:base.yaml\nlr: 1\n",
        "biglittle_asr/__init__.py": "",
        "biglittle_asr/cli.py": PROFILE,
        ".gitignore": "__pycache__/\n",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    commit(folder)
    return folder


def commit(folder: Path) -> None:
    """Make a git repository of a folder, with all that is in it."""
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "Begin"]):
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(folder), *identity, *words], check=True)


def write_study(folder: Path, runs: Sequence[dict[str, Any]], **defaults: Any) -> Path:
    """A study file of the pretended recipe; JSON is YAML."""
    path = folder / "toys.yaml"
    common = {"recipe": "recipes/train.py", "hparams": "hparams/small.yaml", "data": "toy", "seeds": [1, 2]}
    path.write_text(json.dumps({"defaults": {**common, **defaults}, "runs": list(runs)}))
    return path


def command(repository: Path, study: Path, output: Path, *words: str) -> list[str]:
    """The command line of the queue."""
    data = f"toy={study.parent}"
    return [
        sys.executable,
        str(repository / "recipes/study.py"),
        str(study),
        "--output",
        str(output),
        "--data",
        data,
        *words,
    ]


def start(argv: Sequence[str]) -> subprocess.Popen[str]:
    """Start a queue."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(argv: Sequence[str]) -> tuple[int, str]:
    """Run a queue to its end; returns exit status and output."""
    process = start(argv)
    text, _ = process.communicate(timeout=120)
    return process.returncode, text


def kill_and_check(
    repository: Path, folder: Path, kills: int, runs: int, rng: random.Random
) -> tuple[list[str], list[str]]:
    """Train a study whose queue, or one of whose trainings, is killed again and again, and look at what is there.

    Arguments
    ---------
    repository : pathlib.Path
        As :func:`make_repository` makes it.
    folder : pathlib.Path
    kills : int
        At most; a queue that comes to its end before is not disturbed any more.
    runs : int
    rng : random.Random
        Chooses moments and victims.

    Returns
    -------
    problems : list of str
    killed : list of str
        What was killed each time.
    """
    # Longer than the longest wait before a kill, on fast machines too.
    slowly = {"epoch_seconds": 0.4}
    study = write_study(
        folder, [{"name": f"r{number}", "seeds": 1} for number in range(runs)], overrides=slowly, test=True
    )
    output = folder / "out"
    argv = command(repository, study, output, "--jobs", "2", "--retry")
    killed = _kill_now_and_then(argv, kills, rng)
    status, text = finish(argv)
    problems = [] if status == 0 else [text]
    with (output / "results.csv").open(newline="") as file:
        names = [row["name"] for row in csv.DictReader(file, strict=True)]
    if sorted(names) != sorted(f"r{number}" for number in range(runs)):
        problems.append(f"the table has the rows {names}")
    utterances = sorted(path.name for path in output.glob("results_utterances/*"))
    if utterances != sorted(f"r{number}_1.csv" for number in range(runs)):
        problems.append(f"there are utterances of {utterances}")
    for path in sorted(output.glob("runs/*/1/out/journal.txt")):
        notes = path.read_text().splitlines()
        if {"two at once", "trained twice"} & set(notes) or not notes[-1].endswith(" end"):
            problems.append(f"{path}: {notes}")
    return problems, killed


def _kill_now_and_then(argv: Sequence[str], kills: int, rng: random.Random) -> list[str]:
    """Run a queue again and again, and kill it, or one of its children, until it comes to its end undisturbed."""
    killed = []
    while len(killed) < kills:
        process = start(argv)
        # Of its first second or two, in which it finds out what is done, or while trainings run and end.
        if rng.random() < 0.7:
            while process.poll() is None and not children_of(process.pid):
                time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 1.0))
        if process.poll() is not None:
            break
        children = children_of(process.pid)
        if children and rng.random() < 0.5:
            os.kill(rng.choice(children), signal.SIGKILL)
            killed.append("child")
            time.sleep(rng.uniform(0.0, 0.5))
        else:
            killed.append("queue")
        process.kill()
        process.communicate()
    return killed


def children_of(number: int) -> list[int]:
    """Processes that a process has started and that live."""
    try:
        return [int(word) for word in Path(f"/proc/{number}/task/{number}/children").read_text().split()]
    except FileNotFoundError:
        return []


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Kill a queue and its trainings at random moments.")
    parser.add_argument("--kills", type=int, default=50, help="how often, in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the choice of moments (default: %(default)s)")
    options = parser.parse_args()
    rng, every, wrong = random.Random(options.seed), [], 0
    while len(every) < options.kills:
        with tempfile.TemporaryDirectory() as name:
            repository = make_repository(Path(name) / "repository")
            problems, killed = kill_and_check(repository, Path(name), options.kills - len(every), 12, rng)
            every += killed
            wrong += bool(problems)
            print(
                f"killed {', '.join(killed)}: {'; '.join(problems) or '12 runs, 12 rows, none trained twice'}",
                flush=True,
            )
    print(f"{wrong} of the studies ended wrong, {len(every)} kills.")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
