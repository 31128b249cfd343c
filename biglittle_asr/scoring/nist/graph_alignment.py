"""Minimum-cost alignment of word graphs, with NIST's costs and tie-breaking, for many pairs at once.

| step | cost |
|---|---|
| same word | 0 |
| substitution | 4 |
| insertion, deletion | 3 |
| insertion, deletion of an optionally deletable word (counts as correct) | 2 |
| insertion, deletion of `@` (does not count) | 0.001 |

Among alignments of equal cost, sclite compares steps from the last to the first. It prefers a pair to an insertion, an
insertion to a deletion, and the first of several alternatives. Like sclite, this module adds up costs in single
precision, since rounding can break ties that involve `@`.

Pairs of similar size share a table, which has a cell for each reference word and each hypothesis word. Cells on one
anti-diagonal do not depend on each other, so they are computed at once, for all pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from biglittle_asr.scoring.alignment import CORRECT, DELETION, INSERTION, SUBSTITUTION, WordPair
from biglittle_asr.scoring.nist.wordgraph import START, Vocabulary, WordGraph

SUBSTITUTION_COST, NULL_PAIR_COST = np.float32(4), np.float32(1)
EDIT_COST, OPTIONAL_COST, NULL_COST = np.float32(3), np.float32(2), np.float32(0.001)
"""Costs of insertions and deletions."""

NOTHING, RIGHT, SUBSTITUTED, DELETED, INSERTED = range(5)
"""Outcomes of a step of an alignment."""
OPERATIONS = ("", CORRECT, SUBSTITUTION, DELETION, INSERTION)
"""The mark of each outcome."""

CELLS_AT_ONCE = 1 << 21
"""Largest number of cells aligned at once (about 50 MB), unless a single pair has more."""


@dataclass(frozen=True)
class Alignments:
    """Alignments of N pairs, in the order given."""

    counts: np.ndarray
    """Numbers of correct words, substitutions, deletions and insertions: int array of shape (N, 4)."""
    _graphs: tuple[Sequence[WordGraph], Sequence[WordGraph]]
    _texts: list[str]
    """Text of each word number."""
    _tables: list[_Steps]
    _locations: list[tuple[int, int]]
    """Table and column of each pair."""

    def word_pairs(self, pair: int) -> list[WordPair]:
        """Return the alignment of one pair, word by word, without `@`."""
        words, recognized = (graphs[pair].words for graphs in self._graphs)
        return [
            WordPair(OPERATIONS[outcome], self._texts[words[reference]], self._texts[recognized[hypothesis]])
            for outcome, reference, hypothesis in self._steps(pair)
        ]

    def places(self, pair: int) -> list[tuple[str, int]]:
        """Return each word pair's operation and position in the reference's graph (0 if it has no reference word)."""
        return [(OPERATIONS[outcome], reference) for outcome, reference, _ in self._steps(pair)]

    def _steps(self, pair: int) -> Iterator[tuple[int, int, int]]:
        """Yield outcome, reference position and hypothesis position of each counted step (0 if a side has no word)."""
        table, column = self._locations[pair]
        steps = self._tables[table]
        outcomes = steps.outcomes[:, column]
        for step in np.flatnonzero(outcomes)[::-1].tolist():
            yield int(outcomes[step]), int(steps.references[step, column]), int(steps.hypotheses[step, column])


@dataclass(frozen=True)
class _Steps:
    """Alignments of one table, from the last step to the first: arrays of shape (steps, pairs)."""

    outcomes: np.ndarray
    references: np.ndarray
    """Positions in the reference; 0 if a step has no reference word."""
    hypotheses: np.ndarray


def align_graphs(
    references: Sequence[WordGraph], hypotheses: Sequence[WordGraph], vocabulary: Vocabulary
) -> Alignments:
    """Align every hypothesis with its reference.

    Arguments
    ---------
    references, hypotheses : sequences of WordGraph
        Both of length N.
    vocabulary : Vocabulary
        The vocabulary that numbered the words of both.

    Returns
    -------
    Alignments

    Example
    -------
    >>> from biglittle_asr.scoring.nist.wordgraph import graph_of_text
    >>> vocabulary = Vocabulary()
    >>> texts = "we { i've / i have } (uh) seen", "we i have been there"
    >>> reference, hypothesis = (graph_of_text(text, vocabulary) for text in texts)
    >>> alignments = align_graphs([reference], [hypothesis], vocabulary)
    >>> alignments.counts.tolist()
    [[3, 2, 0, 0]]
    >>> [tuple(pair) for pair in alignments.word_pairs(0)][2:]
    [('', 'have', 'have'), ('S', '(uh)', 'been'), ('S', 'seen', 'there')]
    """
    counts = np.zeros((len(references), 4), dtype=np.int64)
    locations = [(0, 0)] * len(references)
    tables: list[_Steps] = []
    words = _Words(vocabulary)
    for pairs in _similar(references, hypotheses):
        table = _Table([references[pair] for pair in pairs], [hypotheses[pair] for pair in pairs], words)
        steps = table.steps()
        for column, pair in enumerate(pairs):
            locations[pair] = len(tables), column
        counts[pairs] = np.stack([(steps.outcomes == outcome).sum(axis=0) for outcome in range(RIGHT, INSERTED + 1)], 1)
        tables.append(steps)
    return Alignments(counts, (references, hypotheses), vocabulary.texts, tables, locations)


def _similar(references: Sequence[WordGraph], hypotheses: Sequence[WordGraph]) -> Iterator[list[int]]:
    """Group pairs of similar branching and size into tables; yields the pair numbers of each table."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for pair, (reference, hypothesis) in enumerate(zip(references, hypotheses, strict=True)):
        branches = (reference.branches - 1).bit_length(), (hypothesis.branches - 1).bit_length()
        # Two size classes per doubling.
        sizes = (len(side.words) ** 2 // 2 for side in (reference, hypothesis))
        groups.setdefault((*branches, *(size.bit_length() for size in sizes)), []).append(pair)
    for group in groups.values():
        cells = max(len(references[pair].words) for pair in group) * max(len(hypotheses[pair].words) for pair in group)
        at_once = max(1, CELLS_AT_ONCE // cells)
        yield from (group[start : start + at_once] for start in range(0, len(group), at_once))


class _Words:
    """Properties of words that alignment needs, as arrays indexed by word number."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.classes, self.nulls = vocabulary.classes(), vocabulary.nulls()
        self.optionals, self.fragments = vocabulary.optionals(), vocabulary.fragment_marks()
        self.edit_costs = np.where(self.nulls, NULL_COST, np.where(self.optionals, OPTIONAL_COST, EDIT_COST))
        self._equal: dict[tuple[int, int], bool] = {}

    def equal(self, reference: int, hypothesis: int) -> bool:
        """Whether two words match, if one of them is a fragment."""
        pair = reference, hypothesis
        if pair not in self._equal:
            self._equal[pair] = self.vocabulary.equal(*pair)
        return self._equal[pair]


CellBefore = Callable[[np.ndarray], np.ndarray]
"""Maps cell numbers to the numbers of their predecessors."""


class _Table:
    """Costs of N pairs. R and H are the lengths of the longest reference and hypothesis, including the start.

    Place (r, h) of pair n has the cell number ((r * H) + h) * N + n.
    """

    def __init__(self, references: list[WordGraph], hypotheses: list[WordGraph], words: _Words) -> None:
        self.words = words
        self.reference_graphs, self.hypothesis_graphs = references, hypotheses
        self.references, self.hypotheses = _padded(references), _padded(hypotheses)
        (self.R, self.N), self.H = self.references.shape, len(self.hypotheses)
        self.deletion = words.edit_costs[self.references]
        self.insertion = words.edit_costs[self.hypotheses]
        self.equal = self._equal_words()
        self.substitution = np.where(self.equal, np.float32(0), SUBSTITUTION_COST)
        if words.nulls.any():
            both = words.nulls[self.references][:, None] & words.nulls[self.hypotheses][None]
            self.substitution[both] = NULL_PAIR_COST

    def _equal_words(self) -> np.ndarray:
        """Compare all words of each pair: bool array of shape (R, H, N)."""
        classes = self.words.classes
        equal = classes[self.references][:, None] == classes[self.hypotheses][None]
        if self.words.fragments.any():
            for place, pair in np.argwhere(self.words.fragments[self.references]).tolist():
                word = int(self.references[place, pair])
                equal[place, :, pair] = [self.words.equal(word, other) for other in self.hypotheses[:, pair].tolist()]
            for place, pair in np.argwhere(self.words.fragments[self.hypotheses]).tolist():
                word = int(self.hypotheses[place, pair])
                equal[:, place, pair] = [self.words.equal(other, word) for other in self.references[:, pair].tolist()]
        return equal

    def steps(self) -> _Steps:
        """Compute the best alignments."""
        linear = all(graph.previous is None for graph in (*self.reference_graphs, *self.hypothesis_graphs))
        costs, cell_before = self._fill_lines() if linear else self._fill_graphs()
        return self._trace(self._ends(costs), cell_before)

    def _diagonals(self, margin: int) -> Iterator[tuple[int, int, int]]:
        """Yield each anti-diagonal after the first cell with its first and last r; r and h start at `margin`."""
        for diagonal in range(1, self.R + self.H - 1):
            first, last = max(margin, diagonal - self.H + 1), min(self.R - 1, diagonal - margin)
            if first <= last:
                yield diagonal, first, last

    def _places(self, diagonal: int, first: int, last: int, back: int = 0) -> slice:
        """Slice of the places on an anti-diagonal, shifted by `back` places."""
        step = self.H - 1
        start = diagonal + first * step - back
        return slice(start, start + (last - first) * step + 1, step or 1)

    def _fill_lines(self) -> tuple[np.ndarray, CellBefore]:
        """Compute costs and predecessors of all cells, for texts without alternatives."""
        H, N = self.H, self.N
        costs = np.empty((self.R * H, N), dtype=np.float32)
        costs[:H] = np.cumsum(np.where(np.arange(H)[:, None] > 0, self.insertion, np.float32(0)), axis=0)
        costs[::H] = np.cumsum(np.where(np.arange(self.R)[:, None] > 0, self.deletion, np.float32(0)), axis=0)
        paired, deleted, inserted = range(3)
        back = np.array([H + 1, H, 1])
        moves = np.full((self.R * H, N), inserted, dtype=np.uint8)
        moves[::H] = deleted
        substitution = self.substitution.reshape(-1, N)
        for diagonal, first, last in self._diagonals(margin=1):
            before = [self._places(diagonal, first, last, places) for places in back.tolist()]
            here = self._places(diagonal, first, last)
            pair = costs[before[paired]] + substitution[here]
            deletion = costs[before[deleted]] + self.deletion[first : last + 1]
            insertion = costs[before[inserted]] + self.insertion[diagonal - last : diagonal - first + 1][::-1]
            single = np.minimum(deletion, insertion)
            costs[here] = np.minimum(pair, single)
            moves[here] = np.where(pair <= single, paired, np.where(deletion < insertion, deleted, inserted))
        flat = moves.reshape(-1)
        return costs, lambda cells: cells - back[flat[cells]] * N

    def _fill_graphs(self) -> tuple[np.ndarray, CellBefore]:
        """Compute costs and predecessors of all cells, for texts with alternatives."""
        R, H, N = self.R, self.H, self.N
        # An extra place of infinite cost stands for predecessors that do not exist.
        nowhere = R * H * N
        costs = np.full((R * H + 1, N), np.inf, dtype=np.float32)
        back = np.zeros((R * H, N), dtype=np.int64)
        costs[0] = 0
        flat = costs.reshape(-1)
        pairs = np.arange(N)
        before_reference = _before(self.reference_graphs, R, H * N, nowhere) + pairs
        before_hypothesis = _before(self.hypothesis_graphs, H, N, nowhere)
        rows, columns = np.arange(R)[:, None] * (H * N) + pairs, np.arange(H)[:, None] * N
        substitution = self.substitution.reshape(-1, N)
        limit = nowhere + pairs

        def best(options: Iterator[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
            """Return the cost of the cheapest cell, and the first such cell."""
            chosen = np.minimum(next(options), limit)
            cost = flat[chosen]
            for option in options:
                cells = np.minimum(option, limit)
                found = flat[cells]
                cheaper = found < cost
                chosen, cost = np.where(cheaper, cells, chosen), np.minimum(found, cost)
            return cost, chosen

        for diagonal, first, last in self._diagonals(margin=0):
            here = self._places(diagonal, first, last)
            row = slice(first, last + 1)
            column = diagonal - np.arange(first, last + 1)
            references, hypotheses = before_reference[:, row], before_hypothesis[:, column]
            pair, paired = best(reference + hypothesis for reference in references for hypothesis in hypotheses)
            deletion, deleted = best(reference + columns[column] for reference in references)
            insertion, inserted = best(rows[row] + hypothesis for hypothesis in hypotheses)
            pair += substitution[here]
            deletion += self.deletion[row]
            insertion += self.insertion[column]
            single = np.minimum(deletion, insertion)
            costs[here] = np.minimum(pair, single)
            back[here] = np.where(pair <= single, paired, np.where(deletion < insertion, deleted, inserted))
        steps_back = back.reshape(-1)
        return costs, lambda cells: steps_back[cells]

    def _ends(self, costs: np.ndarray) -> np.ndarray:
        """Find the cell in which each pair's best alignment ends: int array of shape (N,)."""
        cells = []
        for pair, (reference, hypothesis) in enumerate(zip(self.reference_graphs, self.hypothesis_graphs, strict=True)):
            places = [r * self.H + h for r in reference.last for h in hypothesis.last]
            place = min(places, key=lambda place: costs[place, pair]) if len(places) > 1 else places[0]
            cells.append(place * self.N + pair)
        return np.array(cells)

    def _trace(self, cells: np.ndarray, cell_before: CellBefore) -> _Steps:
        """Trace the alignments back from these cells."""
        path = [cells]
        while (cells >= self.N).any():
            # Pairs that have reached their first cell wait there for the others.
            cells = np.where(cells >= self.N, cell_before(cells), cells)
            path.append(cells)
        places = np.stack(path) // self.N
        references, hypotheses = places // self.H, places % self.H
        moved = places[:-1] != places[1:]
        deleted = moved & (hypotheses[:-1] == hypotheses[1:])
        inserted = moved & (references[:-1] == references[1:])
        references = np.where(moved & ~inserted, references[:-1], START)
        hypotheses = np.where(moved & ~deleted, hypotheses[:-1], START)
        pairs = np.arange(self.N)
        words, recognized = self.references[references, pairs], self.hypotheses[hypotheses, pairs]
        outcomes = np.where(self.equal[references, hypotheses, pairs], RIGHT, SUBSTITUTED)
        optional = self.words.optionals
        outcomes = np.where(deleted, np.where(optional[words], RIGHT, DELETED), outcomes)
        outcomes = np.where(inserted, np.where(optional[recognized], RIGHT, INSERTED), outcomes)
        nulls = self.words.nulls
        # The start counts as null here, so that a null without a partner is not counted.
        uncounted = (nulls[words] | (words == START)) & (nulls[recognized] | (recognized == START))
        outcomes = np.where(uncounted | ~moved, NOTHING, outcomes)
        return _Steps(outcomes.astype(np.uint8), references.astype(np.int32), hypotheses.astype(np.int32))


def _padded(graphs: list[WordGraph]) -> np.ndarray:
    """Stack word numbers, padded with the start: int array of shape (words, pairs)."""
    padded = np.full((len(graphs), max(len(graph.words) for graph in graphs)), START)
    for pair, graph in enumerate(graphs):
        padded[pair, : len(graph.words)] = graph.words
    return np.ascontiguousarray(padded.T)


def _before(graphs: list[WordGraph], length: int, factor: int, nowhere: int) -> np.ndarray:
    """Predecessors of each word times `factor`, padded with `nowhere`: int array of shape (branches, length, pairs)."""
    before = np.full((max(graph.branches for graph in graphs), length, len(graphs)), nowhere, dtype=np.int64)
    for pair, graph in enumerate(graphs):
        size = len(graph.words)
        if graph.previous is None:
            before[0, 1:size, pair] = np.arange(size - 1) * factor
            continue
        for place, previous in enumerate(graph.previous):
            for branch, position in enumerate(previous):
                before[branch, place, pair] = position * factor
    return before
