"""Command lines of recipes that pages show: the first training of each README, small, and what studies only read."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile

from support.command_lines import PAGES, shown
from support.corpora import SAMPLE_RATE, make_an4, make_librispeech, make_speechocean762, make_telephone, tone
from support.hybrid_recipe import SHALLOW
from support.image_recipe import make_folder as make_images
from support.image_recipe import tiny
from support.repository import REPOSITORY, recipe_main

sys.path.insert(0, str(REPOSITORY / "recipes"))
import study  # noqa: E402  (a script, in no package)

READMES = [path for path in PAGES if path.is_relative_to(REPOSITORY / "recipes")]
FIRST = {
    path: next(words for words in shown(path.read_text(encoding="utf-8"), "python") if words[1].endswith("train.py"))
    for path in READMES
}
"""The command line of each README."""


def an4(folder: Path) -> Path:
    """AN4, with a lexicon of letters."""
    make_an4(folder)
    words = ("YES", "RUBOUT", "G", "M", "ENTER", "TWO")
    (folder / "etc" / "an4.dic").write_text("".join(f"{word} {' '.join(word)}\n" for word in words))
    return folder


def recordings(folder: Path) -> Path:
    """Recordings of three speakers, with a text beside each."""
    folder.mkdir()
    for name in (f"{speaker}{number}" for speaker in "abc" for number in range(3)):
        soundfile.write(folder / f"{name}.wav", tone(SAMPLE_RATE), SAMPLE_RATE)
        (folder / f"{name}.txt").write_text("Yes.\n")
    return folder


def images(folder: Path) -> Path:
    """Class folders of training and validation images."""
    for name in ("train", "val"):
        make_images(folder / name)
    return folder


CORPORA: dict[str, Callable[[Path], Path]] = {
    "AN4": an4,
    "Folder": recordings,
    "ImageNet": images,
    "LibriSpeech": make_librispeech,
    "SpeechOcean762": make_speechocean762,
    "Switchboard": lambda folder: make_telephone("switchboard", folder),
}
"""What stands for `--data_folder`, by the recipe's folder."""
OPTIONS: dict[str, Any] = {
    "number_of_epochs": 1,
    "average_checkpoints": "[1]",
    "precision": "fp32",
    "wav_augment": "null",
    "fea_augment": "null",
    "encoder": "{channels: [4, 8, 8, 16]}",
    "train_dataloader_opts": "{num_workers: 0}",
}
"""What makes a training small."""
HYBRID = {
    "encoder": f"{{channels: [4, 8, 8, 16], {SHALLOW}}}",
    "iterations": "[{epochs: 1}]",
    "min_frames": 5,
    "language_model": "{order: 2}",
}
LONG = {"token_type": "character", "encoder": "{channels: [4, 8, 8, 16], time_stride: 1}"}
"""For utterances of half a second with a sentence of five words."""
SMALLER: dict[str, dict[str, Any]] = {
    "AN4/CTC": {"corpus_options": "{dev_utterances: 6}"},
    "AN4/Hybrid": {"corpus_options": "{dev_utterances: 6}", **HYBRID},
    "Folder/CTC": {"encoder": None},
    "LibriSpeech/Attention": {
        **LONG,
        "embedding_size": 16,
        "decoder": "{hidden_size: 16, attn_dim: 16, channels: 2, kernel_size: 3}",
        "test_beam_size": 2,
    },
    "LibriSpeech/CTC": LONG,
    "LibriSpeech/Transducer": {
        **LONG,
        "model": "{prediction_size: 16, joint_size: 16}",
        "test_beam_size": 2,
    },
    "SpeechOcean762/CTC": {"corpus_options": "{dev_speakers: 2}"},
    "SpeechOcean762/Hybrid": {"corpus_options": "{dev_speakers: 2}", **HYBRID},
    "Switchboard/CTC": {"corpus_options": "{dev_conversations: 1}"},
    "Switchboard/Hybrid": {"corpus_options": "{dev_conversations: 1}", **HYBRID},
}
"""The same for one recipe only; None takes an option away."""


def changed(words: list[str], options: dict[str, Any]) -> list[str]:
    """A recipe's arguments with other values of some options."""
    kept: list[str] = []
    for key, value in zip(words[::2], words[1::2], strict=True):
        if key.removeprefix("--") not in options:
            kept += [key, value]
    return kept + [f"--{key}={value}" for key, value in options.items() if value is not None]


@pytest.mark.slow
@pytest.mark.parametrize("path", READMES, ids=lambda path: "-".join(path.relative_to(REPOSITORY).parts[1:-1]))
def test_first_training_of_a_readme_comes_to_its_end(path: Path, tmp_path: Path) -> None:
    name = path.parent.relative_to(REPOSITORY / "recipes").as_posix()
    corpus = CORPORA[path.relative_to(REPOSITORY / "recipes").parts[0]](tmp_path / "corpus")
    _, script, file, *rest = FIRST[path]
    assert REPOSITORY / script == path.with_name("train.py")
    out = tmp_path / "out"
    places = {"data_folder": corpus, "output_folder": out}
    if "--hub5_folder" in rest:
        places["hub5_folder"] = make_telephone("hub5", tmp_path / "hub5")
    if name == "ImageNet":
        _, *small = tiny(REPOSITORY / file, corpus, out)
    else:
        small = ["--noprogressbar", *changed(rest, {**OPTIONS, **SMALLER.get(name, {}), **places})]
        if "Hybrid" in name:
            small = [word for word in small if not word.startswith("--number_of_epochs")]
    recipe_main(*name.split("/"))([str(REPOSITORY / file), *small])
    assert (out / "model" / "config.json").is_file()


READING = {
    " ".join(words): words[2:]
    for path in PAGES
    for words in shown(path.read_text(encoding="utf-8"), "python")
    if words[1] == "recipes/study.py" and {"--verdict", "--picture"} & {*words}
}
"""Commands of studies that only read the files of this repository."""


@pytest.mark.slow
@pytest.mark.parametrize("line", READING)
def test_studies_of_the_repository_are_judged_and_drawn(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docs").symlink_to(REPOSITORY / "docs")
    monkeypatch.chdir(tmp_path)
    # The status is 1 while runs are missing, of which the page speaks.
    assert study.main(READING[line]) == ("--verdict" in line)
    for name in READING[line]:
        if name.endswith((".md", ".svg")):
            assert (tmp_path / name).stat().st_size > 100
