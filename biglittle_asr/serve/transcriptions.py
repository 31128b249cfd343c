"""`POST /v1/audio/transcriptions`: recordings in the form of OpenAI's API, transcribed one by one in a thread."""

from __future__ import annotations

import asyncio
import errno
import math
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from biglittle_asr.inference import Failure, Recognizer, Recording, Transcript, transcribe
from biglittle_asr.inference.transcripts import FORMATS, captions, word_object
from biglittle_asr.serve.guard import RETRY_AFTER, SHUTTING_DOWN
from biglittle_asr.serve.metrics import TRANSCRIPTIONS, Metrics
from biglittle_asr.serve.settings import ServerSettings

OTHER_NAMES = frozenset({"whisper-1"})
"""Names of models that clients send if they cannot be told another."""
GRANULARITIES = ("segment", "word")
LABEL = "file"
"""Name of an upload in messages: that of the form's field, as the client's own name for it is never used."""
MAX_FIELDS, MAX_FIELD_BYTES = 32, 65536
"""Limits of the form, besides the file."""


class _Abandoned(Exception):
    """Nobody waits for the transcript any more."""


def _verbose(transcript: Transcript, options: Options) -> dict[str, Any]:
    found: dict[str, Any] = {
        "task": "transcribe",
        "language": options.language,
        "duration": round(transcript.duration, 3),
        "text": transcript.text,
    }
    if "word" in options.granularities:
        found["words"] = [word_object(word) for word in transcript.words]
    if "segment" in options.granularities:
        found["segments"] = [
            {
                "id": number,
                "seek": 0,
                "start": words[0].start,
                "end": words[-1].end,
                "text": " ".join(word.text for word in words),
                "tokens": [],
                "temperature": 0.0,
                "avg_logprob": sum(math.log(max(word.confidence, 1e-10)) for word in words) / len(words),
                "compression_ratio": 1.0,
                "no_speech_prob": 0.0,
            }
            for number, words in enumerate(captions(transcript.words))
        ]
    return found


RESPONSES: dict[str, Callable[[Transcript, Options], Response]] = {
    "json": lambda transcript, options: JSONResponse({"text": transcript.text}),
    "text": lambda transcript, options: PlainTextResponse(FORMATS["text"].one(transcript)),
    "srt": lambda transcript, options: PlainTextResponse(FORMATS["srt"].one(transcript)),
    "vtt": lambda transcript, options: PlainTextResponse(FORMATS["vtt"].one(transcript)),
    "verbose_json": lambda transcript, options: JSONResponse(_verbose(transcript, options)),
}
"""Response formats by their name in OpenAI's API."""


@dataclass(frozen=True)
class Options:
    """What a request asks for."""

    upload: UploadFile
    response_format: str
    granularities: tuple[str, ...]
    language: str
    """As the client gave it, for the model knows its own."""

    @classmethod
    def of(cls, form: FormData, model: str) -> Options:
        """Read a form.

        Raises
        ------
        HTTPException
            If a field is missing or not known (400), or another model is asked for (404).
        """
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise HTTPException(400, "file: is missing; send the audio as a file of a multipart form.")
        fields = {key: value for key, value in form.multi_items() if isinstance(value, str)}
        asked = fields.get("model", model)
        if asked != model and asked not in OTHER_NAMES:
            raise HTTPException(404, f"model: this server has {model!r} only.")
        response_format = fields.get("response_format", "json")
        if response_format not in RESPONSES:
            raise HTTPException(400, f"response_format: take one of {', '.join(RESPONSES)}.")
        if fields.get("stream", "false").lower() not in ("false", "0"):
            raise HTTPException(400, "stream: is not supported here; live audio has the WebSocket /v1/stream.")
        given = tuple(str(each) for each in form.getlist("timestamp_granularities[]"))
        if not set(given) <= set(GRANULARITIES):
            raise HTTPException(400, f"timestamp_granularities[]: take {' and '.join(GRANULARITIES)}.")
        return cls(upload, response_format, given or GRANULARITIES, fields.get("language", "unknown"))


