"""Search in transducers: SpeechBrain's greedy one, made independent of the batch, and torchaudio's beam search."""

from dataclasses import dataclass
from typing import Any

import torch
from speechbrain.decoders.transducer import TransducerBeamSearcher
from speechbrain.nnet.transducer.transducer_joint import Transducer_joint
from torch import Tensor, nn
from torchaudio.models import RNNTBeamSearch

from biglittle_asr.nnet.lengths import valid_mask
from biglittle_asr.tokens.tokenizer import BLANK


@dataclass(frozen=True)
class TransducerSettings:
    """Settings of the search in a transducer.

    Raises
    ------
    ValueError
        If the beam is smaller than 1.
    """

    beam_size: int = 4
    """Hypotheses kept at each frame; 1 searches greedily, more than there are tokens are as good as so many."""

    def __post_init__(self) -> None:
        """Check the value."""
        if self.beam_size < 1:
            raise ValueError(f"a search needs a beam of at least 1, not {self.beam_size}")


class TransducerGreedySearcher(TransducerBeamSearcher):
    """SpeechBrain's greedy search, which reads padding as if it were speech; here padding is all blank.

    At each frame it takes the most probable token, up to six times, until that is the blank. Thereby it loses
    tokens that the network is sure of, if not of their frame: one that has 0.4 at each of ten frames, and the blank the
    rest, comes out of the network with a probability of 1 - 0.6^10 = 0.99, and out of this search never, nor anything
    behind it. The loss, which sums over frames, is near zero then and shows nothing. A beam search of 2 or more sums as
    well (:class:`TransducerBeamSearch`), for several times the time.

    Arguments
    ---------
    model : TransducerModel

    Example
    -------
    >>> from biglittle_asr.models import TransducerModel, create_encoder
    >>> model = TransducerModel(create_encoder("bl_resnet22", channels=(8, 16, 32, 64)), output_neurons=5).eval()
    >>> len(TransducerGreedySearcher(model).search(torch.randn(2, 9, 320), torch.tensor([9, 4])))
    2
    """

    def __init__(self, model: Any) -> None:
        super().__init__(
            decode_network_lst=[model.embedding, model.prediction, model.project_predicted],
            tjoint=Transducer_joint(joint="sum", nonlinearity=nn.Tanh),
            classifier_network=[model.output],
            blank_id=BLANK,
            beam_size=1,
        )

    @torch.no_grad()
    def search(self, encoded: Tensor, frames: Tensor) -> list[list[int]]:
        """Tokens of each utterance, out of projected frames (B, T', J) and (B,) integer frames."""
        valid = valid_mask(frames, encoded.shape[1]).unsqueeze(2)
        hypotheses, *_ = self(torch.cat([encoded, valid.to(encoded.dtype)], dim=2))
        return hypotheses

    def _joint_forward_step(self, h_i: Tensor, out_PN: Tensor) -> Tensor:  # noqa: N803 (SpeechBrain's name)
        """Log-probabilities (B, 1, 1, V) at one frame, whose last element says whether it is valid."""
        log_probs: Tensor = super()._joint_forward_step(h_i[..., :-1], out_PN)
        padding = h_i[..., -1:] == 0
        blank = torch.arange(log_probs.shape[-1], device=log_probs.device) == BLANK
        return log_probs.masked_fill(padding & ~blank, -torch.inf)


class TransducerBeamSearch:
    """torchaudio's beam search, in which paths to the same tokens are merged; one utterance after another.

    SpeechBrain's does not merge them, and does not end at a frame where the blank is never among the `beam_size` best.

    Arguments
    ---------
    model : TransducerModel
    beam_size : int
        At least 1; more than there are tokens are as good as so many.

    Raises
    ------
    ValueError
        If the beam is smaller.

    Example
    -------
    >>> from biglittle_asr.models import TransducerModel, create_encoder
    >>> model = TransducerModel(create_encoder("bl_resnet22", channels=(8, 16, 32, 64)), output_neurons=5).eval()
    >>> len(TransducerBeamSearch(model, beam_size=2).search(torch.randn(2, 9, 320), torch.tensor([9, 4])))
    2
    """

    def __init__(self, model: Any, beam_size: int) -> None:
        self.size = model.output.out_features
        self.beam_size = min(TransducerSettings(beam_size).beam_size, self.size - 1)
        self.searcher = RNNTBeamSearch(_BlankLast(model), blank=self.size - 1)

    def search(self, encoded: Tensor, frames: Tensor) -> list[list[int]]:
        """Tokens of each utterance, out of projected frames (B, T', J) and (B,) integer frames."""
        rows = zip(encoded, frames.tolist(), strict=True)
        return [self.candidates(row[:length])[0][0] for row, length in rows]

    @torch.no_grad()
    def candidates(self, encoded: Tensor) -> list[tuple[list[int], float]]:
        """What the beam holds at the end of projected frames (T', J): tokens and their log-probability, best first.

        torchaudio ranks them by it, divided by the number of tokens and 2.
        """
        length = torch.tensor(len(encoded), device=encoded.device)
        found = self.searcher(encoded, length, self.beam_size)
        return [([token + 1 for token in tokens], score) for (_, *tokens), _, _, score in found]


class _BlankLast(nn.Module):
    """A transducer as torchaudio calls it: the blank is the last token, and states have the batch first."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def transcribe(self, encoded: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return encoded, lengths

    def predict(
        self, tokens: Tensor, lengths: Tensor, state: list[list[Tensor]] | None
    ) -> tuple[Tensor, Tensor, list[list[Tensor]]]:
        hidden = None if state is None else tuple(each.transpose(0, 1).contiguous() for each in state[0])
        embedded = self.model.embedding((tokens + 1) % self.model.output.out_features)
        predicted, hidden = self.model.prediction(embedded, hidden)
        return self.model.project_predicted(predicted), lengths, [[each.transpose(0, 1) for each in hidden]]

    def join(self, encoded: Tensor, _: Tensor, predicted: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = self.model.join(encoded.unsqueeze(2), predicted.unsqueeze(1))
        return logits.roll(-1, dims=-1), lengths, lengths
