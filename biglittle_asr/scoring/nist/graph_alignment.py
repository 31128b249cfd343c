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

The table of a very long pair is never in memory as a whole. Its costs are computed once, keeping a few anti-diagonals.
From these, its last anti-diagonals are computed again, then those before them, and so on, each time only as far as the
best alignment can reach.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

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

PAIR, DELETE, INSERT = range(3)
"""Moves into a cell."""
MOVES = 3

CELLS_AT_ONCE = 1 << 21
"""Largest number of cells in memory at once (about 10 MB), unless a single pair needs more."""


@dataclass(frozen=True)
class Alignments:
    """Alignments of N pairs, in the order given."""

    counts: np.ndarray
    """Numbers of correct words, substitutions, deletions and insertions: int array of shape (N, 4)."""
    _graphs: tuple[Sequence[WordGraph], Sequence[WordGraph]]
    _texts: list[str]
    """Text of each word number."""
    _steps: list[_Steps]
    """Steps of each pair."""

    def word_pairs(self, pair: int) -> list[WordPair]:
        """Return the alignment of one pair, word by word, without `@`."""
        words, recognized = (graphs[pair].words for graphs in self._graphs)
        return [
            WordPair(OPERATIONS[outcome], self._texts[words[reference]], self._texts[recognized[hypothesis]])
            for outcome, reference, hypothesis in self._steps[pair].counted()
        ]

    def places(self, pair: int) -> list[tuple[str, int]]:
        """Return each word pair's operation and position in the reference's graph (0 if it has no reference word)."""
        return [(OPERATIONS[outcome], reference) for outcome, reference, _ in self._steps[pair].counted()]


@dataclass(frozen=True)
class _Steps:
    """Alignment of one pair, from the last step to the first: arrays of shape (steps,)."""

    outcomes: np.ndarray
    references: np.ndarray
    """Positions in the reference; 0 if a step has no reference word."""
    hypotheses: np.ndarray

    def counted(self) -> Iterator[tuple[int, int, int]]:
        """Yield outcome, reference position and hypothesis position of each counted step, from the first to the last.

        A position is 0 if that side has no word.
        """
        steps = np.flatnonzero(self.outcomes)[::-1]
        sides = (side[steps].tolist() for side in (self.outcomes, self.references, self.hypotheses))
        yield from zip(*sides, strict=True)


