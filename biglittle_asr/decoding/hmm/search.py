"""The best words, or the best few sequences of them, for what a network says of each frame.

Takes kaldi-decoder: `pip install 'biglittle_asr[hybrid]'`.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from biglittle_asr.decoding.hmm.graph import Graph
from biglittle_asr.decoding.hmm.tying import Reals

try:
    import kaldi_decoder
    import kaldifst
except ImportError as error:
    raise ValueError(f"decoding needs kaldi-decoder ({error}): pip install 'biglittle_asr[hybrid]'.") from error


MIN_ACTIVE = 20
"""Paths that are followed however bad they are; Kaldi's number."""
END = -1
"""Stands for the end of a lattice, behind its final states."""


@dataclass(frozen=True)
class GraphHypothesis:
    """What may have been said."""

    words: tuple[str, ...]
    cost: float
    """Negative log-likelihood of frames, divided by the weight of the language model, plus the graph's cost: the
    hypothesis with the lowest is the best."""
    starts: tuple[int, ...] = ()
    """Of :meth:`GraphDecoder.decode`: the frame at which the path says each word. That is where it begins, or later
    where other words begin alike."""
    outputs: tuple[int, ...] = ()
    """Of the same: the network's output that the path has at each frame."""


class GraphDecoder:
    """Searches a graph, frame by frame, along all paths that are not much worse than the best.

    Arguments
    ---------
    graph : Graph
    lm_weight : float
        What the graph's costs are multiplied by before the frames' are added. Neighboring frames say almost the same,
        so that their likelihoods, taken together, are too sure by about this factor.
    beam : float
        Paths that cost so much more than the best are left, in units of the graph's costs.
    lattice_beam : float
        The same of the paths among which :meth:`best` finds its list.
    max_active : int
        Paths that are followed at most, for one sequence of words.
    """

    def __init__(
        self,
        graph: Graph,
        lm_weight: float = 10.0,
        beam: float = 14.0,
        lattice_beam: float = 8.0,
        max_active: int = 7000,
    ) -> None:
        if not lm_weight > 0 or not beam > 0 or not max_active > 0:
            raise ValueError(
                f"lm_weight, beam and max_active must be above 0, but are {lm_weight}, {beam} and {max_active}."
            )
        self.graph = graph
        self.lm_weight = lm_weight
        options = kaldi_decoder.FasterDecoderOptions(
            beam=beam, max_active=max_active, min_active=min(MIN_ACTIVE, max_active - 1)
        )
        self._decoder = kaldi_decoder.FasterDecoder(graph.fst, options)
        lattice_options = kaldi_decoder.LatticeSimpleDecoderConfig(beam=beam, lattice_beam=lattice_beam)
        self._lattice_decoder = kaldi_decoder.LatticeSimpleDecoder(graph.fst, lattice_options)

    def decode(self, log_likelihoods: Reals) -> GraphHypothesis:
        """The best words.

        Arguments
        ---------
        log_likelihoods : array
            (T, V) of an utterance's frames, one for each output of the network; a constant a frame does not matter.

        Returns
        -------
        GraphHypothesis
            Without words if there are no frames, or none of the paths that are followed is one of a whole sentence and
            none of its beginnings has words.
        """
        if not len(log_likelihoods):
            return GraphHypothesis((), 0.0)
        self._decoder.decode(self._decodable(log_likelihoods))
        found, path = self._decoder.get_best_path()
        if not found:
            return GraphHypothesis((), float("inf"))
        _, _, labels, weight = kaldifst.get_linear_symbol_sequence(path)
        starts, outputs = _places(path)
        return GraphHypothesis(self._words(labels), weight.value1 + weight.value2, starts, outputs)

    def best(self, log_likelihoods: Reals, number: int) -> list[GraphHypothesis]:
        """The best sequences of words, each once, the best first; fewer where the beams have left fewer.

        Arguments
        ---------
        log_likelihoods : array
            As for :meth:`decode`.
        number : int
            Of them, at most.
        """
        if not len(log_likelihoods):
            return [GraphHypothesis((), 0.0)]
        self._lattice_decoder.decode(self._decodable(log_likelihoods))
        found, lattice = self._lattice_decoder.get_raw_lattice()
        if not found:
            return []
        paths = _best_paths(_Lattice.of(lattice), number)
        return [GraphHypothesis(self._words(labels), cost) for labels, cost in paths]

    def _decodable(self, log_likelihoods: Reals) -> Any:
        scaled = np.ascontiguousarray(log_likelihoods / np.float32(self.lm_weight), dtype=np.float32)
        return kaldi_decoder.DecodableCtc(scaled)

    def _words(self, labels: Iterable[int]) -> tuple[str, ...]:
        return tuple(self.graph.words[label] for label in labels)


