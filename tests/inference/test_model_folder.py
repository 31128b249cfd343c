"""The model folder: nothing is lost in it, and it is written whole or not at all."""

import contextlib
import json
import os
import re
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from speechbrain.nnet.RNN import AttentionalRNNDecoder

from biglittle_asr.features import FORMS, NORMALIZATIONS, LogMel, SentenceNormalization
from biglittle_asr.inference import ModelCard, Recognizer, load_classifier, load_model, save_model
from biglittle_asr.inference.classification import ImageScore
from biglittle_asr.inference.folder.kinds import KINDS
from biglittle_asr.inference.folder.store import CARD, CONFIG, FILES, NEEDED, SPEECHBRAIN
from biglittle_asr.models import CTCModel, TransducerModel, create_encoder, list_encoders
from biglittle_asr.profiling import count_costs, encoder_costs
from biglittle_asr.scoring import score_texts
from biglittle_asr.tasks.speech.model_folder import write_model_folder
from biglittle_asr.tokens.tokenizer import SentencePieceTokenizer
from support.corpora import SAMPLE_RATE
from support.golden import IMAGES, MODELS
from support.model_folders import CHANNELS, CHARACTERS, assert_refused, assert_same, good, make, speech, transcripts

pytestmark = pytest.mark.slow

__all__ = ["good"]

TEXTS = ["RUBOUT G M E F THREE NINE", "ENTER FIVE O'CLOCK", "YES NO", "HELP STOP ERASE REPEAT"] * 5


ARGUMENTS: list[tuple[str, dict[str, Any]]] = [
    *((kind, {}) for kind in KINDS),
    ("attention", {"rnn_type": "lstm", "attn_type": "content", "num_layers": 2, "bias": False}),
    ("attention", {"rnn_type": "rnn", "nonlinearity": "tanh", "scaling": 2.0}),
]

# Nothing is lost


@pytest.mark.parametrize("preset", list_encoders())
def test_round_trip_of_every_preset(tmp_path: Path, preset: str) -> None:
    saved = make(preset)
    assert_same(load_model(save_model(tmp_path / "model", saved)), saved)
    assert {path.name for path in (tmp_path / "model").iterdir()} == set(FILES)


@pytest.mark.parametrize(
    "config",
    [
        {"time_padding": "causal"},
        {"time_stride": 1, "input_channels": 3},
        {"branches": 3, "alpha": 2, "big_stride": (1, 2), "upsampling": "bilinear", "merge": "concat"},
        {"pool_frequency": False},
        {"block": {"squeeze_excite": True, "shortcut": "conv"}, "blocks": (2, 3, 1, 2), "big_little_stages": 2},
    ],
)
def test_round_trip_of_every_option(tmp_path: Path, config: dict[str, Any]) -> None:
    saved = make(**config)
    assert_same(load_model(save_model(tmp_path / "model", saved)), saved)


@pytest.mark.parametrize("kind", NORMALIZATIONS)
def test_round_trip_of_every_normalization(tmp_path: Path, kind: str) -> None:
    sizes = {"num_features": 40} if kind == "GlobalNormalization" else {}
    normalize = NORMALIZATIONS[kind](**sizes, min_std=0.02)
    normalize.train()(torch.randn(2, 30, 40) * 3 + 1, torch.tensor([30, 20]))
    saved = make(normalize=normalize)
    assert_same(load_model(save_model(tmp_path / "model", saved)), saved)


@pytest.mark.parametrize("form", FORMS)
def test_round_trip_of_every_form_of_features(tmp_path: Path, form: str) -> None:
    saved = make(form=form)
    assert_same(load_model(save_model(tmp_path / "model", saved)), saved)


def test_folders_from_before_there_were_forms_keep_their_features(tmp_path: Path) -> None:
    saved = make()
    folder = save_model(tmp_path / "model", saved)
    config = json.loads((folder / CONFIG).read_text())
    del config["features"]["form"]
    (folder / CONFIG).write_text(json.dumps(config))
    assert_same(load_model(folder), saved)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_round_trip_of_word_pieces(tmp_path: Path, kind: str) -> None:
    saved = make(tokenizer=SentencePieceTokenizer.train(TEXTS, kind, 30))
    assert_same(load_model(save_model(tmp_path / "model", saved)), saved)


@pytest.mark.parametrize("kind, arguments", ARGUMENTS)
def test_round_trip_of_every_kind(tmp_path: Path, kind: str, arguments: dict[str, Any]) -> None:
    saved = make(kind=kind, arguments=arguments)
    loaded = load_model(save_model(tmp_path / "model", saved))
    assert_same(loaded, saved)
    assert transcripts(loaded, *speech(8000)) == transcripts(saved, *speech(8000)) != [""]
    with pytest.raises(ValueError, match="device 'abacus'"):
        load_model(tmp_path / "model", "abacus")


