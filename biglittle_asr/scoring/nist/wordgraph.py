"""Word graphs of texts with alternatives, for `graph_alignment.py`. Words are integers.

A graph is a list of words, each with its possible predecessors. Position 0 is the start, which is not a word. Words are
in topological order. Alternatives keep the order of the text, as it decides ties.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from biglittle_asr.scoring.nist.ctm import DEEPEST, NO_WORD, Alternatives, Recognized
from biglittle_asr.scoring.texts import WHITE_SPACE, WORD

START = 0
"""Number of the start in a vocabulary and in a graph."""


class WordGraph(NamedTuple):
    """All texts that one segment allows."""

    words: list[int]
    """Word numbers of a `Vocabulary`; the first is the start."""
    previous: list[tuple[int, ...]] | None
    """Positions of each word's possible predecessors; None if each word has only the one before it."""
    last: tuple[int, ...]
    """Positions of the possible last words."""

    @property
    def branches(self) -> int:
        """Largest number of predecessors of a word."""
        return max(map(len, self.previous)) if self.previous is not None else 1


class Vocabulary(dict[str, int]):
    """Numbers words by spelling, and holds the properties that alignment needs.

    Arguments
    ---------
    case_sensitive : bool
        Whether "Yes" and "yes" are different words.
    optional : bool
        Whether words in brackets may be deleted and inserted freely. Otherwise brackets are ordinary characters.
    fragments : bool
        Whether a fragment, such as "th-" or "-at", matches every word that it begins or ends.

    Example
    -------
    >>> vocabulary = Vocabulary()
    >>> vocabulary["yes"], vocabulary["(YES)"], vocabulary["yes"]
    (1, 2, 1)
    >>> vocabulary.equal(1, 2), vocabulary.equal(1, vocabulary["ye-"])
    (True, True)
    """

    def __init__(self, case_sensitive: bool = False, optional: bool = True, fragments: bool = True) -> None:
        super().__init__()
        self.case_sensitive, self.optional, self.fragments = case_sensitive, optional, fragments
        self.texts: list[str] = [""]
        """Each word without tags."""
        self.compared: list[str] = [""]
        """Each word as compared: without brackets, and in lower case unless case matters."""
        self._classes: dict[str, int] = {"": 0}
        self._class_of, self._null, self._optional, self._fragment = [0], [False], [False], [False]

    def __missing__(self, token: str) -> int:
        """Number a new word."""
        number = self[token] = len(self.texts)
        text = without_tags(token)
        bracketed = self.optional and len(text) > 1 and text[0] == "(" and text[-1] == ")"
        compared = text[1:-1] if bracketed else text
        self.texts.append(text)
        self.compared.append(compared if self.case_sensitive else compared.lower())
        self._class_of.append(self._classes.setdefault(self.compared[-1], len(self._classes)))
        self._null.append(text == NO_WORD)
        self._optional.append(bracketed)
        # In brackets, sclite recognizes only fragments with an open end.
        self._fragment.append(
            self.fragments and (text.startswith("-") or text.endswith("-") or (bracketed and compared[-1:] == "-"))
        )
        return number

    def numbers(self, tokens: Sequence[str]) -> list[int]:
        """Return the numbers of words."""
        return list(map(self.__getitem__, tokens))

    def equal(self, reference: int, hypothesis: int) -> bool:
        """Whether two words are equal, or one is a fragment of the other."""
        first, second = self.compared[reference], self.compared[hypothesis]
        if self._fragment[reference] or self._fragment[hypothesis]:
            for fragment, other in ((first, second), (second, first)):
                if len(fragment) > 1 and fragment[0] == "-":
                    return other.endswith(fragment[1:])
                if len(fragment) > 1 and fragment[-1] == "-":
                    return other.startswith(fragment[:-1])
        return first == second

    def classes(self) -> np.ndarray:
        """Return each word's class of equal words: int array of shape (V,)."""
        return np.array(self._class_of)

    def nulls(self) -> np.ndarray:
        """Return whether each word is `@`: bool array of shape (V,)."""
        return np.array(self._null)

    def optionals(self) -> np.ndarray:
        """Return whether each word may be deleted and inserted freely: bool array of shape (V,)."""
        return np.array(self._optional)

    def fragment_marks(self) -> np.ndarray:
        """Return whether each word is a fragment: bool array of shape (V,)."""
        return np.array(self._fragment)


def without_tags(token: str) -> str:
    r"""Remove the tags of `word;tag;tag` and the star of `word*`; `\;` is a semicolon.

    Example
    -------
    >>> without_tags("word;tag"), without_tags("word*"), without_tags(r"a\;b")
    ('word', 'word', 'a;b')
    """
    if ";" in token or "\\" in token:
        token = re.split(r"(?<!\\);", token, maxsplit=1)[0].replace("\\", "") or token
    return token[:-1] if token.endswith("*") and len(token) > 1 else token


