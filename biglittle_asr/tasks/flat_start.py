"""A hybrid system from transcripts alone: align, train, align again.

The first iteration trains on what a linear layer aligns, which starts from states that are spread evenly over each
utterance: see :mod:`biglittle_asr.tasks.linear_start`. Every further one aligns all utterances with the network so far
and trains on. The first that has `tied: True` grows the trees that tie states in context, by statistics which are
gathered while the network before it aligns; its output layer begins with what that network knew of the states without
context.

    <save_folder>/iterations/1/     alignments.npz and tying.npz: what the iteration trains on
    <output_folder>/iterations/1/   its curves and logs
    <output_folder>/iterations.csv  a row for each

A training that was interrupted goes on inside the iteration in which it was.
"""

from __future__ import annotations

import csv
import io
import math
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from speechbrain.utils.epoch_loop import EpochCounter
from speechbrain.utils.logger import get_logger
from speechbrain.utils.train_logger import FileTrainLogger, TensorboardLogger

from biglittle_asr.corpora.manifest import write_atomically
from biglittle_asr.decoding.hmm import (
    Aligner,
    Alignment,
    AlignmentError,
    ContextStatistics,
    Tying,
    grow_tying,
    monophones,
    read_lexicon,
    read_tying,
)
from biglittle_asr.decoding.hmm.graph import Graph, build_graph
from biglittle_asr.decoding.hmm.tying import Integers
from biglittle_asr.features import SentenceNormalization
from biglittle_asr.nnet.lengths import output_length
from biglittle_asr.tasks.checkpoints import Checkpointer
from biglittle_asr.tasks.data import OUTPUT_KEYS, AudioReader, Datasets, build_audio_dataset
from biglittle_asr.tasks.failures import some
from biglittle_asr.tasks.hybrid import HybridBrain, Output, stretched
from biglittle_asr.tasks.hybrid_system import HybridSystem, make_decoder
from biglittle_asr.tasks.iterations import (
    Iteration,
    PartOfSchedule,
    Row,
    Table,
    change,
    read_alignments,
    read_iterations,
    write_alignments,
)
from biglittle_asr.tasks.linear_start import SECONDS, fit, linear_model
from biglittle_asr.tasks.mmi import Denominator
from biglittle_asr.tasks.recipe import HYBRID_KEYS, RecipeError, load_recipe, prepare_manifests

logger = get_logger(__name__)

MAX_FAILED = 0.5
"""Largest part of the utterances that may fail to be aligned: where most do, the lexicon or the number of states is at
fault."""

NOTHING = torch.zeros(1, dtype=torch.long)
"""Targets of an utterance that has none; SpeechBrain cannot pad what is empty."""

Failed = dict[str, str]
"""Why an utterance could not be aligned, by its ID."""


def train_hybrid(argv: Sequence[str], corpus: str) -> None:
    """What the train.py of a hybrid recipe does: parse, prepare, train, evaluate.

    Arguments
    ---------
    argv : sequence of str
        The command line, see :func:`~biglittle_asr.tasks.recipe.load_recipe`.
    corpus : str
        One of `biglittle_asr.corpora.list_corpora()`.

    Raises
    ------
    ValueError, OSError
        With a sentence for the user.
    """
    hparams, run_opts = load_recipe(argv, HYBRID_KEYS)
    manifests = prepare_manifests(corpus, hparams)
    FlatStart(manifests, hparams, run_opts).train().evaluate(hparams, manifests["test"])


