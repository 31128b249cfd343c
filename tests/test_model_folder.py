"""The model folder: nothing is lost in it, nothing of it is executed, and what is wrong is said in a sentence."""

import contextlib
import io
import json
import os
import pickle
import random
import re
import resource
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import soundfile
import torch
from conftest import SAMPLE_RATE
from helpers import randomize_batchnorm
from test_tasks import load, small, train_an4, write_tones
from torch import Tensor

from biglittle_asr.cli import main
from biglittle_asr.decoding import ctc_greedy
from biglittle_asr.decoding.tokenizer import CharacterTokenizer, SentencePieceTokenizer, Tokenizer
from biglittle_asr.features import NORMALIZATIONS, LogMel, SentenceNormalization
from biglittle_asr.inference import ModelCard, Recognizer, load_model, save_model
from biglittle_asr.inference.config import recognizer_config
from biglittle_asr.inference.folder import (
    CARD,
    CONFIG,
    FILES,
    NEEDED,
    SPEECHBRAIN,
    TOKENIZER,
    WEIGHTS,
    stored_state,
)
from biglittle_asr.inference.packing import best_checkpoint
from biglittle_asr.inference.weights import read_weights
from biglittle_asr.models import CTCModel, create_encoder, list_encoders
from biglittle_asr.profiling import encoder_costs
from biglittle_asr.scoring import score_texts
from biglittle_asr.tasks.model_folder import write_model_folder

CHARACTERS = CharacterTokenizer(" 'ABCDEFGHIÄ")
TEXTS = ["RUBOUT G M E F THREE NINE", "ENTER FIVE O'CLOCK", "YES NO", "HELP STOP ERASE REPEAT"] * 5
CHANNELS = (8, 16, 32, 64)


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make(
    preset: str = "bl_resnet22", tokenizer: Tokenizer = CHARACTERS, normalize: Any = None, **config: Any
) -> Recognizer:
    """A recognizer whose every weight and statistic is random, and whose transcripts have many tokens."""
    generator = torch.manual_seed(0)
    features = LogMel(deltas=config.get("input_channels") == 3, n_mels=40)
    encoder = create_encoder(preset, channels=CHANNELS, input_size=features.output_size, output_size=48, **config)
    model = CTCModel(encoder, tokenizer.size)
    recognizer = Recognizer(features, normalize or SentenceNormalization(), model, tokenizer)
    randomize_batchnorm(recognizer, generator)
    with torch.no_grad():
        encoded, _ = encoder.encode(*_normalized(recognizer, *speech(16000)))
        model.output.weight.normal_(generator=generator)
        model.output.bias.copy_(-model.output.weight @ encoded[0].mean(0))
    return recognizer


def _normalized(recognizer: Recognizer, wavs: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
    features, frames = recognizer.compute_features(wavs, num_samples)
    return recognizer.normalize(features, frames), frames


def speech(*samples: int) -> tuple[Tensor, Tensor]:
    """Noise of some lengths as a batch (B, S) and num_samples (B,)."""
    generator = torch.Generator().manual_seed(1)
    wavs = 0.1 * torch.randn(len(samples), max(samples), generator=generator)
    for wav, length in zip(wavs, samples, strict=True):
        wav[length:] = 0.0
    return wavs, torch.tensor(samples)


@torch.inference_mode()
def transcripts(recognizer: Recognizer, wavs: Tensor, num_samples: Tensor) -> list[str]:
    return [recognizer.tokenizer.decode(ids) for ids in ctc_greedy(*recognizer(wavs, num_samples))]


def described(recognizer: Recognizer) -> str:
    """What a recognizer is built of; lists and tuples are the same."""
    return json.dumps(recognizer_config(recognizer))


@torch.inference_mode()
def assert_same(loaded: Recognizer, saved: Recognizer) -> None:
    """Bit for bit: state, output, and everything that the folder says of it."""
    assert not any(module.training for module in loaded.modules())
    state = saved.state_dict()
    assert loaded.state_dict().keys() == state.keys()
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, state[name]) and tensor.dtype == state[name].dtype, name
    batch = speech(9000, 4321)
    assert torch.equal(loaded(*batch)[0], saved(*batch)[0])
    assert described(loaded) == described(saved)
    assert loaded.tokenizer.state() == saved.tokenizer.state()
    assert (loaded.sample_rate, loaded.frame_seconds) == (saved.sample_rate, saved.frame_seconds)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("good") / "model", make())


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


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_round_trip_of_word_pieces(tmp_path: Path, kind: str) -> None:
    saved = make(tokenizer=SentencePieceTokenizer.train(TEXTS, kind, 30))
    assert_same(load_model(save_model(tmp_path / "model", saved)), saved)


