"""A model's error rates on the utterances of a manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from biglittle_asr.corpora.manifest import row_segment
from biglittle_asr.corpora.telephone.transcripts import NOISES
from biglittle_asr.inference.audio import Recording
from biglittle_asr.inference.transcription import BATCH_SECONDS, Failure, Progress, Transcript, transcribe
from biglittle_asr.inference.transcripts import timed_words
from biglittle_asr.scoring import Hub5Score, Score, TimedWord, read_glm, read_stm, score_hub5, score_texts

if TYPE_CHECKING:
    from biglittle_asr.inference.recognizer import Recognizer

EVALUATION_COLUMNS = ("ID", "wav", "wrd")
"""Columns that a manifest must have; with a column spk_id there are counts by speaker, and an interval; with channel,
start and duration, its utterances are parts of their files."""

UNSCORED = frozenset(NOISES) | frozenset("<UNK> UH UM EH MM HM AH HUH HA ER OOF HEE ACH EEE EW".split())
"""Sounds and hesitations: recognizing them is left out before NIST's scoring, as Kaldi's recipe for Switchboard does,
since references do not ask for them."""


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
    transcripts = _transcribe_rows(recognizer, rows, batch_seconds, progress, report)
    hypotheses = {each.recording.name: each.text for each in transcripts}
    if not hypotheses:
        raise ValueError(f"not one of {len(rows)} utterances could be transcribed, so that there is nothing to score.")
    references = {name: by_id[name]["wrd"] for name in hypotheses}
    speakers = {name: by_id[name]["spk_id"] for name in hypotheses} if all("spk_id" in row for row in rows) else None
    return score_texts(references, hypotheses, speakers, bootstrap=bootstrap)


def find_references(manifest: Path) -> tuple[Path, Path | None] | None:
    """The STM beside a manifest, and the GLM if there is one: by these its test set is scored as NIST does.

    Example
    -------
    >>> manifest = getfixture("tmp_path") / "test.csv"
    >>> find_references(manifest) is None
    True
    >>> _ = manifest.with_suffix(".stm").touch()
    >>> [path and path.name for path in find_references(manifest)]
    ['test.stm', None]
    """
    stm, glm = manifest.with_suffix(".stm"), manifest.with_suffix(".glm")
    return (stm, glm if glm.is_file() else None) if stm.is_file() else None


def evaluate_by_time(
    recognizer: Recognizer,
    rows: Sequence[Mapping[str, str]],
    stm: Path,
    glm: Path | None = None,
    *,
    batch_seconds: float = BATCH_SECONDS,
    bootstrap: int = 1000,
    progress: Progress = lambda done, total: None,
    report: Callable[[Failure], None] | None = None,
) -> tuple[Hub5Score, list[TimedWord]]:
    """Transcribe the segments of a manifest and score their words by time, as NIST does.

    Arguments
    ---------
    recognizer, rows, batch_seconds, bootstrap, progress
        As in :func:`evaluate`; what was said is not taken from the rows.
    stm : pathlib.Path
        References.
    glm : pathlib.Path, optional
        Mapping rules.
    report : function of Failure
        Is told which utterances could not be transcribed; their words count as deletions.

    Returns
    -------
    score : Hub5Score
    words : list of TimedWord
        What was recognized, but for sounds, hesitations (:data:`UNSCORED`) and words cut off: what is scored.

    Raises
    ------
    OSError, ValueError
        As `read_stm`, `read_glm` and `score_hub5`; or if not one segment could be transcribed.
    """
    # Read first, so that a fault in them is not found after an hour.
    read_stm(stm)
    if glm is not None:
        read_glm(glm)
    transcripts = list(_transcribe_rows(recognizer, rows, batch_seconds, progress, report))
    if not transcripts:
        raise ValueError(f"not one of {len(rows)} segments could be transcribed, so that there is nothing to score.")
    return score_transcripts(transcripts, stm, glm, bootstrap)


def score_transcripts(
    transcripts: Sequence[Transcript], stm: Path, glm: Path | None = None, bootstrap: int = 1000
) -> tuple[Hub5Score, list[TimedWord]]:
    """Score transcripts of segments by time, as NIST does; see :func:`evaluate_by_time`."""
    words = sorted(
        (word for each in transcripts for word in timed_words(each) if _is_scored(word.word)),
        key=lambda word: (word.recording, word.channel, word.start),
    )
    rules = None if glm is None else read_glm(glm)
    return score_hub5(read_stm(stm).segments, words, rules, bootstrap=bootstrap, missing_as_empty=True), words


def _is_scored(word: str) -> bool:
    return word.upper() not in UNSCORED and not word.endswith("-")


def _transcribe_rows(
    recognizer: Recognizer,
    rows: Sequence[Mapping[str, str]],
    batch_seconds: float,
    progress: Progress,
    report: Callable[[Failure], None] | None,
) -> Iterator[Transcript]:
    recordings = [Recording.of_segment(row["ID"], row["wav"], row_segment(row)) for row in rows]
    for result in transcribe(recognizer, recordings, batch_seconds=batch_seconds, progress=progress):
        if not isinstance(result, Failure):
            yield result
        elif report is not None:
            report(result)
