"""Readers of references and hypotheses: plain text, Kaldi text and NIST trn files, all in UTF-8.

    plain   yes no                   line i of one file against line i of the other
    kaldi   jane-01 yes no           utterance ID, then the words
    trn     yes no (jane-01)         words, then the utterance ID; the part before the first - or _ is the speaker

An ID without words is an empty text. A blank line is an empty utterance in plain text; other formats skip it. Comments
of trn files (;;) are skipped too. As in sclite, IDs of trn files may contain spaces, and their case does not matter. A
decoder's score behind the ID, such as Sphinx's (jane-01 -7716), is removed. The texts of trn files keep NIST's marks,
which `nist/marks.py` explains.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from biglittle_asr.files import text_lines
from biglittle_asr.messages import visible

WHITE_SPACE = " \t\r\v\f"
"""Separators of fields and words in the files of NIST's tools. A no-break space is part of a word."""
WORD = re.compile(rf"[^{WHITE_SPACE}]+")
"""A word or field of these files."""

KALDI_LINE = re.compile(r"[ \t\r]*(?P<id>[^ \t\r]+)(?P<text>.*)", re.DOTALL)
"""As in Kaldi, only ASCII white space ends an ID."""
TRN_LINE = re.compile(r"(?P<text>.*)\((?P<id>[^()]*[^()\s][^()]*)\)\s*", re.DOTALL)
SCORE = re.compile(r"(?P<id>.*\S)\s+[-+]?\d+(\.\d+)?(e[-+]?\d+)?", re.IGNORECASE | re.DOTALL)
"""An ID followed by a decoder's score."""
DOUBT_LINES, MANY_LINES = 3, 10
"""Numbers of lines that decide whether first words are utterance IDs. In fewer than DOUBT_LINES lines, different first
words can be in alphabetical order by chance. In MANY_LINES lines, first words that all differ are hardly ordinary."""


@dataclass(frozen=True)
class Transcripts:
    """The texts of one file."""

    texts: dict[str, str]
    """Text by utterance ID; in plain text, the ID is the line number."""
    speakers: dict[str, str] | None
    """Speaker by utterance ID; None if the format has no speakers."""


class TranscriptPair(NamedTuple):
    """References and hypotheses, and their common format."""

    format: str
    references: Transcripts
    hypotheses: Transcripts


def read_pair(
    reference: str | PathLike[str],
    hypothesis: str | PathLike[str],
    format: str = "auto",
    case_sensitive: bool = False,
) -> TranscriptPair:
    r"""Read a reference and a hypothesis file.

    Arguments
    ---------
    reference, hypothesis : path
        Text files in the same format.
    format : str
        "plain", "kaldi", "trn" or "auto". "auto" chooses trn for files named .trn. Otherwise it chooses trn or kaldi if
        every line of both files has a clear utterance ID where that format puts it: an ID with -, _ or a digit, such
        as "jane-01", or one found in both files and set off by a tab or by brackets. It chooses plain if nothing looks
        like an ID, and raises an error if IDs are likely but not certain.
    case_sensitive : bool
        Whether (JANE-01) and (jane-01) are different utterances in trn files. The case of Kaldi IDs always matters.

    Returns
    -------
    TranscriptPair
        Format, references and hypotheses. IDs are spelled as in the reference.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If the format is unknown or cannot be detected, the files clearly differ in format, a file is not UTF-8, plain
        files differ in their number of lines, or a line has no ID or repeats one.

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
    references, hypotheses = (FORMATS[chosen](file, case_sensitive) for file in files)
    if chosen == "trn":
        references, hypotheses = _with_common_ids(references, hypotheses, case_sensitive)
    return TranscriptPair(chosen, references, hypotheses)


def read_utt2spk(path: str | PathLike[str]) -> dict[str, str]:
    r"""Read Kaldi's list of speakers, one `utterance speaker` per line.

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
            raise ValueError(
                f"{place}: '{visible(line.strip())}' is not an utterance ID and a speaker; correct the line."
            )
    return speakers


class TextFile(NamedTuple):
    """A file's lines, without line ends."""

    path: Path
    lines: list[str]

    def numbered(self) -> Iterator[tuple[str, str]]:
        """Return the lines that are not blank, each with its place (file:line)."""
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
        If it is not UTF-8, has NUL characters, or its lines end in bare carriage returns.

    Example
    -------
    >>> path = getfixture("tmp_path") / "words.txt"
    >>> _ = path.write_text("one\n\ntwo\n")
    >>> [line for _, line in read_text_file(path).numbered()]
    ['one', 'two']
    """
    path = Path(path)
    lines = []
    for place, line in text_lines(path):
        if "\0" in line:
            raise ValueError(f"{place}: has a NUL character, as in UTF-16 or in data; convert the file to UTF-8 text.")
        lines.append(line)
    if len(lines) == 1 and "\r" in lines[0].strip():
        raise ValueError(f"{path}: its lines end in carriage returns alone; convert them to line feeds.")
    return TextFile(path, lines)


def seconds(field: str, place: str, name: str, least: float = -math.inf) -> float:
    """Parse a field of a line as seconds.

    Arguments
    ---------
    field : str
        The field's text.
    place, name : str
        File and line, and the field's name, for messages.
    least : float
        Smallest valid value.

    Returns
    -------
    float
        Seconds.

    Raises
    ------
    ValueError
        If the field is not a finite number, or is less than `least`.

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


