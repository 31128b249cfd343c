"""Search of hybrid models: the graph as tensors, which can be saved with the weights, and words with their times."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from biglittle_asr.decoding.aligned import AlignedSearch
from biglittle_asr.decoding.ctc.beam import IMPOSSIBLE, Hypothesis
from biglittle_asr.decoding.hmm import Aligner, AlignmentError, Lexicon, Tying
from biglittle_asr.decoding.hmm.alignment import SILENCE
from biglittle_asr.decoding.hmm.tying import NO_STATE, Reals
from biglittle_asr.decoding.settings import DecodingSettings
from biglittle_asr.tokens.tokenizer import Tokenizer, WordTokenizer
from biglittle_asr.tokens.words import Token

if TYPE_CHECKING:
    from biglittle_asr.decoding.hmm.graph import Graph
    from biglittle_asr.decoding.hmm.search import GraphDecoder


@dataclass(frozen=True)
class HybridSettings:
    """Settings of the search in a hybrid model's graph; see :class:`biglittle_asr.decoding.hmm.search.GraphDecoder`.

    Raises
    ------
    ValueError
        If a value is not above 0.
    """

    lm_weight: float = 10.0
    """Factor of the graph's costs relative to the frames' costs; tuned on the dev set."""
    beam: float = 14.0
    """Paths that cost this much more than the best are dropped, in units of the graph's costs."""
    lattice_beam: float = 8.0
    """The same limit for the lattice in which several texts are found."""
    max_active: int = 7000
    """Largest number of paths followed at once."""

    def __post_init__(self) -> None:
        """Check the values."""
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"{name} must be above 0, but is {value}")


class SearchGraph(nn.Module):
    r"""HCLG and tied states as tensors. They are saved with a hybrid model's weights, so that they always match.

    Arguments
    ---------
    words : int
        Number of output labels.
    phones, positions : int
        Shape of the table of tied states; see :class:`~biglittle_asr.decoding.hmm.Tying`.
    arcs, final_states : int
        Numbers of arcs and of final states of HCLG.

    Attributes
    ----------
    tying : Tensor
        (phones, positions, phones, phones) int32.
    arcs : Tensor
        (A, 4) int32: source, target, input label (an output of the network plus 1) and output label (a word from 1, or
        0 for no word) of each arc. The source of the first arc is the initial state.
    costs : Tensor
        (A,) float32 costs of the arcs.
    final_states, final_costs : Tensor
        (N,) int32 and float32: states in which a sentence may end, and their costs.

    Example
    -------
    >>> import kaldifst
    >>> from biglittle_asr.decoding.hmm import monophones
    >>> from biglittle_asr.decoding.hmm.graph import Graph
    >>> lexicon = Lexicon({"A": [("AH",)]})
    >>> tying = monophones(lexicon.phones, states=1, silence_states=1)
    >>> graph = Graph(kaldifst.compile("0 1 2 1 0.5\n1 1 2 0 0.0\n1 0.0\n"), ("", "A"))
    >>> stored = SearchGraph.of(graph, tying)
    >>> stored.arcs.tolist(), stored.costs.tolist(), stored.final_states.tolist()
    ([[0, 1, 2, 1], [1, 1, 2, 0]], [0.5, 0.0], [1])
    >>> restored, _ = stored.restore(lexicon, size=2)
    >>> restored.num_arcs, restored.words
    (2, ('', 'A'))
    """

    tying: Tensor
    arcs: Tensor
    costs: Tensor
    final_states: Tensor
    final_costs: Tensor

    def __init__(self, words: int, phones: int, positions: int, arcs: int, final_states: int) -> None:
        super().__init__()
        self.words = words
        self.register_buffer("tying", torch.zeros(phones, positions, phones, phones, dtype=torch.int32))
        self.register_buffer("arcs", torch.zeros(arcs, 4, dtype=torch.int32))
        self.register_buffer("costs", torch.zeros(arcs))
        self.register_buffer("final_states", torch.zeros(final_states, dtype=torch.int32))
        self.register_buffer("final_costs", torch.zeros(final_states))

    @property
    def sizes(self) -> dict[str, int]:
        """Constructor arguments other than `words`."""
        phones, positions = self.tying.shape[:2]
        return {
            "phones": phones,
            "positions": positions,
            "arcs": len(self.arcs),
            "final_states": len(self.final_states),
        }

    @classmethod
    def of(cls, graph: Graph, tying: Tying) -> SearchGraph:
        """Convert a graph and its tied states to tensors."""
        from biglittle_asr.decoding.hmm.graph import Arcs

        arcs = Arcs.of(graph.fst)
        phones, positions = tying.table.shape[:2]
        stored = cls(len(graph.words) - 1, phones, positions, len(arcs.sources), len(arcs.final))
        order = np.argsort(arcs.sources != arcs.start, kind="stable")
        columns = np.stack([arcs.sources, arcs.targets, arcs.inputs, arcs.outputs], 1)
        stored.tying.copy_(torch.from_numpy(tying.table))
        stored.arcs.copy_(torch.from_numpy(columns[order]))
        stored.costs.copy_(torch.from_numpy(arcs.costs[order]))
        stored.final_states.copy_(torch.tensor(list(arcs.final)))
        stored.final_costs.copy_(torch.tensor(list(arcs.final.values())))
        return stored

    def restore(self, lexicon: Lexicon, size: int) -> tuple[Graph, Tying]:
        """Rebuild the graph and its tied states, and check them, as the tensors may come from an untrusted file.

        Arguments
        ---------
        lexicon : Lexicon
            Its sorted words are the output labels.
        size : int
            Number of outputs of the network.

        Raises
        ------
        ValueError
            If the tensors are invalid or do not match the lexicon and the network, or kaldifst is missing.
        """
        from biglittle_asr.decoding.hmm.graph import Arcs, Graph

        table, columns = self.tying.cpu().numpy(), self.arcs.cpu().numpy()
        final = self.final_states.cpu().numpy()
        _check_tying(table, len(lexicon.phones), size)
        sources, targets, inputs, outputs = columns.T
        _check_states(sources, targets, final)
        for name, labels, largest in (("input", inputs, size), ("output", outputs, self.words)):
            if labels.min() < 0 or labels.max() > largest:
                raise ValueError(f"the graph has {name} labels that are not from 0 to {largest}")
        ends = dict(zip(final.tolist(), self.final_costs.tolist(), strict=True))
        arcs = Arcs(int(sources[0]), sources, targets, inputs, outputs, self.costs.cpu().double().numpy(), ends)
        arcs.silent_levels()
        words = ("", *sorted(lexicon.pronunciations))
        return Graph(arcs.compile(), words), Tying(lexicon.phones, table)


