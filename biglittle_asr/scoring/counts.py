"""Counts of a comparison of hypotheses with references, and error rates computed from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields

from biglittle_asr.scoring.bootstrap import wer_interval


@dataclass(frozen=True)
class Counts:
    """Counts over a set of utterances. Rates are in percent of the reference.

    Example
    -------
    >>> counts = Counts(segments=2, correct=7, substitutions=2, deletions=1, insertions=1)
    >>> counts.words, counts.errors, counts.wer
    (10, 4, 40.0)
    >>> Counts(segments=1, insertions=3).wer is None
    True
    """

    segments: int = 0
    """Utterances."""
    correct: int = 0
    """Reference words recognized correctly."""
    substitutions: int = 0
    """Reference words recognized as another word."""
    deletions: int = 0
    """Reference words missing from the hypothesis."""
    insertions: int = 0
    """Hypothesis words that are not in the reference."""
    segments_with_errors: int = 0
    """Utterances with at least one error."""
    characters: int = 0
    """Characters of the references, including the single spaces between words."""
    character_errors: int = 0
    """Fewest character substitutions, deletions and insertions that turn references into hypotheses."""

    @property
    def words(self) -> int:
        """Number of reference words."""
        return self.correct + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        """Sum of substitutions, deletions and insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def wer(self) -> float | None:
        """Word errors in percent of the reference words (may exceed 100); None without reference words."""
        return percent(self.errors, self.words)

    @property
    def cer(self) -> float | None:
        """Character errors in percent of the reference characters; None without reference characters."""
        return percent(self.character_errors, self.characters)

    @property
    def ser(self) -> float | None:
        """Utterances with errors in percent of all utterances; None without utterances."""
        return percent(self.segments_with_errors, self.segments)

    def to_dict(self) -> dict[str, int | float | None]:
        """Return counts and rates for JSON.

        Example
        -------
        >>> Counts(segments=1, correct=3, substitutions=1, segments_with_errors=1).to_dict()["wer"]
        25.0
        """
        names = ("segments", "words", "correct", "substitutions", "deletions", "insertions", "errors")
        return {name: getattr(self, name) for name in (*names, "segments_with_errors", "wer", "cer", "ser")}


@dataclass(frozen=True)
class OverallCounts(Counts):
    """Counts of all utterances, with the interval of their WER."""

    wer_low: float | None = None
    """Lower end of the bootstrap interval in percent; None without an interval."""
    wer_high: float | None = None
    """Upper end of the bootstrap interval in percent; None without an interval."""
    bootstrap: int = 0
    """Number of sets of speakers drawn for the interval; 0 if no interval was requested."""

    def to_dict(self) -> dict[str, int | float | None]:
        """Return counts and rates for JSON; the interval's ends only if one was requested."""
        interval = {"wer_low": self.wer_low, "wer_high": self.wer_high} if self.bootstrap else {}
        return {**super().to_dict(), **interval}

    @classmethod
    def of(cls, counts: Counts, speakers: Sequence[Counts], bootstrap: int = 0, seed: int = 0) -> OverallCounts:
        """Add an interval, computed from the counts of each speaker, to the counts of all utterances.

        Example
        -------
        >>> speakers = [Counts(correct=9, deletions=1), Counts(correct=6, deletions=4)]
        >>> overall = OverallCounts.of(total(speakers), speakers, bootstrap=100)
        >>> overall.wer_low <= overall.wer <= overall.wer_high
        True
        """
        interval = None
        if bootstrap:
            errors, words = [each.errors for each in speakers], [each.words for each in speakers]
            interval = wer_interval(errors, words, bootstrap, seed)
        low, high = interval or (None, None)
        return cls(**asdict(counts), wer_low=low, wer_high=high, bootstrap=bootstrap)


def total(parts: Iterable[Counts]) -> Counts:
    """Add counts up.

    Example
    -------
    >>> total([Counts(segments=1, correct=2), Counts(segments=1, insertions=1)])  # doctest: +ELLIPSIS
    Counts(segments=2, correct=2, substitutions=0, deletions=0, insertions=1, ...)
    """
    parts = list(parts)
    return Counts(**{field.name: sum(getattr(part, field.name) for part in parts) for field in fields(Counts)})


def percent(part: int, whole: int) -> float | None:
    """Compute `part` in percent of `whole`; None if `whole` is 0.

    Example
    -------
    >>> percent(1, 8), percent(1, 0)
    (12.5, None)
    """
    return 100.0 * part / whole if whole else None
