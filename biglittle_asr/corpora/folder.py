"""Any recordings with transcripts: a folder with a text beside each recording, or a list of paths and words.

    mine/anna/talk.wav      mine/anna/talk.txt            Good morning.
    mine/list.csv           path,text,speaker             anna/talk.wav,Good morning.,anna

Subfolders are searched. The folder or the list may assign recordings to train, dev and test; otherwise they are split
here. Recordings may have any sample rate and number of channels: `convert` makes the copies that recipes read.
"""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

from biglittle_asr.corpora.checks import Finding
from biglittle_asr.corpora.conversion import convert_audio
from biglittle_asr.corpora.plain_text import CASES, normalize_text, other_characters
from biglittle_asr.corpora.recordings import (
    FOREIGN_SUFFIXES,
    SPLIT_NAMES,
    TranscribedRecording,
    find_split,
    read_recordings,
)
from biglittle_asr.corpora.report import TRAINING
from biglittle_asr.corpora.splitting import split_by_lot
from biglittle_asr.corpora.utterance import UNSPLIT, Utterance

logger = logging.getLogger(__name__)

UNKNOWN_SPEAKER = "unknown"
DEFAULT_SAMPLE_RATE = 16000
"""Sample rate of the copies in Hz."""
PLACEHOLDER = re.compile(r"\{(\w*)\}|(\*)")


def read(
    data_folder: str | PathLike[str],
    names: str | None = None,
    split_by: str = "auto",
    dev_percent: int = 10,
    test_percent: int = 10,
    seed: int = 0,
    text: str = "upper",
) -> dict[str, list[Utterance]]:
    """Read recordings and texts, and split off the sets that are not given.

    A split is given by a list's column `split`, by lists named train, dev and test, by folders of these names, or by
    `names`.

    Arguments
    ---------
    data_folder : path
        A folder with a text (*.txt or *.lab) beside each recording; or a list, see
        :func:`~biglittle_asr.corpora.lists.read_list`; or a folder with one or more lists.
    names : str, optional
        Position of {speaker} or {split} in the path of a recording, without suffix: the pattern is matched against the
        end of the path, and * stands for anything except /. For example "{speaker}/*", "{split}/{speaker}/*",
        "{speaker}-*".
    split_by : str
        "speaker": no speaker is in two of the sets; "chance": recordings are drawn at random; "auto": by speaker, if at
        least three are known, and by chance otherwise.
    dev_percent, test_percent : int
        Approximate sizes of the sets that are split off, in percent of all recordings.
    seed : int
        Seed of the random split.
    text : str
        "upper", "lower": convert to one case, without punctuation; "as_is": keep the text; see
        :func:`~biglittle_asr.corpora.plain_text.normalize_text`.

    Returns
    -------
    dict
        Utterances of "train", "dev" and "test"; or only of the given splits, if train is not among them. Recordings
        without a text and texts without a recording are in `UNSPLIT`.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or it has neither recordings with texts nor a list.
    ValueError
        If a list is malformed, options are invalid, or there are too few recordings.
    """
    data = Path(os.path.expanduser(data_folder)).absolute()
    _check_options(names, split_by, dev_percent, test_percent, text)
    recordings, unpaired = read_recordings(data)
    if names:
        recordings = [_with_names(each, names) for each in recordings]
    if not any(each.split for each in recordings):
        recordings = _with_folder_splits(data, recordings, names)
    places: dict[str, str] = {}
    for each in recordings:
        if each.id in places:
            raise ValueError(f"{each.place}: ID {each.id} is also at {places[each.id]}; make IDs unique.")
        places[each.id] = each.place
    chosen = _choose_splits(data, recordings, split_by, {"dev": dev_percent, "test": test_percent}, seed)
    members: dict[str, list[Utterance]] = {TRAINING: [], "dev": [], "test": []}
    for each in recordings:
        members[chosen[each.id]].append(_make_utterance(each, text))
    splits = {split: utterances for split, utterances in members.items() if utterances}
    _tell_characters([each for utterances in splits.values() for each in utterances], text)
    if unpaired:
        splits[UNSPLIT] = unpaired
    return splits


def convert(
    splits: Mapping[str, Sequence[Utterance]], output_folder: Path, sample_rate: int | None
) -> dict[str, list[Utterance]]:
    """Copy recordings that have another sample rate (16 kHz if none is given) or several channels."""
    return convert_audio("folder", splits, output_folder, sample_rate or DEFAULT_SAMPLE_RATE)


def _check_options(names: object, split_by: str, dev_percent: int, test_percent: int, text: str) -> None:
    if not isinstance(names, str | None):
        raise ValueError(f"names: is {names!r}, but must be text; in YAML, write it in quotes, as '{{speaker}}/*'.")
    for name, value, known in (("split_by", split_by, ("auto", "speaker", "chance")), ("text", text, CASES)):
        if value not in known:
            raise ValueError(f"{name}: is {value!r}, but must be one of {', '.join(known)}.")
    if min(dev_percent, test_percent) < 1 or dev_percent + test_percent > 90:
        raise ValueError(
            f"dev_percent, test_percent: are {dev_percent} and {test_percent}, but must be 1 or more, and 90 at most "
            "together."
        )


