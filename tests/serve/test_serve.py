"""The server, over loopback: words as `biglittle transcribe` has them, and clients that do not behave."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import openai
import pytest
import soundfile
import torch
import websockets.exceptions
from websockets.sync.client import ClientConnection, connect

from biglittle_asr.cli import main
from biglittle_asr.inference import Recognizer, load_model, save_model
from biglittle_asr.inference.streaming import ModelStream, step_together
from biglittle_asr.serve import Server, ServerSettings, transcriptions
from biglittle_asr.serve.server import bound_temporary_files
from biglittle_asr.serve.transcriptions import RESPONSES
from support.recognizers import babble, make_recognizer, run
from support.repository import REPOSITORY
from support.serving import MODEL, serving

END = json.dumps({"type": "end"})


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / MODEL
    save_model(folder, make_recognizer(normalization="GlobalNormalization", time_padding="causal"))
    return folder


@pytest.fixture(scope="module")
def recognizer(model_folder: Path) -> Recognizer:
    return load_model(model_folder)


@pytest.fixture(scope="module")
def server(recognizer: Recognizer) -> Iterator[Server]:
    with serving(recognizer, timeout=60) as server:
        yield server


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "talk.wav"
    soundfile.write(path, babble(4), 16000)
    return path


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test leaves a temporary file."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    yield
    assert eventually(lambda: not list(place.iterdir()))


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether a condition comes true, as it does at once unless the machine is very busy."""
    return any(condition() or time.sleep(0.02) for _ in range(3000))


def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.settings.token or "none", max_retries=0)


def place(server: Server) -> tuple[str, int]:
    parts = urlsplit(server.url)
    assert parts.hostname and parts.port
    return parts.hostname, parts.port


