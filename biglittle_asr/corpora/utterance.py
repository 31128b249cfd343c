"""Utterances, which every corpus module makes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from biglittle_asr.audio.files import WHOLE, Segment
from biglittle_asr.corpora.checks import Finding

UNSPLIT = ""
"""Key for utterances without a split, such as a recording without a text: only the report names them."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One utterance, as described by its corpus."""

    id: str
    """Unique in the corpus."""
    wav: Path
    """The audio file; it has one channel, unless `segment` names one."""
    speaker: str
    """Speaker ID; no speaker is in two splits."""
    words: str
    """Transcript, words separated by single spaces; empty if the corpus has none. It is in upper case, unless a user of
    the corpus `folder` chooses otherwise."""
    source: str
    """Position of its description in the corpus, as `file:line`, for error messages."""
    segment: Segment = WHOLE
    """The utterance's part of the audio file."""
    tokens: frozenset[str] = frozenset()
    """Words in brackets that its transcript may have, such as [NOISE]."""
    findings: tuple[Finding, ...] = ()
    """Faults found by the corpus module. If there are any, nothing else is checked."""
