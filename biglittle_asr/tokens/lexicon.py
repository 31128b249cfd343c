"""The pronunciation lexicon: which phones a word is made of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from biglittle_asr.files import read_lines
from biglittle_asr.messages import some

SILENCE = "SIL"
"""Name of the silence phone in CMU's and most other lexicons."""
VARIANT = re.compile(r"(?P<word>.+)\(\d+\)")
"""How CMU's lexicons mark a second pronunciation: A(2)."""
COMMENTS = (";;;", "# ")
"""How lines begin that are for people, in CMU's lexicons and in Mississippi State's of Switchboard."""
LISTED = 50
"""Words that a message gives."""

Pronunciation = tuple[str, ...]


@dataclass(frozen=True)
class Lexicon:
    """Words and their pronunciations.

    Example
    -------
    >>> lexicon = Lexicon({"A": [("AH",), ("EY",)], "TEA": [("T", "IY")]})
    >>> lexicon.phones
    ('SIL', 'AH', 'EY', 'IY', 'T')
    """

    pronunciations: Mapping[str, list[Pronunciation]]
    """Of each word, one or more; the first is the usual one."""
    silence: str = SILENCE
    """The phone of what is not speech."""

    @property
    def phones(self) -> tuple[str, ...]:
        """All phones, silence first, the others sorted."""
        spoken = {phone for each in self.pronunciations.values() for phones in each for phone in phones}
        return (self.silence, *sorted(spoken - {self.silence}))

    def check(self, texts: Iterable[str], source: str) -> None:
        """Check that all words of some transcripts have a pronunciation.

        Raises
        ------
        ValueError
            With the words that have none.

        Example
        -------
        >>> Lexicon({"A": [("AH",)]}).check(["A TEA", "A COFFEE"], source="train.csv")
        Traceback (most recent call last):
        ValueError: the lexicon lacks 2 words of train.csv: COFFEE, TEA; add their pronunciations to it.
        """
        missing = sorted({word for text in texts for word in text.split()} - self.pronunciations.keys())
        if missing:
            words = "1 word" if len(missing) == 1 else f"{len(missing)} words"
            raise ValueError(
                f"the lexicon lacks {words} of {source}: {some(missing, most=LISTED)}; "
                f"add {'its pronunciation' if len(missing) == 1 else 'their pronunciations'} to it."
            )


def read_lexicon(path: str | PathLike[str], silence: str = SILENCE, upper: bool = False) -> Lexicon:
    r"""Read a lexicon as CMU's Sphinx or Kaldi has them: a word and its phones on each line.

    Arguments
    ---------
    path : path
        A UTF-8 text file. Further pronunciations of a word stand on further lines, with or without a number: A(2).
    silence : str
        Name of the silence phone, which no word needs to have.
    upper : bool
        Take words in upper case, whatever they are in.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a line has a word without phones, or there are no words.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.dic"
    >>> _ = path.write_text("A  AH\nA(2)  EY\nTEA  T IY\n")
    >>> read_lexicon(path).pronunciations
    {'A': [('AH',), ('EY',)], 'TEA': [('T', 'IY')]}
    """
    pronunciations: dict[str, list[Pronunciation]] = {}
    for place, line in read_lines(Path(path), "check the path of the lexicon"):
        if f"{line} ".startswith(COMMENTS):
            continue
        word, *phones = line.split()
        if not phones:
            raise ValueError(f"{place}: the word {word} has no phones; correct the line.")
        word = word.upper() if upper else word
        variant = VARIANT.fullmatch(word)
        known = pronunciations.setdefault(variant["word"] if variant else word, [])
        if tuple(phones) not in known:
            known.append(tuple(phones))
    if not pronunciations:
        raise ValueError(f"{path}: has no words; check the path of the lexicon.")
    return Lexicon(pronunciations, silence)