def ask(
    server: Server, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], str]:
    """Status, headers and text of a response."""
    connection = http.client.HTTPConnection(*place(server), timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, {key.lower(): value for key, value in response.getheaders()}, response.read().decode()
    finally:
        connection.close()


def message(text: str) -> str:
    """The sentence of an error."""
    error = json.loads(text)
    assert list(error) == ["error"] and list(error["error"]) == ["message"]
    assert re.fullmatch(r"[^\n]+\.", error["error"]["message"]) and "Traceback" not in text
    return error["error"]["message"]


def form(content: bytes, name: str = "talk.wav", **fields: str) -> tuple[bytes, dict[str, str]]:
    """A multipart form, and its headers."""
    parts = [f'--b\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{text}\r\n' for key, text in fields.items()]
    parts.append(f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n')
    body = "".join(parts).encode() + content + b"\r\n--b--\r\n"
    return body, {"Content-Type": "multipart/form-data; boundary=b"}


def upload(server: Server, content: bytes, **fields: str) -> tuple[int, dict[str, str], str]:
    return ask(server, "POST", "/v1/audio/transcriptions", *form(content, **fields))


def streaming(server: Server, rate: object = 16000, **options: Any) -> ClientConnection:
    url = f"{server.url.replace('http', 'ws')}/v1/stream?sample_rate={rate}"
    # A busy server answers pings behind the audio before them.
    return connect(url, open_timeout=60, close_timeout=60, ping_interval=None, **options)


def pcm(samples: np.ndarray) -> bytes:
    return np.round(samples * 32768).astype("<i2").tobytes()


def stream(server: Server, data: bytes, size: int, rate: int = 16000) -> list[dict[str, Any]]:
    """What the server says to audio in messages of a size."""
    with streaming(server, rate) as talk:
        for start in range(0, len(data), size):
            talk.send(data[start : start + size])
        talk.send(END)
        found = []
        # An error is followed by the end of the connection.
        with contextlib.suppress(websockets.exceptions.ConnectionClosedError):
            for each in talk:
                found.append(json.loads(each))
        return found


# Words


def words_of(response_format: str, response: Any) -> list[str]:
    if response_format in ("json", "verbose_json"):
        return response.text.split()
    lines = [line for line in response.splitlines() if "-->" not in line and not line.isdecimal() and line != "WEBVTT"]
    return " ".join(lines).split()


@pytest.mark.parametrize("response_format", RESPONSES)
def test_the_words_are_those_of_transcribe(
    server: Server,
    model_folder: Path,
    audio: Path,
    response_format: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(model_folder, audio) == 0
    expected = capsys.readouterr().out.split()
    assert len(expected) > 5
    with audio.open("rb") as file:
        response = client(server).audio.transcriptions.create(
            file=file, model=MODEL, response_format=response_format, language="en"
        )
    assert words_of(response_format, response) == expected


def test_verbose_json_has_the_times_that_are_asked_for(server: Server, recognizer: Recognizer, audio: Path) -> None:
    expected = recognizer.transcribe(audio)
    for granularities in (["word"], ["segment"], ["word", "segment"]):
        response = client(server).audio.transcriptions.create(
            file=audio,
            model=MODEL,
            response_format="verbose_json",
            timestamp_granularities=granularities,  # type: ignore[arg-type]
        )
        assert response.duration == expected.duration
        assert (response.words is not None, response.segments is not None) == tuple(
            each in granularities for each in ("word", "segment")
        )
        if response.words is not None:
            assert [(each.word, each.start, each.end) for each in response.words] == [
                (each.text, each.start, each.end) for each in expected.words
            ]
        if response.segments is not None:
            assert " ".join(each.text for each in response.segments) == expected.text


def test_the_model_is_listed(server: Server) -> None:
    assert [each.id for each in client(server).models.list()] == [MODEL]


@pytest.mark.parametrize(("rate", "size"), [(16000, 3001), (16000, 200_000), (8000, 1600), (44100, 8820), (16000, 1)])
def test_words_of_a_stream_are_those_of_the_recording(
    server: Server, recognizer: Recognizer, tmp_path: Path, rate: int, size: int
) -> None:
    samples = babble(3 if size > 1 else 0.1, sample_rate=rate)
    soundfile.write(tmp_path / "a.wav", samples, rate)
    expected = recognizer.transcribe(tmp_path / "a.wav")
    *words, end = stream(server, pcm(samples), size, rate)
    assert [(each["word"], each["start"], each["end"]) for each in words] == [
        (each.text, each.start, each.end) for each in expected.words
    ]
    assert end == {"type": "end", "duration": round(len(samples) / rate, 3)}


def test_words_come_before_the_end(server: Server) -> None:
    with streaming(server) as talk:
        talk.send(pcm(babble(4)))
        assert "word" in json.loads(talk.recv(timeout=60))


def test_a_stream_of_nothing_has_no_words(server: Server) -> None:
    assert stream(server, b"", 1) == [{"type": "end", "duration": 0.0}]


def test_streams_at_once_have_their_own_words(server: Server, recognizer: Recognizer) -> None:
    samples = [babble(2 + number / 3, seed=number) for number in range(6)]
    with ThreadPoolExecutor(len(samples)) as pool:
        found = pool.map(lambda each: stream(server, pcm(each), 6400), samples)
    for words, each in zip(found, samples, strict=True):
        expected = recognizer.transcribe(each, sample_rate=16000).text
        assert " ".join(word["word"] for word in words[:-1]) == expected


@torch.inference_mode()
def test_steps_of_several_streams_are_one_network_call(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    step = recognizer.model.step

    def counting(features: Any, state: Any) -> Any:
        batches.append(len(features))
        return step(features, state)

    features = torch.randn(3, 80, recognizer.compute_features.output_size)
    alone = [recognizer.model.step(each[None], recognizer.model.initial_state())[0][0] for each in features]
    monkeypatch.setattr(recognizer.model, "step", counting)
    streams = [ModelStream(recognizer.model) for _ in features]
    # The third stream begins later, and they are in step all the same.
    found: list[list[torch.Tensor]] = [[], [], []]
    for start in range(0, 96, 16):
        active = [0, 1] if start == 0 else [0, 1, 2] if start < 80 else [2]
        pieces = [features[row : row + 1, start - 16 * (row == 2) :][:, :16] for row in active]
        outputs = step_together([streams[row] for row in active], pieces, [False] * len(active))
        for row, each in zip(active, outputs, strict=True):
            found[row].append(each)
    assert batches == [2, 3, 3, 3, 3, 1]
    for pieces, expected in zip(found, alone, strict=True):
        torch.testing.assert_close(torch.cat(pieces), expected, atol=1e-4, rtol=1e-4)


# Refusals


def test_a_model_that_cannot_stream_says_so(audio: Path) -> None:
    with serving(make_recognizer()) as server:
        with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
            streaming(server)
        assert "cannot stream" in message(refused.value.response.body.decode())
        assert upload(server, audio.read_bytes())[0] == 200


@pytest.mark.parametrize("rate", ["", "0", "3999", "x", "1e4", "²", "9" * 30])
def test_a_stream_needs_a_sample_rate(server: Server, rate: str) -> None:
    with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
        streaming(server, rate)
    assert refused.value.response.status_code == 400
    assert message(refused.value.response.body.decode()).startswith("sample_rate: ")


@pytest.mark.parametrize("text", ["", "end", "[]", '{"type": "start"}', "[" * 100_000])
def test_a_stream_knows_one_text_message(server: Server, text: str) -> None:
    with streaming(server) as talk:
        talk.send(text)
        assert '{"type": "end"}' in message(str(talk.recv(timeout=60)))


@pytest.mark.parametrize(
    ("fields", "status", "word"),
    [
        ({"model": "other"}, 404, "model: "),
        ({"response_format": "xml"}, 400, "response_format: "),
        ({"stream": "true"}, 400, "stream: "),
        ({"timestamp_granularities[]": "letter"}, 400, "timestamp_granularities[]: "),
        ({str(number): "x" for number in range(40)}, 400, "fields"),
        ({"prompt": "x" * 100_000}, 400, "size"),
    ],
)
def test_forms_that_are_refused(server: Server, audio: Path, fields: dict[str, str], status: int, word: str) -> None:
    found, _, text = upload(server, audio.read_bytes(), **fields)
    assert found == status
    assert word in message(text)


@pytest.mark.parametrize("name", ["talk.wav", "../../../etc/passwd", "/etc/passwd", "a\\b", "a.m4a", "", "%00"])
def test_names_of_clients_do_not_matter(server: Server, audio: Path, name: str) -> None:
    body, headers = form(audio.read_bytes(), name)
    assert ask(server, "POST", "/v1/audio/transcriptions", body, headers)[0] == 200


@pytest.mark.parametrize("content", [b"", b"noise" * 1000, b"RIFF\xff\xff\xff\xffWAVEfmt ", bytes(100)])
def test_what_is_no_audio_is_refused(server: Server, content: bytes) -> None:
    status, _, text = upload(server, content)
    assert status == 400
    assert message(text).startswith("file: ")


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", "/", None, {}, 404),
        ("GET", "/v1/audio/transcriptions", None, {}, 405),
        ("POST", "/v1/audio/transcriptions", None, {}, 400),
        ("POST", "/v1/audio/transcriptions", b"{}", {"Content-Type": "application/json"}, 400),
        ("POST", "/v1/audio/transcriptions", b"x", {"Content-Type": "multipart/form-data"}, 400),
        ("POST", "/v1/audio/transcriptions", b"xyz", {"Content-Type": "multipart/form-data; boundary=b"}, 400),
        ("GET", "/v1/models", None, {"Origin": "http://example.org"}, 403),
    ],
)
def test_other_requests_are_refused(
    server: Server, method: str, path: str, body: Any, headers: dict[str, str], status: int
) -> None:
    found, _, text = ask(server, method, path, body, headers)
    assert found == status
    message(text)


def test_an_error_that_nobody_expected_is_one_sentence(
    server: Server, audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(transcriptions, "transcribe", fail)
    status, _, text = upload(server, audio.read_bytes())
    assert status == 500
    assert "secret" not in message(text)


# Tokens


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_other_machines_need_a_token(host: str) -> None:
    with pytest.raises(ValueError, match="token"):
        ServerSettings(host=host)
    assert "secret" not in repr(ServerSettings(host=host, token="secret"))


@pytest.mark.parametrize("token", ["", " ", "ä", "a\nb"])
def test_a_token_can_be_sent(token: str) -> None:
    with pytest.raises(ValueError, match="token"):
        ServerSettings(token=token)


def test_a_token_opens_everything(recognizer: Recognizer, audio: Path) -> None:
    with serving(recognizer, token="secret") as server:
        for sent in (None, "secret", "Bearer", "Bearer secre", "Bearer secret2", "Bearer s\xe9cret"):
            headers = {} if sent is None else {"Authorization": sent}
            for path in ("/v1/models", "/metrics", "/v1/audio/transcriptions", "/none"):
                status, _, text = ask(server, "GET", path, headers=headers)
                assert status == 401
                message(text)
            with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
                streaming(server, additional_headers=headers)
            assert refused.value.response.status_code == 401
        assert ask(server, "GET", "/healthz")[0] == 200
        assert client(server).audio.transcriptions.create(file=audio, model="whisper-1").text
        with streaming(server, additional_headers={"Authorization": "Bearer secret"}) as talk:
            talk.send(END)


# Limits


def test_large_and_long_uploads_are_refused(recognizer: Recognizer, audio: Path) -> None:
    content = audio.read_bytes()
    with serving(recognizer, max_upload=len(content) // 2) as server:
        status, _, text = upload(server, content)
        assert (status, "MB" in message(text)) == (413, True)
        body, headers = form(content)
        chunks = (body[start : start + 1000] for start in range(0, len(body), 1000))
        assert ask(server, "POST", "/v1/audio/transcriptions", chunks, headers)[0] == 413
    with serving(recognizer, max_duration=1.5) as server:
        status, _, text = upload(server, content)
        assert (status, "lasts 4 s" in message(text)) == (413, True)
        *_, last = stream(server, pcm(babble(2)), 6400)
        assert "longer" in last["error"]["message"]


def test_a_small_upload_cannot_fill_the_disk(server: Server) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        bound_temporary_files(ServerSettings(max_upload=1, max_duration=0.1))
        status, _, text = upload(server, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (status, "too long" in message(text)) == (413, True)


class Gate:
    """Holds transcriptions until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.opened = threading.Semaphore(0), threading.Event()
        real = transcriptions.transcribe

        def held(*arguments: Any, **options: Any) -> Any:
            self.entered.release()
            assert self.opened.wait(60)
            return real(*arguments, **options)

        monkeypatch.setattr(transcriptions, "transcribe", held)


def test_a_full_server_says_when_to_come_back(
    recognizer: Recognizer, audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, content = Gate(monkeypatch), audio.read_bytes()
    with serving(recognizer, max_queue=2, max_streams=1) as server, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(upload, server, content) for _ in range(2)]
        assert eventually(lambda: "biglittle_queue_length 2" in ask(server, "GET", "/metrics")[2])
        status, headers, text = upload(server, content)
        assert (status, headers["retry-after"].isdecimal(), "queue" in message(text)) == (503, True, True)
        with streaming(server) as talk:
            with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
                streaming(server)
            assert refused.value.response.status_code == 503
            assert refused.value.response.headers["Retry-After"].isdecimal()
            # Streams have their words meanwhile.
            talk.send(pcm(babble(2)))
            talk.send(END)
            assert len(list(talk)) > 1
        gate.opened.set()
        assert [each.result()[0] for each in waiting] == [200, 200]
        assert eventually(lambda: "biglittle_queue_length 0" in ask(server, "GET", "/metrics")[2])


def test_a_client_that_leaves_gives_its_place_up(
    recognizer: Recognizer, audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, (body, headers) = Gate(monkeypatch), form(audio.read_bytes())
    with serving(recognizer, max_queue=2) as server:
        for _ in range(5):
            connection = http.client.HTTPConnection(*place(server), timeout=60)
            connection.request("POST", "/v1/audio/transcriptions", body, headers)
            assert eventually(lambda: "biglittle_queue_length 1" in ask(server, "GET", "/metrics")[2])
            connection.close()
            assert eventually(lambda: "biglittle_queue_length 0" in ask(server, "GET", "/metrics")[2])
        gate.opened.set()
        assert upload(server, audio.read_bytes())[0] == 200


HEAD = b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\n"
UPGRADE = (
    b"GET /v1/stream?sample_rate=8000 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + bytes(2_000_000)
HOSTILE = {
    "silence": b"",
    "half a header": b"POST /v1/audio",
    "half a body": HEAD + b"Content-Length: 9000000\r\n\r\n" + PART,
    "half a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nfff\r\nabc",
    "a body longer than it says": HEAD + b"Content-Length: 10\r\n\r\n" + PART,
    "a length that is none": HEAD + b"Content-Length: -1\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "noise": bytes(range(256)) * 400,
    "a header without end": b"GET / HTTP/1.1\r\nA: " + b"a" * 200_000,
    "an upgrade to silence": UPGRADE,
    "an upgrade to noise": UPGRADE + bytes(range(256)) * 40,
    "a frame of an exabyte": UPGRADE + b"\x82\xff\x0f" + bytes(11),
    "a frame that is no text": UPGRADE + b"\x81\x82" + bytes(4) + b"\xff\xff",
}
"""Requests of clients that then send nothing more."""


@pytest.mark.slow
def test_clients_that_misbehave_harm_nobody(
    recognizer: Recognizer, audio: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with serving(recognizer, timeout=0.7) as server:
        sockets = {}
        for name, data in HOSTILE.items():
            sockets[name] = socket.create_connection(place(server), timeout=60)
            # The server may have hung up on it by now.
            try:
                sockets[name].sendall(data)
            except OSError:
                pass
        assert upload(server, audio.read_bytes())[0] == 200
        assert len(stream(server, pcm(babble(2)), 6400)) > 1
        for name, each in sockets.items():
            closed = False
            try:
                while each.recv(65536):
                    pass
                closed = True
            except TimeoutError:
                pass
            except OSError:
                closed = True
            assert closed, name
            each.close()
        assert eventually(lambda: not server.server_state.connections)
        lines = ask(server, "GET", "/metrics")[2].splitlines()
        assert {"biglittle_queue_length 0", "biglittle_streams 0"} <= set(lines)
    assert not caplog.records


@pytest.mark.slow
def test_fifty_streams_at_once_have_their_own_words_beside_bad_clients(
    recognizer: Recognizer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    samples = [babble(1 + number % 7 / 4, seed=number) for number in range(50)]
    expected = [recognizer.transcribe(each, sample_rate=16000).text for each in samples]
    assert len(set(expected)) > 40 and all(expected)
    bad = {
        "hangs after some audio": UPGRADE + b"\x82\x84" + bytes(8),
        "says more than it sends": UPGRADE + b"\x82\xfe\x10\x00" + bytes(100),
        "sends noise": UPGRADE + np.random.default_rng(0).bytes(20_000),
    }
    with (
        serving(recognizer, timeout=60, max_streams=len(samples) + len(bad)) as server,
        contextlib.ExitStack() as stack,
    ):
        for data in bad.values():
            client = stack.enter_context(socket.create_connection(place(server), timeout=60))
            # The server may hang up on noise before it has all of it.
            with contextlib.suppress(OSError):
                client.sendall(data)
        with ThreadPoolExecutor(len(samples)) as pool:
            found = list(pool.map(lambda each: stream(server, pcm(each), 3200), samples))
    for (*words, end), text, each in zip(found, expected, samples, strict=True):
        assert " ".join(word["word"] for word in words) == text
        assert end == {"type": "end", "duration": round(len(each) / 16000, 3)}
    assert not caplog.records


def test_streams_that_break_off_free_their_places(recognizer: Recognizer) -> None:
    with serving(recognizer, max_streams=1) as server:
        for _ in range(3):
            talk = socket.create_connection(place(server), timeout=60)
            talk.sendall(UPGRADE + b"\x82\xfe\x10")
            assert talk.recv(65536).startswith(b"HTTP/1.1 101 ")
            talk.close()
            assert eventually(lambda: "biglittle_streams 0" in ask(server, "GET", "/metrics")[2])
        assert stream(server, b"", 1)


# Metrics


def test_metrics_count(recognizer: Recognizer, audio: Path) -> None:
    with serving(recognizer) as server:
        assert upload(server, audio.read_bytes())[0] == 200
        assert upload(server, b"")[0] == 400
        stream(server, pcm(babble(1)), 6400)
        status, headers, text = ask(server, "GET", "/metrics")
    assert (status, headers["content-type"].split(";")[0]) == (200, "text/plain")
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    typed = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
    assert {name.partition("{")[0] for name in values} == typed
    assert values['biglittle_requests_total{status="200"}'] == values['biglittle_requests_total{status="101"}'] == "1"
    assert values['biglittle_requests_total{status="400"}'] == "1"
    assert float(values['biglittle_audio_seconds_total{kind="transcriptions"}']) == 4
    assert float(values['biglittle_audio_seconds_total{kind="streams"}']) == pytest.approx(1)
    assert float(values['biglittle_compute_seconds_total{kind="streams"}']) > 0


# The end


def test_at_the_end_running_requests_finish_and_waiting_ones_are_refused(
    recognizer: Recognizer, audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, content = Gate(monkeypatch), audio.read_bytes()
    with serving(recognizer) as server, ThreadPoolExecutor(2) as pool:
        running = pool.submit(upload, server, content)
        assert gate.entered.acquire(timeout=60)
        waiting = pool.submit(upload, server, content)
        assert eventually(lambda: "biglittle_queue_length 2" in ask(server, "GET", "/metrics")[2])
        with streaming(server) as talk:
            server.should_exit = True
            status, _, text = waiting.result(60)
            assert (status, "shutting down" in message(text)) == (503, True)
            with pytest.raises(websockets.exceptions.ConnectionClosed):
                talk.recv(timeout=60)
        gate.opened.set()
        assert running.result(60)[0] == 200


def begin(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "biglittle_asr.cli", "serve", *map(str, arguments)]
    return subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_the_command(model_folder: Path, audio: Path, number: int, status: int) -> None:
    process = begin(model_folder, "--port", 0)
    assert process.stderr is not None
    line = process.stderr.readline()
    url = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert url, line + process.stderr.read()
    assert (
        openai.OpenAI(base_url=f"{url[0]}/v1", api_key="none").audio.transcriptions.create(file=audio, model=MODEL).text
    )
    process.send_signal(number)
    assert process.wait(60) == status
    assert process.stderr.read() == ""


def test_the_command_says_why_it_cannot_serve(
    model_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for arguments in (
            ["--port", str(taken.getsockname()[1])],
            ["--host", "0.0.0.0"],
            ["--token", ""],
            ["--host", "no.such.host.invalid", "--token", "a"],
            ["--page", str(model_folder)],
            ["--page", str(model_folder), "--token", "a"],
        ):
            assert main(["serve", str(model_folder), *arguments]) == 1
            assert re.fullmatch(r"biglittle: [^\n]+\n", capsys.readouterr().err)


def test_a_page_is_offered_beside_the_rest(recognizer: Recognizer, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<!doctype html>")
    (tmp_path / "main.js").write_text("export {};")
    (tmp_path.parent / "secret").write_text("none of the page")
    with serving(recognizer, page=tmp_path) as server:
        for path, status, text in (
            ("/", 200, "<!doctype html>"),
            ("/main.js", 200, "export {};"),
            ("/healthz", 200, "ok\n"),
            ("/none.js", 404, "There is nothing at this path."),
            ("/../secret", 404, "There is nothing at this path."),
            ("/%2e%2e/secret", 404, "There is nothing at this path."),
        ):
            found, _, content = ask(server, "GET", path)
            assert (found, text in content) == (status, True), path
