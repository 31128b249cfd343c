"""The CTC recipe of AN4, on tones that stand for letters."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from biglittle_asr.recipe.prepare import OWN_SPLITS, make_tokenizer, prepare_manifests
from biglittle_asr.recipe.run import load_recipe
from biglittle_asr.tasks.speech.ctc import CTCBrain
from biglittle_asr.tasks.speech.data import Datasets, build_datasets
from biglittle_asr.tasks.speech.evaluation import evaluate_recipe
from biglittle_asr.tasks.speech.settings import CTCRecipe
from support.corpora import SAMPLE_RATE
from support.repository import REPOSITORY, recipe_main

YAML_FILE = REPOSITORY / "hparams" / "AN4" / "ctc_bl_resnet22.yaml"
WORDS = ["ONE", "TWO NINE", "A B", "HELLO"]
"""Transcripts; LL needs a blank."""
SECONDS_PER_LETTER = 0.2


def small(output_folder: Path, **overrides: Any) -> list[str]:
    """Command line of the AN4 recipe with a small encoder and whatever a test changes."""
    defaults = {
        "data_folder": "none",
        "output_folder": output_folder,
        "encoder": "{channels: [4, 8, 8, 16], output_size: 32}",
        "corpus_options": "{dev_utterances: 6}",
        "number_of_epochs": 2,
        "average_checkpoints": "[1, 2]",
        "precision": "fp32",
    }
    options = {**defaults, **overrides}
    return [str(YAML_FILE), "--noprogressbar", *(f"--{key}={value}" for key, value in options.items())]


def write_tones(folder: Path, texts: Sequence[str] = WORDS, sample_rate: int = SAMPLE_RATE) -> None:
    """Manifests of a corpus in which every letter sounds at its own frequency."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, text in enumerate(texts):
        times = np.arange(int(SECONDS_PER_LETTER * sample_rate)) / sample_rate
        fade = np.sin(np.pi * times / SECONDS_PER_LETTER)
        letters = [fade * np.sin(2 * np.pi * (300 + 150 * (ord(letter) - 64)) * times) for letter in text]
        wav = folder / f"u{index}.wav"
        soundfile.write(wav, 0.3 * np.concatenate(letters), sample_rate)
        rows.append([f"u{index}", len(text) * SECONDS_PER_LETTER, wav, f"s{index}", text])
    write_manifests(folder / "save" / "manifests", rows)


def write_manifests(folder: Path, rows: Sequence[Sequence[Any]]) -> None:
    """The same utterances as train, dev and test; a row has ID, seconds, file, speaker and words."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in OWN_SPLITS:
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["ID", "duration", "wav", "spk_id", "wrd"], *rows])


def load(arguments: Sequence[str]) -> tuple[CTCBrain, Datasets, dict[str, Any]]:
    """What train.py builds, up to the training."""
    hparams, run_opts = load_recipe(arguments, CTCRecipe)
    manifests = prepare_manifests("an4", hparams)
    tokenizer = make_tokenizer(manifests, hparams)
    datasets = build_datasets(manifests, tokenizer, hparams)
    model = hparams["model"](output_neurons=tokenizer.size)
    return CTCBrain(model, tokenizer, hparams, run_opts), datasets, hparams


def finish(brain: CTCBrain, datasets: Datasets, hparams: dict[str, Any]) -> dict[str, Any]:
    """What train.py does after the training."""
    brain.choose_average(datasets.dev, hparams)
    folder = Path(hparams["save_folder"]) / "manifests"
    manifests = {name: folder / f"{name}.csv" for name in ("dev", "test")}
    return dict(evaluate_recipe(brain, brain.recognizer(), datasets, manifests, hparams))


def train_an4() -> Callable[[Sequence[str]], None]:
    """`main` of recipes/AN4/CTC/train.py."""
    return recipe_main("AN4", "CTC")
