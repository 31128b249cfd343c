"""Hub5'00 (audio LDC2002S09, references LDC2002T43): a test set of 20 Switchboard and 20 CallHome conversations.

    LDC2002S09/hub5e_00/english/sw_4390.sph, en_4156.sph
    LDC2002T43/reference/hub5e00.english.000405.stm     en_4156 A en_4156_A 357.64 359.64 <O,en,F,en-F> HE IS A MAN
    LDC2002T43/reference/en20000405_hub5.glm

The files may be anywhere below the data folder. The references in NIST's formats are written beside the manifest, as
test.stm and test.glm: published results on this set are scored with them.
"""

from __future__ import annotations

import os
import re
from os import PathLike
from pathlib import Path

from biglittle_asr.corpora.telephone.segments import CHANNELS, Turn, check_pairs, find_files, make_utterances
from biglittle_asr.corpora.telephone.transcripts import hub5_words, mend_stm
from biglittle_asr.corpora.utterance import Utterance
from biglittle_asr.files import read_lines, read_text

RECORDING = r"((?:sw|en)_\d{4})\.sph"
STM = r"(hub5e00\.english\.000405)\.stm"
GLM = r"(en20000405_hub5)\.glm"
LINE = re.compile(
    r"(?P<file>\S+)\s+(?P<side>\S+)\s+(?P<speaker>\S+)\s+(?P<start>\d+\.?\d*)\s+(?P<stop>\d+\.?\d*)"
    r"(?:\s+(?P<labels><[^<>\s]*>))?(?:\s+(?P<text>.*))?"
)
IGNORED = "IGNORE_TIME_SEGMENT_IN_SCORING"
ADVICE = "give the folder that holds LDC2002S09 and LDC2002T43 as the data folder"


def read(data_folder: str | PathLike[str]) -> dict[str, list[Utterance]]:
    """Read the scored segments of Hub5'00's STM.

    Arguments
    ---------
    data_folder : path
        Folder with recordings and references.

    Returns
    -------
    dict
        Utterances of "test"; words are the references in plain text, with the first of alternatives.

    Raises
    ------
    FileNotFoundError
        If the folder, recordings, STM or GLM are missing.
    ValueError
        If a line of the STM is malformed.
    """
    folder = Path(os.path.expanduser(data_folder)).absolute()
    recordings = find_files(folder, RECORDING, f"holds no recordings of Hub5'00 (en_4156.sph); {ADVICE}")
    stm, _ = _find_references(folder)
    turns: dict[str, list[Turn]] = {}
    for place, line in read_lines(stm):
        if line.startswith(";;"):
            continue
        found = LINE.fullmatch(mend_stm(line))
        if not found:
            raise ValueError(
                f"{place}: is not a recording, channel, speaker, start and end in seconds, labels and words; restore "
                "the line."
            )
        if found["side"] not in CHANNELS:
            raise ValueError(f"{place}: channel {found['side']} is neither A nor B; restore the line.")
        start, stop, text = float(found["start"]), float(found["stop"]), found["text"] or ""
        if IGNORED not in text.upper():
            name = f"{found['file']}-{found['side']}-{100 * start:06.0f}-{100 * stop:06.0f}"
            turn = Turn(name, found["side"], start, stop, hub5_words(text), place)
            turns.setdefault(found["file"], []).append(turn)
    check_pairs(folder, recordings, turns, "LDC2002S09")
    utterances = []
    for conversation, of_conversation in turns.items():
        recording = recordings.get(conversation, folder / f"{conversation}.sph")
        # Segments without words stay: a recognizer can still insert words there.
        utterances += make_utterances(conversation, recording, of_conversation, keep_noises=False, keep_empty=True)
    return {"test": utterances}


def extra_files(data_folder: str | PathLike[str]) -> dict[str, str]:
    """The files for NIST's scoring: the corrected STM, and the GLM.

    Arguments
    ---------
    data_folder : path
        As in :func:`read`.

    Returns
    -------
    dict from file name to text
        "test.stm" and "test.glm".

    Raises
    ------
    FileNotFoundError
        If one of them is missing.
    """
    stm, glm = _find_references(Path(data_folder))
    return {"test.stm": mend_stm(read_text(stm)), "test.glm": read_text(glm)}


def _find_references(folder: Path) -> tuple[Path, Path]:
    (stm,) = find_files(folder, STM, f"holds no references (hub5e00.english.000405.stm); {ADVICE}").values()
    (glm,) = find_files(folder, GLM, f"holds no mapping of spellings (en20000405_hub5.glm); {ADVICE}").values()
    return stm, glm
