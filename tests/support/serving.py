"""A server in a thread, with a small model, on a port of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from biglittle_asr.inference import Recognizer
from biglittle_asr.serve import Server, ServerSettings

MODEL = "small"


@contextmanager
def serving(recognizer: Recognizer, **settings: Any) -> Iterator[Server]:
    """Serve a model on loopback."""
    server = Server(recognizer, MODEL, ServerSettings(port=0, **settings))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join()
