"""The report on faulty utterances, and their treatment.

Training leaves them out. Other splits keep them, because a test set would become easier without its difficult files:
when it is scored, unreadable utterances count as deletions.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from biglittle_asr.corpora.checks import FAULTS, Finding, Inspection, inspect_words
from biglittle_asr.corpora.utterance import UNSPLIT, Utterance

logger = logging.getLogger(__name__)

REPORT_COLUMNS = ("ID", "split", "file", "fault", "value", "action")
LEFT_OUT, KEPT = "left out", "kept"

TRAINING = "train"
"""Prefix of the names of training splits."""

MAX_LEFT_OUT = 0.5
"""Largest part of the training utterances that may be left out: if most are faulty, the folder, the download or the
settings are wrong, and the rest would be a different corpus."""


def most_common_rate(inspections: Sequence[Inspection]) -> int | None:
    """The most common sample rate in Hz of the readable files; None if there are none."""
    rates = Counter(each.sample_rate for each in inspections if each.sample_rate is not None)
    return rates.most_common(1)[0][0] if rates else None


def report_rows(
    splits: Mapping[str, Sequence[Utterance]], inspected: Mapping[str, Inspection], sample_rate: int | None
) -> list[dict[str, str]]:
    """Rows of report.csv."""
    rows = []
    for split, utterances in splits.items():
        for each in utterances:
            inspection = inspected[each.id]
            findings = [*inspection.findings]
            if not each.findings:
                findings += inspect_words(each.words, each.tokens)
            if inspection.sample_rate not in (None, sample_rate):
                findings.append(Finding("sample_rate", f"{inspection.sample_rate} Hz where {sample_rate} is expected"))
            for fault, value in findings:
                leaves = split == UNSPLIT or (FAULTS[fault] and split.startswith(TRAINING))
                action = LEFT_OUT if leaves else KEPT
                cells = (each.id, split, os.fspath(each.wav), fault, value, action)
                rows.append(dict(zip(REPORT_COLUMNS, cells, strict=True)))
    return rows


def tell_incomplete(folder: Path, counts: str, problems: Sequence[str], remedy: str, refuse: bool) -> None:
    """Report that utterances of a corpus are missing.

    Arguments
    ---------
    folder : pathlib.Path
        Folder of the split.
    counts : str
        The number of utterances found and expected, such as "5 of 2620".
    problems : sequence of str
        Details of the missing ones.
    remedy : str
        How to get them.
    refuse : bool
        Raise the message instead of logging it.

    Raises
    ------
    ValueError
        If `refuse`.

    Example
    -------
    >>> tell_incomplete(Path("train"), "1 of 2", ["b.wav is missing"], "copy it again", refuse=True)
    Traceback (most recent call last):
    ...
    ValueError: train: holds 1 of 2 utterances (b.wav is missing); copy it again, or leave out the option complete.
    """
    because = f" ({'; '.join(problems)})" if problems else ""
    message = f"{folder}: holds {counts} utterances{because}; {remedy}"
    if refuse:
        raise ValueError(f"{message}, or leave out the option complete.")
    logger.warning(f"{message}, unless a part is all you want.")


def judge(
    corpus: str,
    splits: Mapping[str, Sequence[Utterance]],
    rows: Sequence[Mapping[str, str]],
    report: Path,
    strict: bool,
) -> None:
    """Report how many utterances are faulty and why, and refuse an unusable corpus."""
    if not rows:
        return
    total = sum(map(len, splits.values()))
    left_out = {row["ID"] for row in rows if row["action"] == LEFT_OUT}
    fatal = {row["ID"] for row in rows if FAULTS.get(row["fault"])}
    counts = Counter((row["action"], row["fault"]) for row in rows)
    reasons = {
        action: ", ".join(f"{count} {fault}" for (each, fault), count in sorted(counts.items()) if each == action)
        for action in (LEFT_OUT, KEPT)
    }
    first = next((row for row in rows if row["ID"] in fatal), rows[0])
    example = f"such as {first['file']} ({first['fault']}: {first['value'].rstrip('.')})"
    if strict and fatal:
        raise ValueError(
            f"{corpus}: {len(fatal)} of {total} utterances are faulty, {example}; correct those that {report} lists, "
            "or prepare without strict, which leaves them out of training."
        )
    for name, utterances in splits.items():
        if name == UNSPLIT:
            continue
        faulty = sum(utterance.id in fatal for utterance in utterances)
        most = MAX_LEFT_OUT * len(utterances) if name.startswith(TRAINING) else len(utterances) - 1
        if faulty > most:
            raise ValueError(
                f"{corpus}: {faulty} of {len(utterances)} utterances of {name} are faulty, {example}; check the data "
                f"folder and the settings ({report} lists all faults)."
            )
    parts = []
    if left_out:
        parts.append(f"{len(left_out)} of {total} utterances are left out of training ({reasons[LEFT_OUT]})")
    if reasons[KEPT]:
        kept = {row["ID"] for row in rows if row["action"] == KEPT} - left_out
        parts.append(f"{len(kept)} are kept with a fault ({reasons[KEPT]})")
    logger.warning(f"{corpus}: {'; '.join(parts)}; see {report}")
