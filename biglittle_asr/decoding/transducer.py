"""Transducer searches: SpeechBrain's greedy search, made independent of the batch, and torchaudio's beam search."""

from typing import Any

import torch
from speechbrain.decoders.transducer import TransducerBeamSearcher
from speechbrain.nnet.transducer.transducer_joint import Transducer_joint
from torch import Tensor, nn
from torchaudio.models import RNNTBeamSearch

from biglittle_asr.decoding.settings import TransducerSettings
from biglittle_asr.nnet.lengths import valid_mask
from biglittle_asr.tokens.tokenizer import BLANK


class TransducerGreedySearcher(TransducerBeamSearcher):
    """SpeechBrain's greedy search, with padding read as blanks. SpeechBrain's own reads padding as speech.

    At each frame, it outputs the most probable token, up to six times, until that token is the blank. It misses tokens
    whose frame is uncertain. For example, a token with probability 0.4 at each of ten frames, against 0.6 for the
    blank, has a total probability of 1 - 0.6^10 = 0.99, but this search never outputs it, nor anything after it. The
    training loss sums over frames, so it is near zero and does not show the problem. A beam search of 2 or more
    (:class:`TransducerBeamSearch`) also sums, but takes several times as long.

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
        """Find each utterance's tokens from projected frames (B, T', J) and (B,) integer numbers of frames."""
        valid = valid_mask(frames, encoded.shape[1]).unsqueeze(2)
        hypotheses, *_ = self(torch.cat([encoded, valid.to(encoded.dtype)], dim=2))
        return hypotheses

    def _joint_forward_step(self, h_i: Tensor, out_PN: Tensor) -> Tensor:  # noqa: N803 (SpeechBrain's name)
        """Compute log-probabilities (B, 1, 1, V) at one frame; the last element of the frame says if it is valid."""
        log_probs: Tensor = super()._joint_forward_step(h_i[..., :-1], out_PN)
        padding = h_i[..., -1:] == 0
        blank = torch.arange(log_probs.shape[-1], device=log_probs.device) == BLANK
        return log_probs.masked_fill(padding & ~blank, -torch.inf)


class TransducerBeamSearch:
    """torchaudio's beam search, which merges paths to the same tokens. Utterances are searched one by one.

    SpeechBrain's beam search does not merge paths, and never ends if the blank is not among the `beam_size` best.

    Arguments
    ---------
    model : TransducerModel
    beam_size : int
        Number of hypotheses, at least 1; at most the number of tokens is used.

    Raises
    ------
    ValueError
        If the beam is smaller than 1.

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
        """Find each utterance's tokens from projected frames (B, T', J) and (B,) integer numbers of frames."""
        rows = zip(encoded, frames.tolist(), strict=True)
        return [self.candidates(row[:length])[0][0] for row, length in rows]

    @torch.no_grad()
    def candidates(self, encoded: Tensor) -> list[tuple[list[int], float]]:
        """Return the final beam for projected frames (T', J): tokens and log-probabilities, best first.

        torchaudio ranks them by the log-probability divided by the number of tokens plus 2.
        """
        length = torch.tensor(len(encoded), device=encoded.device)
        found = self.searcher(encoded, length, self.beam_size)
        return [([token + 1 for token in tokens], score) for (_, *tokens), _, _, score in found]


class _BlankLast(nn.Module):
    """Adapts a transducer to torchaudio's interface: the blank is the last token, and states have the batch first."""

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
