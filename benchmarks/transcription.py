#!/usr/bin/env python3
"""From files to words: how many times faster than real time a trained model transcribes, and its error rate.

python benchmarks/transcription.py MODEL data/test.csv
python benchmarks/transcription.py MODEL data/test.csv --runtimes torch onnxruntime --precisions int8 --hours 1
python benchmarks/transcription.py MODEL data/test.csv --pocketsphinx an4.dic an4.ug.lm      # pip install pocketsphinx

Times are CPU time of one process with one thread: reading, features, network and greedy search, without the loading of
the model. In each round every system transcribes all utterances once; a time is the median over rounds. The error rate
is of the first round. `--hours` measures one long recording, which is the utterances one after another, again and
again. `--start` measures whole commands by the clock, from their start to the words of one utterance.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from biglittle_asr.corpora.manifest import read_manifest, row_segment
from biglittle_asr.inference import Recognizer, load_model, optimize
from biglittle_asr.inference.audio import Recording
from biglittle_asr.inference.evaluation import EVALUATION_COLUMNS, Row
from biglittle_asr.inference.runtimes import RUNTIMES, TORCH
from biglittle_asr.inference.transcription import BATCH_SECONDS
from biglittle_asr.profiling import Stopwatch
from biglittle_asr.profiling.latency import machine
from biglittle_asr.scoring import score_texts
from biglittle_asr.study.results import describe_machine

ONE_HOUR = 3600.0
POCKETSPHINX = "pocketsphinx"

Transcribe = Callable[[Sequence[Recording]], list[str]]
"""Texts of recordings, in their order."""


@dataclass(frozen=True)
class System:
    """A recognizer under measurement."""

    name: str
    transcribe: Transcribe
    stopwatch: Stopwatch | None = None
    """Measures the parts of a recognizer of this package."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table or JSON."""
    options = parse(argv)
    torch.set_num_threads(1)
    rows = read_manifest(options.data, EVALUATION_COLUMNS)
    utterances = [Recording.of_segment(row["ID"], row["wav"], row_segment(row)) for row in rows]
    seconds = sum(each.duration() for each in utterances)
    systems = list(chosen(options))
    facts = {"machine": machine(torch.device("cpu")), "flags": describe_machine()["cpu_flags"], "seconds": seconds}
    with tempfile.TemporaryDirectory(prefix="transcription") as folder:
        whole = joined(utterances, options.hours * ONE_HOUR, Path(folder)) if options.hours else None
        table = [measure(system, rows, utterances, seconds, whole, options) for system in systems]
    if options.start:
        facts["start_s"] = {name: started(options, *name.split(", ")) for name in names(options)}
    if options.json:
        print(json.dumps({**facts, "rows": table}))
        return
    print(facts["machine"] + (f" ({facts['flags']})" if facts["flags"] else ""))
    print(f"{len(utterances)} utterances, {seconds:.0f} s; times faster than real time, on one thread")
    for row in table:
        hour = f", {row['hours_times']:.0f} on {options.hours:g} h in one file" if "hours_times" in row else ""
        parts = "".join(f", {name} {share:.0%}" for name, share in row.get("shares", {}).items())
        print(f"  {row['name']}: {row['times']:.0f}{hour}; WER {row['wer']:.2f} %{parts}")
    for name, start in facts.get("start_s", {}).items():
        print(f"  biglittle transcribe, {name}: {start:.1f} s from its start to the words of one utterance")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", type=Path, help="model folder")
    parser.add_argument("data", metavar="MANIFEST", type=Path, help="CSV file with columns ID, wav, wrd")
    parser.add_argument("--runtimes", nargs="+", choices=(TORCH, *RUNTIMES), default=(TORCH, *RUNTIMES))
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "int8"), default=("fp32", "int8"))
    parser.add_argument("--pocketsphinx", nargs=2, metavar=("LEXICON", "LM"), help="measure pocketsphinx too")
    parser.add_argument("--hours", type=float, default=0.0, help="of one long recording (default: none)")
    parser.add_argument("--start", action="store_true", help="measure whole commands too")
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    parser.add_argument("--batch-seconds", type=float, default=BATCH_SECONDS, help="(default: %(default)g)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(argv)


def names(options: argparse.Namespace) -> list[str]:
    """The runtimes and precisions to measure; PyTorch has no int8."""
    pairs = [(runtime, precision) for runtime in options.runtimes for precision in options.precisions]
    return [", ".join(pair) for pair in pairs if pair != (TORCH, "int8")]


def chosen(options: argparse.Namespace) -> Iterator[System]:
    """The systems of the command line."""
    for name in names(options):
        recognizer = load_model(options.model, "cpu", *name.split(", "))
        recognizer = optimize(recognizer) if recognizer.network is None else recognizer
        recognizer.stopwatch = Stopwatch(clock=time.process_time)
        yield System(name, own(recognizer, options.batch_seconds), recognizer.stopwatch)
    if options.pocketsphinx:
        yield System(POCKETSPHINX, sphinx(*options.pocketsphinx))


def own(recognizer: Recognizer, batch_seconds: float) -> Transcribe:
    """Transcribe with a recognizer of this package."""

    def work(recordings: Sequence[Recording]) -> list[str]:
        return [each.text for each in recognizer.transcribe(list(recordings), batch_seconds=batch_seconds)]

    return work


def sphinx(lexicon: str, language_model: str) -> Transcribe:
    """Transcribe with pocketsphinx's English model."""
    import pocketsphinx

    decoder = pocketsphinx.Decoder(lm=language_model, dict=lexicon, loglevel="FATAL")

    def work(recordings: Sequence[Recording]) -> list[str]:
        texts = []
        for recording in recordings:
            samples = (recording.read(16000) * 32767).astype(np.int16)
            decoder.start_utt()
            decoder.process_raw(samples.tobytes(), full_utt=True)
            decoder.end_utt()
            found = decoder.hyp()
            texts.append(found.hypstr if found is not None else "")
        return texts

    return work


def joined(utterances: Sequence[Recording], seconds: float, folder: Path) -> Recording:
    """One long recording of the utterances, again and again."""
    samples = np.concatenate([each.read(16000) for each in utterances])
    path = folder / "long.wav"
    with soundfile.SoundFile(path, "w", 16000, 1, "PCM_16") as file:
        left = round(seconds * 16000)
        while left > 0:
            file.write(samples[:left])
            left -= len(samples)
    return Recording("long", path)


def measure(
    system: System,
    rows: Sequence[Row],
    utterances: Sequence[Recording],
    seconds: float,
    whole: Recording | None,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """One row of the table."""
    system.transcribe(utterances[:3])  # the first calls prepare things
    texts, first = timed(system, utterances)
    found = [first] + [timed(system, utterances)[1] for _ in range(options.rounds - 1)]
    references = {row["ID"]: row["wrd"] for row in rows}
    score = score_texts(references, {row["ID"]: text for row, text in zip(rows, texts, strict=True)}, bootstrap=0)
    row: dict[str, Any] = {
        "name": system.name,
        "times": seconds / statistics.median(found),
        "range": [seconds / max(found), seconds / min(found)],
        "wer": score.all.wer,
    }
    if system.stopwatch is not None:
        total = sum(system.stopwatch.seconds.values())
        row["shares"] = {name: spent / total for name, spent in system.stopwatch.seconds.items()}
    if whole is not None and system.name != POCKETSPHINX:
        row["hours_times"] = whole.duration() / timed(system, [whole])[1]
    return row


def timed(system: System, recordings: Sequence[Recording]) -> tuple[list[str], float]:
    """Texts of recordings, and the CPU time they took."""
    before = time.process_time()
    texts = system.transcribe(recordings)
    return texts, time.process_time() - before


def started(options: argparse.Namespace, runtime: str, precision: str) -> float:
    """Seconds by the clock from the start of `biglittle transcribe` to its end, the shortest of some runs."""
    wav = read_manifest(options.data, EVALUATION_COLUMNS)[0]["wav"]
    command = [sys.executable, "-m", "biglittle_asr.cli", "transcribe", str(options.model), wav, "--runtime", runtime]
    found = []
    for _ in range(options.rounds):
        before = time.perf_counter()
        subprocess.run([*command, "--precision", precision], check=True, stdout=subprocess.DEVNULL)
        found.append(time.perf_counter() - before)
    return min(found)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
