"""Builds words from tokens: their text, their times, and the network's confidence."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from biglittle_asr.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class Token:
    """A token of the best path: a run of frames in which it is the most probable token."""

    index: int
    """Index in the output layer."""
    start: int
    """First frame."""
    end: int
    """One past the last frame."""
    log_prob: float
    """Largest log-probability in these frames; for attention models, the decoder's log-probability."""


TAIL_SECONDS = 0.2
"""Time that a word lasts beyond the frames of its last token, at most. CTC's tokens are shorter than the sounds they
represent; this is about the length of a long syllable."""
PAUSE_SECONDS = 0.8
"""Pause without tokens that ends a word. A network trained on single utterances outputs no space between two of them,
and a streamed word must not wait for the next sentence. No word contains such a pause."""


@dataclass(frozen=True)
class Word:
    """A recognized word."""

    text: str
    start: float
    """Start of the first frame of the first token, in seconds."""
    end: float
    """End in seconds. The word ends where the next token starts (a space is a token), but at most `TAIL_SECONDS` after
    the last frame of its last token, and not after the end of the audio. For hybrid models, it ends with that frame."""
    confidence: float
    """Confidence from 0 to 1: the geometric mean over the word's tokens of the largest probability of each token in its
    frames. For attention models, it is the probability given the previous tokens; for hybrid models, the mean is over
    the states of the word's frames."""


class WordBuilder:
    """Joins the tokens of one utterance into words as they arrive.

    Arguments
    ---------
    tokenizer : Tokenizer
        Gives the tokens' text, and thereby the ends of words.
    frame_seconds : float
        Seconds from one frame to the next.
    pause_seconds : float
        Pause without tokens that ends a word.
    tail_seconds : float
        Time that a word lasts beyond the frames of its last token, if nothing follows.

    Example
    -------
    >>> from biglittle_asr.tokens.tokenizer import CharacterTokenizer
    >>> builder = WordBuilder(CharacterTokenizer([" ", "G", "O"]), frame_seconds=0.04)
    >>> builder.add([Token(2, 3, 4, 0.0), Token(3, 5, 6, 0.0)])
    []
    >>> builder.add([Token(1, 7, 8, 0.0)])
    [Word(text='GO', start=0.12, end=0.28, confidence=1.0)]
    >>> builder.add([Token(2, 9, 10, 0.0)]), builder.reach(20), builder.reach(30)
    ([], [], [Word(text='G', start=0.36, end=0.6, confidence=1.0)])
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        frame_seconds: float,
        pause_seconds: float = PAUSE_SECONDS,
        tail_seconds: float = TAIL_SECONDS,
    ) -> None:
        self.tokenizer = tokenizer
        self.frame_seconds = frame_seconds
        self.pause_seconds = pause_seconds
        self.tail_seconds = tail_seconds
        self._text = ""
        self._tokens: list[Token] = []

    def add(self, tokens: Iterable[Token]) -> list[Word]:
        """Add tokens, and return the words that they complete."""
        words = []
        for token in tokens:
            words += self.reach(token.start)
            piece = self.tokenizer.piece(token.index)
            # Unlike str.split, this keeps empty parts, so that a space at either end is noticed.
            for position, part in enumerate(re.split(r"\s", piece)):
                if position > 0:
                    words += self._complete(token.start * self.frame_seconds)
                if part:
                    self._text += part
                    self._tokens.append(token)
        return words

    def reach(self, frame: int) -> list[Word]:
        """Return the word that a long enough pause completes, given that no token begins before `frame`."""
        time = frame * self.frame_seconds
        # Half a millisecond of tolerance for rounding errors in multiples of frame_seconds.
        if self._tokens and time - self._tokens[-1].end * self.frame_seconds > self.pause_seconds - 5e-4:
            return self._complete(time)
        return []

    def finish(self, duration: float) -> list[Word]:
        """Return the last word, if it is not complete yet, of an utterance of `duration` seconds."""
        return self._complete(duration)

    def _complete(self, next_start: float) -> list[Word]:
        if not self._tokens:
            return []
        start = self._tokens[0].start * self.frame_seconds
        end = min(next_start, self._tokens[-1].end * self.frame_seconds + self.tail_seconds)
        confidence = math.exp(min(0.0, sum(token.log_prob for token in self._tokens) / len(self._tokens)))
        word = Word(self._text, milliseconds(start), milliseconds(max(start, end)), confidence)
        self._text, self._tokens = "", []
        return [word]


def milliseconds(seconds: float) -> float:
    """Round seconds to milliseconds, so that 3 frames of 0.04 s are 0.12 s."""
    return round(seconds, 3)
