"""Model folders of every kind in SpeechBrain's inference interfaces."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from speechbrain.inference import ASR
from speechbrain.utils.dynamic_chunk_training import DynChunkTrainConfig

from biglittle_asr.features import GlobalNormalization
from biglittle_asr.inference import Recognizer, save_model
from biglittle_asr.inference.folder.kinds import KINDS
from support.corpora import SAMPLE_RATE
from support.model_folders import make, speech, transcripts
from support.networks import assert_near

pytestmark = pytest.mark.slow

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


# StreamingASR


@pytest.fixture(scope="module")
def streaming(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recognizer, Any]:
    """A causal recognizer, and its folder in StreamingASR."""
    recognizer = make(normalize=GlobalNormalization(40), time_padding="causal")
    return recognizer, opened(recognizer, tmp_path_factory.mktemp("streaming"), "StreamingASR")


@pytest.mark.parametrize("chunk_size", [1, 3, 16, 100])
@pytest.mark.parametrize("samples", [100, 16000, 33333])
def test_streaming_asr_transcribes_as_the_whole(
    streaming: tuple[Recognizer, Any], tmp_path: Path, chunk_size: int, samples: int
) -> None:
    """StreamingASR appends chunks of silence, which count as audio here too."""
    recognizer, asr = streaming
    config = DynChunkTrainConfig(chunk_size)
    wavs, _ = speech(samples)
    soundfile.write(tmp_path / "a.wav", wavs[0].numpy(), SAMPLE_RATE, subtype="FLOAT")
    chunks = list(asr.transcribe_file_streaming(str(tmp_path / "a.wav"), config, use_torchaudio_streaming=False))
    chunk_samples = asr.get_chunk_size_frames(config)
    silence = (len(chunks) - math.ceil(samples / chunk_samples)) * chunk_samples
    assert 200 <= silence < 200 + chunk_samples
    whole = torch.nn.functional.pad(wavs, (0, silence))
    with torch.inference_mode():
        outputs, _ = recognizer(whole, torch.tensor([whole.shape[1]]))
        complete = recognizer.model.encoder.output_lengths(whole.shape[1] // 160)
        expected = recognizer.tokenizer.decode(recognizer.tokens(outputs[0, :complete]))
    assert "".join(chunks) == expected and (samples < 1000 or len(chunks) - chunks.count("") > 1)


def test_streams_side_by_side_end_where_they_end(streaming: tuple[Recognizer, Any]) -> None:
    recognizer, asr = streaming
    wavs, num_samples = speech(6360, 4770)
    context = asr.make_streaming_context(DynChunkTrainConfig(10))
    found = ["", ""]
    for start in (0, 6360):
        chunk = torch.nn.functional.pad(wavs, (0, 6360))[:, start : start + 6360]
        chunk[1, 4770:] = 9.0 if start == 0 else 0.0  # what lies behind the end is not heard
        words = asr.transcribe_chunk(context, chunk, num_samples / 6360 if start == 0 else None)
        found = [before + more for before, more in zip(found, words, strict=True)]
    silent = torch.nn.functional.pad(wavs, (0, 6360))
    with torch.inference_mode():
        outputs, _ = recognizer(silent, torch.tensor([12720, 12720]))
    complete = recognizer.model.encoder.output_lengths((12720 - 200) // 160 + 1)
    expected = [recognizer.tokenizer.decode(recognizer.tokens(row[:complete])) for row in outputs]
    assert found == expected and found[0] != found[1]


@pytest.mark.parametrize(
    "options, reason",
    [
        ({}, "sees the future"),
        ({"time_padding": "causal"}, "SentenceNormalization needs the whole utterance"),
        ({"time_padding": "causal", "kind": "transducer"}, "known only when"),
        ({"time_padding": "causal", "kind": "attention"}, "known only when"),
        ({"time_padding": "causal", "kind": "hybrid"}, "known only when"),
    ],
)
def test_folders_that_cannot_stream_say_so(tmp_path: Path, options: dict[str, Any], reason: str) -> None:
    asr = opened(make(**options), tmp_path, "StreamingASR")
    with pytest.raises(ValueError, match=f"cannot stream.*{reason}"):
        asr.make_streaming_context(DynChunkTrainConfig(8))
