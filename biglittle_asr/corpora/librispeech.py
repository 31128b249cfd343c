"""LibriSpeech's folder layout, for LibriSpeech itself and for any corpus laid out like it.

    LibriSpeech/test-clean/1089/134686/1089-134686.trans.txt     1089-134686-0000 HE HOPED THERE WOULD BE STEW
    LibriSpeech/test-clean/1089/134686/1089-134686-0000.flac

Splits, readers and chapters are folders. All splits that are present are read, each into a manifest of its name.

lhotse reads this corpus too, but it leaves out utterances whose audio is missing, even from test sets, overlooks audio
without transcripts, and does not count utterances. Here a test set keeps its utterances, and missing files are
reported.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from biglittle_asr.corpora.report import TRAINING, tell_incomplete
from biglittle_asr.corpora.splitting import stable_hash
from biglittle_asr.corpora.utterance import Utterance
from biglittle_asr.corpora.walk import find_corpus, without_litter
from biglittle_asr.files import read_lines

CHAPTERS_NAME = "CHAPTERS.TXT"
TRANSCRIPTS = "*.trans.txt"
ADVICE = "give the folder that holds split folders such as dev-clean (or LibriSpeech/ with them) as the data folder"

COUNTS = {
    "train-clean-100": 28539,
    "train-clean-360": 104014,
    "train-other-500": 148688,
    "dev-clean": 2703,
    "dev-other": 2864,
    "test-clean": 2620,
    "test-other": 2939,
}
"""Number of utterances in each split of LibriSpeech, as distributed (OpenSLR 12)."""

UNIONS = {
    "train-460": ("train-clean-100", "train-clean-360"),
    "train-960": ("train-clean-100", "train-clean-360", "train-other-500"),
}
"""Names for splits that are read together."""


def read(
    data_folder: str | PathLike[str],
    splits: Sequence[str] | None = None,
    train_utterances: int | None = None,
    complete: bool = False,
) -> dict[str, list[Utterance]]:
    """Read the transcripts of LibriSpeech's splits.

    Arguments
    ---------
    data_folder : path
        The folder `LibriSpeech`, or its parent.
    splits : sequence of str, optional
        Names of split folders, `train-460` or `train-960`; by default all folders that are present.
    train_utterances : int, optional
        Take only this many of each training split, always the same: a fair sample of its speakers and hours.
    complete : bool
        Refuse a split with missing utterances, instead of reporting them and reading the others.

    Returns
    -------
    dict
        Utterances of each split; the speaker is LibriSpeech's reader number.

    Raises
    ------
    FileNotFoundError
        If the folder or one of the splits is missing.
    ValueError
        If audio has no line in the transcripts, or, if `complete`, utterances are missing.
    """
    if train_utterances is not None and train_utterances < 1:
        raise ValueError(f"train_utterances: is {train_utterances}, but must be 1 or more.")
    folder, present = find_corpus(data_folder, "LibriSpeech", _splits, "holds no split of LibriSpeech", ADVICE)
    utterances: dict[str, list[Utterance]] = {}
    for split in present if splits is None else splits:
        utterances[split] = []
        for part in UNIONS.get(split, (split,)):
            if part not in present:
                raise FileNotFoundError(f"{folder}: has no split '{part}', only {', '.join(present)}; unpack it there.")
            found = _read_split(folder / part)
            _check_count(folder, part, found, complete)
            utterances[split] += found
        if train_utterances is not None and split.startswith(TRAINING):
            utterances[split] = sorted(utterances[split], key=_lot)[:train_utterances]
    return utterances


def _lot(utterance: Utterance) -> str:
    """A sort key that shuffles utterances reproducibly."""
    return stable_hash(utterance.id)


def _splits(folder: Path) -> list[str]:
    """Names of the splits in a folder."""
    if not folder.is_dir():
        return []
    folders = without_litter(folder.iterdir(), folder)
    return [each.name for each in folders if without_litter(each.glob(f"*/*/{TRANSCRIPTS}"), folder)]


def _read_split(split: Path) -> list[Utterance]:
    utterances = []
    for chapter in [each for each in without_litter(split.glob("*/*"), split) if each.is_dir()]:
        untold = {path.stem for path in without_litter(chapter.glob("*.flac"), chapter)}
        lists = without_litter(chapter.glob(TRANSCRIPTS), chapter)
        if untold and not lists:
            raise ValueError(
                f"{chapter}: has audio, such as {min(untold)}.flac, but no transcripts; restore the folder."
            )
        for transcripts in lists:
            for place, line in read_lines(transcripts):
                utterance_id, _, words = line.partition(" ")
                words = " ".join(words.upper().split())
                wav = chapter / f"{utterance_id}.flac"
                utterances.append(Utterance(utterance_id, wav, chapter.parent.name, words, source=place))
                untold.discard(utterance_id)
        if untold:
            raise ValueError(f"{lists[0]}: has no line for {min(untold)}.flac beside it; restore the file.")
    return utterances


def _check_count(folder: Path, split: str, utterances: Sequence[Utterance], complete: bool) -> None:
    """Report the missing utterances of a LibriSpeech split."""
    there = sum(os.path.isfile(utterance.wav) for utterance in utterances)
    expected = COUNTS.get(split, len(utterances))
    if there == expected == len(utterances):
        return
    problems = []
    chapters = _missing_chapters(folder, split)
    if chapters:
        problems.append(f"{len(chapters)} chapters that {CHAPTERS_NAME} lists are missing, such as {chapters[0]}")
    silent = [utterance for utterance in utterances if not os.path.isfile(utterance.wav)]
    if silent:
        problems.append(f"{len(silent)} transcripts have no audio, such as {silent[0].source}")
    tell_incomplete(folder / split, f"{there} of {expected}", problems, "unpack the archive again", complete)


def _missing_chapters(folder: Path, split: str) -> list[str]:
    """Chapters of a split, as reader/chapter, that the corpus's list has and the folder lacks."""
    path = folder / CHAPTERS_NAME
    if not path.is_file():
        return []
    rows = [[cell.strip() for cell in line.split("|")] for _, line in read_lines(path) if not line.startswith(";")]
    listed = [f"{row[1]}/{row[0]}" for row in rows if len(row) > 3 and row[3] == split]
    return sorted(chapter for chapter in listed if not (folder / split / chapter).is_dir())
