"""A trained hybrid system: its recognizer and its scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechbrain.utils.logger import get_logger

from biglittle_asr.decoding.hmm import Lexicon, Tying
from biglittle_asr.decoding.hmm.decoder import HybridSettings, PathSearch, SearchGraph
from biglittle_asr.decoding.hmm.graph import Graph
from biglittle_asr.decoding.hmm.search import GraphDecoder
from biglittle_asr.inference import Recognizer
from biglittle_asr.nnet.sparse import freeze
from biglittle_asr.scoring import NistScore, Score, score_texts
from biglittle_asr.tasks.hybrid.brain import FrameOutput, HybridBrain
from biglittle_asr.tasks.speech.data import Datasets
from biglittle_asr.tasks.speech.evaluation import evaluate_recipe
from biglittle_asr.tokens.tokenizer import WordTokenizer

logger = get_logger(__name__)


@dataclass
class HybridSystem:
    """The result of a training."""

    brain: HybridBrain
    lexicon: Lexicon | None
    """None if the graph is Kaldi's."""
    tying: Tying
    graph: Graph
    datasets: Datasets
    manifests: Mapping[str, Path]

    def evaluate(self, hparams: Mapping[str, Any]) -> dict[str, Score | NistScore]:
        """Choose checkpoints and the language model's weight on dev, then score as :func:`evaluate_recipe` does.

        Arguments
        ---------
        hparams : mapping
            The values that the recipe's YAML file defines.
        """
        self.brain.choose_average(self.datasets.dev, hparams)
        settings = HybridSettings(self._tune(hparams), **hparams["search_options"])
        if not hparams["skip_test"]:
            # For dev, this is logged before the training.
            report_unknown_words("test", self.datasets, self.graph)
        return evaluate_recipe(self.brain, self.recognizer(settings), self.datasets, self.manifests, hparams)

    def recognizer(self, settings: HybridSettings) -> Recognizer:
        """Make a recognizer with a copy of the current weights; sparse ones are frozen."""
        front_end = self.brain.modules.compute_features, self.brain.modules.normalize
        model = freeze(deepcopy(self.brain.model))
        if self.lexicon is None:
            search = PathSearch(model, GraphDecoder(self.graph, **vars(settings)))
            return Recognizer(*front_end, model, search.words, settings, search)
        model.search_graph = SearchGraph.of(self.graph, self.tying)
        return Recognizer(*front_end, model, WordTokenizer(self.lexicon), settings)

    def _tune(self, hparams: Mapping[str, Any]) -> float:
        """The language model weight with the fewest errors on dev; among equals, the middle one."""
        decoders = {weight: make_decoder(self.graph, hparams, weight) for weight in sorted(hparams["lm_weights"])}
        references: dict[str, str] = {}
        hypotheses: dict[float, dict[str, str]] = {weight: {} for weight in decoders}
        for output in self.brain.outputs(self.datasets.dev, hparams["valid_dataloader_opts"]):
            references[output.id] = output.words
            for weight, decoder in decoders.items():
                words = decoder.decode(output.log_likelihoods).words if isinstance(output, FrameOutput) else ()
                hypotheses[weight][output.id] = " ".join(words)
        errors = {}
        for weight in decoders:
            counts = score_texts(references, hypotheses[weight], bootstrap=0).all
            errors[weight] = counts.errors
            logger.info(f"dev, language model weight {weight:g}: WER {counts.wer:.2f} % ({counts.errors} errors)")
        best = [weight for weight in decoders if errors[weight] == min(errors.values())]
        return best[len(best) // 2]


def report_unknown_words(name: str, datasets: Datasets, graph: Graph) -> None:
    """Log how many words of a set no system can recognize: those missing from training, or from the decoding graph.

    Arguments
    ---------
    name : str
        "dev" or "test".
    datasets : Datasets
    graph : Graph
    """
    texts, known = ([row["wrd"] for row in each.data.values()] for each in (getattr(datasets, name), datasets.train))
    trained, spoken = {word for text in known for word in text.split()}, graph.vocabulary()
    logger.info(
        f"{name}: {oov_rate(texts, trained)} are out of the training transcripts' vocabulary of {len(trained)} words, "
        f"{oov_rate(texts, spoken)} out of the decoding graph's of {len(spoken)}"
    )


def oov_rate(texts: Iterable[str], vocabulary: AbstractSet[str]) -> str:
    """Format the share of words in some texts that are out of vocabulary.

    Example
    -------
    >>> oov_rate(["A TEA", "A COFFEE"], {"A", "TEA"})
    '1 of 4 words (25.00 %)'
    """
    counts = Counter(word for text in texts for word in text.split())
    total = counts.total()
    unknown = total - sum(counts[word] for word in vocabulary)
    return f"{unknown} of {total} words ({100 * unknown / max(total, 1):.2f} %)"


def make_decoder(graph: Graph, hparams: Mapping[str, Any], lm_weight: float | None = None) -> GraphDecoder:
    """Make a decoder with the recipe's options; the default language model weight is the middle one of `lm_weights`.

    Arguments
    ---------
    graph : Graph
    hparams : mapping
        Reads lm_weights, search_options.
    lm_weight : float, optional
    """
    weights = sorted(hparams["lm_weights"])
    return GraphDecoder(graph, lm_weight or weights[len(weights) // 2], **hparams["search_options"])
