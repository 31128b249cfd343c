"""`biglittle serve`: answer requests for transcriptions over HTTP."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
from pathlib import Path

from biglittle_asr.commands.shared import (
    add_decoding,
    add_model,
    add_runtime,
    open_model,
    positive_count,
    positive_seconds,
    set_decoding,
    tell,
)

TOKEN = "BIGLITTLE_TOKEN"
NEEDED = ("starlette", "uvicorn", "websockets", "python_multipart")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_model(parser)
    add_runtime(parser)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; one that other machines reach needs a token (default: %(default)s)",
    )
    parser.add_argument("--port", type=_port, default=8000, help="port; 0 for any free one (default: %(default)s)")
    parser.add_argument(
        "--token",
        help=f"what clients must send as 'Authorization: Bearer TOKEN'; other users of this machine can see it here, "
        f"so better set the environment variable {TOKEN}",
    )
    parser.add_argument(
        "--page", type=Path, metavar="FOLDER", help="folder of `biglittle export --format web` to offer at /"
    )
    parser.add_argument(
        "--max-upload",
        "--max_upload",
        type=positive_count,
        default=100,
        metavar="MB",
        help="largest request (default: %(default)s)",
    )
    parser.add_argument(
        "--max-duration",
        "--max_duration",
        type=positive_seconds,
        default=3600.0,
        metavar="SECONDS",
        help="longest recording or stream (default: %(default)g)",
    )
    parser.add_argument(
        "--max-streams",
        "--max_streams",
        type=positive_count,
        default=16,
        metavar="N",
        help="most streams at once (default: %(default)s)",
    )
    parser.add_argument(
        "--max-queue",
        "--max_queue",
        type=positive_count,
        default=16,
        metavar="N",
        help="most requests that wait for their transcripts (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        type=positive_seconds,
        default=30.0,
        metavar="SECONDS",
        help="time that a client may stay silent (default: %(default)g)",
    )
    add_decoding(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command; raises ValueError or OSError, with a sentence for the user, if it fails."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"serving needs {', '.join(missing)}; install with pip install 'biglittle-asr[serve]'.")
    from biglittle_asr.serve import Server, ServerSettings
    from biglittle_asr.serve.server import bound_temporary_files

    settings = ServerSettings(
        host=options.host,
        port=options.port,
        token=options.token if options.token is not None else os.environ.get(TOKEN),
        max_upload=options.max_upload * 1_000_000,
        max_duration=options.max_duration,
        max_streams=options.max_streams,
        max_queue=options.max_queue,
        timeout=options.timeout,
        page=options.page,
    )
    if options.page is not None and not (options.page / "index.html").is_file():
        raise FileNotFoundError(f"{options.page}: holds no page; make it with biglittle export --format web.")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    recognizer = open_model(options)
    set_decoding(recognizer, options)
    server = Server(recognizer, options.model.resolve().name, settings)
    bound_temporary_files(settings)
    tell(f"serving {options.model} at {server.url}; Ctrl-C ends it.")
    server.run()


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"'{text}' is not a port from 0 to 65535")
    return int(text)
