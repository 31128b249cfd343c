"""Audio is read whole, whatever wrote it, or refused: the same samples in blocks, by segments, and from a pipe."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from biglittle_asr.audio import containers
from biglittle_asr.audio.files import STANDARD_INPUT, AudioFile, AudioFileError, Segment, read_audio
from biglittle_asr.corpora.checks import inspect_audio
from biglittle_asr.inference.audio import Recording
from support.corpora import SAMPLE_RATE
from support.recognizers import babble, run

FIRST, SECOND = babble(2.5), babble(1.2, seed=1)


def encoded(samples: np.ndarray = FIRST, form: str = "WAV", subtype: str = "PCM_16", **options: object) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE, format=form, subtype=subtype, **options)
    return buffer.getvalue()


def with_number(content: bytes, place: int, value: int, form: str = "<I") -> bytes:
    packed = struct.pack(form, value)
    return content[:place] + packed + content[place + len(packed) :]


WAV, FLOAT_WAV = encoded(), encoded(subtype="FLOAT")
PEAK_WAV = FLOAT_WAV[:12] + FLOAT_WAV[FLOAT_WAV.index(b"fmt ") :]
DATA = FLOAT_WAV.index(b"data")
FLAC = encoded(form="FLAC")
# STREAMINFO holds the number of samples in 36 bits, and a checksum of them behind it.
UNKNOWN_FLAC = FLAC[:21] + bytes([FLAC[21] & 0xF0]) + bytes(4 + 16) + FLAC[42:]
AU, CAF, AIFF = encoded(form="AU"), encoded(form="CAF"), encoded(form="AIFF")
CAF_DATA, AIFF_DATA = CAF.index(b"data"), AIFF.index(b"SSND")
VBR = {"bitrate_mode": "VARIABLE", "compression_level": 0.9}
MP3 = encoded(form="MP3", subtype="MPEG_LAYER_III", **VBR)
SECOND_MP3 = encoded(SECOND, form="MP3", subtype="MPEG_LAYER_III", **VBR)


def without_tag(mp3: bytes) -> bytes:
    """An MP3 file as it goes into a pipe: without the frame in front that tells how many follow."""
    frame = containers._frame(mp3[:4])
    assert frame is not None and mp3[frame.tag_place : frame.tag_place + 4] in (b"Xing", b"Info")
    return mp3[frame.bytes :]


assert PEAK_WAV.index(b"PEAK") < PEAK_WAV.index(b"data")
SIZES = (0, 0x7FFF0000, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
LOSSLESS = {
    **{f"WAV of {size:#x} bytes": with_number(with_number(WAV, 4, size), 40, size) for size in SIZES},
    **{f"WAV {size} bytes too long": with_number(WAV, 40, len(WAV) - 44 + size) for size in (16, 44)},
    "RIFF of no size": with_number(WAV, 4, 0),
    "floating-point WAV of no size": with_number(FLOAT_WAV, DATA + 4, 0),
    "FLAC": FLAC,
    "FLAC of unknown length": UNKNOWN_FLAC,
    "AU of no size": with_number(AU, 8, 0, ">I"),
    "AU of unknown size": with_number(AU, 8, 0xFFFFFFFF, ">I"),
    "CAF of unknown size": with_number(CAF, CAF_DATA + 4, -1, ">q"),
    "AIFF of no size": with_number(AIFF, AIFF_DATA + 4, 0, ">I"),
    "AIFF by SoX in a pipe": with_number(AIFF, AIFF_DATA + 4, 0x7F000008, ">I"),
    **{form: encoded(form=form) for form in ("WAV", "AIFF", "AU", "W64", "RF64", "CAF")},
}
"""Files that hold FIRST."""

LOSSY = {
    "MP3": MP3,
    "MP3 of small frames": encoded(
        form="MP3", subtype="MPEG_LAYER_III", bitrate_mode="CONSTANT", compression_level=0.99
    ),
    "MP3 without number of frames": without_tag(MP3),
    "MP3 with a tag": b"ID3\x04\0\0\0\0\x02\x00" + bytes(256) + MP3 + b"TAG" + bytes(125),
    "joined MP3": MP3 + SECOND_MP3,
    "joined MP3 without number of frames": without_tag(MP3) + without_tag(SECOND_MP3),
    "Vorbis": encoded(form="OGG", subtype="VORBIS"),
    "Opus": encoded(form="OGG", subtype="OPUS"),
    "chained Vorbis": encoded(form="OGG", subtype="VORBIS") + encoded(SECOND, form="OGG", subtype="VORBIS"),
    "chained Opus": encoded(form="OGG", subtype="OPUS") + encoded(SECOND, form="OGG", subtype="OPUS"),
    "GSM": encoded(subtype="GSM610"),
    "IMA ADPCM": encoded(subtype="IMA_ADPCM"),
}
WHOLE = {**LOSSLESS, **LOSSY}
OPEN_ENDED = [name for name in LOSSLESS if re.search("of no size|of unknown size|0x|in a pipe", name)]
"""Files that do not say how much they hold, so that nobody can tell whether something is missing at the end."""


@pytest.fixture(params=WHOLE)
def whole(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    (tmp_path / "a").write_bytes(WHOLE[request.param])
    return tmp_path / "a"


@pytest.mark.parametrize("case", LOSSLESS)
def test_all_samples_are_read_whatever_the_header_says(tmp_path, case):
    path = tmp_path / "a"
    path.write_bytes(LOSSLESS[case])
    np.testing.assert_array_equal(read_audio(path)[0], FIRST)
    np.testing.assert_array_equal(Recording("a", path).read(SAMPLE_RATE), FIRST)
    with AudioFile(path) as file:
        assert file.num_samples == len(FIRST)
    (inspection,) = inspect_audio(path)
    assert inspection.findings == () and inspection.duration == len(FIRST) / SAMPLE_RATE


@pytest.mark.parametrize("parts", [[FIRST], [FIRST, SECOND]])
@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_a_chain_is_its_links(tmp_path, subtype, parts):
    links = [encoded(part, form="OGG", subtype=subtype) for part in parts]
    (tmp_path / "a").write_bytes(b"".join(links))
    expected = np.concatenate([soundfile.read(io.BytesIO(link), dtype="float32")[0] for link in links])
    np.testing.assert_array_equal(read_audio(tmp_path / "a")[0], expected)


@pytest.mark.parametrize("strip", [without_tag, bytes])
def test_joined_mp3_holds_all_recordings(tmp_path, strip):
    (tmp_path / "a").write_bytes(strip(MP3) + strip(SECOND_MP3))
    samples, _ = read_audio(tmp_path / "a")
    place = 0
    for content in (MP3, SECOND_MP3):
        # As libsndfile decodes it by itself, less what overlaps with the neighbours.
        part = soundfile.read(io.BytesIO(content), dtype="float32")[0][2000:-2000]
        windows = np.lib.stride_tricks.sliding_window_view(samples[place:], 1000)[:12000]
        found = place + int(np.abs(windows - part[:1000]).sum(axis=1).argmin())
        np.testing.assert_allclose(samples[found : found + len(part)], part, atol=1e-4)
        place = found + len(part)


def test_blocks_and_segments_are_the_whole(whole):
    with AudioFile(whole) as file:
        samples = np.concatenate(list(file.blocks()))[:, 0]
        assert len(samples) == file.num_samples
        for size in (999, 4096):
            np.testing.assert_allclose(np.concatenate(list(file.blocks(size)))[:, 0], samples, atol=1e-6)
        for first in (0, 1, 1151, 20000, len(samples) - 800, 5000):
            segment = Segment(start=first / SAMPLE_RATE, duration=800 / SAMPLE_RATE)
            np.testing.assert_allclose(file.read(segment), samples[first : first + 800], atol=1e-6)
    for first in (0, 20000):
        segment = Segment(start=first / SAMPLE_RATE, duration=800 / SAMPLE_RATE)
        np.testing.assert_allclose(read_audio(whole, segment)[0], samples[first : first + 800], atol=1e-6)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("case", WHOLE)
def test_a_part_is_never_taken_for_the_whole(tmp_path, case, part):
    whole, content = tmp_path / "a", WHOLE[case]
    whole.write_bytes(content)
    expected = read_audio(whole)[0]
    whole.write_bytes(content[: int(len(content) * part) - 3])
    try:
        found = Recording("a", whole).read(SAMPLE_RATE)
    except AudioFileError as error:
        assert str(error).startswith(f"{whole}: ") and "seek" not in str(error)
        assert inspect_audio(whole)[0].findings
        return
    assert len(found) == len(expected) or case in OPEN_ENDED


class _Content:
    """The bytes of a file that is none."""

    def __init__(self, content: bytes) -> None:
        self.content, self.size = content, len(content)

    def at(self, place: int, count: int) -> bytes:
        return self.content[place : place + count]


def test_joined_flac_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(FLAC + FLAC)
    for read in (lambda: read_audio(tmp_path / "a"), lambda: Recording("a", tmp_path / "a").read(SAMPLE_RATE)):
        with pytest.raises(AudioFileError, match="several FLAC files"):
            read()


def test_chained_recordings_that_differ_are_refused(tmp_path):
    other = io.BytesIO()
    soundfile.write(other, SECOND, 8000, format="OGG", subtype="VORBIS")
    (tmp_path / "a").write_bytes(LOSSY["Vorbis"] + other.getvalue())
    with pytest.raises(AudioFileError, match="16000 and 8000 Hz"):
        read_audio(tmp_path / "a")


def test_a_long_wav_header_becomes_rf64():
    header = FLOAT_WAV[: DATA + 8]
    content = containers.wav_header(header, "<", 5 * 2**30)
    with soundfile.SoundFile(
        containers.View(
            containers.StreamBytes(os.open(os.devnull, os.O_RDONLY)), containers.Part(content, 0, 5 * 2**30)
        )
    ) as sound:
        assert (sound.frames, sound.samplerate, sound.subtype) == (5 * 2**28, SAMPLE_RATE, "FLOAT")


def test_channels_that_cancel_out_are_told_from_silence(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([FIRST, -FIRST], axis=1), SAMPLE_RATE)
    with pytest.raises(ValueError, match="cancel each other out .* --channel 1"):
        Recording("a", tmp_path / "a.wav").read(SAMPLE_RATE)
    np.testing.assert_array_equal(Recording("a", tmp_path / "a.wav", 1).read(SAMPLE_RATE), FIRST)
    soundfile.write(tmp_path / "a.wav", np.zeros((1000, 2)), SAMPLE_RATE)
    with pytest.raises(ValueError, match="nothing but zeros"):
        Recording("a", tmp_path / "a.wav").read(SAMPLE_RATE)


# Other programs


def call(*words: object, feed: Path | None = None) -> bytes:
    """What a program writes into a pipe; the test is skipped where it is not installed."""
    if shutil.which(str(words[0])) is None:
        pytest.skip(f"needs {words[0]}")
    return subprocess.run([*map(str, words)], input=feed and feed.read_bytes(), capture_output=True, check=True).stdout


def ffmpeg(source: Path, *words: object) -> bytes:
    return call("ffmpeg", "-v", "error", "-nostdin", "-i", source, *words)


WRITERS: dict[str, Callable[[Path], bytes]] = {
    "lame": lambda path: call("lame", "--quiet", "-V4", path, "-"),
    "lame CBR": lambda path: call("lame", "--quiet", "-b", 64, "-t", path, "-"),
    "flac": lambda path: call("flac", "--silent", "-c", "-", feed=path),
    "sox WAV": lambda path: call("sox", path, "-t", "wav", "-"),
    "sox AIFF": lambda path: call("sox", path, "-t", "aiff", "-"),
    "sox AU": lambda path: call("sox", path, "-t", "au", "-"),
    "sox SPHERE": lambda path: call("sox", path, "-t", "sph", "-"),
    "sox GSM": lambda path: call("sox", path, "-e", "gsm-full-rate", "-t", "wav", "-"),
    **{
        f"ffmpeg {form}": lambda path, form=form: ffmpeg(path, "-f", form, "-")
        for form in ("wav", "flac", "mp3", "ogg", "opus", "w64", "aiff", "au", "caf", "adts", "matroska", "webm")
    },
}
"""Programs that write into a pipe and so cannot go back to fill in a length."""


@pytest.mark.slow
@pytest.mark.parametrize("writer", WRITERS)
def test_what_programs_write_into_pipes_is_read_whole(tmp_path, writer):
    source, path = tmp_path / "a.wav", tmp_path / "b"
    soundfile.write(source, FIRST, SAMPLE_RATE)
    path.write_bytes(WRITERS[writer](source))
    samples, rate = read_audio(path)
    # Codecs fill up their last block, and some put a delay in front.
    assert 0 <= len(samples) / rate - len(FIRST) / SAMPLE_RATE < 0.15
    judge = judged(path, rate)
    assert judge is None or abs(len(samples) - len(judge)) < 0.05 * rate


def judged(path: Path, rate: int) -> np.ndarray | None:
    """What ffmpeg decodes; None where it is not installed, or does not know what it wrote itself (W64, AIFF)."""
    if shutil.which("ffmpeg") is None:
        return None
    words = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(path), "-ar", str(rate), "-f", "f32le", "-"]
    done = subprocess.run(words, capture_output=True, check=False)
    return np.frombuffer(done.stdout, dtype="float32") if done.returncode == 0 else None


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".m4a", ".mp4", ".webm", ".mka", ".aac", ".wma"])
def test_what_libsndfile_does_not_know_ffmpeg_decodes(tmp_path, suffix, monkeypatch):
    soundfile.write(tmp_path / "a.wav", FIRST, SAMPLE_RATE)
    path = tmp_path / f"a{suffix}"
    ffmpeg(tmp_path / "a.wav", path)
    samples, rate = read_audio(path)
    assert -0.01 < len(samples) / rate - len(FIRST) / SAMPLE_RATE < 0.2
    content = path.read_bytes()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(AudioFileError, match="needs ffmpeg; install it, or convert"):
        read_audio(path)
    monkeypatch.undo()
    path.write_bytes(content[: len(content) // 2])
    try:
        cut, _ = read_audio(path)
    except AudioFileError as error:
        assert "ffmpeg cannot decode whole" in str(error)
    else:
        # AAC and live Matroska do not say how long they are.
        assert len(cut) < len(samples) and suffix in (".aac", ".webm", ".mka", ".wma")


# Pipes


@pytest.fixture
def standard_input() -> Iterator[socket.socket]:
    """The other end of a socket that standard input is, as node gives it to programs."""
    near, far = socket.socketpair()
    saved = os.dup(0)
    os.dup2(far.fileno(), 0)
    far.close()
    try:
        yield near
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        near.close()


@pytest.mark.parametrize("case", ["WAV", "FLAC", "AU", "AIFF", "WAV of 0x0 bytes", "WAV of 0xffffffff bytes"])
def test_standard_input_may_be_a_socket(standard_input, case):
    content = WHOLE[case]
    sender = threading.Thread(target=lambda: (standard_input.sendall(content), standard_input.close()))
    sender.start()
    samples = Recording("stdin", STANDARD_INPUT, label="standard input").read(SAMPLE_RATE)
    sender.join()
    np.testing.assert_array_equal(samples, FIRST)


@pytest.mark.parametrize("sent", [0, 20, 20000])
def test_a_silent_pipe_can_be_interrupted(standard_input, sent):
    standard_input.sendall(WAV[:sent])
    # Shells have what they start in the background ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            Recording("stdin", STANDARD_INPUT).read(SAMPLE_RATE)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("options", [[], ["--stream"]])
def test_closed_standard_input_is_one_sentence(recognizer, capsys, monkeypatch, options):
    monkeypatch.setattr("biglittle_asr.inference.load_model", lambda *arguments: recognizer)
    monkeypatch.setattr("sys.stdin", None)
    assert run(Path("model"), "-", *options) == 1
    assert capsys.readouterr().err.startswith("biglittle: standard input: is closed; ")