def _read_plain(file: TextFile, case_sensitive: bool) -> Transcripts:
    digits = len(str(len(file.lines)))
    return Transcripts({f"{number:0{digits}}": line.strip() for number, line in enumerate(file.lines, 1)}, None)


def _read_kaldi(file: TextFile, case_sensitive: bool) -> Transcripts:
    return Transcripts(_by_id(file, _split_kaldi), None)


def _read_trn(file: TextFile, case_sensitive: bool) -> Transcripts:
    return Transcripts(_by_id(_without_comments(file), _split_trn, _fold(case_sensitive)), None)


FORMATS: Mapping[str, Callable[[TextFile, bool], Transcripts]] = {
    "plain": _read_plain,
    "kaldi": _read_kaldi,
    "trn": _read_trn,
}
"""Reader of each format: takes the file, and whether the case of IDs matters."""


def _fold(case_sensitive: bool) -> Callable[[str], str]:
    return str if case_sensitive else str.lower


def _by_id(
    file: TextFile, split: Callable[[str], tuple[str, str] | None], fold: Callable[[str], str] = str
) -> dict[str, str]:
    texts: dict[str, str] = {}
    places: dict[str, str] = {}
    for place, line in file.numbered():
        parts = split(line)
        if parts is None:
            raise ValueError(
                f"{place}: no utterance ID in brackets at the end of the line; add it, as in (jane-01), or "
                "name another format (--format)."
            )
        utterance_id, text = parts
        before = places.setdefault(fold(utterance_id), place)
        if before != place:
            raise ValueError(f"{place}: utterance {visible(utterance_id)} is already at {before}; remove one.")
        texts[utterance_id] = text
    return texts


def _split_kaldi(line: str) -> tuple[str, str]:
    found = KALDI_LINE.fullmatch(line)
    return (found["id"], found["text"].strip()) if found else ("", "")


def _split_trn(line: str) -> tuple[str, str] | None:
    found = TRN_LINE.fullmatch(line)
    return (" ".join(found["id"].split()), found["text"].strip()) if found else None


def _without_comments(file: TextFile) -> TextFile:
    # Comments become empty lines, so that the other lines keep their numbers.
    return TextFile(file.path, ["" if line.startswith(";;") else line for line in file.lines])


def _with_common_ids(
    references: Transcripts, hypotheses: Transcripts, case_sensitive: bool
) -> tuple[Transcripts, Transcripts]:
    """Remove scores behind IDs, spell the hypotheses' IDs as in the references, and name the speakers."""
    fold = _fold(case_sensitive)
    sides = references.texts, hypotheses.texts
    ids = _common_ids(list(sides[0]), list(sides[1]), fold)
    known = {fold(each): each for each in ids[0]}
    speakers: dict[str, str] = {}
    named: dict[str, str] = {}
    for each in ids[0]:
        speaker = re.split("[-_]", each, maxsplit=1)[0] or each
        speakers[each] = named.setdefault(fold(speaker), speaker)
    spelled = [dict(zip(names, texts.values(), strict=True)) for names, texts in zip(ids, sides, strict=True)]
    return (
        Transcripts(spelled[0], speakers),
        Transcripts({known.get(fold(each), each): text for each, text in spelled[1].items()}, None),
    )


def _common_ids(
    references: Sequence[str], hypotheses: Sequence[str], fold: Callable[[str], str]
) -> tuple[list[str], list[str]]:
    """Return the IDs of both sides, without scores if more IDs of the two sides then agree."""
    options = itertools.product(_readings(references, fold), _readings(hypotheses, fold))
    return max(options, key=lambda pair: len(set(map(fold, pair[0])).intersection(map(fold, pair[1]))))


def _readings(ids: Sequence[str], fold: Callable[[str], str]) -> list[list[str]]:
    """Return the IDs as they are, and also without possible scores if they stay unique."""
    bare = [found["id"] if (found := SCORE.fullmatch(each)) else each for each in ids]
    return [list(ids), bare] if len(set(map(fold, bare))) == len(ids) else [list(ids)]


