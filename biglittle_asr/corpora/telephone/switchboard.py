"""Switchboard-1 release 2 (LDC97S62) with the transcripts of Mississippi State University: 300 hours.

    LDC97S62/.../sw02001.sph
    swb_ms98_transcriptions/20/2001/sw2001A-ms98-a-trans.text     sw2001A-ms98-a-0002 0.977625 11.561375 hi um yeah
    swb_ms98_transcriptions/sw-ms98-dict.text                     uh-huh ah hh ah

Recordings and transcripts may be anywhere below the data folder. Two sets that are commonly used with Switchboard can
be added: Fisher's conversations to the training set, and Hub5'00 as the test set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path

from biglittle_asr.corpora.telephone import fisher, hub5
from biglittle_asr.corpora.telephone.segments import (
    Turn,
    check_pairs,
    find_files,
    make_utterances,
    split_by_conversation,
)
from biglittle_asr.corpora.telephone.transcripts import normalize_lexicon, spelled_words, switchboard_words
from biglittle_asr.corpora.utterance import Utterance
from biglittle_asr.files import read_lines

RECORDING = r"(sw0\d{4})\.sph"
TRANSCRIPT = r"(sw\d{4}[ab])-ms98-a-trans\.text"
LEXICON = r"(sw-ms98-dict)\.text"
LINE = re.compile(r"(?P<id>sw\d{4}[AB]-ms98-a-\d+)\s+(?P<start>\d+\.?\d*)\s+(?P<stop>\d+\.?\d*)(?:\s+(?P<text>.*))?")
ADVICE = "give the folder that holds LDC97S62 and swb_ms98_transcriptions as the data folder"


def read(
    data_folder: str | PathLike[str],
    dev_conversations: int = 20,
    keep_noises: bool = False,
    fisher_folder: str | PathLike[str] | None = None,
    hub5_folder: str | PathLike[str] | None = None,
) -> dict[str, list[Utterance]]:
    """Read Switchboard's transcripts, and split a development set off.

    Arguments
    ---------
    data_folder : path
        Folder with recordings and transcripts.
    dev_conversations : int
        Number of conversations in dev, with both sides of each: about 7 minutes of speech per conversation.
    keep_noises : bool
        Keep [NOISE], [VOCALIZED-NOISE] and [LAUGHTER] as words, for models with sounds besides phones. Otherwise they
        are left out, and so are segments without words.
    fisher_folder : path, optional
        Folder of Fisher, see :mod:`biglittle_asr.corpora.telephone.fisher`; all of it is added to train.
    hub5_folder : path, optional
        Folder of Hub5'00, see :mod:`biglittle_asr.corpora.telephone.hub5`, for a split "test".

    Returns
    -------
    dict
        Utterances of "train", "dev" and, with `hub5_folder`, "test"; no conversation is in two of them. Speakers are
        sides of conversations, so one person may count as several speakers.

    Raises
    ------
    FileNotFoundError
        If a folder, recordings or transcripts are missing.
    ValueError
        If a line of a transcript is malformed, or `dev_conversations` leaves train or dev empty.
    """
    folder = Path(os.path.expanduser(data_folder)).absolute()
    recordings = find_files(folder, RECORDING, f"holds no recordings of Switchboard (sw02001.sph); {ADVICE}")
    sides = find_files(folder, TRANSCRIPT, f"holds no transcripts of Switchboard (sw2001A-ms98-a-trans.text); {ADVICE}")
    conversations = sorted({f"sw0{name[2:6]}" for name in sides})
    check_pairs(folder, recordings, conversations, "LDC97S62")
    spelled = spelled_words(_read_lexicon(folder))
    utterances = []
    for conversation in conversations:
        recording = recordings.get(conversation, folder / f"{conversation}.sph")
        for side in "AB":
            transcript = _transcript(sides, conversation, side)
            turns = _read_turns(transcript, side, spelled)
            utterances += make_utterances(conversation, recording, turns, keep_noises)
    train, dev = split_by_conversation(utterances, dev_conversations)
    splits = {"train": train, "dev": dev}
    if fisher_folder is not None:
        splits["train"] = train + fisher.read_all(fisher_folder, keep_noises)
    if hub5_folder is not None:
        splits["test"] = hub5.read(hub5_folder)["test"]
    return splits


def extra_files(
    data_folder: str | PathLike[str], hub5_folder: str | PathLike[str] | None = None, **options: object
) -> dict[str, str]:
    """The lexicon, with words as in the manifests, and the files for scoring the test set.

    Arguments
    ---------
    data_folder, hub5_folder
        As in :func:`read`.
    **options
        Other options of :func:`read`, which are ignored.

    Returns
    -------
    dict from file name to text
        "lexicon.txt", with a word and its phones on each line, if there is a lexicon; and the files of
        :func:`biglittle_asr.corpora.telephone.hub5.extra_files`.
    """
    files = {} if hub5_folder is None else hub5.extra_files(hub5_folder)
    lexicon = list(_read_lexicon(Path(data_folder)))
    if lexicon:
        lines = {f"{word} {' '.join(phones)}\n" for word, phones in normalize_lexicon(lexicon)}
        files["lexicon.txt"] = "".join(sorted(lines))
    return files


def _transcript(sides: Mapping[str, Path], conversation: str, side: str) -> Path:
    name = f"sw{conversation[3:]}"
    found, other = (sides.get(f"{name}{each.lower()}") for each in (side, "AB".replace(side, "")))
    if found is None:
        assert other is not None
        raise FileNotFoundError(f"{other.parent}: has no transcript of side {side} of {name}; restore the file.")
    return found


def _read_turns(transcript: Path, side: str, spelled: Mapping[str, Sequence[str]]) -> Iterator[Turn]:
    name = transcript.name[:6].lower() + side
    for place, line in read_lines(transcript):
        found = LINE.fullmatch(line)
        if not found:
            raise ValueError(
                f"{place}: is not a segment, its start and end in seconds, and words, as in '{name}-ms98-a-0001 0.0 "
                "1.5 yes'; restore the line."
            )
        if not found["id"].startswith(f"{name}-"):
            raise ValueError(f"{place}: {found['id']} is no segment of {name}; restore the file.")
        words = switchboard_words(found["text"] or "", spelled)
        yield Turn(found["id"], side, float(found["start"]), float(found["stop"]), words, place)


def _read_lexicon(folder: Path) -> Iterator[tuple[str, Sequence[str]]]:
    """Words and phones of the lexicon, if there is one; without it, acronyms stay single words."""
    try:
        lexicons = find_files(folder, LEXICON, "holds no lexicon")
    except FileNotFoundError:
        return
    for _, line in read_lines(lexicons["sw-ms98-dict"]):
        word, *phones = line.split()
        if not word.startswith("#") and phones:
            yield word, phones
