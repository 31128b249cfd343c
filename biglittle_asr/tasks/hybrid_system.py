"""A hybrid system once it is trained: its scores, word times, and the files that it leaves."""

from __future__ import annotations

import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from speechbrain.utils.logger import get_logger

from biglittle_asr.decoding import BeamWords, Search
from biglittle_asr.decoding.hmm import Lexicon, Tying
from biglittle_asr.decoding.hmm.graph import Graph
from biglittle_asr.decoding.hmm.search import GraphDecoder
from biglittle_asr.decoding.hybrid import AlignedHybridSearch, HybridSettings, PathSearch, SearchGraph
from biglittle_asr.decoding.tokenizer import WordTokenizer
from biglittle_asr.inference.audio import Recording
from biglittle_asr.inference.evaluation import find_references, score_transcripts
from biglittle_asr.inference.formats import timed_words
from biglittle_asr.inference.packing import started_from
from biglittle_asr.inference.transcription import Transcript
from biglittle_asr.nnet.sparse import freeze
from biglittle_asr.scoring import Score, score_texts, write_ctm
from biglittle_asr.tasks.data import Datasets
from biglittle_asr.tasks.hybrid import HybridBrain, Output, Timing
from biglittle_asr.tasks.model_folder import write_model_folder
from biglittle_asr.tasks.training import report_by_time

logger = get_logger(__name__)


@dataclass
class HybridSystem:
    """What a training ends in."""

    brain: HybridBrain
    lexicon: Lexicon | None
    """None if the graph is Kaldi's."""
    tying: Tying
    graph: Graph
    datasets: Datasets

    def evaluate(self, hparams: Mapping[str, Any], test_manifest: Path | None = None) -> dict[str, Score]:
        """Choose checkpoints and the language model's weight on dev, then score dev and, unless `skip_test`, test once.

        Writes wer_dev.txt and wer_test.txt, dev.ctm and test.ctm (word times), the folder `model`, and, where NIST's
        references lie beside the manifest of test, hub5_test.txt.

        Arguments
        ---------
        hparams : mapping
            What the recipe's YAML file defines.
        test_manifest : pathlib.Path, optional
        """
        output_folder = Path(hparams["output_folder"])
        self.brain.choose_average(self.datasets.dev, hparams)
        settings = HybridSettings(self._tune(hparams), **hparams["search_options"])
        model = self.brain.model
        search: Search
        if self.lexicon is None:
            search = PathSearch(model, make_decoder(self.graph, hparams, settings.lm_weight))
        else:
            model.search_graph = SearchGraph.of(self.graph, self.tying)
            search = AlignedHybridSearch(model, WordTokenizer(self.lexicon), search=settings)
        scores = {}
        for name, options in (("dev", "valid_dataloader_opts"), ("test", "test_dataloader_opts")):
            if name == "test" and hparams["skip_test"]:
                continue
            scores[name], transcripts = self._transcribe(name, search, hparams[options])
            scores[name].write(output_folder / f"wer_{name}.txt")
            words = sorted((word for each in transcripts for word in timed_words(each)), key=lambda word: word[:3])
            write_ctm(output_folder / f"{name}.ctm", words)
            references = find_references(test_manifest) if name == "test" and test_manifest else None
            if references is not None and test_manifest is not None:
                by_time, words = score_transcripts(transcripts, *references)
                report_by_time(by_time, words, test_manifest, references[0], output_folder)
        if self.lexicon is None:
            logger.info("No model folder is written, for it would need the lexicon that Kaldi's graph was made of.")
        else:
            write_model_folder(
                output_folder / "model",
                (*self._front_end(), freeze(deepcopy(model)), WordTokenizer(self.lexicon), settings),
                self.datasets,
                scores,
                data_folder=str(hparams["data_folder"]),
                precision=self.brain.precision,
                weights=self.brain.weights,
                start=started_from(Path(hparams["save_folder"])),
            )
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

    def _front_end(self) -> tuple[Any, Any]:
        """What makes features of samples, and what normalizes them."""
        return self.brain.modules.compute_features, self.brain.modules.normalize

    def _transcribe(
        self, name: str, search: Search, loader_options: Mapping[str, Any]
    ) -> tuple[Score, list[Transcript]]:
        compute_features, _ = self._front_end()
        frame_seconds = (
            compute_features.hop_samples * self.brain.model.encoder.time_stride / compute_features.sample_rate
        )
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
            decoder = BeamWords(search, frame_seconds)
            words = tuple([*decoder.decode(torch.from_numpy(output.log_probs)), *decoder.finish(output.seconds)])
            timing.search += time.perf_counter() - start
            timing.audio += output.seconds
            hypotheses[output.id] = " ".join(word.text for word in words)
            row = dataset.data[output.id]
            recording = Recording.of_segment(output.id, row["wav"], row["segment"])
            transcripts.append(Transcript(recording, output.seconds, words))
        self.brain.failures.report(name, None, failed)
        score = score_texts(references, hypotheses, speakers)
        logger.info(f"{name}: {timing}")
        logger.info(f"{name}: {score.summary()}")
        return score, transcripts


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
