"""Tied states: decision trees over what stands left and right of a phone (Young, Odell & Woodland 1994).

The statistics are those of a network's own output, of one that knows states without context: each frame is the vector
of D numbers that comes out of its encoder. Kept are the mean vector of each state in context, and one covariance
within all of these. With Gaussians of this shared covariance, what a split gains in log-likelihood is, once the vectors
are whitened by it,

    (n1 |m1 - m|^2 + n2 |m2 - m|^2) / 2

for n1 and n2 frames of means m1 and m2 on its sides, and m of both together. There is a tree for every position of
every phone but silence; the best split of all trees is made first, until there are as many leaves as asked for.

Questions are about the left or the right neighbor: is it one of this set of phones? The sets are found by clustering
the phones' mean vectors from the bottom up, two clusters at a time, those whose merging loses least (Ward 1963).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from biglittle_asr.decoding.hmm.tying import NO_STATE, Integers, Tying

Vectors = npt.NDArray[np.float64]
_Cluster = tuple[npt.NDArray[np.bool_], float, Vectors]
"""Which phones, how many frames, and the sum of their vectors."""

SHRINKAGE = 0.01
"""The covariance is drawn towards a multiple of the identity by this part, so that it can be inverted."""


class ContextStatistics:
    """Counts and means of the vectors of each state in context, added up utterance by utterance.

    Arguments
    ---------
    tying : Tying
        Says which states there are.
    dimension : int
        Numbers D of a vector.
    """

    def __init__(self, tying: Tying, dimension: int) -> None:
        self.tying = tying
        self.rows: dict[int, int] = {}
        self.counts = np.zeros(0)
        self.sums = np.zeros((0, dimension))
        self.squares = np.zeros((dimension, dimension))

    def add(self, states: Integers, vectors: npt.NDArray[Any]) -> None:
        """Add the frames of an utterance: (T,) states in context and (T, D) vectors."""
        order = np.argsort(states, kind="stable")
        unique, starts, counts = np.unique(states[order], return_index=True, return_counts=True)
        for state in unique.tolist():
            self.rows.setdefault(state, len(self.rows))
        missing = len(self.rows) - len(self.counts)
        if missing > 0:
            # At least doubled, so that a large corpus is not copied at every utterance.
            missing = max(missing, len(self.counts))
            self.counts = np.concatenate([self.counts, np.zeros(missing)])
            self.sums = np.concatenate([self.sums, np.zeros((missing, self.sums.shape[1]))])
        rows = [self.rows[state] for state in unique.tolist()]
        vectors = vectors.astype(np.float64)
        self.counts[rows] += counts
        self.sums[rows] += np.add.reduceat(vectors[order], starts)
        self.squares += vectors.T @ vectors

    def whitened(self) -> tuple[Integers, Vectors, Vectors]:
        """States in context, sorted; their counts; and (states, D) sums of vectors that are whitened within states.

        Raises as :meth:`gaussians`.
        """
        states, counts, means, within = self.gaussians()
        factor = np.linalg.cholesky(within)
        return states, counts, np.linalg.solve(factor, (means * counts[:, None]).T).T

    def gaussians(self) -> tuple[Integers, Vectors, Vectors, Vectors]:
        """States, sorted; their counts; their (states, D) means; and the (D, D) covariance within all of them.

        Raises
        ------
        ValueError
            If nothing was added.
        """
        if not self.rows:
            raise ValueError("no utterance could be aligned, so there is nothing to tie states by; train longer first.")
        order = sorted(self.rows)
        index = [self.rows[state] for state in order]
        counts, sums = self.counts[index], self.sums[index]
        means = sums / counts[:, None]
        within = (self.squares - means.T @ sums) / counts.sum()
        dimension = len(within)
        level = max(float(np.trace(within)) / dimension, 1e-10)
        within = (1 - SHRINKAGE) * within + SHRINKAGE * level * np.eye(dimension)
        return np.array(order, np.int32), counts, means, within


def grow_tying(statistics: ContextStatistics, size: int, min_frames: int = 100) -> Tying:
    """Tie the states of all phones by decision trees.

    Arguments
    ---------
    statistics : ContextStatistics
    size : int
        Tied states at most, those of silence included.
    min_frames : int
        Frames that each must have been seen in.

    Returns
    -------
    Tying
        Every context has its states, seen or not. The same statistics give the same.

    Raises
    ------
    ValueError
        If `size` is smaller than the number of states without context.
    """
    tying = statistics.tying
    num_phones = len(tying.phones)
    states, counts, sums = statistics.whitened()
    phone, position, left, right = np.unravel_index(states, tying.table.shape)
    questions = _questions(phone, counts, sums, num_phones)
    table = np.full_like(tying.table, NO_STATE)
    table[0] = tying.table[0]
    roots = [(each, place) for each in range(1, num_phones) for place in range(tying.num_states(each))]
    leaves: list[_Leaf] = []
    silences = tying.num_states(0)
    if size < silences + len(roots):
        raise ValueError(
            f"tied_states: is {size}, but without context there are {silences + len(roots)} states already."
        )
    for each, place in roots:
        seen = np.flatnonzero((phone == each) & (position == place))
        everywhere = np.ones((num_phones, num_phones), np.bool_)
        leaves.append(_Leaf(each, place, everywhere, left[seen], right[seen], counts[seen], sums[seen]))
    best = [
        (-split[0], index, split) for index, leaf in enumerate(leaves) if (split := leaf.split(questions, min_frames))
    ]
    heapq.heapify(best)
    while best and silences + len(leaves) < size:
        gain, index, split = heapq.heappop(best)
        if -gain <= 0:
            break
        halves = leaves[index].halves(*split[1:], questions)
        leaves[index] = halves[0]
        leaves.append(halves[1])
        for each in (index, len(leaves) - 1):
            further = leaves[each].split(questions, min_frames)
            if further:
                heapq.heappush(best, (-further[0], each, further))
    # Numbered by phone and position, so that neighbors in the output layer are neighbors in speech.
    order = sorted(range(len(leaves)), key=lambda index: (leaves[index].phone, leaves[index].position, index))
    for output, index in enumerate(order, start=silences):
        leaf = leaves[index]
        table[leaf.phone, leaf.position][leaf.contexts] = output
    return Tying(tying.phones, table)


def _questions(phone: Any, counts: Vectors, sums: Vectors, num_phones: int) -> npt.NDArray[np.bool_]:
    """(Q, phones) sets of phones: each phone alone, and the clusters of the phones' means but the one of all."""
    by_phone = np.zeros((num_phones, sums.shape[1]))
    frames = np.zeros(num_phones)
    np.add.at(by_phone, phone, sums)
    np.add.at(frames, phone, counts)
    clusters: dict[int, _Cluster] = {}
    for each in range(num_phones):
        members = np.zeros(num_phones, np.bool_)
        members[each] = True
        clusters[each] = (members, frames[each], by_phone[each])
    sets = [members for members, _, _ in clusters.values()]
    while len(clusters) > 2:
        pair = min(combinations(sorted(clusters), 2), key=lambda pair: _loss(clusters[pair[0]], clusters[pair[1]]))
        (members1, n1, s1), (members2, n2, s2) = (clusters.pop(each) for each in pair)
        # The number of the first stands for both.
        clusters[pair[0]] = (members1 | members2, n1 + n2, s1 + s2)
        sets.append(members1 | members2)
    return np.array(sets)


