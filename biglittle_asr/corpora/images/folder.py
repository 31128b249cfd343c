"""Photographs in class folders, or the same in shards: finding them, and indexing their classes.

A set of images is a folder with one folder per class. The classes are the folders' names, sorted. ImageNet's classes
are an exception: each has its index among all 1000.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from biglittle_asr.corpora.walk import is_litter
from biglittle_asr.shards import ShardMember, read_index

SPLITS = frozenset({"train", "val", "test"})
"""Names of folders that are sets rather than classes."""


class ImageFile(NamedTuple):
    """An image and its class."""

    path: Path | ShardMember
    label: int
    """Index of the class."""


@dataclass(frozen=True)
class ImageFolder:
    """Images in class folders, or packed into shards."""

    folder: str
    """Location of the images: a path, or the location of shards."""
    classes: tuple[str, ...]
    """Names of the classes: index i of the network is class i."""
    files: tuple[ImageFile, ...]
    """Sorted by class folder and path."""
    names: tuple[str, ...]
    """Paths of the files inside the folder."""
    empty: tuple[str, ...] = ()
    """Class folders without any image."""


def read_image_folder(
    folder: str | PathLike[str],
    classes: Sequence[str] | None = None,
    limit_classes: int | None = None,
    images_per_class: int | None = None,
    allow_empty: bool = False,
    ignore_others: bool = False,
) -> ImageFolder:
    """Find the images in a folder of class folders.

    Every file in a class folder, or in folders inside it, counts as an image, except hidden files and litter of
    operating systems. A file that is not an image is noticed only when it is read.

    Arguments
    ---------
    folder : path
        The folder of class folders.
    classes : sequence of str, optional
        The classes of a network, in the order of its outputs; they must include all of the folder's. By default, the
        folder's own classes, sorted.
    limit_classes : int, optional
        Use only this many of the folder's classes, the first ones.
    images_per_class : int, optional
        Use only this many images of each class, the first ones.
    allow_empty : bool
        Accept class folders without images.
    ignore_others : bool
        Ignore class folders that are not among `classes`, instead of refusing the folder.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If it has no class folders, an empty one, one that is not among `classes`, or fewer than `limit_classes`.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> for name in ("dog/rex.jpg", "cat/tom.jpg"):
    ...     (folder / name).parent.mkdir()
    ...     _ = (folder / name).write_bytes(b"")
    >>> [(file.path.name, file.label) for file in read_image_folder(folder).files]
    [('tom.jpg', 0), ('rex.jpg', 1)]
    >>> [file.label for file in read_image_folder(folder, classes=["ape", "dog", "cat"]).files]
    [2, 1]
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; give one that has a folder of images for each class.")
    found = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_litter(entry.name))
    if not found:
        raise ValueError(f"{folder}: has no class folders; give a folder that has a folder of images for each class.")
    found, index = _choose_classes(str(folder), found, classes, limit_classes, ignore_others)
    files: list[ImageFile] = []
    names: list[str] = []
    empty = []
    for name in found:
        paths = sorted(_files(folder / name))[:images_per_class]
        files += [ImageFile(path, index[name]) for path in paths]
        names += [path.relative_to(folder).as_posix() for path in paths]
        if not paths:
            empty.append(name)
    if (empty and not allow_empty) or not files:
        raise ValueError(f"{folder / empty[0]}: the class folder is empty; fill it, or remove it.")
    return ImageFolder(str(folder), tuple(index), tuple(files), tuple(names), tuple(empty))


def read_image_shards(
    location: str | PathLike[str],
    name: str,
    classes: Sequence[str] | None = None,
    limit_classes: int | None = None,
    images_per_class: int | None = None,
    ignore_others: bool = False,
) -> ImageFolder:
    """Find the images of a set that was packed into shards, in the order of the original folder.

    Arguments
    ---------
    location : path or URL
        The folder with the shards.
    name : str
        Name of the set, such as `train`.
    classes, limit_classes, images_per_class, ignore_others
        As in :func:`read_image_folder`.

    Raises
    ------
    FileNotFoundError, ValueError
        As in :func:`read_image_folder` and :func:`~biglittle_asr.shards.read_index`.
    """
    rows: dict[str, list[dict[str, str]]] = {}
    for row in read_index(location, name, "image"):
        rows.setdefault(row["class"], []).append(row)
    place = f"{os.fspath(location)}/{name}.csv"
    found, index = _choose_classes(place, sorted(rows), classes, limit_classes, ignore_others)
    files, names = [], []
    for each in found:
        for row in rows[each][:images_per_class]:
            member = ShardMember.parse(row["image"])
            assert member is not None
            files.append(ImageFile(member, index[each]))
            names.append(row["ID"])
    return ImageFolder(place, tuple(index), tuple(files), tuple(names))


def _choose_classes(
    place: str, found: list[str], classes: Sequence[str] | None, limit: int | None, ignore_others: bool
) -> tuple[list[str], dict[str, int]]:
    """Choose which of the classes found to use, and index each of the network's classes."""
    if limit is not None:
        if not 0 < limit <= len(found):
            raise ValueError(f"{place}: has {len(found)} classes, so {limit} cannot be taken of them.")
        found = found[:limit]
    index = {name: number for number, name in enumerate(found if classes is None else classes)}
    if ignore_others:
        found = [name for name in found if name in index]
    foreign = [name for name in found if name not in index]
    if foreign:
        raise ValueError(
            f"{place}: class folder {foreign[0]} is none of the {len(index)} classes of the model "
            f"({len(foreign)} of {len(found)} folders are not); give a folder with its classes."
        )
    if not found:
        raise ValueError(f"{place}: has none of the classes of the model; give a folder with its classes.")
    return found, index


def split_folder(folder: str | PathLike[str], split: str) -> Path:
    """The split's folder inside a folder with splits, or the folder itself if it has classes.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / "val" / "cat").mkdir(parents=True)
    >>> split_folder(folder, "val").name, split_folder(folder / "val", "val").name
    ('val', 'val')
    """
    folder = Path(folder)
    if folder.is_dir():
        names = {entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_litter(entry.name)}
        if split in names and names <= SPLITS:
            return folder / split
    return folder


def _files(folder: Path) -> Iterator[Path]:
    for entry in os.scandir(folder):
        if is_litter(entry.name):
            continue
        if entry.is_dir():
            yield from _files(Path(entry.path))
        else:
            yield Path(entry.path)
