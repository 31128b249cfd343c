"""What users are told: parts of messages, and progress bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

LONGEST_TEXT = 64
PROGRESS = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed}<{remaining}]"


def show(value: Any) -> str:
    """A value from a file, short and without control characters, for a message."""
    text = ascii(value)
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..."


def first_line(error: Exception) -> str:
    """What an error of another library says, short enough for a sentence."""
    line = str(error).strip().split("\n")[0].rstrip(".")
    return "".join(filter(str.isprintable, line)) or type(error).__name__


@contextmanager
def audio_progress(description: str, enabled: bool = True) -> Iterator[Callable[[float, float], None]]:
    """A progress bar over seconds of audio, done and in all; gives the function that moves it.

    Arguments
    ---------
    description : str
        Stands before the bar.
    enabled : bool
        Whether a bar may be drawn; none is drawn in any case where standard error is no terminal.

    Example
    -------
    >>> with audio_progress("transcribing", enabled=False) as progress:
    ...     progress(30.0, 60.0)
    """
    from tqdm import tqdm

    # Drawn before it is known how much there is; the format takes numbers only.
    disable = None if enabled else True
    with tqdm(desc=description, unit=" s of audio", total=0, disable=disable, bar_format=PROGRESS) as bar:

        def move(done: float, total: float) -> None:
            bar.total = total
            # Sums of durations are not exact, and tqdm complains of more than all.
            bar.n = min(done, total)
            bar.update(0)

        yield move
