r"""NIST's segment time marks (STM): the reference transcript of each segment of each channel, one segment per line.

    ;; LABEL "en" "CallHome" "Conversations of CallHome English"
    sw_4390 A sw_4390_A 1.06 3.47 <O,sw> WELL (%HESITATION) { I'VE / I HAVE } SEEN TH- THAT

The fields are recording, channel, speaker, start and end in seconds, optional labels, and words. Among the words,
braces hold alternatives, which may nest, and `@` means no word. Brackets hold an optionally deletable word. A fragment
has a hyphen at its open end. `word;tag` is the word without the tag. A segment with IGNORE_TIME_SEGMENT_IN_SCORING,
with or without underscores, is not scored.
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
"""Marks of segments that are not scored, in upper or lower case."""


class Segment(NamedTuple):
    """One line of an STM file."""

    recording: str
    channel: str
    speaker: str
    start: float
    """Start in seconds."""
    end: float
    """End in seconds."""
    labels: tuple[str, ...]
    """Labels such as ("O", "sw"); empty if the line has none."""
    text: str
    place: str = "the reference"
    """File and line, for messages."""

    @property
    def ignored(self) -> bool:
        """Whether the segment is not scored."""
        return any(mark in self.text.lower() for mark in IGNORED)


@dataclass(frozen=True)
class Stm:
    """An STM file."""

    segments: list[Segment]
    """Segments in the file's order."""
    comments: list[str]
    """Lines that start with two semicolons. Those with LABEL or CATEGORY explain the labels."""


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
        If it is not UTF-8, or a line lacks a field, has a time that is not a number, or ends before it starts. The
        message names file and line.

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
                f"{place}: {len(fields)} fields are not an STM line; write recording, channel, speaker, start, end, "
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
        Segments whose recording, channel and speaker have no white space. Times are not rounded.
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
    """Write seconds with two decimals, or with as many as are needed to read back the same number.

    Example
    -------
    >>> decimal(1.06), decimal(3.0), decimal(0.0625)
    ('1.06', '3.00', '0.0625')
    """
    text = f"{value:.2f}"
    return text if float(text) == value else repr(value)
