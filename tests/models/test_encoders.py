"""Acoustic encoders: golden counts, and properties that hold for every preset and every option."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.flop_counter import FlopCounterMode

from biglittle_asr.models import BigLittleEncoder, EncoderConfig, create_encoder, list_encoders
from biglittle_asr.models.encoder import PRESETS
from biglittle_asr.nnet import output_length, valid_mask
from support.encoder_cases import OPTION_CASES, OPTIONS, PRESET_CASES, SEES_THE_FUTURE, SMALL, Case, build, every
from support.networks import assert_near, randomize_batchnorm


def utterances(encoder: BigLittleEncoder, frames: Iterable[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    dtype = encoder.head.weight.dtype
    return [torch.randn(n, encoder.config.input_size, generator=generator, dtype=dtype) for n in frames]


def padded(encoder: BigLittleEncoder, frames: list[int], size: int | None = None) -> tuple[Tensor, Tensor]:
    """A batch (B, T, F) of random utterances and their frames."""
    x = pad_sequence(utterances(encoder, frames), batch_first=True)
    if size is not None:
        x = nn.functional.pad(x, (0, 0, 0, size - x.shape[1]))
    return x, torch.tensor(frames)


# Golden counts

GOLDEN: list[tuple[str, dict[str, Any], int, int]] = [
    ("resnet22", {"input_size": 192, "input_channels": 3, "time_stride": 1}, 3_020_704, 1_783_705_600),
    ("bl_resnet22", {"input_size": 192, "input_channels": 3, "time_stride": 1}, 3_203_184, 1_024_102_400),
    ("bl_resnet22", {"beta": 1, "input_size": 192, "input_channels": 3, "time_stride": 1}, 3_209_040, 1_035_161_600),
    (
        "bl_resnet22",
        {"alpha": 2, "beta": 3, "input_size": 192, "input_channels": 3, "time_stride": 1},
        3_460_672,
        1_173_401_600,
    ),
    (
        "bl_resnet22",
        {"big_little_stages": 3, "input_size": 192, "input_channels": 3, "time_stride": 1},
        3_067_120,
        1_363_251_200,
    ),
    ("resnet22", {"input_size": 80, "time_stride": 4}, 3_019_104, 611_084_800),
    ("bl_resnet22", {"input_size": 80, "time_stride": 4}, 3_201_584, 336_755_200),
    ("resnet34", {"input_size": 80, "time_stride": 4}, 5_455_456, 1_090_316_800),
    ("bl_resnet34", {"input_size": 80, "time_stride": 4}, 5_656_496, 468_544_000),
    ("resnet36_context", {"input_size": 80, "time_stride": 4}, 1_721_440, 414_835_200),
    ("bl_resnet36_context", {"input_size": 80, "time_stride": 4}, 1_765_872, 156_217_600),
    ("resnet36_context", {"input_size": 80, "time_stride": 2}, 1_721_440, 717_478_400),
    ("bl_resnet36_context", {"input_size": 80, "time_stride": 2}, 1_765_872, 285_619_200),
]
"""Preset, arguments, parameters, MACs a second of audio (100 frames, counted on 1000) of convolutions and linear."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options", "parameters", "macs"), GOLDEN)
def test_golden_counts(name: str, options: dict[str, Any], parameters: int, macs: int) -> None:
    with torch.device("meta"):
        encoder = create_encoder(name, **options)
        with FlopCounterMode(display=False) as counter:
            encoder(torch.empty(1, 1000, options["input_size"]))
    assert sum(p.numel() for p in encoder.parameters()) == parameters
    assert counter.get_total_flops() == 2 * 10 * macs


def test_golden_counts_are_of_the_defaults() -> None:
    encoder = create_encoder("bl_resnet22")
    assert (encoder.config.alpha, encoder.config.beta, encoder.config.input_size, encoder.time_stride) == (4, 2, 80, 4)
    assert sum(p.numel() for p in encoder.parameters()) == 3_201_584


