"""Lists of recordings: CSV, TSV or JSON Lines, whose columns different tools name differently.

NeMo's manifests, Common Voice's TSV files, SpeechBrain's and this package's CSV files are such lists. A list is read
completely, or refused with a message that names the line.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from biglittle_asr.files import read_text

logger = logging.getLogger(__name__)

COLUMN_NAMES = {
    "wav": (
        *("audio", "audio_file", "audio_filepath", "audio_path"),
        *("file", "file_name", "filename", "path", "wav", "wav_path"),
    ),
    "words": ("sentence", "text", "transcript", "transcription", "words", "wrd"),
    "speaker": ("client_id", "speaker", "speaker_id", "spk", "spk_id"),
    "split": ("set", "split", "subset"),
    "id": ("id", "utt_id", "utterance_id"),
    "channel": ("channel",),
    "start": ("offset", "start"),
    "duration": ("duration",),
}
"""Each value, and the names that its column may have, in upper or lower case."""

NEEDED = ("wav", "words")
LIST_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
DELIMITERS = (",", ";", "\t")
SURROGATE = re.compile("[\ud800-\udfff]")
QUOTED = re.compile(r'"(?:[^"]|"")*"')

_MEANINGS = {name: meaning for meaning, names in COLUMN_NAMES.items() for name in names}


class ListRow(NamedTuple):
    """One recording of a list."""

    place: str
    """Its position, as `file:line`."""
    values: dict[str, str]
    """Values by the keys of :data:`COLUMN_NAMES`, stripped of white space; "wav" and "words" are always present."""


def read_list(path: Path) -> list[ListRow]:
    r"""Read a list of recordings; the log names columns that are ignored, because :data:`COLUMN_NAMES` lacks them.

    Arguments
    ---------
    path : pathlib.Path
        UTF-8 text with or without a byte order mark. *.csv and *.tsv: the first line names the columns; commas,
        semicolons or tabs separate them. With commas and semicolons, a text that contains the separator must be quoted.
        With tabs, quotes around a whole text are removed, and others are kept. *.jsonl and *.json: one JSON object per
        line.

    Returns
    -------
    list of ListRow
        In the order of the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file has another format, names no column of paths or of words, or a line has too few or too many values.

    Example
    -------
    >>> path = getfixture("tmp_path") / "mine.csv"
    >>> _ = path.write_text('ID, path, sentence\n7, a.wav, "Well, yes."\n')
    >>> [row.values for row in read_list(path)]
    [{'id': '7', 'wav': 'a.wav', 'words': 'Well, yes.'}]
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such list; check the path.")
    suffix = path.suffix.lower()
    if suffix not in LIST_SUFFIXES:
        raise ValueError(f"{path}: lists are {', '.join(LIST_SUFFIXES)}; save it as one of these.")
    text = read_text(path)
    records = list(_read_json_lines(path, text) if suffix.startswith(".json") else _read_table(path, text))
    if not records:
        raise ValueError(f"{path}: lists no recordings; check the file.")
    columns = list(dict.fromkeys(column for _, record in records for column in record))
    _check_columns(path, columns)
    ignored = [column for column in columns if _meaning(column) is None]
    if ignored:
        logger.warning(f"{path}: these columns are not read: {_enumerate(ignored)}.")
    rows = []
    for place, record in records:
        if any("\0" in value or SURROGATE.search(value) for value in record.values()):
            raise ValueError(f"{place}: holds U+0000 or half of a surrogate pair; correct the line.")
        values = {meaning: value for column, value in record.items() if (meaning := _meaning(column)) is not None}
        if not values.get("wav"):
            raise ValueError(f"{place}: names no recording; fill in its path, or remove the line.")
        rows.append(ListRow(place, {**values, "words": values.get("words", "")}))
    return rows


def _meaning(column: str) -> str | None:
    return _MEANINGS.get(column.strip().lower())


def _enumerate(columns: Sequence[str]) -> str:
    """Join names of columns; only the first few, in case the line is not a header."""
    return textwrap.shorten(", ".join(column or "one without a name" for column in columns), 200, placeholder=" ...")


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    found: dict[str, str] = {}
    for column in columns:
        meaning = _meaning(column)
        if meaning in found:
            raise ValueError(f"{path}: has both a column {found[meaning]} and a column {column}; rename one of them.")
        if meaning is not None:
            found[meaning] = column
    for meaning in NEEDED:
        if meaning not in found:
            what = {"wav": "the recordings", "words": "their words"}[meaning]
            raise ValueError(
                f"{path}: names no column of {what}, only {_enumerate(columns)}; call it one of "
                f"{', '.join(COLUMN_NAMES[meaning])}."
            )


def _read_json_lines(path: Path, text: str) -> Iterator[tuple[str, dict[str, str]]]:
    # Not splitlines, which also breaks lines at characters that are valid in a JSON string.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            record: Any = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise ValueError(f"{place}: not a JSON object on a line of its own; write one for each recording.")
        for name, value in record.items():
            if isinstance(value, (dict, list)) and _meaning(name) is not None:
                raise ValueError(f"{place}: {name} is neither text nor a number; correct the line.")
        yield place, {name: "" if value is None else str(value).strip() for name, value in record.items()}


def _read_table(path: Path, text: str) -> Iterator[tuple[str, dict[str, str]]]:
    delimiter = _find_delimiter(path, text)
    with_tabs = delimiter == "\t"
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        skipinitialspace=not with_tabs,
        quoting=csv.QUOTE_NONE if with_tabs else csv.QUOTE_MINIMAL,
        strict=True,
    )
    columns: list[str] = []
    while True:
        place = f"{path}:{reader.line_num + 1}"
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(
                f"{place}: not readable as CSV ({error}); write a text with quotes as "
                '"He said ""yes"".", each of its quotes twice.'
            ) from error
        if not any(cells):
            continue
        if with_tabs:
            cells = [cell[1:-1].replace('""', '"').strip() if QUOTED.fullmatch(cell) else cell for cell in cells]
        if not columns:
            columns = cells
            twice = [column for column in columns if columns.count(column) > 1]
            if twice:
                raise ValueError(f"{place}: names the column {twice[0]!r} twice; rename one of the two.")
            continue
        if len(cells) != len(columns):
            advice = "take tabs out of texts" if with_tabs else f"put texts that hold a '{delimiter}' in quotes"
            raise ValueError(f"{place}: has {len(cells)} values for {len(columns)} columns; {advice}.")
        yield place, dict(zip(columns, cells, strict=True))


def _find_delimiter(path: Path, text: str) -> str:
    """Find the column separator: the one with which the first line names the required columns."""
    header = next((line for line in text.split("\n") if line.strip()), "").rstrip("\r")
    for delimiter in DELIMITERS:
        # Lines that this delimiter does not fit may be invalid CSV.
        names = [name.strip().strip('"') for name in header.split(delimiter)]
        if {*NEEDED} <= {_meaning(name) for name in names}:
            return delimiter
    names = [name.strip() for name in header.split(max(DELIMITERS, key=header.count))]
    _check_columns(path, names)
    raise ValueError(f"{path}: its first line does not name the columns; write path,text there, for example.")
