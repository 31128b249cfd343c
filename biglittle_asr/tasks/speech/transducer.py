"""Transducer: its loss, and the Brain that trains a model with it."""

from collections.abc import Sequence
from typing import Any, ClassVar

import speechbrain as sb
import torch
from torch import Tensor
from torchaudio.functional import rnnt_loss

from biglittle_asr.decoding.transducer import TransducerBeamSearch, TransducerGreedySearcher, TransducerSettings
from biglittle_asr.models import TransducerModel
from biglittle_asr.nnet.lengths import valid_mask
from biglittle_asr.tasks.speech.brain import RecognitionBrain, check_tokens
from biglittle_asr.tokens.tokenizer import BLANK


class TransducerBrain(RecognitionBrain):
    """Trains and evaluates a :class:`TransducerModel`; see :class:`RecognitionBrain`."""

    loss_name: ClassVar[str] = "transducer loss (nats per token)"
    model: TransducerModel

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.search_settings = TransducerSettings(self.hparams.test_beam_size)
        size = self.hparams.valid_beam_size
        self.quick_search = (
            TransducerGreedySearcher(self.model) if size == 1 else TransducerBeamSearch(self.model, size)
        )

    def forward_model(self, features: Tensor, frames: Tensor, tokens: Tensor, num_tokens: Tensor) -> Any:
        """See :meth:`TransducerModel.forward`."""
        return self.modules.model(features, frames, tokens, num_tokens)

    def losses(self, predictions: Any, tokens: Tensor, num_tokens: Tensor, stage: sb.Stage) -> tuple[Tensor, Tensor]:
        """See :func:`transducer_loss`; every target fits."""
        logits, _, frames = predictions
        return transducer_loss(logits, frames, tokens, num_tokens), torch.ones_like(frames, dtype=torch.bool)

    def frames_needed(self, tokens: Sequence[int]) -> int:
        """One: a transducer can emit any number of tokens in a frame."""
        return 1

    def decode(self, predictions: Any) -> list[list[int]]:
        """Decode with `valid_beam_size`."""
        _, encoded, frames = predictions
        return self.quick_search.search(encoded, frames)


def transducer_loss(logits: Tensor, frames: Tensor, tokens: Tensor, num_tokens: Tensor) -> Tensor:
    """Negative log-likelihood of each utterance's tokens, in nats, over all alignments (Graves 2012), by torchaudio.

    Arguments
    ---------
    logits : Tensor
        (B, T', U + 1, V).
    frames, tokens, num_tokens : Tensor
        As in :func:`~biglittle_asr.tasks.speech.ctc.ctc_loss`; the largest number of frames is T', of tokens U.

    Returns
    -------
    Tensor
        (B,).

    Raises
    ------
    ValueError
        If a token is not in the output layer.

    Example
    -------
    >>> logits = torch.zeros(1, 2, 2, 3)   # two frames, one token: a blank ends each frame, the token is in either
    >>> loss = transducer_loss(logits, torch.tensor([2]), torch.tensor([[1]]), torch.tensor([1]))
    >>> round(loss.neg().exp().item() * 27, 4)
    2.0
    """
    check_tokens(tokens, num_tokens, logits.shape[3])
    targets = tokens.masked_fill(~valid_mask(num_tokens, tokens.shape[1]), BLANK)
    losses: Tensor = rnnt_loss(
        logits.float().contiguous(),
        targets.int().contiguous(),
        frames.int(),
        num_tokens.int(),
        blank=BLANK,
        reduction="none",
    )
    return losses
