"""Model folders of every kind in SpeechBrain's inference interfaces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from conftest import SAMPLE_RATE
from helpers import assert_near
from model_folders import make, speech, transcripts
from speechbrain.inference import ASR
from torch import Tensor

from biglittle_asr.inference import Recognizer, save_model
from biglittle_asr.inference.folder.kinds import KINDS

every_kind = pytest.mark.parametrize("kind", KINDS)


def opened(recognizer: Recognizer, folder: Path, interface: str = "", **options: Any) -> Any:
    """A recognizer's model folder, in the interface of its kind or another one."""
    save_model(folder / "model", recognizer)
    made = getattr(ASR, interface or recognizer.kind.interface)
    return made.from_hparams(source=str(folder / "model"), savedir=str(folder / "fetched"), **options)


@every_kind
def test_encode_batch_gives_the_encoders_frames(kind: str, tmp_path: Path) -> None:
    recognizer = make(kind=kind)
    wavs, num_samples = speech(16000, 161, 8000)
    encoded = opened(recognizer, tmp_path).encode_batch(wavs, num_samples / 16000)
    assert torch.isfinite(encoded).all() and encoded.shape[2] == recognizer.model.encoder.output_size
    for row, wav, length in zip(encoded, wavs, num_samples.tolist(), strict=True):
        with torch.no_grad():
            features, frames = recognizer.features(wav[None, :length], torch.tensor([length]))
            alone, _ = recognizer.model.encoder.encode(features, frames)
        assert_near(row[None, : alone.shape[1]], alone)
        assert not row[alone.shape[1] :].any()


@every_kind
def test_encoded_batches_decode_wherever_they_have_been(kind: str, tmp_path: Path) -> None:
    recognizer = make(kind=kind)
    wavs, num_samples = speech(16000, 161, 8000)
    asr = opened(recognizer, tmp_path)
    encoded = asr.encode_batch(wavs, num_samples / 16000).detach().clone()
    tokens, *_ = asr.mods.decoder(encoded)
    assert [recognizer.tokenizer.decode(each) for each in tokens] == transcripts(recognizer, wavs, num_samples)


@every_kind
def test_fine_tuning_on_encode_batch_has_finite_gradients(kind: str, tmp_path: Path) -> None:
    asr = opened(make(kind=kind), tmp_path, freeze_params=False)
    wavs, num_samples = speech(8000, 161)
    output = torch.nn.Linear(48, 5)
    output(asr.encode_batch(wavs, num_samples / 8000)).log_softmax(-1).square().mean().backward()
    parameters = list(asr.mods.encoder.recognizer.model.encoder.parameters())
    assert parameters and all(each.grad is not None and each.grad.isfinite().all() for each in parameters)


@every_kind
def test_no_samples_are_refused(kind: str, tmp_path: Path) -> None:
    recognizer = make(kind=kind)
    asr = opened(recognizer, tmp_path)
    soundfile.write(tmp_path / "empty.wav", torch.zeros(0).numpy(), SAMPLE_RATE)
    calls: list[Any] = [
        lambda: asr.transcribe_file(str(tmp_path / "empty.wav")),
        lambda: asr.encode_batch(torch.zeros(2, 0), torch.ones(2)),
        lambda: asr.transcribe_batch(torch.zeros(1, 0), torch.ones(1)),
        lambda: recognizer(torch.zeros(1, 0), torch.tensor([0])),
        lambda: recognizer.everything(torch.zeros(1, 0), torch.tensor([0])),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="no samples"):
            call()
