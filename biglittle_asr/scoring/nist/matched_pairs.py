"""Significance test between two systems: NIST's matched-pairs sentence-segment word error test (MAPSSWE).

Utterances are cut where both systems have two words in a row correct, so that errors in one piece are independent of
those in the next. If the systems are equally good, the mean difference of errors per piece, divided by its standard
error, is normally distributed (Gillick and Cox, "Some statistical issues in the comparison of speech recognition
algorithms", ICASSP 1989).
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from biglittle_asr.scoring.alignment import CORRECT, AlignedUtterance

if TYPE_CHECKING:
    from biglittle_asr.scoring.nist.score import NistScore

WORDS_BETWEEN = 2
"""Number of consecutive words, correct in both systems, that separate two pieces."""
SIGNIFICANCE = 0.05
"""A difference with a p-value below this is significant."""


Steps = Sequence[tuple[str, int]]
"""Operation and reference position of each column of an alignment; position 0 means no reference word."""


@dataclass(frozen=True)
class MatchedPairs:
    """Result of the test of one system against another."""

    pieces: int
    """Number of pieces in which either system has an error."""
    mean: float
    """Mean difference of errors per piece; positive if the system has more errors than the other."""
    z: float
    """The mean divided by its standard error; 0 if the differences do not vary."""
    p: float
    """Two-sided probability of a difference at least this large between equally good systems."""

    def to_dict(self) -> dict[str, Any]:
        """Return the result for JSON."""
        return asdict(self)

    def sentence(self, name: str, other: str) -> str:
        """Describe the result in a sentence.

        Example
        -------
        >>> MatchedPairs(120, -0.25, -2.6, 0.0093).sentence("new.ctm", "old.ctm")
        'new.ctm has fewer errors than old.ctm: -0.250 in the mean of 120 pieces, Z -2.60, p 0.0093, significant.'
        """
        relation = (
            "has fewer errors than" if self.mean < 0 else "has more errors than" if self.mean else "is on par with"
        )
        verdict = "significant" if self.p < SIGNIFICANCE else "not significant"
        return (
            f"{name} {relation} {other}: {self.mean:.3f} in the mean of {self.pieces} pieces, Z {self.z:.2f}, "
            f"p {self.p:.4f}, {verdict}."
        )


def compare_systems(score: NistScore, other: NistScore) -> MatchedPairs:
    """Test whether a system's errors differ from another's on the same references.

    Arguments
    ---------
    score, other : NistScore
        Scores of the same references, with the same options.

    Returns
    -------
    MatchedPairs

    Raises
    ------
    ValueError
        If the references differ.
    """
    if [segment[:-1] for segment in score.references] != [segment[:-1] for segment in other.references]:
        raise ValueError(
            "The two systems were scored against different references; score both against the same STM file."
        )
    places = (score.alignments.places, other.alignments.places)
    return compare_alignments(*(map(of, range(score.all.segments)) for of in places))


def compare_alignments(alignments: Iterable[Steps], other_alignments: Iterable[Steps]) -> MatchedPairs:
    """Test whether a system's errors differ from another's, by their alignments with the same references.

    Example
    -------
    >>> good, bad = [("", 1), ("", 2)], [("S", 1), ("", 2)]
    >>> compare_alignments([good, bad], [bad, bad])
    MatchedPairs(pieces=2, mean=-0.5, z=-1.0, p=0.31731050786291415)
    """
    differences = [
        errors - other_errors
        for steps, other_steps in zip(alignments, other_alignments, strict=True)
        for errors, other_errors in pieces(steps, other_steps)
    ]
    return _test(differences)


def compare_utterances(utterances: Sequence[AlignedUtterance], others: Sequence[AlignedUtterance]) -> MatchedPairs:
    """Test whether a system's errors differ from another's in the same utterances.

    For scores of any kind, such as those of `score_texts` and `read_score`.

    Arguments
    ---------
    utterances, others : sequences of AlignedUtterance
        Of the same utterances, in the same order. An utterance whose reference has alternatives, of which the systems
        match different ones, is one piece.

    Returns
    -------
    MatchedPairs

    Example
    -------
    >>> from biglittle_asr.scoring.alignment import align
    >>> first, second = (align(["a"], ["one two"], [text], [None]) for text in ("one", "one two"))
    >>> compare_utterances(first, second).mean
    1.0
    """
    differences = []
    for utterance, other in zip(utterances, others, strict=True):
        if reference_words(utterance) == reference_words(other):
            found = list(pieces(_steps(utterance), _steps(other)))
        else:
            found = [(utterance.counts.errors, other.counts.errors)]
        differences += [errors - other_errors for errors, other_errors in found if errors or other_errors]
    return _test(differences)


def reference_words(utterance: AlignedUtterance) -> list[str]:
    """The words of an utterance's reference."""
    return [pair.reference for pair in utterance.pairs if pair.reference]


def _steps(utterance: AlignedUtterance) -> Steps:
    places = itertools.accumulate(bool(pair.reference) for pair in utterance.pairs)
    return [
        (pair.operation, place if pair.reference else 0) for pair, place in zip(utterance.pairs, places, strict=True)
    ]


def _test(differences: Sequence[int]) -> MatchedPairs:
    mean = statistics.fmean(differences) if differences else 0.0
    deviation = statistics.stdev(differences) if len(differences) > 1 else 0.0
    z = mean / (deviation / math.sqrt(len(differences))) if deviation else 0.0
    return MatchedPairs(len(differences), mean, z, math.erfc(abs(z) / math.sqrt(2)))


def pieces(steps: Steps, other_steps: Steps) -> Iterator[tuple[int, int]]:
    """Count the errors of two systems in each piece of an utterance that has errors.

    Arguments
    ---------
    steps, other_steps : sequences of (operation, place)
        Alignments of both systems with the same reference. Words that are in only one of them, because the systems
        match different alternatives, do not separate pieces.

    Returns
    -------
    iterator of two int
        Errors of the system and of the other one.

    Example
    -------
    >>> list(pieces([("S", 1), ("", 2), ("", 3), ("", 4)], [("", 1), ("", 2), ("", 3), ("D", 4)]))
    [(1, 0), (0, 1)]
    >>> list(pieces([("S", 1), ("", 2), ("", 3)], [("", 1), ("", 2), ("D", 3)]))
    [(1, 1)]
    """
    shared = {place for _, place in steps} & {place for _, place in other_steps} - {0}
    errors, right, open_piece = [0, 0], 0, False
    for columns in zip(_until_shared(steps, shared), _until_shared(other_steps, shared), strict=True):
        wrong = [sum(operation != CORRECT for operation in before) for before, _ in columns]
        if any(wrong):
            right, open_piece = 0, True
        both_right = all(operation == CORRECT for _, operation in columns)
        wrong = [
            count + (operation not in (CORRECT, None)) for count, (_, operation) in zip(wrong, columns, strict=True)
        ]
        errors = [sum(counts) for counts in zip(errors, wrong, strict=True)]
        if not both_right:
            right, open_piece = 0, open_piece or any(wrong)
            continue
        right += 1
        if open_piece and right == WORDS_BETWEEN:
            yield errors[0], errors[1]
            errors, right, open_piece = [0, 0], 0, False
    if open_piece:
        yield errors[0], errors[1]


def _until_shared(steps: Steps, shared: set[int]) -> Iterator[tuple[list[str], str | None]]:
    """Yield, for each shared word, the operations before it and its own; then the operations after the last one."""
    before: list[str] = []
    for operation, place in steps:
        if place in shared:
            yield before, operation
            before = []
        else:
            before.append(operation)
    yield before, None
