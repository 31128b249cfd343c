"""Scores as text: a one-line summary, a table, and alignments with marked errors, which can be read back."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike

from biglittle_asr.files import read_text
from biglittle_asr.scoring.alignment import DELETION, INSERTION, SUBSTITUTION, AlignedUtterance, Counts, OverallCounts
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

ALIGNED = re.compile(
    r"^(?P<id>.+?)(?: \((?P<speaker>.+)\))?: \d+ words?, (?:(?P<correct>correct)|\d+ errors?)\n"
    r"REF:(?P<reference>.*)\nHYP:(?P<hypothesis>.*)\nOP:.*",
    re.MULTILINE,
)
"""Matches an utterance of a file that :meth:`Score.write` has written."""


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
    widths = [max(_width(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [
        [_pad(row[0], widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        for row in rows
    ]
    return "\n".join(map("  ".join, lines))


def format_alignment(utterance: AlignedUtterance) -> str:
    """Write an utterance's reference above its hypothesis, with errors marked."""
    return "\n".join(_alignment_lines(utterance))


def _alignment_lines(utterance: AlignedUtterance) -> Iterator[str]:
    """Yield the heading, reference, hypothesis and marks, in columns."""
    counts = utterance.counts
    speaker = f" ({utterance.speaker})" if utterance.speaker is not None else ""
    errors = _number(counts.errors, "error") if counts.errors else "correct"
    yield f"{utterance.id}{speaker}: {_number(counts.words, 'word')}, {errors}"
    columns = []
    for operation, reference, hypothesis in map(shown, utterance.pairs):
        width = max(_width(reference), _width(hypothesis))
        words = [word or GAP * width for word in (reference, hypothesis)]
        columns.append([_pad(text, width) for text in (*words, operation)])
    for row, name in enumerate(("REF:", "HYP:", "OP: ")):
        yield " ".join([name, *(column[row] for column in columns)]).rstrip()


def read_operations(path: str | PathLike[str]) -> Iterator[tuple[str, str, str]]:
    """Read which words were right and wrong from a file of alignments, such as wer_test.txt of a recipe.

    Arguments
    ---------
    path : path
        A file that :meth:`Score.write` has written.

    Yields
    ------
    (str, str, str)
        Utterance ID, speaker ("" if unknown), and one letter per column of the alignment: C correct, S substitution,
        D deletion, I insertion. A reference word of asterisks alone reads as an insertion.

    Raises
    ------
    OSError, ValueError
        If the file cannot be read.

    Example
    -------
    >>> from biglittle_asr.scoring import score_texts
    >>> path = getfixture("tmp_path") / "wer_test.txt"
    >>> score_texts({"a": "one two six"}, {"a": "one too"}, {"a": "jane"}).write(path)
    >>> list(read_operations(path))
    [('a', 'jane', 'CSD')]
    """
    for match in ALIGNED.finditer(read_text(path)):
        columns = zip(match["reference"].split(), match["hypothesis"].split(), strict=True)
        yield match["id"], match["speaker"] or "", "".join(_operation(*column) for column in columns)


def _operation(reference: str, hypothesis: str) -> str:
    if not reference.strip(GAP):
        return INSERTION
    if not hypothesis.strip(GAP):
        return DELETION
    return "C" if reference.lower() == hypothesis.lower() else SUBSTITUTION


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
    return text + " " * (width - _width(text))


def _width(text: str) -> int:
    """Width in terminal columns: wide East Asian characters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )
