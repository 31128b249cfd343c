"""What every corpus module makes: utterances, out of the lines of its corpus's text files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
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


def stable_hash(text: str) -> str:
    """Sorts names as if they were shuffled, alike on every machine; Python's own `hash` differs from run to run.

    Example
    -------
    >>> sorted(["anna", "bea", "carl", "dora"], key=stable_hash)
    ['anna', 'carl', 'dora', 'bea']
    """
    return hashlib.sha256(text.encode()).hexdigest()


def walk_files(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Walk through a folder as `os.walk` does, linked folders included, each folder once.

    Yields
    ------
    (pathlib.Path, list of str, list of str)
        A folder, and the names of its folders and of its files. Whoever removes a name from the folders leaves that
        folder out.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / "a").mkdir()
    >>> (folder / "a" / "back").symlink_to(folder)
    >>> [str(each.relative_to(folder)) for each, _, _ in walk_files(folder)]
    ['.', 'a']
    """
    seen = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        # A link may lead back to where it is.
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield Path(parent), folders, names
