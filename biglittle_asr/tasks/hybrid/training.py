"""Training of hybrid systems, for any source of alignments.

    <save_folder>/iterations/1/     alignments.npz and tying.npz: the training targets of the iteration
    <output_folder>/iterations/1/   its curves and logs
    <output_folder>/iterations.csv  one row per iteration

An interrupted training continues inside the iteration that it had reached.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from speechbrain.utils.epoch_loop import EpochCounter
from speechbrain.utils.logger import get_logger
from speechbrain.utils.train_logger import FileTrainLogger, TensorboardLogger

from biglittle_asr.decoding.hmm import Lexicon, Tying, read_tying
from biglittle_asr.decoding.hmm.graph import Graph
from biglittle_asr.decoding.hmm.tying import Integers
from biglittle_asr.files import write_table
from biglittle_asr.messages import some
from biglittle_asr.nnet.lengths import output_length
from biglittle_asr.recipe.yaml import RecipeError
from biglittle_asr.tasks.engine.checkpoints import Checkpointer
from biglittle_asr.tasks.hybrid.brain import HybridBrain, stretched
from biglittle_asr.tasks.hybrid.iterations import Iteration, PartOfSchedule, Table, read_alignments, read_iterations
from biglittle_asr.tasks.hybrid.mmi import Denominator
from biglittle_asr.tasks.hybrid.system import HybridSystem, make_decoder, report_unknown_words
from biglittle_asr.tasks.speech.data import OUTPUT_KEYS, AudioReader, Datasets, build_audio_dataset
from biglittle_asr.tasks.speech.init_from import find_start

logger = get_logger(__name__)

MAX_FAILED = 0.5
"""Largest part of the utterances whose alignment may fail: if most fail, the lexicon or the number of states is
wrong."""

NOTHING = torch.zeros(1, dtype=torch.long)
"""Targets of an utterance without alignment; SpeechBrain cannot pad empty tensors."""

Failed = dict[str, str]
"""Reason for each utterance that could not be aligned, by ID."""


class HybridTraining(ABC):
    """Trains a hybrid system in iterations, each on its own alignments.

    Arguments
    ---------
    manifests : mapping from "train", "dev", "test" to pathlib.Path
    hparams : dict
        The settings of a :class:`~biglittle_asr.tasks.hybrid.settings.HybridRecipe`.
    run_opts : speechbrain.RunOptions or dict
        Command line options.

    Raises
    ------
    ValueError
        If a setting is invalid.
    """

    lexicon: Lexicon | None = None
    """Pronunciations; None if only the graph has them."""

    def __init__(self, manifests: Mapping[str, Path], hparams: dict[str, Any], run_opts: Any = None) -> None:
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise RecipeError("hybrid recipes train in one process; start them without torchrun.")
        self.manifests, self.hparams, self.run_opts = manifests, hparams, run_opts
        self.iterations = read_iterations(hparams["iterations"])
        self.output_folder, self.save_folder = Path(hparams["output_folder"]), Path(hparams["save_folder"])
        self.read = AudioReader(hparams["sample_rate"], hparams["cache_audio"])
        self.table = Table(self.output_folder / "iterations.csv")
        self.start = find_start(hparams, Checkpointer(self.save_folder / "iterations" / "1" / "checkpoints"))

    # The source of alignments and graph

    @abstractmethod
    def first_tying(self) -> Tying:
        """The tied states for the first iteration."""

    @abstractmethod
    def align(self, number: int, brain: HybridBrain | None, tying: Tying, before: Mapping[str, Integers]) -> None:
        """Write an iteration's targets, tying.npz and alignments.npz, and begin its row of the table.

        Arguments
        ---------
        number : int
            Number of the iteration, from 1.
        brain : HybridBrain, optional
            Brain of the previous iteration.
        tying : Tying
            Tying of the previous iteration, or the first one.
        before : mapping from ID to array
            Alignments of the previous iteration.

        Raises
        ------
        ValueError
            If most utterances cannot be aligned.
        """

    @abstractmethod
    def graph(self, tying: Tying) -> Graph:
        """The decoding graph."""

    # Training

    def train(self) -> HybridSystem:
        """Run all iterations; for completed ones, only their weights are loaded.

        With the recipe's `init_from`, the first iteration starts with the encoder of a trained model.
        """
        brain: HybridBrain | None = None
        model: Any = None
        tying = self.first_tying()
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
                graph = self.graph(tying)
                if model is None:
                    report_unknown_words("dev", datasets, graph)
                model = self.hparams["model"](output_neurons=tying.size)
                if coarse is None and self.start is not None:
                    # Networks of later iterations have the same encoder.
                    self.start.load(model, self.hparams["modules"]["normalize"])
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
        return HybridSystem(brain, self.lexicon, tying, graph, datasets, self.manifests)

    # Parts of an iteration

    def datasets(self, tying: Tying, states: Mapping[str, Integers]) -> Datasets:
        """The three sets, with the tied states of frames as targets; train has aligned utterances only."""
        train = build_audio_dataset(self.manifests["train"], self.read, self.hparams["wav_augment"])
        self._add_targets(train, tying, states)
        dev = build_audio_dataset(self.manifests["dev"], self.read)
        self._add_targets(dev, tying, states)
        test = build_audio_dataset(self.manifests["test"], self.read)
        add_no_targets(test)
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

    def _frames(self, num_samples: int) -> int:
        """Number of the encoder's output frames."""
        return output_length(
            self.hparams["compute_features"].output_lengths(num_samples), self.hparams["encoder"].time_stride
        )

    def report_failed(self, number: int, failed: Failed, total: int, folder: Path, advice: str) -> None:
        """Write and log the utterances that could not be aligned; raises ValueError, with advice, if too many."""
        if not failed:
            return
        path = folder / "failed_alignments.csv"
        write_table(path, ("ID", "problem"), sorted(failed.items()))
        reasons = some([f"{name} ({reason.rstrip('.')})" for name, reason in sorted(failed.items())])
        message = f"iteration {number}: {len(failed)} of {total} utterances could not be aligned: {reasons}"
        if len(failed) > MAX_FAILED * total:
            raise ValueError(f"{message}; {advice}.")
        logger.warning(f"{message}; they are not learned from, and {path} lists them.")

    def _settings(self, number: int, iteration: Iteration, schedule: PartOfSchedule) -> dict[str, Any]:
        """The recipe's settings for one iteration."""
        folder = self.output_folder / "iterations" / str(number)
        save = self.save_folder / "iterations" / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        return {
            **self.hparams,
            # A fresh copy, not the augmentation of the previous iteration.
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


def _frequencies(tying: Tying, datasets: Datasets, states: Mapping[str, Integers]) -> torch.Tensor:
    """(V,) training frames of each tied state."""
    counts = np.zeros(tying.size, np.int64)
    for name in datasets.train.data_ids:
        counts += np.bincount(tying.outputs[states[name]], minlength=tying.size)
    return torch.from_numpy(counts)


def add_no_targets(dataset: Any) -> None:
    """Let a dataset be decoded or aligned without targets."""
    dataset.add_dynamic_item(lambda name: (NOTHING, 0), takes=["id"], provides=["tokens", "num_tokens"])
    dataset.set_output_keys(OUTPUT_KEYS)
