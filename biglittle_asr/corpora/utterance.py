"""What every corpus module makes: utterances."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from biglittle_asr.audio.files import WHOLE, Segment
from biglittle_asr.corpora.checks import Finding

UNSPLIT = ""
"""Key of the utterances that belong to no split, such as a recording without a text: only the report names them."""


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
    """Transcript, words separated by single spaces; empty if the corpus has none. In upper case, unless a user of the
    corpus `folder` wants otherwise."""
    source: str
    """Where the corpus says so, as `file:line`; error messages point there."""
    segment: Segment = WHOLE
    """What of the audio file it is."""
    tokens: frozenset[str] = frozenset()
    """Words in brackets that may be in its transcript, such as [NOISE]."""
    findings: tuple[Finding, ...] = ()
    """Faults that its corpus module found. If there are any, nothing else is checked."""
