"""Attention encoder-decoder with CTC: its loss, and the Brain that trains it."""

from collections.abc import Sequence
from typing import Any, ClassVar

import speechbrain as sb
from torch import Tensor, nn

from biglittle_asr.decoding.attention import AttentionSearcher, AttentionSettings
from biglittle_asr.models import AttentionModel
from biglittle_asr.nnet.lengths import valid_mask
from biglittle_asr.recipe.yaml import RecipeError
from biglittle_asr.tasks.speech.brain import RecognitionBrain
from biglittle_asr.tasks.speech.ctc import ctc_loss, frames_needed


class AttentionBrain(RecognitionBrain):
    """Trains and evaluates an :class:`AttentionModel`; see :class:`RecognitionBrain`.

    The loss of an utterance is `ctc_weight` times the CTC loss plus (1 - `ctc_weight`) times the loss of the decoder,
    which is given the true tokens (Kim et al. 2017, "Joint CTC-attention based end-to-end speech recognition").
    Utterances whose target does not fit CTC are left out altogether.
    """

    loss_name: ClassVar[str] = "loss (nats per token)"
    model: AttentionModel

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        options = self.hparams.search_options
        try:
            self.search_settings = AttentionSettings(
                self.hparams.test_beam_size, self.hparams.ctc_decoding_weight, **options
            )
            self.quick_search = AttentionSearcher(self.model, beam_size=self.hparams.valid_beam_size)
        except TypeError as error:
            raise RecipeError(f"search_options: {options} cannot be used ({error}).") from error
        if not 0 <= self.hparams.ctc_weight <= 1:
            raise RecipeError(f"ctc_weight: is {self.hparams.ctc_weight}, but must lie between 0 and 1.")

    def forward_model(self, features: Tensor, frames: Tensor, tokens: Tensor, num_tokens: Tensor) -> Any:
        """See :meth:`AttentionModel.forward`."""
        return self.modules.model(features, frames, tokens, num_tokens)

    def losses(self, predictions: Any, tokens: Tensor, num_tokens: Tensor, stage: sb.Stage) -> tuple[Tensor, Tensor]:
        """The weighted sum of both losses; labels are smoothed in training only."""
        ctc, log_probs, _, frames = predictions
        smoothing = self.hparams.label_smoothing if stage == sb.Stage.TRAIN else 0.0
        losses, fits = ctc_loss(ctc, frames, tokens, num_tokens)
        spelled = attention_loss(log_probs, tokens, num_tokens, self.model.eos, smoothing)
        weight = self.hparams.ctc_weight
        return weight * losses + (1 - weight) * spelled[fits], fits

    def frames_needed(self, tokens: Sequence[int]) -> int:
        """The number of frames that CTC needs."""
        return frames_needed(tokens)

    def decode(self, predictions: Any) -> list[list[int]]:
        """Decode by the decoder alone, without CTC, with `valid_beam_size`."""
        _, _, encoded, frames = predictions
        return self.quick_search.search(encoded, frames)


def attention_loss(
    log_probs: Tensor, tokens: Tensor, num_tokens: Tensor, eos: int, label_smoothing: float = 0.0
) -> Tensor:
    """Negative log-likelihood of each utterance's tokens and end of sentence, in nats.

    Arguments
    ---------
    log_probs : Tensor
        (B, U + 1, V) of each token, given the previous ones.
    tokens : Tensor
        (B, U) token indices, padded.
    num_tokens : Tensor
        (B,) integer tokens.
    eos : int
        Index of the end-of-sentence token.
    label_smoothing : float
        Fraction of the target that is spread over all V (Szegedy et al. 2016).

    Returns
    -------
    Tensor
        (B,).

    Example
    -------
    >>> import torch
    >>> log_probs = torch.full((2, 3, 4), 0.25).log()
    >>> losses = attention_loss(log_probs, torch.tensor([[1, 2], [1, 0]]), torch.tensor([2, 1]), eos=3)
    >>> (losses / torch.tensor(4.0).log()).round().tolist()
    [3.0, 2.0]
    """
    beyond = -1
    targets = nn.functional.pad(tokens, (0, 1), value=beyond)
    targets = targets.masked_fill(~valid_mask(num_tokens, targets.shape[1]), beyond)
    targets = targets.scatter(1, num_tokens.unsqueeze(1), eos)
    losses = nn.functional.cross_entropy(
        log_probs.transpose(1, 2), targets, ignore_index=beyond, reduction="none", label_smoothing=label_smoothing
    )
    return losses.sum(dim=1)
