"""A model's error rates on the utterances of a manifest."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from biglittle_asr.corpora.manifest import row_segment
from biglittle_asr.corpora.telephone.transcripts import NOISES
from biglittle_asr.inference.audio import Recording
from biglittle_asr.inference.transcription import (
    BATCH_SECONDS,
    WINDOW_SECONDS,
    Failure,
    Progress,
    Transcript,
    transcribe,
)
from biglittle_asr.inference.transcripts import timed_words
from biglittle_asr.scoring import NistScore, Normalizer, Score, TimedWord, read_glm, read_stm, score_nist, score_texts

if TYPE_CHECKING:
    from biglittle_asr.inference.recognizer import Recognizer

Row = Mapping[str, str]
"""An utterance of a manifest, as `read_manifest` returns it."""
Result = Transcript | Failure
Engine = Callable[..., Iterable[Result]]
"""Takes recordings, and the options of :func:`~biglittle_asr.inference.transcription.transcribe` by name."""

Unreadable = Literal["left out", "deletions"]
"""How to treat the words of an utterance that cannot be read: leave them unscored, or count them as deletions."""

EVALUATION_COLUMNS = ("ID", "wav", "wrd")
"""Columns that a manifest must have. A column spk_id adds counts per speaker and an interval; channel, start and
duration make utterances parts of their files."""

UNSCORED = frozenset(NOISES) | frozenset("<UNK> UH UM EH MM HM AH HUH HA ER OOF HEE ACH EEE EW".split())
"""Sounds and hesitations. They are removed from hypotheses before NIST scoring, as in Kaldi's recipe for Switchboard,
because references do not require them."""


def evaluate(
    recognizer: Recognizer,
    rows: Sequence[Row],
    *,
    batch_seconds: float = BATCH_SECONDS,
    bootstrap: int = 1000,
    progress: Progress = lambda done, total: None,
    report: Callable[[Failure], None] | None = None,
    unreadable: Unreadable = "left out",
    normalizer: Normalizer | None = None,
    engine: Engine | None = None,
) -> Score:
    """Transcribe the utterances of a manifest and score them against the reference transcripts.

    Arguments
    ---------
    recognizer : Recognizer
    rows : sequence of mapping
        As returned by `read_manifest`.
    batch_seconds : float
        Seconds of audio per batch.
    bootstrap : int
        Sets of speakers drawn for the interval of the WER; 0 for no interval.
    progress : function of (float, float)
        Called from time to time with the seconds of audio done and in total.
    report : function of Failure
        Called for each utterance that could not be transcribed.
    unreadable : "left out" or "deletions"
        See :data:`Unreadable`.
    normalizer : Normalizer, optional
        Applied to references and transcripts, such as `biglittle_asr.scoring.load_normalizer("english")`.
    engine : function, optional
        What transcribes in place of this process, such as `functools.partial(distribute, model)` of
        :mod:`biglittle_asr.inference.distributed`.

    Returns
    -------
    Score

    Raises
    ------
    ValueError
        If all utterances are left out.
    """
    given: dict[str, Any] = {"batch_seconds": batch_seconds, "progress": progress, "report": report, "engine": engine}
    results = transcribe_rows(recognizer, rows, **given)
    return score_by_utterance(rows, results, bootstrap=bootstrap, unreadable=unreadable, normalizer=normalizer)


def find_references(manifest: Path) -> tuple[Path, Path | None] | None:
    """Find the STM and, if there is one, the GLM beside a manifest, for NIST scoring; None without an STM.

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


def evaluate_nist(
    recognizer: Recognizer,
    rows: Sequence[Row],
    stm: Path,
    glm: Path | None = None,
    *,
    batch_seconds: float = BATCH_SECONDS,
    bootstrap: int = 1000,
    progress: Progress = lambda done, total: None,
    report: Callable[[Failure], None] | None = None,
    engine: Engine | None = None,
) -> tuple[NistScore, list[TimedWord]]:
    """Transcribe the segments of a manifest and score their words by NIST's method.

    Arguments
    ---------
    recognizer, rows, batch_seconds, bootstrap, progress, engine
        As in :func:`evaluate`; reference transcripts are not taken from the rows.
    stm, glm
        As in :func:`score_set_nist`.
    report : function of Failure
        Called for each utterance that could not be transcribed; its words count as deletions.

    Returns
    -------
    score : NistScore
    words : list of TimedWord
        As for :func:`score_set_nist`.

    Raises
    ------
    OSError, ValueError
        As for `read_stm`, `read_glm` and `score_nist`; also if no segment could be transcribed.
    """
    # Read first, so that faults in them show before hours of work.
    read_stm(stm)
    if glm is not None:
        read_glm(glm)
    given: dict[str, Any] = {"batch_seconds": batch_seconds, "progress": progress, "report": report, "engine": engine}
    results = transcribe_rows(recognizer, rows, **given)
    if all(isinstance(result, Failure) for result in results):
        raise ValueError(f"not one of {len(rows)} segments could be transcribed, so that there is nothing to score.")
    return score_set_nist(results, stm, glm, bootstrap)


