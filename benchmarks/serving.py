#!/usr/bin/env python3
"""Load `biglittle serve` with live streams, and measure how far behind the last words are and what they cost.

python benchmarks/serving.py                          # 50 streams of 20 s, bl_resnet22, one thread
python benchmarks/serving.py --streams 100 --json     # the same for scripts

Each client sends 16-bit audio in real time over a WebSocket on loopback, and measures the time from its last audio to
the server's last answer. The server is a process of its own, whose CPU time is measured. The network has random
weights, which cost what trained ones do. The clients need CPU time, too: leave them a second core.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import resource
import signal
import statistics
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from websockets.asyncio.client import connect

from biglittle_asr.features import GlobalNormalization, LogMel
from biglittle_asr.inference import Recognizer
from biglittle_asr.models import CTCModel, create_encoder
from biglittle_asr.profiling.latency import machine
from biglittle_asr.serve import Server, ServerSettings
from biglittle_asr.tokens.tokenizer import CharacterTokenizer

SAMPLE_RATE = 16000
BEHIND_SECONDS = 1.0
"""A server falls behind if 1 in 20 streams waits longer than this for its last words. One that computes faster than
real time answers within a step of 0.16 s and the time that a step takes."""
SPREAD_SECONDS = 1.0
"""The streams begin at random times within this."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = parse(argv)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(options, there))
    process.start()
    try:
        lags = asyncio.run(listen_to_all(here.recv(), options))
    finally:
        here.send(None)
    counts = here.recv()
    process.join()
    result = summarize(options, lags, counts)
    print(json.dumps(result) if options.json else describe(result))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=50, help="streams at once (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="audio per stream (default: %(default)g)")
    parser.add_argument(
        "--message", type=float, default=0.1, help="seconds of audio per message (default: %(default)g)"
    )
    parser.add_argument("--encoder", default="bl_resnet22", help="preset of the network (default: %(default)s)")
    parser.add_argument("--channels", type=int, nargs=4, help="its channels, for a small network")
    parser.add_argument("--threads", type=int, default=1, help="threads of the server (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    return parser.parse_args(argv)


def make_recognizer(options: argparse.Namespace) -> Recognizer:
    """A causal CTC model with random weights."""
    torch.manual_seed(0)
    given = {"channels": tuple(options.channels)} if options.channels else {}
    compute_features, tokenizer = LogMel(), CharacterTokenizer(" ABCDEFGHIJKLMNOPQRSTUVWXYZ'")
    encoder = create_encoder(options.encoder, time_padding="causal", input_size=compute_features.output_size, **given)
    normalize = GlobalNormalization(compute_features.output_size)
    normalize(torch.randn(1, 100, compute_features.output_size), torch.tensor([100]))
    return Recognizer(compute_features, normalize, CTCModel(encoder, tokenizer.size), tokenizer)


# The server


def serve(options: argparse.Namespace, pipe: Connection) -> None:
    """Serve until the other end says so; send the address, and then what was counted."""
    torch.set_num_threads(options.threads)
    recognizer = make_recognizer(options)
    counts = {"calls": 0, "steps": 0}
    step = recognizer.model.step

    def counting(features: Any, state: Any) -> Any:
        counts["calls"] += 1
        counts["steps"] += len(features)
        return step(features, state)

    # Not a stream's first step, which is of no frames and comes before.
    server = Server(recognizer, options.encoder, ServerSettings(port=0, max_streams=options.streams))
    recognizer.model.step = counting  # type: ignore[method-assign]
    before = cpu_seconds()

    async def stop() -> None:
        await asyncio.to_thread(pipe.recv)
        server.should_exit = True

    async def run() -> None:
        pipe.send(server.url)
        stopping = asyncio.create_task(stop())
        await server.serve([server.socket])
        await stopping

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(run())
    counts["cpu_seconds"] = cpu_seconds() - before
    counts["peak_megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pipe.send(counts)
    server.close()


def cpu_seconds() -> float:
    """CPU time of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# The clients


async def listen_to_all(url: str, options: argparse.Namespace) -> list[float]:
    """Run all streams; the seconds from each one's last audio to its last answer."""
    rng = random.Random(0)
    address = f"{url.replace('http', 'ws')}/v1/stream?sample_rate={SAMPLE_RATE}"
    noise = np.random.default_rng(0).normal(0, 3000, round(SAMPLE_RATE * (options.seconds + 1))).astype("<i2")

    async def listen(place: int) -> float:
        await asyncio.sleep(rng.uniform(0, SPREAD_SECONDS))
        samples = noise[place : place + round(options.seconds * SAMPLE_RATE)]
        return await listen_to_one(address, samples, round(options.message * SAMPLE_RATE))

    return list(await asyncio.gather(*(listen(place) for place in range(options.streams))))


async def listen_to_one(address: str, samples: np.ndarray, size: int) -> float:
    """Send samples in real time, and wait for the last answer."""
    async with connect(address, ping_interval=None, compression=None, open_timeout=60, close_timeout=60) as socket:

        async def wait_for_the_end() -> float:
            async for line in socket:
                if json.loads(line).get("type") == "end":
                    return time.monotonic()
            raise RuntimeError("a stream ended without its last message.")

        ending = asyncio.create_task(wait_for_the_end())
        start = time.monotonic()
        for place in range(0, len(samples), size):
            piece = samples[place : place + size]
            # A microphone has a message's audio when it ends.
            due = start + (place + len(piece)) / SAMPLE_RATE
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await socket.send(piece.tobytes())
        await socket.send(json.dumps({"type": "end"}))
        return await ending - (start + len(samples) / SAMPLE_RATE)


# The result


def summarize(options: argparse.Namespace, lags: Sequence[float], counts: dict[str, float]) -> dict[str, Any]:
    """The figures of a run."""
    audio = options.streams * options.seconds
    p95 = percentile(lags, 95)
    return {
        "machine": machine(torch.device("cpu")),
        "encoder": options.encoder,
        "threads": options.threads,
        "streams": options.streams,
        "seconds": options.seconds,
        "behind_seconds": {"p50": statistics.median(lags), "p95": p95, "max": max(lags)},
        "cpu_seconds_per_second_of_audio": counts["cpu_seconds"] / audio,
        "steps_per_call": counts["steps"] / max(counts["calls"], 1),
        "peak_megabytes": counts["peak_megabytes"],
        "falls_behind": p95 > BEHIND_SECONDS,
    }


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that is at least as large as so many percent of them."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def describe(result: dict[str, Any]) -> str:
    """The figures as text."""
    behind, cost = result["behind_seconds"], result["cpu_seconds_per_second_of_audio"]
    verdict = (
        f"FALLS BEHIND: 1 in 20 streams waits {behind['p95']:.1f} s or more for its last words"
        if result["falls_behind"]
        else "keeps up with real time"
    )
    return "\n".join(
        (
            f"{result['machine']}, {result['threads']} threads",
            f"{result['streams']} streams of {result['seconds']:g} s, {result['encoder']}: {verdict}",
            "last words behind the audio: p50 {p50:.2f} s, p95 {p95:.2f} s, max {max:.2f} s".format(**behind),
            f"CPU: {cost:.4f} s per second of audio, so {1 / cost:.0f} streams would keep one core busy",
            f"streams per network call: {result['steps_per_call']:.1f}; peak memory {result['peak_megabytes']:.0f} MB",
        )
    )


if __name__ == "__main__":
    main()
