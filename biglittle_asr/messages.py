"""What messages to users are made of."""

from __future__ import annotations

from typing import Any

LONGEST_TEXT = 64


def show(value: Any) -> str:
    """A value from a file, short and without control characters, for a message."""
    text = ascii(value)
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..."


def first_line(error: Exception) -> str:
    """What an error of another library says, short enough for a sentence."""
    line = str(error).strip().split("\n")[0].rstrip(".")
    return "".join(filter(str.isprintable, line)) or type(error).__name__
