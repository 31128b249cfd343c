"""The utterances of a report as data for the page's script, which lists, filters and sorts them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from biglittle_asr.report.experiments import Audio, Experiment, utterances_by_id
from biglittle_asr.scoring import AlignedUtterance
from biglittle_asr.scoring.alignment import CORRECT
from biglittle_asr.scoring.lookalikes import shown

DATA_LIMIT = 4_000_000
"""Largest number of bytes of the utterances in a page, so that it opens fast."""

Column = str | list[str]
"""Correct words, or an error: operation, reference word, recognized word."""


@dataclass(frozen=True)
class Listed:
    """The utterances that a page lists, those with the most errors first."""

    ids: Sequence[str]
    total: int
    """Number of all utterances."""
    data: dict[str, Any]
    """For the script: names of the speakers, and a row for each utterance, as :func:`list_utterances` describes it."""


def list_utterances(experiments: Sequence[Experiment], limit: int = DATA_LIMIT) -> Listed:
    """List utterances as rows: ID, number of the speaker or -1, seconds or null, and an alignment per experiment.

    An alignment is a list of columns (see :data:`Column`), or null if the experiment lacks the utterance.

    Arguments
    ---------
    experiments : sequence of Experiment
        Those that have scores.
    limit : int
        Bytes of all rows; utterances with fewer errors than the others are left out.
    """
    sides = [utterances_by_id(experiment) for experiment in experiments]
    found: dict[str, list[AlignedUtterance]] = {}
    for side in sides:
        for utterance_id, utterance in side.items():
            found.setdefault(utterance_id, []).append(utterance)
    errors = {each: sum(utterance.counts.errors for utterance in utterances) for each, utterances in found.items()}
    speakers: dict[str, int] = {}
    rows: list[list[Any]] = []
    ids: list[str] = []
    size = 0
    for utterance_id in sorted(found, key=lambda each: (-errors[each], each)):
        speaker = next((each.speaker for each in found[utterance_id] if each.speaker is not None), None)
        audio = audio_of(experiments, utterance_id)
        row = [
            utterance_id,
            -1 if speaker is None else speakers.setdefault(speaker, len(speakers)),
            None if audio is None else round(audio.duration, 2),
            [columns(side[utterance_id]) if utterance_id in side else None for side in sides],
        ]
        size += len(dump(row).encode()) + 1
        if size > limit and rows:
            break
        rows.append(row)
        ids.append(utterance_id)
    return Listed(ids, len(found), {"speakers": list(speakers), "utterances": rows})


def columns(utterance: AlignedUtterance) -> list[Column]:
    """The columns of an alignment; correct words in a row are one.

    Example
    -------
    >>> from biglittle_asr.scoring import score_texts
    >>> columns(score_texts({"a": "one two three"}, {"a": "one two"}).utterances[0])
    ['one two', ['D', 'three', '']]
    """
    found: list[Column] = []
    for pair in map(shown, utterance.pairs):
        if pair.operation != CORRECT:
            found.append(list(pair))
        elif found and isinstance(found[-1], str):
            found[-1] = f"{found[-1]} {pair.reference or pair.hypothesis}"
        else:
            found.append(pair.reference or pair.hypothesis)
    return found


def audio_of(experiments: Sequence[Experiment], utterance_id: str) -> Audio | None:
    """The audio of an utterance, by the first experiment that knows it."""
    known = [each.audio[utterance_id] for each in experiments if utterance_id in each.audio]
    return max(known, key=lambda audio: bool(audio.wav), default=None)


def dump(data: Any) -> str:
    r"""JSON that can be put into a script element: no character in it has a meaning in HTML.

    Example
    -------
    >>> print(dump(["</script>", 1]))
    ["\u003c/script\u003e",1]
    """
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
