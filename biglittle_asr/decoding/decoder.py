"""Decodes one utterance's network output, piece by piece, into words: what decoders share, and searches."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import torch
from torch import Tensor

from biglittle_asr.decoding.ctc.beam import Hypothesis
from biglittle_asr.decoding.settings import DecodingSettings
from biglittle_asr.tokens.tokenizer import Tokenizer
from biglittle_asr.tokens.words import Word, WordBuilder

SEGMENT_SECONDS = 30.0
"""Longest segment searched at once. Longer utterances are cut at their longest pauses, so that memory does not grow
with duration. Speech half a minute later does not change a word."""


class Decoder(Protocol):
    """Decodes one utterance. The words do not depend on how the utterance is cut into pieces."""

    def decode(self, outputs: Tensor, /) -> list[Word]:
        """Return the words that the next frames settle, given the network's (T, V) or the encoder's (T, D) outputs."""

    def finish(self, duration: float) -> list[Word]:
        """Return the remaining words of an utterance of `duration` seconds."""


class Search(Protocol):
    """Finds the texts of one utterance, for any kind of model."""

    tokenizer: Tokenizer
    settings: DecodingSettings

    @property
    def pause_seconds(self) -> float:
        """Pause in seconds without tokens that ends a word."""

    @property
    def tail_seconds(self) -> float:
        """Time in seconds that a word lasts beyond the frames of its last token, if nothing follows."""

    def blanks(self, outputs: Tensor, /) -> list[bool]:
        """Return for each frame whether it has no token, so that a long utterance may be cut there."""

    def __call__(self, outputs: Tensor, /) -> list[Hypothesis]:
        """Find different texts, best first and at least one, for the network's outputs (T, V) or (T, D)."""


class BeamWords:
    """Decodes the words that a search finds, and keeps alternative texts.

    Arguments
    ---------
    search : Search
    frame_seconds : float
        Seconds from one frame to the next.

    Attributes
    ----------
    hypotheses : list of Hypothesis
        Texts of the last segment searched. That is the whole utterance if it lasts `SEGMENT_SECONDS` or less.

    Example
    -------
    >>> from biglittle_asr.decoding import BeamSearch
    >>> from biglittle_asr.tokens.tokenizer import CharacterTokenizer
    >>> log_probs = torch.tensor([[0.1, 0, 0.7, 0.2], [0.1, 0, 0, 0.9], [0.8, 0, 0, 0.2]]).log()
    >>> decoder = BeamWords(BeamSearch(CharacterTokenizer(" GO")), frame_seconds=0.04)
    >>> decoder.decode(log_probs), [word.text for word in decoder.finish(0.12)]
    ([], ['GO'])
    """

    def __init__(self, search: Search, frame_seconds: float) -> None:
        self.search = search
        self.frame_seconds = frame_seconds
        self.hypotheses: list[Hypothesis] = []
        self._longest = round(SEGMENT_SECONDS / frame_seconds) + 1
        self._pieces: list[Tensor] = []
        self._held = self._first = 0

    def decode(self, outputs: Tensor) -> list[Word]:
        """See :class:`Decoder`."""
        self._pieces.append(outputs.cpu())
        self._held += len(outputs)
        words = []
        while self._held > self._longest:
            held = torch.cat(self._pieces)
            cut = _pause(self.search.blanks(held[: self._longest]))
            words += self._search(held[:cut], (self._first + cut) * self.frame_seconds)
            self._pieces, self._held, self._first = [held[cut:]], self._held - cut, self._first + cut
        return words

    def finish(self, duration: float) -> list[Word]:
        """See :class:`Decoder`."""
        return self._search(torch.cat(self._pieces), duration) if self._held else []

    def words(self, hypothesis: Hypothesis, end: float) -> list[Word]:
        """Return the words of a text of the last segment, which ends at `end` seconds."""
        builder = WordBuilder(
            self.search.tokenizer, self.frame_seconds, self.search.pause_seconds, self.search.tail_seconds
        )
        tokens = (
            dataclasses.replace(token, start=token.start + self._first, end=token.end + self._first)
            for token in hypothesis.tokens
        )
        return [*builder.add(tokens), *builder.finish(end)]

    def _search(self, outputs: Tensor, end: float) -> list[Word]:
        self.hypotheses = self.search(outputs)
        return self.words(self.hypotheses[0], end)


def _pause(blanks: list[bool]) -> int:
    """Find where to cut: mid-way in the longest run of blanks in the last two thirds of frames, else at their end."""
    longest, cut, start = 0, len(blanks), None
    for frame, blank in enumerate([*blanks, False]):
        if blank and start is None and frame >= len(blanks) // 3:
            start = frame
        elif not blank and start is not None:
            if frame - start > longest:
                longest, cut = frame - start, (start + frame + 1) // 2
            start = None
    return cut
