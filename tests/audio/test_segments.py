"""Utterances that are parts of longer recordings: what is read of a file, and that nothing else is."""

from __future__ import annotations

import csv
import shutil
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from biglittle_asr.audio.files import AudioFile, Segment, read_audio
from biglittle_asr.corpora import checks
from biglittle_asr.corpora.manifest import COLUMNS, SEGMENT_COLUMNS, read_manifest, write_manifests
from biglittle_asr.corpora.utterance import Utterance

RATE = 8000
SECONDS = 4.0


def samples() -> np.ndarray:
    """Two channels of noise, (S, 2), different at every moment."""
    return 0.3 * np.random.default_rng(5).uniform(-1, 1, (round(SECONDS * RATE), 2))


def sphere(coding: str, content: bytes, num_samples: int, channels: int = 2) -> bytes:
    """A SPHERE file, byte by byte."""
    fields = (
        f"NIST_1A\n   1024\nsample_count -i {num_samples}\nsample_n_bytes -i 1\nchannel_count -i {channels}\n"
        f"sample_byte_format -s1 1\nsample_rate -i {RATE}\nsample_coding -s{len(coding)} {coding}\nend_head\n"
    )
    return fields.encode().ljust(1024) + content


def mu_law(waveform: np.ndarray, folder: Path) -> bytes:
    soundfile.write(folder / "mu-law.raw", waveform, RATE, format="RAW", subtype="ULAW")
    return (folder / "mu-law.raw").read_bytes()


