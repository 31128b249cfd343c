"""Scores as text: a one-line summary, a table, and alignments with marked errors."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from biglittle_asr.scoring.alignment import AlignedUtterance, Counts, OverallCounts
from biglittle_asr.scoring.lookalikes import shown

COLUMNS = {
    "segments": "segments",
    "words": "words",
    "correct": "correct",
    "sub": "substitutions",
    "del": "deletions",
    "ins": "insertions",
    "errors": "errors",
    "WER %": "wer",
    "CER %": "cer",
    "SER %": "ser",
}
"""The table's column heads, each with the attribute of `Counts` that it shows."""

LEGEND = (
    "WER: word errors in percent of the reference words. CER: the same of characters, single spaces between words\n"
    "included. SER: utterances with errors in percent of all. OP: S substitution, D deletion, I insertion."
)
GAP = "*"
"""Fills the place of a missing word."""


def format_summary(counts: OverallCounts, unit: str = "utterances", characters: bool = True) -> str:
    """Write error rates, interval and counts in one line.

    Arguments
    ---------
    counts : OverallCounts
        Counts of all utterances.
    unit : str
        Plural name of a segment.
    characters : bool
        Whether to show the character error rate.

    Example
    -------
    >>> counts = OverallCounts(segments=2, correct=7, substitutions=2, deletions=1, segments_with_errors=1)
    >>> format_summary(counts, "segments", characters=False)
    'WER 30.00 % (3 errors in 10 words: 2 sub, 1 del, 0 ins), SER 50.00 % (1 of 2 segments)'
    """
    interval = (
        f" [{counts.wer_low:.2f}, {counts.wer_high:.2f}]"
        if counts.wer_low is not None and counts.wer_high is not None
        else ""
    )
    cer = f", CER {_rate(counts.cer)}" if characters else ""
    return (
        f"WER {_rate(counts.wer)}{interval} ({_number(counts.errors, 'error')} in {_number(counts.words, 'word')}: "
        f"{counts.substitutions} sub, {counts.deletions} del, {counts.insertions} ins){cer}, SER {_rate(counts.ser)} "
        f"({counts.segments_with_errors} of {counts.segments} {unit})"
    )


def format_table(speakers: Mapping[str, Counts], overall: Counts) -> str:
    """Write counts and rates, one line per speaker and one for all."""
    rows = [["speaker", *COLUMNS]]
    rows += [[name, *_cells(counts)] for name, counts in speakers.items()]
    rows.append(["all", *_cells(overall)])
    widths = [max(display_width(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [
        [_pad(row[0], widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        for row in rows
    ]
    return "\n".join(map("  ".join, lines))


def format_alignment(utterance: AlignedUtterance) -> str:
    """Write an utterance's reference above its hypothesis, with errors marked."""
    return "\n".join(_alignment_lines(utterance))


def display_width(text: str) -> int:
    """Width in terminal columns: wide East Asian characters take two, combining marks none.

    Example
    -------
    >>> display_width("two"), display_width("你好")
    (3, 4)
    """
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def _alignment_lines(utterance: AlignedUtterance) -> Iterator[str]:
    """Yield the heading, reference, hypothesis and marks, in columns."""
    counts = utterance.counts
    speaker = f" ({utterance.speaker})" if utterance.speaker is not None else ""
    errors = _number(counts.errors, "error") if counts.errors else "correct"
    yield f"{utterance.id}{speaker}: {_number(counts.words, 'word')}, {errors}"
    columns = []
    for operation, reference, hypothesis in map(shown, utterance.pairs):
        # A gap must be seen, also beside a word of combining marks alone.
        width = max(1, display_width(reference), display_width(hypothesis))
        words = [word or GAP * width for word in (reference, hypothesis)]
        columns.append([_pad(text, width) for text in (*words, operation)])
    for row, name in enumerate(("REF:", "HYP:", "OP: ")):
        yield " ".join([name, *(column[row] for column in columns)]).rstrip()


def _cells(counts: Counts) -> Sequence[str]:
    values = [getattr(counts, attribute) for attribute in COLUMNS.values()]
    return [_cell(value) for value in values]


def _cell(value: int | float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _rate(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f} %"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _pad(text: str, width: int) -> str:
    return text + " " * (width - display_width(text))