def _places(path: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """At which frame of a path each word stands, and which output each frame has."""
    arcs = {}
    for line in path.to_str(show_weight_one=True).splitlines():
        source, *numbers, _ = line.split()
        if numbers:
            arcs[int(source)] = tuple(map(int, numbers))
    starts: list[int] = []
    outputs: list[int] = []
    state = path.start
    while state in arcs:
        state, label, word = arcs[state]
        if word:
            starts.append(len(outputs))
        if label:
            outputs.append(label - 1)
    return tuple(starts), tuple(outputs)


@dataclass
class _Lattice:
    """Paths that were followed to the end, with the sum of their two costs."""

    start: int
    arcs: dict[int, list[tuple[int, int, float]]]
    """Of each state: target, word label, cost."""
    final: dict[int, float]

    @classmethod
    def of(cls, lattice: Any) -> _Lattice:
        arcs: dict[int, list[tuple[int, int, float]]] = {}
        final = {}
        for line in lattice.to_str(show_weight_one=True).splitlines():
            source, *numbers, weight = line.split()
            cost = sum(map(float, weight.split(",")))
            if numbers:
                target, _, label = map(int, numbers)
                arcs.setdefault(int(source), []).append((target, label, cost))
            else:
                final[int(source)] = cost
        return cls(lattice.start, arcs, final)

    def costs_to_end(self) -> dict[int, float]:
        """Lowest cost from each state to an end, infinite where none can be reached."""
        costs: dict[int, float] = {}
        # Depth first; a state is done when all that follow it are. A lattice has no cycles.
        pending = [self.start]
        while pending:
            state = pending[-1]
            following = [target for target, _, _ in self.arcs.get(state, []) if target not in costs]
            if following:
                pending += following
                continue
            pending.pop()
            ways = [cost + costs[target] for target, _, cost in self.arcs.get(state, [])]
            costs[state] = min([*ways, self.final.get(state, math.inf)])
        return costs


def _best_paths(lattice: _Lattice, number: int) -> list[tuple[tuple[int, ...], float]]:
    """The best sequences of word labels and their costs: A* search, with what is exactly left to go."""
    remaining = lattice.costs_to_end()
    found: list[tuple[tuple[int, ...], float]] = []
    # Estimate of the whole, words so far, state, cost so far; -1 is the end.
    queue: list[tuple[float, tuple[int, ...], int, float]] = [(remaining[lattice.start], (), lattice.start, 0.0)]
    visited = set()
    while queue and len(found) < number:
        _, words, state, cost = heapq.heappop(queue)
        if (words, state) in visited:
            continue
        visited.add((words, state))
        if state == END:
            found.append((words, cost))
            continue
        if state in lattice.final:
            whole = cost + lattice.final[state]
            heapq.heappush(queue, (whole, words, END, whole))
        for target, label, step in lattice.arcs.get(state, []):
            if remaining[target] < math.inf:
                further = (*words, label) if label else words
                heapq.heappush(queue, (cost + step + remaining[target], further, target, cost + step))
    return found