def test_same_model_same_bytes(tmp_path: Path) -> None:
    first, second = (save_model(tmp_path / name, make()) for name in "ab")
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in FILES)


# SpeechBrain


def test_opens_in_encoder_asr_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from speechbrain.inference.ASR import EncoderASR

    def no_network(*_: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    recognizer = make()
    folder = save_model(tmp_path / "model", recognizer)
    asr = EncoderASR.from_hparams(source=str(folder), savedir=str(tmp_path / "fetched"), run_opts={"device": "cpu"})
    # Lengths at which relative lengths times frames round to fewer frames than there are.
    lengths = [16000, 161, 640, 3999, 9600, 15999, 7777]
    wavs, num_samples = speech(*lengths)
    expected = transcripts(recognizer, wavs, num_samples)
    assert all(expected) and len(set(expected)) > 4
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


def test_parts_that_do_not_fit_are_refused() -> None:
    model = CTCModel(create_encoder("resnet22", channels=CHANNELS), 7)
    with pytest.raises(ValueError, match="output layer has 7 tokens and the tokenizer 13"):
        Recognizer(LogMel(), SentenceNormalization(), model, CHARACTERS)


class OwnNormalization(SentenceNormalization):
    """Of a user, who may have changed what the base class does."""


def test_parts_of_others_are_refused_and_a_recipe_goes_on(tmp_path: Path, caplog: Any) -> None:
    recognizer = make(normalize=OwnNormalization())
    message = "a model folder can hold .*SentenceNormalization, but not OwnNormalization"
    with pytest.raises(ValueError, match=message):
        save_model(tmp_path / "model", recognizer)
    parts = recognizer.compute_features, recognizer.normalize, recognizer.model, recognizer.tokenizer
    empty: Any = None
    with caplog.at_level("WARNING"):
        write_model_folder(tmp_path / "model", parts, empty, {}, "an4", "fp32", "epoch 1")
    assert re.search(f"No model folder is written: {message}", caplog.text)
    assert list(tmp_path.iterdir()) == []


# Packing an experiment


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
        assert best_checkpoint(tmp_path)[0].name == f"CKPT+{best}"


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
        "does not hold the weights of this network and",
    ),
    "weights of another network": (
        lambda folder: torch.save({"a": torch.zeros(1)}, folder / "save" / "CKPT+1" / "model.ckpt"),
        "does not hold the weights of this network and",
    ),
}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training leaves that was cut after its first epoch."""
    folder = tmp_path_factory.mktemp("experiment")
    checkpoint = folder / "save" / "CKPT+1"
    checkpoint.mkdir(parents=True)
    (checkpoint / "CKPT.yaml").write_text("unixtime: 1.0\nepoch: 1\nWER: 50.0\n")
    torch.save(make().model.state_dict(), checkpoint / "model.ckpt")
    (folder / "save" / TOKENIZER).write_text(json.dumps({"kind": "character", **CHARACTERS.state()}))
    (folder / SPEECHBRAIN).write_text(
        "compute_features: !new:biglittle_asr.features.LogMel\n    n_mels: 40\n"
        "normalize: !new:biglittle_asr.features.SentenceNormalization\n"
        "encoder: !apply:biglittle_asr.models.create_encoder\n    name: bl_resnet22\n    channels: [8, 16, 32, 64]\n"
        "    input_size: 40\n    output_size: 48\n"
    )
    return folder


def test_pack_builds_from_data_alone(experiment: Path, tmp_path: Path) -> None:
    assert main(["pack", str(experiment), str(tmp_path / "out")]) == 0
    assert_same(load_model(tmp_path / "out"), make())


@pytest.mark.parametrize("case", EXPERIMENTS)
def test_broken_experiments_are_one_sentence(experiment: Path, tmp_path: Path, capsys: Any, case: str) -> None:
    folder = tmp_path / "experiment"
    shutil.copytree(experiment, folder)
    breaks, message = EXPERIMENTS[case]
    breaks(folder)
    assert_refused(["pack", str(folder), str(tmp_path / "out")], message, tmp_path, capsys)
    assert not (folder / "canary").exists()


# Folders that are broken or hostile


class Payload:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return Path.touch, (self.canary,)


def payload(canary: Path) -> bytes:
    """A pickle that touches the canary when it is read, as torch.save writes it."""
    buffer = io.BytesIO()
    torch.save(Payload(canary), buffer)
    return buffer.getvalue()


def edit(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Change a JSON file of the folder."""

    def breaks(folder: Path) -> None:
        data = json.loads((folder / name).read_text())
        change(data)
        (folder / name).write_text(json.dumps(data))

    return breaks


