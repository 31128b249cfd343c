"""The demonstration: a small Big-Little CTC network, trained and scored with the ordinary recipe.

    make demo                         on speech that it synthesizes itself
    make demo DATA=/path/to/an4       on real speech, CMU AN4

or, in an environment that has the package installed, `python recipes/demo.py [--data_folder /path/to/an4]`. The result
is printed to standard output, everything else to standard error. Given again, the same command goes on where it was
interrupted, or shows the result of the network that is there.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

from biglittle_asr.corpora.synthesis.librispeech_like import Recipe, synthesize
from biglittle_asr.files import read_table

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
FULL_SIZE = ("recipes/AN4/CTC/train.py", "hparams/AN4/ctc_bl_resnet22_context.yaml")
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
    if (REPOSITORY / demo.output_folder / "model").is_dir():
        say(f"A trained network is there already and is scored again; to train anew, remove {demo.output_folder}.")
    command = [demo.script, demo.hparams, "--data_folder", str(data_folder), "--output_folder", demo.output_folder]
    say(f"Training and scoring with the command\n  {in_shell('python', *command)}")
    # tqdm takes its defaults from TQDM_*: a finished progress bar is cleared, so that one line an epoch remains.
    environment = {**os.environ, "TQDM_LEAVE": ""}
    done = subprocess.run([sys.executable, *command], cwd=REPOSITORY, env=environment, stdout=sys.stderr, check=False)
    return done.returncode


def report(demo: Demo, data_folder: Path | None) -> str:
    """What came out, where it is, and what to do next."""
    folder = REPOSITORY / demo.output_folder
    transcripts = folder / "wer_test.txt"
    text = transcripts.read_text(encoding="utf-8")
    summary = next(line for line in text.splitlines() if line.startswith("WER "))
    shown = examples(text)
    seconds = [float(row["seconds"]) for row in read_table(folder / "epochs.csv")]
    audio = {row["ID"]: row["wav"] for row in read_table(folder / "save" / "manifests" / "test.csv")}
    transcribe = in_shell("biglittle", "transcribe", f"{demo.output_folder}/model", audio[next(iter(shown))])
    full_size = in_shell("python", *FULL_SIZE, "--data_folder", str(data_folder or "/path/to/an4"))
    origin = "" if data_folder else f" ({AN4_HOME})"
    return f"""
Speakers that the network has never heard:
  {summary}

{len(shown)} of their utterances; under each word, S is a substitution, D a deletion, I an insertion:

{indent((chr(10) * 2).join(shown.values()), "  ")}

  model        {folder / "model"}
  transcripts  {transcripts}
  curves       {folder / "curves.png"}
  training     {sum(seconds) / 60:.1f} minutes, {len(seconds)} epochs

Transcribe the first of these, or any other recording:
  {transcribe}

Next, the full-size network on real speech, CMU AN4{origin}, in about an hour:
  {full_size}"""


ALIGNED = re.compile(
    r"^(?P<id>\S+)(?: \((?P<speaker>.+)\))?: \d+ words?, (?:(?P<correct>correct)|\d+ errors?)\n(?:.+\n?)+", re.MULTILINE
)
"""One aligned utterance of a wer_<set>.txt."""


def examples(transcripts: str, count: int = 3) -> dict[str, str]:
    """Aligned utterances by ID: of each speaker the first with errors, then whatever there is."""
    speakers = set()
    chosen, others = {}, {}
    for match in ALIGNED.finditer(transcripts):
        first = not match["correct"] and match["speaker"] not in speakers
        (chosen if first else others)[match["id"]] = match[0].rstrip()
        if first:
            speakers.add(match["speaker"])
    return dict(list({**chosen, **others}.items())[:count])


def in_shell(program: str, *arguments: str) -> str:
    """A program of this Python's environment as one types it, in any folder."""
    here = Path(sys.executable).parent
    path = Path(sys.executable if program == "python" else shutil.which(program, path=here) or program)
    if path.is_relative_to(REPOSITORY):
        path = path.relative_to(REPOSITORY)
    return f"cd {shlex.quote(str(REPOSITORY))} && {shlex.join([str(path), *arguments])}"


def say(text: str) -> None:
    """Progress goes to standard error; standard output is for results."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
