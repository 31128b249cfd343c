"""A model's error rates on the utterances of a manifest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from biglittle_asr.corpora.manifest import row_segment
from biglittle_asr.inference.audio import Recording
from biglittle_asr.inference.transcription import BATCH_SECONDS, Failure, Progress, transcribe
from biglittle_asr.scoring import Score, score_texts

if TYPE_CHECKING:
    from biglittle_asr.inference.recognizer import Recognizer

EVALUATION_COLUMNS = ("ID", "wav", "wrd")
"""Columns that a manifest must have; with a column spk_id there are counts by speaker, and an interval; with channel,
start and duration, its utterances are parts of their files."""


def evaluate(
    recognizer: Recognizer,
    rows: Sequence[Mapping[str, str]],
    *,
    batch_seconds: float = BATCH_SECONDS,
    bootstrap: int = 1000,
    progress: Progress = lambda done, total: None,
    report: Callable[[Failure], None] | None = None,
) -> Score:
    """Transcribe the utterances of a manifest and compare them with what was said.

    Arguments
    ---------
    recognizer : Recognizer
    rows : sequence of mapping
        What `read_manifest` returns.
    batch_seconds : float
        Audio of a batch.
    bootstrap : int
        Sets of speakers drawn for the interval of the WER; 0 for none.
    progress : function of (float, float)
        Is told, from time to time, how many seconds of audio are done, and how many there are in all.
    report : function of Failure
        Is told which utterances could not be transcribed; these are not scored.

    Returns
    -------
    Score

    Raises
    ------
    ValueError
        If not one utterance could be transcribed.
    """
    by_id = {row["ID"]: row for row in rows}
    recordings = [Recording.of_segment(row["ID"], Path(row["wav"]), row_segment(row)) for row in rows]
    hypotheses: dict[str, str] = {}
    for result in transcribe(recognizer, recordings, batch_seconds=batch_seconds, progress=progress):
        if not isinstance(result, Failure):
            hypotheses[result.recording.name] = result.text
        elif report is not None:
            report(result)
    if not hypotheses:
        raise ValueError(f"not one of {len(rows)} utterances could be transcribed, so that there is nothing to score.")
    references = {name: by_id[name]["wrd"] for name in hypotheses}
    speakers = {name: by_id[name]["spk_id"] for name in hypotheses} if all("spk_id" in row for row in rows) else None
    return score_texts(references, hypotheses, speakers, bootstrap=bootstrap)
