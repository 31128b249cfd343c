"""Whether two systems differ: NIST's matched-pairs test on the errors in segments of sentences (MAPSSWE).

What both systems heard of the same utterances is cut where both have two words right in a row; errors in one piece are
then independent of those in the next. Under the hypothesis that the systems are equally good, the mean difference of
errors per piece, over its standard error, is normally distributed (Gillick and Cox, "Some statistical issues in the
comparison of speech recognition algorithms", ICASSP 1989).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from biglittle_asr.scoring.alignment import CORRECT

if TYPE_CHECKING:
    from biglittle_asr.scoring.nist.score import NistScore

WORDS_BETWEEN = 2
"""Words that both systems have right between two pieces."""
SIGNIFICANCE = 0.05
"""Probability under which a difference counts as one."""


@dataclass(frozen=True)
class MatchedPairs:
    """Outcome of the test of a system against another one."""

    pieces: int
    """Pieces with an error of either system."""
    mean: float
    """Mean difference of errors per piece: positive if the system has more than the other."""
    z: float
    """The mean over its standard error; 0 where the differences do not vary."""
    p: float
    """Probability of a difference at least so large, in either direction, between systems that are equally good."""

    def to_dict(self) -> dict[str, Any]:
        """The test as it stands in JSON."""
        return asdict(self)

    def sentence(self, name: str, other: str) -> str:
        """The outcome in words.

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
        Of the same references, scored with the same options.

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
    differences = [
        errors - other_errors
        for index in range(score.all.segments)
        for errors, other_errors in pieces(score.alignments.places(index), other.alignments.places(index))
    ]
    mean = statistics.fmean(differences) if differences else 0.0
    deviation = statistics.stdev(differences) if len(differences) > 1 else 0.0
    z = mean / (deviation / math.sqrt(len(differences))) if deviation else 0.0
    return MatchedPairs(len(differences), mean, z, math.erfc(abs(z) / math.sqrt(2)))


Steps = Sequence[tuple[str, int]]
"""Operation and place in the reference of each column of an alignment; place 0 where the reference has no word."""


def pieces(steps: Steps, other_steps: Steps) -> Iterator[tuple[int, int]]:
    """Errors of two systems in each piece of an utterance that has any.

    Arguments
    ---------
    steps, other_steps : sequences of (operation, place)
        Alignments of both with the same reference. Where it has alternatives, the systems may have taken different
        ones; such words do not part pieces.

    Returns
    -------
    iterator of two int
        Errors of the one and of the other.

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
    """For each word that both alignments have, the operations before it and its own; then those after the last."""
    before: list[str] = []
    for operation, place in steps:
        if place in shared:
            yield before, operation
            before = []
        else:
            before.append(operation)
    yield before, None
