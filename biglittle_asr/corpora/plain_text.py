"""From sentences as people write them to words as models have them."""

from __future__ import annotations

import unicodedata

CASES = ("upper", "lower", "as_is")
"""How texts are written: in one case and without punctuation, or as they stand."""

SPOKEN = frozenset("%&'@#*/\\_§‰()[]{}")
"""Punctuation, by Unicode's category, that stands for words, or for remarks that are no words: it is not taken off."""
APOSTROPHES = "\u2019\u02bc\uff07"
"""Other forms of the apostrophe, which becomes '."""


def normalize_text(text: str, case: str = "upper") -> str:
    r"""Words of a text, separated by single spaces.

    Arguments
    ---------
    text : str
        Composed and decomposed characters, such as é and e with an accent behind it, come out the same (NFC).
    case : str
        One of :data:`CASES`. In upper and lower case, punctuation is left out: apostrophes stay between letters, and
        anything between digits, where 3.5 would become another number. As it stands, nothing is changed but white
        space; but a text without a letter or digit has no words.

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
        # Spaces at the ends, so that each character has two neighbours.
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
    """Whether a character is a letter, or a mark on one."""
    return unicodedata.category(character)[0] in "LM"


def other_characters(words: str) -> frozenset[str]:
    """Characters of words besides letters and apostrophes: digits, which are read in many ways, and symbols.

    Example
    -------
    >>> sorted(other_characters("IT'S 5 %"))
    ['%', '5']
    """
    return frozenset(each for each in words if each not in " '" and not is_letter(each))
