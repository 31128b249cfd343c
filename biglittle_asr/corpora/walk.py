"""Finding a corpus and its files, through links, and without the litter of operating systems and file servers.

Litter is not part of any corpus, so it is not reported.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import TypeVar

Found = TypeVar("Found")

LITTER = frozenset({"@eaDir", "#recycle", "#snapshot", "__MACOSX", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN"})
"""Names of files and folders by Synology, Windows, and macOS in archives; other litter begins with a dot."""


def is_litter(name: str) -> bool:
    """Whether a file or folder with this name is litter or hidden.

    Example
    -------
    >>> [name for name in ("._a.flac", "@eaDir", ".DS_Store", "a.flac", "84") if not is_litter(name)]
    ['a.flac', '84']
    """
    return name.startswith(".") or name in LITTER


def without_litter(paths: Iterable[Path], folder: Path) -> list[Path]:
    """Sort the paths inside a folder, and drop litter and paths in litter folders.

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
    """Find a corpus in the folder of its name, or in that folder's parent.

    Arguments
    ---------
    data_folder : path
        Either of the two folders.
    name : str
        Name of the corpus's folder, as distributed.
    look : function of pathlib.Path
        Returns what a folder has of the corpus; falsy if nothing.
    missing, advice : str
        The message, after the folder, if neither has the corpus.

    Returns
    -------
    (pathlib.Path, found)
        The corpus's folder as an absolute path, and the result of `look` there.

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
    given = Path(os.path.expanduser(data_folder)).absolute()
    for folder in (given, given / name):
        found = look(folder)
        if found:
            return folder, found
    raise FileNotFoundError(f"{given}: {missing if given.is_dir() else 'no such folder'}; {advice}.")


def walk_files(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Walk through a folder as `os.walk` does, but also through linked folders, and once through each folder.

    Yields
    ------
    (pathlib.Path, list of str, list of str)
        A folder, and the names of its subfolders and of its files. Removing a name from the subfolders skips that one.

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
        # A link may lead back to a parent folder.
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield Path(parent), folders, names
