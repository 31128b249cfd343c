"""A hybrid system from transcripts alone: align, train, align again.

The first iteration trains on the alignments of a linear layer, which starts from states spread evenly over each
utterance: see :mod:`biglittle_asr.tasks.hybrid.linear_start`. Every later iteration aligns all utterances with the
current network and continues training. The first one with `tied: True` grows the trees that tie states in context, from
statistics gathered while the previous network aligns. Its output layer is initialized from that network's outputs for
states without context.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from speechbrain.utils.epoch_loop import EpochCounter
from speechbrain.utils.logger import get_logger

from biglittle_asr.decoding.hmm import (
    Aligner,
    Alignment,
    AlignmentError,
    ContextStatistics,
    Lexicon,
    Tying,
    grow_tying,
    monophones,
    read_lexicon,
)
from biglittle_asr.decoding.hmm.graph import Graph, build_graph
from biglittle_asr.decoding.hmm.tying import Integers
from biglittle_asr.decoding.lm.arpa import write_arpa
from biglittle_asr.decoding.lm.ngram import train_ngrams
from biglittle_asr.features import SentenceNormalization
from biglittle_asr.recipe.yaml import RecipeError
from biglittle_asr.tasks.engine.checkpoints import Checkpointer
from biglittle_asr.tasks.hybrid.brain import FrameOutput, HybridBrain
from biglittle_asr.tasks.hybrid.iterations import Row, change, write_alignments
from biglittle_asr.tasks.hybrid.linear_start import SECONDS, fit, linear_model
from biglittle_asr.tasks.hybrid.training import Failed, HybridTraining, add_no_targets
from biglittle_asr.tasks.speech.data import build_audio_dataset

logger = get_logger(__name__)


class FlatStart(HybridTraining):
    """Trains a hybrid system from transcripts; see :class:`HybridTraining`.

    Raises
    ------
    ValueError
        If the lexicon lacks words of the training transcripts, or a setting is invalid.
    FileNotFoundError
        If there is no lexicon.
    """

    lexicon: Lexicon

    def __init__(self, manifests: Mapping[str, Path], hparams: dict[str, Any], run_opts: Any = None) -> None:
        super().__init__(manifests, hparams, run_opts)
        self.lexicon = self._read_lexicon()
        texts = [row["wrd"] for row in build_audio_dataset(manifests["train"], self.read).data.values()]
        self.lexicon.check(texts, str(manifests["train"]))
        self.counts = Counter(word for text in texts for word in text.split())
        self.language_model = self._find_language_model(texts)

    def _read_lexicon(self) -> Lexicon:
        """Read the recipe's lexicon, with words in upper case, as in the manifests."""
        path = Path(self.hparams["lexicon"])
        if path.parent == self.manifests["train"].parent and not path.is_file():
            raise FileNotFoundError(
                f"{path}: no such file, because the corpus at {self.hparams['data_folder']} has no lexicon to prepare; "
                "complete it there, or give another lexicon: --lexicon FILE."
            )
        return read_lexicon(path, upper=True)

    def _find_language_model(self, texts: Sequence[str]) -> Path:
        """The ARPA file that the recipe names, or one trained on the training transcripts."""
        wanted = self.hparams["language_model"]
        if isinstance(wanted, str):
            return Path(wanted)
        order = wanted.get("order") if isinstance(wanted, Mapping) and len(wanted) == 1 else None
        if type(order) is not int or order < 1:
            raise RecipeError(
                f"language_model: is {wanted}, but must be an ARPA file, or {{order: 3}}, which trains one of such "
                "n-grams on the training transcripts."
            )
        # The same transcripts give the same file, so a resumed run simply writes it again.
        path = self.save_folder / "language_model.arpa"
        model = train_ngrams((text.split() for text in texts), order)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_arpa(path, model.orders)
        logger.info(f"{path}: trained on the {len(texts)} training transcripts, {model}")
        for remark in model.remarks(order):
            logger.warning(f"{path}: {remark}")
        return path

    def first_tying(self) -> Tying:
        """Tying in which a state is the same in every context."""
        return monophones(self.lexicon.phones, self.hparams["states_per_phone"], self.hparams["silence_states"])

    def graph(self, tying: Tying) -> Graph:
        """HCLG."""
        start = time.monotonic()
        graph = build_graph(self.lexicon, tying, self.language_model, self.counts)
        seconds = time.monotonic() - start
        logger.info(f"HCLG: {graph.num_states} states, {graph.num_arcs} arcs, built in {seconds:.1f} s")
        return graph

    def align(self, number: int, brain: HybridBrain | None, tying: Tying, before: Mapping[str, Integers]) -> None:
        """See :class:`HybridTraining`; a linear layer makes the first alignments.

        Raises
        ------
        ValueError
            If most utterances cannot be aligned, or states cannot be tied as the recipe demands.
        """
        start = time.monotonic()
        grow = self.iterations[number - 1].tied and (number == 1 or not self.iterations[number - 2].tied)
        brain = brain or self._linear_brain(tying)
        statistics = ContextStatistics(tying, brain.model.encoder.output_size) if grow else None
        aligned, failed = self._align_by_network(brain, tying, statistics)
        folder = self.save_folder / "iterations" / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        advice = "see to the lexicon, or set fewer states_per_phone"
        self.report_failed(number, failed, len(aligned) + len(failed), folder, advice)
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
        """A Brain that aligns by single frames, estimated on part of the training data."""
        features, stride = self.hparams["compute_features"].output_size, self.hparams["encoder"].time_stride
        model = linear_model(tying, features, stride)
        # The statistics of a normalization over all utterances are not known yet.
        modules = {**self.hparams["modules"], "normalize": SentenceNormalization()}
        checkpointer = Checkpointer(self.save_folder / "iterations" / "1" / "checkpoints")
        own = {"sparsity": None, "checkpointer": checkpointer, "epoch_counter": EpochCounter(limit=1)}
        brain = HybridBrain(model, None, {**self.hparams, **own, "modules": modules}, self.run_opts)
        train = build_audio_dataset(self.manifests["train"], self.read)
        add_no_targets(train)
        chosen = _some_seconds(train.data, SECONDS, self.hparams["seed"])
        train = train.filtered_sorted(key_test={"id": chosen.__contains__}, sort_key="duration")
        outputs = brain.outputs(train, self.hparams["valid_dataloader_opts"])
        vectors, words = {}, {}
        for output in outputs:
            if isinstance(output, FrameOutput):
                vectors[output.id], words[output.id] = output.vectors, output.words.split()
        fit(model, self.lexicon, tying, words, vectors)
        return brain

    def _align_by_network(
        self, brain: HybridBrain, tying: Tying, statistics: ContextStatistics | None
    ) -> tuple[dict[str, Alignment], Failed]:
        """Align train and dev, and give the reasons for failures; adds the training frames to the statistics."""
        aligner = Aligner(self.lexicon, tying)
        aligned, failed = {}, {}
        for name in ("train", "dev"):
            dataset = build_audio_dataset(self.manifests[name], self.read)
            add_no_targets(dataset)
            dataset = dataset.filtered_sorted(sort_key="duration")
            for output in brain.outputs(dataset, self.hparams["valid_dataloader_opts"]):
                if not isinstance(output, FrameOutput):
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
        """Words of a transcript, all of which must have a pronunciation."""
        words = text.split()
        for word in words:
            if word not in self.lexicon.pronunciations:
                raise AlignmentError(f"the lexicon lacks {word}")
        return words


def _some_seconds(rows: Mapping[str, Mapping[str, Any]], seconds: float, seed: int) -> set[str]:
    """Draw utterances at random with this total duration, and return their IDs; all if they are shorter.

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
