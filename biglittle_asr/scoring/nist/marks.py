"""Texts with NIST's marks, outside of STM files: alternatives, optionally deletable words and tags in trn files.

    well { i've / i have } seen (uh) that;tag { um / @ } (jane-01)

The marks mean what they mean in STM files (`stm.py`), and texts with marks are aligned at NIST's costs. So counts are
those of `sclite -r ref.trn trn -h hyp.trn trn`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from biglittle_asr.scoring.alignment import CORRECT, AlignedUtterance, Counts, WordPair, character_counts
from biglittle_asr.scoring.nist.ctm import NO_WORD
from biglittle_asr.scoring.nist.graph_alignment import align_graphs
from biglittle_asr.scoring.nist.wordgraph import Vocabulary, graph_of_text, without_tags

OPTIONAL = re.compile(r"\([^()]+\)")
"""A word that `optional` lets be deleted."""


def has_marks(text: str) -> bool:
    """Whether alternatives, `@` or tags make a text mean something else than its words.

    Brackets around a word are no such mark, as they count only where that is asked for.

    Example
    -------
    >>> [has_marks(text) for text in ("well { uh / @ }", "well;tag", "a / b (uh)")]
    [True, True, False]
    """
    return "{" in text or "}" in text or any(word == NO_WORD or without_tags(word) != word for word in text.split())


def optional_word(texts: Iterable[str]) -> str | None:
    """The first word in brackets, if there is one.

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
        Whether "Yes" and "yes" are two words.
    optional, fragments : bool
        As of :class:`~biglittle_asr.scoring.nist.wordgraph.Vocabulary`.

    Returns
    -------
    list of AlignedUtterance
        In the order given. Characters are counted in the alternatives that were taken, without optionally deletable
        words that the hypothesis lacks.

    Raises
    ------
    ValueError
        If braces do not match, hold no words, or stand within a word; the utterance is named.

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
    """Reference and hypothesis as the alignment reads them, without brackets."""
    sides: tuple[list[str], list[str]] = ([], [])
    for operation, reference, hypothesis in pairs:
        if operation != CORRECT:
            words = reference, hypothesis
        elif reference and hypothesis:
            # A fragment, or a word in brackets, is right as it stands.
            words = reference, reference
        else:
            words = "", ""
        for side, word in zip(sides, words, strict=True):
            if word:
                side.append(word[1:-1] if OPTIONAL.fullmatch(word) else word)
    return " ".join(sides[0]), " ".join(sides[1])
