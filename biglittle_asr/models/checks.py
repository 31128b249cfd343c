"""What configurations check alike, and how they say that a name is unknown."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def is_positive(value: object) -> bool:
    """Whether a value is a whole number from 1 up.

    Example
    -------
    >>> is_positive(3), is_positive(0), is_positive(True), is_positive(2.0)
    (True, False, False, False)
    """
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def check_positive(config: object, names: Sequence[str]) -> None:
    """Raises ValueError unless each of these fields is a whole number from 1 up."""
    for name in names:
        if not is_positive(getattr(config, name)):
            raise ValueError(f"{name} is {getattr(config, name)!r}: take a whole number from 1 up")


def check_four(config: object, names: Sequence[str]) -> None:
    """Raises ValueError unless each of these fields has a whole number from 1 up for each of four stages."""
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, Sequence) or len(value) != 4 or not all(map(is_positive, value)):
            raise ValueError(f"{name} is {value!r}: take 4 whole numbers from 1 up, one for each stage")


def check_fields(config: type, values: Mapping[str, Any], what: str) -> None:
    """Raises ValueError if a value is for none of the dataclass's fields; `what` names such a value."""
    known = [field.name for field in dataclasses.fields(config)]
    for name in values:
        if name not in known:
            raise ValueError(unknown(what, name, known))


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """The sentence about a name that is not known, with the closest one that is.

    Example
    -------
    >>> unknown("model", "resnet5", ["resnet50", "resnet18"])
    "unknown model 'resnet5': did you mean 'resnet50'? known are resnet18, resnet50"
    """
    known = sorted(known)
    close = difflib.get_close_matches(str(name), known, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"unknown {what} {name!r}: {hint}known are {', '.join(known)}"
