"""speechocean762: 5,000 English sentences, read by 250 speakers of Mandarin, about half of them children (16 kHz).

    speechocean762/train/text              000010011<tab>WE CALL IT BEAR
    speechocean762/train/wav.scp           000010011<tab>WAVE/SPEAKER0001/000010011.WAV
    speechocean762/train/utt2spk           000010011 0001
    speechocean762/train/spk2age           0001<tab>6
    speechocean762/train/spk2gender        0001<tab>m
    speechocean762/resource/lexicon.txt    BEAR<tab>B EH0 R

A transcript is the sentence that the speaker was asked to read; the actual words can differ. The corpus has no
development set: one is split off train, by speaker.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from os import PathLike
from pathlib import Path

from biglittle_asr.corpora.report import tell_incomplete
from biglittle_asr.corpora.splitting import split_off, stable_hash
from biglittle_asr.corpora.utterance import Utterance
from biglittle_asr.corpora.walk import find_corpus
from biglittle_asr.files import read_lines

logger = logging.getLogger(__name__)

UTTERANCES = 2500
"""Number of utterances in train, and in test."""
CHILD = 16
"""Age in years below which a speaker counts as a child; 58 of train's 125 speakers do, and none is 16 to 18."""
GENDERS = ("f", "m")
STRESS = re.compile(r"[012]$")
LEXICON = "resource/lexicon.txt"
ADVICE = "give the folder that holds speechocean762's train/, test/ and WAVE/ as the data folder"

Table = Mapping[str, tuple[str, str]]
"""Value and source line (`file:line`) of each name."""


def read(
    data_folder: str | PathLike[str], dev_speakers: int = 12, complete: bool = False
) -> dict[str, list[Utterance]]:
    """Read the corpus's own lists, and split a development set off train.

    Arguments
    ---------
    data_folder : path
        The folder `speechocean762`, or its parent.
    dev_speakers : int
        Number of train's speakers that become dev: half children, half adults, half of each female, as far as possible;
        see :func:`split_by_age`.
    complete : bool
        Refuse a copy with missing utterances, instead of reporting them and reading the others.

    Returns
    -------
    dict
        Utterances of "train", "dev" and "test"; no speaker is in two of them.

    Raises
    ------
    FileNotFoundError
        If the folder, or one of its lists, is missing.
    ValueError
        If the lists disagree, a line is malformed, `dev_speakers` leaves train or dev empty, or, if `complete`,
        utterances are missing.
    """
    folder = _find(data_folder)
    sets = {name: _read_set(folder, name) for name in ("train", "test")}
    trained = {utterance.speaker for utterance in sets["train"]}
    for utterance in sets["test"]:
        if utterance.speaker in trained:
            raise ValueError(f"{utterance.source}: speaker {utterance.speaker} is also in train; restore the lists.")
    for name, utterances in sets.items():
        _check_count(folder / name, utterances, complete)
    train, dev = split_by_age(sets["train"], _read_speakers(folder / "train", trained), dev_speakers)
    return {"train": train, "dev": dev, "test": sets["test"]}


def extra_files(data_folder: str | PathLike[str], **options: object) -> dict[str, str]:
    """The lexicon, without the digits that mark stress: some entries have them and others lack them.

    Arguments
    ---------
    data_folder
        As in :func:`read`.
    **options
        Other options of :func:`read`, which are ignored.

    Returns
    -------
    dict from file name to text
        "lexicon.txt", with a word and its phones on each line; empty, with a warning, if the corpus lacks its lexicon.

    Raises
    ------
    ValueError
        If a word has no phones.
    """
    path = _find(data_folder) / LEXICON
    if not path.is_file():
        logger.warning(
            f"{path}: no such file; hybrid recipes need a lexicon, CTC recipes do not: restore it for those."
        )
        return {}
    lines = []
    for place, line in read_lines(path):
        word, *phones = line.split()
        if not phones:
            raise ValueError(f"{place}: the word {word} has no phones; restore the file.")
        lines.append(f"{word.upper()} {' '.join(STRESS.sub('', phone) for phone in phones)}\n")
    # Pronunciations that differed only in stress are now equal; the order of the others is kept.
    return {"lexicon.txt": "".join(dict.fromkeys(lines))}


