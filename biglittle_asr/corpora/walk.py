"""Finding a corpus and its files: past links, and past what operating systems and file servers leave in folders.

Litter is no part of any corpus, and not to be told to a user.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import TypeVar

Found = TypeVar("Found")

LITTER = frozenset({"@eaDir", "#recycle", "#snapshot", "__MACOSX", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN"})
"""Names of Synology's and Windows' files and folders, and of what macOS puts into archives; others begin with a dot."""


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name is litter, or hidden.

    Example
    -------
    >>> [name for name in ("._a.flac", "@eaDir", ".DS_Store", "a.flac", "84") if not is_litter(name)]
    ['a.flac', '84']
    """
    return name.startswith(".") or name in LITTER


def without_litter(paths: Iterable[Path], folder: Path) -> list[Path]:
    """Paths inside a folder, sorted, without those that are litter or lie in it.

    Example
    -------
    >>> folder = Path("data")
    >>> without_litter([folder / "b.flac", folder / "@eaDir" / "b.flac", folder / "a.flac"], folder)
    [PosixPath('data/a.flac'), PosixPath('data/b.flac')]
    """
    return sorted(path for path in paths if not any(map(is_litter, path.relative_to(folder).parts)))


def find_corpus(
    data_folder: str | PathLike[str], name: str, look: Callable[[Path], Found], missing: str, advice: str
) -> tuple[Path, Found]:
    """Find a corpus in the folder of its name, or in the one that holds it.

    Arguments
    ---------
    data_folder : path
        Either of the two.
    name : str
        Of the corpus's folder, as it is distributed.
    look : function of pathlib.Path
        What of the corpus is in a folder; falsy where it is not there.
    missing, advice : str
        What to say, behind the folder, if it is in neither.

    Returns
    -------
    (pathlib.Path, found)
        The corpus's folder, absolute, and what `look` found there.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no corpus in it.

    Example
    -------
    >>> data = getfixture("tmp_path")
    >>> (data / "an4" / "etc").mkdir(parents=True)
    >>> folder, _ = find_corpus(data, "an4", lambda folder: (folder / "etc").is_dir(), "holds no AN4", "look again")
    >>> folder.name
    'an4'
    """
    given = Path(data_folder).expanduser().absolute()
    for folder in (given, given / name):
        found = look(folder)
        if found:
            return folder, found
    raise FileNotFoundError(f"{given}: {missing if given.is_dir() else 'no such folder'}; {advice}.")


def walk_files(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Walk through a folder as `os.walk` does, linked folders included, each folder once.

    Yields
    ------
    (pathlib.Path, list of str, list of str)
        A folder, and the names of its folders and of its files. Whoever removes a name from the folders leaves that
        folder out.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / "a").mkdir()
    >>> (folder / "a" / "back").symlink_to(folder)
    >>> [str(each.relative_to(folder)) for each, _, _ in walk_files(folder)]
    ['.', 'a']
    """
    seen = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        # A link may lead back to where it is.
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield Path(parent), folders, names
