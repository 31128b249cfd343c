"""What every request passes: token, limits, timeouts; errors become one sentence as JSON."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from biglittle_asr.serve.metrics import Metrics
from biglittle_asr.serve.settings import ServerSettings

logger = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/healthz"})
"""Paths that need no token."""
UPLOAD_TIMEOUTS = 10
"""An upload may take this many times the timeout, so that a trickle of bytes does not hold its place for ever."""
RETRY_AFTER = {"Retry-After": "5"}
"""Header of responses that ask a client to come back, in seconds."""
SHUTTING_DOWN = "The server is shutting down; try again later."
ROUTING = {404: "There is nothing at this path.", 405: "This path takes another method."}
"""What starlette says with the status' phrase only."""
PHRASES = frozenset(HTTPStatus(status).phrase for status in ROUTING)
STARTS = ("http.response.start", "websocket.http.response.start", "websocket.accept")


def error_object(message: str) -> dict[str, dict[str, str]]:
    """An error as JSON, in the form that OpenAI's clients read."""
    return {"error": {"message": message}}


async def answer_refusal(request: Request, error: Exception) -> Response:
    """The response to an HTTPException, whose detail is a sentence."""
    assert isinstance(error, HTTPException)
    detail = ROUTING.get(error.status_code, error.detail) if error.detail in PHRASES else error.detail
    return JSONResponse(error_object(detail), error.status_code, error.headers)


async def answer_failure(request: Request, error: Exception) -> Response:
    """The response to an error that nobody expected; the guard logs it."""
    return JSONResponse(error_object("The server failed at this request; its log says why."), 500)


class Guard:
    """Wraps an application: who may ask, how much, and for how long.

    Arguments
    ---------
    app : ASGI application
    settings : ServerSettings
    metrics : Metrics
        Counts responses.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings, metrics: Metrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or stream."""
        started = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            if message["type"] in STARTS:
                started = True
                self.metrics.requests[message.get("status", 101)] += 1
            await asyncio.wait_for(send(message), self.settings.timeout)

        limited = self._limited(receive) if scope["type"] == "http" else receive
        try:
            self._check(scope["path"], Headers(scope=scope))
            await self.app(scope, limited, watched_send)
        except HTTPException as error:
            response = await answer_refusal(Request({**scope, "type": "http"}), error)
            await response(scope, receive, watched_send)
        except (ClientDisconnect, WebSocketDisconnect):
            pass
        except asyncio.TimeoutError:
            # The client does not read its response; the connection is closed behind it.
            if not started:
                raise
        except Exception:
            logger.exception("a request failed")
            if not started:
                await (await answer_failure(Request({**scope, "type": "http"}), Exception()))(
                    scope, receive, watched_send
                )

    def _check(self, path: str, headers: Headers) -> None:
        """Refuse by what the headers say."""
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            raise HTTPException(403, "Pages of other sites may not use this server.")
        if self.settings.token is not None and path not in OPEN_PATHS:
            expected = f"Bearer {self.settings.token}".encode()
            if not hmac.compare_digest(headers.get("authorization", "").encode(), expected):
                raise HTTPException(
                    401, "Send the server's token as 'Authorization: Bearer TOKEN'.", {"WWW-Authenticate": "Bearer"}
                )
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.settings.max_upload:
            raise HTTPException(413, self._too_large())

    def _too_large(self) -> str:
        return f"The request is larger than {self.settings.max_upload / 1e6:g} MB, the limit of this server."

    def _limited(self, receive: Receive) -> Receive:
        """Receive a body within limits, whatever its headers say."""
        received, more = 0, True
        deadline = time.monotonic() + UPLOAD_TIMEOUTS * self.settings.timeout

        async def limited() -> Message:
            nonlocal received, more
            if not more:
                return await receive()
            patience = min(self.settings.timeout, deadline - time.monotonic())
            try:
                message = await asyncio.wait_for(receive(), patience)
            except asyncio.TimeoutError:
                raise HTTPException(408, "The request did not arrive in time.", {"Connection": "close"}) from None
            received += len(message.get("body", b""))
            more = message.get("more_body", False)
            if received > self.settings.max_upload:
                raise HTTPException(413, self._too_large(), {"Connection": "close"})
            return message

        return limited
