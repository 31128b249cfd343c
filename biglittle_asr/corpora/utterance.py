"""What every corpus module makes: utterances, out of the lines of its corpus's text files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from biglittle_asr.audio.files import WHOLE, Segment


@dataclass(frozen=True, slots=True)
class Utterance:
    """One utterance as its corpus describes it."""

    id: str
    """Unique in the corpus."""
    wav: Path
    """The audio file; with one channel, unless `segment` names one."""
    speaker: str
    """Who speaks; splits share no speaker."""
    words: str
    """Transcript in upper case, words separated by single spaces; empty if the corpus has none."""
    source: str
    """Where the corpus says so, as `file:line`; error messages point there."""
    segment: Segment = WHOLE
    """What of the audio file it is."""
    tokens: frozenset[str] = frozenset()
    """Words in brackets that may be in its transcript, such as [NOISE]."""


def stable_hash(text: str) -> str:
    """Sorts names as if they were shuffled, alike on every machine; Python's own `hash` differs from run to run.

    Example
    -------
    >>> sorted(["anna", "bea", "carl", "dora"], key=stable_hash)
    ['anna', 'carl', 'dora', 'bea']
    """
    return hashlib.sha256(text.encode()).hexdigest()
