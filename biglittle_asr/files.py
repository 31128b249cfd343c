"""Files that are written whole or not at all, and JSON that is read strictly."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from biglittle_asr.messages import show


def read_lines(path: Path, advice: str = "check the data folder") -> list[tuple[str, str]]:
    r"""Read a text file of a corpus as (place, line) pairs, blank lines left out.

    Arguments
    ---------
    path : pathlib.Path
        A UTF-8 text file.
    advice : str
        What to do if it is missing.

    Returns
    -------
    list of (str, str)
        `file:line` for error messages, and the line without surrounding white space.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not UTF-8 text.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.txt"
    >>> _ = path.write_text("one\n\nthree\n")
    >>> [(place.rpartition(":")[2], line) for place, line in read_lines(path)]
    [('1', 'one'), ('3', 'three')]
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; {advice}.")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}); replace the file.") from error
    stripped = ((f"{path}:{number}", line.strip()) for number, line in enumerate(text.split("\n"), start=1))
    return [(place, line) for place, line in stripped if line]


def parse_json(data: bytes) -> Any:
    """Strict JSON: UTF-8, no key twice, no NaN or Infinity.

    Raises
    ------
    ValueError
        If it is not.

    Example
    -------
    >>> parse_json(b'{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ValueError: is not valid JSON (key 'a' occurs twice).
    """
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("is not valid JSON (nested too deeply).") from None
    except UnicodeDecodeError:
        raise ValueError("is not valid JSON (not UTF-8).") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not valid JSON (line {error.lineno}: {error.msg}).") from None
    except ValueError as error:
        raise ValueError(f"is not valid JSON ({error}).") from None


def _without_duplicates(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"key {show(key)} occurs twice")
        result[key] = value
    return result


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def write_atomically(path: Path, text: str, durable: bool = False) -> None:
    """Write a text file so that a reader, or a run that is interrupted, sees the old or the new, never a part.

    Arguments
    ---------
    path : pathlib.Path
        The file; its folder must exist.
    text : str
        All of its content.
    durable : bool
        Whether the file outlives a power cut as soon as this returns.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.txt"
    >>> write_atomically(path, "whole")
    >>> path.read_text()
    'whole'
    """
    # The process number keeps two runs that prepare the same corpus at once from writing into one another's file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        if durable:
            _force_to_disk(temporary)
        os.replace(temporary, path)
        if durable:
            _force_to_disk(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _force_to_disk(path: Path) -> None:
    """Have a file's content, or a folder's names, outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
