"""Features, normalization and augmentation: an utterance's result does not depend on what it is batched with."""

import json
import math
from itertools import islice
from pathlib import Path

import kaldi_native_fbank
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from biglittle_asr.audio.files import read_audio
from biglittle_asr.features import (
    FORMS,
    NORMALIZATIONS,
    GlobalNormalization,
    LogMel,
    RandomFilter,
    SentenceNormalization,
    SpecAugment,
    SpeedPerturbation,
)
from biglittle_asr.features.augment import draw_bands
from biglittle_asr.features.logmel import delta
from support.recognizers import babble
from support.repository import REPOSITORY

SAMPLES = [1, 2, 79, 80, 81, 119, 120, 121, 159, 160, 161, *range(200, 480, 7), 399, 400, 401, 4000, 15999, 16000]


def padded_batch(samples: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    wavs = torch.zeros(len(samples), max(samples))
    for row, count in zip(wavs, samples, strict=True):
        row[:count] = 0.1 * torch.randn(count)
    return wavs, torch.tensor(samples)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("deltas", [False, True])
def test_features_alone_equal_features_in_batch(deltas: bool, form: str) -> None:
    compute, normalize = LogMel(deltas=deltas, form=form), SentenceNormalization()
    wavs, samples = padded_batch(SAMPLES)
    features, frames = compute(wavs, samples)
    normalized = normalize(features, frames)
    assert features.shape[2] == compute.output_size
    for index, count in enumerate(SAMPLES):
        alone, alone_frames = compute(wavs[index : index + 1, :count], samples[index : index + 1])
        valid = int(frames[index])
        assert int(alone_frames) == alone.shape[1] == valid == compute.output_lengths(count)
        # The logarithm of a small energy is some ten units in the last place off where FFTs of batches differ.
        torch.testing.assert_close(alone[0], features[index, :valid], atol=5e-5, rtol=0)
        torch.testing.assert_close(normalize(alone, alone_frames)[0], normalized[index, :valid], atol=5e-5, rtol=0)
        assert not features[index, valid:].any() and not normalized[index, valid:].any()


def test_lengths_are_integers() -> None:
    _, frames = LogMel()(*padded_batch([5, 500]))
    assert frames.dtype == torch.long


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("normalize", [SentenceNormalization(), SentenceNormalization(min_std=0.0, epsilon=1e-5)])
def test_digital_silence_is_finite_and_normalizes_to_zero(form: str, normalize: nn.Module) -> None:
    compute = LogMel(form=form)
    for samples in (0, 800):
        features, frames = compute(torch.zeros(1, samples), torch.tensor([samples]))
        assert features.numel()
        torch.testing.assert_close(features, torch.full_like(features, math.log(FORMS[form].floor)))
        assert not normalize(features, frames).any()


@pytest.mark.parametrize("form", FORMS)
def test_features_stay_float32_under_autocast(form: str) -> None:
    compute = LogMel(form=form)
    wavs, samples = padded_batch([3000])
    expected, _ = compute(wavs, samples)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features, frames = compute(wavs, samples)
        normalized = SentenceNormalization()(features, frames)
    assert features.dtype == normalized.dtype == torch.float32
    torch.testing.assert_close(features, expected)


def test_window_longer_than_fft_is_refused() -> None:
    with pytest.raises(ValueError, match="n_fft=256 is shorter than the window of 25.0 ms.*at least 400"):
        LogMel(n_fft=256)


def test_unknown_form_is_refused() -> None:
    with pytest.raises(ValueError, match="form is 'nemo', but must be one of hamming, sherpa_nemo"):
        LogMel(form="nemo")


# What sherpa-onnx feeds to NeMo's models


def runtime_features(wav: Tensor, sample_rate: int, n_mels: int) -> Tensor:
    """(T, F) of kaldi-native-fbank, with the options that sherpa-onnx sets for NeMo's CTC models."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = sample_rate
    options.frame_opts.dither = 0
    options.frame_opts.snip_edges = False
    options.frame_opts.remove_dc_offset = False
    options.frame_opts.window_type = "hann"
    options.mel_opts.num_bins = n_mels
    options.mel_opts.low_freq = 0
    options.mel_opts.high_freq = 0
    options.mel_opts.is_librosa = True
    fbank = kaldi_native_fbank.OnlineFbank(options)
    fbank.accept_waveform(sample_rate, wav.tolist())
    fbank.input_finished()
    frames = [fbank.get_frame(index) for index in range(fbank.num_frames_ready)]
    return torch.from_numpy(np.array(frames, dtype=np.float32).reshape(-1, n_mels))


def real_recordings() -> list[Path]:
    data = REPOSITORY.parent / "shared" / "data"
    an4 = islice(sorted((data / "an4" / "wav").rglob("*.sph")), 0, None, 60)
    return [*an4, *sorted((data / "LibriSpeech").rglob("*.flac"))]


@pytest.mark.slow
@pytest.mark.parametrize("sample_rate, n_fft, n_mels", [(16000, 512, 80), (16000, 512, 40), (8000, 256, 40)])
def test_sherpa_nemo_equals_the_runtime(sample_rate: int, n_fft: int, n_mels: int) -> None:
    """To 1e-4 of the features' range, on real speech where it is at hand, alone and in a batch."""
    compute = LogMel(sample_rate, n_mels=n_mels, n_fft=n_fft, form="sherpa_nemo")
    wavs = [torch.from_numpy(babble(seconds, seed)) for seed, seconds in enumerate((0.013, 0.3, 1.234, 2))]
    wavs += [torch.from_numpy(read_audio(str(path))[0]) for path in real_recordings()]
    wavs += [wavs[1][:count] for count in [*range(80, 900, 31), 239, 240, 241]]
    samples = torch.tensor([len(wav) for wav in wavs])
    batch, frames = compute(pad_sequence(wavs, batch_first=True), samples)
    for index, wav in enumerate(wavs):
        expected = runtime_features(wav, sample_rate, n_mels)
        alone, _ = compute(wav[None], samples[index : index + 1])
        assert len(expected) == alone.shape[1] == int(frames[index])
        close = 1e-4 * float(expected.max() - expected.min())
        torch.testing.assert_close(alone[0], expected, atol=close, rtol=0)
        torch.testing.assert_close(batch[index, : len(expected)], expected, atol=close, rtol=0)


@pytest.mark.parametrize("epsilon", [0.0, 1e-5, 0.1])
def test_epsilon_is_added_to_the_deviation_in_one_piece_and_in_blocks(epsilon: float) -> None:
    features, frames = random_batch(1)
    normalize = SentenceNormalization(min_std=0.0, epsilon=epsilon)
    for row, valid, found in zip(features, frames.tolist(), normalize(features, frames), strict=True):
        double = row[:valid].double()
        # As sherpa-onnx's NemoNormalizePerFeature.
        expected = ((double - double.mean(0)) / (double.std(0, correction=0) + epsilon)).float()
        torch.testing.assert_close(found[:valid], expected, atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(normalize.fitted(row[:valid].split(7))(row[:valid]), expected, atol=1e-4, rtol=1e-5)


def test_normalization_gives_zero_mean_and_unit_variance() -> None:
    torch.manual_seed(0)
    features = 5 + 3 * torch.randn(2, 60, 8)
    normalized = SentenceNormalization()(features, torch.tensor([60, 25]))
    for row, frames in zip(normalized, (60, 25), strict=True):
        torch.testing.assert_close(row[:frames].mean(0), torch.zeros(8), atol=1e-5, rtol=0)
        torch.testing.assert_close(row[:frames].std(0, correction=0), torch.ones(8), atol=1e-4, rtol=0)
    assert not normalized[1, 25:].any()
    only_mean = SentenceNormalization(std=False)(features, torch.tensor([60, 25]))
    torch.testing.assert_close(only_mean[0], features[0] - features[0].mean(0), atol=1e-5, rtol=0)


def random_batch(index: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(index)
    scale, shift = torch.tensor([3.0, 1e-3, 50.0]), torch.tensor([-1e4, 1.0, 8.0])
    features = shift + scale * torch.randn(3, 40, 3, generator=generator)
    frames = torch.randint(1, 41, (3,), generator=generator)
    features[0, int(frames[0]) :] = float("nan")
    return features, frames


def test_global_normalization_learns_the_statistics_of_valid_frames() -> None:
    normalize = GlobalNormalization(3, min_std=1e-6)
    seen: list[torch.Tensor] = []
    for index in range(5):
        features, frames = random_batch(index)
        normalized = normalize(features, frames)
        seen += [row[:valid].double() for row, valid in zip(features, frames, strict=True)]
        mean, std = torch.cat(seen).mean(0), torch.cat(seen).std(0, correction=0)
        for row, source, valid in zip(normalized, features, frames.tolist(), strict=True):
            torch.testing.assert_close(row[:valid], ((source[:valid] - mean) / std).float(), atol=1e-4, rtol=1e-5)
            assert not row[valid:].any()
    assert int(normalize.count) == len(torch.cat(seen))
    state = {name: value.clone() for name, value in normalize.state_dict().items()}
    rested = normalize.eval()(features, frames)
    torch.testing.assert_close(normalize.state_dict(), state, atol=0, rtol=0)
    torch.testing.assert_close(rested, normalized)


def test_global_normalization_learns_from_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    alone, together = GlobalNormalization(3), GlobalNormalization(3)
    features, frames = random_batch(0)
    alone(torch.cat([features, features]), torch.cat([frames, frames]))
    # A second process that has the same batch.
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.all_reduce", lambda sums: sums.mul_(2))
    together(features, frames)
    torch.testing.assert_close(together.state_dict(), alone.state_dict())


def test_global_normalization_resumes() -> None:
    undisturbed, interrupted = GlobalNormalization(3), GlobalNormalization(3)
    for index in range(2):
        assert torch.equal(undisturbed(*random_batch(index)), interrupted(*random_batch(index)))
    resumed = GlobalNormalization(3)
    resumed.load_state_dict(interrupted.state_dict())
    assert torch.equal(undisturbed(*random_batch(2)), resumed(*random_batch(2)))


def test_global_normalization_without_data_changes_nothing() -> None:
    features = torch.randn(2, 5, 3)
    assert torch.equal(GlobalNormalization(3).eval()(features, torch.tensor([5, 5])), features)


CONFIGURED: list[nn.Module] = [
    LogMel(8000, n_mels=40, n_fft=256, deltas=True),
    LogMel(form="sherpa_nemo", f_min=5.0),
    SentenceNormalization(std=False, min_std=0.5, epsilon=0.1),
    GlobalNormalization(7, min_std=0.5),
]


@pytest.mark.parametrize("module", CONFIGURED, ids=lambda module: type(module).__name__)
def test_config_is_plain_data_that_rebuilds(module: nn.Module) -> None:
    twin = type(module)(**json.loads(json.dumps(module.config)))
    twin.load_state_dict(module.state_dict())
    assert twin.config == module.config

    def plain(module: nn.Module) -> dict[str, object]:
        return {name: value for name, value in vars(module).items() if isinstance(value, (bool, int, float, str))}

    assert plain(twin) == plain(module)


def test_normalizations_are_found_by_name() -> None:
    assert {name: kind.__name__ for name, kind in NORMALIZATIONS.items()} == {name: name for name in NORMALIZATIONS}
    assert {type(module) for module in CONFIGURED} == {LogMel, *NORMALIZATIONS.values()}


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 40])
def test_deltas_leak_no_padding(frames: int) -> None:
    torch.manual_seed(0)
    features = torch.randn(1, 40, 4)
    alone = delta(features[:, :frames], torch.tensor([frames]))
    torch.testing.assert_close(delta(features, torch.tensor([frames]))[:, :frames], alone)
    if frames == 1:
        assert not alone.any()


@pytest.mark.parametrize("channels", [1, 3])
def test_masks_lie_within_valid_frames_and_mask_channels_alike(channels: int) -> None:
    augment = SpecAugment(freq_masks=0, channels=channels, time_width=30, max_time_fraction=0.5)
    frames = torch.tensor([200, 90, 40, 3, 1])
    features = torch.ones(5, 200, 80 * channels)
    torch.manual_seed(0)
    masked_parts = torch.zeros(5)
    for _ in range(50):
        masked = augment(features, frames) == 0
        for row, valid in zip(masked, frames.tolist(), strict=True):
            assert not row[valid:].any()
            assert row.any(1).sum() <= 0.5 * valid
        masked_parts += masked.any(2).sum(1) / frames
    assert (masked_parts[:3] / 50 > 0.05).all()
    bands = SpecAugment(max_time_masks=0, channels=channels)(features, frames) == 0
    for channel in bands.view(5, 200, channels, 80).unbind(2):
        assert torch.equal(channel, bands.view(5, 200, channels, 80)[:, :, 0])
    assert bands.any()
    # Utterances are masked independently.
    assert len({tuple(row[0].tolist()) for row in bands}) > 1


def test_augmentation_follows_the_seed_and_rests_in_evaluation() -> None:
    augment, features, frames = SpecAugment(), torch.ones(3, 100, 80), torch.tensor([100, 60, 30])
    torch.manual_seed(1)
    first = augment(features, frames)
    torch.manual_seed(1)
    assert torch.equal(first, augment(features, frames))
    assert not torch.equal(first, augment(features, frames))
    assert augment.eval()(features, frames) is features
    assert (features == 1).all()


def test_bands_reach_every_position() -> None:
    torch.manual_seed(0)
    widest, limits = torch.full((500, 1), 4), torch.full((500, 1), 10)
    hits = draw_bands(widest, limits, size=12).sum(0)
    assert (hits[:10] > 0).all() and not hits[10:].any()


def test_speed_perturbation_changes_length_and_pitch() -> None:
    wav = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000)
    for speed in (0.9, 1.0, 1.1):
        faster = SpeedPerturbation(16000, [speed])(wav)
        assert abs(len(faster) - 16000 / speed) <= 1
        peak = faster.abs().new_tensor(torch.fft.rfft(faster).abs().argmax().item()) * 16000 / len(faster)
        assert abs(float(peak) - 1000 * speed) < 2


