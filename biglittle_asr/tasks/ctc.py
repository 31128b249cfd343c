"""CTC: its loss, and the Brain that trains a model with it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import speechbrain as sb
from speechbrain.utils.logger import get_logger
from torch import Tensor, nn

from biglittle_asr.decoding import BeamSearch, ctc_greedy, read_settings
from biglittle_asr.decoding.tokenizer import BLANK, Tokenizer
from biglittle_asr.models import CTCModel
from biglittle_asr.nnet.lengths import valid_mask
from biglittle_asr.tasks.frames import FrameBrain
from biglittle_asr.tasks.recognition import check_tokens

logger = get_logger(__name__)


class CTCBrain(FrameBrain):
    """Trains and evaluates a :class:`CTCModel`; see :class:`FrameBrain`.

    Final scores are of a beam search if the recipe's `decoding` names a file of its settings, and else greedy.
    """

    loss_name: ClassVar[str] = "CTC loss (nats per token)"
    model: CTCModel

    def __init__(self, model: CTCModel, tokenizer: Tokenizer, hparams: dict[str, Any], run_opts: Any = None) -> None:
        settings = hparams.get("decoding")
        self.final_search = settings and BeamSearch(tokenizer, read_settings(settings), logger.warning)
        if settings:
            self.decoding = f"Beam search with the settings of {Path(settings).name}."
        super().__init__(model, tokenizer, hparams, run_opts)

    def losses(self, predictions: Any, tokens: Tensor, num_tokens: Tensor, stage: sb.Stage) -> tuple[Tensor, Tensor]:
        """See :func:`ctc_loss`."""
        log_probs, frames = predictions
        return ctc_loss(log_probs, frames, tokens, num_tokens)

    def frames_needed(self, tokens: Sequence[int]) -> int:
        """See :func:`frames_needed`."""
        return frames_needed(tokens)

    def decode(self, predictions: Any) -> list[list[int]]:
        """Greedily, or, for the final scores, by the beam search that the recipe asks for."""
        log_probs, frames = predictions
        if not (self.final and self.final_search):
            return ctc_greedy(log_probs, frames, BLANK)
        rows = zip(log_probs.float().cpu(), frames.tolist(), strict=True)
        return [[token.index for token in self.final_search(row[:valid])[0].tokens] for row, valid in rows]


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
        (B,) bool, which these are. The others have no finite loss, and torch would give them a gradient of NaN (or,
        with its `zero_infinity`, of zero without saying so).

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
