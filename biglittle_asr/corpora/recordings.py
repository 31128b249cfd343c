"""The contents of a user's folder: pairs of a recording and a text, or lists, and the files that match nothing."""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from biglittle_asr.audio.files import AUDIO_SUFFIXES, WHOLE, Segment
from biglittle_asr.corpora.checks import Finding
from biglittle_asr.corpora.lists import LIST_SUFFIXES, ListRow, read_list
from biglittle_asr.corpora.manifest import RECORD_NAME
from biglittle_asr.corpora.utterance import Utterance
from biglittle_asr.corpora.walk import is_litter, walk_files
from biglittle_asr.files import read_text

logger = logging.getLogger(__name__)

TEXT_SUFFIXES = frozenset({".txt", ".lab"})
FOREIGN_SUFFIXES = frozenset(".3gp .aac .amr .ape .m4a .m4b .mka .mkv .mov .mp4 .webm .wma .wv".split())
"""Suffixes of audio that cannot be read here; such recordings are reported rather than overlooked."""
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "development", "val", "valid", "validation"), "dev"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Common names of the splits, in upper or lower case."""
LIST_OF_A_SPLIT = re.compile(rf"({'|'.join(SPLIT_NAMES)})([-_.]manifest)?", re.IGNORECASE)
CLIPS = "clips"
"""Folder of the recordings beside Common Voice's lists, whose paths omit it."""
VARIABLE = re.compile(r"\{\w+\}|\$\w+")
"""A placeholder for a folder that a recipe was to fill in, such as {data_root}."""
ADVICE = (
    "give a folder with a text beside each recording (talk.wav and talk.txt), or a list of paths and words "
    f"({', '.join(LIST_SUFFIXES)})"
)


class TranscribedRecording(NamedTuple):
    """A recording, or a part of one, and its text."""

    id: str
    name: str
    """Its path in the folder, or as given in the list, without the suffix."""
    wav: Path
    text: str
    place: str
    """Position of its text, as `file` or `file:line`."""
    speaker: str | None = None
    split: str | None = None
    """"train", "dev" or "test"; None if unknown."""
    segment: Segment = WHOLE


def read_recordings(data: Path) -> tuple[list[TranscribedRecording], list[Utterance]]:
    """Find recordings and their texts.

    Arguments
    ---------
    data : pathlib.Path
        A folder, or a list.

    Returns
    -------
    list of TranscribedRecording
        The usable recordings.
    list of Utterance
        Recordings without a text or missing from the list, and texts without a recording, each with its fault.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no recording with a text in it.
    ValueError
        If a list is malformed, or several lists could be meant.
    """
    if data.is_file():
        return _read_lists([data])[0], []
    if not data.is_dir():
        raise FileNotFoundError(f"{data}: no such folder or list; {ADVICE}.")
    if (data / RECORD_NAME).exists():
        raise ValueError(f"{data}: holds what a preparation wrote, not recordings; {ADVICE}.")
    audio, texts, others = _find_files(data)
    lists = _find_lists(data)
    if lists:
        recordings, listed = _read_lists(lists)
        unpaired = [
            _left_over(data, path, f"not in {' or '.join(each.name for each in lists)}")
            for path in audio
            if os.path.realpath(path) not in listed
        ]
        paired = {_key(data, path) for path in audio} & {_key(data, path) for path in texts}
        if paired:
            raise ValueError(
                f"{data}: has a list ({lists[0].name}) and texts beside recordings too, such as {min(paired)}.txt; "
                "give the list itself as the data folder, or move it elsewhere."
            )
        others = sorted([*others, *texts])
    else:
        recordings, unpaired = _read_pairs(data, audio, texts)
    if not recordings:
        raise FileNotFoundError(f"{data}: holds no recordings with texts; {ADVICE}.")
    ignored = f"; {len(others)} files of other kinds are not read, such as {others[0].name}" if others else ""
    logger.info(f"folder: {len(recordings)} recordings with texts, {len(unpaired)} unpaired files{ignored}.")
    return recordings, unpaired


