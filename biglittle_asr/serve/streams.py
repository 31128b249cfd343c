"""`/v1/stream`: live audio over a WebSocket. One thread computes all streams, and stacks the steps of those in step."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import torch
from starlette.exceptions import HTTPException
from starlette.websockets import WebSocket, WebSocketDisconnect
from torch import Tensor

from biglittle_asr.audio.resample import SAMPLE_RATES, Resampler, Samples
from biglittle_asr.decoding import Word
from biglittle_asr.inference import Recognizer
from biglittle_asr.inference.audio import FULL_SCALE_INT16
from biglittle_asr.inference.streaming import check_streams, step_together
from biglittle_asr.inference.transcripts import word_object
from biglittle_asr.messages import first_line
from biglittle_asr.serve.guard import RETRY_AFTER, SHUTTING_DOWN, error_object
from biglittle_asr.serve.metrics import STREAMS, Metrics
from biglittle_asr.serve.settings import ServerSettings

STEP_FRAMES = 16
"""Feature frames per step (0.16 s). A multiple of the encoders' alignment, so that streams are in step, and stay so,
whenever they began."""
PIECE_SECONDS = (0.01, 0.5)
"""Least and most audio to compute at once: less completes no frame of features, and the first words of a long message
do not wait for its last."""
LONGEST_MESSAGE = 2**20
"""Bytes."""
SAMPLE_BYTES = 2
POLICY_VIOLATION = 1008
"""Code of RFC 6455 with which the server closes a stream after an error."""


class Session:
    """One stream: from samples to features that wait for a step, and from the step's outputs to words.

    Arguments
    ---------
    recognizer : Recognizer
    sample_rate : int
        Hz.
    """

    def __init__(self, recognizer: Recognizer, sample_rate: int) -> None:
        self.recognizer, self.sample_rate = recognizer, sample_rate
        self.num_samples = 0
        self.words: list[Word] = []
        self._received: deque[Samples | None] = deque()
        self._resampled = Resampler(sample_rate, recognizer.sample_rate)(self._blocks())
        compute: Any = recognizer.compute_features
        self._waveform = compute.initial_state()
        self._features = self._waveform[0].new_zeros(1, 0, compute.output_size)
        self.network = recognizer.stream()
        self._decoder = recognizer.decoder()
        self._ended = self._finished = False

    @property
    def duration(self) -> float:
        """Seconds received."""
        return self.num_samples / self.sample_rate

    def accept(self, samples: Samples | None) -> None:
        """Take the next samples (S,); None ends the stream."""
        self._received.append(samples)
        if samples is not None:
            self.num_samples += len(samples)
            blocks = [next(self._resampled)]
        else:
            blocks = list(self._resampled)
        compute, normalize = self.recognizer.compute_features, self.recognizer.normalize
        for block in blocks:
            waveform = torch.from_numpy(block)[None].to(self._features.device)
            features, self._waveform = compute.step(waveform, self._waveform)
            self._wait(normalize.step(features))  # type: ignore[operator]
        if samples is None:
            self._ended = True
            if self.num_samples:
                self._wait(normalize.step(compute.finish(self._waveform)))  # type: ignore[operator]

    def next_step(self) -> tuple[Tensor, bool] | None:
        """Features (1, T, F) of the next step, and whether it is the last; None if there are too few yet."""
        if self._finished:
            return None
        if self._features.shape[1] >= STEP_FRAMES:
            step, self._features = self._features[:, :STEP_FRAMES], self._features[:, STEP_FRAMES:]
            return step, False
        self._finished = self._ended
        return (self._features, True) if self._ended else None

    def decode(self, outputs: Tensor) -> None:
        """Find the words that the outputs (T', V) of a step settle."""
        self.words += self._decoder.decode(outputs)
        if self._finished:
            self.words += self._decoder.finish(self.duration)

    def take_words(self) -> list[Word]:
        """The words found since the last call."""
        words, self.words = self.words, []
        return words

    def _wait(self, features: Tensor) -> None:
        self._features = torch.cat([self._features, features], 1)

    def _blocks(self) -> Iterator[Samples]:
        while (block := self._received.popleft()) is not None:
            yield block


class StreamWorker(threading.Thread):
    """Computes all streams: in each round one step of every stream that has the audio for it.

    A stream has one piece of audio in work at a time, so each gets its turn, and a fast client waits for itself only.

    Arguments
    ---------
    metrics : Metrics
    """

    def __init__(self, metrics: Metrics) -> None:
        super().__init__(name="streams", daemon=True)
        self.metrics = metrics
        self._jobs: queue.SimpleQueue[tuple[Session, Samples | None, Future[list[Word]]] | None] = queue.SimpleQueue()

    def submit(self, session: Session, samples: Samples | None) -> Future[list[Word]]:
        """Transcribe the next samples (S,) of a stream, None for its end; the result is the words they settle."""
        future: Future[list[Word]] = Future()
        self._jobs.put((session, samples, future))
        return future

    def stop(self) -> None:
        """End the thread once its rounds are done."""
        self._jobs.put(None)
        if self.ident is not None:
            self.join()

    @torch.inference_mode()
    def run(self) -> None:
        """Work until :meth:`stop`."""
        busy: dict[Session, Future[list[Word]]] = {}
        while True:
            while not busy or not self._jobs.empty():
                job = self._jobs.get()
                if job is None:
                    return
                self._begin(job, busy)
            self._round(busy)

    def _begin(
        self, job: tuple[Session, Samples | None, Future[list[Word]]], busy: dict[Session, Future[list[Word]]]
    ) -> None:
        session, samples, future = job
        if not future.set_running_or_notify_cancel():
            return
        start = time.perf_counter()
        try:
            session.accept(samples)
            busy[session] = future
        except Exception as error:
            future.set_exception(error)
        self.metrics.compute_seconds[STREAMS] += time.perf_counter() - start
        self.metrics.audio_seconds[STREAMS] += 0 if samples is None else len(samples) / session.sample_rate

    def _round(self, busy: dict[Session, Future[list[Word]]]) -> None:
        start = time.perf_counter()
        ready = {session: step for session in busy if (step := session.next_step()) is not None}
        try:
            found = step_together(
                [session.network for session in ready],
                [features for features, _ in ready.values()],
                [last for _, last in ready.values()],
            )
            for session, outputs in zip(ready, found, strict=True):
                session.decode(outputs)
        except Exception as error:
            for session in ready:
                busy.pop(session).set_exception(error)
        for session in busy.keys() - ready.keys():
            busy.pop(session).set_result(session.take_words())
        self.metrics.compute_seconds[STREAMS] += time.perf_counter() - start


class Streams:
    """Answers the WebSocket.

    Arguments
    ---------
    recognizer : Recognizer
    settings : ServerSettings
    metrics : Metrics
    """

    def __init__(self, recognizer: Recognizer, settings: ServerSettings, metrics: Metrics) -> None:
        self.recognizer, self.settings, self.metrics = recognizer, settings, metrics
        self.worker = StreamWorker(metrics)
        self._closing = False
        self.problem: str | None = None
        """Why the model cannot stream."""
        try:
            check_streams(recognizer)
            recognizer.stream()  # opens the file of another runtime
        except ValueError as error:
            self.problem = f"{first_line(error)}. Send whole recordings to /v1/audio/transcriptions."
        else:
            self.worker.start()

    async def respond(self, socket: WebSocket) -> None:
        """Serve one stream.

        Raises
        ------
        HTTPException
            Before the stream begins: if the model cannot stream or the sample rate is not valid (400), or too many
            streams are open (503).
        """
        if self._closing:
            raise HTTPException(503, SHUTTING_DOWN, RETRY_AFTER)
        if self.problem is not None:
            raise HTTPException(400, self.problem)
        rate, (lowest, highest) = socket.query_params.get("sample_rate", ""), SAMPLE_RATES
        if not (rate.isascii() and rate.isdecimal() and len(rate) < 9 and lowest <= int(rate) <= highest):
            raise HTTPException(400, f"sample_rate: give a whole number of Hz from {lowest} to {highest}.")
        if self.metrics.streams >= self.settings.max_streams:
            raise HTTPException(
                503, f"All {self.settings.max_streams} streams of this server are taken; try again later.", RETRY_AFTER
            )
        self.metrics.streams += 1
        try:
            await socket.accept()
            # The first step of a network, of no frames, is work too.
            session = await asyncio.to_thread(Session, self.recognizer, int(rate))
            problem = await self._converse(socket, session)
            if problem is not None:
                await socket.send_text(json.dumps(error_object(problem)))
            await socket.close(1000 if problem is None else POLICY_VIOLATION)
        finally:
            self.metrics.streams -= 1

    def close(self) -> None:
        """End all streams, as the server is shutting down."""
        self._closing = True

    async def _converse(self, socket: WebSocket, session: Session) -> str | None:
        """Exchange audio for words until the end; what is wrong, if anything is."""
        least, most = (max(1, round(seconds * session.sample_rate)) * SAMPLE_BYTES for seconds in PIECE_SECONDS)
        data, ended = b"", False
        while not ended:
            try:
                message = await asyncio.wait_for(socket.receive(), self.settings.timeout)
            except asyncio.TimeoutError:
                return f"No audio came for {self.settings.timeout:g} s."
            if message["type"] == "websocket.disconnect" or self._closing:
                raise WebSocketDisconnect
            if message.get("bytes") is not None:
                data += message["bytes"]
            elif _is_end(message["text"]):
                ended = True
            else:
                return 'A text message must be {"type": "end"}; audio comes in binary messages.'
            while len(data) >= (SAMPLE_BYTES if ended else least):
                piece = data[: min(most, len(data) // SAMPLE_BYTES * SAMPLE_BYTES)]
                data = data[len(piece) :]
                samples = np.frombuffer(piece, "<i2").astype(np.float32) / np.float32(FULL_SCALE_INT16)
                await self._compute(socket, session, samples)
            if session.duration > self.settings.max_duration:
                return f"The stream is longer than the limit of this server, {self.settings.max_duration:g} s."
        await self._compute(socket, session, None)
        await socket.send_text(json.dumps({"type": "end", "duration": round(session.duration, 3)}) + "\n")
        return None

    async def _compute(self, socket: WebSocket, session: Session, samples: Samples | None) -> None:
        for word in await asyncio.wrap_future(self.worker.submit(session, samples)):
            await socket.send_text(json.dumps(word_object(word), ensure_ascii=False) + "\n")


def _is_end(text: str) -> bool:
    try:
        return bool(json.loads(text) == {"type": "end"})
    except (ValueError, RecursionError):
        return False
