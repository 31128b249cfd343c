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

from biglittle_asr.decoding import Word
from biglittle_asr.decoding.hmm import Aligner, AlignmentError
from biglittle_asr.decoding.hmm.graph import Graph
from biglittle_asr.decoding.hmm.search import GraphDecoder
from biglittle_asr.inference.audio import Recording
from biglittle_asr.inference.evaluation import find_references, score_transcripts
from biglittle_asr.inference.formats import timed_words
from biglittle_asr.inference.transcription import Transcript
from biglittle_asr.scoring import Score, score_texts, write_ctm
from biglittle_asr.tasks.data import Datasets
from biglittle_asr.tasks.hybrid import HybridBrain, Output, Timing
from biglittle_asr.tasks.training import report_by_time

logger = get_logger(__name__)


@dataclass
class HybridSystem:
    """What a training ends in."""

    brain: HybridBrain
    aligner: Aligner
    graph: Graph
    datasets: Datasets

    def evaluate(self, hparams: Mapping[str, Any], test_manifest: Path | None = None) -> dict[str, Score]:
        """Choose checkpoints and the language model's weight on dev, then score dev and, unless `skip_test`, test once.

        Writes wer_dev.txt and wer_test.txt, dev.ctm and test.ctm (word times), the folder `model` (weights, tied states
        and graph), and, where NIST's references lie beside the manifest of test, hub5_test.txt.

        Arguments
        ---------
        hparams : mapping
            What the recipe's YAML file defines.
        test_manifest : pathlib.Path, optional
        """
        output_folder = Path(hparams["output_folder"])
        self.brain.choose_average(self.datasets.dev, hparams)
        lm_weight = self._tune(hparams)
        self.brain.decoder = make_decoder(self.graph, hparams, lm_weight)
        scores = {}
        for name, options in (("dev", "valid_dataloader_opts"), ("test", "test_dataloader_opts")):
            if name == "test" and hparams["skip_test"]:
                continue
            scores[name], transcripts = self._transcribe(name, hparams[options])
            scores[name].write(output_folder / f"wer_{name}.txt")
            words = sorted((word for each in transcripts for word in timed_words(each)), key=lambda word: word[:3])
            write_ctm(output_folder / f"{name}.ctm", words)
            references = find_references(test_manifest) if name == "test" and test_manifest else None
            if references is not None and test_manifest is not None:
                by_time, words = score_transcripts(transcripts, *references)
                report_by_time(by_time, words, test_manifest, references[0], output_folder)
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

    def _transcribe(self, name: str, loader_options: Mapping[str, Any]) -> tuple[Score, list[Transcript]]:
        timing, failed = Timing(), []
        references, hypotheses, speakers = {}, {}, {}
        transcripts: list[Transcript] = []
        dataset = getattr(self.datasets, name)
        for output in self.brain.outputs(dataset, loader_options, timing):
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
            row = dataset.data[output.id]
            recording = Recording.of_segment(output.id, row["wav"], row["segment"])
            transcripts.append(Transcript(recording, output.seconds, tuple(self._word_times(output, words))))
        self.brain.failures.report(name, None, failed)
        score = score_texts(references, hypotheses, speakers)
        logger.info(f"{name}: {timing}")
        logger.info(f"{name}: {score.summary()}")
        return score, transcripts

    def _word_times(self, output: Output, words: Sequence[str]) -> Iterator[Word]:
        """What was found, aligned. A word's confidence is the geometric mean posterior of its states."""
        features = self.brain.modules.compute_features
        frame = features.hop_samples * self.brain.model.time_stride / features.sample_rate
        try:
            alignment = self.aligner.align(words, output.log_likelihoods)
        except AlignmentError:
            # A path that did not come to its end may have more words than there are frames for.
            return
        outputs = self.aligner.tying.outputs[alignment.states]
        log_probs = output.log_probs[np.arange(len(outputs)), outputs]
        for each in alignment.segments:
            confidence = min(1.0, float(np.exp(log_probs[each.start : each.end].mean())))
            # Frames are centered on their times: the last one may reach behind the end.
            end = min(each.end * frame, output.seconds)
            yield Word(each.word, round(each.start * frame, 3), round(end, 3), confidence)

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
