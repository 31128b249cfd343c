"""Reading references and hypotheses: plain text, Kaldi text and NIST trn files, all in UTF-8.

    plain   yes no                   line i of one file against line i of the other
    kaldi   jane-01 yes no           utterance ID, then the words
    trn     yes no (jane-01)         words, then the utterance ID; its speaker is what stands before the first - or _

An ID without words is an empty text. Blank lines are empty utterances in plain text and are passed over elsewhere, as
are trn's comments (;;). Alternatives in braces, which trn allows, are not expanded: they count as words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import NamedTuple


@dataclass(frozen=True)
class Transcripts:
    """The texts of one file."""

    texts: dict[str, str]
    """Text by utterance ID; plain text's IDs are its line numbers."""
    speakers: dict[str, str] | None
    """Speaker by utterance ID; None where the format names none."""


class TranscriptPair(NamedTuple):
    """References and hypotheses, and the format that both are in."""

    format: str
    references: Transcripts
    hypotheses: Transcripts


def read_pair(reference: str | PathLike[str], hypothesis: str | PathLike[str], format: str = "auto") -> TranscriptPair:
    r"""Read a reference and a hypothesis file.

    Arguments
    ---------
    reference, hypothesis : path
        Text files in the same format.
    format : str
        "plain", "kaldi" or "trn"; "auto" takes trn or kaldi only if every line of both files has what is clearly an
        utterance ID (with - or _ or a digit, as "jane-01") in that format's place, and plain otherwise.

    Returns
    -------
    TranscriptPair
        The format taken, references and hypotheses.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If the format is unknown, the files clearly differ in format, a file is not UTF-8, plain files differ in their
        number of lines, or a line has no ID or one that was there before.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "ref").write_text("yes no (jane-01)\n")
    >>> _ = (folder / "hyp").write_text("yes (jane-01)\n")
    >>> pair = read_pair(folder / "ref", folder / "hyp")
    >>> pair.format, pair.references.texts, pair.references.speakers
    ('trn', {'jane-01': 'yes no'}, {'jane-01': 'jane'})
    """
    if format not in ("auto", *FORMATS):
        raise ValueError(f"Unknown format '{format}'; choose one of: auto, {', '.join(FORMATS)}.")
    files = [read_text_file(path) for path in (reference, hypothesis)]
    chosen = _detect(*files) if format == "auto" else format
    if chosen == "plain" and len(files[0].lines) != len(files[1].lines):
        raise ValueError(
            f"{files[0].path} has {len(files[0].lines)} lines and {files[1].path} has {len(files[1].lines)}, but plain "
            "text is compared line by line; make the numbers equal, or name the format if the lines have utterance IDs."
        )
    return TranscriptPair(chosen, *(FORMATS[chosen](file) for file in files))


def read_utt2spk(path: str | PathLike[str]) -> dict[str, str]:
    r"""Read Kaldi's list of speakers, `utterance speaker` in each line.

    Arguments
    ---------
    path : path
        Such as data/test/utt2spk.

    Returns
    -------
    dict
        Speaker by utterance ID.

    Raises
    ------
    FileNotFoundError
        If the file is missing.
    ValueError
        If the file is not UTF-8, or a line is not two words or repeats an utterance.

    Example
    -------
    >>> path = getfixture("tmp_path") / "utt2spk"
    >>> _ = path.write_text("jane-01 jane\n")
    >>> read_utt2spk(path)
    {'jane-01': 'jane'}
    """
    file = read_text_file(path)
    speakers = _by_id(file, _split_kaldi)
    for place, line in file.numbered():
        if len(line.split()) != 2:
            raise ValueError(f"{place}: '{line.strip()}' is not an utterance ID and a speaker; correct the line.")
    return speakers


class TextFile(NamedTuple):
    """A file's lines, without their ends."""

    path: Path
    lines: list[str]

    def numbered(self) -> Iterator[tuple[str, str]]:
        """Lines that are not blank, each with its place (file:line)."""
        return ((f"{self.path}:{number}", line) for number, line in enumerate(self.lines, 1) if line.strip())


def read_text_file(path: str | PathLike[str]) -> TextFile:
    r"""Read a file's lines.

    Arguments
    ---------
    path : path
        Text in UTF-8, with or without a byte order mark.

    Returns
    -------
    TextFile
        Path and lines.

    Raises
    ------
    FileNotFoundError
        If the file is missing.
    ValueError
        If it is not UTF-8; the line is named.

    Example
    -------
    >>> path = getfixture("tmp_path") / "words.txt"
    >>> _ = path.write_text("one\n\ntwo\n")
    >>> [line for _, line in read_text_file(path).numbered()]
    ['one', 'two']
    """
    path = Path(path)
    try:
        # A byte order mark is not part of the first word.
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; check the path.") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}:{line}: not UTF-8 text; convert the file to UTF-8.") from None
    # Not splitlines, which also splits at characters that stand within a line elsewhere (U+2028, form feed).
    lines = text.split("\n")
    return TextFile(path, lines if lines[-1] else lines[:-1])


