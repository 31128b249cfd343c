#!/usr/bin/env python3
"""Measure the peak memory of `biglittle transcribe` against the length and the number of recordings.

python benchmarks/memory.py                                       # one file of 0.5, 2 and 10 h; 1,000 to 100,000 files
python benchmarks/memory.py --hours 0.1 0.4 --files --json        # a small part of it, for scripts

A small network with random weights transcribes noise. One in a hundred of the short files is bad, in one of four ways.
The files are hard links to a few, so little disk is needed; 10 h take 1.2 GB. For every run, the exit status and the
failures that `biglittle transcribe` names are compared with the files that are bad.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from biglittle_asr.features import LogMel, SentenceNormalization
from biglittle_asr.inference import Recognizer, save_model
from biglittle_asr.models import CTCModel, create_encoder
from biglittle_asr.profiling.latency import machine
from biglittle_asr.tokens.tokenizer import CharacterTokenizer

SAMPLE_RATE = 16000
BLOCK_SECONDS = 60
GOOD_SECONDS = (0.5, 0.7, 0.9, 1.1)
"""Durations of the short files that can be transcribed."""
FILES_PER_FOLDER = 1000


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = parse(argv)
    facts = {"machine": machine(torch.device("cpu"))}
    rows = []
    with tempfile.TemporaryDirectory(prefix="biglittle", dir=options.folder) as name:
        for row in measurements(options, Path(name)):
            rows.append(row)
            if not options.json:
                print(describe(row), flush=True)
    if options.json:
        print(json.dumps({**facts, "rows": rows}))
    else:
        print(facts["machine"])
    if not all(row["is_right"] for row in rows):
        sys.exit("A status or a list of failures is wrong.")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, nargs="*", default=[0.5, 2.0, 10.0], help="lengths of a single file")
    parser.add_argument("--files", type=int, nargs="*", default=[1000, 10_000, 100_000], help="numbers of short files")
    parser.add_argument("--bad", type=float, default=0.01, help="part of the files that is bad (default: %(default)g)")
    parser.add_argument("--folder", type=Path, help="where to put temporary files (default: the system's place)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    return parser.parse_args(argv)


def measurements(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield measurements as they finish."""
    model = folder / "model"
    write_model(model)
    for hours in options.hours:
        write_long(folder / "long.wav", hours)
        yield {"input": f"1 file of {hours:g} h", **measure(model, folder / "long.wav", set())}
        (folder / "long.wav").unlink()
    for files in options.files:
        bad = write_many(folder / f"{files}", files, round(files * options.bad))
        yield {"input": f"{files} files, {len(bad)} bad", **measure(model, folder / f"{files}", bad)}


def write_model(folder: Path) -> None:
    """Write a small CTC model that rarely says a word, so that transcripts do not count."""
    torch.manual_seed(0)
    features = LogMel(n_mels=20)
    encoder = create_encoder("bl_resnet22", channels=(4, 8, 8, 16), input_size=20, output_size=16)
    model = CTCModel(encoder, 4)
    with torch.no_grad():
        model.output.bias[0] += 2  # the blank
    save_model(folder, Recognizer(features, SentenceNormalization(), model, CharacterTokenizer(" AB")))


def noise(seconds: float) -> np.ndarray:
    """Samples (S,)."""
    return np.random.default_rng(0).normal(0, 0.05, round(seconds * SAMPLE_RATE)).astype(np.float32)


def write_long(path: Path, hours: float) -> None:
    """Write a long recording, block by block."""
    block = noise(BLOCK_SECONDS)
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1) as file:
        for _ in range(max(1, round(hours * 3600 / BLOCK_SECONDS))):
            file.write(block)


def write_many(folder: Path, files: int, bad: int) -> set[str]:
    """Write many short recordings; returns the paths of those that are bad."""
    folder.mkdir()
    originals = folder.with_name(f"{folder.name}-originals")
    originals.mkdir()
    good = []
    for seconds in GOOD_SECONDS:
        good.append(originals / f"{seconds:g}.wav")
        soundfile.write(good[-1], noise(seconds), SAMPLE_RATE)
    content = good[-1].read_bytes()
    broken = {
        "empty": b"",
        "text": b"no audio\n" * 100,
        "cut": content[: len(content) // 2],
        "zeros": content[:44] + bytes(len(content) - 44),
    }
    for name, data in broken.items():
        (originals / f"{name}.wav").write_bytes(data)
    wrong = set()
    for number in range(files):
        path = folder / f"{number // FILES_PER_FOLDER}" / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        # They are spread evenly.
        is_bad = (number + 1) * bad // files > number * bad // files
        source = originals / f"{list(broken)[len(wrong) % len(broken)]}.wav" if is_bad else good[number % len(good)]
        try:
            os.link(source, path)
        except OSError:  # too many links to one file
            path.write_bytes(source.read_bytes())
        if is_bad:
            wrong.add(str(path))
    return wrong


def measure(model: Path, audio: Path, bad: set[str]) -> dict[str, Any]:
    """Transcribe in a process of its own; its peak memory, and whether it named exactly the bad files."""
    out = audio.with_name("out")
    command = [sys.executable, "-m", "biglittle_asr.cli", "transcribe", str(model), str(audio), "--output", f"{out}/"]
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        messages = said.read().splitlines()
    named = [match[1] for line in messages if (match := re.match(r"biglittle: (/.*?\.\w+): ", line))]
    written = sum(len(files) for _, _, files in os.walk(out))
    files = sum(len(names) for _, _, names in os.walk(audio)) if audio.is_dir() else 1
    total = f"biglittle: {len(bad)} of {files} recordings could not be transcribed."
    is_right = (
        process.returncode == (1 if bad else 0)
        and sorted(named) == sorted(bad)
        and written == files - len(bad)
        and (not bad or messages[-1] == total)
    )
    subprocess.run(["rm", "-rf", str(out)], check=True)
    return {
        "peak_megabytes": usage.ru_maxrss / 1024,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "seconds": time.monotonic() - start,
        "status": process.returncode,
        "is_right": is_right,
    }


def describe(row: dict[str, Any]) -> str:
    """Format a line of the table."""
    right = "status and failures right" if row["is_right"] else "STATUS OR FAILURES WRONG"
    return f"{row['input']:<32}{row['peak_megabytes']:8.0f} MB{row['cpu_seconds']:9.0f} s of CPU time   {right}"


if __name__ == "__main__":
    main()
