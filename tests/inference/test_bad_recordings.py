"""Whatever is given for audio: one sentence, exit status 1, and nothing left behind."""

from __future__ import annotations

import io
import json
import os
import re
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from biglittle_asr.inference import Failure, Recording, transcribe
from support.corpora import SAMPLE_RATE
from support.recognizers import babble, run, sphere


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
    add("2 GB claim", "claim.wav", content(change(whole["wav"], 40, 0x7E000000)))
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
    monkeypatch.setattr("biglittle_asr.inference.load_model", lambda *arguments: recognizer)
    path = BAD_FILES[case](tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert run(Path("model"), path, "--output", tmp_path / "out.txt") == 1
    out, err = capsys.readouterr()
    assert out == "" and sorted(tmp_path.rglob("*")) == before
    (line,) = err.splitlines()
    assert (
        line.startswith("biglittle: ") and line.endswith(".") and str(path) in line.replace(f"{tmp_path}: ", str(path))
    )


@pytest.fixture
def unprivileged_folder() -> Iterator[Path]:
    """An empty folder that anybody may enter, during a test that root, too, goes through as nobody."""
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        if root:
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            if root:
                os.seteuid(0)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_unreadable_file_is_one_sentence(recognizer, unprivileged_folder, capsys, monkeypatch):
    monkeypatch.setattr("biglittle_asr.inference.load_model", lambda *arguments: recognizer)
    path = unprivileged_folder / "secret.wav"
    soundfile.write(path, babble(0.5), SAMPLE_RATE)
    path.chmod(0)
    assert run(Path("model"), path) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{path}: cannot be opened (Permission denied)" in line


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


def test_failures_keep_no_audio(recognizer, tmp_path):
    paths = [tmp_path / f"{name}.wav" for name in ("good", "silence", "empty")]
    for path, samples in zip(paths, (babble(0.5), np.zeros(8000), babble(0)), strict=True):
        soundfile.write(path, samples, SAMPLE_RATE)
    failures = [each for each in transcribe(recognizer, list(map(Recording.of, paths))) if isinstance(each, Failure)]
    assert len(failures) == 2
    for failure in failures:
        error = failure.error
        while error is not None:
            # A traceback has the frames, and those have the batch.
            assert error.__traceback__ is None
            error = error.__cause__ or error.__context__