class Transcriptions:
    """Transcribes uploads one after another, in a thread.

    Arguments
    ---------
    recognizer : Recognizer
    model : str
        Its name.
    settings : ServerSettings
    metrics : Metrics
    """

    def __init__(self, recognizer: Recognizer, model: str, settings: ServerSettings, metrics: Metrics) -> None:
        self.recognizer, self.model, self.settings, self.metrics = recognizer, model, settings, metrics
        self._executor = ThreadPoolExecutor(1, "transcriptions")
        self._closing = asyncio.Event()
        self._stopped = threading.Event()

    async def respond(self, request: Request) -> Response:
        """Respond to a request."""
        with self._place():
            async with request.form(max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES) as form:
                options = Options.of(form, self.model)
                transcript = await self._transcript(options.upload.file, request)
        return RESPONSES[options.response_format](transcript, options)

    def close(self) -> None:
        """Refuse requests that wait, as the server is shutting down; the one that is computing goes on."""
        self._closing.set()

    def stop(self) -> None:
        """Give up the one that is computing at the end of its window, and wait for that."""
        self._stopped.set()
        self._executor.shutdown(cancel_futures=True)

    @contextmanager
    def _place(self) -> Iterator[None]:
        """A place in the queue, taken before the upload, so that the uploads are no more than the queue is long."""
        if self._closing.is_set():
            raise HTTPException(503, SHUTTING_DOWN, RETRY_AFTER)
        if self.metrics.queue >= self.settings.max_queue:
            raise HTTPException(
                503, f"The queue of {self.settings.max_queue} transcriptions is full; try again later.", RETRY_AFTER
            )
        self.metrics.queue += 1
        try:
            yield
        finally:
            self.metrics.queue -= 1

    async def _transcript(self, upload: BinaryIO, request: Request) -> Transcript:
        abandoned = threading.Event()
        job = self._executor.submit(self._transcribe, upload, abandoned)
        done: asyncio.Future[Any] = asyncio.wrap_future(job)
        gone: asyncio.Future[Any] = asyncio.ensure_future(request.receive())
        closing: asyncio.Future[Any] = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait({done, gone, closing}, return_when=asyncio.FIRST_COMPLETED)
            if closing.done() and not done.done() and not job.cancel():
                await asyncio.wait({done, gone}, return_when=asyncio.FIRST_COMPLETED)
            if done.done() and not done.cancelled():
                transcript: Transcript = done.result()
                return transcript
            raise ClientDisconnect if gone.done() else HTTPException(503, SHUTTING_DOWN, RETRY_AFTER)
        finally:
            abandoned.set()
            for task in (done, gone, closing):
                task.cancel()

    def _transcribe(self, upload: BinaryIO, abandoned: threading.Event) -> Transcript:
        """Transcribe an upload; runs in the thread."""

        def check(done: float, total: float) -> None:
            if abandoned.is_set() or self._stopped.is_set():
                raise _Abandoned

        start = time.perf_counter()
        try:
            check(0, 0)
            with NamedTemporaryFile(prefix="biglittle") as copy:
                shutil.copyfileobj(upload, copy)
                copy.flush()
                recording = Recording(LABEL, Path(copy.name), label=LABEL)
                duration = recording.duration()
                if duration > self.settings.max_duration:
                    raise HTTPException(
                        413,
                        f"{LABEL}: lasts {duration:.0f} s, longer than the limit of this server, "
                        f"{self.settings.max_duration:g} s.",
                    )
                (result,) = transcribe(self.recognizer, [recording], progress=check)
            if isinstance(result, Failure):
                raise result.error
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        except OSError as error:
            if error.errno == errno.EFBIG:
                raise HTTPException(413, f"{LABEL}: is too long when it is decoded.") from error
            if error.errno is None:
                raise HTTPException(400, str(error)) from error
            raise
        except _Abandoned:
            raise HTTPException(503, SHUTTING_DOWN, RETRY_AFTER) from None
        finally:
            self.metrics.compute_seconds[TRANSCRIPTIONS] += time.perf_counter() - start
        self.metrics.audio_seconds[TRANSCRIPTIONS] += duration
        return result