def transcribe_rows(
    recognizer: Recognizer,
    rows: Sequence[Row],
    *,
    batch_seconds: float = BATCH_SECONDS,
    progress: Progress = lambda done, total: None,
    report: Callable[[Failure], None] | None = None,
    engine: Engine | None = None,
) -> list[Result]:
    """Transcribe the utterances of a manifest; see :func:`evaluate`.

    Returns
    -------
    list of Transcript or Failure
        One per row, in the order of the rows.
    """
    recordings = [Recording.of_segment(row["ID"], row["wav"], row_segment(row)) for row in rows]
    options: dict[str, Any] = {"window_seconds": _window_seconds(recognizer), "batch_seconds": batch_seconds}
    results: dict[str, Result] = {}
    engine = functools.partial(transcribe, recognizer) if engine is None else engine
    for result in engine(recordings, **options, progress=progress):
        results[result.recording.name] = result
        if report is not None and isinstance(result, Failure):
            report(result)
    return [results[row["ID"]] for row in rows]


def _window_seconds(recognizer: Recognizer) -> float:
    """The window size in seconds; infinite for networks that allow no windows, which take whole utterances."""
    try:
        _ = recognizer.model.encoder.context
    except (AttributeError, ValueError):
        return math.inf
    return WINDOW_SECONDS


def score_by_utterance(
    rows: Sequence[Row],
    results: Sequence[Result],
    *,
    bootstrap: int = 1000,
    unreadable: Unreadable = "left out",
    normalizer: Normalizer | None = None,
) -> Score:
    """Score transcripts against references, utterance by utterance; see :func:`evaluate`.

    Arguments
    ---------
    rows : sequence of mapping
    results : sequence of Transcript or Failure
        One per row, in the same order.
    bootstrap, unreadable, normalizer
        As in :func:`evaluate`.

    Raises
    ------
    ValueError
        If all utterances are left out.
    """
    scored = [
        (row, "" if isinstance(result, Failure) else result.text)
        for row, result in zip(rows, results, strict=True)
        if unreadable == "deletions" or not isinstance(result, Failure)
    ]
    if not scored:
        raise ValueError(f"not one of {len(rows)} utterances could be transcribed, so that there is nothing to score.")
    references = {row["ID"]: row["wrd"] for row, _ in scored}
    hypotheses = {row["ID"]: text for row, text in scored}
    if normalizer is not None:
        references, hypotheses = normalizer(references), normalizer(hypotheses)
    speakers = {row["ID"]: row["spk_id"] for row, _ in scored} if all("spk_id" in row for row in rows) else None
    return score_texts(references, hypotheses, speakers, bootstrap=bootstrap)


def score_set_nist(
    results: Sequence[Result], stm: Path, glm: Path | None = None, bootstrap: int = 1000
) -> tuple[NistScore, list[TimedWord]]:
    """Score transcripts of segments by NIST's method.

    Arguments
    ---------
    results : sequence of Transcript or Failure
        The words of segments that could not be transcribed count as deletions.
    stm : pathlib.Path
        References.
    glm : pathlib.Path, optional
        Mapping rules.
    bootstrap : int
        As in :func:`evaluate`.

    Returns
    -------
    score : NistScore
    words : list of TimedWord
        The scored words: all recognized words except sounds, hesitations (:data:`UNSCORED`) and fragments.

    Raises
    ------
    OSError, ValueError
        As for `read_stm`, `read_glm` and `score_nist`.
    """
    words = [word for word in recognized_words(results) if _is_scored(word.word)]
    rules = None if glm is None else read_glm(glm)
    return score_nist(read_stm(stm).segments, words, rules, bootstrap=bootstrap, missing_as_empty=True), words


# Earlier names, kept for existing programs.
evaluate_by_time = evaluate_nist
score_by_time = score_set_nist


def recognized_words(results: Sequence[Result]) -> list[TimedWord]:
    """All words of transcripts, sorted by recording, channel and time."""
    words = (word for each in results if not isinstance(each, Failure) for word in timed_words(each))
    return sorted(words, key=lambda word: (word.recording, word.channel, word.start))


def _is_scored(word: str) -> bool:
    return word.upper() not in UNSCORED and not word.endswith("-")
