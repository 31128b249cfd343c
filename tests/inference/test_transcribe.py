"""Transcription: no batch changes a word, every format says the same words, and streams say them as they come."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from biglittle_asr.cli import command_parser
from biglittle_asr.decoding import Word
from biglittle_asr.features import FORMS, LogMel, SentenceNormalization
from biglittle_asr.inference import Recognizer, load_model, save_model
from biglittle_asr.inference.audio import Recording
from biglittle_asr.inference.inputs import find_stream
from biglittle_asr.inference.streaming import transcribe_stream
from biglittle_asr.inference.transcription import Failure, Transcript, decode, transcribe
from biglittle_asr.inference.transcripts import FORMATS
from biglittle_asr.models import CTCModel, create_encoder
from biglittle_asr.tokens.tokenizer import CharacterTokenizer, SentencePieceTokenizer
from support.corpora import SAMPLE_RATE
from support.recognizers import TOKENIZER, babble, make_recognizer, run, words
from support.terminal import Terminal
from support.transcript_formats import READERS, WORDS

# Batches


@pytest.mark.slow
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


# In Python


@pytest.mark.parametrize("rate", [8000, 22050, SAMPLE_RATE])
def test_samples_give_the_words_of_their_file(recognizer, tmp_path, rate):
    samples = babble(3, seed=5, sample_rate=rate)
    soundfile.write(tmp_path / "a.wav", samples, rate)
    expected = recognizer.transcribe(str(tmp_path / "a.wav"))
    found = recognizer.transcribe(samples, sample_rate=rate)
    assert found.words == expected.words and len(found.text) > 5 and found.duration == expected.duration == 3
    assert recognizer.transcribe(torch.from_numpy(samples[None]), sample_rate=rate, window_seconds=1).text == found.text
    assert recognizer.transcribe(Recording("a", tmp_path / "a.wav")).text == found.text


def test_a_list_has_everything_in_its_order_and_failures_in_their_place(recognizer, recordings, tmp_path):
    (tmp_path / "text.wav").write_text("no audio")
    whole = words(recognizer, *recordings)
    found = recognizer.transcribe((recordings[1], tmp_path / "text.wav", recordings[0], recordings[1]))
    assert [each.recording.name for each in found] == ["r1", "text", "r0", "r1"]
    assert [found[index].text for index in (0, 2, 3)] == [whole["r1"], whole["r0"], whole["r1"]]
    assert isinstance(found[1], Failure)
    for name in ("text", "words"):
        with pytest.raises(ValueError, match="text.wav: not readable as audio"):
            getattr(found[1], name)
    with pytest.raises(ValueError, match="text.wav: not readable as audio"):
        recognizer.transcribe(tmp_path / "text.wav")
    assert recognizer.transcribe([]) == []


def test_a_channel_is_chosen_in_python(recognizer, tmp_path):
    left, right = babble(2, seed=1), babble(2, seed=2)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, right], axis=1), SAMPLE_RATE)
    found = [recognizer.transcribe(tmp_path / "stereo.wav", channel=channel).text for channel in (1, 2, None)]
    alone = [recognizer.transcribe(each, sample_rate=SAMPLE_RATE).text for each in (left, right, (left + right) / 2)]
    assert found == alone and len(set(found)) == 3


SOUND = np.sin(np.arange(8000, dtype=np.float32))


@pytest.mark.parametrize(
    "audio, options, message",
    [
        (SOUND, {}, "samples: need their rate in Hz"),
        ([SOUND, SOUND], {}, "samples 1: need their rate"),
        (SOUND, {"sample_rate": 16000.5}, "must be a whole number of Hz"),
        (SOUND, {"sample_rate": 16}, "samples: sampled at 16 Hz"),
        (SOUND, {"sample_rate": 16000, "channel": 2}, "leave out channel"),
        (
            np.stack([SOUND, SOUND]),
            {"sample_rate": 16000},
            r"\(2, 8000\), whose rows may be channels or utterances",
        ),
        (np.stack([SOUND, SOUND], 1), {"sample_rate": 16000}, "give the mean of the channels"),
        (SOUND[:0], {"sample_rate": 16000}, "there are none"),
        (0 * SOUND, {"sample_rate": 16000}, "samples: holds nothing but zeros"),
        (SOUND * np.nan, {"sample_rate": 16000}, r"a sample at 0\.00 s is not a finite number"),
        ((SOUND * 9000).astype(np.int32), {"sample_rate": 16000}, "are of the type int32"),
        (SOUND * 9000, {"sample_rate": 16000}, "reach .*, but the full scale of floats is 1"),
        ("a.wav", {"sample_rate": 16000}, "a.wav: is no array of samples, so it has a rate of its own"),
        ("missing.wav", {}, "missing.wav: no such audio file"),
        (1.0, {}, "audio is a float, but must be a path"),
        (iter(["a.wav"]), {}, "but must be a path, a NumPy array, a tensor, or a list"),
        ("PIPE", {}, "is a pipe, which cannot be read twice"),
    ],
)
def test_what_is_not_clear_is_refused_in_a_sentence(recognizer, tmp_path, audio, options, message):
    if isinstance(audio, str) and audio == "PIPE":
        audio = tmp_path / "pipe"
        os.mkfifo(audio)
    with pytest.raises((OSError, TypeError, ValueError), match=message) as caught:
        recognizer.transcribe(audio, **options)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_a_recognizer_in_training_is_refused(tmp_path):
    recognizer = make_recognizer().train()
    with pytest.raises(ValueError, match="training mode; call its eval"):
        recognizer.transcribe(SOUND, sample_rate=SAMPLE_RATE)


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


def test_text_is_the_words_alone_or_behind_names(model_folder, recognizer, recordings, capsys):
    expected = words(recognizer, *recordings)
    assert run(model_folder, recordings[1]) == 0
    assert capsys.readouterr().out == expected["r1"] + "\n"
    assert run(model_folder, *recordings) == 0
    out, err = capsys.readouterr()
    assert out == "".join(f"r{index}\t{expected[f'r{index}']}\n" for index in range(5)) and err == ""


def test_a_terminal_shows_progress_and_the_same_words(model_folder, recordings, capsys):
    with redirect_stderr(Terminal()) as terminal:
        assert run(model_folder, *recordings) == 0
    assert "transcribing: 100%|" in terminal.getvalue() and "| 8/8 s of audio" in terminal.getvalue()
    assert capsys.readouterr().out.count("\n") == len(recordings)


@pytest.mark.slow
@pytest.mark.parametrize("window", [60, 0.5])
def test_profile_shows_where_time_goes_and_changes_no_word(model_folder, recordings, capsys, window):
    assert run(model_folder, *recordings, "--window", window) == 0
    plain = capsys.readouterr().out
    assert run(model_folder, *recordings, "--window", window, "--profile") == 0
    profiled = capsys.readouterr()
    assert profiled.out == plain
    for activity in ("reading", "features", "encoder", "decoding", "not measured", "total"):
        assert f"\n{activity} " in profiled.err


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_says_what_was_recognized(model_folder, recognizer, recordings, tmp_path, form):
    assert run(model_folder, *recordings, "--format", form, "--output", f"{tmp_path}/out/") == 0
    for path in recordings:
        spoken = recognizer.transcribe(path)
        spans = READERS[form]((tmp_path / "out" / f"{path.stem}{FORMATS[form].suffix}").read_text())
        assert " ".join(text for _, _, text in spans) == spoken.text
        if form in WORDS:
            assert [text for _, _, text in spans] == [word.text for word in spoken.words]
            found = [time for span in spans for time in span[:2]]
            assert found == pytest.approx([time for word in spoken.words for time in (word.start, word.end)])


def test_a_table_of_several_recordings_has_all(model_folder, recordings, capsys):
    assert run(model_folder, *recordings, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["failures"] == []
    assert [each["name"] for each in found["transcripts"]] == [path.stem for path in recordings]
    assert run(model_folder, *recordings, "--format", "ctm") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [(line[0], line[4]) for line in lines] == [
        (each["name"], word["word"]) for each in found["transcripts"] for word in each["words"]
    ]


ODD = ("A", "R&B", "<UNK>", "-->", "&amp;", "Ä", "日本", "O'ER", "#0", "A-B", "\u00a0x", "ANTIDISESTABLISHMENTARIANISM")
"""Words with what formats use for themselves, and with letters of two to four bytes."""


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("form", FORMATS)
def test_formats_keep_every_word_and_their_times_increase(form, seed):
    rng = np.random.default_rng(seed)
    words, time = [], 3600.0 * (seed % 3)
    for _ in range(rng.integers(1, 60) if seed else 0):
        # Pauses, words that touch, and words of transducers that have no duration.
        time += rng.choice([0.0, 0.04, 0.4, 2.0, 9.0], p=[0.3, 0.3, 0.2, 0.1, 0.1])
        duration = rng.choice([0.0, 0.04, 0.3])
        words.append(Word(str(rng.choice(ODD)), round(time, 3), round(time + duration, 3), 0.5))
        time += duration
    transcript = Transcript(Recording("a", Path("a.wav")), time + 0.1, tuple(words))
    spans = READERS[form](FORMATS[form].one(transcript))
    assert " ".join(text for _, _, text in spans) == transcript.text
    starts, ends = [start for start, _, _ in spans], [end for _, end, _ in spans]
    assert starts == sorted(starts) and ends == sorted(ends)
    assert all(start <= end for start, end in zip(starts, ends, strict=True))
    assert len(words) > 0 or form == "text" or not spans
    if form != "text":
        first = {word.start for word in words}
        assert all(any(start == pytest.approx(time) for time in first) for start in starts)


def test_every_format_can_be_read_and_asked_for():
    assert list(READERS) == list(FORMATS)
    for form in FORMATS:
        assert command_parser().parse_args(["transcribe", "MODEL", "a.wav", "--format", form]).format == form


@pytest.mark.slow
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


def test_what_a_folder_walk_leaves_out_is_told(model_folder, recordings, tmp_path, capsys):
    folder = tmp_path / "folder"
    (folder / "inner" / "@eaDir").mkdir(parents=True)
    recordings[1].rename(folder / "inner" / "r1.wav")
    for name in ("._r1.wav", ".DS_Store", "@eaDir/r1.wav", "notes.txt", "more.txt", "film.mov", "README"):
        (folder / "inner" / name).write_text("not audio")
    (folder / "linked").symlink_to(tmp_path)
    os.mkfifo(folder / "live.wav")
    assert run(model_folder, folder) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    linked, pipe, others = sorted(err.splitlines(), key=lambda line: ("linked" in line, "pipe" in line), reverse=True)
    assert f"{folder / 'linked'}: left out, for it is a link" in linked
    assert f"{folder / 'live.wav'}: left out, for it is a pipe" in pipe
    assert f"{folder}: 4 files left out" in others and "2 .txt" in others and "1 .mov" in others


def test_a_terminal_without_unicode_shows_escapes(model_folder, recordings, tmp_path, monkeypatch):
    shutil.copy(recordings[1], tmp_path / "日.wav")
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="latin-1"))
    assert run(model_folder, recordings[1], tmp_path / "日.wav") == 0
    sys.stdout.flush()
    first, second = buffer.getvalue().decode("latin-1").splitlines()
    assert second == first.replace("r1", r"\u65e5")


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", [b"caf\xe9.wav", b"two\nlines.wav", "naïve.wav".encode()])
def test_no_file_name_costs_a_batch_its_words(model_folder, recordings, tmp_path, capsys, form, name):
    folder = tmp_path / "folder"
    folder.mkdir()
    for path in recordings[1:3]:
        path.rename(folder / path.name)
    odd = os.fsencode(folder) + b"/" + name
    shutil.copy(folder / "r1.wav", odd)
    status = run(model_folder, folder, "--format", form, "--output", f"{tmp_path}/out/")
    _, err = capsys.readouterr()
    suffix = FORMATS[form].suffix.encode()
    written = set(os.listdir(os.fsencode(tmp_path / "out")))
    assert {b"r1" + suffix, b"r2" + suffix} <= written
    if b"\n" in name:
        assert status == 1 and "'two\\nlines' is no name for a file" in err and len(written) == 2
    else:
        assert status == 0 and name.removesuffix(b".wav") + suffix in written
    if FORMATS[form].several is not None:
        assert run(model_folder, folder, "--format", form, "--output", tmp_path / "all") == 0
        (tmp_path / "all").read_bytes().decode("utf-8")
        assert run(model_folder, folder, "--format", form) == 0
        assert capsys.readouterr().out == (tmp_path / "all").read_text(encoding="utf-8")


# Streaming


@pytest.fixture(scope="module", params=FORMS)
def causal_folder(request, tmp_path_factory) -> Path:
    recognizer = make_recognizer(time_padding="causal", normalization="GlobalNormalization", form=request.param)
    return save_model(tmp_path_factory.mktemp("causal") / "model", recognizer)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [16000, 44100])
def test_streamed_words_are_those_of_the_whole_recording(causal_folder, tmp_path, capsys, rate):
    path = tmp_path / "a.wav"
    soundfile.write(path, babble(3.21, sample_rate=rate), rate)
    assert run(causal_folder, path) == 0
    expected = capsys.readouterr().out
    assert expected.count(" ") > 5
    assert run(causal_folder, path, "--stream") == 0
    assert capsys.readouterr().out == expected


@pytest.mark.slow
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
    for wrong in (recordings, [recordings[0], "--output", "a"]):
        assert run(causal_folder, *wrong, "--stream") == 1
        assert "one recording" in capsys.readouterr().err
