"""Reads back the scores that `Score.write` has written.

Such files are `wer_test.txt` in a recipe's output folder, and those of `biglittle evaluate --output` and `biglittle
score --alignments`. They have rounded rates, and the alignment of every utterance. The counts are taken from the
alignments, and compared with those in the file's summary.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from os import PathLike

from biglittle_asr.files import text_lines
from biglittle_asr.messages import visible
from biglittle_asr.scoring.alignment import (
    CORRECT,
    DELETION,
    INSERTION,
    SUBSTITUTION,
    AlignedUtterance,
    Counts,
    OverallCounts,
    WordPair,
    character_counts,
    count_pairs,
    total,
)
from biglittle_asr.scoring.lookalikes import look_alike
from biglittle_asr.scoring.nist.score import SegmentScore
from biglittle_asr.scoring.report import GAP, display_width
from biglittle_asr.scoring.score import Score

HEADING = re.compile(r"(?P<id>.+?)(?: \((?P<speaker>.+)\))?: \d+ words?, (?:correct|\d+ errors?)", re.DOTALL)
ROWS = ("REF:", "HYP:", "OP: ")
SUMMARY = re.compile(
    r"WER .*\(\d+ errors? in \d+ words?: (?P<substitutions>\d+) sub, (?P<deletions>\d+) del, "
    r"(?P<insertions>\d+) ins\)(?:, CER (?:(?P<cer>[\d.]+) %|undefined))?, "
    r"SER .*\((?P<segments_with_errors>\d+) of (?P<segments>\d+) (?P<unit>\w+)\)"
)
COMPARED = ("substitutions", "deletions", "insertions", "segments_with_errors", "segments")
"""Counts of the summary that those of the alignments must equal."""
ADVICE = "give a file of `biglittle evaluate --output` or `biglittle score --alignments`, or a recipe's wer_test.txt"


def read_score(path: str | PathLike[str], bootstrap: int = 1000, seed: int = 0) -> Score:
    """Read a score that :meth:`Score.write` has written.

    Arguments
    ---------
    path : path
        The file.
    bootstrap : int
        Number of sets of speakers drawn for the interval of the WER; 0 for no interval.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    Score
        The score that was written. A score by NIST's method comes back as a
        :class:`~biglittle_asr.scoring.nist.score.SegmentScore`, without labels. Characters are counted if the file has
        a character error rate and the words of the alignments give the same one; they do not if alternatives were
        aligned by characters that the file does not have.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is another kind of file, or its alignments and its summary differ.

    Example
    -------
    >>> from biglittle_asr.scoring import score_texts
    >>> path = getfixture("tmp_path") / "wer_test.txt"
    >>> score = score_texts({"a": "one two"}, {"a": "one too"})
    >>> score.write(path)
    >>> read_score(path) == score
    True
    """
    lines = list(text_lines(path, advice=ADVICE))
    summary = next((found for _, line in lines[:3] if (found := SUMMARY.fullmatch(line))), None)
    utterances = list(_utterances(lines))
    if summary is None or not utterances:
        raise ValueError(f"{path}: holds no alignments of utterances; {ADVICE}.")
    segments = summary["unit"] == SegmentScore.unit
    if summary["cer"]:
        utterances = _with_characters(utterances, summary["cer"])
    by_speaker: dict[str, list[Counts]] = {}
    for utterance in utterances:
        if utterance.speaker is not None:
            by_speaker.setdefault(utterance.speaker, []).append(utterance.counts)
    # Intervals depend on the order of speakers, which both kinds of scores have in these two ways.
    names = list(by_speaker) if segments else sorted(by_speaker)
    speakers = {name: total(by_speaker[name]) for name in names}
    counts = total(utterance.counts for utterance in utterances)
    for name in COMPARED:
        if getattr(counts, name) != int(summary[name]):
            raise ValueError(
                f"{path}: its summary has {summary[name]} {name.replace('_', ' ')}, but its alignments have "
                f"{getattr(counts, name)}; the file was changed or cut: write it again."
            )
    overall = OverallCounts.of(counts, list(speakers.values()), bootstrap, seed)
    return (SegmentScore if segments else Score)(overall, speakers, {}, utterances)


def _utterances(lines: Sequence[tuple[str, str]]) -> Iterator[AlignedUtterance]:
    """Yield the utterances of a file's lines: four lines each, heading, reference, hypothesis and marks."""
    for number in range(len(lines) - len(ROWS)):
        place, line = lines[number]
        rows = [row for _, row in lines[number + 1 : number + 1 + len(ROWS)]]
        heading = HEADING.fullmatch(line)
        if heading is None or any(not f"{row} ".startswith(name) for row, name in zip(rows, ROWS, strict=True)):
            continue
        pairs = tuple(_pairs(place, *(row[len(ROWS[0]) :] for row in rows)))
        yield AlignedUtterance(heading["id"], heading["speaker"], pairs, count_pairs(pairs))


def _pairs(place: str, reference: str, hypothesis: str, marks: str) -> Iterator[WordPair]:
    """Yield the columns of an alignment, which begin with a space each."""
    words = [re.findall("[^ ]+", row) for row in (reference, hypothesis)]
    if len(words[0]) != len(words[1]):
        raise ValueError(f"{place}: the reference has {len(words[0])} columns, the hypothesis {len(words[1])}.")
    column = 1
    for pair in zip(*words, strict=True):
        width = max(1, *map(display_width, pair))
        operation = marks[column : column + 1].strip()
        if operation not in (CORRECT, SUBSTITUTION, DELETION, INSERTION):
            raise ValueError(f"{place}: '{visible(operation)}' marks no error; an alignment has S, D and I.")
        gap = GAP * width
        # Words may consist of the gap's character; a gap is where the other side has another word.
        blank = pair[0] != pair[1] and operation != SUBSTITUTION
        yield _unescaped(
            WordPair(
                operation,
                "" if operation == INSERTION or (blank and pair[0] == gap) else pair[0],
                "" if operation == DELETION or (blank and pair[1] == gap) else pair[1],
            )
        )
        column += width + 1


def _unescaped(pair: WordPair) -> WordPair:
    """Undo the escapes by which look-alike words are told apart."""
    if pair.operation != SUBSTITUTION or "\\" not in pair.reference + pair.hypothesis:
        return pair
    try:
        words = [word.encode("ascii").decode("unicode_escape") for word in pair[1:]]
        # Lone surrogates are no text.
        " ".join(words).encode()
    except UnicodeError:
        return pair
    return WordPair(pair.operation, *words) if look_alike(*words) else pair


def _with_characters(utterances: list[AlignedUtterance], cer: str) -> list[AlignedUtterance]:
    """Count characters so that the error rate is that of the summary, which does not say whether case matters."""
    references, hypotheses = (
        [" ".join(filter(None, (pair[side] for pair in utterance.pairs))) for utterance in utterances]
        for side in (1, 2)
    )
    for case_sensitive in (False, True):
        characters = character_counts(references, hypotheses, case_sensitive)
        counted = [
            replace(each, counts=replace(each.counts, characters=count, character_errors=errors))
            for each, (count, errors) in zip(utterances, characters, strict=True)
        ]
        rate = total(each.counts for each in counted).cer
        if rate is not None and f"{rate:.2f}" == cer:
            return counted
    return utterances