class FlatStart:
    """Trains a hybrid system.

    Arguments
    ---------
    manifests : mapping from "train", "dev", "test" to pathlib.Path
    hparams : dict
        What the recipe's YAML file defines, with the keys `HYBRID_KEYS`.
    run_opts : speechbrain.RunOptions or dict
        Command line options.

    Raises
    ------
    ValueError
        If the lexicon lacks words of the training transcripts, or a setting cannot be.
    """

    def __init__(self, manifests: Mapping[str, Path], hparams: dict[str, Any], run_opts: Any = None) -> None:
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise RecipeError("hybrid recipes train in one process; start them without torchrun.")
        self.manifests, self.hparams, self.run_opts = manifests, hparams, run_opts
        self.iterations = read_iterations(hparams["iterations"])
        self.output_folder, self.save_folder = Path(hparams["output_folder"]), Path(hparams["save_folder"])
        # Manifests have words in upper case.
        self.lexicon = read_lexicon(hparams["lexicon"], upper=True)
        self.read = AudioReader(hparams["sample_rate"], hparams["cache_audio"])
        texts = [row["wrd"] for row in build_audio_dataset(manifests["train"], self.read).data.values()]
        self.lexicon.check(texts, str(manifests["train"]))
        self.counts = Counter(word for text in texts for word in text.split())
        self.table = Table(self.output_folder / "iterations.csv")

    def train(self) -> HybridSystem:
        """All iterations; of those that are done already, nothing but their weights is loaded."""
        brain: HybridBrain | None = None
        model: Any = None
        tying = monophones(self.lexicon.phones, self.hparams["states_per_phone"], self.hparams["silence_states"])
        before: dict[str, Integers] = {}
        total, done = sum(each.epochs for each in self.iterations), 0
        for number, iteration in enumerate(self.iterations, start=1):
            folder = self.save_folder / "iterations" / str(number)
            if not (folder / "alignments.npz").is_file():
                self.align(number, brain, tying, before)
            last, tying = tying, read_tying(folder / "tying.npz")
            states = read_alignments(folder / "alignments.npz")
            datasets = self.datasets(tying, states)
            coarse = model
            if model is None or tying.size != last.size:
                graph = self._graph(tying)
                model = self.hparams["model"](output_neurons=tying.size)
            model.set_frequencies(_frequencies(tying, datasets, states), self.hparams["balance"])
            if coarse is not None and coarse is not model:
                model.refine(coarse, torch.from_numpy(tying.origin(last)))
            schedule = PartOfSchedule(self.hparams["lr_annealing"], done / total, (done + iteration.epochs) / total)
            hparams = self._settings(number, iteration, schedule)
            denominator = Denominator(graph, tying.size) if iteration.mmi else None
            brain = HybridBrain(model, make_decoder(graph, hparams), hparams, self.run_opts, denominator)
            brain.fit_datasets(datasets, hparams)
            if not brain.test_only and not self.table.is_trained(number):
                epochs = brain.history.rows
                seconds = sum(epoch["seconds"] for epoch in epochs)
                accuracies = brain.train_accuracy, brain.dev_accuracy
                self.table.trained(iteration.epochs, *accuracies, epochs[-1]["dev_wer"], seconds)
            before, done = states, done + iteration.epochs
        assert brain is not None
        return HybridSystem(brain, self.lexicon, tying, graph, datasets)

    # Alignment

    def align(self, number: int, brain: HybridBrain | None, tying: Tying, before: Mapping[str, Integers]) -> None:
        """Write what an iteration trains on.

        Arguments
        ---------
        number : int
            Of the iteration, from 1.
        brain : HybridBrain, optional
            Of the one before; the first is aligned by a linear layer.
        tying : Tying
            Of the one before, or without context.
        before : mapping from ID to array
            The alignments of the one before.

        Raises
        ------
        ValueError
            If most utterances cannot be aligned, or states cannot be tied as the recipe wants it.
        """
        start = time.monotonic()
        grow = self.iterations[number - 1].tied and (number == 1 or not self.iterations[number - 2].tied)
        brain = brain or self._linear_brain(tying)
        statistics = ContextStatistics(tying, brain.model.encoder.output_size) if grow else None
        aligned, failed = self._align_by_network(brain, tying, statistics)
        folder = self.save_folder / "iterations" / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        self._report_failed(number, failed, len(aligned) + len(failed), folder)
        states = {name: each.states for name, each in aligned.items()}
        if statistics is not None:
            tying = grow_tying(statistics, self.hparams["tied_states"], self.hparams["min_frames"])
        tying.write(folder / "tying.npz")
        write_alignments(folder / "alignments.npz", states)
        score = sum(each.score * len(each.states) for each in aligned.values()) / sum(map(len, states.values()))
        changed = change(tying, before, states) if before else math.nan
        seconds = time.monotonic() - start
        self.table.aligned(
            Row(number, tying.size, len(failed), changed, score, 0, math.nan, math.nan, math.nan, seconds)
        )

    def _linear_brain(self, tying: Tying) -> HybridBrain:
        """One that aligns by single frames, estimated on a part of the training data."""
        features, stride = self.hparams["compute_features"].output_size, self.hparams["encoder"].time_stride
        model = linear_model(tying, features, stride)
        schedule = PartOfSchedule(self.hparams["lr_annealing"], 0.0, 0.0)
        # Statistics of a normalization over all utterances are not known yet.
        modules = {**self.hparams["modules"], "normalize": SentenceNormalization()}
        hparams = {**self._settings(1, self.iterations[0], schedule), "modules": modules, "sparsity": None}
        brain = HybridBrain(model, None, hparams, self.run_opts)
        train = build_audio_dataset(self.manifests["train"], self.read)
        _add_no_targets(train)
        chosen = _some_seconds(train.data, SECONDS, self.hparams["seed"])
        train = train.filtered_sorted(key_test={"id": chosen.__contains__}, sort_key="duration")
        outputs = brain.outputs(train, self.hparams["valid_dataloader_opts"])
        vectors, words = {}, {}
        for output in outputs:
            if isinstance(output, Output):
                vectors[output.id], words[output.id] = output.vectors, output.words.split()
        fit(model, self.lexicon, tying, words, vectors)
        return brain

    def _align_by_network(
        self, brain: HybridBrain, tying: Tying, statistics: ContextStatistics | None
    ) -> tuple[dict[str, Alignment], Failed]:
        """The utterances of train and dev, and why some are not among them; adds train's frames to the statistics."""
        aligner = Aligner(self.lexicon, tying)
        aligned, failed = {}, {}
        for name in ("train", "dev"):
            dataset = build_audio_dataset(self.manifests[name], self.read)
            _add_no_targets(dataset)
            dataset = dataset.filtered_sorted(sort_key="duration")
            for output in brain.outputs(dataset, self.hparams["valid_dataloader_opts"]):
                if not isinstance(output, Output):
                    failed[output.id] = output.reason
                    continue
                try:
                    alignment = aligner.align(self._known(output.words), output.log_likelihoods)
                except AlignmentError as error:
                    failed[output.id] = str(error)
                    continue
                aligned[output.id] = alignment
                if statistics is not None and name == "train":
                    statistics.add(alignment.states, output.vectors)
        return aligned, failed

    def _known(self, text: str) -> list[str]:
        """Words of a transcript, all of which have a pronunciation."""
        words = text.split()
        for word in words:
            if word not in self.lexicon.pronunciations:
                raise AlignmentError(f"the lexicon lacks {word}")
        return words

    def _frames(self, num_samples: int) -> int:
        """Frames that come out of the encoder."""
        return output_length(
            self.hparams["compute_features"].output_lengths(num_samples), self.hparams["encoder"].time_stride
        )

    def _report_failed(self, number: int, failed: Failed, total: int, folder: Path) -> None:
        if not failed:
            return
        path = folder / "failed_alignments.csv"
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([("ID", "problem"), *sorted(failed.items())])
        write_atomically(path, text.getvalue())
        reasons = some([f"{name} ({reason.rstrip('.')})" for name, reason in sorted(failed.items())])
        message = f"iteration {number}: {len(failed)} of {total} utterances could not be aligned: {reasons}"
        if len(failed) > MAX_FAILED * total:
            raise ValueError(f"{message}; see to the lexicon, or set fewer states_per_phone.")
        logger.warning(f"{message}; they are not learned from, and {path} lists them.")

    # Parts of an iteration

    def datasets(self, tying: Tying, states: Mapping[str, Integers]) -> Datasets:
        """The three sets, with the tied states of their frames as targets; what is not aligned is not in train."""
        train = build_audio_dataset(self.manifests["train"], self.read, self.hparams["wav_augment"])
        self._add_targets(train, tying, states)
        dev = build_audio_dataset(self.manifests["dev"], self.read)
        self._add_targets(dev, tying, states)
        test = build_audio_dataset(self.manifests["test"], self.read)
        _add_no_targets(test)
        return Datasets(
            train.filtered_sorted(key_test={"id": states.__contains__}),
            dev.filtered_sorted(sort_key="duration"),
            test.filtered_sorted(sort_key="duration"),
        )

    def _add_targets(self, dataset: Any, tying: Tying, states: Mapping[str, Integers]) -> None:
        def target(name: str, num_samples: int) -> tuple[torch.Tensor, int]:
            if name not in states:
                return NOTHING, 0
            outputs = stretched(tying.outputs[states[name]], self._frames(num_samples))
            return torch.from_numpy(outputs).long(), len(outputs)

        dataset.add_dynamic_item(target, takes=["id", "num_samples"], provides=["tokens", "num_tokens"])
        dataset.set_output_keys(OUTPUT_KEYS)

    def _graph(self, tying: Tying) -> Graph:
        start = time.monotonic()
        graph = build_graph(self.lexicon, tying, self.hparams["language_model"], self.counts)
        seconds = time.monotonic() - start
        logger.info(f"HCLG: {graph.num_states} states, {graph.num_arcs} arcs, built in {seconds:.1f} s")
        return graph

    def _settings(self, number: int, iteration: Iteration, schedule: PartOfSchedule) -> dict[str, Any]:
        """The recipe's settings as one iteration has them."""
        folder = self.output_folder / "iterations" / str(number)
        save = self.save_folder / "iterations" / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        return {
            **self.hparams,
            # Not the augmentation of the iteration before.
            "seed": self.hparams["seed"] + 1000 * number,
            "output_folder": folder,
            "save_folder": save,
            "number_of_epochs": iteration.epochs,
            "epoch_counter": EpochCounter(limit=iteration.epochs),
            "lr_annealing": schedule,
            "checkpointer": Checkpointer(save / "checkpoints"),
            "train_logger": FileTrainLogger(save_file=str(folder / "train_log.txt")),
            "tensorboard_logger": TensorboardLogger(save_dir=str(folder / "tensorboard")),
        }


