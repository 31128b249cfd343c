"""What every corpus module makes: utterances, out of the lines of its corpus's text files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from biglittle_asr.corpora.audio import WHOLE, Segment
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


def read_lines(path: Path, advice: str = "check the data folder") -> list[tuple[str, str]]:
    r"""Read a text file of a corpus as (place, line) pairs, blank lines left out.

    Arguments
    ---------
    path : pathlib.Path
        A UTF-8 text file.
    advice : str
        What to do if it is missing.

    Returns
    -------
    list of (str, str)
        `file:line` for error messages, and the line without surrounding white space.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not UTF-8 text.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.txt"
    >>> _ = path.write_text("one\n\nthree\n")
    >>> [(place.rpartition(":")[2], line) for place, line in read_lines(path)]
    [('1', 'one'), ('3', 'three')]
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; {advice}.")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}); replace the file.") from error
    stripped = ((f"{path}:{number}", line.strip()) for number, line in enumerate(text.split("\n"), start=1))
    return [(place, line) for place, line in stripped if line]
