r"""Words that look alike and differ all the same: `café` in one character or two, an apostrophe of either kind.

Such a difference counts as any other, and nobody sees why. So alignments show these words with escapes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from biglittle_asr.scoring.alignment import SUBSTITUTION, AlignedUtterance, WordPair

ALIKE = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201b\u02bc\u02b9\u2032\u00b4\u0060\uff07", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u2033\uff02", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\u00ad", "-")
)
"""Apostrophes, quotation marks and hyphens as ASCII has them."""


def look_alike(first: str, second: str) -> bool:
    r"""Whether two different words look the same.

    They do if they are equal without invisible characters, with one kind of apostrophe, quotation mark and hyphen, and
    normalized (NFKC). Words that differ in case alone do not.

    Example
    -------
    >>> look_alike("caf\u00e9", "cafe\u0301"), look_alike("don't", "don\u2019t"), look_alike("To", "to")
    (True, True, False)
    """
    return first.lower() != second.lower() and _appearance(first) == _appearance(second)


def shown(pair: WordPair) -> WordPair:
    r"""The words of a column as people should see them: with escapes where they look alike but are not the same.

    Example
    -------
    >>> print(*shown(WordPair("S", "don't", "don\u2019t")))
    S don't don\u2019t
    """
    if pair.operation != SUBSTITUTION or not look_alike(pair.reference, pair.hypothesis):
        return pair
    return pair._replace(reference=_escaped(pair.reference), hypothesis=_escaped(pair.hypothesis))


def count_look_alikes(utterances: Iterable[AlignedUtterance]) -> tuple[int, tuple[str, str] | None]:
    """Substitutions of words that look alike, and the first of them with escapes: reference and hypothesis."""
    pairs = [
        pair
        for utterance in utterances
        for pair in utterance.pairs
        if pair.operation == SUBSTITUTION and look_alike(pair.reference, pair.hypothesis)
    ]
    return len(pairs), shown(pairs[0])[1:] if pairs else None


def _appearance(word: str) -> str:
    visible = "".join(each for each in word.translate(ALIKE) if unicodedata.category(each) not in ("Cf", "Cc"))
    return unicodedata.normalize("NFKC", visible).lower()


def _escaped(word: str) -> str:
    return word.encode("ascii", "backslashreplace").decode()
