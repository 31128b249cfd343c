"""NIST's marks in trn files: alternatives, optionally deletable words and tags.

    well { i've / i have } seen (uh) that;tag { um / @ } (jane-01)

Marks have the same meaning as in STM files (`stm.py`), and texts with marks are aligned at NIST's costs. The counts
equal those of `sclite -r ref.trn trn -h hyp.trn trn`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from biglittle_asr.scoring.alignment import CORRECT, AlignedUtterance, Counts, WordPair, character_counts
from biglittle_asr.scoring.nist.ctm import NO_WORD
from biglittle_asr.scoring.nist.graph_alignment import align_graphs
from biglittle_asr.scoring.nist.wordgraph import Vocabulary, graph_of_text, without_tags

OPTIONAL = re.compile(r"\([^()]+\)")
"""An optionally deletable word."""


def has_marks(text: str) -> bool:
    """Whether a text has alternatives, `@` or tags.

    Brackets around a word do not count here, as they have a meaning only on request.

    Example
    -------
    >>> [has_marks(text) for text in ("well { uh / @ }", "well;tag", "a / b (uh)")]
    [True, True, False]
    """
    return "{" in text or "}" in text or any(word == NO_WORD or without_tags(word) != word for word in text.split())


def optional_word(texts: Iterable[str]) -> str | None:
    """Find the first word in brackets; None if there is none.

    Example
    -------
    >>> optional_word(["yes", "{ (uh) / @ } no"])
    '(uh)'
    """
    words = (word for text in texts for word in re.split(r"[\s{}/]+", text))
    return next((word for word in words if OPTIONAL.fullmatch(word)), None)


def align_marked(
    ids: Sequence[str],
    references: Sequence[str],
    hypotheses: Sequence[str],
    speakers: Sequence[str | None],
    case_sensitive: bool = False,
    optional: bool = False,
    fragments: bool = False,
) -> list[AlignedUtterance]:
    """Align every hypothesis with its reference, as sclite does.

    Arguments
    ---------
    ids, references, hypotheses, speakers : sequences of the same length
        Either text may be empty, and either may have marks.
    case_sensitive : bool
        Whether "Yes" and "yes" are different words.
    optional, fragments : bool
        As in :class:`~biglittle_asr.scoring.nist.wordgraph.Vocabulary`.

    Returns
    -------
    list of AlignedUtterance
        In the order given. Characters are counted in the alternatives that the alignment chose, without optionally
        deletable words that the hypothesis lacks.

    Raises
    ------
    ValueError
        If braces do not match, hold no words, or are within a word. The message names the utterance.

    Example
    -------
    >>> (utterance,) = align_marked(["a"], ["{ um / uh } oui"], ["UH non"], [None])
    >>> [tuple(pair) for pair in utterance.pairs], utterance.counts.characters
    ([('', 'uh', 'UH'), ('S', 'oui', 'non')], 6)
    """
    vocabulary = Vocabulary(case_sensitive, optional, fragments)
    expected, found = (
        [
            graph_of_text(" ".join(text.split()), vocabulary, f"utterance {each}, {name}")
            for each, text in zip(ids, texts, strict=True)
        ]
        for name, texts in (("reference", references), ("hypothesis", hypotheses))
    )
    alignments = align_graphs(expected, found, vocabulary)
    pairs = [tuple(alignments.word_pairs(index)) for index in range(len(ids))]
    compared = [_compared(columns) for columns in pairs]
    characters = character_counts([each[0] for each in compared], [each[1] for each in compared], case_sensitive)
    utterances = []
    for index, (correct, substitutions, deletions, insertions) in enumerate(alignments.counts.tolist()):
        wrong = int(substitutions + deletions + insertions > 0)
        counts = Counts(1, correct, substitutions, deletions, insertions, wrong, *characters[index])
        utterances.append(AlignedUtterance(ids[index], speakers[index], pairs[index], counts))
    return utterances


def _compared(pairs: Sequence[WordPair]) -> tuple[str, str]:
    """Return reference and hypothesis as they were aligned, without brackets."""
    sides: tuple[list[str], list[str]] = ([], [])
    for operation, reference, hypothesis in pairs:
        if operation != CORRECT:
            words = reference, hypothesis
        elif reference and hypothesis:
            # A matching fragment or bracketed word is correct although its characters differ.
            words = reference, reference
        else:
            words = "", ""
        for side, word in zip(sides, words, strict=True):
            if word:
                side.append(word[1:-1] if OPTIONAL.fullmatch(word) else word)
    return " ".join(sides[0]), " ".join(sides[1])
