"""Simple readers of the formats that transcripts are written in, each strict in what its specification demands."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

Span = tuple[float, float, str]
"""Start and end in seconds, and text: of a word, a caption or, with an infinite end, of a whole recording."""

CUE_TEXT = re.compile(r"(?:[^&<\n]|&(?:amp|lt|gt);)+")
"""A line of a WebVTT cue without tags: & and < only as escapes."""


def read_text(text: str) -> list[Span]:
    assert text.endswith("\n") and text.count("\n") == 1
    return [(0.0, float("inf"), text[:-1])]


def read_json(text: str) -> list[Span]:
    found = json.loads(text)
    assert found["text"] == " ".join(word["word"] for word in found["words"])
    assert all(0 <= word["confidence"] <= 1 for word in found["words"])
    return [(word["start"], word["end"], word["word"]) for word in found["words"]]


def read_ctm(text: str) -> list[Span]:
    spans = []
    for line in text.splitlines():
        _, channel, start, duration, word, confidence = line.split(" ")
        assert channel == "1" and 0 <= float(confidence) <= 1
        spans.append((float(start), round(float(start) + float(duration), 3), word))
    return spans


def read_srt(text: str) -> list[Span]:
    spans = []
    for number, block in enumerate(filter(None, text.split("\n\n")), start=1):
        head, clock, *lines = block.strip("\n").split("\n")
        assert head == str(number)
        spans.append(_caption(clock, ",", lines))
    return spans


def read_vtt(text: str) -> list[Span]:
    """WebVTT as the W3C has it: a head, then cues behind empty lines; their ends are above their starts."""
    head, *cues = text.split("\n\n")
    assert head.rstrip("\n") == "WEBVTT" and text.endswith("\n")
    spans = []
    for cue in cues:
        clock, *lines = cue.rstrip("\n").split("\n")
        assert all(CUE_TEXT.fullmatch(line) and "-->" not in line for line in lines)
        for escape, character in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
            lines = [line.replace(escape, character) for line in lines]
        spans.append(_caption(clock, ".", lines))
    return spans


def _caption(clock: str, point: str, lines: list[str]) -> Span:
    time = rf"(\d\d+):([0-5]\d):([0-5]\d){re.escape(point)}(\d\d\d)"
    found = re.fullmatch(f"{time} --> {time}", clock)
    assert found is not None and 1 <= len(lines) <= 2
    assert all(len(line) <= 42 or " " not in line for line in lines)
    hours, minutes, seconds, milliseconds = ([int(found[part]), int(found[part + 4])] for part in range(1, 5))
    start, end = (
        3600 * hours[side] + 60 * minutes[side] + seconds[side] + milliseconds[side] / 1000 for side in range(2)
    )
    assert start < end
    return start, end, " ".join(lines)


def read_tsv(text: str) -> list[Span]:
    head, *rows = text.removesuffix("\n").split("\n")
    assert head == "start\tend\ttext"
    fields = [row.split("\t") for row in rows]
    return [(int(start) / 1000, int(end) / 1000, said) for start, end, said in fields]


READERS: dict[str, Callable[[str], list[Span]]] = {
    "text": read_text,
    "json": read_json,
    "ctm": read_ctm,
    "srt": read_srt,
    "vtt": read_vtt,
    "tsv": read_tsv,
}
"""Reader of each format."""
WORDS = ("json", "ctm")
"""Formats with the times of words."""
