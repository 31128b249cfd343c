"""Files: text, tables and JSON that are read strictly, and files and folders that are written whole or not at all."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from biglittle_asr.messages import show

# The text of a recording of hours is longer than csv takes by itself. The limit is the process's, so that it holds for
# SpeechBrain's reader of manifests as well.
csv.field_size_limit(2**30)

FIELD = re.compile(r"[^ \t\r\n]+")
"""A field of a line. As in Kaldi and KenLM, ASCII white space alone separates fields: a no-break space or U+3000 is a
character of a word."""


LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How the small text files begin that git has in place of large ones, where git-lfs has not fetched them."""


def refuse_pointer(start: bytes) -> None:
    """Refuse what git-lfs has left in place of a file.

    Arguments
    ---------
    start : bytes
        How the file begins.

    Raises
    ------
    ValueError
        If it is such a pointer; the message begins with "is", for a caller to put in front what it is.

    Example
    -------
    >>> refuse_pointer(b"version https://git-lfs.github.com/spec/v1")
    Traceback (most recent call last):
    ValueError: is a pointer of git-lfs, not the file itself; run `git lfs pull` where it was cloned.
    """
    if start.startswith(LFS_POINTER):
        raise ValueError("is a pointer of git-lfs, not the file itself; run `git lfs pull` where it was cloned.")


def read_text(path: str | os.PathLike[str], what: str = "file", advice: str = "check the path") -> str:
    r"""Read a UTF-8 text file.

    A byte order mark is not part of the text. A line ends at a line feed; a carriage return before it is left out.

    Arguments
    ---------
    path : path
        A file, or whatever else can be read, such as a pipe.
    what : str
        What it is, for the message that it is missing.
    advice : str
        What to do then.

    Returns
    -------
    str
        The text.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OSError
        If it cannot be read.
    ValueError
        If it is a folder, or not UTF-8; the message names the line.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.txt"
    >>> _ = path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\n")
    >>> read_text(path)
    'one\ntwo\n'
    """
    data = _read(path, what, advice)
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error.object[: error.start].count(b"\n") + 1) from error


def text_lines(
    path: str | os.PathLike[str], what: str = "file", advice: str = "check the path"
) -> Iterator[tuple[str, str]]:
    r"""Lines of a UTF-8 text file, and where each is; one line at a time is in memory.

    A line ends at a line feed and nowhere else: U+2028, a form feed or a lone carriage return is part of its line. The
    line feed, and carriage returns just before it, are left out; so are byte order marks, which begin other lines than
    the first where files were put together.

    Arguments
    ---------
    path, what, advice
        As of :func:`read_text`.

    Yields
    ------
    (str, str)
        `file:line` for error messages, and the line.

    Raises
    ------
    FileNotFoundError, OSError, ValueError
        As of :func:`read_text`, once the line at fault is reached.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.txt"
    >>> _ = path.write_bytes(b"one\r\n\ntwo\x0cthree")
    >>> [(place.rpartition(":")[2], line) for place, line in text_lines(path)]
    [('1', 'one'), ('2', ''), ('3', 'two\x0cthree')]
    """
    with _opened(path, what, advice) as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.removeprefix(codecs.BOM_UTF8).decode("utf-8")
            except UnicodeDecodeError as error:
                raise _not_utf8(path, number) from error
            yield f"{os.fspath(path)}:{number}", text.removesuffix("\n").rstrip("\r")


def read_lines(path: str | os.PathLike[str], advice: str = "check the data folder") -> list[tuple[str, str]]:
    r"""All lines of :func:`text_lines` that are not blank, without surrounding white space.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.txt"
    >>> _ = path.write_text("one\n\n three\n")
    >>> [(place.rpartition(":")[2], line) for place, line in read_lines(path)]
    [('1', 'one'), ('3', 'three')]
    """
    return [(place, stripped) for place, line in text_lines(path, advice=advice) if (stripped := line.strip())]


def read_table(
    path: str | os.PathLike[str], columns: Iterable[str] = (), what: str = "file", advice: str = "check the path"
) -> list[dict[str, str]]:
    r"""Rows of a CSV file by the columns that its first line names.

    Arguments
    ---------
    path, what, advice
        As of :func:`read_text`.
    columns : iterable of str
        Columns that must be there.

    Raises
    ------
    FileNotFoundError, OSError
        As of :func:`read_text`.
    ValueError
        If it is no CSV file in UTF-8, lacks a column, or a row has more or fewer values than there are columns.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.csv"
    >>> _ = path.write_text("epoch,loss\n1,0.5\n")
    >>> read_table(path)
    [{'epoch': '1', 'loss': '0.5'}]
    """
    reader = csv.DictReader(io.StringIO(read_text(path, what, advice), newline=""), strict=True)
    rows: list[dict[str, str]] = []
    try:
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{os.fspath(path)}: its first line names no column {missing[0]}; {advice}.")
        for row in reader:
            if None in row or None in row.values():
                place = f"{os.fspath(path)}:{reader.line_num}"
                raise ValueError(f"{place}: has not as many values as there are columns; correct the line.")
            rows.append(row)
    except csv.Error as error:
        raise ValueError(f"{os.fspath(path)}: no CSV file ({error}); replace the file.") from error
    return rows


