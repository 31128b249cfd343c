"""Strict reading of text, tables, JSON and YAML, and atomic writing of files and folders."""

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

from biglittle_asr.messages import first_line, show

# The transcript of a recording of hours exceeds csv's default limit. The limit is global, so this also covers
# SpeechBrain's reader of manifests.
csv.field_size_limit(2**30)

FIELD = re.compile(r"[^ \t\r\n]+")
"""A field of a line. As in Kaldi and KenLM, only ASCII white space separates fields: a no-break space or U+3000 is part
of a word."""


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

    A byte order mark is removed. A line ends at a line feed; a carriage return before it is removed.

    Arguments
    ---------
    path : path
        A file, or anything else that can be read, such as a pipe.
    what : str
        Kind of file, for the error message if it is missing.
    advice : str
        Advice in that message.

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
        If it is a folder, or not UTF-8, or has a NUL character, as UTF-16 has. The message names the line.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.txt"
    >>> _ = path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\n")
    >>> read_text(path)
    'one\ntwo\n'
    """
    data = _read(path, what, advice)
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error.object[: error.start].count(b"\n") + 1) from error
    if "\0" in text:
        raise _not_utf8(path, text.partition("\0")[0].count("\n") + 1)
    return text


def text_lines(
    path: str | os.PathLike[str], what: str = "file", advice: str = "check the path"
) -> Iterator[tuple[str, str]]:
    r"""Yield the lines of a UTF-8 text file with their places. Only one line at a time is in memory.

    A line ends at a line feed and nowhere else: U+2028, a form feed or a lone carriage return is part of its line. The
    line feed and carriage returns just before it are removed. So are byte order marks at the start of lines, which
    occur within a file if files were concatenated.

    Arguments
    ---------
    path, what, advice
        As in :func:`read_text`.

    Yields
    ------
    (str, str)
        `file:line` for error messages, and the line.

    Raises
    ------
    FileNotFoundError, OSError, ValueError
        As in :func:`read_text`, when the faulty line is reached.

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
    r"""Read all lines of :func:`text_lines` that are not blank, without surrounding white space.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.txt"
    >>> _ = path.write_text("one\n\n three\n")
    >>> [(place.rpartition(":")[2], line) for place, line in read_lines(path)]
    [('1', 'one'), ('3', 'three')]
    """
    return [(place, stripped) for place, line in text_lines(path, advice=advice) if (stripped := line.strip())]


def read_table(
    path: str | os.PathLike[str], columns: Iterable[str] = (), advice: str = "check the path", numbers: bool = False
) -> list[dict[str, str]]:
    r"""Read the rows of a CSV file, by the column names in its first line.

    Arguments
    ---------
    path, advice
        As in :func:`read_text`.
    columns : iterable of str
        Required columns.
    numbers : bool
        Whether all values must be numbers; the word nan is one.

    Raises
    ------
    FileNotFoundError, OSError
        As in :func:`read_text`.
    ValueError
        If it is not a CSV file in UTF-8, lacks a column, a row has more or fewer values than there are columns, or a
        value is not a number where all must be.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.csv"
    >>> _ = path.write_text("epoch,loss\n1,0.5\n")
    >>> read_table(path)
    [{'epoch': '1', 'loss': '0.5'}]
    """
    reader = csv.DictReader(io.StringIO(read_text(path, advice=advice), newline=""), strict=True)
    rows: list[dict[str, str]] = []
    try:
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{os.fspath(path)}: its first line has no column {missing[0]}; {advice}.")
        for row in reader:
            place = f"{os.fspath(path)}:{reader.line_num}"
            if None in row or None in row.values():
                raise ValueError(f"{place}: does not have one value per column; correct the line.")
            strange = [name for name, value in row.items() if numbers and not _is_number(value)]
            if strange:
                value = show(row[strange[0]])
                raise ValueError(f"{place}: {strange[0]} is {value}, but must be a number; correct the line.")
            rows.append(row)
    except csv.Error as error:
        raise ValueError(f"{os.fspath(path)}: not a CSV file ({error}); replace the file.") from error
    return rows


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_json(path: str | os.PathLike[str], what: str = "file", advice: str = "check the path") -> Any:
    """Read a file of strict JSON; see :func:`parse_json`.

    Arguments
    ---------
    path, what, advice
        As in :func:`read_text`.

    Raises
    ------
    FileNotFoundError, OSError
        As in :func:`read_text`.
    ValueError
        If it is a folder, or not strict JSON. The message names the file.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.json"
    >>> _ = path.write_text('{"a": 1}')
    >>> read_json(path)
    {'a': 1}
    """
    try:
        return parse_json(_read(path, what, advice))
    except InvalidJSON as error:
        raise InvalidJSON(f"{os.fspath(path)}: {error}") from None