def _some_seconds(rows: Mapping[str, Mapping[str, Any]], seconds: float, seed: int) -> set[str]:
    """IDs of utterances, drawn at random, that last so long together; all if they are shorter.

    Example
    -------
    >>> rows = {"a": {"duration": 2.0}, "b": {"duration": 2.0}, "c": {"duration": 2.0}}
    >>> len(_some_seconds(rows, 4.0, seed=1)), len(_some_seconds(rows, 9.0, seed=1))
    (2, 3)
    """
    chosen: set[str] = set()
    for name in np.random.default_rng(seed).permutation(sorted(rows)).tolist():
        if seconds <= 0:
            break
        chosen.add(name)
        seconds -= rows[name]["duration"]
    return chosen


def _frequencies(tying: Tying, datasets: Datasets, states: Mapping[str, Integers]) -> torch.Tensor:
    """(V,) training frames of each tied state."""
    counts = np.zeros(tying.size, np.int64)
    for name in datasets.train.data_ids:
        counts += np.bincount(tying.outputs[states[name]], minlength=tying.size)
    return torch.from_numpy(counts)


def _add_no_targets(dataset: Any) -> None:
    dataset.add_dynamic_item(lambda name: (NOTHING, 0), takes=["id"], provides=["tokens", "num_tokens"])
    dataset.set_output_keys(OUTPUT_KEYS)
