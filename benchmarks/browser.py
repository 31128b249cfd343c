"""Measure a page of `biglittle export --format web` in Chromium: until it is ready, and with ten seconds of audio.

    PYTHONPATH=tests python benchmarks/browser.py PAGE RECORDING

The recording is repeated, or cut, to ten seconds. The page comes from a server on this machine, so that loading is that
of files, WebAssembly and the network, without a connection. Each time is the median of some rounds, each in a new
browser; the recording is read twice in each, and the second time counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile

from support.browser import Browser, served

SECONDS = 10
READY = "document.querySelector('#status').textContent.startsWith('Ready')"
FACTS = "document.querySelector('article p:last-child').textContent"
WATCH = """
    new MutationObserver(() => {
        if (document.querySelector("article:first-child .word")) window.firstWords ??= performance.now();
    }).observe(document.querySelector("#results"), { childList: true, subtree: true });
    document.querySelector("#files").addEventListener("change", () => {
        delete window.firstWords;
        window.chosen = performance.now();
    });
"""
"""Notes when a file was chosen and when its first words were there."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the medians."""
    parser = argparse.ArgumentParser(description="Measure a page that recognizes speech, in Chromium.")
    parser.add_argument("page", type=Path, metavar="PAGE", help="folder of biglittle export --format web")
    parser.add_argument("recording", type=Path, metavar="RECORDING", help="audio file with speech")
    parser.add_argument("--rounds", type=int, default=5, help="browsers that are started (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    with TemporaryDirectory(prefix="biglittle", ignore_cleanup_errors=True) as folder:  # its processes end late
        path = Path(folder) / "ten_seconds.wav"
        samples, rate = soundfile.read(options.recording, dtype="float32", always_2d=True)
        soundfile.write(path, np.resize(samples.mean(1), SECONDS * rate), rate, subtype="FLOAT")
        rounds = [measure(options.page, path, Path(folder) / str(number)) for number in range(options.rounds)]
    found = {name: round(statistics.median(each[name] for each in rounds), 3) for name in rounds[0]}
    if options.json:
        print(json.dumps(found))
    else:
        print(f"ready after         {found['ready']:.2f} s")
        print(f"first words after   {found['first_words']:.2f} s")
        print(f"computing           {found['computing']:.2f} s for {SECONDS} s of audio, in one thread")


def measure(page: Path, recording: Path, profile: Path) -> dict[str, float]:
    """The seconds of one round."""
    browser = Browser(profile)
    try:
        with served(page) as (address, _):
            start = time.perf_counter()
            browser.open(address)
            browser.wait_for(READY)
            ready = time.perf_counter() - start
            browser.evaluate(WATCH)
            for number in (1, 2):
                browser.choose_files("#files", recording)
                browser.wait_for(f"document.querySelectorAll('article').length === {number} && {READY}")
            first = browser.evaluate("(window.firstWords - window.chosen) / 1000")
            computing = browser.evaluate(FACTS).split("computed in ")[1].split()[0]
    finally:
        browser.close()
    return {"ready": ready, "first_words": float(first), "computing": float(computing)}


if __name__ == "__main__":
    main()