class AlignedHybridSearch(AlignedSearch):
    r"""Search in a hybrid model's graph, with word times from an alignment.

    Arguments
    ---------
    model : HybridModel
        A model with a search_graph.
    tokenizer : WordTokenizer
        A tokenizer with the lexicon of the graph.
    settings : DecodingSettings
        Its beam, if set, replaces `max_active` of `search`. Texts come from all paths within `lattice_beam`, so there
        may be more texts than the beam.
    search : HybridSettings

    Raises
    ------
    ValueError
        If the settings use features that such a graph does not have.

    Example
    -------
    >>> import kaldifst
    >>> from biglittle_asr.decoding.hmm import monophones
    >>> from biglittle_asr.decoding.hmm.graph import Graph
    >>> from biglittle_asr.models import HybridModel, create_encoder
    >>> lexicon = Lexicon({"A": [("AH",)]})
    >>> graph = Graph(kaldifst.compile("0 1 2 1 0.5\n0 0 1 0 0.1\n1 1 2 0 0.0\n1 0.0\n"), ("", "A"))
    >>> stored = SearchGraph.of(graph, monophones(lexicon.phones, states=1, silence_states=1))
    >>> model = HybridModel(create_encoder("bl_resnet22_half"), output_neurons=2, search_graph=stored)
    >>> search = AlignedHybridSearch(model, WordTokenizer(lexicon), search=HybridSettings(lm_weight=1.0))
    >>> (found,) = search(torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]]).log())
    >>> found.text, found.tokens[0].start, found.tokens[0].end
    ('A', 1, 3)
    """

    tail_seconds = 0.0

    def __init__(
        self,
        model: Any,
        tokenizer: WordTokenizer,
        settings: DecodingSettings = DecodingSettings(),  # noqa: B008 (frozen)
        search: HybridSettings = HybridSettings(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__(model, tokenizer, settings, max(search.max_active, settings.nbest))
        self.words = tokenizer
        self.search = search

    @cached_property
    def parts(self) -> tuple[GraphDecoder, Aligner]:
        """Decoder and aligner, made at first use, since the weights must be loaded first."""
        from biglittle_asr.decoding.hmm.search import GraphDecoder

        options = {**vars(self.search), "max_active": self.beam_size}
        graph, tying = self.model.search_graph.restore(self.words.lexicon, self.model.num_states)
        return GraphDecoder(graph, **options), Aligner(self.words.lexicon, tying)

    def candidates(self, log_probs: Tensor) -> Iterable[tuple[list[int], float]]:
        """See :class:`AlignedSearch`. Scores, in nats, are log-likelihoods of frames minus the weighted graph costs."""
        decoder, _ = self.parts
        likelihoods = self._likelihoods(log_probs)
        several = self.settings.nbest > 1
        for found in decoder.best(likelihoods, self.settings.nbest) if several else [decoder.decode(likelihoods)]:
            score = -found.cost * self.search.lm_weight
            yield self.words.indices(found.words), score if math.isfinite(score) else IMPOSSIBLE

    def align(self, log_probs: Tensor, tokens: list[int]) -> tuple[list[Token], float]:
        """See :class:`AlignedSearch`. A word's log-probability is the mean of its frames' log-posteriors.

        If there are too few frames for the words, which can happen if no path reached a final state, the words are
        spread evenly.
        """
        _, aligner = self.parts
        likelihoods, posteriors = self._likelihoods(log_probs), log_probs.cpu().numpy()
        try:
            alignment = aligner.align(self.words.words_of(tokens), likelihoods)
        except AlignmentError:
            places = np.linspace(0, len(log_probs), len(tokens) + 1).astype(int).tolist()
            spans = zip(tokens, places[:-1], places[1:], strict=True)
            return [Token(index, start, max(start + 1, end), IMPOSSIBLE) for index, start, end in spans], IMPOSSIBLE
        outputs = aligner.tying.outputs[alignment.states]
        of_frames = posteriors[np.arange(len(outputs)), outputs]
        return [
            Token(index, each.start, each.end, float(of_frames[each.start : each.end].mean()))
            for index, each in zip(tokens, alignment.segments, strict=True)
        ], alignment.score * len(outputs)

    def blanks(self, log_probs: Tensor) -> list[bool]:
        """Return for each frame whether silence is most likely."""
        _, aligner = self.parts
        silence = aligner.tying.table[SILENCE]
        best = self._likelihoods(log_probs).argmax(1)
        found: list[bool] = np.isin(best, silence[silence != NO_STATE]).tolist()
        return found

    def _likelihoods(self, log_probs: Tensor) -> Reals:
        likelihoods: Reals = self.model.log_likelihoods(log_probs).cpu().numpy()
        return likelihoods


class PathSearch:
    """Search in a graph without a lexicon, such as Kaldi's. Word times come from the path through the graph.

    Arguments
    ---------
    model : HybridModel
    decoder : GraphDecoder
    """

    pause_seconds = math.inf
    tail_seconds = 0.0

    def __init__(self, model: Any, decoder: GraphDecoder) -> None:
        self.model = model
        self.decoder = decoder
        self.settings = DecodingSettings()
        self.words = WordTokenizer(Lexicon({word: [] for word in decoder.graph.words if word}))
        self.tokenizer: Tokenizer = self.words

    def blanks(self, log_probs: Tensor) -> list[bool]:
        """Return False for each frame, as silence is not known."""
        return [False] * len(log_probs)

    def __call__(self, log_probs: Tensor) -> list[Hypothesis]:
        """Find the best words for log-probabilities (T', V)."""
        likelihoods = self.model.log_likelihoods(log_probs).cpu().numpy()
        found = self.decoder.decode(likelihoods)
        # Words that the path outputs after its last frame count at the last frame.
        starts = [min(start, len(log_probs) - 1) for start in found.starts]
        ends = [max(start + 1, end) for start, end in zip(starts, [*starts[1:], len(log_probs)], strict=True)]
        outputs = np.array(found.outputs, np.int64)
        of_frames = log_probs.cpu().numpy()[np.arange(len(outputs)), outputs]
        tokens = [
            Token(index, start, end, float(of_frames[start:end].mean()))
            for index, start, end in zip(self.words.indices(found.words), starts, ends, strict=True)
        ]
        score = -found.cost * self.decoder.lm_weight if math.isfinite(found.cost) else IMPOSSIBLE
        spoken = float(likelihoods[np.arange(len(outputs)), outputs].sum())
        return [Hypothesis(" ".join(found.words), tuple(tokens), score, spoken)]


def _check_tying(table: np.ndarray, phones: int, size: int) -> None:
    if len(table) != phones:
        raise ValueError(f"its tied states are of {len(table)} phones, but its lexicon has {phones}")
    used = table != NO_STATE
    whole = used.all((2, 3))
    rows = (whole == used.any((2, 3))).all() and whole[:, 0].all() and (whole[:, 1:] <= whole[:, :-1]).all()
    if not rows or table.min() < NO_STATE or table.max() >= size:
        raise ValueError(f"its tied states are not a table of outputs from 0 to {size - 1}")


def _check_states(sources: np.ndarray, targets: np.ndarray, final: np.ndarray) -> None:
    """Refuse a graph whose state numbers have gaps, as memory grows with the largest number."""
    if not len(sources) or not len(final):
        raise ValueError("its graph has no arcs, or no end")
    states = np.unique(np.concatenate([sources, targets, final]))
    if states[0] != 0 or states[-1] != len(states) - 1:
        raise ValueError("the states of its graph are not numbered from 0 without gaps")
