"""What tests of model folders share: recognizers with random weights, and how they are compared."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import randomize_batchnorm
from torch import Tensor

from biglittle_asr.cli import main
from biglittle_asr.decoding import ctc_greedy
from biglittle_asr.decoding.tokenizer import CharacterTokenizer, Tokenizer
from biglittle_asr.features import LogMel, SentenceNormalization
from biglittle_asr.inference import Recognizer, save_model
from biglittle_asr.inference.config import recognizer_config
from biglittle_asr.models import CTCModel, create_encoder

CHARACTERS = CharacterTokenizer(" 'ABCDEFGHIÄ")
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