def split_by_age(
    utterances: Sequence[Utterance], speakers: Mapping[str, tuple[bool, str]], dev_speakers: int
) -> tuple[list[Utterance], list[Utterance]]:
    """Split off a development set of whole speakers: girls, men, boys and women in turn.

    So any even number of speakers is half children and half female, while all four groups last. The choice depends on
    the speakers' names, ages and genders alone, so it is the same on every machine and in every run.

    Arguments
    ---------
    utterances : sequence of Utterance
    speakers : mapping from speaker to (bool, str)
        Whether each is a child, and the gender, f or m.
    dev_speakers : int
        Number of speakers to split off.

    Return value and errors are those of :func:`~biglittle_asr.corpora.splitting.split_off`.

    Example
    -------
    >>> speakers = {f"{n}": (n < 4, "fm"[n % 2]) for n in range(8)}
    >>> utterances = [Utterance(name, Path(name), name, "YES", "text:1") for name in speakers]
    >>> train, dev = split_by_age(utterances, speakers, 4)
    >>> sorted(speakers[utterance.speaker] for utterance in dev)
    [(False, 'f'), (False, 'm'), (True, 'f'), (True, 'm')]
    """
    groups = [
        sorted((name for name, each in speakers.items() if each == group), key=stable_hash)
        for group in ((True, "f"), (False, "m"), (True, "m"), (False, "f"))
    ]
    in_turn = [name for name in chain.from_iterable(zip_longest(*groups)) if name is not None]
    chosen, counted = in_turn[: max(dev_speakers, 0)], f"{dev_speakers} of the {len(in_turn)} training speakers"
    return split_off(utterances, lambda each: each.speaker, chosen, "dev_speakers", counted)


def _find(data_folder: str | PathLike[str]) -> Path:
    def look(folder: Path) -> bool:
        return (folder / "train" / "text").is_file() or (folder / "test" / "text").is_file()

    return find_corpus(data_folder, "speechocean762", look, "holds no speechocean762 corpus", ADVICE)[0]


def _read_set(folder: Path, name: str) -> list[Utterance]:
    lists = folder / name
    texts = _read_table(lists / "text", may_be_empty=True)
    wavs, speakers = _read_table(lists / "wav.scp"), _read_table(lists / "utt2spk")
    for other, path in ((wavs, lists / "wav.scp"), (speakers, lists / "utt2spk")):
        for utterance_id, (_, place) in texts.items():
            if utterance_id not in other:
                raise ValueError(f"{place}: {utterance_id} has no line in {path}; restore that file.")
        for utterance_id, (_, place) in other.items():
            if utterance_id not in texts:
                raise ValueError(f"{place}: {utterance_id} has no line in {lists / 'text'}; restore that file.")
    return [
        Utterance(each, folder / wavs[each][0], speakers[each][0], " ".join(words.upper().split()), source=place)
        for each, (words, place) in texts.items()
    ]


def _read_speakers(lists: Path, names: set[str]) -> dict[str, tuple[bool, str]]:
    """Whether each speaker is a child, and the speaker's gender."""
    ages, genders = _read_table(lists / "spk2age"), _read_table(lists / "spk2gender")
    for table, path in ((ages, lists / "spk2age"), (genders, lists / "spk2gender")):
        missing = sorted(names - table.keys())
        if missing:
            raise ValueError(f"{path}: has no line for speaker {missing[0]}; restore the file.")
    for age, place in ages.values():
        if not re.fullmatch(r"\d{1,3}", age, re.ASCII):
            raise ValueError(f"{place}: '{age}' is no age in years; restore the file.")
    for gender, place in genders.values():
        if gender not in GENDERS:
            raise ValueError(f"{place}: '{gender}' is neither {' nor '.join(GENDERS)}; restore the file.")
    return {name: (int(ages[name][0]) < CHILD, genders[name][0]) for name in names}


def _read_table(path: Path, may_be_empty: bool = False) -> Table:
    """Read the lines of a list, each a name and its value; values may be missing if `may_be_empty`."""
    table: dict[str, tuple[str, str]] = {}
    for place, line in read_lines(path, ADVICE):
        name, *value = line.split(maxsplit=1)
        if not value and not may_be_empty:
            raise ValueError(f"{place}: has nothing behind {name}; restore the file.")
        if name in table:
            raise ValueError(f"{place}: {name} is also at {table[name][1]}; restore the file.")
        table[name] = (value[0] if value else "", place)
    return table


def _check_count(lists: Path, utterances: Sequence[Utterance], complete: bool) -> None:
    """Report the missing utterances of train or test."""
    silent = [utterance for utterance in utterances if not os.path.isfile(utterance.wav)]
    if len(utterances) == UTTERANCES and not silent:
        return
    problems = []
    if len(utterances) != UTTERANCES:
        problems.append(f"{lists / 'text'} has {len(utterances)} lines")
    if silent:
        problems.append(f"no audio for {len(silent)} of its transcripts, such as {silent[0].source}")
    counts = f"{len(utterances) - len(silent)} of {UTTERANCES}"
    tell_incomplete(lists, counts, problems, "clone the repository again", complete)