@pytest.mark.slow
@pytest.mark.parametrize("name", list_encoders())
def test_full_size_preset_runs(name: str) -> None:
    encoder = create_encoder(name).eval()
    with torch.no_grad():
        assert encoder(torch.randn(1, 21, 80)).shape == (1, 6, encoder.output_size)


# Padding


def test_every_option_is_tested() -> None:
    tested = {key for _, options in [*OPTION_CASES, *PRESET_CASES] for key in options}
    assert tested == {field.name for field in dataclasses.fields(EncoderConfig)}


def check_alone_is_as_in_a_batch(encoder: BigLittleEncoder, frames: list[int]) -> None:
    x, lengths = padded(encoder, frames)
    before = x.clone()
    with torch.no_grad():
        y, frames_out = encoder.encode(x, lengths)
        alone = [encoder(row[None, :n])[0] for row, n in zip(x, frames, strict=True)]
    assert torch.equal(x, before)
    assert y.shape == (len(frames), encoder.output_lengths(max(frames)), encoder.output_size)
    assert frames_out.tolist() == [output_length(n, encoder.time_stride) for n in frames]
    for row, valid, expected in zip(y, frames_out, alone, strict=True):
        assert_near(row[:valid], expected)
        assert not row[valid:].any()


@pytest.mark.slow
@every(PRESET_CASES)
def test_alone_is_as_in_a_padded_batch(case: Case) -> None:
    encoder = build(case)
    check_alone_is_as_in_a_batch(encoder, list(range(1, 41)))
    check_alone_is_as_in_a_batch(encoder, [129, 1, 300, 64])


@pytest.mark.slow
@every(OPTION_CASES)
def test_alone_is_as_in_a_padded_batch_with_options(case: Case) -> None:
    encoder = build(case)
    check_alone_is_as_in_a_batch(encoder, list(range(1, 18)))
    check_alone_is_as_in_a_batch(encoder, [31, 1, 100, 33])


@pytest.mark.parametrize("name", ["bl_resnet22", "resnet22"])
def test_alone_is_as_in_a_padded_batch_at_full_size(name: str) -> None:
    encoder = create_encoder(name).eval()
    randomize_batchnorm(encoder, torch.Generator().manual_seed(1))
    check_alone_is_as_in_a_batch(encoder, [37, 1, 120])


@pytest.mark.slow
@every(PRESET_CASES + OPTION_CASES)
@pytest.mark.parametrize("training", [False, True])
def test_padding_may_hold_anything(case: Case, training: bool) -> None:
    encoder = build(case).train(training)
    twin = copy.deepcopy(encoder)
    x, frames = padded(encoder, [5, 14, 1], size=18)
    invalid = ~valid_mask(frames, 18)
    rubbish = x.clone()
    for row, garbage in enumerate((1e6, float("nan"), float("inf"))):
        rubbish[row, int(frames[row]) :] = garbage
    rubbish.requires_grad_()
    y, _ = twin.encode(rubbish, frames)
    assert torch.equal(y, encoder.encode(x, frames)[0])
    y.square().sum().backward()
    assert not rubbish.grad[invalid].any()
    assert all(torch.isfinite(parameter.grad).all() for parameter in twin.parameters())


@pytest.mark.slow
@every(PRESET_CASES + OPTION_CASES)
def test_training_does_not_see_how_much_is_padded(case: Case) -> None:
    encoder = build(case).double().train()
    frames = [5, 14, 1, 9]
    results = []
    for size in (14, 24):
        twin = copy.deepcopy(encoder)
        y, frames_out = twin.encode(*padded(twin, frames, size))
        # Weighted, since BatchNorm makes a plain sum or norm constant.
        loss = sum(
            (row[:n] * torch.sin(torch.arange(row[:n].numel()).view(n, -1))).sum()
            for row, n in zip(y, frames_out, strict=True)
        )
        loss.backward()
        results.append((loss.detach(), {name: p.grad for name, p in twin.named_parameters()}, twin.state_dict()))
    torch.testing.assert_close(results[1], results[0], rtol=1e-6, atol=1e-9)
    for name, gradient in results[0][1].items():
        assert gradient is not None and gradient.any(), f"{name} gets no gradient"