def put(key: str, value: Any) -> Callable[[Path], None]:
    """Set a key, written with dots, in config.json."""

    def change(config: Any) -> None:
        *parents, last = key.split(".")
        for parent in parents:
            config = config[parent]
        config[last] = value

    return edit(CONFIG, change)


def replace(name: str, old: str, new: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_text((folder / name).read_text().replace(old, new, 1))


def write(name: str, content: bytes | str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def header(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Change the header of model.safetensors."""

    def breaks(folder: Path) -> None:
        content = (folder / WEIGHTS).read_bytes()
        size = int.from_bytes(content[:8], "little")
        entries = json.loads(content[8 : 8 + size])
        text = change(entries)
        text = (json.dumps(entries) if text is None else text).encode()
        (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])

    return breaks


def tensors(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Change the tensors of model.safetensors, which stays a good safetensors file."""

    def breaks(folder: Path) -> None:
        state = safetensors.torch.load_file(folder / WEIGHTS)
        change(state)
        safetensors.torch.save_file(state, folder / WEIGHTS)

    return breaks


def cut(where: Callable[[int, int], int]) -> Callable[[Path], None]:
    """Cut model.safetensors at a place that depends on the ends of its header and of its data."""

    def breaks(folder: Path) -> None:
        content = (folder / WEIGHTS).read_bytes()
        header_end = 8 + int.from_bytes(content[:8], "little")
        (folder / WEIGHTS).write_bytes(content[: where(header_end, len(content))])

    return breaks


def claim(size: int) -> Callable[[Path], Any]:
    return lambda folder: (folder / WEIGHTS).write_bytes(
        size.to_bytes(8, "little") + (folder / WEIGHTS).read_bytes()[8:]
    )


def link(name: str, target: str) -> Callable[[Path], None]:
    def breaks(folder: Path) -> None:
        outside = folder.parent / f"outside-{name}"
        (folder / name).rename(outside)
        (folder / name).symlink_to(target.format(outside=outside, name=name))

    return breaks


def folder_instead(name: str) -> Callable[[Path], None]:
    def breaks(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return breaks


def pipe_instead(name: str) -> Callable[[Path], None]:
    def breaks(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return breaks


BIAS, STEM = "model.output.bias", "model.encoder.stem.0.weight"
DEEP = "[" * 100_000

BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (shutil.rmtree, "no such"),
    "empty folder": (lambda folder: [path.unlink() for path in folder.iterdir()], "is no experiment folder"),
    **{f"no {name}": (lambda folder, name=name: (folder / name).unlink(), f"{name}: no such file") for name in NEEDED},
    **{f"empty {name}": (write(name, b""), f"{name}: ") for name in NEEDED},
    **{f"{name} is noise": (write(name, bytes(range(255, 0, -1)) * 9), f"{name}: ") for name in NEEDED},
    **{f"{name} is a folder": (folder_instead(name), f"{name}: is no regular file") for name in NEEDED},
    **{f"{name} is a pipe": (pipe_instead(name), f"{name}: is no regular file") for name in NEEDED},
    **{f"{name} is a link out": (link(name, "{outside}"), "is a link that leads out of the folder") for name in NEEDED},
    **{f"{name} is a link up": (link(name, "../outside-{name}"), "leads out of the folder") for name in NEEDED},
    **{f"{name} is a dead link": (link(name, "nowhere"), "is a link that leads nowhere") for name in NEEDED},
    # config.json
    "config is a list": (write(CONFIG, "[]"), "is not the config of a model folder"),
    "config of another program": (write(CONFIG, '{"model_type": "wav2vec2"}'), "is not the config of a model folder"),
    "config is YAML": (write(CONFIG, "!!python/object/apply:os.system [touch canary]"), "is not valid JSON"),
    "config is nested deeply": (write(CONFIG, DEEP), "nested too deeply"),
    "config is huge": (lambda folder: os.truncate(folder / CONFIG, 1 << 40), "are read"),
    "config has a key twice": (replace(CONFIG, '"version": 1', '"version": 1, "version": 1'), "occurs twice"),
    "config has NaN": (replace(CONFIG, "0.01", "NaN"), "NaN is no JSON number"),
    "config has infinity": (replace(CONFIG, "0.01", "1e999"), "normalization.min_std is inf"),
    "config has a number of many digits": (replace(CONFIG, "0.01", "9" * 5000), "is not valid JSON"),
    "config is no UTF-8": (write(CONFIG, b'{"format": "\xff"}'), "not UTF-8"),
    "config is cut": (lambda folder: os.truncate(folder / CONFIG, 200), "is not valid JSON"),
    "newer version": (put("version", 2), "version is 2, but this program reads version 1"),
    "version is text": (put("version", "1"), "version is '1'"),
    "version is true": (put("version", True), "version is True"),
    "unknown key": (put("weights_file", "../../etc/passwd"), "has the unknown key 'weights_file'"),
    "unknown encoder key": (put("encoder.path", "../x"), "has the unknown key 'encoder.path'"),
    "unknown feature key": (put("features.mel\x1b[2J", 1), r"has the unknown key 'features.mel\x1b[2J'"),
    "missing key": (edit(CONFIG, lambda config: config.pop("features")), "lacks the key features"),
    "encoder is text": (put("encoder", "bl_resnet22"), "encoder is 'bl_resnet22', but must be an object"),
    "channels are text": (put("encoder.channels", "8, 16"), "encoder.channels is '8, 16', but must be a list of 4"),
    "three stages": (put("encoder.channels", [8, 16, 32]), "must be a list of 4 whole numbers"),
    "channels are fractions": (put("encoder.channels", [8.5, 16, 32, 64]), "is 8.5, but must be a whole number"),
    "huge channels": (put("encoder.channels", [10**12] * 4), "must be a whole number from 0 to 16384"),
    "large channels": (put("encoder.channels", [2048, 4096, 8192, 16384]), "but the network of config.json has"),
    "no channels": (put("encoder.channels", [0] * 4), "encoder cannot be built (channels is (0, 0, 0, 0)"),
    "a billion blocks": (put("encoder.blocks", [10**9] * 4), "must be a whole number from 0 to 128"),
    "many branches": (put("encoder.branches", 40), "encoder.branches is 40, but must be a whole number from 0 to 4"),
    "flag is a number": (put("encoder.pyramid", 1), "encoder.pyramid is 1, but must be true or false"),
    "number is a flag": (put("encoder.alpha", True), "encoder.alpha is True, but must be a whole number"),
    "alpha that does not divide": (put("encoder.alpha", 3), "encoder cannot be built (alpha 3"),
    "no such padding": (put("encoder.time_padding", "future"), "encoder cannot be built"),
    "block that is code": (put("encoder.block", {"layers": "os.system"}), "must be an object with shortcut"),
    "causal in name only": (put("encoder.block", {"squeeze_excite": "no"}), "must be true or false"),
    "normalization by path": (put("normalization.kind", "os.system"), "normalization.kind is 'os.system', but must be"),
    "normalization is null": (put("normalization", None), "normalization.kind is None"),
    "fewer mel bins": (put("features.n_mels", 20), "encoder.input_size is 40, but there are 20 features"),
    "hop of nothing": (put("features.hop_length", 0), "cannot run"),
    "hop of a month": (put("features.hop_length", 2.6e9), "features.hop_length is 2600000000.0, but must be a number"),
    "window of nothing": (put("features.win_length", 0), "cannot "),
    "negative window": (put("features.win_length", -25.0), "features.win_length is -25.0, but must be a number from 0"),
    "no sample rate": (put("features.sample_rate", 0), "features cannot be built"),
    "transform of nothing": (put("features.n_fft", 0), "features cannot be built"),
    "lowest filter above the highest": (put("features.f_min", 9000.0), "features cannot be built"),
    "facts that are code": (put("training", {"command": ["rm"]}), "must be a number or text"),
    # tokenizer.json
    "fewer symbols": (edit(TOKENIZER, lambda state: state["symbols"].pop()), "they are not of the same model"),
    "symbols of two characters": (edit(TOKENIZER, lambda state: state["symbols"].append("AB")), "single characters"),
    "symbols are numbers": (edit(TOKENIZER, lambda state: state.update(symbols=[1] * 12)), "single characters"),
    "symbol twice": (edit(TOKENIZER, lambda state: state["symbols"].append("A")), "a symbol occurs twice"),
    "symbol that clears the screen": (replace(TOKENIZER, '"A"', r'"\u001b"'), "control characters"),
    "half a character": (replace(TOKENIZER, '"A"', r'"\ud800"'), "control characters"),
    "no such tokenizer": (edit(TOKENIZER, lambda state: state.update(kind="os.system")), "kind must be one of"),
    "tokenizer is a list": (write(TOKENIZER, "[]"), "holds no tokenizer"),
    "tokenizer is nested deeply": (write(TOKENIZER, DEEP), "nested too deeply"),
    "word pieces of nothing": (write(TOKENIZER, '{"kind": "bpe", "model": "AAAA"}'), "is no SentencePiece model"),
    # model.safetensors
    "weights are a pickle": (lambda folder: (folder / WEIGHTS).write_bytes(payload(folder / "canary")), "is a pickle"),
    "weights are an old pickle": (
        lambda folder: (folder / WEIGHTS).write_bytes(pickle.dumps(Payload(folder / "canary"))),
        "is a pickle",
    ),
    **{f"weights cut to {size} bytes": (cut(lambda *_, size=size: size), "claims") for size in (1, 7, 8, 9)},
    "weights cut in the header": (cut(lambda header_end, end: header_end // 2), "for its header"),
    "weights cut before the header's end": (cut(lambda header_end, end: header_end - 1), "for its header"),
    "weights without data": (cut(lambda header_end, end: header_end), "it has 0 bytes of data"),
    "weights cut in the data": (cut(lambda header_end, end: (header_end + end) // 2), "bytes of data, and should have"),
    "weights without the last byte": (cut(lambda header_end, end: end - 1), "bytes of data, and should have"),
    "weights with one byte more": (
        lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes() + b"!"),
        "bytes of data, and should have",
    ),
    "header of 2 GB": (claim(2 << 30), "claims 2147483648 for its header"),
    "header of 9 EB": (claim((1 << 63) - 1), "claims 9223372036854775807 for its header"),
    "header of minus 1": (claim((1 << 64) - 1), "claims 18446744073709551615 for its header"),
    "header of nothing": (claim(0), "its header is not valid JSON"),
    "2 GB header in a file of 4 GB": (
        lambda folder: (claim(2 << 30)(folder), os.truncate(folder / WEIGHTS, 4 << 30)),
        "has a header of 2147483648 bytes",
    ),
    "header is a list": (header(lambda entries: "[]"), "its header is no JSON object"),
    "header is nested deeply": (header(lambda entries: DEEP), "nested too deeply"),
    "header with a tensor twice": (
        header(lambda entries: json.dumps(entries)[:-1] + f', "{BIAS}": {{}}}}'),
        "occurs twice",
    ),
    "tensor is a number": (header(lambda entries: entries.update({BIAS: 1})), "the header has 1 for dtype"),
    "tensor without shape": (header(lambda entries: entries[BIAS].pop("shape") and None), "for dtype, shape"),
    "offsets are text": (header(lambda entries: entries[BIAS].update(data_offsets="0")), "must be two whole numbers"),
    "offsets are fractions": (
        header(lambda entries: entries[BIAS].update(data_offsets=[0.0, 52.0])),
        "must be two whole numbers",
    ),
    "offsets below 0": (header(lambda entries: entries[BIAS].update(data_offsets=[-52, 0])), "its data begin at -52"),
    "offsets backwards": (header(lambda entries: entries[BIAS]["data_offsets"].reverse()), "do not fit its shape"),
    "offsets behind the end": (
        header(lambda entries: entries[BIAS].update(data_offsets=[1 << 40, (1 << 40) + 52])),
        "its data begin at",
    ),
    "offsets that overlap": (
        header(lambda entries: entries[BIAS].update(data_offsets=[4, 56])),
        "its data begin at",
    ),
    "tensor missing": (tensors(lambda state: state.pop(BIAS)), f"lacks the tensor {BIAS} (1 of"),
    "tensor too many": (tensors(lambda state: state.update({"../x": torch.zeros(1)})), "has the tensor '../x'"),
    "tensors of another network": (tensors(lambda state: (state.clear(), state.update(a=torch.zeros(1)))), "lacks the"),
    "half precision": (tensors(lambda state: state.update({BIAS: state[BIAS].half()})), f"tensor {BIAS} is 'F16' of"),
    "integers": (tensors(lambda state: state.update({BIAS: state[BIAS].int()})), f"tensor {BIAS} is 'I32' of shape"),
    "turned tensor": (
        tensors(lambda state: state.update({STEM: state[STEM].transpose(0, 2).contiguous()})),
        f"tensor {STEM} is 'F32' of shape [5, 1, 8, 5], but",
    ),
    "not a number": (tensors(lambda state: state[STEM].view(-1)[7:8].fill_(torch.nan)), f"tensor {STEM} has values"),
    "infinite": (tensors(lambda state: state[BIAS][1:2].fill_(-torch.inf)), "infinite or not a number"),
    "negative variance": (
        tensors(lambda state: state["model.encoder.stem.1.running_var"].neg_()),
        "values below 0, which no variance has",
    ),
    "weights that overflow": (tensors(lambda state: state["model.output.weight"].fill_(3e38)), "output is not finite"),
}


def assert_refused(arguments: list[str], message: str, folder: Path, capsys: Any) -> None:
    """One sentence on standard error, status 1, and nothing new in the folder."""
    before = sorted(path.name for path in folder.iterdir())
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    (sentence,) = err.splitlines()
    assert sentence.startswith("biglittle: ") and sentence.endswith(".") and message in sentence, sentence
    assert sentence.isprintable() and "Traceback" not in sentence
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize("case", BROKEN)
def test_broken_folders_are_one_sentence(good: Path, tmp_path: Path, capsys: Any, case: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(good, folder)
    breaks, message = BROKEN[case]
    breaks(folder)
    soundfile.write(tmp_path / "a.wav", [0.1] * 8000, SAMPLE_RATE)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert_refused(["pack", str(folder), str(tmp_path / "out")], message, tmp_path, capsys)
    message = message if folder.is_dir() and any(folder.iterdir()) else "no such"
    arguments = ["transcribe", str(folder), str(tmp_path / "a.wav"), "--output", str(tmp_path / "out")]
    assert_refused(arguments, message, tmp_path, capsys)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 200_000  # kB
    assert not (folder / "canary").exists() and not Path("canary").exists()


def test_file_in_place_of_the_folder(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "model").write_text("")
    assert_refused(["pack", str(tmp_path / "model"), str(tmp_path / "out")], "model: ", tmp_path, capsys)
    with pytest.raises(NotADirectoryError, match="is a file, but must be a model folder"):
        load_model(tmp_path / "model")


def test_what_else_lies_in_a_folder_is_never_read(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(good, folder)
    canary = tmp_path / "canary"
    (folder / SPEECHBRAIN).write_text(f"a: !!python/object/apply:os.system ['touch {canary}']\nb: !apply:os.abort []")
    for name in ("model.ckpt", "pytorch_model.bin", "custom.py", "__init__.py"):
        (folder / name).write_bytes(payload(canary))
    os.mkfifo(folder / "pipe")
    # A link is no harm while it stays inside.
    (folder / WEIGHTS).rename(folder / "v2.safetensors")
    (folder / WEIGHTS).symlink_to("v2.safetensors")
    assert_same(load_model(folder), load_model(good))
    assert not canary.exists()


def test_argument_that_an_older_program_did_not_know_has_its_default(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(good, folder)
    edit(CONFIG, lambda config: [config["encoder"].pop("time_padding"), config["features"].pop("floor")])(folder)
    assert_same(load_model(folder), load_model(good))


def test_device_that_is_not_there_is_refused(good: Path) -> None:
    with pytest.raises(ValueError, match="device 'abacus'"):
        load_model(good, "abacus")


def test_every_truncation_of_the_header_is_refused(good: Path, tmp_path: Path) -> None:
    content = (good / WEIGHTS).read_bytes()
    expected = stored_state(load_model(good))
    header_end = 8 + int.from_bytes(content[:8], "little")
    for size in [*range(64), *range(64, header_end, 997), header_end - 1]:
        (tmp_path / WEIGHTS).write_bytes(content[:size])
        with pytest.raises(ValueError, match="is not a whole safetensors file"):
            read_weights(tmp_path / WEIGHTS, expected)


@pytest.mark.parametrize("name", NEEDED)
def test_damaged_bytes_load_or_are_refused(good: Path, tmp_path: Path, name: str) -> None:
    folder, draw = tmp_path / "model", random.Random(0)
    shutil.copytree(good, folder)
    content = (good / name).read_bytes()
    for _ in range(30):
        damaged = bytearray(content)
        for _ in range(draw.randint(1, 3)):
            place = draw.randrange(min(len(content), 2000))
            damaged[place : place + draw.randint(0, 2)] = bytes(draw.choices(range(256), k=draw.randint(0, 2)))
        (folder / name).write_bytes(damaged)
        with contextlib.suppress(ValueError):
            load_model(folder)
