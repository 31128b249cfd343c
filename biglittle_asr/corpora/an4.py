"""CMU AN4 ("census"), as CMU distributes it: 948 training and 130 test utterances of spelled and spoken words.

    an4/etc/an4_train.fileids            an4_clstk/fash/an251-fash-b
    an4/etc/an4_train.transcription      YES (an251-fash-b)       or       <s> YES </s> (an251-fash-b)
    an4/wav/an4_clstk/fash/an251-fash-b.sph

The SPHERE files are read in place. The corpus has no development set: one is split off train, by speaker.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from biglittle_asr.corpora.splitting import split_off, stable_hash
from biglittle_asr.corpora.utterance import Utterance
from biglittle_asr.corpora.walk import find_corpus
from biglittle_asr.files import read_lines

TRANSCRIPT_LINE = re.compile(r"(?P<words>.*?)\s*\((?P<id>[^()\s]+)\)")
SENTENCE_MARKS = {"<s>", "</s>"}
ADVICE = "give the folder that holds AN4's etc/ and wav/ (or an4/ with both) as the data folder"


def read(data_folder: str | PathLike[str], dev_utterances: int = 100) -> dict[str, list[Utterance]]:
    """Read AN4's own lists and transcripts, and split a development set off train.

    Arguments
    ---------
    data_folder : path
        The folder `an4`, or its parent.
    dev_utterances : int
        Least size of dev: whole speakers are taken until it has at least this many utterances.

    Returns
    -------
    dict
        Utterances of "train", "dev" and "test"; no speaker is in two of them.

    Raises
    ------
    FileNotFoundError
        If the folder, or one of its lists, is missing.
    ValueError
        If lists and transcripts disagree, a line is malformed, or `dev_utterances` leaves train or dev empty.
    """
    folder, _ = find_corpus(data_folder, "an4", _is_an4, "holds no AN4 corpus", ADVICE)
    train, dev = split_by_speaker(_read_set(folder, "train"), dev_utterances)
    return {"train": train, "dev": dev, "test": _read_set(folder, "test")}


def split_by_speaker(utterances: Sequence[Utterance], dev_utterances: int) -> tuple[list[Utterance], list[Utterance]]:
    """Split off a development set of whole speakers, with women and men in the same proportion as in the rest.

    The choice depends on the speakers' names alone, so it is the same on every machine and in every run. Speakers whose
    names differ only in a final digit (mdcs, mdcs2) may be one person, and stay on one side.

    Arguments
    ---------
    utterances : sequence of Utterance
        Speaker names start with f or m, as AN4's do.
    dev_utterances : int
        Speakers are taken until dev has at least this many utterances.

    Return value and errors are those of :func:`~biglittle_asr.corpora.splitting.split_off`.

    Example
    -------
    >>> speakers = ["fanna", "fbea", "mcarl", "mdan"]
    >>> train, dev = split_by_speaker([Utterance(s, Path(s), s, "YES", "list:1") for s in speakers], 2)
    >>> sorted(utterance.speaker[0] for utterance in dev)
    ['f', 'm']
    """
    sizes: dict[str, int] = {}
    for utterance in utterances:
        person = _person(utterance)
        sizes[person] = sizes.get(person, 0) + 1
    chosen: set[str] = set()
    for person in _interleave_sexes(sizes):
        if sum(sizes[each] for each in chosen) >= dev_utterances:
            break
        chosen.add(person)
    counted = f"{dev_utterances} of the {len(utterances)} training utterances (whole speakers)"
    return split_off(utterances, _person, chosen, "dev_utterances", counted, example=6)


def _is_an4(folder: Path) -> bool:
    return (folder / "etc").is_dir()


def _read_set(folder: Path, name: str) -> list[Utterance]:
    transcripts_path = folder / "etc" / f"an4_{name}.transcription"
    transcripts = _read_transcripts(transcripts_path)
    utterances = []
    for place, file_id in read_lines(folder / "etc" / f"an4_{name}.fileids", ADVICE):
        parts = file_id.split("/")
        if len(parts) < 3:
            raise ValueError(f"{place}: '{file_id}' is not of the form set/speaker/utterance; restore the file.")
        if parts[-1] not in transcripts:
            raise ValueError(f"{place}: {parts[-1]} has no line in {transcripts_path}; restore that file.")
        words, _ = transcripts[parts[-1]]
        wav = folder.joinpath("wav", *parts[:-1], f"{parts[-1]}.sph")
        utterances.append(Utterance(parts[-1], wav, parts[-2], words, source=place))
    listed = {utterance.id for utterance in utterances}
    for utterance_id, (_, place) in transcripts.items():
        if utterance_id not in listed:
            raise ValueError(f"{place}: {utterance_id} is not in an4_{name}.fileids; restore that file.")
    return utterances


def _read_transcripts(path: Path) -> dict[str, tuple[str, str]]:
    """Words and source line of each utterance ID."""
    transcripts: dict[str, tuple[str, str]] = {}
    for place, line in read_lines(path, ADVICE):
        found = TRANSCRIPT_LINE.fullmatch(line)
        if not found:
            raise ValueError(f"{place}: does not end in an utterance ID in brackets; restore the file.")
        words = " ".join(word for word in found["words"].split() if word not in SENTENCE_MARKS).upper()
        if found["id"] in transcripts:
            raise ValueError(f"{place}: {found['id']} is also at {transcripts[found['id']][1]}; restore the file.")
        transcripts[found["id"]] = (words, place)
    return transcripts


def _person(utterance: Utterance) -> str:
    return utterance.speaker.rstrip("0123456789")


def _interleave_sexes(people: dict[str, int]) -> list[str]:
    """Order people so that every prefix has women and men in about the proportion of the whole."""
    placed = []
    for sex in sorted({person[:1] for person in people}):
        same = sorted((person for person in people if person[:1] == sex), key=stable_hash)
        placed += [((rank + 0.5) / len(same), person) for rank, person in enumerate(same)]
    return [person for _, person in sorted(placed)]