def test_full_batch_with_lengths_is_as_without() -> None:
    encoder = build(("bl_resnet22", {}))
    x = torch.randn(2, 30, 20)
    assert torch.equal(encoder(x, torch.ones(2)), encoder(x))
    assert torch.equal(encoder(x, torch.tensor([0.5, 1.0])), encoder.encode(x, torch.tensor([15, 30]))[0])


# Time


@pytest.mark.slow
@pytest.mark.parametrize("name", list_encoders())
@pytest.mark.parametrize("time_stride", [1, 2, 4, 8])
def test_frames_out(name: str, time_stride: int) -> None:
    encoder = build((name, {"time_stride": time_stride, "input_size": 7}))
    for frames in range(1, 26):
        expected = -(-frames // time_stride)
        assert encoder(torch.zeros(1, frames, 7)).shape[1] == expected == encoder.output_lengths(frames)
    assert encoder.output_lengths(torch.tensor([1, 25])).tolist() == [1, -(-25 // time_stride)]
    relative = encoder.relative_output_lengths(torch.tensor([0.4, 1.0]), 25)
    assert (relative * expected).round().tolist() == [-(-10 // time_stride), expected]


@pytest.mark.slow
@every([case for case in PRESET_CASES + OPTION_CASES if case[1]["time_padding"] == "causal"])
def test_causal_never_sees_the_future(case: Case) -> None:
    encoder = build(case)
    (x,) = utterances(encoder, [37])
    with torch.no_grad():
        y = encoder(x[None])
        for frame in (0, 1, 2, 3, 4, 7, 8, 12, 15, 16, 17, 31, 32, 36):
            changed = x.clone()
            changed[frame:] = 3 - 2 * x[frame:]
            y_changed = encoder(changed[None])
            past = output_length(frame, encoder.time_stride)
            torch.testing.assert_close(y_changed[:, :past], y[:, :past], rtol=0, atol=1e-5)
            if frame % encoder.time_stride == 0:
                assert not torch.allclose(y_changed[:, past], y[:, past])


@pytest.mark.parametrize("option", SEES_THE_FUTURE)
def test_causal_refuses_what_sees_the_future(option: str) -> None:
    with pytest.raises(ValueError, match="sees the future: set .* or time_padding"):
        build(("bl_resnet22", {**OPTIONS[option], "time_padding": "causal"}))


# Structure


def record_stage_resolutions(encoder: BigLittleEncoder) -> list[tuple[int, int]]:
    """A list that gets the (frames, bins) at which each stage works: plain blocks, or merged branches."""
    sizes: list[tuple[int, int]] = []
    for stage in encoder.stages:
        if hasattr(stage, "fusion"):
            stage.fusion.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[2:])))
        else:
            stage.register_forward_hook(lambda *args: sizes.append(tuple(args[-1].shape[2:])))
    return sizes


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in list_encoders() if PRESETS[name].get("big_little_stages") != 0])
@pytest.mark.parametrize("time_stride", [1, 2, 4, 8])
def test_plain_twin_works_at_the_same_resolutions(name: str, time_stride: int) -> None:
    twin = build((name, {"time_stride": time_stride, "big_little_stages": 0, "pyramid": False}))
    twin_sizes = record_stage_resolutions(twin)
    pyramid = create_encoder(name).config.pyramid
    for big_little_stages in (4,) if pyramid else (4, 3, 1):
        encoder = build((name, {"time_stride": time_stride, "big_little_stages": big_little_stages}))
        sizes = record_stage_resolutions(encoder)
        for part in ("stem", "head"):
            assert shapes(encoder.get_submodule(part)) == shapes(twin.get_submodule(part))
        for frames in (1, 21, 32):
            x = torch.randn(1, frames, 20)
            sizes.clear()
            twin_sizes.clear()
            assert encoder(x).shape == twin(x).shape
            assert len(twin_sizes) == 4 and sizes == (twin_sizes[-1:] if pyramid else twin_sizes)


