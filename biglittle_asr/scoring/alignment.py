"""Word-by-word alignment of references and hypotheses, its counts, and the error rates computed from them.

Every error costs 1, and the alignment with the fewest errors is used (Levenshtein). jiwer breaks ties. Ties do not
change the WER, but they can change the split into substitutions, deletions and insertions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import NamedTuple

import jiwer

from biglittle_asr.scoring.bootstrap import wer_interval


@dataclass(frozen=True)
class Counts:
    """Counts over a set of utterances; all rates are in percent of the reference.

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
    """Reference words that the hypothesis has."""
    substitutions: int = 0
    """Reference words that the hypothesis has another word for."""
    deletions: int = 0
    """Reference words that the hypothesis lacks."""
    insertions: int = 0
    """Hypothesis words that the reference lacks."""
    segments_with_errors: int = 0
    """Utterances with at least one wrong word."""
    characters: int = 0
    """Characters of the references, the single spaces between words included."""
    character_errors: int = 0
    """Fewest character substitutions, deletions and insertions that turn references into hypotheses."""

    @property
    def words(self) -> int:
        """Reference words."""
        return self.correct + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def wer(self) -> float | None:
        """Word errors in percent of the reference words (may exceed 100); None where there are no such words."""
        return percent(self.errors, self.words)

    @property
    def cer(self) -> float | None:
        """Character errors in percent of the reference characters; None where there are no such characters."""
        return percent(self.character_errors, self.characters)

    @property
    def ser(self) -> float | None:
        """Utterances with errors in percent of all utterances; None where there are no utterances."""
        return percent(self.segments_with_errors, self.segments)

    def to_dict(self) -> dict[str, int | float | None]:
        """Counts and rates as they stand in JSON.

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
    """Lower end of the bootstrap interval in percent; None without one."""
    wer_high: float | None = None
    """Upper end of the bootstrap interval in percent; None without one."""
    bootstrap: int = 0
    """Sets of speakers drawn for the interval; 0 if none was asked for."""

    def to_dict(self) -> dict[str, int | float | None]:
        """Counts and rates as they stand in JSON; the interval's ends only where one was asked for."""
        interval = {"wer_low": self.wer_low, "wer_high": self.wer_high} if self.bootstrap else {}
        return {**super().to_dict(), **interval}

    @classmethod
    def of(cls, counts: Counts, speakers: Sequence[Counts], bootstrap: int = 0, seed: int = 0) -> OverallCounts:
        """Counts of all utterances, with an interval from those of each speaker.

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
    """`part` in percent of `whole`; None if `whole` is 0.

    Example
    -------
    >>> percent(1, 8), percent(1, 0)
    (12.5, None)
    """
    return 100.0 * part / whole if whole else None


# Alignments

CORRECT, SUBSTITUTION, DELETION, INSERTION = "", "S", "D", "I"
"""Marks of a column."""


class WordPair(NamedTuple):
    """One column of an alignment."""

    operation: str
    """CORRECT, SUBSTITUTION, DELETION or INSERTION."""
    reference: str
    """The word, or "" where the reference has none."""
    hypothesis: str
    """The word, or "" where the hypothesis has none."""


@dataclass(frozen=True)
class AlignedUtterance:
    """An utterance's words in reference and hypothesis, aligned, as they were spelled before comparison."""

    id: str
    speaker: str | None
    pairs: tuple[WordPair, ...]
    counts: Counts


OPERATIONS = {"equal": CORRECT, "substitute": SUBSTITUTION, "delete": DELETION, "insert": INSERTION}
"""The mark of each jiwer operation."""


class Words(jiwer.AbstractTransform):
    """Splits at white space and does nothing else. jiwer's own transforms do more, and some refuse empty texts."""

    def process_string(self, s: str) -> list[str]:
        """Split one text into words; an empty text has none."""
        return s.split()

    def process_list(self, inp: list[str]) -> list[list[str]]:
        """Split each text into words."""
        return [self.process_string(text) for text in inp]


