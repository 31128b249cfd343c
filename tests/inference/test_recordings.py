"""Audio of any rate, in any container, on any channel is heard alike."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import soundfile
import torch
import torchaudio

from biglittle_asr.audio.resample import Resampler
from biglittle_asr.inference.audio import Recording
from support.corpora import SAMPLE_RATE
from support.recognizers import babble, words, write_container

RATES = (4000, 8000, 11025, 16000, 22257, 44100, 48000, 192000)


@pytest.mark.parametrize("rate", (8000, 11025, 16000, 44100, 192000))
def test_resampling_is_band_limited_interpolation_whatever_the_blocks(rate):
    samples = babble(0.05, sample_rate=rate)[: rate // 20 - 3]
    resample = Resampler(rate, SAMPLE_RATE)
    whole = np.concatenate(list(resample([samples])))
    assert len(whole) == resample.output_length(len(samples))
    reference = torchaudio.functional.resample(torch.from_numpy(samples).double(), rate, SAMPLE_RATE)
    np.testing.assert_allclose(whole, reference.numpy(), atol=1e-6)
    for size in (7, 97, 1000):
        blocks = [samples[start : start + size] for start in range(0, len(samples), size)]
        np.testing.assert_array_equal(np.concatenate(list(resample(blocks))), whole)


@pytest.mark.parametrize("rate", RATES)
def test_any_rate_is_heard_alike(tmp_path, rate):
    time = np.arange(rate) / rate
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 440 * time), rate, subtype="FLOAT")
    heard = Recording("a", tmp_path / "a.wav").read(SAMPLE_RATE)
    expected = 0.5 * np.sin(2 * np.pi * 440 / SAMPLE_RATE * np.arange(SAMPLE_RATE))
    np.testing.assert_allclose(heard[200:-200], expected[200:-200], atol=5e-3)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".aiff", ".au", ".caf", ".w64", ".sph"])
def test_lossless_containers_hold_the_same_words(recognizer, tmp_path, suffix):
    samples = babble(2)
    soundfile.write(tmp_path / "reference.wav", samples, SAMPLE_RATE)
    write_container(tmp_path / f"a{suffix}", samples)
    # Whatever the file is called.
    (tmp_path / f"a{suffix}").rename(tmp_path / "a.raw")
    texts = words(recognizer, tmp_path / "reference.wav", tmp_path / "a.raw")
    assert texts["a"] == texts["reference"] != ""


def test_ogg_is_read(recognizer, tmp_path):
    soundfile.write(tmp_path / "a.ogg", babble(2), SAMPLE_RATE)
    assert words(recognizer, tmp_path / "a.ogg")["a"]


@pytest.mark.parametrize("channels", [1, 2, 8])
def test_channels_are_chosen_or_mixed(tmp_path, channels):
    samples = np.stack([babble(0.5, seed) for seed in range(channels)], axis=1)
    soundfile.write(tmp_path / "a.wav", samples, SAMPLE_RATE, subtype="FLOAT")
    for channel in range(channels):
        chosen = Recording("a", tmp_path / "a.wav", channel + 1).read(SAMPLE_RATE)
        np.testing.assert_array_equal(chosen, samples[:, channel])
    mixed = Recording("a", tmp_path / "a.wav").read(SAMPLE_RATE)
    np.testing.assert_allclose(mixed, samples.mean(axis=1), atol=1e-7)


@pytest.mark.parametrize("promise", [0xFFFFFFFF, 0x7FFFF000])
def test_wav_of_unknown_length_is_read_to_its_end(tmp_path, promise):
    soundfile.write(tmp_path / "a.wav", babble(0.5), SAMPLE_RATE)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[4:8] = content[40:44] = struct.pack("<I", promise)
    (tmp_path / "a.wav").write_bytes(content)
    assert len(Recording("a", tmp_path / "a.wav").read(SAMPLE_RATE)) == SAMPLE_RATE // 2