def shapes(encoder: nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in encoder.state_dict().items()}


def test_beta_is_without_effect_in_short_stages() -> None:
    with torch.device("meta"):
        one, two, three, four = (shapes(create_encoder("bl_resnet22", beta=beta)) for beta in (1, 2, 3, 4))
        assert two == three == four != one
        assert shapes(create_encoder("bl_resnet34", beta=2)) != shapes(create_encoder("bl_resnet34", beta=3))


def test_alpha_and_beta_change_the_little_branch_only() -> None:
    with torch.device("meta"):
        nets = [shapes(create_encoder("bl_resnet34", alpha=a, beta=b)) for a, b in ((4, 2), (2, 2), (4, 1))]
    without_little = [{k: v for k, v in net.items() if "little" not in k} for net in nets]
    assert without_little[0] == without_little[1] == without_little[2]


def test_deltas_enter_as_channels() -> None:
    """Features come as (static, delta, delta-delta), each of all mel bins."""
    encoder = build(("bl_resnet22", {"input_size": 30, "input_channels": 3}))
    seen: list[Tensor] = []
    encoder.stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(2, 5, 30)
    encoder(x)
    assert torch.equal(seen[0], torch.stack([x[..., :10], x[..., 10:20], x[..., 20:]], 1))


# Modules as others handle them


@pytest.mark.slow
@every([case for case in PRESET_CASES + OPTION_CASES if case[1]["time_padding"] == "same"])
def test_copies_are_the_same(case: Case) -> None:
    encoder = build(case)
    x, frames = padded(encoder, [5, 21])
    y, _ = encoder.encode(x, frames)
    fresh = create_encoder(case[0], **{**SMALL, **case[1]}).eval()
    fresh.load_state_dict(encoder.state_dict())
    for twin in (fresh, copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        assert torch.equal(twin.encode(x, frames)[0], y)
        assert (twin.output_size, twin.time_stride) == (encoder.output_size, encoder.time_stride)


@pytest.mark.slow
@every(PRESET_CASES + OPTION_CASES)
def test_bfloat16_autocast(case: Case) -> None:
    encoder = build(case)
    x, frames = padded(encoder, [5, 40, 16])
    with torch.no_grad():
        expected, _ = encoder.encode(x, frames)
        with torch.autocast("cpu", torch.bfloat16):
            y, _ = encoder.encode(x, frames)
    assert_near(y.float(), expected, 0.05)
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = encoder.train().encode(x, frames)
    y.float().square().mean().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in encoder.parameters())


def test_unpadded_training_is_padded_training() -> None:
    """The path without a mask takes torch's own BatchNorm; a batch must not be worth more or less for it."""
    encoder = build(("bl_resnet22", {})).train()
    x, frames = padded(encoder, [32, 32])
    twin = copy.deepcopy(encoder)
    y, _ = encoder.encode(x, frames)
    y_padded, _ = twin.encode(nn.functional.pad(x, (0, 0, 0, 8)), frames)
    assert_near(y_padded[:, :8], y, 1e-4)
    for key, value in encoder.state_dict().items():
        torch.testing.assert_close(twin.state_dict()[key], value, rtol=1e-4, atol=1e-5)


# Errors