def _find_files(data: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Audio, texts, and other files in a folder and its subfolders, sorted."""
    found: dict[str, list[Path]] = {"audio": [], "text": [], "other": []}
    for parent, folders, names in walk_files(data):
        if RECORD_NAME in names:
            folders.clear()
            continue
        folders[:] = [name for name in folders if not is_litter(name)]
        for name in names:
            if is_litter(name):
                continue
            path, suffix = parent / name, Path(name).suffix.lower()
            try:
                str(path).encode()
            except UnicodeEncodeError as error:
                raise ValueError(f"{parent}: holds a file whose name is not UTF-8 ({name!a}); rename it.") from error
            if suffix in AUDIO_SUFFIXES or suffix in FOREIGN_SUFFIXES:
                found["audio"].append(path)
            elif suffix in TEXT_SUFFIXES:
                found["text"].append(path)
            elif parent != data or suffix not in LIST_SUFFIXES:
                found["other"].append(path)
    return sorted(found["audio"]), sorted(found["text"]), sorted(found["other"])


def _find_lists(data: Path) -> list[Path]:
    """The list in a folder, or the lists of its splits."""
    lists = sorted(
        path
        for path in data.iterdir()
        if path.suffix.lower() in LIST_SUFFIXES and path.is_file() and not is_litter(path.name)
    )
    of_splits = [path for path in lists if LIST_OF_A_SPLIT.fullmatch(path.stem)]
    if not of_splits and len(lists) > 1:
        raise ValueError(
            f"{data}: holds several lists ({', '.join(path.name for path in lists)}); give one of them as the data "
            "folder, or call them train, dev and test."
        )
    if of_splits and len(of_splits) < len(lists):
        others = ", ".join(path.name for path in lists if path not in of_splits)
        logger.warning(
            f"{data}: of the lists, {others} are not read, but {', '.join(each.name for each in of_splits)}."
        )
    return of_splits or lists


def _read_pairs(
    data: Path, audio: Sequence[Path], texts: Sequence[Path]
) -> tuple[list[TranscribedRecording], list[Utterance]]:
    """Pair recordings and texts of the same name."""
    of_name: dict[str, tuple[list[Path], list[Path]]] = defaultdict(lambda: ([], []))
    for paths, index in ((audio, 0), (texts, 1)):
        for path in paths:
            of_name[_key(data, path)][index].append(path)
    recordings, unpaired = [], []
    for name, (sounds, written) in sorted(of_name.items()):
        if len(sounds) > 1 or len(written) > 1:
            problem = f"{len(sounds)} recordings and {len(written)} texts are called {name}"
            unpaired += [_left_over(data, path, problem) for path in (*sounds, *written)]
        elif not written:
            unpaired.append(_left_over(data, sounds[0], f"no {name}.txt beside it"))
        elif not sounds:
            unpaired.append(_left_over(data, written[0], "no recording beside it"))
        else:
            try:
                text = read_text(written[0])
            except ValueError as error:
                problem = str(error).removeprefix(str(written[0])).lstrip(":0123456789 ").rstrip(".")
                unpaired.append(_left_over(data, written[0], problem, "characters"))
                continue
            recordings.append(TranscribedRecording(make_id(name), name, sounds[0], text, str(written[0])))
    return recordings, unpaired


def _left_over(data: Path, path: Path, problem: str, fault: str = "unpaired") -> Utterance:
    name = make_id(path.relative_to(data).as_posix())
    return Utterance(name, path, "", "", source=str(path), findings=(Finding(fault, problem),))


def _key(data: Path, path: Path) -> str:
    """The common part of a recording's and its text's name; normalized, because some systems decompose accents."""
    return unicodedata.normalize("NFC", path.relative_to(data).with_suffix("").as_posix())


def make_id(name: str) -> str:
    """Make an ID from a path: normalized Unicode, on one line."""
    name = unicodedata.normalize("NFC", name)
    return "".join(character if character.isprintable() else "_" for character in name)


def _read_lists(lists: Sequence[Path]) -> tuple[list[TranscribedRecording], set[str]]:
    """Recordings in lists, and the real paths of their files."""
    recordings: list[TranscribedRecording] = []
    places: dict[tuple[str, Segment], str] = {}
    for path in lists:
        of_split = LIST_OF_A_SPLIT.fullmatch(path.stem)
        for row in read_list(path):
            split = row.values.get("split", of_split[1] if of_split else None)
            each = _from_row(path, row, split)
            key = (os.path.realpath(each.wav), each.segment)
            if key in places:
                raise ValueError(f"{row.place}: {each.wav.name} is also at {places[key]}; remove one of the two.")
            places[key] = row.place
            recordings.append(each)
    return recordings, {wav for wav, _ in places}


def _from_row(path: Path, row: ListRow, split: str | None) -> TranscribedRecording:
    wav = _find_wav(path.parent, row)
    inside = wav.is_relative_to(path.parent)
    name = (wav.relative_to(path.parent) if inside else wav).with_suffix("").as_posix()
    for column in ("speaker", "id"):
        if row.values.get(column) == "":
            raise ValueError(f"{row.place}: names no {column}, as other lines do; fill it in, or remove the column.")
    if split is not None:
        split = find_split(split, row.place)
    start = row.values.get("start")
    return TranscribedRecording(
        make_id(row.values.get("id") or (f"{name}-{start}" if start else name)),
        name,
        wav,
        row.values["words"],
        row.place,
        row.values.get("speaker"),
        split,
        _find_segment(row),
    )


def find_split(name: str, place: str) -> str:
    """Find the split that a name means; raises ValueError if it means none."""
    if name.lower() not in SPLIT_NAMES:
        raise ValueError(f"{place}: {name!r} is no split; call it train, dev or test.")
    return SPLIT_NAMES[name.lower()]


def _find_wav(folder: Path, row: ListRow) -> Path:
    text = row.values["wav"]
    written = folder / Path(os.path.expanduser(text))
    forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD")]
    for form in (text, *forms, *(each.replace("\\", "/") for each in (text, *forms))):
        for path in (folder / Path(os.path.expanduser(form)), folder / CLIPS / form):
            if os.path.isfile(path):
                return path
    if VARIABLE.search(text):
        raise ValueError(f"{row.place}: no such file: {text}; write paths in full, or from the list's folder.")
    return written


def _find_segment(row: ListRow) -> Segment:
    """The part of the recording that a row describes; a duration alone does not describe one."""
    channel, start, duration = (row.values.get(name) or None for name in ("channel", "start", "duration"))
    try:
        return Segment(
            None if channel is None else int(channel),
            0.0 if start is None else float(start),
            None if start is None or duration is None else float(duration),
        )
    except ValueError as error:
        raise ValueError(
            f"{row.place}: channel {channel}, start {start} and duration {duration} are not all numbers; correct the "
            "line."
        ) from error