def _loss(first: _Cluster, second: _Cluster) -> float:
    """What merging two clusters loses in log-likelihood; a phone that was never seen joins at no cost."""
    (_, n1, s1), (_, n2, s2) = first, second
    if not n1 or not n2:
        return 0.0
    return float(n1 * n2 / (n1 + n2) * np.square(s1 / n1 - s2 / n2).sum() / 2)


@dataclass(frozen=True, eq=False)
class _Leaf:
    """A tied state that may still be split."""

    phone: int
    position: int
    contexts: npt.NDArray[np.bool_]
    """(phones, phones) left and right neighbors that lead here."""
    left: Any
    right: Any
    counts: Vectors
    """Of the states in context that were seen here, whose neighbors `left` and `right` are."""
    sums: Vectors

    def split(self, questions: npt.NDArray[np.bool_], min_frames: int) -> tuple[float, int, int] | None:
        """The best split: gain, side (0 left, 1 right), question; None if none leaves both sides enough frames."""
        total, whole = self.counts.sum(), self.sums.sum(0)
        best = None
        for side, neighbors in enumerate((self.left, self.right)):
            yes = questions[:, neighbors].astype(np.float64)
            n1 = yes @ self.counts
            n2 = total - n1
            allowed = (n1 >= min_frames) & (n2 >= min_frames) & (n1 > 0) & (n2 > 0)
            if not allowed.any():
                continue
            s1 = yes[allowed] @ self.sums
            s2 = whole - s1
            gains = np.square(s1).sum(1) / n1[allowed] + np.square(s2).sum(1) / n2[allowed]
            gain = float(gains.max() - np.square(whole).sum() / total) / 2
            if best is None or gain > best[0]:
                best = (gain, side, int(np.flatnonzero(allowed)[gains.argmax()]))
        return best

    def halves(self, side: int, question: int, questions: npt.NDArray[np.bool_]) -> tuple[_Leaf, _Leaf]:
        """The leaves of a split, the one that says yes first."""
        members = questions[question]
        seen = members[(self.left, self.right)[side]]
        where = members[:, None] if side == 0 else members[None, :]
        first, second = (
            _Leaf(
                self.phone,
                self.position,
                self.contexts & (where == answer),
                self.left[seen == answer],
                self.right[seen == answer],
                self.counts[seen == answer],
                self.sums[seen == answer],
            )
            for answer in (True, False)
        )
        return first, second
