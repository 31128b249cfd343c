"""Graph search: the best word sequence, or the n best, for a network's output.

Needs kaldi-decoder: `pip install 'biglittle-asr[hybrid]'`.
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
from biglittle_asr.extras import missing_extra

try:
    import kaldi_decoder
    import kaldifst
except ImportError as error:
    raise ValueError(missing_extra("decoding needs kaldi-decoder", "hybrid", error)) from error


MIN_ACTIVE = 20
"""Smallest number of paths followed, even outside the beam; Kaldi's default."""
END = -1
"""Marks the end of a lattice, after its final states."""


@dataclass(frozen=True)
class GraphHypothesis:
    """A word sequence that the search found."""

    words: tuple[str, ...]
    cost: float
    """Negative log-likelihood of the frames divided by the language model's weight, plus the graph's cost; lower is
    better."""
    starts: tuple[int, ...] = ()
    """Frame at which the path outputs each word; set by :meth:`GraphDecoder.decode`. That is where the word begins, or
    later if other words begin with the same phones."""
    outputs: tuple[int, ...] = ()
    """The path's network output at each frame; set by :meth:`GraphDecoder.decode`."""


class GraphDecoder:
    """Beam search through a graph, frame by frame.

    Arguments
    ---------
    graph : Graph
    lm_weight : float
        Factor of the graph's costs relative to the frames' costs. Neighboring frames are strongly correlated, so that
        the product of their likelihoods is overconfident by about this factor.
    beam : float
        Paths that cost this much more than the best are dropped, in units of the graph's costs.
    lattice_beam : float
        The same limit for the lattice of :meth:`best`.
    max_active : int
        Largest number of paths that :meth:`decode` follows at once.
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
        """Find the best words.

        Arguments
        ---------
        log_likelihoods : array
            (T, V) log-likelihoods of the frames, one for each output. A constant added to a frame changes nothing.

        Returns
        -------
        GraphHypothesis
            The best hypothesis. If no path reached a final state, it is an incomplete sentence. It has no words if
            there are no frames or no path was found.
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
        """Find the n best different word sequences, best first; fewer if the beams have left fewer.

        Arguments
        ---------
        log_likelihoods : array
            As in :meth:`decode`.
        number : int
            Largest number of sequences.
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
    """Return the frame of each word on a path, and the output of each frame."""
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
    """Lattice of the paths that reached the end. Each arc has the sum of its graph cost and its frame cost."""

    start: int
    arcs: dict[int, list[tuple[int, int, float]]]
    """Arcs out of each state: target, word label, cost."""
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
        """Lowest cost from each state to an end; infinite if no end can be reached."""
        costs: dict[int, float] = {}
        # Depth-first: a state is done after all its successors. A lattice has no cycles.
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
    """Find the best sequences of word labels and their costs by A* search, whose heuristic is the exact cost to go."""
    remaining = lattice.costs_to_end()
    found: list[tuple[tuple[int, ...], float]] = []
    # Estimated total cost, words so far, state, cost so far; -1 is the end.
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