def align_graphs(
    references: Sequence[WordGraph], hypotheses: Sequence[WordGraph], vocabulary: Vocabulary
) -> Alignments:
    """Align every hypothesis with its reference.

    Time grows with the product of a pair's lengths, memory with the lengths times the root of their sum.

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
    words = _Words(vocabulary)
    steps: dict[int, _Steps] = {}
    for pairs in _similar(references, hypotheses):
        table = _Table([references[pair] for pair in pairs], [hypotheses[pair] for pair in pairs], words)
        steps.update(zip(pairs, table.steps(), strict=True))
    ordered = [steps[pair] for pair in range(len(references))]
    counts = [np.bincount(each.outcomes, minlength=len(OPERATIONS))[RIGHT:] for each in ordered]
    shape = len(references), len(OPERATIONS) - RIGHT
    return Alignments(np.array(counts).reshape(shape), (references, hypotheses), vocabulary.texts, ordered)


def _similar(references: Sequence[WordGraph], hypotheses: Sequence[WordGraph]) -> Iterator[list[int]]:
    """Group pairs of similar branching and size into tables; yields the pair numbers of each table."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for pair, (reference, hypothesis) in enumerate(zip(references, hypotheses, strict=True)):
        branches = (reference.branches - 1).bit_length(), (hypothesis.branches - 1).bit_length()
        # Two size classes per doubling.
        sizes = (len(side.words) ** 2 // 2 for side in (reference, hypothesis))
        groups.setdefault((*branches, *(size.bit_length() for size in sizes)), []).append(pair)
    for group in groups.values():
        R, H = (max(len(side[pair].words) for pair in group) for side in (references, hypotheses))
        at_once = max(1, CELLS_AT_ONCE // ((R + H) * (R + 2)))
        yield from (group[start : start + at_once] for start in range(0, len(group), at_once))


class _Words:
    """Properties of words that alignment needs, as arrays indexed by word number."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.classes, self.nulls = vocabulary.classes().astype(np.int32), vocabulary.nulls()
        self.optionals, self.fragments = vocabulary.optionals(), vocabulary.fragment_marks()
        self.edit_costs = np.where(self.nulls, NULL_COST, np.where(self.optionals, OPTIONAL_COST, EDIT_COST))
        self._equal: dict[tuple[int, int], bool] = {}

    def equal(self, reference: int, hypothesis: int) -> bool:
        """Whether two words match, if one of them is a fragment."""
        pair = reference, hypothesis
        if pair not in self._equal:
            self._equal[pair] = self.vocabulary.equal(*pair)
        return self._equal[pair]


class _Side:
    """References or hypotheses of N pairs, padded with the start. Word p * N + n is at place p of pair n."""

    def __init__(self, graphs: list[WordGraph], words: _Words) -> None:
        self.graphs = graphs
        self.pairs, self.places = len(graphs), max(len(graph.words) for graph in graphs)
        padded = np.full((self.pairs, self.places), START)
        for pair, graph in enumerate(graphs):
            padded[pair, : len(graph.words)] = graph.words
        self.words = padded.T.reshape(-1)
        self.classes, self.costs = words.classes[self.words], words.edit_costs[self.words]
        self.nulls, self.fragments = words.nulls[self.words], words.fragments[self.words]
        self.before = self._before()
        distances = np.repeat(np.arange(self.places), self.pairs) - self.before
        self.jump = int(distances.max())
        """Largest distance between a word and a predecessor."""
        self.branching = (distances != 1).any(axis=0)
        """Whether a word has another predecessor than the word before it."""

    def _before(self) -> np.ndarray:
        """Places of each word's predecessors, filled up with the first: int array of shape (branches, words)."""
        before = np.empty((max(graph.branches for graph in self.graphs), self.places, self.pairs), dtype=np.int64)
        before[:] = np.arange(self.places)[:, None] - 1
        for pair, graph in enumerate(self.graphs):
            for place, previous in enumerate(graph.previous or ()):
                if previous:
                    before[:, place, pair] = previous[0]
                    before[: len(previous), place, pair] = previous
        return before.reshape(len(before), -1)


@dataclass
class _Path:
    """The part of an alignment that is known, from its end back to cell (r, h)."""

    r: int
    h: int
    references: list[int] = field(default_factory=list)
    """Positions in the reference, from the last step to the first; 0 if a step has no reference word."""
    hypotheses: list[int] = field(default_factory=list)


class _Table:
    """Costs of N pairs. R and H are the lengths of the longest reference and hypothesis, including the start.

    Cell (r, h) is in row r + h, which is an anti-diagonal, and in column r + 1. The cells beside both ends of an
    anti-diagonal have infinite costs. A column holds all pairs. Memory holds one block of rows, and before it an edge:
    the rows that the block's costs follow from.
    """

    def __init__(self, references: list[WordGraph], hypotheses: list[WordGraph], words: _Words) -> None:
        self.words = words
        self.reference, self.hypothesis = _Side(references, words), _Side(hypotheses, words)
        self.N, self.R, self.H = len(references), self.reference.places, self.hypothesis.places
        self.rows, self.width = self.R + self.H - 1, (self.R + 2) * self.N
        self.edge = self.reference.jump + self.hypothesis.jump
        # At the root, a block and the edges of all blocks need the least memory together.
        self.block = min(self.rows, max(CELLS_AT_ONCE // self.width, math.isqrt(self.rows * self.edge)))
        self.costs = np.zeros((self.edge + self.block, self.width), dtype=np.float32)
        options = len(self.reference.before) * len(self.hypothesis.before)
        self.moves = np.zeros((self.block, self.width), dtype=np.min_scalar_type(MOVES * options))
        """Each cell's best move, plus MOVES times the number of its predecessor among the move's options."""
        # Along an anti-diagonal, hypotheses run backwards.
        backwards = np.arange(self.H * self.N).reshape(self.H, self.N)[::-1].reshape(-1)
        self.classes_backwards = self.hypothesis.classes[backwards]
        self.costs_backwards = self.hypothesis.costs[backwards]
        self.special = _SpecialCells(self)

    def steps(self) -> list[_Steps]:
        """Find the best alignment of each pair."""
        starts = range(1, max(self.rows, 2), self.block)
        edge = self._edge(1)
        edge[:] = np.inf
        edge[-1, self.N : 2 * self.N] = 0
        edges: list[np.ndarray] = []
        ends = [
            dict.fromkeys(((r, h) for r in reference.last for h in hypothesis.last), math.inf)
            for reference, hypothesis in zip(self.reference.graphs, self.hypothesis.graphs, strict=True)
        ]
        for start in starts:
            edges.append(self._edge(start).copy())
            self._fill(start, 0, self.R - 1, with_moves=len(starts) == 1)
            for pair, cells in enumerate(ends):
                for r, h in cells:
                    if len(cells) > 1 and start <= r + h < start + self.block:
                        cells[r, h] = float(self.costs[self.edge + r + h - start, (r + 1) * self.N + pair])
            if start != starts[-1]:
                following = start + self.block
                self._edge(following)[:] = self._edge(following, below=self.block)
        paths = [_Path(*min(cells, key=cells.__getitem__)) for cells in ends]
        for start in reversed(starts):
            if len(starts) > 1:
                self._edge(start)[:] = edges.pop()
                # What decides about a path is at most one column further left in each row further up.
                columns = [path.r for path in paths]
                self._fill(start, min(columns) - self.block - self.edge, max(columns), with_moves=True)
            for pair, path in enumerate(paths):
                self._trace(path, pair, start)
        return self._outcomes(paths)

    def _span(self, row: int) -> tuple[int, int]:
        """First and last place of the reference on an anti-diagonal."""
        return max(0, row - self.H + 1), min(self.R - 1, row)

    def _edge(self, start: int, below: int = 0) -> np.ndarray:
        """Edge of a block, or the rows that many below it, without columns that hold no costs."""
        first, last = self._span(start - self.edge)[0], self._span(start - 1)[1]
        return self.costs[below : below + self.edge, first * self.N : (last + 3) * self.N]

    def _fill(self, start: int, low: int, high: int, with_moves: bool) -> None:
        """Compute a block's costs from one place of the reference to another, and the best moves if wanted."""
        N, H = self.N, self.H
        for row in range(start, min(start + self.block, self.rows)):
            first, last = self._span(row)
            first, last = max(first, low), min(last, high)
            if first > last:
                continue
            line = self.edge + row - start
            left, here, right = (slice((first + shift) * N, (last + 1 + shift) * N) for shift in range(3))
            backwards = slice((H - 1 - row + first) * N, (H - row + last) * N)
            pair = (self.reference.classes[left] != self.classes_backwards[backwards]) * SUBSTITUTION_COST
            pair += self.costs[line - 2, left]
            deletion = self.costs[line - 1, left] + self.reference.costs[left]
            insertion = self.costs[line - 1, here] + self.costs_backwards[backwards]
            single = np.minimum(deletion, insertion)
            self.costs[line, left.start : here.start] = self.costs[line, here.stop : right.stop] = np.inf
            np.minimum(pair, single, out=self.costs[line, here])
            if with_moves:
                moves = np.where(deletion < insertion, DELETE, INSERT)
                self.moves[row - start, here] = np.where(pair <= single, PAIR, moves)
            if self.special:
                self.special.fill(row, start, first, last, with_moves)

    def _trace(self, path: _Path, pair: int, start: int) -> None:
        """Trace a path back to its first cell, or to the last one before this block."""
        N, branches = self.N, len(self.hypothesis.before)
        references, hypotheses = self.reference.before, self.hypothesis.before
        r, h = path.r, path.h
        while r + h >= start:
            option, move = divmod(int(self.moves[r + h - start, (r + 1) * N + pair]), MOVES)
            path.references.append(START if move == INSERT else r)
            path.hypotheses.append(START if move == DELETE else h)
            reference, hypothesis = divmod(option, branches) if move == PAIR else (option, option)
            if move != INSERT:
                r = int(references[reference, r * N + pair])
            if move != DELETE:
                h = int(hypotheses[hypothesis, h * N + pair])
        path.r, path.h = r, h

    def _outcomes(self, paths: list[_Path]) -> list[_Steps]:
        """Find the outcome of each step of these paths."""
        lengths = [len(path.references) for path in paths]
        pairs = np.repeat(np.arange(self.N), lengths)
        references, hypotheses = (
            np.array(list(itertools.chain.from_iterable(side)), dtype=np.int32)
            for side in zip(*((path.references, path.hypotheses) for path in paths), strict=True)
        )
        numbers = references * self.N + pairs, hypotheses * self.N + pairs
        words, recognized = self.reference.words[numbers[0]], self.hypothesis.words[numbers[1]]
        outcomes = np.where(self.special.equal(*numbers), RIGHT, SUBSTITUTED)
        optional, nulls = self.words.optionals, self.words.nulls
        outcomes = np.where(hypotheses == START, np.where(optional[words], RIGHT, DELETED), outcomes)
        outcomes = np.where(references == START, np.where(optional[recognized], RIGHT, INSERTED), outcomes)
        # The start counts as null here, so that a null without a partner is not counted.
        uncounted = (nulls[words] | (words == START)) & (nulls[recognized] | (recognized == START))
        outcomes = np.where(uncounted, NOTHING, outcomes).astype(np.uint8)
        sides = (np.split(side, np.cumsum(lengths)[:-1]) for side in (outcomes, references, hypotheses))
        return [_Steps(*each) for each in zip(*sides, strict=True)]


class _SpecialCells:
    """Cells of words after alternatives, of fragments, and of `@`.

    Their predecessors are not only their neighbors, or a pair costs something else than the classes of its words say.
    """

    def __init__(self, table: _Table) -> None:
        self.table = table
        reference, hypothesis = table.reference, table.hypothesis
        # What is special about two nulls is found on one side.
        nulls = hypothesis.nulls & reference.nulls.any()
        self.null_pairs = bool(nulls.any())
        self.references = np.flatnonzero(reference.branching | reference.fragments)
        self.hypotheses = np.flatnonzero(hypothesis.branching | hypothesis.fragments | nulls)
        self.reference_matches = self._matches(reference, hypothesis)
        self.hypothesis_matches = self._matches(hypothesis, reference)
        if not self:
            return
        N, width = table.N, table.width
        self.reference_stops, self.hypothesis_stops = (
            np.searchsorted(words, np.arange(side.places + 1) * N).tolist()
            for words, side in ((self.references, reference), (self.hypotheses, hypothesis))
        )
        # Word p * N + n is beside word d * N - p * N + n on anti-diagonal d.
        self.beside_references, self.beside_hypotheses = (
            2 * (words % N) - words for words in (self.references, self.hypotheses)
        )
        # The number of a cell in memory is the sum of its reference's, its hypothesis' and its block's.
        self.reference_cells, self.hypothesis_cells = (
            np.concatenate((side.before, np.repeat(np.arange(side.places), N)[None])) * step
            for side, step in ((reference, width + N), (hypothesis, width))
        )
        self.reference_cells += N + np.tile(np.arange(N), table.R)

    def __bool__(self) -> bool:
        return bool(len(self.references) or len(self.hypotheses))

    def _matches(self, side: _Side, other: _Side) -> tuple[np.ndarray, np.ndarray]:
        """Number the fragments of a side (others are -1), and compare each with all words of its pair's other side."""
        N = self.table.N
        fragments = np.flatnonzero(side.fragments)
        numbers = np.full(len(side.words), -1)
        numbers[fragments] = np.arange(len(fragments))
        matches = np.zeros((len(fragments), other.places), dtype=bool)
        distinct: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for number, fragment in enumerate(fragments.tolist()):
            pair = fragment % N
            if pair not in distinct:
                distinct[pair] = np.unique(other.words[pair::N], return_inverse=True)
            words, inverse = distinct[pair]
            word = int(side.words[fragment])
            both = ((word, each) if side is self.table.reference else (each, word) for each in words.tolist())
            matches[number] = np.array([self.table.words.equal(*each) for each in both])[inverse]
        return numbers, matches

    def equal(self, references: np.ndarray, hypotheses: np.ndarray) -> np.ndarray:
        """Compare words of both sides, by their numbers: bool array of the same shape."""
        table = self.table
        equal = table.reference.classes.take(references) == table.hypothesis.classes.take(hypotheses)
        for numbers, matches, side, other in (
            (*self.reference_matches, references, hypotheses),
            (*self.hypothesis_matches, hypotheses, references),
        ):
            if len(matches):
                fragments = numbers.take(side)
                chosen = np.flatnonzero(fragments >= 0)
                equal[chosen] = matches[fragments[chosen], other[chosen] // table.N]
        return equal

    def fill(self, row: int, start: int, first: int, last: int, with_moves: bool) -> None:
        """Compute costs and moves as `_Table._fill` does."""
        table = self.table
        chosen = slice(self.reference_stops[first], self.reference_stops[last + 1])
        others = slice(self.hypothesis_stops[row - last], self.hypothesis_stops[row - first + 1])
        if chosen.start == chosen.stop and others.start == others.stop:
            return
        references = np.concatenate((self.references[chosen], row * table.N + self.beside_hypotheses[others]))
        hypotheses = np.concatenate((row * table.N + self.beside_references[chosen], self.hypotheses[others]))
        # Sums of each predecessor or the word itself on both sides, in this order: (branches + 1, branches + 1, cells).
        cells = self.reference_cells.take(references, axis=1)[:, None] + self.hypothesis_cells.take(hypotheses, axis=1)
        cells += (table.edge - start) * table.width
        found = table.costs.reshape(-1).take(cells)
        pairs, deletions, insertions = found[:-1, :-1].reshape(-1, len(references)), found[:-1, -1], found[-1, :-1]
        substitution = (~self.equal(references, hypotheses)) * SUBSTITUTION_COST
        if self.null_pairs:
            nulls = table.reference.nulls.take(references) & table.hypothesis.nulls.take(hypotheses)
            substitution[nulls] = NULL_PAIR_COST
        pair = pairs.min(axis=0) + substitution
        deletion = deletions.min(axis=0) + table.reference.costs.take(references)
        insertion = insertions.min(axis=0) + table.hypothesis.costs.take(hypotheses)
        single = np.minimum(deletion, insertion)
        here = cells[-1, -1]
        table.costs.reshape(-1)[here] = np.minimum(pair, single)
        if with_moves:
            # `argmin` finds the first of the cheapest predecessors.
            paired, deleted, inserted = (
                options.argmin(axis=0) * MOVES + move
                for move, options in ((PAIR, pairs), (DELETE, deletions), (INSERT, insertions))
            )
            moves = np.where(pair <= single, paired, np.where(deletion < insertion, deleted, inserted))
            table.moves.reshape(-1)[here - table.edge * table.width] = moves