ERRORS: dict[str, dict[str, Any]] = {
    "unknown encoder argument 'alfa': did you mean 'alpha'?": {"alfa": 2},
    "unknown encoder argument 'time_strides': did you mean 'time_stride'?": {"time_strides": 2},
    "unknown block argument 'squeeze_exite': did you mean 'squeeze_excite'?": {"block": {"squeeze_exite": True}},
    "shortcut is 'poll': take": {"block": {"shortcut": "poll"}},
    "time_stride is 3: take one of 1, 2, 4, 8": {"time_stride": 3},
    "time_stride is '4': take one of": {"time_stride": "4"},
    "input_size 80 is not a multiple of input_channels 3": {"input_size": 80, "input_channels": 3},
    "input_size is 0: take a whole number from 1 up": {"input_size": 0},
    "input_channels is 0: take a whole number from 1 up": {"input_channels": 0},
    "output_size is 0: take a whole number from 1 up": {"output_size": 0},
    "channels is ['8', '16', '32', '64']: take 4": {"channels": ["8", "16", "32", "64"]},
    "channels is [8, 16, 32]: take 4 whole numbers from 1 up": {"channels": [8, 16, 32]},
    "channels is 32: take 4 whole numbers from 1 up": {"channels": 32},
    "blocks is [3, 3, 2, 0]: take 4 whole numbers from 1 up": {"blocks": [3, 3, 2, 0]},
    "needs 2 blocks or more": {"blocks": [3, 3, 1, 2]},
    "big_little_stages is 5: take": {"big_little_stages": 5},
    "big_little_stages is 'all': take": {"big_little_stages": "all"},
    "time_stride is [4]: take one of": {"time_stride": [4]},
    "pyramid runs the branches through all stages": {"pyramid": True, "big_little_stages": 3},
    "alpha is 0: take": {"alpha": 0},
    "alpha 3 with 2 branches does not divide 8 channels": {"alpha": 3},
    "alpha 4 with 3 branches does not divide 8 channels": {"branches": 3},
    "beta is 1.5: take": {"beta": 1.5},
    "big_stride is (3, 1): take": {"big_stride": (3, 1)},
    "big_stride is 2: take": {"big_stride": 2},
    "upsampling is 'linear': take": {"upsampling": "linear"},
    "merge is 'sum': take": {"merge": "sum"},
    "time_padding is 'valid': take": {"time_padding": "valid"},
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_name_the_key_and_what_to_do(message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        create_encoder("bl_resnet22", **{**SMALL, **ERRORS[message]})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "close"), [("bl_resnet_22", "bl_resnet22"), ("resnet-34", "resnet34")])
def test_unknown_preset_suggests_the_close_one(name: str, close: str) -> None:
    with pytest.raises(ValueError, match=f"unknown encoder preset '{name}': did you mean '{close}'"):
        create_encoder(name)


def test_unlike_preset_lists_them() -> None:
    with pytest.raises(ValueError, match="unknown encoder preset 'xyz': known are .*bl_resnet22"):
        create_encoder("xyz")


@pytest.mark.parametrize("shape", [(2, 9, 19), (9, 20), (2, 1, 9, 20)])
def test_wrong_features(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="do not fit an encoder of input_size 20"):
        build(("bl_resnet22", {}))(torch.zeros(shape))


@pytest.mark.parametrize("lengths", [[0.5], [1.0, 1.0, 0.5], [[1.0], [0.5]]])
def test_lengths_that_are_not_one_an_utterance(lengths: list[Any]) -> None:
    with pytest.raises(ValueError, match=re.escape("do not fit a batch of 2: take one length for each utterance")):
        build(("bl_resnet22", {}))(torch.zeros(2, 9, 20), torch.tensor(lengths))


def test_frame_counts_are_not_relative_lengths() -> None:
    with pytest.raises(ValueError, match=r"relative lengths must lie in \(0, 1\]"):
        build(("bl_resnet22", {}))(torch.zeros(2, 9, 20), torch.tensor([9, 4]))


def test_an_encoder_is_built_from_its_typed_config() -> None:
    config = EncoderConfig(**SMALL)
    assert BigLittleEncoder(config).config == BigLittleEncoder(**SMALL).config == config
    assert BigLittleEncoder(config, alpha=2).config == dataclasses.replace(config, alpha=2)
