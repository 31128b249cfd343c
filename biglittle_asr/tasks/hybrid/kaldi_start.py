"""A hybrid system on the alignments of a system that Kaldi trained, decoded with that system's graph.

The network's outputs are Kaldi's pdfs, which :mod:`biglittle_asr.decoding.hmm.kaldi` looks up from transition-ids.
Kaldi's frames are mapped to the network's frames by proportion, so Kaldi's frame shift, and the frames that it drops at
both ends of an utterance, need not match ours.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from biglittle_asr.decoding.hmm import Tying
from biglittle_asr.decoding.hmm.graph import Graph
from biglittle_asr.decoding.hmm.kaldi import read_alignments, read_graph, read_transitions
from biglittle_asr.decoding.hmm.tying import Integers
from biglittle_asr.recipe.yaml import RecipeError
from biglittle_asr.tasks.hybrid.brain import HybridBrain
from biglittle_asr.tasks.hybrid.iterations import Iteration, Row, write_alignments
from biglittle_asr.tasks.hybrid.training import HybridTraining
from biglittle_asr.tasks.speech.data import build_audio_dataset

KEYS = ("alignments", "transitions", "graph", "words")
"""Keys of a recipe's `kaldi`."""


class KaldiStart(HybridTraining):
    """Trains on Kaldi's alignments; see :class:`HybridTraining`.

    The recipe's `kaldi` has `alignments`, a Kaldi specifier or a list of them ("ark:ali.1"), and the files
    `transitions` (the output of show-transitions), `graph` (HCLG.fst) and `words` (words.txt). Utterance IDs must be
    those of the manifests.

    Raises
    ------
    RecipeError
        If it has other keys, or the number of iterations is not one, or that iteration is not trained by cross-entropy.
    FileNotFoundError, ValueError
        If a file is missing or malformed.
    """

    def __init__(self, manifests: Mapping[str, Path], hparams: dict[str, Any], run_opts: Any = None) -> None:
        super().__init__(manifests, hparams, run_opts)
        self.files = hparams["kaldi"]
        if not isinstance(self.files, Mapping) or sorted(self.files) != sorted(KEYS):
            raise RecipeError(f"kaldi: is {self.files}, but must have {', '.join(KEYS)}, as docs/hybrid.md says.")
        if self.iterations != [Iteration(self.iterations[0].epochs)]:
            raise RecipeError("iterations: of Kaldi's alignments there is one, without tied and mmi: [{epochs: 30}].")
        self.transitions = read_transitions(self.files["transitions"])

    def first_tying(self) -> Tying:
        """Tying in which each output stands for itself alone."""
        size = int(self.transitions.max()) + 1
        return Tying(("pdf",), np.arange(size, dtype=np.int32).reshape(1, size, 1, 1))

    def graph(self, tying: Tying) -> Graph:
        """Kaldi's decoding graph."""
        return read_graph(self.files["graph"], self.files["words"], self.transitions)

    def align(self, number: int, brain: HybridBrain | None, tying: Tying, before: Mapping[str, Integers]) -> None:
        """See :class:`HybridTraining`; utterances without Kaldi's alignment count as failed, except in dev."""
        start = time.monotonic()
        wanted = {name: set(build_audio_dataset(self.manifests[name], self.read).data) for name in ("train", "dev")}
        specifiers = self.files["alignments"]
        states = {
            name: outputs
            for specifier in ([specifiers] if isinstance(specifiers, str) else specifiers)
            for name, outputs in read_alignments(specifier, self.transitions)
            if len(outputs) and (name in wanted["train"] or name in wanted["dev"])
        }
        failed = {name: "Kaldi has not aligned it" for name in wanted["train"] if name not in states}
        folder = self.save_folder / "iterations" / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        advice = f"alignments and {self.manifests['train']} must name utterances alike"
        self.report_failed(number, failed, len(wanted["train"]), folder, advice)
        tying.write(folder / "tying.npz")
        write_alignments(folder / "alignments.npz", states)
        seconds = time.monotonic() - start
        unknown = math.nan
        self.table.aligned(
            Row(number, tying.size, len(failed), unknown, unknown, 0, unknown, unknown, unknown, seconds)
        )
