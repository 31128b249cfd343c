"""What operating systems and file servers leave in folders: no part of any corpus, and not to be told to a user."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

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
