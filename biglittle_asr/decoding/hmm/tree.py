"""State tying by decision trees over the neighbors of a phone (Young, Odell & Woodland 1994).

The statistics come from a network trained on states without context. Each frame is the vector of D numbers from its
encoder. The mean vector of each state in context is kept, and one within-state covariance shared by all states. For
Gaussians with this covariance, and vectors whitened by it, a split increases the log-likelihood by

    (n1 |m1 - m|^2 + n2 |m2 - m|^2) / 2

where the two sides have n1 and n2 frames with means m1 and m2, and m is the mean of both together. Every position of
every phone except silence has a tree. The best split among all trees is made first, until there are enough leaves.

A question asks whether the left or the right neighbor is in a set of phones. The sets come from bottom-up clustering of
the phones' mean vectors, which merges the two clusters that lose least (Ward 1963).
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
"""Phones of a cluster, number of frames, and sum of their vectors."""

SHRINKAGE = 0.01
"""Fraction by which the covariance is shrunk towards a multiple of the identity, so that it can be inverted."""


class ContextStatistics:
    """Counts and sums of vectors of each state in context, accumulated utterance by utterance.

    Arguments
    ---------
    tying : Tying
        Defines the states.
    dimension : int
        Dimension D of a vector.
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
            # At least double the size, so that a large corpus is not copied at every utterance.
            missing = max(missing, len(self.counts))
            self.counts = np.concatenate([self.counts, np.zeros(missing)])
            self.sums = np.concatenate([self.sums, np.zeros((missing, self.sums.shape[1]))])
        rows = [self.rows[state] for state in unique.tolist()]
        vectors = vectors.astype(np.float64)
        self.counts[rows] += counts
        self.sums[rows] += np.add.reduceat(vectors[order], starts)
        self.squares += vectors.T @ vectors

    def whitened(self) -> tuple[Integers, Vectors, Vectors]:
        """Return sorted states in context, their counts, and their (states, D) sums of whitened vectors.

        Raises the errors of :meth:`gaussians`.
        """
        states, counts, means, within = self.gaussians()
        factor = np.linalg.cholesky(within)
        return states, counts, np.linalg.solve(factor, (means * counts[:, None]).T).T

    def gaussians(self) -> tuple[Integers, Vectors, Vectors, Vectors]:
        """Return sorted states, their counts, their (states, D) means, and the (D, D) within-state covariance.

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
        Largest number of tied states, including those of silence.
    min_frames : int
        Smallest number of frames of a tied state.

    Returns
    -------
    Tying
        Tied states for all contexts, including unseen ones. The same statistics give the same result.

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
    # Number outputs by phone and position, so that neighbors in the output layer are neighbors in speech.
    order = sorted(range(len(leaves)), key=lambda index: (leaves[index].phone, leaves[index].position, index))
    for output, index in enumerate(order, start=silences):
        leaf = leaves[index]
        table[leaf.phone, leaf.position][leaf.contexts] = output
    return Tying(tying.phones, table)


def _questions(phone: Any, counts: Vectors, sums: Vectors, num_phones: int) -> npt.NDArray[np.bool_]:
    """Make (Q, phones) sets of phones: each phone alone, and all clusters of phone means except that of all phones."""
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
        # The merged cluster keeps the first cluster's number.
        clusters[pair[0]] = (members1 | members2, n1 + n2, s1 + s2)
        sets.append(members1 | members2)
    return np.array(sets)


def _loss(first: _Cluster, second: _Cluster) -> float:
    """Log-likelihood lost by merging two clusters; a phone without frames merges at no cost."""
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
    """(phones, phones) left and right neighbors that belong to this leaf."""
    left: Any
    right: Any
    counts: Vectors
    """Counts of the leaf's observed states in context, whose neighbors are `left` and `right`."""
    sums: Vectors

    def split(self, questions: npt.NDArray[np.bool_], min_frames: int) -> tuple[float, int, int] | None:
        """Find the best split: gain, side (0 left, 1 right), question; None if no split leaves enough frames."""
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
        """Split the leaf in two; the half that answers yes comes first."""
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