@pytest.mark.parametrize("kind", KINDS)
def test_same_model_same_bytes(tmp_path: Path, kind: str) -> None:
    first, second = (save_model(tmp_path / name, make(kind=kind)) for name in "ab")
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in FILES)


# SpeechBrain


@pytest.mark.parametrize("kind", KINDS)
def test_opens_in_speechbrain_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    from speechbrain.inference import ASR

    def no_network(*_: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    recognizer = make(kind=kind)
    folder = save_model(tmp_path / "model", recognizer)
    interface = getattr(ASR, KINDS[kind].interface)
    asr = interface.from_hparams(source=str(folder), savedir=str(tmp_path / "fetched"), run_opts={"device": "cpu"})
    # Lengths at which relative lengths times frames round to fewer frames than there are.
    lengths = [16000, 161, 640, 3999, 9600, 15999, 7777]
    wavs, num_samples = speech(*lengths)
    expected = transcripts(recognizer, wavs, num_samples)
    assert len(set(expected)) > 4
    found, _ = asr.transcribe_batch(wavs, num_samples / wavs.shape[1])
    assert found == expected
    for wav, length, text in zip(wavs, lengths, expected, strict=True):
        soundfile.write(tmp_path / "a.wav", wav[:length].numpy(), SAMPLE_RATE, subtype="FLOAT")
        assert asr.transcribe_file(str(tmp_path / "a.wav")) == text
        (tmp_path / "a.wav").unlink()
    # It links its files into savedir, and leaves the folder alone.
    assert all((tmp_path / "fetched" / name).is_symlink() for name in (*NEEDED, SPEECHBRAIN))
    assert {path.name for path in folder.iterdir()} == set(FILES)


# The card


def test_card_has_the_numbers(tmp_path: Path) -> None:
    recognizer = make()
    score = score_texts({"a": "one two three", "b": "four"}, {"a": "one to", "b": "four five"}, {"a": "x", "b": "y"})
    card = ModelCard("Corpus folder: `an4`.", "python train.py 'a b.yaml'", "bf16", "epoch 7", {"dev": score.all})
    text = (save_model(tmp_path / "model", recognizer, card) / CARD).read_text()
    costs = encoder_costs(recognizer.model.encoder)
    head = 48 * CHARACTERS.size + CHARACTERS.size
    for number in (costs.parameters, costs.parameters + head, costs.macs, costs.macs + 48 * CHARACTERS.size * 25):
        assert f"{number:,}" in text
    assert "| dev | 75.00 | 66.67 to 100.00 | 1 / 1 / 1 | 4 | 2 |" in text
    for part in (
        "Big-Little ResNet-22 (alpha 4, beta 2)",
        "`an4`",
        "    python train.py 'a b.yaml'",
        "bf16",
        "epoch 7",
    ):
        assert part in text
    assert "whole utterance" in text
    assert json.loads((tmp_path / "model" / CONFIG).read_text())["training"] == {
        "precision": "bf16",
        "weights": "epoch 7",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_card_of_every_kind_says_what_it_is(tmp_path: Path, kind: str) -> None:
    recognizer = make(kind=kind)
    score = score_texts({"a": "one two three"}, {"a": "one to"}, {"a": "x"}, bootstrap=0)
    text = (save_model(tmp_path / "model", recognizer, ModelCard(scores={"dev": score.all})) / CARD).read_text()
    parameters = sum(parameter.numel() for parameter in recognizer.model.parameters())
    for part in (KINDS[kind].title, KINDS[kind].interface, f"{parameters:,}", KINDS[kind].head):
        assert part in text
    assert KINDS[kind].searching.describe(recognizer.search_settings) in text


# Writing


def test_writing_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, first = tmp_path / "out" / "model", make()
    written = []

    def full_disk(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) == 2:
            raise OSError(28, "No space left on device")

    # What a process that was killed would leave.
    for name in (".model.partial", ".model.old"):
        (folder.parent / name / "x").mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space left"):
            save_model(folder, first)
    assert [path.name for path in folder.parent.iterdir()] == [".model.old"]
    save_model(folder, first)
    assert list(folder.parent.iterdir()) == [folder]
    poisoned = make("resnet22")
    torch.nn.init.constant_(poisoned.model.output.bias, torch.nan)
    with pytest.raises(ValueError, match=r"out/model/model.safetensors: tensor model.output.bias has values that are"):
        save_model(folder, poisoned)
    assert_same(load_model(folder), first)
    save_model(folder, make("resnet22"))
    assert load_model(folder).model.encoder.config.big_little_stages == 0
    assert list(folder.parent.iterdir()) == [folder]


def test_what_is_no_model_folder_is_not_replaced(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good, tmp_path / "mine")
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / CONFIG).write_text('{"architectures": []}')
    (tmp_path / "file").write_text("mine")
    recognizer = load_model(good)
    for name in ("mine", "other", "file"):
        with pytest.raises(FileExistsError, match="choose another name"):
            save_model(tmp_path / name, recognizer)
    assert (tmp_path / "mine" / "notes.txt").exists() and (tmp_path / "other" / CONFIG).stat().st_size == 21
    (tmp_path / "empty").mkdir()
    load_model(save_model(tmp_path / "empty", recognizer))


def test_folders_of_speech_and_of_images_replace_one_another_and_nothing_else(good: Path, tmp_path: Path) -> None:
    recognizer, classifier = load_model(good), load_classifier(MODELS / IMAGES)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("mine")
    for name, model in (("model", recognizer), ("model", classifier), ("model", recognizer), ("mine", classifier)):
        with pytest.raises(FileExistsError, match="is no model folder") if name == "mine" else contextlib.nullcontext():
            save_model(tmp_path / name, model)
    assert_same(load_model(tmp_path / "model"), recognizer)
    assert (tmp_path / "mine" / "README.md").read_text() == "mine"


def test_what_loads_the_other_kind_of_folder_is_named(good: Path, tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(ValueError, match="images: classifies images; load it with load_classifier"):
        load_model(MODELS / IMAGES)
    with pytest.raises(ValueError, match="model: recognizes speech; load it with load_model"):
        load_classifier(good)
    arguments = ["transcribe", str(MODELS / IMAGES), "a.wav"]
    assert_refused(arguments, "or use `biglittle evaluate`", tmp_path, capsys)


def test_card_of_a_classifier_has_the_numbers(tmp_path: Path) -> None:
    classifier = load_classifier(MODELS / IMAGES)
    card = ModelCard("700 images.", "python train.py", "bf16", "epoch 7", {"val": ImageScore(50, 61.5, 90.25, 1.5, 2)})
    text = (save_model(tmp_path / "model", classifier, card) / CARD).read_text()
    costs = count_costs(classifier.model, torch.empty(1, 3, classifier.crop, classifier.crop, device="meta"))
    for part in (
        "bl_resnet50, 7 classes",
        "700 images.",
        "bf16",
        "epoch 7",
        f"{costs.parameters:,}",
        f"{costs.macs:,}",
    ):
        assert part in text
    assert "| val | 61.50 | 90.25 | 1.5000 | 50 | 2 |" in text


def test_parts_that_do_not_fit_are_refused() -> None:
    model = CTCModel(create_encoder("resnet22", channels=CHANNELS), 7)
    with pytest.raises(ValueError, match="the model has 7 tokens and the character tokenizer 13"):
        Recognizer(LogMel(), SentenceNormalization(), model, CHARACTERS)


class OwnNormalization(SentenceNormalization):
    """A user's normalization, which may differ from its base class."""


class OwnDecoder(AttentionalRNNDecoder):
    """A user's decoder."""


class OwnModel(TransducerModel):
    """Another."""


def _with_own_decoder() -> Recognizer:
    recognizer = make(kind="attention")
    recognizer.model.decoder.__class__ = OwnDecoder
    return recognizer


def _with_other_attention() -> Recognizer:
    recognizer = make(kind="attention")
    recognizer.model.decoder.attn_type = "keyvalue"
    return recognizer


def _with_own_model() -> Recognizer:
    recognizer = make(kind="transducer")
    recognizer.model.__class__ = OwnModel
    return recognizer


@pytest.mark.parametrize(
    "foreign, message",
    [
        (lambda: make(normalize=OwnNormalization()), ".*SentenceNormalization, but not OwnNormalization"),
        (_with_other_attention, "attention of the types content and location, but not keyvalue"),
        (_with_own_decoder, "SpeechBrain's AttentionalRNNDecoder, but not OwnDecoder"),
        (_with_own_model, ".*TransducerModel, but not OwnModel"),
    ],
)
def test_parts_of_others_are_refused_and_a_recipe_goes_on(
    tmp_path: Path, caplog: Any, foreign: Any, message: str
) -> None:
    recognizer = foreign()
    message = f"a model folder can hold {message}"
    with pytest.raises(ValueError, match=message):
        save_model(tmp_path / "model", recognizer)
    with caplog.at_level("WARNING"):
        assert not write_model_folder(tmp_path / "model", recognizer, ModelCard())
    assert re.search(f"No model folder is written: {message}", caplog.text)
    assert list(tmp_path.iterdir()) == []