class _GraphBuilder:
    """Appends words and alternatives to a graph."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.words = [START]
        self.previous: list[tuple[int, ...]] = [()]
        self.ends: tuple[int, ...] = (START,)

    def add(self, tokens: Sequence[str]) -> None:
        for token in tokens:
            self.previous.append(self.ends)
            self.ends = (len(self.words),)
            self.words.append(self.vocabulary[token])

    def graph(self) -> WordGraph:
        return WordGraph(self.words, self.previous, self.ends)

    def add_recognized(self, items: Sequence[Recognized]) -> None:
        for item in items:
            if not isinstance(item, Alternatives):
                self.add([item.word])
                continue
            start = self.ends
            ends: tuple[int, ...] = ()
            for option in item.options:
                self.ends = start
                self.add_recognized(option)
                if self.ends == start:
                    self.add([NO_WORD])
                ends += self.ends
            self.ends = ends

    def add_text(self, tokens: list[str], position: int, place: str, depth: int = 0) -> int:
        """Append words and alternatives up to the end of this alternative, and return the position of its end."""
        while position < len(tokens):
            token = tokens[position]
            if depth and token in ("/", "}"):
                break
            if token == "}":
                raise ValueError(f"{place}: a brace closes no alternatives; write them as in {{ UM / UH }}.")
            if token != "{":
                self.add([token])
                position += 1
                continue
            if depth == DEEPEST:
                raise ValueError(f"{place}: alternatives are nested more than {DEEPEST} deep; correct the braces.")
            start = self.ends
            ends: tuple[int, ...] = ()
            closing = ""
            while closing != "}":
                self.ends = start
                position = self.add_text(tokens, position + 1, place, depth + 1)
                if position == len(tokens):
                    raise ValueError(f"{place}: alternatives lack their closing brace; write them as in {{ UM / UH }}.")
                closing = tokens[position]
                # An alternative without words is ignored, unlike @.
                if self.ends != start:
                    ends += self.ends
            if not ends:
                raise ValueError(f"{place}: the braces hold no words; write alternatives as in {{ UM / UH }}, or @.")
            self.ends = ends
            position += 1
        return position


def graph_of_text(text: str, vocabulary: Vocabulary, place: str = "the reference") -> WordGraph:
    """Build the graph of an STM's text.

    Arguments
    ---------
    text : str
        Words and alternatives, such as "well { i've / i have / @ } seen".
    vocabulary : Vocabulary
        The vocabulary that numbers the words.
    place : str
        File and line, for messages.

    Returns
    -------
    WordGraph

    Raises
    ------
    ValueError
        If braces do not match, hold no words, are within a word, or are nested too deeply.

    Example
    -------
    >>> graph_of_text("a { b c / d } e", Vocabulary())
    WordGraph(words=[0, 1, 2, 3, 4, 5], previous=[(), (0,), (1,), (2,), (1,), (3, 4)], last=(5,))
    >>> graph_of_text("a b", Vocabulary())
    WordGraph(words=[0, 1, 2], previous=None, last=(2,))
    """
    if "{" not in text and "}" not in text:
        words = [START, *vocabulary.numbers(WORD.findall(text))]
        return WordGraph(words, None, (len(words) - 1,))
    builder = _GraphBuilder(vocabulary)
    builder.add_text(_tokens(text, place), 0, place)
    return builder.graph()


def _tokens(text: str, place: str) -> list[str]:
    """Split a text into words, braces, and slashes within braces."""
    tokens: list[str] = []
    depth = 0
    for piece in re.split(rf"([{{}}{WHITE_SPACE}])", text):
        if piece == "{" and tokens and tokens[-1] not in ("{", "}", "/", " "):
            raise ValueError(f"{place}: a brace is inside a word, after '{tokens[-1]}'; put a space between.")
        depth += (piece == "{") - (piece == "}")
        if piece and piece in WHITE_SPACE:
            tokens.append(" ")
        elif depth > 0 and "/" in piece:
            tokens += filter(None, re.split("(/)", piece))
        elif piece:
            tokens.append(piece)
    return [token for token in tokens if token != " "]


def graph_of_recognized(items: Sequence[Recognized], vocabulary: Vocabulary) -> WordGraph:
    """Build the graph of the recognized words of a segment.

    Example
    -------
    >>> from biglittle_asr.scoring.nist.ctm import TimedWord
    >>> graph_of_recognized([TimedWord("f", "A", 0.0, 0.1, "a")], Vocabulary())
    WordGraph(words=[0, 1], previous=None, last=(1,))
    """
    if not any(isinstance(item, Alternatives) for item in items):
        words = [START, *vocabulary.numbers([item.word for item in items if not isinstance(item, Alternatives)])]
        return WordGraph(words, None, (len(words) - 1,))
    builder = _GraphBuilder(vocabulary)
    builder.add_recognized(items)
    return builder.graph()
