"""Numbers as a report writes them."""

from __future__ import annotations

NO_ENTRY = "\N{EN DASH}"
"""Stands for a value that is not known."""


def rate(value: float | None, digits: int = 2) -> str:
    """Write a rate in percent, or a dash.

    Example
    -------
    >>> rate(9.3141), rate(None)
    ('9.31', '–')
    """
    return NO_ENTRY if value is None else f"{value:.{digits}f}"


def whole(value: float | None) -> str:
    """Write a whole number with commas, or a dash.

    Example
    -------
    >>> whole(2620)
    '2,620'
    """
    return NO_ENTRY if value is None else f"{value:,.0f}"


def plural(count: int, noun: str, plural: str = "") -> str:
    """Write a number and its noun.

    Example
    -------
    >>> plural(1, "word"), plural(2620, "utterance")
    ('1 word', '2,620 utterances')
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def probability(p: float, equals: str = "") -> str:
    r"""Write a probability, behind an equals sign if one is given.

    Example
    -------
    >>> probability(0.0312), probability(0.0312, "=")
    ('0.0312', '=\xa00.0312')
    """
    sign, value = ("<", "0.0001") if p < 0.0001 else (equals, f"{p:.4f}")
    return f"{sign}\N{NO-BREAK SPACE}{value}" if sign else value


def signed(value: float, digits: int) -> str:
    r"""Write a number with its sign.

    Example
    -------
    >>> signed(-0.0712, 3), signed(1.0, 1)
    ('\u22120.071', '+1.0')
    """
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")
