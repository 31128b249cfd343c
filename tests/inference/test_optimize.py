"""Optimized networks: every one computes what the original does, which stays as it was."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from biglittle_asr.inference import Classifier, Recognizer, optimize, save_model
from biglittle_asr.inference.folder.kinds import KINDS
from biglittle_asr.models import CTCModel, ImageClassifier, create_encoder, create_model, list_models
from biglittle_asr.models.foreign import ForeignEncoder
from biglittle_asr.nnet import MaskedBatchNorm2d
from biglittle_asr.nnet.sparse import sparsify, sparsity_of
from support.encoder_cases import OPTION_CASES, PRESET_CASES, Case, build, every
from support.model_folders import make, speech, transcripts
from support.networks import assert_near, keep_gates_alive, narrow, randomize_batchnorm

SIZES = (1, 41)
"""Numbers of frames of a batch."""
BFLOAT16 = 0.03
CAUSAL_CASES = [case for case in PRESET_CASES + OPTION_CASES if case[1]["time_padding"] == "causal"]


def unchanged(module: nn.Module, before: dict[str, Tensor]) -> bool:
    state = module.state_dict()
    return state.keys() == before.keys() and all(torch.equal(state[name], tensor) for name, tensor in before.items())


def random_classifier(name: str, **options: Any) -> ImageClassifier:
    torch.manual_seed(0)
    network = narrow(name, **options)
    randomize_batchnorm(network, torch.Generator().manual_seed(1))
    keep_gates_alive(network)
    return network.eval()


@every(PRESET_CASES)
def test_every_encoder_keeps_its_outputs(case: Case) -> None:
    check_outputs(case)


@pytest.mark.slow
@every(OPTION_CASES)
def test_every_option_keeps_the_outputs(case: Case) -> None:
    check_outputs(case)


@torch.inference_mode()
def check_outputs(case: Case) -> None:
    encoder = build(case)
    before = copy.deepcopy(encoder.state_dict())
    optimized = optimize(encoder)
    assert not any(isinstance(each, nn.BatchNorm2d) for each in optimized.modules())
    assert not any(parameter.requires_grad for parameter in optimized.parameters())
    for size in SIZES:
        x = torch.randn(3, size, encoder.config.input_size)
        assert_near(optimized(x), encoder(x))
        frames = torch.tensor([size, max(1, size // 3), max(1, size - 1)])
        for actual, expected in zip(optimized.encode(x, frames), encoder.encode(x, frames), strict=True):
            assert_near(actual.float(), expected.float())
    assert unchanged(encoder, before)


@pytest.mark.slow
@every(CAUSAL_CASES)
def test_every_causal_encoder_keeps_its_streams(case: Case) -> None:
    encoder = build(case)
    optimized = optimize(encoder)
    states = [encoder.initial_state(2), optimized.initial_state(2)]
    for size in (7, 0, 16, 1, 9):
        x = torch.randn(2, size, encoder.config.input_size)
        steps = [network.step(x, state) for network, state in zip((encoder, optimized), states, strict=True)]
        (expected, _), (actual, _) = steps
        assert actual.shape == expected.shape
        if expected.numel():
            assert_near(actual, expected)
        states = [state for _, state in steps]
    for actual, expected in zip(states[1], states[0], strict=True):
        assert actual.shape == expected.shape


@pytest.mark.slow
@torch.inference_mode()
@pytest.mark.parametrize("name", list_models())
def test_every_image_model_keeps_its_logits(name: str) -> None:
    for options, size in (({}, 64), ({"stem": "small", "input_channels": 1}, 16)):
        network = random_classifier(name, **options)
        before = copy.deepcopy(network.state_dict())
        optimized = optimize(network)
        images = torch.randn(2, network.config.input_channels, size, size + 3)
        assert_near(optimized(images), network(images))
        assert unchanged(network, before)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_recognizer_keeps_its_words(kind: str) -> None:
    recognizer = make(kind=kind)
    before = copy.deepcopy(recognizer.state_dict())
    optimized = optimize(recognizer)
    assert type(optimized) is Recognizer and optimized.model.encoder is not recognizer.model.encoder
    batch = speech(9000, 4321, 16000)
    with torch.inference_mode():
        for actual, expected in zip(optimized.everything(*batch), recognizer.everything(*batch), strict=True):
            assert_near(actual.float(), expected.float(), 1e-4)
    said = transcripts(recognizer, *batch)
    assert transcripts(optimized, *batch) == said and any(said)
    assert unchanged(recognizer, before)


def test_speech_models_and_classifiers_are_taken_too() -> None:
    model = make().model
    optimized = optimize(model)
    assert type(optimized) is CTCModel and optimized.output is model.output
    network = random_classifier("bl_resnet50")
    classifier = Classifier("small", network, None)
    assert_near(optimize(classifier).model(torch.zeros(1, 3, 32, 32)), network(torch.zeros(1, 3, 32, 32)))


@pytest.mark.parametrize("padding", ["same", "causal"])
def test_bfloat16_is_near(padding: str) -> None:
    encoder = build(("bl_resnet22_context", {"time_padding": padding}))
    optimized = optimize(encoder, dtype=torch.bfloat16)
    x, lengths = torch.randn(2, 50, 20), torch.tensor([1.0, 0.4])
    y = optimized(x, lengths)
    assert y.dtype == torch.bfloat16
    assert_near(y.float(), encoder(x, lengths), BFLOAT16)
    if padding == "causal":
        streamed, _ = optimized.step(x, optimized.initial_state(2))
        assert_near(streamed.float(), encoder(x), BFLOAT16)


def test_other_parts_of_a_recognizer_stay_in_float32() -> None:
    recognizer = make()
    log_probs, _ = optimize(recognizer, dtype=torch.bfloat16)(*speech(9000))
    assert log_probs.dtype == torch.float32
    assert_near(log_probs, recognizer(*speech(9000))[0], BFLOAT16)
    network = random_classifier("resnet18")
    images = torch.randn(2, 3, 32, 32)
    assert_near(optimize(network, dtype=torch.bfloat16)(images).float(), network(images), BFLOAT16)


def test_sparse_layers_stay_sparse_in_the_original_only() -> None:
    encoder = sparsify(build(("bl_resnet22_half", {})), rate=0.8)
    optimized = optimize(encoder)
    x = torch.randn(1, 20, 20)
    assert_near(optimized(x), encoder(x))
    sparse = [[sparsity_of(each) for each in network.modules()] for network in (encoder, optimized)]
    assert any(sparse[0]) and not any(sparse[1])


def test_optimizing_again_changes_nothing() -> None:
    once = optimize(build(("bl_resnet22_half", {})))
    twice = optimize(once)
    assert unchanged(twice, once.state_dict())


def test_foreign_encoders_stay_as_they_are() -> None:
    model = CTCModel(ForeignEncoder([nn.Linear(20, 8)], output_size=8, time_stride=1), 5).eval()
    assert optimize(model) is model
    with pytest.raises(TypeError, match="precision of ForeignEncoder, which is not of this package"):
        optimize(model, dtype=torch.bfloat16)


def test_what_cannot_be_optimized_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"BigLittleEncoder is in training mode: call its eval\(\) first"):
        optimize(create_encoder("bl_resnet22_half"))
    recognizer = make()
    next(each for each in recognizer.modules() if isinstance(each, MaskedBatchNorm2d)).train()
    with pytest.raises(ValueError, match="is in training mode"):
        optimize(recognizer)
    with pytest.raises(ValueError, match=r"dtype is torch\.int8: take torch\.float32 or torch\.bfloat16"):
        optimize(create_model("resnet18").eval(), dtype=torch.int8)
    with pytest.raises(TypeError, match="Linear has no encoder to optimize"):
        optimize(nn.Linear(1, 1).eval())
    with pytest.raises(TypeError, match="str cannot be optimized"):
        optimize("bl_resnet22")  # type: ignore[type-var]
    with pytest.raises(ValueError, match="an optimized model cannot be saved"):
        save_model(tmp_path / "model", optimize(make()))
