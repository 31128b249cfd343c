"""A small repository with a recipe that takes a moment, for tests of the queue; and a queue that is killed in it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent

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
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "Begin"]):
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(folder), *identity, *words], check=True)
    return folder


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


def kill_now_and_then(argv: Sequence[str], kills: int, rng: random.Random) -> list[str]:
    """Run a queue again and again until it comes to its end, having killed it, or one of its children, meanwhile.

    Returns
    -------
    list of str
        What was killed each time.
    """
    killed = []
    while len(killed) < kills:
        process = start(argv)
        time.sleep(rng.uniform(0.05, 1.5))
        if process.poll() is not None:
            break
        if rng.random() < 0.5:
            process.send_signal(signal.SIGKILL)
            killed.append("queue")
        else:
            children = children_of(process.pid)
            if children:
                os.kill(rng.choice(children), signal.SIGKILL)
                killed.append("child")
                time.sleep(rng.uniform(0.0, 0.3))
            process.send_signal(signal.SIGKILL)
        process.communicate()
    return killed


def children_of(number: int) -> list[int]:
    """Processes that a process has started and that live."""
    return [int(word) for word in Path(f"/proc/{number}/task/{number}/children").read_text().split()]
