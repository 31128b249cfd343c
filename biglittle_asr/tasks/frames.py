"""What CTC and hybrid systems share: a model that says something of every frame by itself, and views that agree."""

from __future__ import annotations

from typing import Any

import speechbrain as sb
from torch import Tensor, nn

from biglittle_asr.nnet.lengths import valid_mask
from biglittle_asr.tasks.recognition import RecognitionBrain


class FrameBrain(RecognitionBrain):
    """Trains a model that gives log-probabilities of each frame.

    With a `consistency_weight` above 0, two views of each utterance, augmented apart, are trained on together, and what
    the network says of their frames is drawn together: see :func:`consistency_loss`.
    """

    def forward_model(self, features: Tensor, frames: Tensor, tokens: Tensor, num_tokens: Tensor) -> Any:
        """Log-probabilities (B, T', V), and (B,) integer frames."""
        return self.modules.model(features, frames)

    def views(self, stage: sb.Stage) -> int:
        """Two in training, if they are to be consistent."""
        return 2 if stage == sb.Stage.TRAIN and self.hparams.consistency_weight > 0 else 1

    def penalty(self, predictions: Any) -> Tensor | None:
        """What the views of an utterance differ by."""
        log_probs, frames = predictions
        weight = self.hparams.consistency_weight
        return weight * consistency_loss(log_probs, frames) if weight > 0 else None


def consistency_loss(log_probs: Tensor, frames: Tensor) -> Tensor:
    """How far the posteriors of two views of the same utterances lie apart.

    Each view is drawn towards the other, which is held fast: sum over valid frames of KL(second || first) and
    KL(first || second) (Yao et al. 2025, "CR-CTC: Consistency regularization on CTC for improved speech recognition",
    section 3.2).

    Arguments
    ---------
    log_probs : Tensor
        (2B, T', V), the second views behind the first.
    frames : Tensor
        (2B,) integer valid frames.

    Returns
    -------
    Tensor
        Scalar, in nats.

    Example
    -------
    >>> import torch
    >>> log_probs = torch.tensor([[[0.5, 0.5]], [[0.9, 0.1]]]).log()
    >>> round(consistency_loss(log_probs, torch.tensor([1, 1])).item(), 4)
    0.8789
    >>> consistency_loss(log_probs[[0, 0]], torch.tensor([1, 1])).item()
    0.0
    """
    first, second = log_probs.chunk(2)
    valid = valid_mask(frames[: len(first)], first.shape[1]).unsqueeze(-1)
    apart = _divergence(first, second.detach()) + _divergence(second, first.detach())
    return apart.masked_fill(~valid, 0.0).sum()


def _divergence(log_probs: Tensor, target: Tensor) -> Tensor:
    return nn.functional.kl_div(log_probs, target, reduction="none", log_target=True)
