"""Greedy CTC decoding: take the best token of every frame, merge repeats, remove blanks, and join tokens to words."""

import torch
from torch import Tensor

from biglittle_asr.tokens.tokenizer import Tokenizer
from biglittle_asr.tokens.words import Token, Word, WordBuilder


def ctc_greedy(log_probs: Tensor, frames: Tensor, blank: int = 0) -> list[list[int]]:
    """Decode a batch by its best path.

    Arguments
    ---------
    log_probs : Tensor
        (B, T, V) log-probabilities (or logits: only their order matters).
    frames : Tensor
        (B,) integer numbers of valid frames.
    blank : int
        Index of the blank token.

    Returns
    -------
    list of list of int
        Token indices of each utterance, without blanks.

    Example
    -------
    >>> best = torch.tensor([[1, 1, 0, 1, 2]])
    >>> ctc_greedy(torch.nn.functional.one_hot(best, 3).float(), torch.tensor([4]))
    [[1, 1]]
    """
    best = log_probs.argmax(dim=-1)
    keep = best != blank
    keep[:, 1:] &= best[:, 1:] != best[:, :-1]
    keep &= torch.arange(best.shape[1], device=best.device) < frames.to(best.device).unsqueeze(1)
    # One transfer to the CPU: the number of tokens of each utterance, then all tokens.
    tokens = torch.cat([keep.sum(dim=1), best[keep]]).tolist()
    counts, tokens = tokens[: len(best)], tokens[len(best) :]
    ends = torch.tensor(counts).cumsum(0).tolist()
    return [tokens[end - count : end] for count, end in zip(counts, ends, strict=True)]


class GreedyDecoder:
    """Greedy decoding of one utterance that arrives in pieces. Tokens carry their frames and confidence.

    The tokens equal those of :func:`ctc_greedy`, however the utterance is cut.

    Arguments
    ---------
    blank : int
        Index of the blank token.

    Example
    -------
    >>> log_probs = torch.nn.functional.one_hot(torch.tensor([1, 1, 0, 2]), 3).float().log()
    >>> decoder = GreedyDecoder()
    >>> decoder.decode(log_probs[:3])
    [Token(index=1, start=0, end=2, log_prob=0.0)]
    >>> decoder.decode(log_probs[3:]), decoder.finish()
    ([], [Token(index=2, start=3, end=4, log_prob=0.0)])
    """

    def __init__(self, blank: int = 0) -> None:
        self.blank = blank
        self._frames = 0
        self._open: Token | None = None

    def decode(self, log_probs: Tensor) -> list[Token]:
        """Return the tokens that end within the next frames (T, V); the last token may continue."""
        values, best = (column.tolist() for column in log_probs.max(dim=-1))
        tokens = []
        for frame, (value, index) in enumerate(zip(values, best, strict=True), start=self._frames):
            last = self._open
            if last is not None and last.index == index:
                self._open = Token(index, last.start, frame + 1, max(last.log_prob, value))
                continue
            if last is not None:
                tokens.append(last)
            self._open = None if index == self.blank else Token(index, frame, frame + 1, value)
        self._frames += len(best)
        return tokens

    @property
    def reached(self) -> int:
        """First frame at which a future token may begin."""
        return self._frames if self._open is None else self._open.start

    def finish(self) -> list[Token]:
        """Return the token that is still open at the end, if any."""
        tokens = [] if self._open is None else [self._open]
        self._open = None
        return tokens


class GreedyWords:
    """The words of the best path.

    Arguments
    ---------
    tokenizer : Tokenizer
    frame_seconds : float
        Seconds from one frame to the next.

    Example
    -------
    >>> from biglittle_asr.tokens.tokenizer import CharacterTokenizer
    >>> log_probs = torch.nn.functional.one_hot(torch.tensor([2, 2, 3, 0, 1, 3]), 4).float().log()
    >>> decoder = GreedyWords(CharacterTokenizer(" GO"), frame_seconds=0.04)
    >>> [word.text for word in decoder.decode(log_probs)], [word.text for word in decoder.finish(0.24)]
    (['GO'], ['O'])
    """

    def __init__(self, tokenizer: Tokenizer, frame_seconds: float) -> None:
        self._decoder, self._builder = GreedyDecoder(), WordBuilder(tokenizer, frame_seconds)

    def decode(self, log_probs: Tensor) -> list[Word]:
        """See :class:`~biglittle_asr.decoding.decoder.Decoder`."""
        return [*self._builder.add(self._decoder.decode(log_probs)), *self._builder.reach(self._decoder.reached)]

    def finish(self, duration: float) -> list[Word]:
        """See :class:`~biglittle_asr.decoding.decoder.Decoder`."""
        return [*self._builder.add(self._decoder.finish()), *self._builder.finish(duration)]
