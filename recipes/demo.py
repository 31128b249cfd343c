"""The demonstration: a small Big-Little CTC network, trained and scored with the ordinary recipe.

    make demo                         on speech that it synthesizes itself
    make demo DATA=/path/to/an4       on real speech, CMU AN4

or, in an environment that has the package installed, `python recipes/demo.py [--data_folder /path/to/an4]`. The result
is printed to standard output, everything else to standard error. Given again, the same command goes on where it was
interrupted, or shows the result of the network that is there.
"""

from __future__ import annotations

import argparse
import csv
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from biglittle_asr.corpora.synthesis import Recipe, synthesize

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Demo:
    """One way to run the demonstration; paths are relative to the repository."""

    script: str
    """Recipe."""
    hparams: str
    """Its configuration."""
    output_folder: str
    """Where model, transcripts and curves go."""


SYNTHETIC = Demo(
    "recipes/LibriSpeech/CTC/train.py", "hparams/LibriSpeech/ctc_bl_resnet22_demo.yaml", "results/demo/synthetic"
)
AN4 = Demo("recipes/AN4/CTC/train.py", "hparams/AN4/ctc_bl_resnet22_demo.yaml", "results/demo/an4")
FULL_SIZE = ("recipes/AN4/CTC/train.py", "hparams/AN4/ctc_bl_resnet22.yaml")
"""What to run next: recipe and configuration."""
AN4_HOME = "http://www.speech.cs.cmu.edu/databases/an4/"

CORPUS_FOLDER = "results/demo/corpus"
CORPUS = Recipe(train_speakers=32, utterances=30)


def main(argv: list[str] | None = None) -> int:
    """Make the corpus, train, score, and say where everything is."""
    parser = argparse.ArgumentParser(description="Train and score a small Big-Little network.")
    parser.add_argument("--data_folder", type=Path, help="CMU AN4; speech is synthesized if not given")
    given: Path | None = parser.parse_args(argv).data_folder
    demo = AN4 if given else SYNTHETIC
    try:
        data_folder = given.expanduser().absolute() if given else make_corpus()
        status = train(demo, data_folder)
    except KeyboardInterrupt:
        return 130
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        say(f"error: {error}")
        return 1
    if status != 0:
        # What stopped it, train.py has said itself, unless it was killed.
        if status < 0:
            say(f"error: the training was ended by signal {-status}; the same command goes on from there.")
        return 1
    print(report(demo, data_folder if given else None))
    return 0


def make_corpus() -> Path:
    """Synthesize the corpus, unless it is there."""
    folder = REPOSITORY / CORPUS_FOLDER
    say(f"Corpus: synthetic digits and commands of {CORPUS.train_speakers} speakers to learn from, in {folder}")
    return synthesize(folder, CORPUS)


def train(demo: Demo, data_folder: Path) -> int:
    """Run the recipe, which goes on from its last checkpoint; return its exit status."""
    if (REPOSITORY / demo.output_folder / "save" / "model.safetensors").is_file():
        say(f"A trained network is there already and is scored again; to train anew, remove {demo.output_folder}.")
    command = [demo.script, demo.hparams, "--data_folder", str(data_folder), "--output_folder", demo.output_folder]
    say(f"Training and scoring with the command\n  {in_shell(*command)}")
    # tqdm takes its defaults from TQDM_*: a finished progress bar is cleared, so that one line an epoch remains.
    environment = {**os.environ, "TQDM_LEAVE": ""}
    done = subprocess.run([sys.executable, *command], cwd=REPOSITORY, env=environment, stdout=sys.stderr, check=False)
    return done.returncode


def report(demo: Demo, data_folder: Path | None) -> str:
    """What came out, where it is, and what to do next."""
    folder = REPOSITORY / demo.output_folder
    transcripts = folder / "wer_test.txt"
    lines = transcripts.read_text(encoding="utf-8").splitlines()
    summary = next(line for line in lines if line.startswith("WER "))
    with (folder / "epochs.csv").open(encoding="utf-8", newline="") as file:
        seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
    full_size = in_shell(*FULL_SIZE, "--data_folder", str(data_folder or "/path/to/an4"))
    origin = "" if data_folder else f" ({AN4_HOME})"
    return f"""
Speakers that the network has never heard:
  {summary}

  model        {folder / "save" / "model.safetensors"}
  transcripts  {transcripts}
  curves       {folder / "curves.png"}
  training     {sum(seconds) / 60:.1f} minutes, {len(seconds)} epochs

Next, the full-size network on real speech, CMU AN4{origin}, in about an hour:
  {full_size}"""


def in_shell(*command: str) -> str:
    """A Python command as one types it, in any folder."""
    python = Path(sys.executable)
    if python.is_relative_to(REPOSITORY):
        python = python.relative_to(REPOSITORY)
    return f"cd {shlex.quote(str(REPOSITORY))} && {shlex.join([str(python), *command])}"


def say(text: str) -> None:
    """Progress goes to standard error; standard output is for results."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
