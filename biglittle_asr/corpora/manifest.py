"""Manifests: the CSV files through which every corpus reaches a recipe.

A corpus module only lists the utterances of each split (`utterance.py`). The remaining steps are the same for all
corpora: check every file, write one CSV per split (columns ID, duration, wav, spk_id, wrd, as in SpeechBrain's
recipes), have `report.py` report faults, and record the work, so that a second run has nothing to do. If utterances are
parts of recordings, there are two more columns: channel, counted from 1, and start, in seconds.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from biglittle_asr.audio.files import WHOLE, Segment
from biglittle_asr.corpora.checks import FAULTS, LIMITS, Inspection, inspect_all
from biglittle_asr.corpora.report import LEFT_OUT, REPORT_COLUMNS, judge, most_common_rate, report_rows
from biglittle_asr.corpora.utterance import UNSPLIT, Utterance
from biglittle_asr.files import read_json, read_table, write_atomically, write_table
from biglittle_asr.messages import show
from biglittle_asr.shards import ShardMember, check_shards, is_url, read_index

COLUMNS = ("ID", "duration", "wav", "spk_id", "wrd")
SEGMENT_COLUMNS = ("channel", "start")
"""Columns of manifests whose utterances are parts of recordings; `duration` is then that of the part."""
RECORD_NAME = "prepared.json"
REPORT_NAME = "report.csv"


def read_manifest(path: str | PathLike[str], columns: Sequence[str] = COLUMNS) -> list[dict[str, str]]:
    r"""Read a manifest from this package or a similar one, or the index of a set in shards.

    Arguments
    ---------
    path : path
        A CSV file in UTF-8 whose first line names its columns. Spaces after commas are dropped, as in SpeechBrain.
    columns : sequence of str
        Required columns, ID and wav among them. Others are read as well.

    Returns
    -------
    list of dict from column to text
        One row per utterance. A relative `wav` refers to the working folder or, if not found there, to the manifest's.

    Raises
    ------
    FileNotFoundError
        If the file does not exist, or a shard that it names is missing.
    ValueError
        If it is not such a CSV file, has no rows or an ID twice, or a channel, start or duration is not a number.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.csv"
    >>> _ = path.write_text("ID,wav\na,/data/a.wav\n")
    >>> read_manifest(path, columns=("ID", "wav"))
    [{'ID': 'a', 'wav': '/data/a.wav'}]
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such manifest; check the path.")
    try:
        # Some spreadsheets write a byte order mark, which is not part of the first column's name.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True, skipinitialspace=True)
            if reader.fieldnames is not None:
                reader.fieldnames = [name.strip() for name in reader.fieldnames]
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise ValueError(
                    f"{path}: no manifest, for its first line names no column {missing[0]}; commas separate columns."
                )
            rows: dict[str, dict[str, str]] = {}
            for row in reader:
                place = f"{path}:{reader.line_num}"
                if None in row or None in row.values():
                    raise ValueError(f"{place}: has not as many values as there are columns; correct the line.")
                if not row["ID"] or not row["wav"]:
                    raise ValueError(f"{place}: has no ID or no wav; correct the line.")
                _check_numbers(row, columns, place)
                if row["ID"] in rows:
                    raise ValueError(f"{place}: ID {row['ID']} is there already; make IDs unique.")
                rows[row["ID"]] = {**row, "wav": _place(row["wav"], path.parent)}
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}); replace the file.") from error
    except csv.Error as error:
        raise ValueError(
            f"{path}:{reader.reader.line_num}: no CSV line ({error}); put quotes around values with quotes in them, "
            "and double these."
        ) from error
    if not rows:
        raise ValueError(f"{path}: has no utterances; check the file.")
    check_shards(str(path), [member for row in rows.values() if (member := ShardMember.parse(row["wav"]))])
    return list(rows.values())


def _check_numbers(row: Mapping[str, str], columns: Sequence[str], place: str) -> None:
    """Refuse a row whose channel, start or duration is not a number; a duration may be missing if nothing needs it."""
    for name, kind in (("channel", int), ("start", float), ("duration", float)):
        value = row.get(name) or ""
        needed = name == "duration" and (name in columns or row.get("start"))
        try:
            fine = math.isfinite(kind(value)) if value else not needed
        except (ValueError, OverflowError):
            fine = False
        if not fine:
            raise ValueError(f"{place}: {name} is {show(value)}, but must be a number; correct the line.")


