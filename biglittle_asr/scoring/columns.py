"""Columns of an alignment: a reference word, a hypothesis word, and the operation between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from biglittle_asr.scoring.counts import Counts

CORRECT, SUBSTITUTION, DELETION, INSERTION = "", "S", "D", "I"
"""The operation of a column."""


class WordPair(NamedTuple):
    """One column of an alignment."""

    operation: str
    """CORRECT, SUBSTITUTION, DELETION or INSERTION."""
    reference: str
    """The word, or "" if the reference has none."""
    hypothesis: str
    """The word, or "" if the hypothesis has none."""


@dataclass(frozen=True)
class AlignedUtterance:
    """An utterance's aligned reference and hypothesis, in their original spelling."""

    id: str
    speaker: str | None
    pairs: tuple[WordPair, ...]
    counts: Counts
