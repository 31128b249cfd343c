"""Transcription: neither batches, windows nor containers change a word, and bad input is one sentence."""

from __future__ import annotations

import io
import json
import os
import re
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from conftest import SAMPLE_RATE
from helpers import assert_near, randomize_batchnorm

from biglittle_asr.cli import main
from biglittle_asr.decoding.tokenizer import CharacterTokenizer, SentencePieceTokenizer
from biglittle_asr.features import NORMALIZATIONS, LogMel, SentenceNormalization
from biglittle_asr.inference import Recognizer, load_model, save_model
from biglittle_asr.inference.audio import Recording, Resampler
from biglittle_asr.inference.formats import FORMATS
from biglittle_asr.inference.inputs import find_stream
from biglittle_asr.inference.streaming import transcribe_stream
from biglittle_asr.inference.transcription import Failure, Transcript, decode, transcribe
from biglittle_asr.inference.windows import feature_blocks, log_probs_by_windows
from biglittle_asr.models import CTCModel, create_encoder, list_encoders

TOKENIZER = CharacterTokenizer(" ABCDE")


def make_recognizer(
    preset: str = "bl_resnet22", normalization: str = "SentenceNormalization", deltas: bool = False, **encoder: object
) -> Recognizer:
    """A small network with random weights that says many words."""
    torch.manual_seed(0)
    compute_features = LogMel(n_mels=20, n_fft=400, deltas=deltas)
    samples = torch.from_numpy(babble(4, seed=99))
    features, frames = compute_features(samples[None], torch.tensor([len(samples)]))
    arguments = [] if normalization == "SentenceNormalization" else [compute_features.output_size]
    normalize = NORMALIZATIONS[normalization](*arguments)
    # In training mode still, so that a normalization that learns has done so.
    features = normalize(features, frames)
    encoder = create_encoder(
        preset,
        channels=(4, 8, 8, 16),
        input_size=compute_features.output_size,
        input_channels=3 if deltas else 1,
        output_size=16,
        **encoder,
    )
    randomize_batchnorm(encoder, torch.Generator().manual_seed(1))
    model = CTCModel(encoder, TOKENIZER.size)
    recognizer = Recognizer(compute_features, normalize, model, TOKENIZER)
    # Random networks say the same all the time: center and spread what this one says of some babble.
    with torch.no_grad():
        encoded = encoder.encode(features, frames)[0][0]
        logits = encoded @ model.output.weight.T
        model.output.weight.mul_(3 / logits.std(0)[:, None])
        model.output.bias.copy_(-(encoded @ model.output.weight.T).mean(0))
    return recognizer


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return make_recognizer()


@pytest.fixture(scope="module")
def model_folder(recognizer, tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "model", recognizer)