def read_json(
    path: str | os.PathLike[str], what: str = "file", advice: str = "check the path", largest: int | None = None
) -> Any:
    """Read a file of strict JSON, as :func:`parse_json` takes it.

    Arguments
    ---------
    path, what, advice
        As of :func:`read_text`.
    largest : int, optional
        Bytes that the file may have, for a file that another program has written.

    Raises
    ------
    FileNotFoundError, OSError
        As of :func:`read_text`.
    ValueError
        If it is a folder, too large, or no strict JSON; the message names the file.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.json"
    >>> _ = path.write_text('{"a": 1}')
    >>> read_json(path)
    {'a': 1}
    """
    try:
        return parse_json(_read(path, what, advice, largest))
    except InvalidJSON as error:
        raise InvalidJSON(f"{os.fspath(path)}: {error}") from None


class InvalidJSON(ValueError):
    """The text is no strict JSON."""


def parse_json(data: bytes | str) -> Any:
    """Strict JSON: UTF-8, no key twice, no NaN or Infinity.

    Raises
    ------
    InvalidJSON
        If it is not; the message begins with "is not valid JSON", for a caller to put in front what it is.

    Example
    -------
    >>> parse_json(b'{"a": 1, "a": 2}')
    Traceback (most recent call last):
    biglittle_asr.files.InvalidJSON: is not valid JSON (key 'a' occurs twice).
    """
    try:
        text = data if isinstance(data, str) else data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
        return json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
    except RecursionError:
        fault = "nested too deeply"
    except UnicodeDecodeError:
        fault = "not UTF-8"
    except json.JSONDecodeError as error:
        fault = f"line {error.lineno}: {error.msg}"
    except ValueError as error:
        fault = str(error)
    raise InvalidJSON(f"is not valid JSON ({fault}).")


def _without_duplicates(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"key {show(key)} occurs twice")
        result[key] = value
    return result


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


@contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[Path]:
    """Write a file so that a reader, or a run that is interrupted, sees the old or the new, never a part.

    Arguments
    ---------
    path : pathlib.Path
        The file; its folder must exist.
    durable : bool
        Whether the file outlives a power cut as soon as this returns.

    Yields
    ------
    pathlib.Path
        Where to write the new file: beside `path`, and moved there at the end. After an exception it is removed, and
        `path` is as it was.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.bin"
    >>> with replacing(path) as temporary:
    ...     _ = temporary.write_bytes(b"whole")
    >>> path.read_bytes()
    b'whole'
    """
    # The process number keeps two runs that prepare the same corpus at once from writing into one another's file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        if durable:
            force_to_disk(temporary)
        os.replace(temporary, path)
        if durable:
            force_to_disk(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: str | bytes, durable: bool = False) -> None:
    """Write text in UTF-8, or bytes, by :func:`replacing`.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.txt"
    >>> write_atomically(path, "whole")
    >>> path.read_text()
    'whole'
    """
    with replacing(path, durable) as temporary:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]], durable: bool = False) -> None:
    """Write a CSV file, whole or not at all: a line of column names, and a line for each row.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.csv"
    >>> write_table(path, ("epoch", "loss"), [(1, 0.5)])
    >>> read_table(path)
    [{'epoch': '1', 'loss': '0.5'}]
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    write_atomically(path, text.getvalue(), durable)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Fill a folder so that a run that is interrupted leaves nothing that looks like it.

    A folder cannot be replaced in one step: the old one steps aside until the new one is in its place.

    Arguments
    ---------
    folder : pathlib.Path
        Replaced with all that is in it, if it exists.

    Yields
    ------
    pathlib.Path
        A new, empty folder beside `folder` to fill, moved there at the end. After an exception it is removed, and
        `folder` is as it was.

    Example
    -------
    >>> folder = getfixture("tmp_path") / "corpus"
    >>> with replacing_folder(folder) as partial:
    ...     write_atomically(partial / "a.txt", "whole")
    >>> [path.name for path in folder.parent.iterdir()], [path.name for path in folder.iterdir()]
    (['corpus'], ['a.txt'])
    """
    place = folder.resolve()
    partial, old = (place.with_name(f".{place.name}.{kind}") for kind in ("partial", "old"))
    # Left behind by a run that was killed.
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(old, ignore_errors=True)
        if place.exists():
            place.rename(old)
        partial.rename(place)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def force_to_disk(path: Path) -> None:
    """Have a file's content, or a folder's names, outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: str | os.PathLike[str], what: str, advice: str, largest: int | None = None) -> bytes:
    with _opened(path, what, advice) as file:
        if largest is None:
            return file.read()
        data = file.read(largest + 1)
    if len(data) > largest:
        raise ValueError(f"{os.fspath(path)}: has more than {largest} bytes, too many for such a file; {advice}.")
    return data


@contextmanager
def _opened(path: str | os.PathLike[str], what: str, advice: str) -> Iterator[io.BufferedReader]:
    try:
        file = open(path, "rb")  # noqa: SIM115 (closed below)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{os.fspath(path)}: no such {what}; {advice}.") from error
    except IsADirectoryError as error:
        raise ValueError(f"{os.fspath(path)}: is a folder, not a {what}; {advice}.") from error
    with file:
        try:
            refuse_pointer(file.peek(len(LFS_POINTER)))
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from None
        yield file


def _not_utf8(path: str | os.PathLike[str], line: int) -> ValueError:
    return ValueError(f"{os.fspath(path)}:{line}: not UTF-8 text; convert the file to UTF-8.")
