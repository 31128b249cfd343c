"""Hotwords: words whose score a search raises.

Each occurrence of a hotword adds its boost, in nats, to the score of a text. In flashlight's terms, this is a language
model that wraps another one and adds boosts to its scores.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from flashlight.lib.text.decoder import LM


class BoostedWords(LM):
    """A language model of words with boosts.

    Arguments
    ---------
    inner : flashlight's LM
        Language model of words.
    weight : float
        Factor of its scores.
    boosts : mapping
        Boost by index of a word.
    """

    def __init__(self, inner: Any, weight: float, boosts: Mapping[int, float]) -> None:
        super().__init__()
        self._inner, self._weight, self._boosts = inner, weight, boosts

    def start(self, start_with_nothing: bool) -> Any:
        """Return the state before a sentence."""
        return self._inner.start(start_with_nothing)

    def score(self, state: Any, index: int) -> tuple[Any, float]:
        """Return the state after a word, and the word's score."""
        following, score = self._inner.score(state, index)
        return following, self._weight * score + self._boosts.get(index, 0.0)

    def finish(self, state: Any) -> tuple[Any, float]:
        """Return the state and score of the end of a sentence."""
        following, score = self._inner.finish(state)
        return following, self._weight * score


class BoostedTokens(LM):
    """A language model of tokens with boosts for words spelled in these tokens.

    The beginning of a hotword gets a share of the boost in proportion to its length, so that the word stays in the beam
    until it is complete. A word that continues differently loses this share again.

    Arguments
    ---------
    inner : flashlight's LM
        Language model of tokens.
    weight : float
        Factor of its scores.
    boosts : mapping
        Boost by hotword.
    pieces : sequence of str
        Text of each token, including spaces.
    """

    def __init__(self, inner: Any, weight: float, boosts: Mapping[str, float], pieces: Sequence[str]) -> None:
        super().__init__()
        self._inner, self._weight, self._boosts, self._pieces = inner, weight, boosts, pieces
        self._shares: dict[str, float] = {"": 0.0}
        for word, boost in boosts.items():
            for length in range(1, len(word) + 1):
                share = boost * length / len(word)
                self._shares[word[:length]] = max(share, self._shares.get(word[:length], share))
        self._begun: dict[Any, str] = {}
        self._steps: dict[tuple[str, int], tuple[str, float]] = {}

    def start(self, start_with_nothing: bool) -> Any:
        """Return the state before a sentence."""
        state = self._inner.start(start_with_nothing)
        self._begun = {state: ""}
        return state

    def score(self, state: Any, index: int) -> tuple[Any, float]:
        """Return the state after a token, and the token's score."""
        following, score = self._inner.score(state, index)
        step = (self._begun[state], index)
        if step not in self._steps:
            self._steps[step] = self._step(*step)
        self._begun[following], boost = self._steps[step]
        return following, self._weight * score + boost

    def finish(self, state: Any) -> tuple[Any, float]:
        """Return the state and score of the end of a sentence."""
        following, score = self._inner.finish(state)
        begun = self._begun[state]
        return following, self._weight * score + self._complete(begun)

    def _step(self, begun: str, index: int) -> tuple[str, float]:
        """Return the beginning of a word after a token, and the boost that this token adds or takes back."""
        boost = 0.0
        for position, part in enumerate(re.split(r"\s", self._pieces[index])):
            if position > 0:
                boost += self._complete(begun)
                begun = ""
            boost += self._shares.get(begun + part, 0.0) - self._shares.get(begun, 0.0)
            begun += part
        return begun, boost

    def _complete(self, word: str) -> float:
        return self._boosts.get(word, 0.0) - self._shares.get(word, 0.0)
