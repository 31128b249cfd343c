"""The demo: train and score a small Big-Little CTC network with the ordinary recipe.

    make demo                         on synthesized speech
    make demo DATA=/path/to/an4       on real speech, CMU AN4

With the package installed, `python recipes/demo.py [--data_folder /path/to/an4]` does the same. The result goes to
standard output, everything else to standard error. The same command resumes an interrupted run, or shows the result of
a finished one.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

from biglittle_asr.corpora.synthesis.librispeech_like import Recipe, synthesize
from biglittle_asr.files import read_table
from biglittle_asr.scoring import AlignedUtterance, read_score
from biglittle_asr.scoring.report import format_alignment

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Demo:
    """One variant of the demo; paths are relative to the repository."""

    script: str
    """The recipe's script."""
    hparams: str
    """The recipe's YAML file."""
    output_folder: str
    """Folder for model, transcripts and curves."""


SYNTHETIC = Demo(
    "recipes/LibriSpeech/CTC/train.py", "hparams/LibriSpeech/ctc_bl_resnet22_demo.yaml", "results/demo/synthetic"
)
AN4 = Demo("recipes/AN4/CTC/train.py", "hparams/AN4/ctc_bl_resnet22_demo.yaml", "results/demo/an4")
FULL_SIZE = ("recipes/AN4/CTC/train.py", "hparams/AN4/ctc_bl_resnet22_context.yaml")
"""The training to run next: script and YAML file."""
AN4_HOME = "http://www.speech.cs.cmu.edu/databases/an4/"

CORPUS_FOLDER = "results/demo/corpus"
CORPUS = Recipe(train_speakers=32, utterances=30)


def main(argv: list[str] | None = None) -> int:
    """Make the corpus, train, score, and print the results and their paths."""
    parser = argparse.ArgumentParser(description="Train and score a small Big-Little network.")
    parser.add_argument("--data_folder", type=Path, help="folder of CMU AN4 (default: synthesize speech)")
    given: Path | None = parser.parse_args(argv).data_folder
    demo = AN4 if given else SYNTHETIC
    try:
        data_folder = Path(os.path.expanduser(given)).absolute() if given else make_corpus()
        status = train(demo, data_folder)
    except KeyboardInterrupt:
        return 130
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        say(f"error: {error}")
        return 1
    if status != 0:
        # train.py has printed its own error, unless it was killed.
        if status < 0:
            say(f"error: signal {-status} ended the training; the same command resumes it.")
        return 1
    print(report(demo, data_folder if given else None))
    return 0


def make_corpus() -> Path:
    """Synthesize the corpus, unless it exists."""
    folder = REPOSITORY / CORPUS_FOLDER
    say(f"Corpus: synthetic digits and commands, {CORPUS.train_speakers} training speakers, in {folder}")
    return synthesize(folder, CORPUS)


def train(demo: Demo, data_folder: Path) -> int:
    """Run the recipe, which resumes from its last checkpoint; return its exit status."""
    if (REPOSITORY / demo.output_folder / "model").is_dir():
        say(f"A trained network is there already and is scored again; to retrain, remove {demo.output_folder}.")
    command = [demo.script, demo.hparams, "--data_folder", str(data_folder), "--output_folder", demo.output_folder]
    say(f"Training and scoring with the command\n  {in_shell('python', *command)}")
    # tqdm reads its defaults from TQDM_*. Clearing finished progress bars leaves one line per epoch.
    environment = {**os.environ, "TQDM_LEAVE": ""}
    done = subprocess.run([sys.executable, *command], cwd=REPOSITORY, env=environment, stdout=sys.stderr, check=False)
    return done.returncode


def report(demo: Demo, data_folder: Path | None) -> str:
    """Summarize the results, their paths and the next commands."""
    folder = REPOSITORY / demo.output_folder
    transcripts = folder / "wer_test.txt"
    score = read_score(transcripts)
    shown = examples(score.utterances)
    seconds = [float(row["seconds"]) for row in read_table(folder / "epochs.csv")]
    audio = {row["ID"]: row["wav"] for row in read_table(folder / "save" / "manifests" / "test.csv")}
    transcribe = in_shell("biglittle", "transcribe", f"{demo.output_folder}/model", audio[next(iter(shown))])
    page = in_shell("biglittle", "report", demo.output_folder, "--audio", "--output", f"{demo.output_folder}.html")
    model, live = f"{demo.output_folder}/model", f"{demo.output_folder}_page"
    browser = in_shell("biglittle", "export", model, live, "--format", "web")
    browser += f" && {command_line('biglittle', 'serve', model, '--page', live)}"
    full_size = in_shell("python", *FULL_SIZE, "--data_folder", str(data_folder or "/path/to/an4"))
    origin = "" if data_folder else f" ({AN4_HOME})"
    return f"""
Test result, on speakers not heard in training:
  {score.summary()}

{len(shown)} test utterances, with errors marked: S substitution, D deletion, I insertion:

{indent((chr(10) * 2).join(shown.values()), "  ")}

  model        {folder / "model"}
  transcripts  {transcripts}
  curves       {folder / "curves.png"}
  training     {sum(seconds) / 60:.1f} minutes, {len(seconds)} epochs

Transcribe the first of these, or any recording:
  {transcribe}

Write a page with all of this, alignments and audio included:
  {page}

Recognize speech in a browser, from the microphone or from files:
  {browser}

Next, train the full-size network on real speech, CMU AN4{origin}, in about an hour:
  {full_size}"""


def examples(utterances: Sequence[AlignedUtterance], count: int = 3) -> dict[str, str]:
    """Choose aligned utterances, by ID: first each speaker's first one with errors, then any others."""
    speakers = set()
    chosen, others = {}, {}
    for utterance in utterances:
        first = utterance.counts.errors > 0 and utterance.speaker not in speakers
        (chosen if first else others)[utterance.id] = format_alignment(utterance)
        if first:
            speakers.add(utterance.speaker)
    return dict(list({**chosen, **others}.items())[:count])


def in_shell(program: str, *arguments: str) -> str:
    """Shell command that runs a program of this Python's environment, from any folder."""
    return f"cd {shlex.quote(str(REPOSITORY))} && {command_line(program, *arguments)}"


def command_line(program: str, *arguments: str) -> str:
    """The same, from the repository's folder."""
    here = Path(sys.executable).parent
    path = Path(sys.executable if program == "python" else shutil.which(program, path=here) or program)
    if path.is_relative_to(REPOSITORY):
        path = path.relative_to(REPOSITORY)
    return shlex.join([str(path), *arguments])


def say(text: str) -> None:
    """Print progress to standard error; standard output is for results."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
