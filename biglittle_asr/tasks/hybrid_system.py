"""A hybrid system once it is trained: its scores, word times, and the files that it leaves."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from speechbrain.utils.logger import get_logger

from biglittle_asr.corpora.manifest import write_atomically
from biglittle_asr.decoding.hmm import Aligner, AlignmentError
from biglittle_asr.decoding.hmm.graph import Graph
from biglittle_asr.decoding.hmm.search import GraphDecoder
from biglittle_asr.scoring import Score, score_texts
from biglittle_asr.tasks.data import Datasets
from biglittle_asr.tasks.hybrid import HybridBrain, Output, Timing

logger = get_logger(__name__)


@dataclass
class HybridSystem:
    """What a training ends in."""

    brain: HybridBrain
    aligner: Aligner
    graph: Graph
    datasets: Datasets

    def evaluate(self, hparams: Mapping[str, Any]) -> dict[str, Score]:
        """Choose checkpoints and the language model's weight on dev, then score dev and, unless `skip_test`, test once.

        Writes wer_dev.txt and wer_test.txt, dev.ctm and test.ctm (word times), and the folder `model`: weights, tied
        states and graph.

        Arguments
        ---------
        hparams : mapping
            What the recipe's YAML file defines.
        """
        output_folder = Path(hparams["output_folder"])
        self.brain.choose_average(self.datasets.dev, hparams)
        lm_weight = self._tune(hparams)
        self.brain.decoder = make_decoder(self.graph, hparams, lm_weight)
        scores = {"dev": self._transcribe("dev", hparams["valid_dataloader_opts"], output_folder)}
        if not hparams["skip_test"]:
            scores["test"] = self._transcribe("test", hparams["test_dataloader_opts"], output_folder)
        self._write(output_folder / "model", lm_weight)
        self.brain.show_profile()
        return scores

    def _tune(self, hparams: Mapping[str, Any]) -> float:
        """The weight of the language model with the fewest errors on dev; of equals, the one in their middle."""
        decoders = {weight: make_decoder(self.graph, hparams, weight) for weight in sorted(hparams["lm_weights"])}
        references: dict[str, str] = {}
        hypotheses: dict[float, dict[str, str]] = {weight: {} for weight in decoders}
        for output in self.brain.outputs(self.datasets.dev, hparams["valid_dataloader_opts"]):
            references[output.id] = output.words
            for weight, decoder in decoders.items():
                words = decoder.decode(output.log_likelihoods).words if isinstance(output, Output) else ()
                hypotheses[weight][output.id] = " ".join(words)
        errors = {}
        for weight in decoders:
            counts = score_texts(references, hypotheses[weight], bootstrap=0).all
            errors[weight] = counts.errors
            logger.info(f"dev, language model weight {weight:g}: WER {counts.wer:.2f} % ({counts.errors} errors)")
        best = [weight for weight in decoders if errors[weight] == min(errors.values())]
        return best[len(best) // 2]

    def _transcribe(self, name: str, loader_options: Mapping[str, Any], output_folder: Path) -> Score:
        timing, failed = Timing(), []
        references, hypotheses, speakers = {}, {}, {}
        ctm: list[str] = []
        for output in self.brain.outputs(getattr(self.datasets, name), loader_options, timing):
            references[output.id], speakers[output.id] = output.words, output.speaker
            if not isinstance(output, Output):
                failed.append((output.id, output.reason))
                hypotheses[output.id] = ""
                continue
            start = time.perf_counter()
            words = self.brain.decoder.decode(output.log_likelihoods).words
            timing.search += time.perf_counter() - start
            timing.audio += output.seconds
            hypotheses[output.id] = " ".join(words)
            ctm += self._word_times(output, words)
        self.brain.report_failures(name, None, failed)
        score = score_texts(references, hypotheses, speakers)
        score.write(output_folder / f"wer_{name}.txt")
        write_atomically(output_folder / f"{name}.ctm", "".join(ctm))
        logger.info(f"{name}: {timing}")
        logger.info(f"{name}: {score.summary()}")
        return score

    def _word_times(self, output: Output, words: Sequence[str]) -> Iterator[str]:
        """Lines of CTM: what was found, aligned. A word's confidence is the geometric mean posterior of its states."""
        features = self.brain.modules.compute_features
        frame = features.hop_samples * self.brain.model.encoder.time_stride / features.sample_rate
        try:
            alignment = self.aligner.align(words, output.log_likelihoods)
        except AlignmentError:
            # A path that did not come to its end may have more words than there are frames for.
            return
        outputs = self.aligner.tying.outputs[alignment.states]
        log_probs = output.log_probs[np.arange(len(outputs)), outputs]
        for each in alignment.segments:
            confidence = min(1.0, float(np.exp(log_probs[each.start : each.end].mean())))
            start, duration = each.start * frame, (each.end - each.start) * frame
            yield f"{output.id} 1 {start:.3f} {duration:.3f} {each.word} {confidence:.4f}\n"

    def _write(self, folder: Path, lm_weight: float) -> None:
        folder.mkdir(exist_ok=True)
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.brain.model.state_dict().items()}
        facts = {"lm_weight": str(lm_weight), "weights": self.brain.weights}
        safetensors.torch.save_file(state, folder / "model.safetensors", facts)
        self.aligner.tying.write(folder / "tying.npz")
        self.graph.write(folder)


def make_decoder(graph: Graph, hparams: Mapping[str, Any], lm_weight: float | None = None) -> GraphDecoder:
    """A decoder as the recipe wants it; without a weight for the language model, with the middle one of those tried.

    Arguments
    ---------
    graph : Graph
    hparams : mapping
        Reads lm_weights, search_options.
    lm_weight : float, optional
    """
    weights = sorted(hparams["lm_weights"])
    return GraphDecoder(graph, lm_weight or weights[len(weights) // 2], **hparams["search_options"])
