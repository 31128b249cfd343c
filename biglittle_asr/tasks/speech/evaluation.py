"""The end of a speech recipe: its model folder, and the scores of that folder's model.

The folder is loaded back. All processes of a distributed training transcribe dev and test, and the scores are computed
as `biglittle evaluate` computes them. So the final scores are those that users of the folder get.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from speechbrain.utils.distributed import if_main_process, main_process_only
from speechbrain.utils.logger import get_logger

from biglittle_asr.corpora.manifest import read_manifest
from biglittle_asr.files import write_atomically
from biglittle_asr.inference import Failure, Recognizer, load_model
from biglittle_asr.inference.evaluation import (
    Result,
    Row,
    find_references,
    recognized_words,
    score_by_utterance,
    score_set_nist,
    transcribe_rows,
)
from biglittle_asr.inference.folder.packing import MODEL
from biglittle_asr.inference.folder.store import write_card
from biglittle_asr.inference.transcription import audio_progress
from biglittle_asr.scoring import NistScore, Score, TimedWord, write_ctm
from biglittle_asr.tasks.engine.batches import count_processes, gather, process_number
from biglittle_asr.tasks.speech.brain import UtteranceBrain
from biglittle_asr.tasks.speech.data import Datasets
from biglittle_asr.tasks.speech.model_folder import make_card, write_model_folder

logger = get_logger(__name__)

SCORES_NAME = "scores.json"
"""File in the output folder with the final scores. It is written last, so it also marks the recipe as complete."""


def evaluate_recipe(
    brain: UtteranceBrain,
    recognizer: Recognizer,
    datasets: Datasets,
    manifests: Mapping[str, Path],
    hparams: Mapping[str, Any],
) -> dict[str, Score | NistScore]:
    """Write the model folder, then score its model on dev and, unless `skip_test`, on test.

    A recognizer that cannot be saved in a folder is scored directly. A test set with an STM beside its manifest is also
    scored as NIST does. The card in the folder gets the scores once they are known: a run that is killed earlier leaves
    a card without scores, and the next run writes the folder anew.

    Writes wer_<set>.txt (counts and alignments), <set>.ctm (words with times), hub5_test.txt, and finally scores.json.

    Arguments
    ---------
    brain : UtteranceBrain
        The Brain, with the weights chosen.
    recognizer : Recognizer
        A recognizer with these weights.
    datasets : Datasets
        The sets that the model card describes.
    manifests : mapping from "dev", "test" to pathlib.Path
    hparams : mapping
        Reads output_folder, save_folder, data_folder, skip_test.

    Returns
    -------
    dict from "dev", "test", "hub5_test" to score
        The scores, on all processes.

    Raises
    ------
    OSError, ValueError
        With a message for the user.
    """
    output_folder = Path(hparams["output_folder"])
    remove_scores(output_folder)
    folder, card = output_folder / MODEL, make_card(brain, datasets, hparams)
    is_written = write_model_folder(folder, recognizer, card)
    scored = load_model(folder, brain.device) if is_written else recognizer
    if brain.decoding_settings is not None:
        scored.set_search(brain.decoding_settings, logger.warning)
    scored.stopwatch = brain.stopwatch
    results: dict[str, list[Result]] = {}
    by_utterance: dict[str, Score] = {}
    for name in ("dev",) if hparams["skip_test"] else ("dev", "test"):
        rows = read_manifest(manifests[name])
        results[name] = transcribe_in_shares(scored, rows, name, progress=not brain.noprogressbar)
        failed = [(each.recording.name, str(each.error)) for each in results[name] if isinstance(each, Failure)]
        brain.failures.report(name, None, failed)
        with brain.stopwatch("scoring"):
            by_utterance[name] = score_by_utterance(rows, results[name], unreadable="deletions")
        _report_by_utterance(name, by_utterance[name], results[name], output_folder)
    brain.log_scores(by_utterance)
    if is_written and if_main_process():
        write_card(folder, recognizer, replace(card, scores={name: each.all for name, each in by_utterance.items()}))
    scores: dict[str, Score | NistScore] = {**by_utterance}
    references = find_references(manifests["test"])
    if "test" in results and references is not None:
        with brain.stopwatch("scoring"):
            scores["hub5_test"], words = score_set_nist(results["test"], *references)
        _report_nist(scores["hub5_test"], words, manifests["test"], references[0], output_folder)
    brain.show_profile()
    write_scores(output_folder, scores)
    return scores


def transcribe_in_shares(
    recognizer: Recognizer, rows: Sequence[Row], name: str = "dev", progress: bool = False
) -> list[Result]:
    """Transcribe the utterances of a manifest, each process a share; logs the time taken.

    Arguments
    ---------
    recognizer : Recognizer
        The same on all processes, with its stopwatch running.
    rows : sequence of mapping
        All rows that `read_manifest` returns.
    name : str
        Name of the set.
    progress : bool
        Whether to show a progress bar for the main process's share.

    Returns
    -------
    list of Transcript or Failure
        One per row, in the order of the rows, on all processes.
    """
    process, processes = process_number(), count_processes()
    before, start = dict(recognizer.stopwatch.seconds), time.perf_counter()
    with audio_progress(name, progress and if_main_process()) as moved:
        share = transcribe_rows(recognizer, rows[process::processes], progress=moved)
    total = time.perf_counter() - start
    spent = {
        activity: recognizer.stopwatch.seconds.get(activity, 0.0) - before.get(activity, 0.0)
        for activity in ("reading", "decoding")
    }
    audio = sum(each.duration for each in share if not isinstance(each, Failure))
    timing = Timing(total - sum(spent.values()), spent["decoding"], audio)
    results: list[Result | None] = [None] * len(rows)
    timings = []
    for place, (part, of_part) in enumerate(gather((_portable(share), timing))):
        results[place::processes] = part
        timings.append(of_part)
    whole = Timing(*(sum(each) for each in zip(*map(astuple, timings), strict=True)))
    logger.info(f"{name}: {whole}")
    return [each for each in results if each is not None]


def _portable(results: Sequence[Result]) -> list[Result]:
    """Results that other processes can unpickle: errors of any kind become their messages."""
    return [replace(each, error=ValueError(str(each.error))) if isinstance(each, Failure) else each for each in results]


@dataclass(frozen=True)
class Timing:
    """The time of a transcription in seconds, summed over all processes, without reading."""

    network: float
    search: float
    audio: float
    """Duration of the audio transcribed."""

    def __str__(self) -> str:
        total = max(self.network + self.search, 1e-9)
        return (
            f"{self.audio:.1f} s of audio in {total:.1f} s (network {self.network:.1f}, search {self.search:.1f}) on "
            f"{torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}: "
            f"{self.audio / total:.1f} times faster than real time"
        )


@main_process_only
def _report_by_utterance(name: str, score: Score, results: Sequence[Result], output_folder: Path) -> None:
    """Write a set's words, counts and alignments, and log its error rates."""
    score.write(output_folder / f"wer_{name}.txt")
    write_ctm(output_folder / f"{name}.ctm", recognized_words(results))
    logger.info(f"{name}: {score.summary()}")


@main_process_only
def _report_nist(score: NistScore, words: Sequence[TimedWord], manifest: Path, stm: Path, output_folder: Path) -> None:
    """Write hub5_test.txt and the scored words, and log NIST's scores."""
    write_ctm(output_folder / "test.ctm", words)
    score.write(output_folder / "hub5_test.txt", f"{manifest.stem} by {stm.name}")
    for remark in score.remarks:
        logger.warning(remark)
    logger.info(f"test, as NIST scores: {score.summary()}")


@main_process_only
def remove_scores(output_folder: Path) -> None:
    """Remove the scores of an earlier run, which may become outdated."""
    (output_folder / SCORES_NAME).unlink(missing_ok=True)


@main_process_only
def write_scores(output_folder: Path, scores: Mapping[str, Score | NistScore]) -> None:
    """Write scores.json: for each set, the object that `biglittle score --json` prints.

    Arguments
    ---------
    output_folder : pathlib.Path
    scores : mapping from "dev", "test", "hub5_test" to score
    """
    found = {name: score.to_dict() for name, score in scores.items()}
    write_atomically(output_folder / SCORES_NAME, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
