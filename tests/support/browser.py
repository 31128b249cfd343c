"""A headless Chromium, driven by its DevTools protocol, and a server of static files for it."""

from __future__ import annotations

import base64
import contextlib
import functools
import itertools
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --remote-debugging-port=0"
).split()
SECONDS = 120.0
"""Longest wait for anything."""


class Browser:
    """A browser with one page.

    Arguments
    ---------
    profile : pathlib.Path
        A new folder for its settings.
    options : sequence of str
        More options of its command line.

    Attributes
    ----------
    console : list of str
        Errors and warnings of the page and its workers so far.
    """

    def __init__(self, profile: Path, options: Sequence[str] = ()) -> None:
        assert CHROMIUM is not None
        self.console: list[str] = []
        self._numbers = itertools.count(1)
        self._sessions: dict[str, str] = {}
        self._stack = contextlib.ExitStack()
        command = [CHROMIUM, *OPTIONS, *options, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port, path = wait(lambda: _lines(profile / "DevToolsActivePort"))
            opened = connect(f"ws://127.0.0.1:{port}{path}", max_size=None, open_timeout=SECONDS)
            self._socket = self._stack.enter_context(opened)
            target = self._send("Target.createTarget", url="about:blank")["targetId"]
            self.page = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            self._begin(self.page)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the browser."""
        self._stack.close()
        self._process.terminate()
        self._process.wait(SECONDS)

    def open(self, url: str) -> None:
        """Open a page."""
        self._send("Page.navigate", self.page, url=url)
        wait(lambda: self.evaluate("document.readyState") == "complete")

    def evaluate(self, expression: str, session: str | None = None) -> Any:
        """The value of a JavaScript expression, or of what it promises, in the page or a worker."""
        found = self._send(
            "Runtime.evaluate", session or self.page, expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"].get("exception", {}).get("description", "exception"))
        return found["result"].get("value")

    def wait_for(self, expression: str, seconds: float = SECONDS) -> Any:
        """Wait until an expression is true, and return its value."""
        return wait(lambda: self.evaluate(expression), seconds, lambda: f"{expression}; {self.console}")

    def choose_files(self, selector: str, *paths: Path) -> None:
        """Choose files in an input element."""
        root = self._send("DOM.getDocument", self.page)["root"]["nodeId"]
        node = self._send("DOM.querySelector", self.page, nodeId=root, selector=selector)["nodeId"]
        self._send("DOM.setFileInputFiles", self.page, nodeId=node, files=list(map(str, paths)))

    def worker(self) -> str:
        """The session of the page's worker, for :meth:`evaluate`."""
        return wait(lambda: self._sessions.get("worker"))

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            own = {"text": text} if text and kind == "keyDown" else {}
            self._send(
                "Input.dispatchKeyEvent", self.page, type=kind, key=key, code=key, windowsVirtualKeyCode=code, **own
            )

    def show(self, width: int, dark: bool) -> None:
        """Set the width of the window and the colour scheme."""
        self._send(
            "Emulation.setDeviceMetricsOverride", self.page, width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._send("Emulation.setEmulatedMedia", self.page, features=[scheme])

    def screenshot(self) -> bytes:
        """A PNG picture of the window."""
        return base64.b64decode(self._send("Page.captureScreenshot", self.page, format="png")["data"])

    def _begin(self, session: str) -> None:
        for domain in ("Runtime", "Log"):
            self._send(f"{domain}.enable", session)
        if session == self.page:
            self._send("Page.enable", session)
        self._send("Target.setAutoAttach", session, autoAttach=True, waitForDebuggerOnStart=False, flatten=True)

    def _send(self, method: str, session: str | None = None, **arguments: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": arguments} | ({"sessionId": session} if session else {})
        self._socket.send(json.dumps(message))
        new: list[str] = []
        while True:
            answer = json.loads(self._socket.recv(timeout=SECONDS))
            if answer.get("id") == number:
                break
            new += self._take(answer)
        for each in new:
            with contextlib.suppress(RuntimeError):  # it may have ended
                self._begin(each)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _take(self, event: dict[str, Any]) -> list[str]:
        """Take note of an event; returns the session of a worker that has begun."""
        arguments = event.get("params", {})
        match event.get("method"):
            case "Runtime.consoleAPICalled" if arguments["type"] in ("error", "warning", "assert"):
                self.console.append(" ".join(str(each.get("value")) for each in arguments["args"]))
            case "Runtime.exceptionThrown":
                self.console.append(json.dumps(arguments["exceptionDetails"]))
            case "Log.entryAdded" if arguments["entry"]["level"] in ("error", "warning"):
                self.console.append(f"{arguments['entry']['text']} {arguments['entry'].get('url', '')}")
            case "Target.attachedToTarget" if arguments["targetInfo"]["type"] != "page":
                self._sessions[arguments["targetInfo"]["type"]] = arguments["sessionId"]
                return [arguments["sessionId"]]
        return []


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve a folder on this machine; gives its address, and the paths that are asked for."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: Any) -> None:
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def wait(check: Any, seconds: float = SECONDS, what: Any = lambda: "") -> Any:
    """Wait until a function returns something true, and return that."""
    end = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < end, f"waited for {seconds:.0f} s: {what()}"
        time.sleep(0.05)
    return found


def _lines(path: Path) -> list[str] | None:
    lines = path.read_text().splitlines() if path.is_file() else []
    return lines if len(lines) == 2 else None
