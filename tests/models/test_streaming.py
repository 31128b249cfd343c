"""How far frames see, and streaming: any chunks give what the whole utterance gives."""

from __future__ import annotations

import doctest
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from biglittle_asr.features import FORMS, GlobalNormalization, LogMel, SentenceNormalization
from biglittle_asr.models import BigLittleEncoder, CTCModel, create_encoder
from biglittle_asr.nnet import (
    BigLittleConfig,
    BigLittleStage,
    BigLittleStem,
    Bottleneck,
    Layers,
    Stream,
    StreamState,
)
from support.encoder_cases import OPTION_CASES, PRESET_CASES, Case, build, every
from support.networks import assert_near, randomize_batchnorm
from support.repository import REPOSITORY

# Receptive field

SEES_ALL_TIME = [case for case in OPTION_CASES if "squeeze_excite" in case[1].get("block", {})]
FIELD_CASES: list[Case] = [
    *((name, {**options, "time_stride": stride}) for name, options in PRESET_CASES for stride in (1, 2, 4, 8)),
    *(case for case in OPTION_CASES if case not in SEES_ALL_TIME),
]


def make_positive(encoder: BigLittleEncoder) -> BigLittleEncoder:
    """Weights above zero and no norms: a gradient is above zero wherever a frame depends on another."""
    for module in encoder.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    return encoder.double()


