"""The demonstration, and LibriSpeech's recipe, which it runs.

Network and corpus are tiny here; everything else is as in `make demo`.
"""

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from biglittle_asr.corpora.synthesis.librispeech_like import Recipe
from biglittle_asr.recipe.prepare import prepare_manifests
from biglittle_asr.recipe.run import load_recipe
from biglittle_asr.recipe.yaml import RecipeError
from biglittle_asr.scoring import score_texts
from biglittle_asr.tasks.speech.settings import CTCRecipe
from support.command_lines import commands, parse
from support.repository import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "recipes"))
import demo  # noqa: E402  (a script, in no package)

TINY = Recipe(train_speakers=3, dev_speakers=1, test_speakers=2, utterances=4, held_out_utterances=2)
QUICK = """\
!include:{base}
number_of_epochs: 2
encoder: !include:{encoder}
    channels: [4, 8, 8, 16]
"""


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> demo.Demo:
    """The synthetic demo with a tiny corpus and network, in a folder of its own."""
    hparams = tmp_path / "quick.yaml"
    encoder = REPOSITORY / "hparams" / "encoders" / "bl_resnet22_half.yaml"
    hparams.write_text(QUICK.format(base=REPOSITORY / demo.SYNTHETIC.hparams, encoder=encoder))
    quick = demo.Demo(demo.SYNTHETIC.script, str(hparams), str(tmp_path / "out"))
    monkeypatch.setattr(demo, "SYNTHETIC", quick)
    monkeypatch.setattr(demo, "CORPUS_FOLDER", str(tmp_path / "corpus"))
    monkeypatch.setattr(demo, "CORPUS", TINY)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return quick


def epochs(folder: str) -> list[dict[str, str]]:
    with (Path(folder) / "epochs.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_demo_trains_reports_and_is_not_trained_twice(quick: demo.Demo, capfd: Any) -> None:
    assert demo.main([]) == 0
    first = capfd.readouterr()
    folder = Path(quick.output_folder)
    assert "WER " in first.out and " sub, " in first.out and "[" in first.out
    for path in (folder / "model", folder / "wer_test.txt", folder / "curves.png"):
        assert str(path) in first.out and path.exists()
    assert first.out.count("  REF: ") == first.out.count("  HYP: ") == 3
    for command in (" transcribe ", " report "):
        (line,) = (line for line in first.out.splitlines() if command in line)
        done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert Path(f"{folder}.html").is_file()
    (line,) = (line for line in first.out.splitlines() if " serve " in line)
    _, *on_the_page = commands(line)
    assert [words[1] for words in on_the_page] == ["export", "serve"]
    for words in on_the_page:
        parse(words[1:])
    assert "recipes/AN4/CTC/train.py hparams/AN4/ctc_bl_resnet22_context.yaml --data_folder" in first.out
    assert "quirks" not in first.err and "Generating dynamic batches" not in first.err
    trained = epochs(quick.output_folder)
    assert len(trained) == 2

    assert demo.main([]) == 0
    second = capfd.readouterr()
    assert second.out == first.out
    assert "A trained network is there already" in second.err
    assert epochs(quick.output_folder) == trained


def test_examples_show_errors_of_different_speakers_first() -> None:
    heard = {"a1": "ONE", "a2": "TWO", "a3": "TWO", "b1": "TWO", "c1": "ONE"}
    speakers = {"a1": "x", "a2": "x", "a3": "x", "b1": "y z", "c1": "c"}
    utterances = score_texts(dict.fromkeys(heard, "ONE"), heard, speakers).utterances
    assert list(demo.examples(utterances)) == ["a2", "b1", "a1"]
    assert demo.examples(utterances)["b1"].splitlines() == [
        "b1 (y z): 1 word, 1 error", "REF: ONE", "HYP: TWO", "OP:  S",
    ]  # fmt: skip
    assert len(demo.examples(utterances, count=9)) == 5


@pytest.mark.slow
@pytest.mark.parametrize("make_folder, problem", [(False, "no such folder"), (True, "etc")])
def test_wrong_data_folder_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, make_folder: bool, problem: str
) -> None:
    folder = tmp_path / "no an4"
    if make_folder:
        folder.mkdir()
    monkeypatch.setattr(demo, "AN4", demo.Demo(demo.AN4.script, demo.AN4.hparams, str(tmp_path / "out")))
    assert demo.main(["--data_folder", str(folder)]) == 1
    captured = capfd.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and str(folder) in errors[0] and problem in errors[0]
    assert captured.out == "" and "Traceback" not in captured.err


def test_folder_that_is_no_corpus_is_not_overwritten(quick: demo.Demo, tmp_path: Path, capfd: Any) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "thesis.txt").write_text("mine")
    assert demo.main([]) == 1
    assert "not made by this synthesis" in capfd.readouterr().err
    assert (tmp_path / "corpus" / "thesis.txt").read_text() == "mine"


@pytest.mark.slow
def test_help_needs_no_repository_as_working_folder(tmp_path: Path) -> None:
    command = [sys.executable, str(REPOSITORY / "recipes" / "demo.py"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "--data_folder" in done.stdout


def test_librispeech_recipe_reads_the_splits_that_its_file_names(tiny_librispeech: Path, tmp_path: Path) -> None:
    def manifests(*options: str) -> dict[str, Path]:
        file = str(REPOSITORY / "hparams" / "LibriSpeech" / "ctc_bl_resnet22.yaml")
        folders = (f"--data_folder={tiny_librispeech}", f"--output_folder={tmp_path / 'out'}")
        return prepare_manifests("librispeech", load_recipe([file, *folders, *options], CTCRecipe)[0])

    paths = manifests()
    assert {name: path.stem for name, path in paths.items()} == {
        "train": "train-clean-100",
        "dev": "dev-clean",
        "test": "test-clean",
    }
    assert all(path.is_file() for path in paths.values())
    with pytest.raises(FileNotFoundError, match="has no split 'dev-other', only dev-clean, test-clean"):
        manifests("--splits={dev: dev-other}")
    with pytest.raises(RecipeError, match="splits: is 'train-clean-100', but must be a mapping or null"):
        manifests("--splits=train-clean-100")
    with pytest.raises(RecipeError, match="splits: is .*, but must be {train: NAME, dev: NAME, test: NAME}"):
        manifests("--splits={more: train-clean-100}")
