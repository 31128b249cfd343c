"""Tunes the weights of a beam search on development data.

The network runs once; its outputs are searched with every pair of weights, in parallel processes if there are several
cores. All pairs are tried because the two depend on each other: a word's score makes up for what the language model's
weight costs it. Changing one weight at a time would stay near the starting point.
"""

from __future__ import annotations

import dataclasses
import itertools
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from biglittle_asr.corpora.manifest import row_segment
from biglittle_asr.decoding import BeamSearch, BeamWords, Decoder, DecodingSettings, GreedyWords
from biglittle_asr.inference.audio import Recording
from biglittle_asr.inference.transcription import BATCH_SECONDS, Failure, Progress, decode, outputs
from biglittle_asr.scoring import Counts, score_texts
from biglittle_asr.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from biglittle_asr.inference.recognizer import Recognizer

LM_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
WORD_SCORES = (-1.0, 0.0, 1.0, 2.0, 3.0, 4.0)
"""Default values to try."""
CHUNK = 16
"""Utterances per job of a search process."""

Weights = tuple[float, float]
"""lm_weight and word_score."""


@dataclass(frozen=True)
class Trial:
    """Weights, and the errors made with them."""

    lm_weight: float
    word_score: float
    counts: Counts


@dataclass(frozen=True)
class Tuning:
    """The trials and the best of them."""

    trials: tuple[Trial, ...]
    """All trials, in the order of their weights."""
    best: Trial
    """The trial with the fewest word errors, then the fewest character errors, then the smallest weights."""
    settings: DecodingSettings
    """The settings with the best weights."""
    greedy: Counts
    """Errors of greedy decoding of the same outputs."""
    lexicon: Counts | None = None
    """Errors with only the vocabulary of a word language model: at weight 0, with the best word score."""


def tune(
    recognizer: Recognizer,
    rows: Sequence[Mapping[str, str]],
    settings: DecodingSettings,
    *,
    lm_weights: Sequence[float] | None = None,
    word_scores: Sequence[float] | None = None,
    workers: int = 1,
    batch_seconds: float = BATCH_SECONDS,
    progress: Progress = lambda done, total: None,
    search_progress: Progress = lambda done, total: None,
    report: Callable[[str], None] = lambda message: None,
) -> Tuning:
    """Find the weights that make the fewest word errors on development data.

    Arguments
    ---------
    recognizer : Recognizer
    rows : sequence of mapping
        As returned by `read_manifest`. Network outputs are kept in memory: 4 bytes per frame and token.
    settings : DecodingSettings
        Language model, lexicon, beam and hotwords.
    lm_weights, word_scores : sequence of float, optional
        Values to try, in all pairs; :data:`LM_WEIGHTS` and :data:`WORD_SCORES` if not given.
    workers : int
        Number of search processes.
    batch_seconds : float
        Seconds of audio per batch of the network.
    progress : function of (float, float)
        Called with the seconds of audio that the network has read and in total.
    search_progress : function of (float, float)
        Called with the number of searches done and in total.
    report : function of str
        Called with a message for each utterance that could not be read, and about words that are left out.

    Returns
    -------
    Tuning

    Raises
    ------
    OSError, ValueError
        As for :class:`BeamSearch`; also if there is nothing to tune, no data to tune on, or values are given for a
        weight that the search does not have.
    """
    if not recognizer.kind.searching.takes_language_models:
        raise ValueError(
            "there are no weights to tune: language models are for CTC models, and this one is of the class "
            f"{type(recognizer.model).__name__}."
        )
    search = BeamSearch(recognizer.tokenizer, dataclasses.replace(settings, nbest=1), report)
    if settings.lm is None and not search.has_words:
        raise ValueError("there are no weights to tune without a language model or a lexicon; give one.")
    if settings.lm is None and lm_weights is not None:
        raise ValueError("there is no language model to try weights of; name one with --lm.")
    if not search.has_words and word_scores is not None:
        raise ValueError("only with a lexicon or a language model of words are there words to try scores of.")
    utterances = _read(recognizer, rows, batch_seconds, progress, report)
    axes = (
        sorted(set(lm_weights or LM_WEIGHTS)) if settings.lm is not None else [settings.lm_weight],
        sorted(set(word_scores or WORD_SCORES)) if search.has_words else [0.0],
    )
    has_vocabulary = settings.lm is not None and search.has_words
    grid = list(itertools.product(*axes))
    asked = len(grid)
    if has_vocabulary and 0.0 not in axes[0]:
        grid += [(0.0, word_score) for word_score in axes[1]]
    names = list(utterances.references)
    jobs = [(weights, names[start : start + CHUNK]) for weights in grid for start in range(0, len(names), CHUNK)]
    texts: dict[Weights, dict[str, str]] = {weights: {} for weights in grid}
    done = 0
    with _searcher(_Searches(search, utterances), workers) as search_all:
        for weights, found in search_all(jobs):
            texts[weights].update(found)
            done += len(found)
            search_progress(done, len(grid) * len(names))
    trials = [
        Trial(*weights, score_texts(utterances.references, found, bootstrap=0).all) for weights, found in texts.items()
    ]
    best = min(trials[:asked], key=_rank)
    vocabulary = [trial for trial in trials if trial.lm_weight == 0.0] if has_vocabulary else []
    return Tuning(
        tuple(trials[:asked]),
        best,
        dataclasses.replace(settings, lm_weight=best.lm_weight, word_score=best.word_score),
        utterances.greedy(recognizer.tokenizer),
        min(vocabulary, key=_rank).counts if vocabulary else None,
    )