def _detect(reference: TextFile, hypothesis: TextFile) -> str:
    """Detect the common format of both files.

    Raises
    ------
    ValueError
        If the files have different formats, or the format is not clear.
    """
    files = reference, hypothesis
    if any(file.path.suffix.lower() == ".trn" for file in files):
        return "trn"
    trn_ids = [[(_split_trn(line) or ("", ""))[0] for _, line in _without_comments(file).numbered()] for file in files]
    ids = {
        "trn": _common_ids(trn_ids[0], trn_ids[1], str.lower),
        "kaldi": [[_split_kaldi(line)[0] for _, line in file.numbered()] for file in files],
    }
    candidates = [_candidates({name: both[side] for name, both in ids.items()}) for side in range(2)]
    common = candidates[0] & candidates[1]
    tabbed = [_is_tabbed(file) for file in files]
    if not common or (common == {"plain"} and tabbed[0] != tabbed[1] and _shared(*ids["kaldi"]) == 0):
        names = [
            "kaldi" if tabbed[side] and found == {"plain"} else _clearest(found)
            for side, found in enumerate(candidates)
        ]
        raise ValueError(
            f"{reference.path} looks like {names[0]} and {hypothesis.path} like {names[1]}; "
            "give both in one format, or name the format (--format) if that is wrong."
        )
    if common != {"plain"}:
        return _clearest(common)
    if all(all(found) and _are_unique(found) for found in ids["trn"]):
        shared, lines = _shared(*ids["trn"]), len(ids["trn"][0])
        if shared > 0.5 and lines > 1:
            return "trn"
        if shared or lines > 1:
            raise _doubt(files, f"ends in brackets, the first in ({visible(ids['trn'][0][0])})", "trn")
    shared = _shared(*ids["kaldi"])
    if any(tabbed) and shared:
        return "kaldi"
    if all(tabbed) or (shared > 0.5 and _are_likely_ids(reference, *ids["kaldi"])):
        raise _doubt(files, f"begins with another word, the first with '{visible(ids['kaldi'][0][0])}'", "kaldi")
    return "plain"


def _doubt(files: Sequence[TextFile], what: str, format: str) -> ValueError:
    return ValueError(
        f"every line of {files[0].path} {what}, and {files[1].path} is alike: these may be utterance IDs, or words; "
        f"say which with --format {format} or --format plain."
    )


def _candidates(ids: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the formats for which every line clearly has an ID; all formats for a file without lines."""
    fitting = {name for name, found in ids.items() if all(_looks_like_id(each) for each in found)}
    # A file clearly in another format is not plain text.
    return fitting if fitting and ids["trn"] else fitting | {"plain"}


def _clearest(candidates: set[str]) -> str:
    order: Sequence[str] = ("trn", "kaldi", "plain")
    return next(each for each in order if each in candidates)


def _looks_like_id(token: str) -> bool:
    """Whether a token has an underscore, a digit that is not first, or a hyphen and a digit.

    A word may start with a digit ("2nd") or have a hyphen ("uh-huh"), but hardly ever these.
    """
    return bool(re.fullmatch(r"\S*_\S*|[^\W\d]\S*\d\S*|\S*\d\S*-\S*|\S*-\S*\d\S*", token))


def _are_unique(ids: Sequence[str]) -> bool:
    return bool(ids) and len({each.lower() for each in ids}) == len(ids)


def _shared(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Fraction of the IDs that both files have; 0 if a file repeats an ID."""
    if not (_are_unique(references) and _are_unique(hypotheses)):
        return 0.0
    both = [{each.lower() for each in ids} for ids in _common_ids(references, hypotheses, str.lower)]
    return len(both[0] & both[1]) / max(map(len, both))


def _is_tabbed(file: TextFile) -> bool:
    """Whether every line begins with a unique word and a tab, as `biglittle transcribe` writes names and texts."""
    found = [re.match(r"[^ \t\r]+\t", line) for _, line in file.numbered()]
    return bool(found) and all(found) and len({each[0] for each in found if each}) == len(found)


def _are_likely_ids(reference: TextFile, references: Sequence[str], hypotheses: Sequence[str]) -> bool:
    """Whether first words, all different and common to both files, are more likely IDs than words of the texts.

    IDs have words behind them, and are sorted or in a different order in each file.
    """
    if len(references) < DOUBT_LINES or not any(_split_kaldi(line)[1] for _, line in reference.numbered()):
        return False
    common = [
        [each for each in ids if each in set(others)]
        for ids, others in ((references, hypotheses), (hypotheses, references))
    ]
    if common[0] != common[1] or all(list(ids) == sorted(ids) for ids in (references, hypotheses)):
        return True
    # A recognizer gets some first words wrong, but never IDs.
    return len(references) >= MANY_LINES and len(common[1]) == len(hypotheses)
