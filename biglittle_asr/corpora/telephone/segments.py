"""Shared code for corpora of telephone conversations: finding two-sided recordings, and splitting by conversation.

A conversation is one file of two channels, 8 kHz, mu-law, in NIST SPHERE: side A is channel 1, side B channel 2. It is
read in place, segment by segment.

lhotse reads Switchboard, Fisher and Hub5'00 too, into manifests of its own. It is not used here: it leaves the
transcribers' marks in the words, has no development set, takes Hub5'00's text from other files than the scored STM, and
opens every recording to describe it, which our checks do anyway. It would save only a walk over folders and the parsing
of lines, at the price of converting another format to our manifests.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from biglittle_asr.audio.files import Segment
from biglittle_asr.corpora.splitting import split_off, stable_hash
from biglittle_asr.corpora.telephone.transcripts import NOISES, UNINTELLIGIBLE, without_noises
from biglittle_asr.corpora.utterance import Utterance
from biglittle_asr.corpora.walk import is_litter, walk_files

CHANNELS = {"A": 1, "B": 2}
"""Channel of each side."""
TOKENS = frozenset(NOISES)
MAX_UNPAIRED = 0.01
"""Largest part of the conversations that may lack a recording or a transcript, beyond `FEW_UNPAIRED`."""
FEW_UNPAIRED = 3
"""This many may always lack one: there are copies of Switchboard with 2435 recordings for 2438 conversations."""


class Turn(NamedTuple):
    """One line of a transcript."""

    id: str
    """Unique in the corpus."""
    side: str
    """A or B."""
    start: float
    """Seconds."""
    stop: float
    """Seconds."""
    words: Sequence[str]
    """Words in upper case, including sounds."""
    place: str
    """Source line, as `file:line`."""


def find_files(folder: Path, pattern: str, missing: str) -> dict[str, Path]:
    r"""Find files anywhere below a folder, including linked folders.

    Arguments
    ---------
    folder : pathlib.Path
        Folder to search.
    pattern : str
        Regular expression for a file's full name in lower case; its first group is the key.
    missing : str
        The message, after the folder, if there is no such file.

    Returns
    -------
    dict from key to pathlib.Path
        Sorted by key.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no such file in it.
    ValueError
        If two files have the same key.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / "DISC1").mkdir()
    >>> _ = (folder / "DISC1" / "SW02001.SPH").touch()
    >>> find_files(folder, r"(sw\d+)\.sph", "holds no recordings").keys()
    dict_keys(['sw02001'])
    """
    folder = Path(os.path.expanduser(folder)).absolute()
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; check the path.")
    found: dict[str, Path] = {}
    for parent, folders, names in walk_files(folder):
        folders[:] = [name for name in folders if not is_litter(name)]
        for name in names:
            match = re.fullmatch(pattern, name.lower())
            if not match:
                continue
            path = parent / name
            if match[1] in found:
                raise ValueError(f"{path}: is also at {found[match[1]]}; remove one of the two.")
            found[match[1]] = path
    if not found:
        raise FileNotFoundError(f"{folder}: {missing}.")
    return dict(sorted(found.items()))


def check_pairs(folder: Path, recordings: Collection[str], transcribed: Collection[str], discs: str) -> None:
    """Refuse a corpus with many missing files.

    Arguments
    ---------
    folder : pathlib.Path
        Name for the message.
    recordings, transcribed : collections of str
        Names of the conversations with a recording, and of those with a transcript.
    discs : str
        The corpus's discs with audio, for the message.

    Raises
    ------
    FileNotFoundError
        If many conversations lack a recording or a transcript. If only a few do, the checks of utterances report them.

    Example
    -------
    >>> check_pairs(Path("data"), ["sw02001"], ["sw02001", "sw02002"], "LDC97S62")
    >>> check_pairs(Path("data"), [], [f"sw0{number}" for number in range(2001, 2009)], "LDC97S62")
    Traceback (most recent call last):
    ...
    FileNotFoundError: data: 8 of 8 conversations with transcripts have no recording, such as sw02001: a disc is \
missing; put all of LDC97S62 below it.
    """
    for have, lack, others, advice in (
        ("transcripts", "recording", recordings, f"a disc is missing; put all of {discs} below it"),
        ("recordings", "transcript", transcribed, "transcripts are missing; put all of them below it"),
    ):
        names = transcribed if have == "transcripts" else recordings
        missing = sorted(set(names) - set(others))
        if len(missing) > max(FEW_UNPAIRED, MAX_UNPAIRED * len(names)):
            raise FileNotFoundError(
                f"{folder}: {len(missing)} of {len(names)} conversations with {have} have no {lack}, such as "
                f"{missing[0]}: {advice}."
            )


def make_utterances(
    conversation: str, recording: Path, turns: Iterable[Turn], keep_noises: bool, keep_empty: bool = False
) -> list[Utterance]:
    """Make utterances from a conversation's turns.

    Arguments
    ---------
    conversation : str
        Name of the conversation; its sides are the speakers.
    recording : pathlib.Path
        The file with both sides.
    turns : iterable of Turn
        The turns; those with unintelligible speech are skipped, because their correct transcript is unknown.
    keep_noises : bool
        Keep sounds such as [NOISE] as words.
    keep_empty : bool
        Keep turns without words.

    Returns
    -------
    list of Utterance
        In the order of the turns.

    Example
    -------
    >>> turns = [Turn("a-1", "B", 1.0, 2.5, ["[NOISE]", "YES"], "a.txt:1"), Turn("a-2", "B", 3.0, 4.0, [], "a.txt:2")]
    >>> (utterance,) = make_utterances("a", Path("a.sph"), turns, keep_noises=False)
    >>> utterance.speaker, utterance.words, utterance.segment
    ('a-B', 'YES', Segment(channel=2, start=1.0, duration=1.5))
    """
    utterances = []
    for turn in turns:
        words = turn.words if keep_noises else without_noises(turn.words)
        if UNINTELLIGIBLE in words or not (words or keep_empty):
            continue
        segment = Segment(CHANNELS[turn.side], turn.start, round(turn.stop - turn.start, 6))
        speaker = f"{conversation}-{turn.side}"
        utterances.append(Utterance(turn.id, recording, speaker, " ".join(words), turn.place, segment, TOKENS))
    return utterances


def split_by_conversation(
    utterances: Sequence[Utterance], dev_conversations: int
) -> tuple[list[Utterance], list[Utterance]]:
    """Split off a development set of whole conversations, with both sides of each.

    The choice depends on the recordings' names alone, so it is the same on every machine and in every run.

    Arguments
    ---------
    utterances : sequence of Utterance
    dev_conversations : int
        Number of conversations to split off.

    Return value and errors are those of :func:`~biglittle_asr.corpora.splitting.split_off`.

    Example
    -------
    >>> utterances = [Utterance(f"{n}", Path(f"sw0200{n // 2}.sph"), "", "YES", "") for n in range(8)]
    >>> train, dev = split_by_conversation(utterances, 1)
    >>> len(train), len(dev), len({utterance.wav for utterance in dev})
    (6, 2, 1)
    """
    conversations = sorted({_conversation(each) for each in utterances}, key=stable_hash)
    chosen, counted = conversations[: max(dev_conversations, 0)], f"{dev_conversations} of {len(conversations)}"
    return split_off(utterances, _conversation, chosen, "dev_conversations", f"{counted} conversations")


def _conversation(utterance: Utterance) -> str:
    return utterance.wav.stem.lower()
