"""From ordinary sentences to the words that models use."""

from __future__ import annotations

import unicodedata

CASES = ("upper", "lower", "as_is")
"""Styles of text: in one case and without punctuation, or unchanged."""

SPOKEN = frozenset("%&'@#*/\\_§‰()[]{}")
"""Characters of Unicode's punctuation categories that are kept, because they stand for words or enclose remarks."""
APOSTROPHES = "\u2019\u02bc\uff07"
"""Other forms of the apostrophe, which are replaced by '."""


def normalize_text(text: str, case: str = "upper") -> str:
    r"""Normalize a text to words, separated by single spaces.

    Arguments
    ---------
    text : str
        The text; composed and decomposed characters, such as é and e with a combining accent, give the same result
        (NFC).
    case : str
        One of :data:`CASES`. In upper and lower case, punctuation is removed, except apostrophes between letters and
        anything between digits, where its removal would make 3.5 another number. "as_is" changes only white space;
        but a text without a letter or digit has no words.

    Returns
    -------
    str

    Example
    -------
    >>> normalize_text("Don’t call me at 5.30 – “please”, he said.")
    "DON'T CALL ME AT 5.30 PLEASE HE SAID"
    >>> normalize_text("Well-known,\n  isn't it?", "as_is")
    "Well-known, isn't it?"
    >>> normalize_text("...", "as_is")
    ''
    """
    text = unicodedata.normalize("NFC", text)
    if not any(character.isalnum() for character in text):
        return ""
    if case != "as_is":
        for apostrophe in APOSTROPHES:
            text = text.replace(apostrophe, "'")
        # Spaces at the ends give each character two neighbors.
        spaced = f" {text} "
        text = "".join(
            " " if _is_punctuation(before, character, after) else character
            for before, character, after in zip(spaced, text, spaced[2:], strict=False)
        )
        text = unicodedata.normalize("NFC", text.upper() if case == "upper" else text.lower())
    return " ".join(text.split())


def _is_punctuation(before: str, character: str, after: str) -> bool:
    if character == "'":
        return not (is_letter(before) and is_letter(after))
    if before.isdigit() and after.isdigit():
        return False
    return unicodedata.category(character).startswith("P") and character not in SPOKEN


def is_letter(character: str) -> bool:
    """Whether a character is a letter or a combining mark."""
    return unicodedata.category(character)[0] in "LM"


def other_characters(words: str) -> frozenset[str]:
    """Characters of words other than letters and apostrophes: digits, which can be read in many ways, and symbols.

    Example
    -------
    >>> sorted(other_characters("IT'S 5 %"))
    ['%', '5']
    """
    return frozenset(each for each in words if each not in " '" and not is_letter(each))