def _make_utterance(recording: TranscribedRecording, case: str) -> Utterance:
    findings: tuple[Finding, ...] = ()
    suffix, name = recording.wav.suffix.lower(), recording.wav.name
    if suffix in FOREIGN_SUFFIXES:
        advice = f"convert it, as by ffmpeg -i {name} {recording.wav.stem}.flac"
        findings = (Finding("unreadable", f"{suffix} is not read here; {advice}"),)
    return Utterance(
        recording.id,
        recording.wav,
        recording.speaker or UNKNOWN_SPEAKER,
        normalize_text(recording.text, case),
        recording.place,
        recording.segment,
        findings=findings,
    )


def _with_names(recording: TranscribedRecording, names: str) -> TranscribedRecording:
    """Add the speaker or the split from a recording's path."""
    for placeholder, _ in PLACEHOLDER.findall(names):
        if placeholder not in ("", "speaker", "split") or names.count(f"{{{placeholder}}}") > 1:
            raise ValueError(f"names: is {names!r}, but may have {{speaker}} and {{split}}, each once, and *.")
    pattern, end = "", 0
    for found in PLACEHOLDER.finditer(names):
        group = f"(?P<{found[1]}>[^/]+?)" if found[1] else "[^/]*?"
        pattern, end = pattern + re.escape(names[end : found.start()]) + group, found.end()
    pattern += re.escape(names[end:])
    name = unicodedata.normalize("NFC", recording.name)
    match = re.fullmatch(pattern, "/".join(name.split("/")[-1 - names.count("/") :]))
    if not match:
        raise ValueError(f"names: {names!r} does not fit the recording {name}; change it, or rename the recording.")
    said = match.groupdict()
    split = find_split(said["split"], str(recording.wav)) if "split" in said else recording.split
    return recording._replace(speaker=said.get("speaker", recording.speaker), split=split)


def _with_folder_splits(
    data: Path, recordings: Sequence[TranscribedRecording], names: str | None
) -> list[TranscribedRecording]:
    """Add the splits that folders are named after, unless these names mean something else."""
    tops = {each.id: SPLIT_NAMES.get(each.name.partition("/")[0].lower()) for each in recordings if "/" in each.name}
    outside = [each for each in recordings if tops.get(each.id) is None]
    if len(outside) == len(recordings) or (outside and names):
        return list(recordings)
    if outside:
        raise ValueError(
            f"{data}: has folders of the splits {', '.join(sorted({split for split in tops.values() if split}))}, but "
            f"{outside[0].name} is in none; move it into one, or say where speakers stand in paths, such as "
            "names={speaker}/*."
        )
    return [each._replace(split=tops[each.id]) for each in recordings]


def _choose_splits(
    data: Path, recordings: Sequence[TranscribedRecording], split_by: str, percents: Mapping[str, int], seed: int
) -> dict[str, str]:
    """Choose the split of each recording, by ID: the given one, or one of those split off train."""
    chosen = {each.id: each.split or TRAINING for each in recordings}
    given = {each.split for each in recordings} - {None}
    missing = {split: percent for split, percent in percents.items() if split not in given}
    if given:
        _tell_shared_speakers(recordings)
    if not missing or (given and TRAINING not in given):
        return chosen
    pool = [each for each in recordings if each.split in (None, TRAINING)]
    speakers = Counter(each.speaker for each in pool if each.speaker)
    needed = 1 + len(missing)
    names = " and ".join([TRAINING, *missing])
    if len(pool) < needed:
        raise ValueError(f"{data}: {len(pool)} recordings with texts are too few for {names}; record {needed} or more.")
    enough = len(speakers) >= needed and all(each.speaker for each in pool)
    if split_by == "speaker" and not enough:
        raise ValueError(
            f"split_by: names of {len(speakers)} speakers are known, too few for {names}; split by chance, or say who "
            "speaks by a column speaker or by names, such as names={speaker}/*."
        )
    if enough and split_by != "chance":
        of_speaker = split_by_lot(speakers, missing, seed)
        logger.info(f"folder: {', '.join(missing)} split off by speaker.")
        return chosen | {each.id: of_speaker[str(each.speaker)] for each in pool}
    few = f" ({len(speakers) or 'no'} speakers are known; if paths name them, say where, such as names={{speaker}}/*)"
    logger.warning(
        f"folder: {', '.join(missing)} split off by chance{'' if split_by == 'chance' else few}: a speaker may be in "
        "train and in test, so the scores say nothing about other speakers."
    )
    return chosen | split_by_lot({each.id: 1 for each in pool}, missing, seed)


def _tell_shared_speakers(recordings: Sequence[TranscribedRecording]) -> None:
    speakers = {split: {each.speaker for each in recordings if each.split == split} for split in SPLIT_NAMES.values()}
    for split in ("dev", "test"):
        shared = sorted(str(each) for each in (speakers[TRAINING] & speakers[split]) - {None})
        if shared:
            logger.warning(
                f"folder: {len(shared)} speakers of {split} are in train as well, such as {shared[0]}: scores on "
                f"{split} say nothing of other speakers."
            )


def _tell_characters(utterances: Sequence[Utterance], case: str) -> None:
    if case != "as_is":
        logger.info(f"folder: texts are in {case} case, without punctuation; text=as_is keeps them as they stand.")
    others = {each.id: other_characters(each.words) for each in utterances}
    count = sum(map(bool, others.values()))
    if count:
        characters = "".join(sorted(frozenset().union(*others.values())))
        example = next(name for name, found in others.items() if found)
        logger.warning(
            f"folder: {count} texts have other characters than letters and apostrophes ({characters}), such as "
            f"{example}; what is read aloud is better written in words."
        )