class InvalidJSON(ValueError):
    """The text is not strict JSON."""


def parse_json(data: bytes | str) -> Any:
    """Parse strict JSON: UTF-8, without duplicate keys, NaN or Infinity.

    Raises
    ------
    InvalidJSON
        If it is not strict JSON. The message begins with "is not valid JSON", so that callers can prepend a name.

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
    raise ValueError(f"{name} is not a JSON number")


def read_yaml(
    path: str | os.PathLike[str], what: str = "file", advice: str = "check the path", plain: bool = False
) -> Any:
    """Read a YAML file; see :func:`parse_yaml`.

    Arguments
    ---------
    path, what, advice
        As in :func:`read_text`.
    plain : bool
        As in :func:`parse_yaml`.

    Raises
    ------
    FileNotFoundError, OSError
        As in :func:`read_text`.
    ValueError
        If it is a folder, not UTF-8, or not YAML. The message names the file and the line.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.yaml"
    >>> _ = path.write_text("a: [1, 2]")
    >>> read_yaml(path, plain=True)
    {'a': [1, 2]}
    """
    text = read_text(path, what, advice)
    try:
        return parse_yaml(text, plain)
    except InvalidYAML as error:
        raise InvalidYAML(error.inside(path)) from error


class InvalidYAML(ValueError):
    """The text is not YAML."""

    line: int | None = None
    """Number of the line at fault, from 1; None if it is not known."""

    @classmethod
    def of(cls, error: Exception) -> InvalidYAML:
        """What ruamel.yaml's error says, in a sentence that begins with "is not valid YAML"."""
        mark = getattr(error, "problem_mark", None)
        found = cls(f"is not valid YAML ({getattr(error, 'problem', None) or first_line(error)}).")
        found.line = mark.line + 1 if mark else None
        return found

    def inside(self, path: str | os.PathLike[str]) -> str:
        """The sentence about a file: `a.yaml, line 3: is not valid YAML (...).`."""
        return f"{os.fspath(path)}{'' if self.line is None else f', line {self.line}'}: {self}"


def parse_yaml(text: str, plain: bool = False) -> Any:
    """Parse YAML. Nothing that it names is executed.

    Arguments
    ---------
    text : str
    plain : bool
        Make Python's lists and dicts, and refuse tags of other types. Otherwise keep tags, comments and lines, as
        ruamel.yaml does.

    Raises
    ------
    InvalidYAML
        If it is not YAML. The message begins with "is not valid YAML", so that callers can prepend a name.

    Example
    -------
    >>> parse_yaml("a: [1, 2")
    Traceback (most recent call last):
    biglittle_asr.files.InvalidYAML: is not valid YAML (expected ',' or ']', but got '<stream end>').
    """
    # Imported here, as most files are of other kinds.
    from ruamel.yaml import YAML

    try:
        return YAML(typ="safe" if plain else "rt").load(text)
    except RecursionError:
        raise InvalidYAML("is not valid YAML (nested too deeply).") from None
    # Besides errors of its own, ruamel.yaml raises whatever int(), datetime() and others do.
    except Exception as error:
        raise InvalidYAML.of(error) from error


@contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[Path]:
    """Write a file so that readers and interrupted runs see either the old or the new content, never a part.

    Arguments
    ---------
    path : pathlib.Path
        The file; its folder must exist.
    durable : bool
        Whether the file must survive a power failure once this returns.

    Yields
    ------
    pathlib.Path
        Where to write the new file, next to `path`. At the end it is moved to `path`. After an exception it is removed,
        and `path` is unchanged.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.bin"
    >>> with replacing(path) as temporary:
    ...     _ = temporary.write_bytes(b"whole")
    >>> path.read_bytes()
    b'whole'
    """
    # With the process number in the name, two runs that prepare the same corpus do not write to the same file.
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
    """Write text in UTF-8, or bytes, atomically; see :func:`replacing`.

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
    """Write a CSV file atomically: a line of column names, then one line per row.

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
    """Fill a folder so that an interrupted run leaves no incomplete folder of that name.

    A folder cannot be replaced in one step. The old folder is moved away until the new one is in place.

    Arguments
    ---------
    folder : pathlib.Path
        The folder; it is replaced with all its content if it exists.

    Yields
    ------
    pathlib.Path
        A new, empty folder to fill, next to `folder`. At the end it is moved to `folder`. After an exception it is
        removed, and `folder` is unchanged.

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
    # Remove what a killed run has left.
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
    """Flush a file's content, or a folder's entries, to disk, so that they survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: str | os.PathLike[str], what: str, advice: str) -> bytes:
    with _opened(path, what, advice) as file:
        return file.read()


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
