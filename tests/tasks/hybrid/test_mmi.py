"""Maximum mutual information: sums over all paths of a graph by brute force, whatever they are batched with."""

from __future__ import annotations

import math

import kaldifst
import numpy as np
import pytest
import torch

from biglittle_asr.decoding.hmm import Aligner
from biglittle_asr.decoding.hmm.graph import Arcs, Graph
from biglittle_asr.tasks.hybrid.mmi import Denominator, mmi_loss
from support.model_folders import LEXICON, spelled

LINES = ["0 1 1 1 0.3", "1 1 1 0 0.1", "1 2 0 0 0.7", "2 3 2 1 0.2", "3 3 2 0 0.4", "3 2 0 0 0.9", "2 1 1 1 0.5"]
TEXT = "\n".join([*LINES, "1 0.6", "2 0.8", "3 0.25", ""])
"""A graph of two outputs, with arcs that take no frame."""


def small() -> Denominator:
    return Denominator(Graph(kaldifst.compile(TEXT), ("", "A")), size=2)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def brute_force(scores: torch.Tensor) -> float:
    """The sum over all sequences of arcs that take every frame."""
    arcs = Arcs.of(kaldifst.compile(TEXT))
    frames, total = len(scores), 0.0

    def walk(state: int, frame: int, score: float) -> None:
        nonlocal total
        if frame == frames and state in arcs.final:
            total += math.exp(score - arcs.final[state])
        for index in np.flatnonzero(arcs.sources == state):
            label = int(arcs.inputs[index])
            if label and frame == frames:
                continue
            gained = float(scores[frame, label - 1]) if label else 0.0
            walk(int(arcs.targets[index]), frame + bool(label), score + gained - float(arcs.costs[index]))

    walk(arcs.start, 0, 0.0)
    return math.log(total)


@pytest.mark.parametrize("frames", [1, 2, 3, 6])
def test_the_sum_is_that_of_all_paths(frames: int) -> None:
    scores = random(frames, 2, seed=frames)
    found = small().log_sum(scores.unsqueeze(0), torch.tensor([frames]))
    assert found.item() == pytest.approx(brute_force(scores), rel=1e-9)


def test_the_gradient_is_how_probable_outputs_are() -> None:
    denominator, scores, frames = small(), random(3, 5, 2).requires_grad_(), torch.tensor([5, 1, 3])
    assert torch.autograd.gradcheck(lambda x: denominator.log_sum(x, frames), scores)
    denominator.log_sum(scores, frames).sum().backward()
    assert scores.grad is not None
    valid = torch.arange(5) < frames.unsqueeze(1)
    torch.testing.assert_close(scores.grad.sum(2), valid.double())


def test_nothing_depends_on_the_batch_or_on_the_height_of_scores() -> None:
    graph, tying = spelled()
    denominator, frames = Denominator(graph, tying.size), torch.tensor([30, 4, 17])
    scores = 20 * random(3, 30, tying.size)
    together = denominator.log_sum(scores, frames)
    for row, count in enumerate(frames.tolist()):
        alone = denominator.log_sum(scores[row : row + 1, :count], frames[row : row + 1])
        assert alone.item() == pytest.approx(together[row].item(), rel=1e-9)
    torch.testing.assert_close(denominator.log_sum(scores + 1000, frames), together + 1000.0 * frames)


def test_what_was_said_is_never_more_than_everything() -> None:
    """The loss, with the cost of its words, is above 0, and near it where the network is sure."""
    graph, tying = spelled()
    aligner, words = Aligner(LEXICON, tying), ["BAD", "FADE", "A"]
    states = aligner.uniform(words, 40).states
    targets = torch.from_numpy(tying.outputs[states]).long().unsqueeze(0)
    denominator, frames, cost = Denominator(graph, tying.size), torch.tensor([40]), 5 * math.log(10) + 5
    losses = []
    for height in (0.0, 5.0, 50.0):
        likelihoods = height * torch.nn.functional.one_hot(targets, tying.size).double()
        losses.append(mmi_loss(likelihoods, targets, frames, denominator, lm_weight=1.0).item())
    assert losses[0] > losses[1] > losses[2] and 0 <= losses[2] + cost < 20
    # Twice the weight of the language model is half of the likelihoods.
    doubled = mmi_loss(2 * likelihoods, targets, frames, denominator, lm_weight=2.0).item()
    assert doubled == pytest.approx(2 * losses[2])


def test_impossible_lengths_give_no_number_that_is_not_finite() -> None:
    fst = kaldifst.compile("0 1 1 1 0.0\n1 2 1 0 0.0\n2 0.0\n")
    found = Denominator(Graph(fst, ("", "A")), size=1).log_sum(torch.zeros(1, 5, 1), torch.tensor([5]))
    assert torch.isfinite(found).all() and found.item() < -500


@pytest.mark.parametrize(
    "text, message",
    [("0 1 1 1 0.0\n0 1 2 1 0.0\n1 0.0\n", "entered with several labels"), ("0 1 0 0 0\n1 0 0 0 0\n1 0.0\n", "cycles")],
)
def test_graphs_without_such_a_sum_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Denominator(Graph(kaldifst.compile(text), ("", "A")), size=2)