def row_segment(row: Mapping[str, Any]) -> Segment:
    """The segment of its audio file that a manifest's row describes.

    Arguments
    ---------
    row : mapping from column to text or number
        A row of one of this package's manifests; without channel and start, the utterance is the whole file.

    Returns
    -------
    Segment

    Raises
    ------
    ValueError
        If channel, start or duration is not a number.

    Example
    -------
    >>> row_segment({"ID": "a", "wav": "a.wav", "channel": "2", "start": "0.5", "duration": "1.25"})
    Segment(channel=2, start=0.5, duration=1.25)
    >>> row_segment({"ID": "a", "wav": "a.wav", "duration": "1.25"})
    Segment(channel=None, start=0.0, duration=None)
    """
    channel, start = (row.get(column) or None for column in SEGMENT_COLUMNS)
    try:
        return Segment(
            None if channel is None else int(channel),
            0.0 if start is None else float(start),
            None if start is None else float(row["duration"]),
        )
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{row['ID']}: channel {channel}, start {start} and duration {row.get('duration')} are not all numbers; "
            "correct the manifest."
        ) from error


def _place(wav: str, folder: Path) -> str:
    """Path of the audio that a manifest in a folder names."""
    member = ShardMember.parse(wav)
    if member is not None and is_url(member.shard):
        return wav
    path = Path(wav if member is None else member.shard)
    # Not Path.exists, which raises an error for names that are too long.
    if not os.path.exists(path) and os.path.exists(folder / path):
        path = folder / path
    return str(path if member is None else replace(member, shard=str(path)))


def write_manifests(
    corpus: str,
    splits: Mapping[str, Sequence[Utterance]],
    output_folder: str | PathLike[str],
    sample_rate: int | None = None,
    strict: bool = False,
) -> dict[str, Path]:
    """Check all audio and transcripts; write one manifest per split, `<output_folder>/<split>.csv`, sorted by ID.

    Beside them is report.csv with one row per fault (columns ID, split, file, fault, value, action). Splits whose names
    begin with "train" leave out the utterances that it marks "left out". Other splits keep all utterances, with
    duration 0 if audio cannot be read. If any utterance of the corpus is a part of its file, all manifests have the
    columns channel and start.

    If the manifests of the same utterances and files exist, no audio is read and nothing is written; but a manifest
    that was changed by hand is written again. Each file is written atomically.

    Arguments
    ---------
    corpus : str
        Name for messages and for the record of the work.
    splits : mapping from split name to utterances
        The utterances; IDs must be unique over all splits. `UNSPLIT` gets no manifest, only rows in the report.
    output_folder : path
        Created if missing.
    sample_rate : int, optional
        Required sample rate in Hz; by default that of most files.
    strict : bool
        Refuse a corpus if any training utterance would be left out, or any other cannot be read.

    Returns
    -------
    dict from split name to pathlib.Path
        The manifests.

    Raises
    ------
    ValueError
        If an ID occurs twice, a split is empty, more than half of the training utterances are faulty, no audio of
        another split can be read, or, if `strict`, anything is faulty; report.csv is written in the last three cases.

    Example
    -------
    >>> import numpy, soundfile
    >>> folder = getfixture("tmp_path")
    >>> soundfile.write(folder / "a.wav", numpy.full(8000, 0.5), 16000)
    >>> utterance = Utterance("a", folder / "a.wav", "anna", "GOOD MORNING", "notes.txt:1")
    >>> manifests = write_manifests("mine", {"test": [utterance]}, folder / "out")
    >>> manifests["test"].read_text().splitlines()[0]
    'ID,duration,wav,spk_id,wrd'
    """
    splits = {name: sorted(utterances, key=lambda utterance: utterance.id) for name, utterances in splits.items()}
    _check_ids(corpus, splits)
    output_folder = Path(output_folder)
    manifests = {name: output_folder / f"{name}.csv" for name in splits if name != UNSPLIT}
    report = output_folder / REPORT_NAME
    written = {**manifests, "report": report}
    record_path = output_folder / RECORD_NAME
    record = {"corpus": corpus, "fingerprint": _fingerprint(corpus, splits, sample_rate)}
    if _read_record(record_path) == {**record, "manifests": _digests(written)}:
        judge(corpus, splits, read_table(report), report, strict)
        return manifests

    everything = [utterance for utterances in splits.values() for utterance in utterances]
    unchecked = [utterance for utterance in everything if not utterance.findings]
    inspections = inspect_all(corpus, [(utterance.wav, utterance.segment) for utterance in unchecked])
    inspected = {utterance.id: Inspection(0.0, None, utterance.findings) for utterance in everything}
    inspected |= {utterance.id: inspection for utterance, inspection in zip(unchecked, inspections, strict=True)}
    rows = report_rows(splits, inspected, sample_rate or most_common_rate(inspections))
    output_folder.mkdir(parents=True, exist_ok=True)
    write_table(report, REPORT_COLUMNS, [[row[name] for name in REPORT_COLUMNS] for row in rows])
    judge(corpus, splits, rows, report, strict)
    left_out = {row["ID"] for row in rows if row["action"] == LEFT_OUT}
    has_segments = any(utterance.segment != WHOLE for utterance in everything)
    for name in manifests:
        kept = [each for each in splits[name] if each.id not in left_out]
        lines: list[tuple[object, ...]] = [
            (each.id, inspected[each.id].duration, each.wav, each.speaker, each.words) for each in kept
        ]
        if has_segments:
            # csv writes None as an empty value.
            lines = [(*line, each.segment.channel, each.segment.start) for line, each in zip(lines, kept, strict=True)]
        columns = COLUMNS + SEGMENT_COLUMNS if has_segments else COLUMNS
        write_table(manifests[name], columns, lines)
    write_atomically(record_path, json.dumps({**record, "manifests": _digests(written)}, indent=1) + "\n")
    return manifests


