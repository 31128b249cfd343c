"""From an experiment folder to a model folder: whole, of the best weights, and nothing of it is executed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from biglittle_asr.cli import main
from biglittle_asr.inference import Recognizer, load_model
from biglittle_asr.inference.folder import packing
from biglittle_asr.inference.folder.kinds import KINDS
from biglittle_asr.inference.folder.packing import rank_checkpoints
from biglittle_asr.inference.folder.store import CARD, NEEDED, SPEECHBRAIN, TOKENIZER
from biglittle_asr.models.checkpoints import META, checksum
from support.ctc_recipe import load, small, train_an4, write_tones
from support.golden import IMAGES, MODELS
from support.model_folders import CHARACTERS, assert_refused, assert_same, described, make, payload


@pytest.mark.slow
def test_pack_copies_the_model_of_a_finished_training(tmp_path: Path, tiny_an4: Path, capsys: Any) -> None:
    experiment, out = tmp_path / "experiment", tmp_path / "packed"
    train_an4()(small(experiment, data_folder=tiny_an4, number_of_epochs=1, average_checkpoints="[1]"))
    (experiment / "model" / SPEECHBRAIN).write_text("!!python/object/apply:os.system [false]")
    capsys.readouterr()
    assert main(["pack", str(experiment), str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    for name in (*NEEDED, CARD):
        assert (out / name).read_bytes() == (experiment / "model" / name).read_bytes()
    assert "RecognizerEncoder" in (out / SPEECHBRAIN).read_text()
    card = (out / CARD).read_text()
    dev, test = ((experiment / f"wer_{name}.txt").read_text().split()[2] for name in ("dev", "test"))
    assert f"| dev | {dev} |" in card and f"| test | {test} |" in card and "`an4`" in card and "| train | 30 |" in card


def test_pack_copies_an_image_classifier(tmp_path: Path, capsys: Any) -> None:
    images = MODELS / IMAGES
    assert main(["pack", str(images), str(tmp_path / "packed")]) == 0
    assert {path.name for path in (tmp_path / "packed").iterdir()} == {path.name for path in images.iterdir()}
    assert all((tmp_path / "packed" / path.name).read_bytes() == path.read_bytes() for path in images.iterdir())


@pytest.mark.slow
def test_pack_of_a_cut_training_takes_its_best_checkpoint(tmp_path: Path, capsys: Any) -> None:
    write_tones(tmp_path)
    brain, datasets, hparams = load(small(tmp_path, skip_prep=True, number_of_epochs=2))
    brain.fit_datasets(datasets, hparams)
    best = brain.checkpointer.find_checkpoint(min_key="WER")
    expected = torch.load(best.paramfiles["model"])
    out = tmp_path / "packed"
    assert main(["pack", str(tmp_path), str(out)]) == 0
    loaded = load_model(out)
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(tensor, expected[name])
    parts = brain.modules.compute_features, brain.modules.normalize, brain.model, brain.tokenizer
    assert described(loaded) == described(Recognizer(*parts))
    assert f"epoch {best.meta['epoch']}, {best.meta['WER']:.2f} % WER on dev" in (out / CARD).read_text()


def test_pack_takes_the_lowest_wer_and_else_the_latest_checkpoint(tmp_path: Path) -> None:
    metas = {
        "a": "epoch: 2\nend-of-epoch: true",
        "b": "epoch: 3\nstep: 9\nend-of-epoch: false",
        "c": "epoch: 3\nstep: 10\nend-of-epoch: false",
        "d": "epoch: 3\nend-of-epoch: true",
        "e": "epoch: 1\nWER: 30.5",
        "f": "epoch: 2\nWER: 30.5",
        "g": "epoch: 9\nWER: 31",
        "h": "epoch: 4\nWER: 20",
    }
    for name, best in (("a", "a"), ("b", "b"), ("c", "c"), ("d", "d"), ("e", "e"), ("f", "f"), ("g", "f"), ("h", "h")):
        (tmp_path / f"CKPT+{name}").mkdir()
        (tmp_path / f"CKPT+{name}" / "CKPT.yaml").write_text(metas[name])
        assert rank_checkpoints(tmp_path.glob("CKPT+*"))[0][0].name == f"CKPT+{best}"


EXPERIMENTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no checkpoint": (lambda folder: shutil.rmtree(folder / "save" / "CKPT+1"), "has no checkpoint"),
    "no tokenizer": (lambda folder: (folder / "save" / TOKENIZER).unlink(), "no such tokenizer"),
    "no hyperparams.yaml": (lambda folder: (folder / SPEECHBRAIN).unlink(), "is no experiment folder"),
    "code for an encoder": (
        lambda folder: (folder / SPEECHBRAIN).write_text(f"encoder: !apply:os.system [touch {folder / 'canary'}]"),
        "which pack does not run",
    ),
    "Python object": (
        lambda folder: (folder / SPEECHBRAIN).write_text(f"a: !!python/object/apply:os.system [touch {folder}/canary]"),
        "which pack does not run",
    ),
    "hyperparams.yaml is text": (lambda folder: (folder / SPEECHBRAIN).write_text("[text"), "is not a YAML file"),
    "pickle with code": (
        lambda folder: (folder / "save" / "CKPT+1" / "model.ckpt").write_bytes(payload(folder / "canary")),
        "does not hold the weights of this network and",
    ),
    "empty checkpoint": (
        lambda folder: (folder / "save" / "CKPT+1" / "model.ckpt").write_bytes(b""),
        "CKPT+1: is damaged (model.ckpt is cut off), and there is no other checkpoint",
    ),
    "weights of another network": (
        lambda folder: torch.save({"a": torch.zeros(1)}, folder / "save" / "CKPT+1" / "model.ckpt"),
        "does not hold the weights of this network and",
    ),
}


RECIPES = {
    "ctc": "model: !name:biglittle_asr.models.CTCModel\n    encoder: !ref <encoder>\n    dropout: 0.1\n",
    "attention": "test_beam_size: 3\nctc_decoding_weight: 0.2\n"
    "search_options: {max_decode_ratio: 0.5, eos_threshold: 1.4}\n"
    "decoder: !new:speechbrain.nnet.RNN.AttentionalRNNDecoder\n    rnn_type: gru\n    attn_type: location\n"
    "    hidden_size: 24\n    attn_dim: 16\n    num_layers: 1\n    channels: 2\n    kernel_size: 4\n    re_init: True\n"
    "    enc_dim: !ref <encoder.output_size>\n    input_size: 8\n    dropout: 0.1\n"
    "model: !name:biglittle_asr.models.AttentionModel\n    encoder: !ref <encoder>\n    decoder: !ref <decoder>\n"
    "    embedding_size: 8\n",
    "transducer": "test_beam_size: 3\nmodel: !name:biglittle_asr.models.TransducerModel\n    encoder: !ref <encoder>\n"
    "    prediction_size: 32\n    joint_size: 32\n",
}
"""What recipes write of the models that `make` makes."""


def write_experiment(folder: Path, kind: str) -> Path:
    """What a training leaves that was cut after its first epoch."""
    checkpoint = folder / "save" / "CKPT+1"
    checkpoint.mkdir(parents=True)
    (checkpoint / "CKPT.yaml").write_text("end-of-epoch: true\nunixtime: 1.0\nepoch: 1\nWER: 50.0\n")
    torch.save(make(kind=kind).model.state_dict(), checkpoint / "model.ckpt")
    (folder / "save" / TOKENIZER).write_text(json.dumps({"kind": "character", **CHARACTERS.state()}))
    (folder / SPEECHBRAIN).write_text(
        "compute_features: !new:biglittle_asr.features.LogMel\n    n_mels: 40\n"
        "normalize: !new:biglittle_asr.features.SentenceNormalization\n"
        "encoder: !apply:biglittle_asr.models.create_encoder\n    name: bl_resnet22\n    channels: [8, 16, 32, 64]\n"
        "    input_size: 40\n    output_size: 48\n" + RECIPES[kind]
    )
    return folder


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_experiment(tmp_path_factory.mktemp("experiment"), "ctc")


@pytest.mark.slow
@pytest.mark.parametrize("kind", RECIPES)
def test_pack_builds_from_data_alone(kind: str, tmp_path: Path) -> None:
    folder = write_experiment(tmp_path / "experiment", kind)
    assert main(["pack", str(folder), str(tmp_path / "out")]) == 0
    assert_same(load_model(tmp_path / "out"), make(kind=kind))


def test_checkpoints_of_every_kind_are_packed_or_refused(tmp_path: Path, capsys: Any) -> None:
    """Those of hybrid systems lack the graph."""
    assert set(KINDS) - {"hybrid"} == set(packing.RECIPES) == set(RECIPES)
    folder = write_experiment(tmp_path / "experiment", "ctc")
    yaml = (folder / SPEECHBRAIN).read_text()
    (folder / SPEECHBRAIN).write_text(yaml.replace("CTCModel", "HybridModel"))
    message = "and a training that comes to its end writes its model folder itself"
    assert_refused(["pack", str(folder), str(tmp_path / "out")], message, tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("kind", RECIPES)
def test_pack_builds_no_model_that_it_does_not_know(kind: str, tmp_path: Path, capsys: Any) -> None:
    for key, tag in packing.RECIPES[kind].items():
        folder = write_experiment(tmp_path / key, kind)
        yaml = (folder / SPEECHBRAIN).read_text()
        (folder / SPEECHBRAIN).write_text(yaml.replace(tag, "!apply:os.system"))
        message = f"{key} is '!apply:os.system', which pack does not run"
        assert_refused(["pack", str(folder), str(tmp_path / "out")], message, tmp_path, capsys)


@pytest.mark.parametrize("case", EXPERIMENTS)
def test_broken_experiments_are_one_sentence(experiment: Path, tmp_path: Path, capsys: Any, case: str) -> None:
    folder = tmp_path / "experiment"
    shutil.copytree(experiment, folder)
    breaks, message = EXPERIMENTS[case]
    breaks(folder)
    assert_refused(["pack", str(folder), str(tmp_path / "out")], message, tmp_path, capsys)
    assert not (folder / "canary").exists()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def turn_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "a file is cut": lambda folder: cut(folder / "model.ckpt"),
    "a bit of a file is turned": lambda folder: turn_a_bit(folder / "model.ckpt"),
    "a file is missing": lambda folder: (folder / "model.ckpt").unlink(),
    "a file holds other weights": lambda folder: torch.save({"a": torch.zeros(1)}, folder / "model.ckpt"),
    "the facts are empty": lambda folder: (folder / META).write_text(""),
    "the facts are missing": lambda folder: (folder / META).unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_next_best_is_packed(
    experiment: Path, tmp_path: Path, capsys: Any, damage: str
) -> None:
    folder, out = tmp_path / "experiment", tmp_path / "out"
    shutil.copytree(experiment, folder)
    for number, wer in ((2, 40.0), (3, 60.0)):
        checkpoint = folder / "save" / f"CKPT+{number}"
        shutil.copytree(folder / "save" / "CKPT+1", checkpoint)
        sums = f"checksums:\n  model.ckpt: {checksum(checkpoint / 'model.ckpt')}\n"
        (checkpoint / META).write_text(f"end-of-epoch: true\nepoch: {number}\nWER: {wer}\n{sums}")
    DAMAGES[damage](folder / "save" / "CKPT+2")
    assert main(["pack", str(folder), str(out)]) == 0
    (warning,) = capsys.readouterr().err.splitlines()
    assert f"{folder / 'save' / 'CKPT+2'}" in warning and warning.endswith("; the next best checkpoint is used.")
    assert "epoch 1, 50.00 % WER on dev" in (out / CARD).read_text()
    load_model(out)