def seconds(field: str, place: str, name: str, least: float = -math.inf) -> float:
    """A field of a line as seconds.

    Arguments
    ---------
    field : str
        As it stands in the file.
    place, name : str
        File and line, and what the field is, for messages.
    least : float
        Smallest value that makes sense.

    Returns
    -------
    float
        Seconds.

    Raises
    ------
    ValueError
        If the field is no finite number, or less than `least`.

    Example
    -------
    >>> seconds("1.25", "hyp.ctm:1", "start")
    1.25
    """
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= least):
        bound = f" of at least {least:g}" if math.isfinite(least) else ""
        raise ValueError(f"{place}: the {name} '{field}' is not a number of seconds{bound}; correct it.")
    return value


def _read_plain(file: TextFile) -> Transcripts:
    digits = len(str(len(file.lines)))
    return Transcripts({f"{number:0{digits}}": line.strip() for number, line in enumerate(file.lines, 1)}, None)


def _read_kaldi(file: TextFile) -> Transcripts:
    return Transcripts(_by_id(file, _split_kaldi), None)


def _read_trn(file: TextFile) -> Transcripts:
    texts = _by_id(_without_comments(file), _split_trn)
    return Transcripts(texts, {each: re.split("[-_]", each, maxsplit=1)[0] or each for each in texts})


FORMATS: Mapping[str, Callable[[TextFile], Transcripts]] = {
    "plain": _read_plain,
    "kaldi": _read_kaldi,
    "trn": _read_trn,
}
"""Reader of each format."""


def _by_id(file: TextFile, split: Callable[[str], tuple[str, str] | None]) -> dict[str, str]:
    texts: dict[str, str] = {}
    places: dict[str, str] = {}
    for place, line in file.numbered():
        parts = split(line)
        if parts is None:
            raise ValueError(f"{place}: no utterance ID in brackets at the end of the line; add it, as in (jane-01).")
        utterance_id, text = parts
        if utterance_id in texts:
            raise ValueError(f"{place}: utterance {utterance_id} is already at {places[utterance_id]}; remove one.")
        texts[utterance_id], places[utterance_id] = text, place
    return texts


def _split_kaldi(line: str) -> tuple[str, str]:
    utterance_id, *text = line.split(maxsplit=1)
    return utterance_id, "".join(text).strip()


def _split_trn(line: str) -> tuple[str, str] | None:
    found = re.fullmatch(r"(?P<text>.*?)\s*\(\s*(?P<id>[^()\s]+)\s*\)\s*", line, re.DOTALL)
    return (found["id"], found["text"].strip()) if found else None


def _without_comments(file: TextFile) -> TextFile:
    # The lines stay, emptied, so that the others keep their numbers.
    return TextFile(file.path, ["" if line.startswith(";;") else line for line in file.lines])


def _detect(reference: TextFile, hypothesis: TextFile) -> str:
    """The one format that every line of both files speaks for."""
    candidates = [_candidates(file) for file in (reference, hypothesis)]
    if not candidates[0] & candidates[1]:
        raise ValueError(
            f"{reference.path} looks like {_clearest(candidates[0])} and {hypothesis.path} like "
            f"{_clearest(candidates[1])}; give both in one format, or name the format if that is wrong."
        )
    return _clearest(candidates[0] & candidates[1])


def _candidates(file: TextFile) -> set[str]:
    """Formats that fit every line; of a file without lines, all."""
    fitting = set()
    trn_ids = [(_split_trn(line) or ("", ""))[0] for _, line in _without_comments(file).numbered()]
    if all(_looks_like_id(each) for each in trn_ids):
        fitting.add("trn")
    kaldi_ids = [_split_kaldi(line)[0] for _, line in file.numbered()]
    if all(_looks_like_id(each) for each in kaldi_ids):
        fitting.add("kaldi")
    # What is clearly one of the others is not plain text too.
    return fitting if fitting and trn_ids else fitting | {"plain"}


def _clearest(candidates: set[str]) -> str:
    order: Sequence[str] = ("trn", "kaldi", "plain")
    return next(each for each in order if each in candidates)


def _looks_like_id(token: str) -> bool:
    """Words may have a digit ("2nd") or a hyphen ("uh-huh"), but hardly an underscore, both, or a digit not first."""
    return bool(re.fullmatch(r"\S*_\S*|[^\W\d]\S*\d\S*|\S*\d\S*-\S*|\S*-\S*\d\S*", token))
