"""The server: its routes, its process, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from pathlib import Path

import h11
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from biglittle_asr.inference import Recognizer
from biglittle_asr.serve.guard import Guard, answer_failure, answer_refusal, error_object
from biglittle_asr.serve.metrics import CONTENT_TYPE, Metrics
from biglittle_asr.serve.settings import ServerSettings
from biglittle_asr.serve.streams import LONGEST_MESSAGE, Streams
from biglittle_asr.serve.transcriptions import Transcriptions

GRACE_SECONDS = 10
"""Time for the requests that are computing when the server is asked to end."""
DECODED_BYTES_PER_SECOND = 48000 * 2 * 4
"""Largest temporary file per second of the longest recording: some formats are decoded into one, and a small upload
may claim to last for days."""


class Server(uvicorn.Server):
    """Serves one model. The port is open when it is made, and answers once :meth:`run` is called.

    Arguments
    ---------
    recognizer : Recognizer
    model : str
        The model's name.
    settings : ServerSettings

    Raises
    ------
    OSError
        If the port cannot be opened.

    Example
    -------
    >>> from biglittle_asr.features import LogMel, SentenceNormalization
    >>> from biglittle_asr.models import CTCModel, create_encoder
    >>> from biglittle_asr.tokens.tokenizer import CharacterTokenizer
    >>> encoder, tokenizer = create_encoder("bl_resnet22", channels=(8, 16, 32, 64)), CharacterTokenizer(" AB")
    >>> recognizer = Recognizer(LogMel(), SentenceNormalization(), CTCModel(encoder, tokenizer.size), tokenizer)
    >>> server = Server(recognizer, "small", ServerSettings(port=0))
    >>> server.url.startswith("http://127.0.0.1:")
    True
    >>> server.close()
    """

    def __init__(self, recognizer: Recognizer, model: str, settings: ServerSettings) -> None:
        self.settings = settings
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        try:
            self.socket = socket.create_server((settings.host, settings.port), family=family)
        except OSError as error:
            reason = error.strerror or error
            raise OSError(
                f"{settings.host}:{settings.port}: cannot be opened ({reason}); take another --port."
            ) from error
        # It warns of every form that is none.
        logging.getLogger("python_multipart").setLevel(logging.ERROR)
        metrics = Metrics()
        self.transcriptions = Transcriptions(recognizer, model, settings, metrics)
        self.streams = Streams(recognizer, settings, metrics)
        super().__init__(
            uvicorn.Config(
                Guard(_routes(model, self.transcriptions, self.streams, metrics, settings.page), settings, metrics),
                loop="asyncio",
                http=_Protocol,
                ws="websockets-sansio",
                ws_max_size=LONGEST_MESSAGE,
                # A client is silent for too long when it sends no audio, whether or not it answers pings.
                ws_ping_interval=None,
                ws_per_message_deflate=False,
                lifespan="off",
                log_config=None,
                log_level="critical",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=max(1, round(settings.timeout)),
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )

    @property
    def url(self) -> str:
        """Where the server listens."""
        host, port = self.socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until SIGINT or SIGTERM, whose handlers are called then."""
        try:
            super().run([self.socket])
        finally:
            self.close()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse what waits, and give what is computing some time."""
        self.transcriptions.close()
        self.streams.close()
        await super().shutdown(sockets)

    def close(self) -> None:
        """End the threads and close the port."""
        self.transcriptions.stop()
        self.streams.worker.stop()
        self.socket.close()


def bound_temporary_files(settings: ServerSettings) -> None:
    """Forbid this process, and the decoders it starts, files larger than the longest recording takes."""
    with contextlib.suppress(ImportError):  # not on Windows
        import resource

        most = max(settings.max_upload, int(settings.max_duration * DECODED_BYTES_PER_SECOND))
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        if hard == resource.RLIM_INFINITY or most < hard:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))


def _routes(
    model: str, transcriptions: Transcriptions, streams: Streams, metrics: Metrics, page: Path | None
) -> ASGIApp:
    listed = {
        "id": model,
        "object": "model",
        "created": int(time.time()),
        "owned_by": "biglittle",
        "streams": streams.problem is None,
    }

    async def list_models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [listed]})

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def show_metrics(request: Request) -> Response:
        return PlainTextResponse(metrics.text(), media_type=CONTENT_TYPE)

    routes: list[BaseRoute] = [
        Route("/v1/audio/transcriptions", transcriptions.respond, methods=["POST"]),
        Route("/v1/models", list_models),
        Route("/healthz", healthz),
        Route("/metrics", show_metrics),
        WebSocketRoute("/v1/stream", streams.respond),
    ]
    if page is not None:
        routes.append(Mount("/", StaticFiles(directory=page, html=True)))
    return Starlette(
        routes=routes,
        exception_handlers={HTTPException: answer_refusal, Exception: answer_failure},
    )


class _Protocol(H11Protocol):
    """uvicorn's, which also closes connections that send no whole request, and answers in JSON to what is not HTTP."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_request()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # A connection that became a WebSocket has another protocol.
        if self.transport.get_protocol() is self and (self.cycle is None or self.cycle.response_complete):
            self._expect_request()

    def _expect_request(self) -> None:
        if self.timeout_keep_alive_task is None and not self.transport.is_closing():
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def timeout_keep_alive_handler(self) -> None:
        # uvicorn's own says goodbye by h11, which cannot in the middle of a request.
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        body = JSONResponse(error_object(msg)).body
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            response = h11.Response(status_code=400, headers=headers)
            for event in (response, h11.Data(data=bytes(body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
