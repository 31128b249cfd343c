"""From tokens to words: their text, when they are spoken, and how sure the network is of them."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from biglittle_asr.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class Token:
    """A token of the best path: a run of frames in which it is the best one."""

    index: int
    """In the output layer."""
    start: int
    """Its first frame."""
    end: int
    """One past its last frame."""
    log_prob: float
    """The largest log-probability it has in these frames; of attention models, the decoder's."""


TAIL_SECONDS = 0.2
"""A word goes on behind the frames of its last token, for CTC's tokens are shorter than what they stand for; but no
longer than this, which is about a long syllable."""
PAUSE_SECONDS = 0.8
"""So long without a token ends a word. A network that was trained on single utterances says no space where one ends and
the next begins; and a word that is being streamed shall not wait for the next sentence. No word has such a pause."""


@dataclass(frozen=True)
class Word:
    """A recognized word."""

    text: str
    start: float
    """Seconds: where the first frame of its first token starts."""
    end: float
    """Seconds: where the token that follows starts (a space is one), but at most `TAIL_SECONDS` behind the last frame
    of the word's own last token (of hybrid models: where that frame ends), and not behind the audio's end."""
    confidence: float
    """0 to 1: the geometric mean, over the word's tokens, of the largest probability each has in its frames; of
    attention models, of what each has behind the tokens before it; of hybrid models over the states of its frames."""


class WordBuilder:
    """Joins the tokens of one utterance into words, as they arrive.

    Arguments
    ---------
    tokenizer : Tokenizer
        Knows the tokens' text, and so where words end.
    frame_seconds : float
        Seconds from one frame to the next.
    pause_seconds : float
        So long without a token ends a word.
    tail_seconds : float
        A word goes on so long behind the frames of its last token, if nothing follows.

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
        """Words that these tokens complete."""
        words = []
        for token in tokens:
            words += self.reach(token.start)
            piece = self.tokenizer.piece(token.index)
            # Unlike str.split, this tells a space at either end from none.
            for position, part in enumerate(re.split(r"\s", piece)):
                if position > 0:
                    words += self._complete(token.start * self.frame_seconds)
                if part:
                    self._text += part
                    self._tokens.append(token)
        return words

    def reach(self, frame: int) -> list[Word]:
        """The word that is complete if no more tokens begin before `frame`: one with a long enough pause behind it."""
        time = frame * self.frame_seconds
        # Half a millisecond for what multiples of frame_seconds lack of decimal fractions.
        if self._tokens and time - self._tokens[-1].end * self.frame_seconds > self.pause_seconds - 5e-4:
            return self._complete(time)
        return []

    def finish(self, duration: float) -> list[Word]:
        """The last word, if one is not complete, of an utterance of so many seconds."""
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
    """Rounded, so that 3 frames of 0.04 s are 0.12 s."""
    return round(seconds, 3)
