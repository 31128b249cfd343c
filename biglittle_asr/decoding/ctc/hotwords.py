"""Hotwords: words that are worth more to a search than language model and network make them.

Each has a boost, in nats, that the score of a text gets for each time it occurs. In flashlight's terms: a language
model around another one, which adds the boosts to its scores.
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
        Of words.
    weight : float
        What its scores are multiplied by.
    boosts : mapping
        Index of a word -> boost.
    """

    def __init__(self, inner: Any, weight: float, boosts: Mapping[int, float]) -> None:
        super().__init__()
        self._inner, self._weight, self._boosts = inner, weight, boosts

    def start(self, start_with_nothing: bool) -> Any:
        """State in front of a sentence."""
        return self._inner.start(start_with_nothing)

    def score(self, state: Any, index: int) -> tuple[Any, float]:
        """State behind a word, and its score."""
        following, score = self._inner.score(state, index)
        return following, self._weight * score + self._boosts.get(index, 0.0)

    def finish(self, state: Any) -> tuple[Any, float]:
        """State and score of the sentence's end."""
        following, score = self._inner.finish(state)
        return following, self._weight * score


class BoostedTokens(LM):
    """A language model of tokens with boosts for words, which are spelled by these tokens.

    The beginning of a hotword gets its share of the boost by length, so that the word does not leave the beam before it
    is complete; a word that goes on otherwise gives it back.

    Arguments
    ---------
    inner : flashlight's LM
        Of tokens.
    weight : float
        What its scores are multiplied by.
    boosts : mapping
        Hotword -> boost.
    pieces : sequence of str
        Text of each token, with the spaces it brings.
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
        """State in front of a sentence."""
        state = self._inner.start(start_with_nothing)
        self._begun = {state: ""}
        return state

    def score(self, state: Any, index: int) -> tuple[Any, float]:
        """State behind a token, and its score."""
        following, score = self._inner.score(state, index)
        step = (self._begun[state], index)
        if step not in self._steps:
            self._steps[step] = self._step(*step)
        self._begun[following], boost = self._steps[step]
        return following, self._weight * score + boost

    def finish(self, state: Any) -> tuple[Any, float]:
        """State and score of the sentence's end."""
        following, score = self._inner.finish(state)
        begun = self._begun[state]
        return following, self._weight * score + self._complete(begun)

    def _step(self, begun: str, index: int) -> tuple[str, float]:
        """What is begun of a word behind a token, and the boost that this token gets or gives back."""
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