@pytest.mark.slow
@every(FIELD_CASES)
def test_context_is_what_frames_see(case: Case) -> None:
    encoder = make_positive(build(case, input_size=3, channels=(4, 4, 4, 4)))
    (left, right), stride, period = encoder.context, encoder.time_stride, encoder.alignment
    middle = -(-left // period) * period
    x = torch.ones(1, middle + period + right, 3, dtype=torch.float64, requires_grad=True)
    y = encoder(x)[0]
    reached = []
    for t in range(middle // stride, (middle + period) // stride):
        (gradient,) = torch.autograd.grad(y[t].sum(), x, retain_graph=True)
        seen = gradient[0].sum(1).nonzero()
        reached.append((t * stride - int(seen.min()), int(seen.max()) - t * stride))
    assert tuple(max(sides) for sides in zip(*reached, strict=True)) == (left, right)
    assert case[1]["time_padding"] == "same" or right == 0


@pytest.mark.slow
@every(FIELD_CASES[:: len(FIELD_CASES) // 12])
def test_aligned_shift_of_the_input_shifts_the_output(case: Case) -> None:
    encoder = build(case, input_size=3).double()
    (left, right), stride, period = encoder.context, encoder.time_stride, encoder.alignment
    x = torch.randn(1, 3 * period + left + right, 3, dtype=torch.float64)
    skipped = -(-left // stride) + period // stride
    with torch.no_grad():
        whole, window = encoder(x)[0], encoder(x[:, period:])[0]
    torch.testing.assert_close(window[skipped - period // stride :], whole[skipped:])
    assert period % stride == 0


@every(SEES_ALL_TIME)
def test_context_of_all_time_is_refused(case: Case) -> None:
    encoder = build(case)
    for name in ("context", "alignment"):
        with pytest.raises(ValueError, match="squeeze_excite averages over all time"):
            getattr(encoder, name)


# The encoder

CAUSAL_PRESETS = [case for case in PRESET_CASES if case[1]["time_padding"] == "causal"]
CAUSAL_OPTIONS = [case for case in OPTION_CASES if case[1]["time_padding"] == "causal"]
RAGGED = [1, 2, 0, 7, 1, 16, 3, 1, 1, 33, 5]
"""Chunks that begin and end on every phase of every stride."""


def stream(model: Any, x: Tensor, sizes: Iterable[int]) -> tuple[list[Tensor], list[StreamState]]:
    """What comes out of each chunk of `x` (B, T, ...), and the state behind it; the last chunk is the rest."""
    sizes = [*sizes, x.shape[1]]
    state = model.initial_state(len(x))
    outputs, states, begin = [], [], 0
    for size in sizes:
        if begin < x.shape[1]:
            y, state = model.step(x[:, begin : begin + size], state)
            outputs.append(y)
            states.append(state)
            begin += size
    return outputs, states


def nbytes(state: StreamState) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in state)


@pytest.mark.slow
@every(CAUSAL_PRESETS)
@pytest.mark.parametrize("size", [1, 7, 16, 33])
def test_chunks_are_the_whole(case: Case, size: int) -> None:
    encoder = build(case)
    x = torch.randn(2, 30 if size == 1 else 4 * size + 5, 20)
    with torch.no_grad():
        whole = encoder(x)
    outputs, _ = stream(encoder, x, [size] * (x.shape[1] // size))
    assert_near(torch.cat(outputs, 1), whole)
    frames = torch.tensor([y.shape[1] for y in outputs]).cumsum(0)
    assert frames.tolist() == [encoder.output_lengths(min((i + 1) * size, x.shape[1])) for i in range(len(outputs))]


STRIDES = [(name, {**options, "time_stride": s}) for name, options in CAUSAL_PRESETS[:2] for s in (1, 2, 8)]


@pytest.mark.slow
@every(CAUSAL_PRESETS + CAUSAL_OPTIONS + STRIDES)
def test_ragged_chunks_are_the_whole(case: Case) -> None:
    encoder = build(case)
    x = torch.randn(1, sum(RAGGED) + 2, encoder.config.input_size)
    with torch.no_grad():
        whole = encoder(x)
    outputs, _ = stream(encoder, x, RAGGED)
    assert_near(torch.cat(outputs, 1), whole)


def test_full_size_preset_streams() -> None:
    encoder = create_encoder("bl_resnet22", time_padding="causal").eval()
    randomize_batchnorm(encoder, torch.Generator().manual_seed(1))
    x = torch.randn(1, 50, 80)
    with torch.no_grad():
        assert_near(torch.cat(stream(encoder, x, [7] * 7)[0], 1), encoder(x))


@pytest.mark.slow
@every(CAUSAL_PRESETS)
def test_steps_compute_nothing_twice_and_keep_no_more_with_time(case: Case) -> None:
    encoder = build(case)
    x = torch.randn(1, 80, 20)
    with torch.no_grad(), FlopCounterMode(display=False) as whole:
        encoder(x)
    macs, kept = [], []
    state = encoder.initial_state()
    for chunk in x.split(16, 1):
        with FlopCounterMode(display=False) as counter:
            _, state = encoder.step(chunk, state)
        macs.append(counter.get_total_flops())
        kept.append(nbytes(state))
    # 16 frames are the alignment: the phase of every stride is back where it was.
    assert macs == [whole.get_total_flops() // 5] * 5 and len(set(kept)) == 1
    with FlopCounterMode(display=False) as counter:
        _, states = stream(encoder, x, [7] * 11)
    assert counter.get_total_flops() == whole.get_total_flops()
    kept = [nbytes(state) for state in states[:11]]
    assert kept[encoder.alignment :] == kept[: len(kept) - encoder.alignment]


def test_state_holds_its_frames_only() -> None:
    encoder = build(("bl_resnet22", {"time_padding": "causal"}))
    one, many = (
        stream(encoder, torch.randn(1, 64, 20), [64])[1][-1],
        stream(encoder, torch.randn(1, 64, 20), [8] * 8)[1][-1],
    )
    assert nbytes(one) == nbytes(many) == sum(tensor.numel() * tensor.element_size() for tensor in one)


@every(CAUSAL_PRESETS[::3])
def test_state_is_a_value(case: Case) -> None:
    encoder = build(case)
    x = torch.randn(1, 23, 20)
    outputs, states = stream(encoder, x, [6, 5])
    before = [tensor.clone() for tensor in states[0]]
    again, then = encoder.step(x[:, 6:11], states[0])
    assert torch.equal(again, outputs[1])
    assert all(map(torch.equal, states[0], before))
    assert torch.equal(encoder.step(x[:, 11:], then)[0], outputs[2])
    assert not any(tensor.requires_grad for tensor in then)


def test_streams_run_side_by_side_and_part() -> None:
    encoder = build(("bl_resnet22", {"time_padding": "causal"}))
    x = torch.randn(3, 40, 20)
    together, states = stream(encoder, x, [9, 9])
    for row in range(3):
        assert_near(together[1][row], stream(encoder, x[row : row + 1], [9, 9])[0][1][0])
    rest, _ = encoder.step(x[1:2, 18:], tuple(tensor[1:2] for tensor in states[1]))
    assert_near(rest[0], together[2][1])


@pytest.mark.slow
@every(CAUSAL_PRESETS[::3])
def test_streams_under_autocast(case: Case) -> None:
    encoder = build(case)
    x = torch.randn(1, 45, 20)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        whole = encoder(x)
        outputs, _ = stream(encoder, x, [8, 1, 7])
    assert outputs[0].dtype == whole.dtype
    assert_near(torch.cat(outputs, 1).float(), whole.float(), 0.03)


@pytest.mark.parametrize("method", ["initial_state", "step"])
def test_what_cannot_stream_is_refused(method: str) -> None:
    causal = build(("bl_resnet22", {"time_padding": "causal"}))
    state = causal.initial_state()
    arguments = () if method == "initial_state" else (torch.zeros(1, 4, 20), state)
    with pytest.raises(ValueError, match='cannot stream: build it with time_padding "causal"'):
        getattr(build(("bl_resnet22", {})), method)(*arguments)
    with pytest.raises(ValueError, match=r"training mode cannot stream: call its eval\(\) first"):
        getattr(causal.train(), method)(*arguments)


def test_chunk_must_fit_the_state() -> None:
    encoder = build(("bl_resnet22", {"time_padding": "causal"}))
    with pytest.raises(ValueError, match="the state is that of 2 streams, but the chunk has 3"):
        encoder.step(torch.zeros(3, 4, 20), encoder.initial_state(2))
    with pytest.raises(ValueError, match="do not fit an encoder of input_size 20"):
        encoder.step(torch.zeros(2, 4, 21), encoder.initial_state(2))


CAUSAL = Layers(time_padding="causal")
MODULES = {
    "stem": BigLittleStem(3, 8, 2, CAUSAL),
    "bottlenecks": BigLittleStage(3, 16, 3, BigLittleConfig(2, 4), (2, 2), Bottleneck, CAUSAL, groups=2),
}


@pytest.mark.parametrize("name", MODULES)
def test_causal_blocks_of_the_library_stream(name: str) -> None:
    module = MODULES[name].eval()
    randomize_batchnorm(module, torch.Generator().manual_seed(1))
    x = torch.randn(2, 3, sum(RAGGED), 10)
    outputs, state = [], None
    with torch.no_grad():
        for chunk in x.split(RAGGED, 2):
            step = Stream(state)
            outputs.append(module(chunk, None, step))
            state = step.state
        assert_near(torch.cat(outputs, 2), module(x))


# From samples to log-probabilities

FRONT_ENDS: dict[str, dict[str, Any]] = {
    "default": {},
    "8 kHz": {"sample_rate": 8000, "n_fft": 256, "n_mels": 20},
    "window as long as the transform": {"win_length": 32.0},
    "odd window": {"sample_rate": 11000, "win_length": 20.5, "n_fft": 256, "n_mels": 20},
    "windows apart": {"win_length": 10.0, "hop_length": 25.0},
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", FRONT_ENDS)
@pytest.mark.parametrize("size", [1, 37, 160, 999, 5000])
def test_features_of_chunks_are_those_of_the_whole(name: str, size: int, form: str) -> None:
    compute = LogMel(**FRONT_ENDS[name], form=form)
    for count in (0, 1, 79, 80, 199, 200, 201, 239, 240, 279, 280, 281, 321) if size == 1 else (size, 4321, 4400):
        wavs = 0.1 * torch.randn(2, count)
        whole, frames = compute(wavs, torch.tensor([count, count]))
        outputs, states = stream(compute, wavs, [size] * (count // size))
        last = compute.finish(states[-1] if states else compute.initial_state(2))
        streamed = torch.cat([*outputs, last], 1)
        assert streamed.shape[1] == compute.output_lengths(count) == int(frames[0])
        torch.testing.assert_close(streamed, whole, atol=1e-5, rtol=0)
        assert all(state[0].shape[1] <= 2 * compute.config["n_fft"] for state in states)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", FRONT_ENDS)
def test_latency_is_how_long_a_frame_waits(name: str, form: str) -> None:
    compute = LogMel(**FRONT_ENDS[name], form=form)
    wait = round(compute.latency * compute.sample_rate / 1000)
    for frame in (0, 3):
        center = compute.center_samples + frame * compute.hop_samples
        for count, complete in ((center + wait - 1, frame), (center + wait, frame + 1)):
            features, _ = compute.step(torch.zeros(1, count), compute.initial_state())
            assert features.shape[1] == complete
    assert LogMel(form=form).latency == 12.5


def test_what_needs_the_future_cannot_stream() -> None:
    with pytest.raises(ValueError, match="cannot stream: set deltas to False"):
        LogMel(deltas=True).initial_state()
    with pytest.raises(ValueError, match="cannot stream: train with GlobalNormalization"):
        SentenceNormalization().step(torch.zeros(1, 2, 80))
    with pytest.raises(ValueError, match="training mode cannot stream"):
        GlobalNormalization(80).step(torch.zeros(1, 2, 80))


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [1600, 333, 4097])
def test_samples_to_log_probabilities(size: int, form: str) -> None:
    compute, normalize = LogMel(form=form), GlobalNormalization(80)
    encoder = build(("bl_resnet22", {"time_padding": "causal", "input_size": 80}))
    model = CTCModel(encoder, output_neurons=9, dropout=0.5).eval()
    wavs, samples = 0.1 * torch.randn(2, 11111), torch.tensor([11111, 11111])
    normalize(*compute(wavs, samples))
    normalize.eval()
    with torch.no_grad():
        features, frames = compute(wavs, samples)
        whole, frames = model(normalize(features, frames), frames)
    outputs = []
    feature_state, model_state = compute.initial_state(2), model.initial_state(2)
    for chunk in wavs.split(size, 1):
        features, feature_state = compute.step(chunk, feature_state)
        log_probs, model_state = model.step(normalize.step(features), model_state)
        outputs.append(log_probs)
    outputs.append(model.step(normalize.step(compute.finish(feature_state)), model_state)[0])
    assert torch.cat(outputs, 1).shape[1] == int(frames[0])
    assert_near(torch.cat(outputs, 1), whole)


def test_examples_of_the_documentation_run() -> None:
    results = doctest.testfile(str(REPOSITORY / "docs" / "encoders.md"), module_relative=False)
    assert results.attempted > 0 and not results.failed
