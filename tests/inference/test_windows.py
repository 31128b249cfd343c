"""Windows of a long recording give what one pass over it gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from biglittle_asr.features import FORMS, NORMALIZATIONS, LogMel
from biglittle_asr.inference import Recognizer
from biglittle_asr.inference.audio import Recording
from biglittle_asr.inference.transcription import Failure, transcribe
from biglittle_asr.inference.windows import feature_blocks, outputs_by_windows
from biglittle_asr.models import list_encoders
from support.corpora import SAMPLE_RATE
from support.networks import assert_near
from support.recognizers import babble, make_recognizer

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("deltas", [False, True])
@pytest.mark.parametrize("samples", [1, 16000, 160000, 160001, 321234])
def test_features_in_blocks_are_features(samples, deltas, form):
    compute_features = LogMel(n_mels=20, n_fft=400, deltas=deltas, form=form)
    wav = torch.from_numpy(babble(samples / SAMPLE_RATE))
    whole, _ = compute_features(wav[None], torch.tensor([samples]))
    for size in (997, 16000, 500000):
        assert_near(torch.cat(list(feature_blocks(compute_features, wav.split(size)))), whole[0])


@torch.inference_mode()
def check_windows(recognizer: Recognizer, seconds: float, windows: tuple[float, ...]) -> None:
    samples = babble(seconds)
    whole, _ = recognizer(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
    for window in windows:
        blocks = np.array_split(samples, 7)
        pieces = list(outputs_by_windows(recognizer, lambda blocks=blocks: blocks, window))
        assert_near(torch.cat(pieces), whole[0])
    assert len(pieces) > 2


@pytest.mark.parametrize("time_padding", ["same", "causal"])
@pytest.mark.parametrize("preset", list_encoders())
def test_windows_equal_one_pass(preset, time_padding):
    check_windows(make_recognizer(preset, time_padding=time_padding), 9.347, (12, 1.3))


@pytest.mark.parametrize("time_stride", [1, 2, 8])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_windows_equal_one_pass_for_any_stride_and_normalization(time_stride, normalization):
    check_windows(make_recognizer(normalization=normalization, deltas=True, time_stride=time_stride), 6.5, (2.2, 1))


@pytest.mark.parametrize(
    "option",
    [
        {"context_blocks": 2},
        {"pool_frequency": False},
        {"upsampling": "bilinear"},
        {"big_stride": (1, 2)},
        {"merge": "concat"},
        {"branches": 3, "alpha": 2},
    ],
    ids=str,
)
def test_windows_equal_one_pass_whatever_the_encoder_is_made_of(option):
    check_windows(make_recognizer(**option), 7.123, (1.7,))


@pytest.mark.parametrize("form", FORMS)
def test_windows_equal_one_pass_for_any_length(form):
    recognizer = make_recognizer(form=form)
    for extra in range(0, 1280, 167):
        check_windows(recognizer, 4 + extra / SAMPLE_RATE, (2, 1.28))


@torch.inference_mode()
def test_in_a_string_of_utterances_each_comes_out_as_alone():
    """Frames whose context lies within one utterance know of no other; features reach two frames further."""
    recognizer = make_recognizer(normalization="GlobalNormalization")
    encoder = recognizer.model.encoder
    before, after = (frames // encoder.time_stride + 2 for frames in encoder.context)
    size = 320 * recognizer.compute_features.hop_samples
    assert 320 % encoder.alignment == 0
    utterances = [babble(size / SAMPLE_RATE, seed) for seed in range(6)]
    strung = torch.cat(list(outputs_by_windows(recognizer, lambda: utterances, 4)))
    for index, utterance in enumerate(utterances):
        alone, _ = recognizer(torch.from_numpy(utterance)[None], torch.tensor([size]))
        inside = slice(before, 320 // encoder.time_stride - after)
        assert inside.stop - inside.start > 20
        here = strung[index * 320 // encoder.time_stride :][: 320 // encoder.time_stride]
        assert_near(here[inside], alone[0, : 320 // encoder.time_stride][inside])


def test_no_windows_where_every_frame_depends_on_every_other(recordings):
    recognizer = make_recognizer(block={"squeeze_excite": True})
    results = list(transcribe(recognizer, [Recording(path.stem, path) for path in recordings], window_seconds=3))
    bad = [result for result in results if isinstance(result, Failure)]
    assert [failure.recording.name for failure in bad] == ["r1"] and len(results) == 5
    assert "lasts 3 s, longer than one window" in str(bad[0].error)
