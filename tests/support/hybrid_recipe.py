"""The hybrid recipes, on tones that stand for phones."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from biglittle_asr.recipe.prepare import prepare_manifests
from biglittle_asr.recipe.run import load_recipe
from biglittle_asr.tasks.hybrid.flat_start import FlatStart
from biglittle_asr.tasks.hybrid.settings import HybridRecipe
from support.ctc_recipe import write_tones
from support.repository import REPOSITORY, recipe_main

YAML_FILE = REPOSITORY / "hparams" / "AN4" / "hybrid_bl_resnet22.yaml"
TEXTS = ["BAD CAB", "DAB", "CAB DAB", "ACE BAD", "BED", "ACE DAB"]
"""In which every letter is a phone, and sounds at its own frequency."""

SHALLOW = "blocks: [1, 1, 1, 1], big_little_stages: 0"


def write_corpus(folder: Path, texts: Sequence[str] = TEXTS, copies: int = 1) -> None:
    """Manifests of tones, a lexicon of letters and a language model of equally likely words."""
    write_tones(folder, [text.replace(" ", "") for text in texts])
    for manifest in (folder / "save" / "manifests").glob("*.csv"):
        content = manifest.read_text()
        for text in texts:
            content = content.replace(f",{text.replace(' ', '')}\n", f",{text}\n")
        head, *lines = content.replace("\r", "").splitlines(keepends=True)
        if manifest.name == "train.csv":
            lines = [line.replace(",", f"-{copy},", 1) for copy in range(copies) for line in lines]
        manifest.write_text("".join([head, *lines]))
    write_language(folder, sorted({word for text in texts for word in text.split()}))


def write_language(folder: Path, words: Sequence[str]) -> None:
    """A lexicon of letters, and a language model of equally likely words."""
    (folder / "etc").mkdir()
    (folder / "etc" / "an4.dic").write_text("".join(f"{word} {' '.join(word)}\n" for word in words))
    entries = "".join(f"-1.0\t{word}\n" for word in ["</s>", *words])
    model = f"\\data\\\nngram 1={len(words) + 2}\n\n\\1-grams:\n{entries}-99.0\t<s>\n\n\\end\\\n"
    (folder / "etc" / "an4.ug.lm").write_text(model)


def small(folder: Path, **overrides: Any) -> list[str]:
    """Command line of the AN4 recipe with a small encoder and whatever a test changes."""
    defaults = {
        "data_folder": folder,
        "output_folder": folder,
        "skip_prep": True,
        "encoder": f"{{channels: [8, 8, 16, 16], {SHALLOW}, output_size: 32, time_stride: 2}}",
        "iterations": "[{epochs: 1}, {epochs: 1}, {epochs: 1, tied: True}]",
        "tied_states": 40,
        "min_frames": 5,
        "average_checkpoints": "[1]",
        "lm_weights": "[1, 5]",
        "dynamic_batching": False,
        "batch_size": 3,
        "precision": "fp32",
        "lr": 0.01,
        "dropout": 0.0,
        "wav_augment": "null",
        "fea_augment": "null",
    }
    options = {**defaults, **overrides}
    return [str(YAML_FILE), "--noprogressbar", *(f"--{key}={value}" for key, value in options.items())]


def train(corpus: str) -> Callable[[Sequence[str]], None]:
    """`main` of a corpus's train.py."""
    return recipe_main(corpus, "Hybrid")


def start(arguments: Sequence[str]) -> FlatStart:
    """What train.py builds, up to the training."""
    hparams, run_opts = load_recipe(arguments, HybridRecipe)
    return FlatStart(prepare_manifests("an4", hparams), hparams, run_opts)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "iterations.csv").open() as file:
        return list(csv.DictReader(file))
