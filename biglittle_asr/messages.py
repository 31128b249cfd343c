"""Parts of messages to users."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

LONGEST_TEXT = 64
"""Largest number of characters of a value that a message quotes."""
LISTED = 5
"""Largest number of names that a message lists."""


def show(value: Any) -> str:
    """Format a value from a file for a message: short and without control characters."""
    text = ascii(value)
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..."


def first_line(error: Exception) -> str:
    r"""Return the first line of an error's message, without a full stop, for use inside another sentence.

    Example
    -------
    >>> first_line(ValueError("wrong size.\nDetails follow.")), first_line(EOFError())
    ('wrong size', 'EOFError')
    """
    line = str(error).strip().split("\n")[0].rstrip(".: ")
    return "".join(filter(str.isprintable, line)) or type(error).__name__


def some(texts: Sequence[str], separator: str = ", ", most: int = LISTED) -> str:
    """List the first few texts, and the number of the others.

    Example
    -------
    >>> some(["a", "b", "c", "d", "e", "f", "g"])
    'a, b, c, d, e and 2 more'
    """
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return separator.join(texts[:most]) + more


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Suggest the closest known name in a question; an empty text if none is close.

    Example
    -------
    >>> did_you_mean("resnet5", ["resnet50", "resnet18"]), did_you_mean("an5", ["hub5"])
    ("did you mean 'resnet50'?", '')
    """
    close = difflib.get_close_matches(str(name), list(known), 1)
    return f"did you mean {close[0]!r}?" if close else ""


def unknown(what: str, name: object, known: Iterable[str], listing: str | None = None) -> str:
    """Write the message about an unknown name, with the closest known name and a list of known names.

    Example
    -------
    >>> unknown("model", "resnet5", ["resnet50", "resnet18"])
    "unknown model 'resnet5': did you mean 'resnet50'? known are resnet18, resnet50"
    """
    known = sorted(known)
    hint = did_you_mean(name, known)
    return f"unknown {what} {name!r}: {hint}{' ' if hint else ''}known are {listing or ', '.join(known)}"


def visible(text: str) -> str:
    r"""Replace invisible characters by escapes: controls, joiners, unusual spaces, surrogates.

    Example
    -------
    >>> print(visible("go\u200b on\u00a0it"))
    go\u200b on\xa0it
    """
    return "".join(
        character if character == " " or unicodedata.category(character)[0] not in "CZ" else ascii(character)[1:-1]
        for character in text
    )
