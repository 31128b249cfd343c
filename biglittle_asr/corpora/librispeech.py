"""LibriSpeech's folder layout, for LibriSpeech itself and for any corpus laid out like it.

    LibriSpeech/test-clean/1089/134686/1089-134686.trans.txt     1089-134686-0000 HE HOPED THERE WOULD BE STEW
    LibriSpeech/test-clean/1089/134686/1089-134686-0000.flac

Splits, readers and chapters are folders. Whatever splits are there are read, each into a manifest of its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from biglittle_asr.corpora.manifest import Utterance, read_lines

TRANSCRIPTS = "*/*/*.trans.txt"
ADVICE = "give the folder that holds split folders such as dev-clean (or LibriSpeech/ with them) as the data folder"


def read(data_folder: str | PathLike[str], splits: Sequence[str] | None = None) -> dict[str, list[Utterance]]:
    """Read the transcripts of LibriSpeech's splits.

    Arguments
    ---------
    data_folder : path
        The folder `LibriSpeech`, or the one that holds it.
    splits : sequence of str, optional
        Names of split folders; all that are there if not given.

    Returns
    -------
    dict
        Utterances of each split; the speaker is LibriSpeech's reader number.

    Raises
    ------
    FileNotFoundError
        If the folder or one of the splits is missing.
    ValueError
        If audio has no line in the transcripts.
    """
    folder, present = _find(Path(data_folder))
    wanted = present if splits is None else list(splits)
    for split in wanted:
        if split not in present:
            raise FileNotFoundError(f"{folder}: has no split '{split}', only {', '.join(present)}; unpack it there.")
    return {split: _read_split(folder / split) for split in wanted}


def _find(data_folder: Path) -> tuple[Path, list[str]]:
    """The folder that holds the splits, and their names."""
    data_folder = data_folder.expanduser().absolute()
    for folder in (data_folder, data_folder / "LibriSpeech"):
        if folder.is_dir():
            present = sorted(each.name for each in folder.iterdir() if any(each.glob(TRANSCRIPTS)))
            if present:
                return folder, present
    problem = "holds no split of LibriSpeech" if data_folder.is_dir() else "no such folder"
    raise FileNotFoundError(f"{data_folder}: {problem}; {ADVICE}.")


def _read_split(split: Path) -> list[Utterance]:
    utterances = []
    for transcripts in sorted(split.glob(TRANSCRIPTS)):
        chapter = transcripts.parent
        untold = {path.stem for path in chapter.glob("*.flac")}
        for place, line in read_lines(transcripts):
            utterance_id, _, words = line.partition(" ")
            words = " ".join(words.upper().split())
            wav = chapter / f"{utterance_id}.flac"
            utterances.append(Utterance(utterance_id, wav, chapter.parent.name, words, source=place))
            untold.discard(utterance_id)
        if untold:
            raise ValueError(f"{transcripts}: has no line for {min(untold)}.flac beside it; restore the file.")
    return utterances
