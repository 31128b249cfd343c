"""Checks that configurations share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from biglittle_asr.messages import unknown


def is_positive(value: object) -> bool:
    """Whether a value is an integer of 1 or more.

    Example
    -------
    >>> is_positive(3), is_positive(0), is_positive(True), is_positive(2.0)
    (True, False, False, False)
    """
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def check_positive(config: object, names: Sequence[str]) -> None:
    """Raise ValueError unless each of these fields is an integer of 1 or more."""
    for name in names:
        if not is_positive(getattr(config, name)):
            raise ValueError(f"{name} is {getattr(config, name)!r}: take a whole number from 1 up")


def check_four(config: object, names: Sequence[str]) -> None:
    """Raise ValueError unless each of these fields has four integers of 1 or more, one per stage."""
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, Sequence) or len(value) != 4 or not all(map(is_positive, value)):
            raise ValueError(f"{name} is {value!r}: take 4 whole numbers from 1 up, one for each stage")


def check_fields(config: type, values: Mapping[str, Any], what: str) -> None:
    """Raise ValueError if a name is not a field of the dataclass; `what` describes it in the message."""
    known = [field.name for field in dataclasses.fields(config)]
    for name in values:
        if name not in known:
            raise ValueError(unknown(what, name, known))
