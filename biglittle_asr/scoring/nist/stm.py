r"""NIST's segment time marks (STM): what was said in each segment of each channel, one segment a line.

    ;; LABEL "en" "CallHome" "Conversations of CallHome English"
    sw_4390 A sw_4390_A 1.06 3.47 <O,sw> WELL (%HESITATION) { I'VE / I HAVE } SEEN TH- THAT

Recording, channel, speaker, start and end in seconds, labels if any, words. The words may hold alternatives in braces
(which may nest, and of which `@` is one without words), optionally deletable words in brackets, and fragments with a
hyphen at their open end; `word;tag` is that word. A segment with IGNORE_TIME_SEGMENT_IN_SCORING, which may lack its
underscores, does not count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from biglittle_asr.scoring.texts import WHITE_SPACE, read_text_file, seconds

IGNORED = ("ignore_time_segment_in_scoring", "ignoretimesegmentinscoring")
"""One of these stands, in any case, in the text of segments that do not count."""


class Segment(NamedTuple):
    """One line of an STM file."""

    recording: str
    channel: str
    speaker: str
    start: float
    """Seconds."""
    end: float
    """Seconds."""
    labels: tuple[str, ...]
    """Such as ("O", "sw"); empty where the line has none."""
    text: str
    place: str = "the reference"
    """File and line, for messages."""

    @property
    def ignored(self) -> bool:
        """Whether the segment does not count."""
        return any(mark in self.text.lower() for mark in IGNORED)


@dataclass(frozen=True)
class Stm:
    """An STM file."""

    segments: list[Segment]
    """In the file's order."""
    comments: list[str]
    """Lines that start with two semicolons; those that say LABEL or CATEGORY explain the labels."""


def read_stm(path: str | PathLike[str]) -> Stm:
    r"""Read an STM file.

    Arguments
    ---------
    path : path
        Text in UTF-8. Lines that start with two semicolons are comments.

    Returns
    -------
    Stm
        Its segments and comments.

    Raises
    ------
    FileNotFoundError
        If the file is missing.
    ValueError
        If it is not UTF-8, or a line lacks a field, has a time that is no number, or ends before it starts; file and
        line number are named.

    Example
    -------
    >>> path = getfixture("tmp_path") / "ref.stm"
    >>> _ = path.write_text("sw_4390 A sw_4390_A 1.06 3.47 <O,sw> well { uh / @ } yes\n")
    >>> read_stm(path).segments[0].labels, read_stm(path).segments[0].text
    (('O', 'sw'), 'well { uh / @ } yes')
    """
    segments, comments = [], []
    for place, line in read_text_file(path).numbered():
        if line.startswith(";;"):
            comments.append(line.rstrip())
            continue
        fields = re.split(f"[{WHITE_SPACE}]+", line.strip(WHITE_SPACE), maxsplit=5)
        if len(fields) < 5:
            raise ValueError(
                f"{place}: {len(fields)} fields are no STM line; write recording, channel, speaker, start, end, "
                "optional <labels>, and words."
            )
        start, end = (seconds(field, place, name) for field, name in ((fields[3], "start"), (fields[4], "end")))
        if end < start:
            raise ValueError(
                f"{place}: the segment ends at {fields[4]} s, before its start at {fields[3]} s; correct it."
            )
        text = fields[5] if len(fields) > 5 else ""
        labels: tuple[str, ...] = ()
        if text.startswith("<"):
            found = re.match(r"<([^<>\s]*)>(?:\s+|$)", text)
            if not found:
                raise ValueError(f"{place}: the labels '{text.split()[0]}' do not end in >; write them as in <O,sw>.")
            labels, text = tuple(filter(None, found[1].split(","))), text[found.end() :]
        segments.append(Segment(fields[0], fields[1], fields[2], start, end, labels, text, place))
    return Stm(segments, comments)


def write_stm(path: str | PathLike[str], segments: Sequence[Segment], comments: Sequence[str] = ()) -> None:
    r"""Write an STM file, comments first.

    Arguments
    ---------
    path : path
        Replaced if it exists.
    segments : sequence of Segment
        Recording, channel and speaker without white space; times are written in full.
    comments : sequence of str
        Lines that start with two semicolons.

    Raises
    ------
    OSError
        If the file cannot be written.

    Example
    -------
    >>> path = getfixture("tmp_path") / "ref.stm"
    >>> write_stm(path, [Segment("sw_4390", "A", "sw_4390_A", 1.06, 3.47, ("O", "sw"), "well yes")])
    >>> path.read_text()
    'sw_4390 A sw_4390_A 1.06 3.47 <O,sw> well yes\n'
    """
    lines = list(comments)
    for segment in segments:
        labels = f"<{','.join(segment.labels)}>" if segment.labels else ""
        times = (decimal(segment.start), decimal(segment.end))
        lines.append(" ".join(filter(None, (*segment[:3], *times, labels, segment.text))))
    Path(path).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def decimal(value: float) -> str:
    """Seconds with two decimals, or as many more as give the same number when read again.

    Example
    -------
    >>> decimal(1.06), decimal(3.0), decimal(0.0625)
    ('1.06', '3.00', '0.0625')
    """
    text = f"{value:.2f}"
    return text if float(text) == value else repr(value)
