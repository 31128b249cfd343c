"""What holds for every speech recognition task, with every encoder, and for every recipe file."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from biglittle_asr.audio.files import read_audio
from biglittle_asr.inference import Transcript, evaluate, load_model, pack
from biglittle_asr.inference.evaluation import transcribe_rows
from biglittle_asr.inference.folder.config import recognizer_config
from biglittle_asr.recipe.run import load_recipe
from biglittle_asr.recipe.yaml import RecipeError
from biglittle_asr.tasks.speech.data import Datasets
from biglittle_asr.tasks.speech.settings import CTCRecipe
from support.ctc_recipe import write_manifests, write_tones
from support.networks import randomize_batchnorm
from support.repository import AN4, REPOSITORY
from support.speech_recipes import ENCODERS, RECIPES, TASKS, command, load, placeholders, rows_of_test, train

pytestmark = pytest.mark.slow

every_task = pytest.mark.parametrize("task", TASKS)


def write_few_utterances(folder: Path) -> None:
    """Manifests of three short utterances of AN4, or of tones where the real corpus is not at hand."""
    if not (AN4 / "etc").is_dir():
        write_tones(folder, ["ONE", "BAD", "GO"])
        return
    rows = []
    for name, words in (("an130-mcen-b", "HELP"), ("an353-msjr-b", "NO"), ("cen3-fjdn-b", "THIRTY THREE")):
        file = next(AN4.rglob(f"{name}.sph"))
        samples, rate = read_audio(file)
        rows.append([name, len(samples) / rate, file, "speaker", words])
    write_manifests(folder / "save" / "manifests", rows)


@every_task
@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_task_overfits_with_every_encoder(task: str, encoder: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    write_few_utterances(tmp_path)
    brain, datasets, hparams = load(task, tmp_path, encoder, batch_size=3, sorting="ascending", lr=0.01)
    repeated = Datasets(datasets.train.overfit_test(3, 3 * 160), datasets.dev, datasets.test)
    brain.fit_datasets(repeated, hparams)
    assert brain.history.rows[-1]["dev_loss"] < 0.1
    # A transducer may be sure of a token and of no frame for it: a beam search sums over frames, a greedy one does not.
    assert evaluate(brain.recognizer(), rows_of_test(tmp_path)).all.errors == 0


@every_task
@pytest.mark.parametrize("final", [False, True])
def test_transcripts_do_not_depend_on_the_batch_size(task: str, final: bool, tmp_path: Path) -> None:
    write_tones(tmp_path, ["ONE", "TWO NINE", "A B", "HELLO", "Q", "SUPERCALIFRAGILISTIC"])
    brain, datasets, _ = load(task, tmp_path)
    torch.manual_seed(0)
    randomize_batchnorm(brain.model, torch.Generator().manual_seed(1))
    results = []
    for size in (1, 4, 16):
        if final:
            found = transcribe_rows(brain.recognizer(), rows_of_test(tmp_path), batch_seconds=size)
            results.append({each.recording.name: each.text for each in found if isinstance(each, Transcript)})
        else:
            brain.score_dataset(datasets.test, {"batch_size": size}, bootstrap=0)
            results.append(dict(brain.hypotheses))
    assert results[0] == results[1] == results[2] and len(results[0]) == 6
    assert len(set(results[0].values())) > 1


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_every_recipe_file_trains_and_evaluates(file: Path, tmp_path: Path, capsys: Any) -> None:
    task = file.name.split("_")[0]
    _, keys = TASKS[task]
    # Its networks can be built as they are; it is smaller ones that are trained.
    hparams, _ = load_recipe([str(file), f"--output_folder={tmp_path}", *placeholders(file)], keys)
    assert hparams["encoder"].output_size == hparams["model"](output_neurons=5).encoder.output_size
    write_tones(tmp_path, ["ONE", "BAD"], hparams["sample_rate"])
    train(file.parent.name, task)(command(file, tmp_path, encoder="{channels: [4, 8, 8, 16], output_size: 32}"))
    # What was loaded is in the output folder, complete.
    assert "create_encoder" in (tmp_path / "hyperparams.yaml").read_text()
    assert (tmp_path / "wer_test.txt").stat().st_size > 0
    assert "epoch 1: " in (tmp_path / "log.txt").read_text()
    assert "% of the training time was spent waiting for data" in (tmp_path / "log.txt").read_text()
    # The folder scores as the recipe did, and could have been made of the only checkpoint.
    folder = load_model(tmp_path / "model")
    score = evaluate(folder, rows_of_test(tmp_path))
    assert score.summary() in (tmp_path / "wer_test.txt").read_text()
    assert score.to_dict() == json.loads((tmp_path / "scores.json").read_text())["test"]
    shutil.rmtree(tmp_path / "model")
    packed = load_model(pack(tmp_path, tmp_path / "packed"))
    described, expected = ({**recognizer_config(each), "training": {}} for each in (packed, folder))
    assert described == expected
    assert all(torch.equal(tensor, packed.state_dict()[name]) for name, tensor in folder.state_dict().items())


def test_no_recipe_file_is_missed() -> None:
    elsewhere = {"encoders", "ImageNet"}, ("hybrid_",)
    for file in set(REPOSITORY.glob("hparams/*/*.yaml")) - set(RECIPES):
        assert file.parent.name in elsewhere[0] or file.name.startswith(elsewhere[1]), f"no test runs {file}"


def test_a_key_of_another_task_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    base = REPOSITORY / "hparams" / "LibriSpeech" / "ctc_bl_resnet22.yaml"
    for key, message in (("ctc_weight", "named ctc_weight; "), ("consistency_wait", "line 2: .* mean 'consist")):
        file.write_text(f"!include:{base}\n{key}: 0.5\n")
        with pytest.raises(RecipeError, match=message):
            load_recipe([str(file), "--data_folder=none", f"--output_folder={tmp_path}"], CTCRecipe)


@pytest.mark.parametrize(
    "task, wrong, message",
    [
        ("attention", {"search_options": "{beam: 3}"}, "search_options: .*beam"),
        ("attention", {"ctc_weight": 2}, "ctc_weight: is 2, but must lie between 0 and 1"),
        ("attention", {"test_beam_size": 0}, "a beam of at least 1"),
        ("attention", {"search_options": "{temperature: 0}"}, "a temperature above 0"),
        ("transducer", {"test_beam_size": 0}, "a beam of at least 1"),
    ],
)
def test_searches_that_cannot_be_are_refused(task: str, wrong: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_tones(tmp_path, ["ONE", "BAD"])
    with pytest.raises(ValueError, match=message):
        load(task, tmp_path, **wrong)