@pytest.fixture(params=["wav", "flac", "sph"])
def recording(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"call.{request.param}"
    if request.param == "sph":
        path.write_bytes(sphere("ulaw", mu_law(samples(), tmp_path), round(SECONDS * RATE)))
    else:
        soundfile.write(path, samples(), RATE)
    return path


def utterances(recording: Path, split: str, times: list[tuple[float, float | None]]) -> list[Utterance]:
    return [
        Utterance(f"{split}{number}", recording, split, "YES", "list:1", Segment(1 + number % 2, *span))
        for number, span in enumerate(times)
    ]


def test_a_segment_is_that_part_of_that_channel(recording: Path) -> None:
    whole, _ = soundfile.read(recording, dtype="float32")
    generator = np.random.default_rng(1)
    for _ in range(20):
        first, last = sorted(generator.integers(0, len(whole) + 1, 2))
        channel = int(generator.integers(2))
        if first < last:
            part, rate = read_audio(recording, Segment(channel + 1, first / RATE, (last - first) / RATE))
            assert rate == RATE and np.array_equal(part, whole[first:last, channel])
    assert np.array_equal(read_audio(recording, Segment(2, 1.5))[0], whole[round(1.5 * RATE) :, 1])


@pytest.mark.parametrize(
    "segment, fault, problem",
    [
        (Segment(3), "channels", "no channel 3, but 2 in all"),
        (Segment(0), "channels", "no channel 0, but 2 in all"),
        (Segment(None, 1.0, 1.0), "channels", "2 channels where one is expected"),
        (Segment(1, 3.5, 1.0), "times", "lasts 4.00 s and has no segment from 3.50 to 4.50 s"),
        (Segment(1, 5.0), "times", "no segment from 5.00 to 4.00 s"),
        (Segment(1, -1.0, 2.0), "times", "no segment from -1.00 to 1.00 s"),
        (Segment(1, 2.0, -1.0), "times", "no segment from 2.00 to 1.00 s"),
        (Segment(1, 2.0, 0.0), "times", "no segment from 2.00 to 2.00 s"),
    ],
)
def test_a_segment_that_is_not_there(recording: Path, segment: Segment, fault: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as error:
        read_audio(recording, segment)
    assert error.value.fault == fault
    assert str(error.value).startswith(f"{recording}: ") and str(error.value).endswith(".")


def test_a_file_is_opened_once_for_all_of_its_segments(recording: Path, tmp_path: Path, monkeypatch) -> None:
    opened: list[Path] = []

    class Counting(AudioFile):
        def __init__(self, path: Path) -> None:
            opened.append(path)
            super().__init__(path)

    monkeypatch.setattr(checks, "AudioFile", Counting)
    other = tmp_path / f"other{recording.suffix}"
    shutil.copy(recording, other)
    times = [(0.1 * number, 0.5) for number in range(20)]
    splits = {"train": utterances(recording, "train", times), "test": utterances(other, "test", times)}
    write_manifests("calls", splits, tmp_path / "out")
    assert sorted(opened) == sorted([recording, other])


def test_manifests_say_where_segments_are(recording: Path, tmp_path: Path) -> None:
    times = [(0.0, 1.0), (1.25, 0.5), (3.0, 1.2), (3.0, 2.0), (2.0, -0.5)]
    splits = {name: utterances(recording, name, times) for name in ("train", "test")}
    manifests = write_manifests("calls", splits, tmp_path / "out")
    train, test = (read_manifest(manifests[name], COLUMNS + SEGMENT_COLUMNS) for name in ("train", "test"))
    # One ends just behind the file, and is cut; two are elsewhere.
    assert [(row["channel"], row["start"], row["duration"]) for row in train] == [
        ("1", "0.0", "1.0"),
        ("2", "1.25", "0.5"),
        ("1", "3.0", "1.0"),
    ]
    assert [row["duration"] for row in test] == ["1.0", "0.5", "1.0", "0.0", "0.0"]
    with (tmp_path / "out" / "report.csv").open(newline="") as file:
        report = list(csv.DictReader(file))
    assert [(row["ID"], row["fault"], row["action"]) for row in report] == [
        ("train3", "times", "left out"),
        ("train4", "times", "left out"),
        ("test3", "times", "kept"),
        ("test4", "times", "kept"),
    ]


def test_training_and_evaluation_read_the_segment(recording: Path, tmp_path: Path) -> None:
    from biglittle_asr.inference.audio import Recording
    from biglittle_asr.inference.inputs import find_recordings
    from biglittle_asr.tasks.speech.data import AudioReader, Utterances, build_dataset
    from biglittle_asr.tokens.tokenizer import CharacterTokenizer

    times = [(0.0, 1.0), (1.25, 0.5), (3.0, None), (2.0, -0.5)]
    manifest = write_manifests("calls", {"test": utterances(recording, "test", times)}, tmp_path / "out")["test"]
    whole, _ = soundfile.read(recording, dtype="float32")
    expected = [whole[:RATE, 0], whole[round(1.25 * RATE) : round(1.75 * RATE), 1], whole[3 * RATE :, 0]]
    for cache in (False, True):
        dataset = build_dataset(manifest, AudioReader(RATE, cache), CharacterTokenizer("ESY"))
        for _ in range(2):
            *examples, failure = (Utterances(dataset, seed=1)[number] for number in range(4))
            for example, samples in zip(examples, expected, strict=True):
                assert np.array_equal(example["sig"].numpy(), samples)
            assert "no segment" in failure.reason
    recordings = find_recordings([str(manifest)], tmp_path)
    for found, samples in zip(recordings, expected, strict=False):
        assert np.array_equal(found.read(RATE), samples) and found.duration() == len(samples) / RATE
        pieces = list(found.blocks(RATE, block_seconds=0.1))
        assert np.array_equal(np.concatenate(pieces), samples)
    with pytest.raises(ValueError, match="no segment"):
        recordings[3].duration()
    assert find_recordings([str(recording)], tmp_path) == [Recording("call", recording)]


def test_a_manifest_whose_segments_are_no_numbers(recording: Path, tmp_path: Path) -> None:
    from biglittle_asr.inference.inputs import find_recordings

    for row in ("a,1.0,x.wav,A,0.5", "a,1.0,x.wav,1,half", "a,1.0,x.wav,1,nan", "a,,x.wav,1,0.5"):
        (tmp_path / "a.csv").write_text(f"ID,duration,wav,channel,start\n{row}\n")
        with pytest.raises(ValueError, match=r"a\.csv:2: (channel|start|duration) is .*, but must be a number"):
            find_recordings([str(tmp_path / "a.csv")], tmp_path)


# Shorten


@pytest.fixture
def compressed(tmp_path: Path) -> Path:
    """A file whose header says that Shorten packed it; what is in it only our decoder of below can read."""
    # The length of the string is wrong by one in LDC's headers, too.
    header = sphere("ulaw,embedded-shorten-v2.00", b"", round(SECONDS * RATE)).replace(b"-s27 ", b"-s26 ")
    path = tmp_path / "sw02001.sph"
    path.write_bytes(header + mu_law(samples(), tmp_path))
    return path


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, body: str) -> None:
    """Put a program on the path, and nothing else."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
    (folder / name).chmod((folder / name).stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder))


DECODE = """
import struct
path = sys.argv[{place}]
expected = {arguments}
assert [word for word in sys.argv[1:] if word != path] == expected, sys.argv
content = open(path, "rb").read()[1024:]
chunk = struct.pack("<4sIHHIIHH", b"fmt ", 16, 7, 2, 8000, 16000, 2, 8)
riff = struct.pack("<4sI4s", b"RIFF", {size}, b"WAVE")
sys.stdout.buffer.write(riff + chunk + struct.pack("<4sI", b"data", {size}) + content)
"""


@pytest.mark.parametrize(
    "program, place, arguments, size",
    [
        ("sph2pipe", -1, ["-f", "wav", "-p"], "len(content)"),
        # Into a pipe it writes no length.
        (
            "ffmpeg",
            5,
            ["-v", "error", "-nostdin", "-i", "-c:a", "pcm_s16le", "-f", "wav", "-"],
            "0xFFFFFFFF",
        ),
    ],
)
def test_compressed_files_are_decoded_by_what_is_installed(
    compressed: Path, tmp_path: Path, monkeypatch, program: str, place: int, arguments: list[str], size: str
) -> None:
    install(monkeypatch, tmp_path / "bin", program, DECODE.format(place=place, arguments=arguments, size=size))
    plain = tmp_path / "plain.sph"
    plain.write_bytes(sphere("ulaw", mu_law(samples(), tmp_path), round(SECONDS * RATE)))
    for segment in (Segment(1), Segment(2, 1.0, 0.5)):
        assert np.array_equal(read_audio(compressed, segment)[0], read_audio(plain, segment)[0])


def test_compressed_files_without_a_decoder(compressed: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        ValueError, match="compressed by Shorten; install sph2pipe or ffmpeg, which decode it."
    ) as error:
        read_audio(compressed, Segment(1))
    assert str(error.value).startswith(f"{compressed}: ")
    install(monkeypatch, tmp_path / "bin", "ffmpeg", "sys.exit('[aist#0:0/none @ 0x5] unknown coding\\nmore')")
    with pytest.raises(ValueError, match=r"ffmpeg cannot decode it \(unknown coding\); install sph2pipe, or replace"):
        read_audio(compressed, Segment(1))


def shorten(samples: np.ndarray) -> bytes:
    """16-bit samples (S, C) in Shorten's format, version 2, as far as this needs it: blocks without prediction.

    Numbers are Rice codes: as many zeros as the quotient, a one, the remainder.
    """
    bits: list[int] = []

    def rice(number: int, width: int) -> None:
        bits.extend([0] * (number >> width) + [1] + [number >> place & 1 for place in reversed(range(width))])

    def counted(number: int) -> None:
        rice(max(1, number.bit_length()), 2)
        rice(number, max(1, number.bit_length()))

    # Little-endian samples, channels, block size, no linear prediction, no mean, nothing skipped.
    for number in (5, samples.shape[1], len(samples), 0, 0, 0):
        counted(number)
    for channel in samples.T.tolist():
        rice(0, 2)
        rice(10, 3)
        for sample in channel:
            rice(sample << 1 if sample >= 0 else ~sample << 1 | 1, 11)
    rice(4, 2)
    return b"ajkg\x02" + np.packbits(bits + [0] * (-len(bits) % 32)).tobytes()


@pytest.mark.skipif(shutil.which("sph2pipe") is None and shutil.which("ffmpeg") is None, reason="no decoder installed")
def test_a_real_decoder(tmp_path: Path) -> None:
    content = np.round(8192 * samples()[:250]).astype(np.int16)
    header = sphere("pcm,embedded-shorten-v2.00", b"", len(content)).replace(b"n_bytes -i 1", b"n_bytes -i 2")
    path = tmp_path / "a.sph"
    header = header.replace(b"byte_format -s1 1", b"byte_format -s2 01").rstrip(b" ").ljust(1024)
    path.write_bytes(header + shorten(content))
    for channel in (1, 2):
        assert np.array_equal(read_audio(path, Segment(channel))[0] * 32768, content[:, channel - 1])


def test_compressed_files_that_are_cut_off(compressed: Path, tmp_path: Path, monkeypatch) -> None:
    code = DECODE.format(place=-1, arguments=["-f", "wav", "-p"], size="len(content)")
    install(monkeypatch, tmp_path / "bin", "sph2pipe", code)
    compressed.write_bytes(compressed.read_bytes()[:-RATE])
    with pytest.raises(ValueError, match="holds 28000 of the 32000 samples"):
        read_audio(compressed, Segment(1))
