"""Pronunciation lexicons: the phones of words."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike

from biglittle_asr.files import FIELD, text_lines
from biglittle_asr.messages import some, visible

SILENCE = "SIL"
"""Name of the silence phone in CMU's and most other lexicons."""
VARIANT = re.compile(r"(?P<word>.+)\(\d+\)")
"""A further pronunciation in CMU's lexicons, such as A(2)."""
COMMENT_LINE = re.compile(r"[ \t\r]*(;;;|(#+|;+)([ \t\r]|$))")
"""Start of a comment line in CMU's lexicons and in Mississippi State's Switchboard lexicon."""
COMMENT = re.compile(r"[ \t]#(?!\d)")
"""Start of a comment after phones, as in cmudict.dict; #1 is one of Kaldi's disambiguation symbols."""
PROBABILITY = re.compile(r"\d*\.\d+(e[-+]?\d+)?|\d+\.?(e-\d+)?", re.IGNORECASE)
"""A probability between a word and its phones in Kaldi's lexiconp.txt and in MFA's dictionaries."""
PROBABILITIES = (0, 1, 4)
"""Valid numbers of probabilities: none, that of the pronunciation, or also those of silence around it."""
NO_PHONE = re.compile(r"[-+]?\d*\.\d+(e[-+]?\d+)?|\d{2,}|#\d+|.*[,;]", re.IGNORECASE)
"""Numbers, disambiguation symbols and punctuation. A single digit is a phone in X-SAMPA."""
LISTED = 50
"""Largest number of words that a message lists."""

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
    """One or more pronunciations of each word; the first is the usual one."""
    silence: str = SILENCE
    """Phone of everything that is not speech."""

    @property
    def phones(self) -> tuple[str, ...]:
        """All phones: silence first, then the others, sorted."""
        spoken = {phone for each in self.pronunciations.values() for phones in each for phone in phones}
        return (self.silence, *sorted(spoken - {self.silence}))

    def check(self, texts: Iterable[str], source: str) -> None:
        """Check that all words of transcripts have a pronunciation.

        Raises
        ------
        ValueError
            If any has none. The message lists these words.

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
                f"the lexicon lacks {words} of {source}: {some([visible(word) for word in missing], most=LISTED)}; "
                f"add {'its pronunciation' if len(missing) == 1 else 'their pronunciations'} to it."
            )


def read_lexicon(path: str | PathLike[str], silence: str = SILENCE, upper: bool = False) -> Lexicon:
    r"""Read a lexicon, one word and its phones per line, as in CMU Sphinx, Kaldi or the Montreal Forced Aligner.

    Arguments
    ---------
    path : path
        A UTF-8 text file. Further pronunciations of a word are on lines of their own, with or without a number: A(2).
        Probabilities of pronunciations, as in Kaldi's lexiconp.txt, are ignored. So are comments: lines that begin with
        `;;;` or with `#` and a space, and text after ` #`.
    silence : str
        Name of the silence phone, which need not occur in a word.
    upper : bool
        Whether to convert words to upper case.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a word has a space in it or has no phones, something is not a phone, or there are no words.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.dic"
    >>> _ = path.write_text("A  AH\nA(2)  EY  # as a letter\nTEA  T IY\n")
    >>> read_lexicon(path).pronunciations
    {'A': [('AH',), ('EY',)], 'TEA': [('T', 'IY')]}
    >>> _ = path.write_text("A\t0.7\tAH\nA\t0.3\tEY\nTEA\t1.0\tT IY\n")
    >>> read_lexicon(path).pronunciations
    {'A': [('AH',), ('EY',)], 'TEA': [('T', 'IY')]}
    """
    pronunciations: dict[str, list[Pronunciation]] = {}
    for place, word, fields in _with_phones(path):
        phones = tuple(fields)
        if not phones:
            raise ValueError(f"{place}: the word {visible(word)} has no phones; correct the line.")
        strange = next((each for each in phones if NO_PHONE.fullmatch(each) or visible(each) != each), None)
        if strange is not None:
            raise ValueError(
                f"{place}: '{visible(strange)}' is not a phone; a line has a word and its phones, such as TEA T IY."
            )
        known = pronunciations.setdefault(word.upper() if upper else word, [])
        if phones not in known:
            known.append(phones)
    if not pronunciations:
        raise ValueError(f"{os.fspath(path)}: has no words; check the path of the lexicon.")
    return Lexicon(pronunciations, silence)


def lexicon_lines(path: str | PathLike[str]) -> Iterator[tuple[str, str, list[str]]]:
    r"""Yield the entries of a lexicon: place (file:line), word without variant number, and the fields after it.

    Comments are skipped.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not UTF-8, or a tab shows that a word has a space in it.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.dic"
    >>> _ = path.write_text("# letters\nA(2) EY # rare\n")
    >>> [entry[1:] for entry in lexicon_lines(path)]
    [('A', ['EY'])]
    """
    for place, line in text_lines(path, "lexicon"):
        if COMMENT_LINE.match(line):
            continue
        comment = COMMENT.search(line, len(line) - len(line.lstrip()))
        fields = FIELD.findall(line[: comment.start()] if comment else line)
        if not fields:
            continue
        before_tab = FIELD.findall(line.lstrip(" \t").partition("\t")[0]) if "\t" in line.strip(" \t\r") else []
        if any(not PROBABILITY.fullmatch(each) for each in before_tab[1:]):
            raise ValueError(
                f"{place}: the word '{visible(' '.join(before_tab))}', which ends at a tab, has a space in it; "
                "write it as one word."
            )
        variant = VARIANT.fullmatch(fields[0])
        yield place, variant["word"] if variant else fields[0], fields[1:]


def _with_phones(path: str | PathLike[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Yield entries without probabilities."""
    entries = list(lexicon_lines(path))
    # A whole number may be a phone, unless every line has a number there and one of them is a fraction.
    firsts = [fields[0] if fields else "" for _, _, fields in entries]
    whole_numbers = all(map(PROBABILITY.fullmatch, firsts)) and any("." in each for each in firsts)
    for place, word, fields in entries:
        count = 0
        while count < len(fields) and PROBABILITY.fullmatch(fields[count]) and (whole_numbers or "." in fields[count]):
            count += 1
        if count not in PROBABILITIES:
            raise ValueError(f"{place}: has {count} probabilities before its phones; there may be 1 or 4.")
        yield place, word, fields[count:]
