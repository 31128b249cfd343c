"""CTC: its loss, and the Brain that trains a model with it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import speechbrain as sb
from torch import Tensor, nn

from biglittle_asr.decoding import BeamSearch, ctc_greedy, read_settings
from biglittle_asr.models import CTCModel
from biglittle_asr.nnet.lengths import valid_mask
from biglittle_asr.tasks.speech.brain import RecognitionBrain, check_tokens
from biglittle_asr.tokens.tokenizer import BLANK, Tokenizer


class CTCBrain(RecognitionBrain):
    """Trains and evaluates a :class:`CTCModel`; see :class:`RecognitionBrain`.

    The final scores use a beam search if the recipe's `decoding` names a settings file, and greedy decoding otherwise.
    """

    loss_name: ClassVar[str] = "CTC loss (nats per token)"
    model: CTCModel

    def __init__(self, model: CTCModel, tokenizer: Tokenizer, hparams: dict[str, Any], run_opts: Any = None) -> None:
        file = hparams.get("decoding")
        if file:
            self.decoding_settings = read_settings(file)
            self.decoding = f"Beam search with the settings of {Path(file).name}."
            # Made once before the training, so that faulty settings files are found now rather than at its end.
            BeamSearch(tokenizer, self.decoding_settings)
        super().__init__(model, tokenizer, hparams, run_opts)

    def forward_model(self, features: Tensor, frames: Tensor, tokens: Tensor, num_tokens: Tensor) -> Any:
        """Log-probabilities (B, T', V), and (B,) integer frames."""
        return self.modules.model(features, frames)

    def losses(self, predictions: Any, tokens: Tensor, num_tokens: Tensor, stage: sb.Stage) -> tuple[Tensor, Tensor]:
        """See :func:`ctc_loss`."""
        log_probs, frames = predictions
        return ctc_loss(log_probs, frames, tokens, num_tokens)

    def views(self, stage: sb.Stage) -> int:
        """Two views in training with the consistency loss, and one otherwise."""
        return 2 if stage == sb.Stage.TRAIN and self.hparams.consistency_weight > 0 else 1

    def penalty(self, predictions: Any) -> Tensor | None:
        """The consistency loss between the views of an utterance."""
        log_probs, frames = predictions
        weight = self.hparams.consistency_weight
        return weight * consistency_loss(log_probs, frames) if weight > 0 else None

    def frames_needed(self, tokens: Sequence[int]) -> int:
        """See :func:`frames_needed`."""
        return frames_needed(tokens)

    def decode(self, predictions: Any) -> list[list[int]]:
        """Decode greedily."""
        log_probs, frames = predictions
        return ctc_greedy(log_probs, frames, BLANK)


def frames_needed(tokens: Sequence[int]) -> int:
    """Fewest frames in which CTC can emit the tokens: one each, and a blank between equal neighbors.

    Example
    -------
    >>> frames_needed([3, 3, 4])
    4
    """
    return len(tokens) + sum(first == second for first, second in zip(tokens, tokens[1:], strict=False))


def ctc_loss(log_probs: Tensor, frames: Tensor, tokens: Tensor, num_tokens: Tensor) -> tuple[Tensor, Tensor]:
    """CTC loss of each utterance whose target fits its frames.

    Arguments
    ---------
    log_probs : Tensor
        (B, T', V).
    frames : Tensor
        (B,) integer valid frames.
    tokens : Tensor
        (B, U) token indices, padded.
    num_tokens : Tensor
        (B,) integer tokens.

    Returns
    -------
    losses : Tensor
        Negative log-likelihood in nats of the utterances that fit, in their order.
    fits : Tensor
        (B,) bool mask of these utterances. The others have no finite loss: torch would give them a NaN gradient, or,
        with its `zero_infinity`, silently a zero gradient.

    Raises
    ------
    ValueError
        If a token is not in the output layer: torch would return a finite wrong loss.

    Example
    -------
    >>> import torch
    >>> log_probs = torch.full((2, 3, 4), 0.25).log()
    >>> losses, fits = ctc_loss(log_probs, torch.tensor([3, 2]), torch.tensor([[1, 2], [3, 3]]), torch.tensor([2, 2]))
    >>> fits.tolist()
    [True, False]
    """
    check_tokens(tokens, num_tokens, log_probs.shape[2])
    valid = valid_mask(num_tokens, tokens.shape[1])
    repeats = (tokens[:, 1:] == tokens[:, :-1]) & valid[:, 1:]
    fits = frames >= num_tokens + repeats.sum(dim=1)
    losses = nn.functional.ctc_loss(
        log_probs[fits].transpose(0, 1),
        tokens[fits],
        frames[fits],
        num_tokens[fits],
        blank=BLANK,
        reduction="none",
    )
    return losses, fits


def consistency_loss(log_probs: Tensor, frames: Tensor) -> Tensor:
    """Divergence between the posteriors of two views of the same utterances.

    Each view is trained towards the other, which is detached: the sum over valid frames of KL(second || first) and
    KL(first || second) (Yao et al. 2025, "CR-CTC: Consistency regularization on CTC for improved speech recognition",
    section 3.2).

    Arguments
    ---------
    log_probs : Tensor
        (2B, T', V), the second views after the first.
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
