"""Maximum mutual information: the transcript against all competing word sequences of the decoding graph.

The denominator is an exact sum over all paths of the graph, without lattices, so the graph must be small: as is usual,
it has a unigram language model, whatever the decoder uses.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from biglittle_asr.decoding.hmm.graph import EPSILON, Arcs, Graph


class Denominator:
    r"""The sum over all paths of a graph.

    It is computed by the forward-backward algorithm, as in Povey et al. 2016, "Purely sequence-trained neural networks
    for ASR based on lattice-free MMI", section 2.2, which uses a graph of phones.

    Arguments
    ---------
    graph : Graph
        Each state must have one label on all arcs that enter it, as in graphs of
        :func:`~biglittle_asr.decoding.hmm.graph.build_graph`.
    size : int
        Number of the network's outputs V.

    Raises
    ------
    ValueError
        If arcs with different labels enter one state, or there are cycles without frames.

    Example
    -------
    >>> import kaldifst
    >>> fst = kaldifst.compile("0 1 1 1 0.0\n1 1 1 0 0.0\n1 2 2 0 0.0\n2 2 2 0 0.0\n1 0.0\n2 0.0\n")
    >>> denominator = Denominator(Graph(fst, ("", "A")), size=2)
    >>> scores = torch.tensor([[[0.5, 0.5], [0.2, 0.8]]]).log()
    >>> denominator.log_sum(scores, torch.tensor([2])).exp()      # 0.5 * 0.2 + 0.5 * 0.8
    tensor([0.5000])
    """

    def __init__(self, graph: Graph, size: int) -> None:
        arcs = Arcs.of(graph.fst)
        self.states, self.size = graph.num_states, size
        labels = np.zeros(self.states, np.int64)
        labels[arcs.targets] = arcs.inputs
        if (labels[arcs.targets] != arcs.inputs).any():
            raise ValueError("the graph has states that are entered with several labels; build it with build_graph.")
        # States that consume a frame come first, so that they are a slice.
        order = np.argsort(labels == EPSILON, kind="stable")
        number = np.argsort(order)
        self._outputs = torch.from_numpy(labels[order][labels[order] != EPSILON] - 1)
        self._start = int(number[arcs.start])
        places = np.stack([number[arcs.targets], number[arcs.sources]])
        spoken = arcs.inputs != EPSILON
        # The indices come from a graph with numbered states; torch warns unless it is told whether to check them.
        with torch.sparse.check_sparse_tensor_invariants(True):
            self._spoken = self._matrix(places, arcs.costs, np.flatnonzero(spoken))
            self._spoken_back = self._spoken.t().coalesce()
            self._silent = [self._matrix(places, arcs.costs, level) for level in arcs.silent_levels()]
            self._silent_back = [each.t().coalesce() for each in reversed(self._silent)]
        self._final = torch.zeros(self.states, 1, dtype=torch.float64)
        self._final[number[list(arcs.final)], 0] = (
            torch.tensor(list(arcs.final.values()), dtype=torch.float64).neg().exp()
        )

    def log_sum(self, scores: Tensor, frames: Tensor) -> Tensor:
        """Log of the sum, over all paths, of exp(scores of the path's frames minus its costs).

        Arguments
        ---------
        scores : Tensor
            (B, T, V).
        frames : Tensor
            (B,) integer frames of each utterance.

        Returns
        -------
        Tensor
            (B,); its gradient with respect to an utterance's scores is the posterior of each output at each frame.
        """
        sums: Tensor = _LogSum.apply(scores, frames, self)
        return sums

    def forward_backward(self, scores: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The sums (B,) and the posteriors (B, T, V) of outputs per frame, in double precision on the CPU."""
        scores, frames = scores.double().cpu(), frames.cpu()
        batch, longest, _ = scores.shape
        highest = scores.amax(2)
        emissions = (scores - highest.unsqueeze(2)).exp().index_select(2, self._outputs).permute(1, 2, 0).contiguous()
        inside = torch.arange(longest).unsqueeze(1) < frames
        scale = torch.ones(longest, batch, dtype=torch.float64)
        occupied = torch.zeros_like(emissions)
        alpha = torch.zeros(self.states, batch, dtype=torch.float64)
        alpha[self._start] = 1.0
        alpha = self._close(alpha)
        for frame in range(longest):
            entered = (self._spoken @ alpha)[: len(self._outputs)] * emissions[frame]
            scale[frame] = entered.sum(0).clamp(min=TINY)
            occupied[frame] = entered / scale[frame]
            alpha = torch.where(inside[frame], self._close(self._beside_others(occupied[frame])), alpha)
        ends = (self._final * alpha).sum(0).clamp(min=TINY)
        sums = ends.log() + ((scale.log() + highest.T) * inside).sum(0)
        self._walk_back(emissions / scale.unsqueeze(1), inside, ends, occupied)
        found = torch.zeros(self.size, longest * batch, dtype=torch.float64)
        found.index_add_(0, self._outputs, occupied.transpose(0, 1).flatten(1))
        return sums, found.view(self.size, longest, batch).permute(2, 1, 0)

    def _walk_back(self, emissions: Tensor, inside: Tensor, ends: Tensor, occupied: Tensor) -> None:
        """Turn the states' probabilities given past frames into those given all frames, in place."""
        longest, spoken, batch = emissions.shape
        last = self._open(self._final.expand(-1, batch)) / ends
        beta = torch.zeros_like(last)
        for frame in range(longest - 1, -1, -1):
            ending = inside[frame] if frame + 1 == longest else inside[frame] & ~inside[frame + 1]
            beta = torch.where(ending, last, beta)
            occupied[frame] *= beta[:spoken]
            beta = self._open(self._spoken_back @ self._beside_others(beta[:spoken] * emissions[frame]))

    def _beside_others(self, spoken: Tensor) -> Tensor:
        """Extend a vector of frame-consuming states to all states, with zeros for the others."""
        return torch.nn.functional.pad(spoken, (0, 0, 0, self.states - len(spoken)))

    def _close(self, alpha: Tensor) -> Tensor:
        """Propagate along arcs without frames."""
        for level in self._silent:
            alpha = alpha + level @ alpha
        return alpha

    def _open(self, beta: Tensor) -> Tensor:
        """Propagate backwards along arcs without frames."""
        for level in self._silent_back:
            beta = beta + level @ beta
        return beta

    def _matrix(self, places: np.ndarray, costs: np.ndarray, chosen: np.ndarray) -> Tensor:
        """(states, states) matrix of the chosen arcs: sources in columns, targets in rows."""
        where, weights = torch.from_numpy(places[:, chosen]), torch.from_numpy(np.exp(-costs[chosen]))
        shape = (self.states, self.states)
        return torch.sparse_coo_tensor(where, weights, shape).coalesce()


TINY = 1e-300
"""Replaces zero where no path fits."""


class _LogSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, frames: Tensor, denominator: Denominator) -> Tensor:
        sums, found = denominator.forward_backward(scores, frames)
        ctx.save_for_backward(found.to(scores))
        return sums.to(scores)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (found,) = ctx.saved_tensors
        return grads[0][:, None, None] * found, None, None


def mmi_loss(
    log_likelihoods: Tensor, targets: Tensor, num_targets: Tensor, denominator: Denominator, lm_weight: float
) -> Tensor:
    """Log-likelihood of all competing paths minus that of the aligned states, without the cost of their words.

    Arguments
    ---------
    log_likelihoods : Tensor
        (B, T, V).
    targets : Tensor
        (B, U) state of each frame, padded.
    num_targets : Tensor
        (B,) integer frames; all of them have a state.
    denominator : Denominator
    lm_weight : float
        Weight of the graph's costs in a search: likelihoods are divided by it. The loss is multiplied by it, so that
        its gradient has the scale of the cross-entropy's.

    Returns
    -------
    Tensor
        (B,) in nats.
    """
    scores = log_likelihoods[:, : targets.shape[1]] / lm_weight
    valid = torch.arange(targets.shape[1], device=targets.device) < num_targets.unsqueeze(1)
    said = scores.gather(2, targets.unsqueeze(2)).squeeze(2).masked_fill(~valid, 0.0).sum(1)
    return lm_weight * (denominator.log_sum(scores, num_targets) - said)
