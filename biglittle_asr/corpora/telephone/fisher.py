"""Fisher English parts 1 and 2 (audio LDC2004S13 and LDC2005S13, transcripts LDC2004T19 and LDC2005T19): 1700 hours.

    fe_03_p1_sph1/audio/000/fe_03_00001.sph             or       fisher_eng_tr_sp_d1/audio/000/fe_03_00001.sph
    fe_03_p1_tran/data/trans/000/fe_03_00001.txt        3.76 5.54 A: and i generally prefer

Recordings and transcripts may be anywhere below the data folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from biglittle_asr.corpora.telephone.segments import (
    Turn,
    check_pairs,
    find_files,
    make_utterances,
    split_by_conversation,
)
from biglittle_asr.corpora.telephone.transcripts import fisher_words
from biglittle_asr.corpora.utterance import Utterance
from biglittle_asr.files import read_lines

RECORDING = r"(fe_03_\d{5})\.sph"
TRANSCRIPT = r"(fe_03_\d{5})\.txt"
LINE = re.compile(r"(?P<start>\d+\.?\d*)\s+(?P<stop>\d+\.?\d*)\s+(?P<side>[AB]):(?P<text>.*)")
TITLE = re.compile(r"#\s*(fe_03_\d{5})\.sph")
SLIPS = {("fe_03_11487", 31.09, 234.06): 231.09}
"""Corrected start times, by call and the times in its transcript."""
DISCS = "LDC2004S13 and LDC2005S13"
ADVICE = f"give the folder that holds {DISCS}, LDC2004T19 and LDC2005T19 as the data folder"


def read(
    data_folder: str | PathLike[str], dev_conversations: int = 20, keep_noises: bool = False
) -> dict[str, list[Utterance]]:
    """Read Fisher's transcripts, and split a development set off.

    Arguments
    ---------
    data_folder : path
        Folder with the recordings and transcripts of one part, or of both.
    dev_conversations : int
        Number of conversations in dev, with both sides of each.
    keep_noises : bool
        Keep [NOISE], [VOCALIZED-NOISE] and [LAUGHTER] as words. Otherwise they are left out, and so are segments
        without words. Segments with unintelligible speech are always left out.

    Returns
    -------
    dict
        Utterances of "train" and "dev"; no conversation is in both. Speakers are sides of conversations.

    Raises
    ------
    FileNotFoundError
        If the folder, recordings or transcripts are missing.
    ValueError
        If a line of a transcript is malformed, or `dev_conversations` leaves train or dev empty.
    """
    train, dev = split_by_conversation(read_all(data_folder, keep_noises), dev_conversations)
    return {"train": train, "dev": dev}


def read_all(data_folder: str | PathLike[str], keep_noises: bool = False) -> list[Utterance]:
    """Read all of Fisher's utterances, as :func:`read` does, but without splitting them."""
    folder = Path(os.path.expanduser(data_folder)).absolute()
    recordings = find_files(folder, RECORDING, f"holds no recordings of Fisher (fe_03_00001.sph); {ADVICE}")
    transcripts = find_files(folder, TRANSCRIPT, f"holds no transcripts of Fisher (fe_03_00001.txt); {ADVICE}")
    check_pairs(folder, recordings, transcripts, DISCS)
    utterances = []
    for call, transcript in transcripts.items():
        recording = recordings.get(call, folder / f"{call}.sph")
        utterances += make_utterances(call, recording, _read_turns(transcript, call), keep_noises)
    return utterances


def _read_turns(transcript: Path, call: str) -> Iterator[Turn]:
    for number, (place, line) in enumerate(read_lines(transcript)):
        if line.startswith("#"):
            title = TITLE.fullmatch(line)
            if title and title[1] != call:
                raise ValueError(f"{place}: is the transcript of {title[1]}, not of {call}; restore the file.")
            continue
        found = LINE.fullmatch(line)
        if not found:
            raise ValueError(
                f"{place}: is not start and end in seconds, a side and words, as in '3.76 5.54 A: yes'; restore the "
                "line."
            )
        start, stop = float(found["start"]), float(found["stop"])
        start = SLIPS.get((call, start, stop), start)
        # Both sides may speak at the same time, so times alone do not identify a turn.
        name = f"{call}-{found['side']}-{number:04d}"
        yield Turn(name, found["side"], start, stop, fisher_words(found["text"]), place)