def copy_indices(
    location: str | PathLike[str], splits: Iterable[str], output_folder: str | PathLike[str]
) -> dict[str, Path]:
    """Write the manifests of splits that were packed into shards: `wav` gives the audio's position in a shard.

    Raises
    ------
    FileNotFoundError, ShardError
        As in :func:`~biglittle_asr.shards.read_index`.
    """
    output_folder = Path(output_folder)
    # Read all before writing the first, so that an error leaves no partial result.
    indices = {split: read_index(location, split, "wav") for split in splits}
    output_folder.mkdir(parents=True, exist_ok=True)
    manifests = {split: output_folder / f"{split}.csv" for split in indices}
    for split, rows in indices.items():
        write_table(manifests[split], COLUMNS, [[row.get(column, "") for column in COLUMNS] for row in rows])
    return manifests


def _check_ids(corpus: str, splits: Mapping[str, Sequence[Utterance]]) -> None:
    seen: dict[str, Utterance] = {}
    for name, utterances in splits.items():
        if not utterances and name != UNSPLIT:
            raise ValueError(f"{corpus}: split {name} has no utterances; check the data folder.")
        for utterance in utterances:
            if utterance.id in seen:
                raise ValueError(f"{utterance.source}: ID {utterance.id} is also at {seen[utterance.id].source}.")
            seen[utterance.id] = utterance


def _fingerprint(corpus: str, splits: Mapping[str, Sequence[Utterance]], sample_rate: int | None) -> str:
    """Digest of everything that manifests and report depend on; of files, size and time stand for the content."""
    digest = hashlib.sha256(repr((corpus, sample_rate, LIMITS, FAULTS)).encode())
    versions: dict[Path, tuple[int, int]] = {}
    for name, utterances in splits.items():
        for each in utterances:
            if each.wav not in versions:
                versions[each.wav] = _version(each.wav)
            what = (name, each.id, os.fspath(each.wav), versions[each.wav], each.speaker, each.words, *each.segment)
            digest.update(repr((*what, *each.findings)).encode())
    return digest.hexdigest()


def _version(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (-1, -1)
    return (status.st_size, status.st_mtime_ns)


def _digests(paths: Mapping[str, Path]) -> dict[str, str | None]:
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None for name, path in paths.items()
    }


def _read_record(path: Path) -> object:
    try:
        return read_json(path)
    except (FileNotFoundError, ValueError):
        return None
