"""Studies with invented results: a study file, its table of results, and the utterances of each run."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from biglittle_asr.files import write_table
from biglittle_asr.study import Results, Study, read_study
from biglittle_asr.study.utterances import ScoredUtterance, utterances_path

MACHINE = {"cpu": "CPU", "cores": 2, "cpu_flags": "avx2", "torch": "2.11", "threads": 1, "jobs": 1, "commit": "c" * 40}
PAIR = ("bl", "twin")

Recognized = Mapping[tuple[str, int], Sequence[ScoredUtterance]]
"""Test utterances of each run, by its name and seed."""


def invent(
    rng: random.Random, seeds: Sequence[int] = (1, 2, 3), speakers: int = 6, rates: Sequence[float] = (0.3, 0.3)
) -> dict[tuple[str, int], list[ScoredUtterance]]:
    """Two networks that recognize random utterances of a few words, with these error rates."""
    words = [(f"u{number:03}", f"s{number % speakers}", rng.randint(1, 9)) for number in range(5 * speakers)]
    return {
        (name, seed): [ScoredUtterance(each, speaker, operations(rng, count, rate)) for each, speaker, count in words]
        for name, rate in zip(PAIR, rates, strict=True)
        for seed in seeds
    }


def operations(rng: random.Random, words: int, rate: float) -> str:
    """An alignment with some substitutions, deletions and insertions."""
    letters = [rng.choice("SD") if rng.random() < rate else "C" for _ in range(words)]
    return "".join("I" * (rng.random() < rate / 3) + letter for letter in letters)


def write(folder: Path, recognized: Recognized, margin: float = 0.5, **entries: Any) -> tuple[Study, Results]:
    """Write claim.yaml, claim.csv beside it, and the utterances; a run without utterances has no results."""
    seeds = sorted({seed for _, seed in recognized})
    tree = {
        "defaults": {"recipe": "train.py", "hparams": "a.yaml", "data": "toy", "test": True, "seeds": seeds},
        "runs": [{"name": name} for name in dict.fromkeys(name for name, _ in recognized)],
        "comparisons": [{"run": PAIR[0], "against": PAIR[1], "margin": margin}],
        **entries,
    }
    path = folder / "claim.yaml"
    path.write_text(json.dumps(tree))
    study, results = read_study(path), Results(folder / "claim.csv")
    for run in study.runs:
        if not recognized[run.name, run.seed]:
            continue
        write_utterances(utterances_path(results, run), recognized[run.name, run.seed])
        letters = "".join(each.operations for each in recognized[run.name, run.seed])
        counts = {
            "substitutions": letters.count("S"),
            "deletions": letters.count("D"),
            "insertions": letters.count("I"),
        }
        counts["words"] = len(letters) - counts["insertions"]
        macs = 150_000_000 if run.name == PAIR[0] else 400_000_000
        facts = {"macs": macs, "encoder_macs": macs, "latency_ms": macs / 1e6 + run.seed, "epochs": 5, "minutes": 10}
        facts |= {f"test_{name}": count for name, count in counts.items()}
        facts["test_wer"] = 100 * sum(map(letters.count, "SDI")) / counts["words"]
        results.add(run, {**MACHINE, **facts})
    return study, results


def write_utterances(path: Path, utterances: Sequence[ScoredUtterance]) -> None:
    """Write the file of a run, in the order given."""
    path.parent.mkdir(exist_ok=True)
    write_table(path, ScoredUtterance._fields, utterances)