class Characters(Words):
    """Splits into characters, including spaces."""

    def process_string(self, s: str) -> list[str]:
        """Split one text into characters."""
        return list(s)


def align(
    ids: Sequence[str],
    references: Sequence[str],
    hypotheses: Sequence[str],
    speakers: Sequence[str | None],
    case_sensitive: bool = False,
) -> list[AlignedUtterance]:
    """Align every hypothesis with its reference. Words are separated by white space.

    Arguments
    ---------
    ids, references, hypotheses, speakers : sequences of the same length
        Either text may be empty.
    case_sensitive : bool
        Whether "Yes" and "yes" are different words.

    Returns
    -------
    list of AlignedUtterance
        In the order given.

    Example
    -------
    >>> (utterance,) = align(["a"], ["one two three"], ["ONE too"], [None])
    >>> [tuple(pair) for pair in utterance.pairs]
    [('', 'one', 'ONE'), ('S', 'two', 'too'), ('D', 'three', '')]
    """
    reference_words = [text.split() for text in references]
    hypothesis_words = [text.split() for text in hypotheses]
    compared_references, compared_hypotheses = (
        [text if case_sensitive else text.lower() for text in map(" ".join, side)]
        for side in (reference_words, hypothesis_words)
    )
    by_word = jiwer.process_words(compared_references, compared_hypotheses, Words(), Words())
    characters = character_counts(compared_references, compared_hypotheses, case_sensitive=True)
    utterances = []
    for index, utterance_id in enumerate(ids):
        pairs = tuple(_word_pairs(by_word.alignments[index], reference_words[index], hypothesis_words[index]))
        counts = count_pairs(pairs, *characters[index])
        utterances.append(AlignedUtterance(utterance_id, speakers[index], pairs, counts))
    return utterances


def count_pairs(pairs: Sequence[WordPair], characters: int = 0, character_errors: int = 0) -> Counts:
    """Count the columns of an utterance's alignment.

    Example
    -------
    >>> count_pairs([WordPair("", "one", "one"), WordPair("D", "two", "")]).wer
    50.0
    """
    operations = [pair.operation for pair in pairs]
    return Counts(
        segments=1,
        correct=operations.count(CORRECT),
        substitutions=operations.count(SUBSTITUTION),
        deletions=operations.count(DELETION),
        insertions=operations.count(INSERTION),
        segments_with_errors=int(any(operations)),
        characters=characters,
        character_errors=character_errors,
    )


def character_counts(
    references: Sequence[str], hypotheses: Sequence[str], case_sensitive: bool = False
) -> list[tuple[int, int]]:
    """Count the characters of each reference, and the fewest errors that turn it into its hypothesis.

    Example
    -------
    >>> character_counts(["one two"], ["One too"])
    [(7, 1)]
    """
    compared_references, compared_hypotheses = (
        [text if case_sensitive else text.lower() for text in texts] for texts in (references, hypotheses)
    )
    aligned = jiwer.process_words(compared_references, compared_hypotheses, Characters(), Characters())
    return [
        (len(reference), sum(_size(chunk) for chunk in chunks if chunk.type != "equal"))
        for reference, chunks in zip(aligned.references, aligned.alignments, strict=True)
    ]


def _size(chunk: jiwer.AlignmentChunk) -> int:
    return max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)


def _word_pairs(
    chunks: Sequence[jiwer.AlignmentChunk], reference: Sequence[str], hypothesis: Sequence[str]
) -> Iterator[WordPair]:
    for chunk in chunks:
        for offset in range(_size(chunk)):
            yield WordPair(
                OPERATIONS[chunk.type],
                "" if chunk.type == "insert" else reference[chunk.ref_start_idx + offset],
                "" if chunk.type == "delete" else hypothesis[chunk.hyp_start_idx + offset],
            )
