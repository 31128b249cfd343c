"""Storage on loopback, read over HTTP or by S3's protocol, that fails on demand."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BUCKET = "bucket"
FOR_EVER = 1 << 30
S3_ERROR = "<Error><Code>{code}</Code><Message>{code} of the test</Message></Error>"


@dataclass
class Fault:
    """What goes wrong with requests."""

    kind: str
    """A status code, or one of: silence, drip, hang up, cut, short, other bytes, no ranges."""
    times: int = FOR_EVER
    """Number of requests that it befalls."""
    suffix: str = ""
    """End of the names of files that it befalls."""
    code: str = "Fault"
    """S3's name of the error, for status codes."""


@dataclass
class FaultyStorage:
    """Files, the faults in reading them, and what was asked for."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    """Contents by name."""
    fault: Fault | None = None
    requests: list[str] = field(default_factory=list)
    """Method and name of each request."""
    released: threading.Event = field(default_factory=threading.Event)
    """Set when silent requests shall end."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reset(self) -> None:
        """Forget files and faults, and end silent requests."""
        self.released.set()
        self.released = threading.Event()
        self.files, self.fault, self.requests = {}, None, []

    def befall(self, method: str, name: str) -> Fault | None:
        """Note a request, and say what goes wrong with it."""
        with self.lock:
            self.requests.append(f"{method} {name}")
            fault = self.fault
            if fault is None or fault.times == 0 or not name.endswith(fault.suffix):
                return None
            if method == "HEAD" and fault.kind in ("drip", "cut", "short", "other bytes", "no ranges"):
                return None
            fault.times -= 1
            return fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    storage: FaultyStorage

    def log_message(self, *arguments: Any) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        name = self.path.partition("?")[0].removeprefix(f"/{BUCKET}/")
        fault = self.storage.befall(self.command, name)
        kind = "" if fault is None else fault.kind
        content = self.storage.files.get(name)
        if kind == "silence":
            self.storage.released.wait()
        if kind in ("silence", "hang up"):
            self.close_connection = True
            return
        if kind.isdecimal() or content is None:
            status, code = (int(kind), fault.code) if fault is not None and kind.isdecimal() else (404, "NoSuchKey")
            self.send(status, S3_ERROR.format(code=code).encode())
            return
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        status, headers = 200, {}
        if found and kind != "no ranges":
            start, end = int(found[1]), int(found[2]) + 1
            if start >= len(content):
                self.send(416, S3_ERROR.format(code="InvalidRange").encode())
                return
            status, headers = 206, {"Content-Range": f"bytes {start}-{min(end, len(content)) - 1}/{len(content)}"}
            content = content[start:end]
        if kind == "short":
            content = content[: len(content) // 2]
        if kind == "other bytes":
            content = content[:-1] + bytes([content[-1] ^ 1])
        self.send(status, content, headers, kind)

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None, kind: str = "") -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body)), "ETag": '"e"'}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if kind == "drip":
            for byte in body:
                self.wfile.write(bytes([byte]))
                if self.storage.released.wait(0.05):
                    break
        if kind in ("drip", "cut"):
            self.wfile.write(body[: len(body) // 2] if kind == "cut" else b"")
            self.close_connection = True
            return
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *arguments: Any) -> None:
        """Print nothing when a client has gone."""


@contextmanager
def faulty_storage() -> Iterator[FaultyStorage]:
    """Run the server; its files are at `<url>/bucket/<name>`, and at s3://bucket/<name> if <url> is the endpoint."""
    handler = type("Handler", (_Handler,), {})
    server = _Server(("127.0.0.1", 0), handler)
    handler.storage = storage = FaultyStorage(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield storage
    finally:
        storage.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