def _rank(trial: Trial) -> tuple[float, ...]:
    counts = trial.counts
    return (counts.errors, counts.character_errors, trial.lm_weight, abs(trial.word_score))


@dataclass(frozen=True)
class _Utterances:
    """Network outputs and reference transcripts."""

    log_probs: dict[str, Tensor]
    durations: dict[str, float]
    references: dict[str, str]
    frame_seconds: float

    def text(self, name: str, decoder: Decoder) -> str:
        words = decode(decoder, [self.log_probs[name]], lambda: self.durations[name])
        return " ".join(word.text for word in words)

    def greedy(self, tokenizer: Tokenizer) -> Counts:
        texts = {name: self.text(name, GreedyWords(tokenizer, self.frame_seconds)) for name in self.references}
        return score_texts(self.references, texts, bootstrap=0).all


def _read(
    recognizer: Recognizer,
    rows: Sequence[Mapping[str, str]],
    batch_seconds: float,
    progress: Progress,
    report: Callable[[str], None],
) -> _Utterances:
    """Run the network on all utterances."""
    recordings = [Recording.of_segment(row["ID"], row["wav"], row_segment(row)) for row in rows]
    log_probs: dict[str, Tensor] = {}
    durations: dict[str, float] = {}
    for output in outputs(recognizer, recordings, batch_seconds=batch_seconds, progress=progress):
        name = output.recording.name
        try:
            if isinstance(output, Failure):
                raise output.error
            with torch.inference_mode():
                log_probs[name] = torch.cat(list(output.pieces)).cpu()
            durations[name] = output.duration
        except (OSError, ValueError) as error:
            report(f"{error} The utterance is left out.")
    references = {row["ID"]: row["wrd"] for row in rows if row["ID"] in log_probs}
    if not any(text.split() for text in references.values()):
        raise ValueError(
            f"not one of {len(rows)} utterances could be read and has words, so that there is nothing to tune."
        )
    return _Utterances(log_probs, durations, references, recognizer.frame_seconds)


class _Searches:
    """Searches utterances with one pair of weights at a time."""

    def __init__(self, search: BeamSearch, utterances: _Utterances) -> None:
        self.search, self.utterances = search, utterances

    def __call__(self, weights: Weights, names: Sequence[str]) -> tuple[Weights, dict[str, str]]:
        if (self.search.settings.lm_weight, self.search.settings.word_score) != weights:
            self.search = self.search.reweighted(*weights)
        decoders = ((name, BeamWords(self.search, self.utterances.frame_seconds)) for name in names)
        return weights, {name: self.utterances.text(name, decoder) for name, decoder in decoders}


Jobs = Sequence[tuple[Weights, Sequence[str]]]
Results = Iterable[tuple[Weights, dict[str, str]]]
_inherited: _Searches | None = None
"""Searches that a forked process shares with its parent: language models may be too large for two copies."""


@contextmanager
def _searcher(searches: _Searches, workers: int) -> Iterator[Callable[[Jobs], Results]]:
    """Give a function that runs jobs, in several processes if `workers` is more than 1."""
    global _inherited
    if workers == 1 or "fork" not in multiprocessing.get_all_start_methods():
        yield lambda jobs: itertools.starmap(searches, jobs)
        return
    _inherited = searches
    # PyTorch's thread pool does not survive the fork.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), torch.set_num_threads, (1,))
    try:
        yield lambda jobs: (done.result() for done in as_completed([pool.submit(_search, *job) for job in jobs]))
    finally:
        _inherited = None
        pool.shutdown(cancel_futures=True)


def _search(weights: Weights, names: Sequence[str]) -> tuple[Weights, dict[str, str]]:
    assert _inherited is not None
    return _inherited(weights, names)
