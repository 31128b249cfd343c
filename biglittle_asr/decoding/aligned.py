"""Searches of attention models and transducers that also find the times of words.

These searches find texts without times. Times come from the most probable alignment of a text with the frames. An
attention model is aligned by its CTC layer, a transducer by itself.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torchaudio.functional import forced_align

from biglittle_asr.decoding.ctc.beam import Hypothesis
from biglittle_asr.decoding.settings import AttentionSettings, DecodingSettings, TransducerSettings
from biglittle_asr.tokens.tokenizer import BLANK, Tokenizer
from biglittle_asr.tokens.words import TAIL_SECONDS, Token


class AlignedSearch(ABC):
    """Base class of searches whose times come from an alignment; a :class:`~biglittle_asr.decoding.Search`.

    Arguments
    ---------
    model : nn.Module
    tokenizer : Tokenizer
    settings : DecodingSettings
        Only `beam` and `nbest` are used.
    beam_size : int
        Number of hypotheses kept if the settings have no beam.

    Raises
    ------
    ValueError
        If the settings use features that only CTC searches have.
    """

    pause_seconds = math.inf
    """Infinite: pauses in an alignment do not end a word. The model, which knows the previous tokens, decides."""
    tail_seconds = TAIL_SECONDS

    def __init__(self, model: Any, tokenizer: Tokenizer, settings: DecodingSettings, beam_size: int) -> None:
        if settings != DecodingSettings(beam=settings.beam, nbest=settings.nbest):
            raise ValueError(
                "language models, lexicons and hotwords need a CTC model; "
                f"the search of a {type(model).__name__} supports only a beam and a number of texts."
            )
        self.model = model
        self.tokenizer = tokenizer
        self.settings = settings
        self.beam_size = settings.width(beam_size)

    @torch.no_grad()
    def __call__(self, encoded: Tensor) -> list[Hypothesis]:
        """Find different texts for the frames (T', D) from the model's `encode`, best first."""
        encoded = encoded.to(self.model.output.weight.device)
        found: dict[str, Hypothesis] = {}
        for tokens, score in self.candidates(encoded):
            text = self.tokenizer.decode(tokens)
            if text not in found:
                aligned, network_score = self.align(encoded, tokens)
                found[text] = Hypothesis(text, tuple(aligned), score, network_score)
            if len(found) == self.settings.nbest:
                break
        return list(found.values())

    @abstractmethod
    def candidates(self, encoded: Tensor) -> Iterable[tuple[list[int], float]]:
        """Find the tokens of texts with their scores, best first. Texts may repeat."""

    @abstractmethod
    def align(self, encoded: Tensor, tokens: list[int]) -> tuple[list[Token], float]:
        """Locate the tokens of a text, and compute the network's log-probability of the text."""

    @abstractmethod
    def blanks(self, encoded: Tensor) -> list[bool]:
        """See :class:`~biglittle_asr.decoding.Search`."""


class AlignedAttentionSearch(AlignedSearch):
    """Joint CTC and attention search. A token's probability comes from the decoder, its time from the CTC layer.

    Arguments
    ---------
    model : AttentionModel
    tokenizer : Tokenizer
    settings : DecodingSettings
        Its beam, if set, replaces that of `search`.
    search : AttentionSettings

    Example
    -------
    >>> from speechbrain.nnet.RNN import AttentionalRNNDecoder
    >>> from biglittle_asr.tokens.tokenizer import CharacterTokenizer
    >>> from biglittle_asr.models import AttentionModel, create_encoder
    >>> encoder = create_encoder("bl_resnet22", channels=(8, 16, 32, 64))
    >>> decoder = AttentionalRNNDecoder("gru", "content", 32, 32, 1, enc_dim=encoder.output_size, input_size=16)
    >>> model = AttentionModel(encoder, decoder, output_neurons=4, embedding_size=16).eval()
    >>> encoded, frames = model.encode(torch.randn(1, 24, 80), torch.tensor([24]))
    >>> search = AlignedAttentionSearch(model, CharacterTokenizer(" AB"), DecodingSettings(beam=3))
    >>> len(search(encoded[0]))
    1
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        settings: DecodingSettings = DecodingSettings(),  # noqa: B008 (frozen)
        search: AttentionSettings = AttentionSettings(),  # noqa: B008 (frozen)
    ) -> None:
        # With SpeechBrain, which the other kinds of models do without and which takes a second to import.
        from biglittle_asr.decoding.attention import AttentionSearcher

        super().__init__(model, tokenizer, settings, search.beam_size)
        self.searcher = AttentionSearcher(model, **vars(replace(search, beam_size=self.beam_size)))

    def candidates(self, encoded: Tensor) -> Iterable[tuple[list[int], float]]:
        """See :class:`AlignedSearch`. Scores include CTC's; they are in nats, per token if lengths are normalized."""
        return self.searcher.candidates(encoded.unsqueeze(0), self._length(encoded))[0]

    def align(self, encoded: Tensor, tokens: list[int]) -> tuple[list[Token], float]:
        """See :class:`AlignedSearch`."""
        given = torch.tensor([tokens], dtype=torch.long, device=encoded.device)
        count = given.new_tensor([len(tokens)])
        ctc, log_probs = self.model.decode(encoded.unsqueeze(0), self._length(encoded), given, count)
        said = log_probs[0].gather(1, given.new_tensor([*tokens, self.model.eos]).unsqueeze(1)).squeeze(1).tolist()
        spans = align_ctc(ctc[0], tokens)
        return [
            Token(index, *span, log_prob) for index, span, log_prob in zip(tokens, spans, said[:-1], strict=True)
        ], sum(said)

    def blanks(self, encoded: Tensor) -> list[bool]:
        """Return for each frame whether CTC's most probable token is the blank."""
        best = self.model.ctc_output(encoded.to(self.model.output.weight.device)).argmax(dim=-1)
        found: list[bool] = best.eq(BLANK).tolist()
        return found

    def _length(self, encoded: Tensor) -> Tensor:
        return torch.tensor([len(encoded)], device=encoded.device)


def align_ctc(log_probs: Tensor, tokens: Sequence[int]) -> list[tuple[int, int]]:
    """Find each token's first frame and one past its last in the most probable CTC alignment (torchaudio).

    An attention decoder can output more tokens than CTC can align with the frames (CTC needs a blank between equal
    neighbors). Tokens are then spread evenly.

    Arguments
    ---------
    log_probs : Tensor
        (T, V).
    tokens : sequence of int

    Example
    -------
    >>> log_probs = torch.tensor([[0.1, 0.9, 0], [0.2, 0.8, 0], [0.9, 0, 0.1], [0.3, 0.6, 0.1]]).clamp(min=1e-9).log()
    >>> align_ctc(log_probs, [1, 1]), align_ctc(log_probs[:2], [1, 1])
    ([(0, 2), (3, 4)], [(0, 1), (1, 2)])
    """
    frames = len(log_probs)
    repeats = sum(first == second for first, second in zip(tokens, tokens[1:], strict=False))
    if len(tokens) + repeats > frames:
        starts = [index * frames // len(tokens) for index in range(len(tokens))]
        return [(start, start + 1) for start in starts]
    if not tokens:
        return []
    path, _ = forced_align(log_probs.unsqueeze(0), torch.tensor([list(tokens)], device=log_probs.device), blank=BLANK)
    spans, start = [], 0
    for index, run in groupby(path[0].tolist()):
        end = start + len(list(run))
        if index != BLANK:
            spans.append((start, end))
        start = end
    return spans


class AlignedTransducerSearch(AlignedSearch):
    """Transducer search. A token's time is the one frame at which the most probable alignment emits it.

    Arguments
    ---------
    model : TransducerModel
    tokenizer : Tokenizer
    settings : DecodingSettings
        Its beam, if set, replaces that of `search`.
    search : TransducerSettings

    Example
    -------
    >>> from biglittle_asr.tokens.tokenizer import CharacterTokenizer
    >>> from biglittle_asr.models import TransducerModel, create_encoder
    >>> model = TransducerModel(create_encoder("bl_resnet22", channels=(8, 16, 32, 64)), output_neurons=4).eval()
    >>> encoded, frames = model.encode(torch.randn(1, 24, 80), torch.tensor([24]))
    >>> len(AlignedTransducerSearch(model, CharacterTokenizer(" AB"), DecodingSettings(beam=1))(encoded[0]))
    1
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        settings: DecodingSettings = DecodingSettings(),  # noqa: B008 (frozen)
        search: TransducerSettings = TransducerSettings(),  # noqa: B008 (frozen)
    ) -> None:
        from biglittle_asr.decoding.transducer import TransducerBeamSearch, TransducerGreedySearcher

        super().__init__(model, tokenizer, settings, search.beam_size)
        self.greedy = TransducerGreedySearcher(model)
        self.beam = TransducerBeamSearch(model, self.beam_size) if self.beam_size > 1 else None

    def candidates(self, encoded: Tensor) -> Iterable[tuple[list[int], float]]:
        """See :class:`AlignedSearch`. As in torchaudio, scores are nats divided by the number of tokens plus 2."""
        if self.beam is None:
            (tokens,) = self.greedy.search(encoded.unsqueeze(0), torch.tensor([len(encoded)], device=encoded.device))
            *_, score = align_transducer(self.model, encoded, tokens)
            found = [(tokens, score)]
        else:
            found = self.beam.candidates(encoded)
        return [(tokens, score / (len(tokens) + 2)) for tokens, score in found]

    def align(self, encoded: Tensor, tokens: list[int]) -> tuple[list[Token], float]:
        """See :class:`AlignedSearch`. The log-probability is that of the alignment."""
        frames, log_probs, score = align_transducer(self.model, encoded, tokens)
        return [
            Token(index, frame, frame + 1, log_prob)
            for index, frame, log_prob in zip(tokens, frames, log_probs, strict=True)
        ], score

    @torch.no_grad()
    def blanks(self, encoded: Tensor) -> list[bool]:
        """Return for each frame whether the best text has no token there."""
        encoded = encoded.to(self.model.output.weight.device)
        (tokens, _), *_ = self.candidates(encoded)
        frames, *_ = align_transducer(self.model, encoded, tokens)
        return [frame not in frames for frame in range(len(encoded))]


def align_transducer(model: Any, encoded: Tensor, tokens: Sequence[int]) -> tuple[list[int], list[float], float]:
    """Find a transducer's most probable alignment of a text.

    Let r(t, u) be the log-probability of reaching frame t after u tokens. The next token is emitted at a frame s <= t,
    followed by the blanks of frames s to t - 1. So r(t, u + 1) is the maximum over s of r(s, u) + token(s, u) +
    blanks(s..t-1, u + 1). Written with cumulative sums of blanks, this is a running maximum over s.

    Arguments
    ---------
    model : TransducerModel
    encoded : Tensor
        (T', J) projected frames, at least one.
    tokens : sequence of int
        U token indices.

    Returns
    -------
    frames : list of int
        Frame at which each token is emitted; one frame may emit several.
    log_probs : list of float
        Log-probability of each token at its frame.
    score : float
        Log-probability of the alignment, including its blanks.

    Example
    -------
    >>> from biglittle_asr.models import TransducerModel, create_encoder
    >>> model = TransducerModel(create_encoder("bl_resnet22", channels=(8, 16, 32, 64)), output_neurons=5).eval()
    >>> with torch.no_grad():
    ...     frames, log_probs, score = align_transducer(model, torch.randn(9, 320), [1, 4, 4])
    >>> len(frames), frames == sorted(frames), score <= sum(log_probs)
    (3, True, True)
    """
    predicted = model.predict(torch.tensor([list(tokens)], dtype=torch.long, device=encoded.device))[0]
    blanks, said = [], []
    for each, token in zip(predicted, [*tokens, BLANK], strict=True):
        log_probs = model.join(encoded, each).log_softmax(dim=-1)
        blanks.append(log_probs[:, BLANK].double())
        said.append(log_probs[:, token].double())
    passed = [blank.cumsum(dim=0) - blank for blank in blanks]
    reached, when = passed[0], []
    for index in range(len(tokens)):
        best, at = (reached + said[index] - passed[index + 1]).cummax(dim=0)
        reached = best + passed[index + 1]
        when.append(at)
    frames, frame = [], len(encoded) - 1
    for at in reversed(when):
        frame = int(at[frame])
        frames.append(frame)
    frames.reverse()
    placed = [float(column[frame]) for column, frame in zip(said, frames, strict=False)]
    return frames, placed, float(reached[-1] + blanks[-1][-1])
