"""The encoder in other people's pipelines: the adapters of docs/swapping.md, SpeechBrain's streaming, torch.export."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from speechbrain.lobes.features import Fbank
from speechbrain.utils.dynamic_chunk_training import DynChunkTrainConfig
from speechbrain.utils.filter_analysis import stack_filter_properties
from torch import nn
from torch.export import Dim
from torchaudio.models import RNNT, RNNTBeamSearch
from torchaudio.models.rnnt import _Joiner, _Predictor

from biglittle_asr.models import BigLittleEncoder, create_encoder, list_encoders
from support.networks import assert_near, randomize_batchnorm
from support.repository import REPOSITORY

pytestmark = pytest.mark.slow

SMALL: dict[str, Any] = {"channels": (8, 16, 32, 64), "blocks": (2, 2, 2, 2), "input_size": 20, "output_size": 24}
LENGTHS = torch.tensor([61, 40, 1], dtype=torch.int32)

every_preset = pytest.mark.parametrize("name", list_encoders())


def build(name: str, **overrides: Any) -> BigLittleEncoder:
    """A small encoder with random BatchNorm, in evaluation mode."""
    torch.manual_seed(0)
    encoder = create_encoder(name, **{**SMALL, **overrides})
    randomize_batchnorm(encoder, torch.Generator().manual_seed(1))
    return encoder.eval()


def documented(start: str) -> str:
    """A block of the page's code, from its first line on."""
    page = (REPOSITORY / "docs" / "swapping.md").read_text()
    (block,) = (each for each in re.findall(r"(?:^    .*\n|\n(?=    ))+", page, re.MULTILINE) if start in each)
    return re.sub("^    ", "", block, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def adapters() -> dict[str, Any]:
    """The page's classes. ESPnet's AbsEncoder is a Module with abstract methods."""
    names = {"torch": torch, "nn": nn, "AbsEncoder": nn.Module, "create_encoder": create_encoder}
    exec(documented("class TorchaudioTranscriber"), names)
    return names


# torchaudio


def rnnt(transcriber: nn.Module) -> RNNT:
    """A small transducer of torchaudio's."""
    predictor = _Predictor(num_symbols=7, output_dim=24, symbol_embedding_dim=8, num_lstm_layers=1, lstm_hidden_dim=8)
    return RNNT(transcriber, predictor, _Joiner(24, 7)).eval()


@every_preset
def test_torchaudio_trains_and_searches(name: str, adapters: dict[str, Any]) -> None:
    encoder = build(name)
    model, x = rnnt(adapters["TorchaudioTranscriber"](encoder)), torch.randn(3, 61, 20)
    logits, frames, *_ = model(x, LENGTHS, torch.ones(3, 4, dtype=torch.int32), torch.full((3,), 4, dtype=torch.int32))
    assert logits.shape == (3, 16, 4, 7) and frames.tolist() == [16, 10, 1]
    logits.sum().backward()
    assert all(each.grad is not None for each in encoder.parameters())
    search = RNNTBeamSearch(model, blank=6)
    assert search(x[1:2, :40], LENGTHS[1:2], 3)


@every_preset
def test_torchaudio_streams(name: str, adapters: dict[str, Any]) -> None:
    model = rnnt(adapters["TorchaudioTranscriber"](build(name, time_padding="causal")))
    x, state, found = torch.randn(2, 61, 20), None, []
    for chunk in x.split(7, dim=1):
        y, frames, state = model.transcribe_streaming(chunk, torch.full((2,), chunk.shape[1]), state)
        assert frames.tolist() == [y.shape[1]] * 2
        found.append(y)
    assert_near(torch.cat(found, 1), model.transcribe(x, torch.tensor([61, 61]))[0])
    search = RNNTBeamSearch(model, blank=6)
    assert search.infer(x[:1, :8], torch.tensor([8]), 3)[0]


# The others, by shape


@every_preset
def test_adapters_by_shape(name: str, adapters: dict[str, Any]) -> None:
    encoder, x = build(name), torch.randn(3, 61, 20)
    expected, frames = encoder.encode(x, LENGTHS)
    icefall, icefall_frames = adapters["IcefallEncoder"](encoder)(x.transpose(0, 1), LENGTHS)
    nemo, nemo_frames = adapters["NeMoEncoder"](encoder)(audio_signal=x.transpose(1, 2), length=LENGTHS)
    espnet = adapters["ESPnetEncoder"](name=name, **SMALL)
    espnet.encoder = encoder
    y, espnet_frames, nothing = espnet(x, LENGTHS)
    assert espnet.output_size() == 24 and nothing is None
    for found in (icefall.transpose(0, 1), nemo.transpose(1, 2), y):
        assert torch.equal(found, expected)
    for each in (icefall_frames, nemo_frames, espnet_frames):
        assert torch.equal(each, frames)


# SpeechBrain's streaming interface


@every_preset
@pytest.mark.parametrize("chunk", [1, 7, 16, 100])
def test_forward_streaming_gives_the_frames_of_the_whole(name: str, chunk: int) -> None:
    encoder, x = build(name, time_padding="causal"), torch.randn(2, 61, 20)
    context = encoder.make_streaming_context(DynChunkTrainConfig(chunk))
    found = torch.cat([encoder.forward_streaming(part, context) for part in x.split(chunk, dim=1)], dim=1)
    with torch.no_grad():
        assert_near(found, encoder(x))


@every_preset
def test_streaming_contexts_are_refused_where_nothing_streams(name: str) -> None:
    with pytest.raises(ValueError, match="sees the future"):
        build(name).make_streaming_context(DynChunkTrainConfig(8))
    with pytest.raises(ValueError, match="training mode"):
        build(name, time_padding="causal").train().make_streaming_context()


@every_preset
@pytest.mark.parametrize("time_padding", ["same", "causal"])
def test_filter_properties_cover_the_context(name: str, time_padding: str) -> None:
    encoder = build(name, time_padding=time_padding)
    properties, (left, right) = encoder.get_filter_properties(), encoder.context
    assert (properties.stride, properties.causal) == (encoder.time_stride, time_padding == "causal")
    assert properties.get_convolution_padding() == (left if properties.causal else max(left, right))
    stacked = stack_filter_properties([Fbank(n_mels=20), encoder])
    assert stacked.stride == 160 * encoder.time_stride and stacked.window_size >= 160 * (left + right)


# torch.export


DIFFERENT = {repr(create_encoder(name, **SMALL).config): name for name in list_encoders()}
"""Presets that are not the same once they are small: an export takes long."""


@pytest.mark.parametrize("name", DIFFERENT.values())
@pytest.mark.parametrize("time_padding", ["same", "causal"])
def test_exported_with_lengths_for_any_batch_and_time(name: str, time_padding: str) -> None:
    encoder = build(name, time_padding=time_padding)
    features, lengths = torch.randn(2, 40, 20), torch.tensor([1.0, 0.5])
    names: dict[str, Any] = {"torch": torch, "Dim": Dim, "encoder": encoder, "features": features, "lengths": lengths}
    exec(documented("torch.export.export("), names)
    exported = names["program"].module()
    for batch, time in ((1, encoder.alignment + 1), (3, 77), (2, 2000)):
        x, lengths = torch.randn(batch, time, 20), torch.tensor([1.0, 0.3, 0.61])[:batch]
        assert_near(exported(x, lengths), encoder(x, lengths))