def babble(seconds: float, seed: int = 0, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Noise whose spectrum changes all the time, float32 of shape (S,), in steps that 16 bits can hold."""
    rng = np.random.default_rng(seed)
    size = round(seconds * sample_rate)
    time = np.arange(size) / sample_rate
    tones = sum(np.sin(2 * np.pi * (f * time + 40 * np.sin(r * time))) for f, r in rng.uniform(1, 9, (5, 2)) * (200, 1))
    noise = 0.05 * tones + 0.02 * rng.standard_normal(size)
    return (np.round(np.clip(noise, -0.9, 0.9) * 32768) / 32768).astype(np.float32)


def words(recognizer: Recognizer, *paths: Path, **options: object) -> dict[str, str]:
    texts = {}
    for result in transcribe(recognizer, [Recording(path.stem, path) for path in paths], **options):
        assert isinstance(result, Transcript), result
        texts[result.recording.name] = result.text
    return texts


@pytest.fixture
def recordings(tmp_path) -> list[Path]:
    paths = []
    for index, seconds in enumerate((0.01, 3.2, 1.0, 2.04, 1.999)):
        paths.append(tmp_path / f"r{index}.wav")
        soundfile.write(paths[-1], babble(seconds, index), SAMPLE_RATE)
    return paths


# Audio


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


def sphere(samples: np.ndarray) -> bytes:
    """A NIST SPHERE file."""
    fields = (
        "NIST_1A\n   1024\n"
        f"sample_count -i {len(samples)}\n"
        f"sample_rate -i {SAMPLE_RATE}\n"
        "sample_n_bytes -i 2\n"
        "sample_byte_format -s2 10\n"
        "channel_count -i 1\n"
        "sample_coding -s3 pcm\n"
        "end_head\n"
    )
    return fields.encode().ljust(1024) + np.round(samples * 32768).astype(">i2").tobytes()


def write_container(path: Path, samples: np.ndarray) -> None:
    if path.suffix == ".sph":
        path.write_bytes(sphere(samples))
    else:
        soundfile.write(path, samples, SAMPLE_RATE)


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


# Windows


@pytest.mark.parametrize("deltas", [False, True])
@pytest.mark.parametrize("samples", [1, 16000, 160000, 160001, 321234])
def test_features_in_blocks_are_features(samples, deltas):
    compute_features = LogMel(n_mels=20, n_fft=400, deltas=deltas)
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
        pieces = list(log_probs_by_windows(recognizer, lambda blocks=blocks: blocks, window))
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


@pytest.mark.parametrize("extra", range(0, 1280, 167))
def test_windows_equal_one_pass_for_any_length(recognizer, extra):
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
    strung = torch.cat(list(log_probs_by_windows(recognizer, lambda: utterances, 4)))
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


# Batches


def test_no_batch_order_or_window_changes_a_word(recognizer, recordings):
    alone = {name: text for path in recordings for name, text in words(recognizer, path).items()}
    assert sum(map(len, alone.values())) > 50
    for options in ({}, {"batch_seconds": 5}, {"batch_seconds": 0.1}, {"window_seconds": 1.5}, {"window_seconds": 0.1}):
        assert words(recognizer, *recordings, **options) == alone
        assert words(recognizer, *reversed(recordings), **options) == alone


def test_one_bad_recording_leaves_the_others_alone(recognizer, recordings, tmp_path):
    whole = words(recognizer, *recordings)
    soundfile.write(tmp_path / "nan.wav", np.full(20000, np.nan), SAMPLE_RATE, subtype="FLOAT")
    (tmp_path / "text.wav").write_text("no audio")
    paths = [tmp_path / "nan.wav", *recordings, tmp_path / "text.wav", tmp_path / "missing.wav"]
    results = list(transcribe(recognizer, [Recording(path.stem, path) for path in paths]))
    assert {each.recording.name for each in results if isinstance(each, Failure)} == {"nan", "text", "missing"}
    assert {each.recording.name: each.text for each in results if isinstance(each, Transcript)} == whole


def test_progress_reaches_the_total(recognizer, recordings):
    seen: list[tuple[float, float]] = []
    words(recognizer, *recordings, window_seconds=2, batch_seconds=3, progress=lambda *pair: seen.append(pair))
    done = [pair[0] for pair in seen]
    assert done == sorted(done) and {total for _, total in seen} == {seen[-1][0]}


# Words


@pytest.mark.parametrize("kind", ["character", "bpe", "unigram"])
def test_words_are_those_of_the_tokenizer(kind):
    texts = ["RUBOUT ONE TWO", "ENTER FOUR", "A B C"] * 9
    if kind == "character":
        tokenizer = CharacterTokenizer.train(texts)
    else:
        tokenizer = SentencePieceTokenizer.train(texts, kind, {"bpe": 28, "unigram": 15}[kind])
    encoder = create_encoder("bl_resnet22", channels=(4, 8, 8, 16), input_size=20)
    recognizer = Recognizer(
        LogMel(n_mels=20, n_fft=400), SentenceNormalization(), CTCModel(encoder, tokenizer.size), tokenizer
    )
    generator = torch.Generator().manual_seed(0)
    for seed in range(5):
        path = torch.randint(0, tokenizer.size, (60,), generator=generator)
        log_probs = (5 * torch.nn.functional.one_hot(path, tokenizer.size).float()).log_softmax(-1)
        found = list(decode(recognizer.decoder(), log_probs.split(1 + seed * 7), lambda: 60 * 0.04))
        ids = [index for index, last in zip(path.tolist(), [0, *path.tolist()], strict=False) if index not in (0, last)]
        assert [word.text for word in found] == tokenizer.decode(ids).split()
        times = [time for word in found for time in (word.start, word.end)]
        assert times == sorted(times) and times[-1] <= 60 * 0.04
        assert all(0 <= word.confidence <= 1 for word in found)


@pytest.mark.parametrize("size", [1, 3, 50, 1000])
def test_a_pause_ends_a_word_and_lets_a_stream_print_it(recognizer, size):
    path = [2, 0, 3] + [0] * 19 + [4, 4] + [0] * 20 + [5] + [0] * 60
    log_probs = torch.nn.functional.one_hot(torch.tensor(path), TOKENIZER.size).float().log()
    heard = 0

    def pieces():
        nonlocal heard
        for piece in log_probs.split(size):
            heard += len(piece)
            yield piece

    found = {word.text: heard for word in decode(recognizer.decoder(), pieces(), lambda: len(path) * 0.04)}
    # 19 frames of 40 ms are no pause; 20 are.
    assert list(found) == ["ABC", "D"]
    assert found["ABC"] < 44 + size and found["D"] < 65 + size


# Command: output


def run(model_folder: Path, *arguments: object) -> int:
    return main(["transcribe", str(model_folder), *map(str, arguments)])


def test_text_is_the_words_alone_or_behind_names(model_folder, recognizer, recordings, capsys):
    expected = words(recognizer, *recordings)
    assert run(model_folder, recordings[1]) == 0
    assert capsys.readouterr().out == expected["r1"] + "\n"
    assert run(model_folder, *recordings) == 0
    out, err = capsys.readouterr()
    assert out == "".join(f"r{index}\t{expected[f'r{index}']}\n" for index in range(5)) and err == ""


@pytest.mark.parametrize("window", [60, 0.5])
def test_profile_shows_where_time_goes_and_changes_no_word(model_folder, recordings, capsys, window):
    assert run(model_folder, *recordings, "--window", window) == 0
    plain = capsys.readouterr().out
    assert run(model_folder, *recordings, "--window", window, "--profile") == 0
    profiled = capsys.readouterr()
    assert profiled.out == plain
    for activity in ("reading", "features", "encoder", "decoding", "not measured", "total"):
        assert f"\n{activity} " in profiled.err


def test_json_ctm_and_srt_say_the_same(model_folder, recordings, tmp_path, capsys):
    assert run(model_folder, *recordings, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["failures"] == []
    assert [each["name"] for each in found["transcripts"]] == [path.stem for path in recordings]
    assert run(model_folder, *recordings, "--format", "ctm") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert run(model_folder, *recordings, "--format", "srt", "--output", f"{tmp_path}/captions/") == 0
    for transcript in found["transcripts"]:
        spoken = transcript["words"]
        assert transcript["text"] == " ".join(word["word"] for word in spoken)
        times = [time for word in spoken for time in (word["start"], word["end"])]
        assert times == sorted(times) and all(0 <= time <= transcript["duration"] for time in times)
        assert all(0 <= word["confidence"] <= 1 for word in spoken)
        ctm = [line for line in lines if line[0] == transcript["name"]]
        assert [line[1] for line in ctm] == ["1"] * len(spoken) and [line[4] for line in ctm] == [
            word["word"] for word in spoken
        ]
        for line, word in zip(ctm, spoken, strict=True):
            assert float(line[2]) == word["start"]
            assert float(line[2]) + float(line[3]) == pytest.approx(word["end"])
            assert float(line[5]) == word["confidence"]
        captions = read_srt((tmp_path / "captions" / f"{transcript['name']}.srt").read_text())
        assert " ".join(text for _, _, text in captions) == transcript["text"]
        times = [time for start, end, _ in captions for time in (start, end)]
        assert times == sorted(times)


def read_srt(text: str) -> list[tuple[float, float, str]]:
    captions = []
    for number, block in enumerate(filter(None, text.split("\n\n")), start=1):
        head, clock, *lines = block.strip().split("\n")
        assert head == str(number) and len(lines) <= 2 and all(len(line) <= 42 for line in lines)
        found = re.fullmatch(r"(\d\d):(\d\d):(\d\d),(\d{3}) --> (\d\d):(\d\d):(\d\d),(\d{3})", clock)
        h, m, s, ms, *end = map(int, found.groups())
        start_seconds = 3600 * h + 60 * m + s + ms / 1000
        h, m, s, ms = end
        captions.append((start_seconds, 3600 * h + 60 * m + s + ms / 1000, " ".join(lines)))
    return captions


@pytest.mark.parametrize("form", FORMATS)
def test_output_is_a_file_or_a_folder(model_folder, recordings, tmp_path, capsys, form):
    suffix = FORMATS[form].suffix
    assert run(model_folder, recordings[1], "--format", form) == 0
    printed = capsys.readouterr().out
    assert run(model_folder, recordings[1], "--format", form, "--output", tmp_path / "one") == 0
    assert (tmp_path / "one").read_text() == printed
    assert run(model_folder, *recordings, "--format", form, "--output", f"{tmp_path}/all/") == 0
    assert sorted(os.listdir(tmp_path / "all")) == [f"{path.stem}{suffix}" for path in recordings]
    assert (tmp_path / "all" / f"r1{suffix}").read_text() == printed
    assert capsys.readouterr().out == ""


def test_inputs_are_folders_manifests_and_standard_input(model_folder, recordings, tmp_path, capsys, monkeypatch):
    assert run(model_folder, *recordings) == 0
    expected = capsys.readouterr().out
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for index, path in enumerate(recordings):
        path.rename(tmp_path / "deep" / ("er" if index % 2 else "") / path.name)
    (tmp_path / "deep" / "notes.txt").write_text("not audio")
    (tmp_path / "deep" / "._r0.wav").write_text("not audio")
    assert run(model_folder, tmp_path / "deep") == 0
    assert sorted(capsys.readouterr().out.replace("er/", "").splitlines()) == expected.splitlines()

    rows = "".join(f"{path.stem},{path.name}\n" for path in sorted((tmp_path / "deep").glob("r*.wav")))
    (tmp_path / "deep" / "list.csv").write_text("ID,wav\n" + rows.replace("r0,", "first,"))
    assert run(model_folder, tmp_path / "deep" / "list.csv") == 0
    lines = expected.splitlines()
    assert capsys.readouterr().out.splitlines() == [lines[0].replace("r0", "first"), lines[2], lines[4]]

    content = (tmp_path / "deep" / "er" / "r1.wav").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert run(model_folder, "-") == 0
    assert f"r1\t{capsys.readouterr().out}" == lines[1] + "\n"


# Command: what is refused


def change(content: bytes, place: int, value: int) -> bytes:
    return content[:place] + struct.pack("<I", value) + content[place + 4 :]


def boundaries(name: str, content: bytes) -> list[int]:
    """Where the parts of a header begin and end, and a place amid the samples."""
    if name == "sphere":
        places = [7, *(match.end() for match in re.finditer(rb"\n", content[:1024])), 1024]
    elif name == "wav":
        places = [4, 8, 12, 16, 20, 22, 24, 28, 32, 34, 36, 40, 44]
    else:
        places, last = [4], False
        while not last:
            start = places[-1]
            last, size = bool(content[start] & 0x80), int.from_bytes(content[start + 1 : start + 4], "big")
            places += [start + 1, start + 4, start + 4 + size]
    return [0, *places, len(content) // 2, len(content) - 1]


def bad_files() -> dict[str, Callable[[Path], Path]]:
    """Name of a case -> function that makes a bad file in a folder and returns its path."""
    samples = babble(0.5)
    cases: dict[str, Callable[[Path], Path]] = {}

    def add(name: str, file: str, make: Callable[[Path], object]) -> None:
        def case(folder: Path) -> Path:
            make(folder / file)
            return folder / file

        cases[name] = case

    def audio(samples: np.ndarray, rate: int = SAMPLE_RATE, **options: str) -> Callable[[Path], object]:
        return lambda path: soundfile.write(path, samples, rate, **options)

    def content(data: bytes) -> Callable[[Path], object]:
        return lambda path: path.write_bytes(data)

    whole = {}
    for name in ("wav", "flac"):
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, SAMPLE_RATE, format=name.upper())
        whole[name] = buffer.getvalue()
    whole["sphere"] = sphere(samples)
    for name, data in whole.items():
        for cut in boundaries(name, data):
            add(f"{name} cut at {cut}", f"cut.{name}", content(data[:cut]))
    add("empty", "empty.wav", content(b""))
    add("zero length", "zero.wav", audio(samples[:0]))
    add("all zero", "silence.wav", audio(np.zeros(8000)))
    add("not a number", "nan.wav", audio(np.full(8000, np.nan), subtype="FLOAT"))
    add("one infinity", "inf.wav", audio(np.append(samples, np.inf), subtype="FLOAT"))
    add("text", "text.wav", content(b"This is a text.\n" * 1000))
    add("JSON", "a.flac", content(b'{"audio": 1}'))
    add("header without format", "raw.raw", content(samples.tobytes()))
    add("3 Hz", "slow.wav", audio(samples, 3))
    add("2 GHz", "fast.wav", content(change(whole["wav"], 24, 2_000_000_000)))
    add("0 Hz", "still.wav", content(change(whole["wav"], 24, 0)))
    add("2 GB claim", "claim.wav", content(change(whole["wav"], 40, 0x7F000000)))
    add("65535 channels", "many.wav", content(whole["wav"][:22] + b"\xff\xff" + whole["wav"][24:]))
    add("missing", "missing.wav", lambda path: None)
    add("link to nowhere", "link.wav", lambda path: path.symlink_to("nowhere"))
    add("folder without audio", "folder", lambda path: path.mkdir())
    add("folder called audio", "folder.wav", lambda path: path.mkdir())
    add("text as manifest", "list.csv", content(b"a.wav\nb.wav\n"))
    add("binary manifest", "list.csv", content(whole["flac"]))
    add("empty manifest", "list.csv", content(b"ID,wav\n"))
    add("manifest with an ID twice", "list.csv", content(b"ID,wav\na,a.wav\na,b.wav\n"))
    add("short manifest line", "list.csv", content(b"ID,wav\na\n"))
    add("manifest of a folder", "list.csv", lambda path: path.write_text(f"ID,wav\na,{path.parent}\n"))
    return cases


BAD_FILES = bad_files()


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_input_is_one_sentence_and_leaves_nothing_behind(recognizer, tmp_path, capsys, monkeypatch, case):
    monkeypatch.setattr("biglittle_asr.inference.load_model", lambda folder, device: recognizer)
    path = BAD_FILES[case](tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert run(Path("model"), path, "--output", tmp_path / "out.txt") == 1
    out, err = capsys.readouterr()
    assert out == "" and sorted(tmp_path.rglob("*")) == before
    (line,) = err.splitlines()
    assert (
        line.startswith("biglittle: ") and line.endswith(".") and str(path) in line.replace(f"{tmp_path}: ", str(path))
    )


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="everything is readable to root")
def test_unreadable_file_is_one_sentence(model_folder, recordings, capsys):
    recordings[0].chmod(0)
    assert run(model_folder, recordings[0]) == 1
    assert "cannot be opened (Permission denied)" in capsys.readouterr().err


def test_many_bad_files_are_counted(model_folder, recordings, tmp_path, capsys):
    (tmp_path / "r9.wav").write_text("not audio")
    assert run(model_folder, tmp_path, "--json") == 1
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert len(found["transcripts"]) == 5 and [each["name"] for each in found["failures"]] == ["r9"]
    first, last = err.splitlines()
    assert str(tmp_path / "r9.wav") in first and "1 of 6 recordings could not be transcribed" in last


def test_wrong_requests_are_refused_before_the_work(model_folder, recordings, tmp_path, capsys):
    stereo = tmp_path / "stereo.wav"
    soundfile.write(stereo, np.stack([babble(0.5), np.zeros(8000)], axis=1), SAMPLE_RATE)
    hostile = tmp_path / "hostile.csv"
    hostile.write_text(f"ID,wav\n../../escaped,{recordings[0]}\n")
    twin = tmp_path / "twin" / "r0.flac"
    twin.parent.mkdir()
    soundfile.write(twin, babble(0.5), SAMPLE_RATE)
    for arguments, message in (
        ((stereo, "--channel", 3), "no channel 3"),
        ((stereo, "--channel", 2), "nothing but zeros in channel 2"),
        ((*recordings, "--format", "srt"), "one recording a file"),
        ((recordings[0], "--output", tmp_path / "no" / "out.txt"), "no such folder"),
        ((hostile, "--output", f"{tmp_path}/out/"), "no name for a file"),
        ((recordings[0], twin), "both called r0"),
        ((recordings[0], "--device", "abacus"), "abacus"),
    ):
        assert run(model_folder, *arguments) == 1, message
        out, err = capsys.readouterr()
        assert out == "" and message in err and err.count("\n") == 1, err
    assert not (tmp_path.parent / "escaped.txt").exists()


# Command: evaluate


def test_evaluate_scores_a_corpus_and_its_manifest_alike(model_folder, tiny_librispeech, tmp_path, capsys):
    for index, path in enumerate(sorted(tiny_librispeech.rglob("*.flac"))):
        write_container(path, babble(1, index))
    corpus = ["evaluate", str(model_folder), str(tiny_librispeech), "--corpus", "librispeech", "--split", "test-clean"]
    assert main([*corpus, "--json"]) == 0
    score = json.loads(capsys.readouterr().out)
    assert set(score) == {"all", "speakers", "labels"} and score["all"]["segments"] == 6
    assert set(score["speakers"]) == {"11", "12"} and "wer_low" in score["all"]
    assert main(["prepare", "librispeech", str(tiny_librispeech), str(tmp_path / "manifests")]) == 0
    capsys.readouterr()
    manifest = ["evaluate", str(model_folder), str(tmp_path / "manifests" / "test-clean.csv"), "--batch_seconds", "1"]
    assert main([*manifest, "--json", "--output", str(tmp_path / "wer.txt")]) == 0
    assert json.loads(capsys.readouterr().out) == score
    assert (tmp_path / "wer.txt").read_text().count("REF:") == 6
    assert main(manifest) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("speaker")

    bad = next(tiny_librispeech.rglob("11-77-0001.flac"))
    bad.write_text("not audio")
    assert main([*manifest, "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["all"]["segments"] == 5
    assert str(bad) in err and "1 of 6 utterances could not be transcribed" in err


def test_evaluate_refuses_what_is_no_data(model_folder, tiny_librispeech, tmp_path, capsys):
    (tmp_path / "list.csv").write_text("ID,wav\na,a.wav\n")
    (tmp_path / "missing.csv").write_text("ID,wav,wrd\na,a.wav,A\n")
    for arguments, message in (
        ((tiny_librispeech,), "name its corpus"),
        ((tiny_librispeech, "--corpus", "librispeech"), "no split test; choose one of dev-clean"),
        ((tiny_librispeech, "--corpus", "an5"), "Unknown corpus"),
        ((tmp_path / "list.csv",), "no column wrd"),
        ((tmp_path / "nowhere.csv",), "no such manifest"),
        ((tmp_path / "missing.csv",), "nothing to score"),
        ((tmp_path / "missing.csv", "--output", tmp_path / "no" / "wer.txt"), "no such folder"),
    ):
        assert main(["evaluate", str(model_folder), *map(str, arguments)]) == 1
        out, err = capsys.readouterr()
        assert out == "" and message in err and "Traceback" not in err, err


# Streaming


@pytest.fixture(scope="module")
def causal_folder(tmp_path_factory) -> Path:
    recognizer = make_recognizer(time_padding="causal", normalization="GlobalNormalization")
    return save_model(tmp_path_factory.mktemp("causal") / "model", recognizer)


@pytest.mark.parametrize("rate", [16000, 44100])
def test_streamed_words_are_those_of_the_whole_recording(causal_folder, tmp_path, capsys, rate):
    path = tmp_path / "a.wav"
    soundfile.write(path, babble(3.21, sample_rate=rate), rate)
    assert run(causal_folder, path) == 0
    expected = capsys.readouterr().out
    assert expected.count(" ") > 5
    assert run(causal_folder, path, "--stream") == 0
    assert capsys.readouterr().out == expected


def test_words_come_out_of_a_pipe_before_it_ends(causal_folder, tmp_path):
    soundfile.write(tmp_path / "a.wav", babble(2), SAMPLE_RATE)
    content = (tmp_path / "a.wav").read_bytes()
    os.mkfifo(tmp_path / "pipe")
    recognizer = load_model(causal_folder)
    (transcript,) = transcribe(recognizer, [Recording("a", tmp_path / "a.wav")])
    expected = [(word.text, word.start, word.end) for word in transcript.words]
    # Opened for both, so that neither end waits for the other; all of it fits into the pipe's buffer.
    pipe = os.open(tmp_path / "pipe", os.O_RDWR)
    try:
        os.write(pipe, content[:40000])
        stream = transcribe_stream(recognizer, find_stream(str(tmp_path / "pipe")))
        found = ((word.text, word.start, word.end) for word in stream)
        early = [next(found) for _ in range(3)]
        assert early == expected[:3]
        os.write(pipe, content[40000:])
    finally:
        os.close(pipe)
    assert [*early, *found] == expected


def test_models_that_cannot_stream_say_so(model_folder, causal_folder, recordings, capsys):
    assert run(model_folder, recordings[1], "--stream") == 1
    out, err = capsys.readouterr()
    assert out == "" and "cannot stream" in err and "causal" in err and err.count("\n") == 1
    for wrong in (recordings, [recordings[0], "--json"], [recordings[0], "--output", "a"]):
        assert run(causal_folder, *wrong, "--stream") == 1
        assert "one recording" in capsys.readouterr().err
