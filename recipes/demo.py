"""The demonstration: a small Big-Little CTC network, trained and scored with the ordinary recipe.

    make demo                         on speech that it synthesizes itself
    make demo DATA=/path/to/an4       on real speech, CMU AN4

or, in an environment that has the package installed, `python recipes/demo.py [--data_folder /path/to/an4]`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from biglittle_asr.corpora.synthesis import Recipe, synthesize

REPOSITORY = Path(__file__).resolve().parent.parent
TRAIN = "recipes/AN4/CTC/train.py"


@dataclass(frozen=True)
class Demo:
    """One way to run the demonstration; paths are relative to the repository."""

    hparams: str
    """Training configuration."""
    output_folder: str
    """Where model, transcripts and curves go."""


SYNTHETIC = Demo("hparams/Demo/ctc_bl_resnet22_small.yaml", "results/demo/synthetic")
REAL = Demo("hparams/AN4/ctc_bl_resnet22_demo.yaml", "results/demo/an4")
CORPUS_FOLDER = "results/demo/corpus"
CORPUS = Recipe()
NEXT_COMMAND = f"{TRAIN} hparams/AN4/ctc_bl_resnet22.yaml --data_folder /path/to/an4"


def main() -> int:
    """Make the corpus, train, score, and say where everything is."""
    parser = argparse.ArgumentParser(description="Train and score a small Big-Little network.")
    parser.add_argument("--data_folder", type=Path, help="CMU AN4; speech is synthesized if not given")
    data_folder = parser.parse_args().data_folder
    started = time.monotonic()
    try:
        demo, data_folder = (REAL, data_folder.expanduser().absolute()) if data_folder else (SYNTHETIC, make_corpus())
    except (ImportError, RuntimeError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    command = [sys.executable, TRAIN, demo.hparams]
    command += ["--data_folder", str(data_folder), "--output_folder", demo.output_folder]
    say(f"Training: {' '.join(command)}")
    status = subprocess.run(command, cwd=REPOSITORY, check=False).returncode
    if status != 0:
        say(f"The training stopped with status {status}; its own message is above.")
        return 1
    report(REPOSITORY / demo.output_folder, minutes=(time.monotonic() - started) / 60)
    return 0


def make_corpus() -> Path:
    """Synthesize the corpus, unless it is there."""
    folder = REPOSITORY / CORPUS_FOLDER
    say(f"Corpus: synthetic speech of {CORPUS.train_speakers} speakers to learn from, in {folder}")
    return synthesize(folder, CORPUS)


def report(output_folder: Path, minutes: float) -> None:
    """Print the result and where things are."""
    transcripts = output_folder / "wer_test.txt"
    summary = transcripts.read_text(encoding="utf-8").splitlines()[0]
    print(f"\nSpeakers the network never heard: {summary}   ({minutes:.1f} minutes)")
    print(f"  model        {output_folder / 'save'}")
    print(f"  transcripts  {transcripts}")
    print(f"  curves       {output_folder / 'curves.png'}")
    print(f"Train on real speech:\n  {sys.executable} {NEXT_COMMAND}")


def say(text: str) -> None:
    """Progress goes to standard error; standard output is for results."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
