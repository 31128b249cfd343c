"""The first alignments of a flat start, by the simplest network: one linear layer on single frames.

A network that sees seconds of audio can learn any given times, and then finds them again: trained on its own alignments
from a uniform start, it places phones next to where they are spoken, and they stay there. A network that sees one frame
cannot do that. The linear layer needs no gradients either: with a Gaussian for each state and one shared within-state
covariance, its best weights follow from the states' frames (linear discriminant analysis). A few rounds of aligning and
estimating take seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from speechbrain.utils.logger import get_logger
from torch import Tensor, nn

from biglittle_asr.decoding.hmm import Aligner, AlignmentError, ContextStatistics, Lexicon, Tying
from biglittle_asr.decoding.hmm.alignment import viterbi
from biglittle_asr.decoding.hmm.tying import Integers, Reals
from biglittle_asr.models import HybridModel
from biglittle_asr.nnet.lengths import output_length
from biglittle_asr.tasks.hybrid.iterations import change

logger = get_logger(__name__)

SECONDS = 3600.0
"""Largest amount of audio for estimating the layer: it has few parameters, and the frames are kept in memory."""
MOST_TURNS = 20
LEAST_CHANGE = 1.0
"""Percent of the frames: the rounds end when fewer than this change their state."""


class EveryFrame(nn.Module):
    """A stand-in for an encoder: the features themselves, every `time_stride`-th frame.

    Example
    -------
    >>> frames, count = EveryFrame(2, time_stride=2).encode(torch.arange(10.0).view(1, 5, 2), torch.tensor([5]))
    >>> frames[0, :, 0].tolist(), count.tolist()
    ([0.0, 4.0, 8.0], [3])
    """

    def __init__(self, output_size: int, time_stride: int) -> None:
        super().__init__()
        self.output_size, self.time_stride = output_size, time_stride

    def output_lengths(self, frames: Any) -> Any:
        """Number of output frames for a number of input frames."""
        return output_length(frames, self.time_stride)

    def encode(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (B, T', D) and frames (B,) for features (B, T, D) and frames (B,)."""
        return features[:, :: self.time_stride], self.output_lengths(frames)


def linear_model(tying: Tying, features: int, time_stride: int) -> HybridModel:
    """Make a hybrid model without an encoder, for :func:`fit`."""
    encoder: Any = EveryFrame(features, time_stride)
    return HybridModel(encoder, tying.size)


@torch.no_grad()
def fit(
    model: HybridModel, lexicon: Lexicon, tying: Tying, words: Mapping[str, list[str]], vectors: Mapping[str, Reals]
) -> None:
    """Estimate the output layer's weights, from a uniform alignment; they stay random if no utterance can have one.

    Arguments
    ---------
    model : HybridModel
        A model of :func:`linear_model`; changed in place.
    lexicon : Lexicon
    tying : Tying
        A tying of states without context.
    words : mapping from ID to list of str
        Transcripts, all of whose words the lexicon has.
    vectors : mapping from ID to array
        (T', D) frames of each utterance.
    """
    aligner = Aligner(lexicon, tying)
    states: dict[str, Integers] = {}
    for name, frames in vectors.items():
        try:
            states[name] = aligner.uniform(words[name], len(frames)).states
        except AlignmentError:
            continue
    if not states:
        return
    graphs = {name: aligner.graph(words[name]) for name in states}
    for turn in range(1, MOST_TURNS + 1):
        statistics = ContextStatistics(tying, model.encoder.output_size)
        for name, path in states.items():
            statistics.add(tying.outputs[path], vectors[name])
        weight, bias = discriminant(statistics, tying.size)
        found: dict[str, Integers] = {}
        score = 0.0
        for name, graph in graphs.items():
            likelihoods = (vectors[name] @ weight.T + bias).astype(np.float32)
            path, mean = viterbi(graph, likelihoods[:, tying.outputs[graph.states]])
            found[name] = graph.states[path]
            score += mean * len(path)
        changed = change(tying, states, found)
        score /= sum(map(len, found.values()))
        logger.info(
            f"linear start, turn {turn}: {changed:.2f} % of the frames changed, log-likelihood {score:.3f} a frame"
        )
        states = found
        if changed < LEAST_CHANGE:
            break
    model.output.weight.copy_(torch.from_numpy(weight))
    model.output.bias.copy_(torch.from_numpy(bias))


def discriminant(statistics: ContextStatistics, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute a linear layer that gives Gaussian log-likelihoods, up to a term that all states share: (V, D) and (V,).

    With means m and within-state covariance W, the log-likelihood of x is x W^-1 m - m W^-1 m / 2 plus a term that does
    not depend on the state (Fisher's linear discriminant). A state that was never seen gets the lowest possible bias.

    Arguments
    ---------
    statistics : ContextStatistics
        Statistics of the outputs.
    size : int
        Number of outputs V.

    Example
    -------
    >>> from biglittle_asr.decoding.hmm import monophones
    >>> statistics = ContextStatistics(monophones(("SIL", "A"), 1, 1), dimension=1)
    >>> statistics.add(np.array([0, 0, 1, 1]), np.array([[-1.0], [1.0], [3.0], [5.0]]))
    >>> weight, bias = discriminant(statistics, size=2)
    >>> weight.tolist(), bias.tolist()          # means 0 and 4, variance 1: as likely at 2
    ([[0.0], [4.0]], [-0.0, -8.0])
    """
    seen, _, means, within = statistics.gaussians()
    weight, bias = np.zeros((size, means.shape[1])), np.zeros(size)
    weight[seen] = np.linalg.solve(within, means.T).T
    bias[seen] = -(weight[seen] * means).sum(1) / 2
    unseen = np.setdiff1d(np.arange(size), seen)
    bias[unseen] = bias[seen].min()
    return weight, bias