def test_speed_perturbation_draws_all_speeds() -> None:
    torch.manual_seed(0)
    perturb = SpeedPerturbation(16000)
    assert len({len(perturb(torch.zeros(9900))) for _ in range(40)}) == 3


@pytest.mark.parametrize("samples", [1, 2, 1000, 16001])
def test_random_filter_keeps_length_and_gain(samples: int) -> None:
    """An impulse becomes the filter's response: within the gain, smooth, and another one each time."""
    impulse = torch.zeros(samples)
    impulse[samples // 2] = 1
    decibels = [
        20 * torch.fft.rfft(RandomFilter(16000, gain=6)(impulse)).abs().clamp(min=1e-3).log10() for _ in range(5)
    ]
    assert all(len(response) == samples // 2 + 1 for response in decibels)
    assert torch.stack(decibels).std(0).max() > 0.5
    if samples > 10:
        assert torch.stack(decibels).abs().max() < 6.5
        assert torch.stack(decibels).diff().abs().max() < 0.5


def test_random_filter_without_gain_changes_nothing() -> None:
    wav = torch.randn(3000)
    torch.testing.assert_close(RandomFilter(8000, gain=0)(wav), wav)


@pytest.mark.parametrize("settings", [{"points": 1}, {"gain": -1}])
def test_impossible_filters_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="points must be at least 2 and gain at least 0"):
        RandomFilter(16000, **settings)


@pytest.mark.parametrize("speeds", [[], [0.0], [-1.0, 1.0]])
def test_impossible_speeds_are_refused(speeds: list[float]) -> None:
    with pytest.raises(ValueError, match="speeds must name at least one speed"):
        SpeedPerturbation(16000, speeds)
