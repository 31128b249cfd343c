"""Manifests: the CSV files through which every corpus reaches a recipe.

A corpus module only says which utterances a split has (`Utterance`). Everything after that is the same for all and
lives here: check that the audio is there, read its length, write one CSV a split (columns ID, duration, wav, spk_id,
wrd, as SpeechBrain's recipes have them) and remember what was done, so that a second run finds nothing to do.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from tqdm import tqdm

from biglittle_asr.corpora.audio import audio_info

COLUMNS = ("ID", "duration", "wav", "spk_id", "wrd")
RECORD_NAME = "prepared.json"


@dataclass(frozen=True)
class Utterance:
    """One utterance as its corpus describes it."""

    id: str
    """Unique in the corpus."""
    wav: Path
    """The audio file, one channel."""
    speaker: str
    """Who speaks; splits share no speaker."""
    words: str
    """Transcript in upper case, words separated by single spaces."""
    source: str
    """Where the corpus says so, as `file:line`; error messages point there."""


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


def read_manifest(path: str | PathLike[str], columns: Sequence[str] = COLUMNS) -> list[dict[str, str]]:
    r"""Read a manifest, ours or one of that kind.

    Arguments
    ---------
    path : path
        A CSV file in UTF-8 whose first line names its columns.
    columns : sequence of str
        Those it must have; ID and wav among them. Others are read as well.

    Returns
    -------
    list of dict from column to text
        A row an utterance. A relative `wav` is one from the working folder, or, if there is none, from the manifest's.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no such CSV file, has no rows, or an ID twice.

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
        # A byte order mark, as some spreadsheets write it, is not part of the first column's name.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise ValueError(f"{path}: no manifest, for its first line names no column {missing[0]}.")
            rows: dict[str, dict[str, str]] = {}
            for row in reader:
                place = f"{path}:{reader.line_num}"
                if None in row or None in row.values():
                    raise ValueError(f"{place}: has not as many values as there are columns; correct the line.")
                if not row["ID"] or not row["wav"]:
                    raise ValueError(f"{place}: has no ID or no wav; correct the line.")
                if row["ID"] in rows:
                    raise ValueError(f"{place}: ID {row['ID']} is there already; make IDs unique.")
                wav = Path(row["wav"])
                beside = path.parent / wav
                rows[row["ID"]] = {**row, "wav": str(beside if not wav.exists() and beside.exists() else wav)}
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}); replace the file.") from error
    except csv.Error as error:
        raise ValueError(f"{path}: no CSV file ({error}); replace the file.") from error
    if not rows:
        raise ValueError(f"{path}: has no utterances; check the file.")
    return list(rows.values())


def write_manifests(
    corpus: str, splits: Mapping[str, Sequence[Utterance]], output_folder: str | PathLike[str]
) -> dict[str, Path]:
    """Write one manifest a split, `<output_folder>/<split>.csv`, sorted by ID.

    Nothing is read or written where the manifests of the same utterances and files are there already; a manifest
    that was changed by hand is written again. Each file appears whole or not at all.

    Arguments
    ---------
    corpus : str
        Name for messages and for the record of what was done.
    splits : mapping from split name to utterances
        What to write; IDs must be unique over all splits.
    output_folder : path
        Made if it is not there.

    Returns
    -------
    dict from split name to pathlib.Path
        The manifests.

    Raises
    ------
    FileNotFoundError
        If audio is missing.
    ValueError
        If an ID occurs twice, a split is empty, or audio is unreadable.

    Example
    -------
    >>> import numpy, soundfile
    >>> folder = getfixture("tmp_path")
    >>> soundfile.write(folder / "a.wav", numpy.zeros(8000, dtype="int16"), 16000)
    >>> utterance = Utterance("a", folder / "a.wav", "anna", "GOOD MORNING", "notes.txt:1")
    >>> manifests = write_manifests("mine", {"test": [utterance]}, folder / "out")
    >>> manifests["test"].read_text().splitlines()[0]
    'ID,duration,wav,spk_id,wrd'
    """
    splits = {name: sorted(utterances, key=lambda utterance: utterance.id) for name, utterances in splits.items()}
    _check(corpus, splits)
    output_folder = Path(output_folder)
    manifests = {name: output_folder / f"{name}.csv" for name in splits}
    record_path = output_folder / RECORD_NAME
    record = {"corpus": corpus, "fingerprint": _fingerprint(corpus, splits)}
    if _read_record(record_path) == {**record, "manifests": _digests(manifests)}:
        return manifests

    durations = _read_durations(corpus, [utterance for utterances in splits.values() for utterance in utterances])
    output_folder.mkdir(parents=True, exist_ok=True)
    for name, utterances in splits.items():
        write_atomically(manifests[name], _csv_text(utterances, durations))
    write_atomically(record_path, json.dumps({**record, "manifests": _digests(manifests)}, indent=1) + "\n")
    return manifests


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader, or a run that is interrupted, sees the old or the new, never a part.

    Arguments
    ---------
    path : pathlib.Path
        The file; its folder must exist.
    text : str
        All of its content.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.txt"
    >>> write_atomically(path, "whole")
    >>> path.read_text()
    'whole'
    """
    # The process number keeps two runs that prepare the same corpus at once from writing into one another's file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _check(corpus: str, splits: Mapping[str, Sequence[Utterance]]) -> None:
    seen: dict[str, Utterance] = {}
    for name, utterances in splits.items():
        if not utterances:
            raise ValueError(f"{corpus}: split {name} has no utterances; check the data folder.")
        for utterance in utterances:
            if utterance.id in seen:
                raise ValueError(f"{utterance.source}: ID {utterance.id} is also at {seen[utterance.id].source}.")
            seen[utterance.id] = utterance
    missing = [utterance for utterance in seen.values() if not utterance.wav.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{missing[0].source}: the audio {missing[0].wav} is missing ({len(missing)} of {len(seen)} audio files of "
            f"{corpus} are); unpack the corpus again or correct the data folder."
        )


def _fingerprint(corpus: str, splits: Mapping[str, Sequence[Utterance]]) -> str:
    """Digest of all that the manifests depend on; a file's size stands for its audio, so that none is opened."""
    digest = hashlib.sha256(corpus.encode())
    for name, utterances in splits.items():
        for each in utterances:
            fields = (name, each.id, os.fspath(each.wav), each.wav.stat().st_size, each.speaker, each.words)
            digest.update(repr(fields).encode())
    return digest.hexdigest()


def _digests(manifests: Mapping[str, Path]) -> dict[str, str | None]:
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        for name, path in manifests.items()
    }


def _read_record(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _read_durations(corpus: str, utterances: Sequence[Utterance]) -> dict[str, float]:
    durations: dict[str, float] = {}
    problems: list[ValueError] = []
    for utterance in tqdm(utterances, desc=f"{corpus}: reading audio headers", unit="file", delay=1):
        try:
            durations[utterance.id] = audio_info(utterance.wav).duration
        except ValueError as problem:
            problems.append(problem)
    if problems:
        more = f" ({len(problems)} of {len(utterances)} audio files of {corpus} are bad)" if len(problems) > 1 else ""
        raise ValueError(f"{problems[0]}{more}") from problems[0]
    return durations


def _csv_text(utterances: Sequence[Utterance], durations: Mapping[str, float]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in utterances:
        writer.writerow((each.id, durations[each.id], each.wav, each.speaker, each.words))
    return text.getvalue()
