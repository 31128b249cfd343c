r"""Different words that look the same: `café` with a composed or a decomposed é, straight and curly apostrophes.

Such a difference counts as an error, but it cannot be seen on the screen. Alignments show these words with escapes.
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
"""Maps apostrophes, quotation marks and hyphens to their ASCII forms."""


def look_alike(first: str, second: str) -> bool:
    r"""Whether two different words look the same.

    They do if they are equal once invisible characters are removed, apostrophes, quotation marks and hyphens are
    mapped to ASCII, and both are normalized (NFKC). Words that differ only in case do not look the same.

    Example
    -------
    >>> look_alike("caf\u00e9", "cafe\u0301"), look_alike("don't", "don\u2019t"), look_alike("To", "to")
    (True, True, False)
    """
    return first.lower() != second.lower() and _appearance(first) == _appearance(second)


def shown(pair: WordPair) -> WordPair:
    r"""Return a column for display, with escapes where its two words differ but look the same.

    Example
    -------
    >>> print(*shown(WordPair("S", "don't", "don\u2019t")))
    S don't don\u2019t
    """
    if pair.operation != SUBSTITUTION or not look_alike(pair.reference, pair.hypothesis):
        return pair
    return pair._replace(reference=_escaped(pair.reference), hypothesis=_escaped(pair.hypothesis))


def count_look_alikes(utterances: Iterable[AlignedUtterance]) -> tuple[int, tuple[str, str] | None]:
    """Count substitutions of words that look the same; also return the first reference and hypothesis, escaped."""
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
