"""Word-by-word alignment of references and hypotheses: correct, substituted, deleted and inserted words.

Every error costs 1, and the alignment with the fewest errors is used (Levenshtein). jiwer breaks ties. Ties do not
change the WER, but they can change the split into substitutions, deletions and insertions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import jiwer

from biglittle_asr.scoring.columns import CORRECT, DELETION, INSERTION, SUBSTITUTION, AlignedUtterance, WordPair
from biglittle_asr.scoring.counts import Counts

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
        utterances.append(AlignedUtterance(utterance_id, speakers[index], pairs, _count(pairs, *characters[index])))
    return utterances


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


def _count(pairs: Sequence[WordPair], characters: int, character_errors: int) -> Counts:
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
