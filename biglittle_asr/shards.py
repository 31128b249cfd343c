"""Shards: a set of audio files or images packed into large tar files, any sample of which is read by its place.

A set NAME is an index `NAME.csv` beside tar files `NAME-<digest>-<number>.tar`, in a folder, an object store or on a
web server: wherever fsspec reads. Each row of the index says where in which shard its file is, so that a sample costs
one read of just its bytes, in whatever order samples are asked for. Therefore order, augmentation and resumption of a
training are those of the same files in a folder, and nothing about a position in a stream need be remembered.

The tar files are as webdataset has them (`key.flac` beside `key.json`), for other programs to read.
:mod:`biglittle_asr.corpora.sharding` writes them.
"""

from __future__ import annotations

import csv
import io
import logging
import os
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from biglittle_asr.messages import first_line

logger = logging.getLogger(__name__)

SHARD_NAME = re.compile(r"(?P<set>.+)-(?P<digest>[0-9a-f]{8})-(?P<number>\d{5})\.tar")
MEMBER = re.compile(r"(?P<shard>.+\.tar)#(?P<offset>\d+):(?P<size>\d+)")
FILE_COLUMNS = {"wav": "utterances", "image": "images"}
"""Columns that say where a file is, and what such an index lists."""


class ShardError(ValueError):
    """A shard, or its index, cannot be used."""


@dataclass(frozen=True)
class ShardMember:
    """A file in a shard. As text, `<shard>#<offset>:<size>`, it stands in an index.

    Example
    -------
    >>> member = ShardMember.parse("s3://speech/train-0a1b2c3d-00007.tar#1536:45000")
    >>> member.offset, str(member)
    (1536, 's3://speech/train-0a1b2c3d-00007.tar#1536:45000')
    >>> ShardMember.parse("/data/a.wav") is None
    True
    """

    shard: str
    """Path or URL of the tar file."""
    offset: int
    """Where the file's header begins, in bytes."""
    size: int
    """Of the file, in bytes."""

    @classmethod
    def parse(cls, text: str | PathLike[str]) -> ShardMember | None:
        """Understand what :meth:`__str__` has written; None for the path of an ordinary file."""
        found = MEMBER.fullmatch(os.fspath(text))
        return cls(found["shard"], int(found["offset"]), int(found["size"])) if found else None

    def __str__(self) -> str:
        return f"{self.shard}#{self.offset}:{self.size}"

    @property
    def end(self) -> int:
        """Where the file ends, in bytes."""
        return self.offset + tarfile.BLOCKSIZE + self.size

    def read(self) -> bytes:
        """Read the file.

        Raises
        ------
        ShardError
            If the shard is missing, cut off before the file's end, or not the one that the index was made of.
        """
        data = _read(self.shard, self.offset, self.end)
        if len(data) < self.end - self.offset:
            raise ShardError(
                f"{self.shard}: is cut off at {self.offset + len(data)} bytes or before, in the middle of a file that "
                f"ends at {self.end}; copy it again."
            )
        header, content = data[: tarfile.BLOCKSIZE], data[tarfile.BLOCKSIZE :]
        try:
            size = tarfile.TarInfo.frombuf(header, tarfile.ENCODING, "surrogateescape").size
        except tarfile.HeaderError:
            size = None
        if size != self.size:
            raise ShardError(f"{self.shard}: is not the shard that its index was made of; copy both again.")
        return content


def is_url(location: str | PathLike[str]) -> bool:
    """Whether this is no path but what fsspec reads elsewhere, such as s3://bucket/folder.

    Example
    -------
    >>> is_url("s3://bucket/folder"), is_url("/data/folder")
    (True, False)
    """
    return "://" in os.fspath(location)


def has_shards(location: str | PathLike[str]) -> bool:
    """Whether a folder holds shards, rather than a corpus as it was unpacked; a URL always does.

    Example
    -------
    >>> has_shards("s3://bucket/folder"), has_shards(getfixture("tmp_path"))
    (True, False)
    """
    if is_url(location):
        return True
    folder = Path(location).expanduser()
    return folder.is_dir() and any(SHARD_NAME.fullmatch(entry.name) for entry in os.scandir(folder))


def list_sets(folder: str | PathLike[str]) -> list[str]:
    """Names of the sets whose shards are in a folder, sorted.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / "test-0a1b2c3d-00000.tar").touch()
    >>> list_sets(folder)
    ['test']
    """
    found = (SHARD_NAME.fullmatch(entry.name) for entry in os.scandir(Path(folder).expanduser()))
    return sorted({match["set"] for match in found if match})


def read_index(location: str | PathLike[str], name: str, column: str) -> list[dict[str, str]]:
    """Read the index of a set.

    Arguments
    ---------
    location : path or URL
        The folder with the shards.
    name : str
        Of the set, such as `train`.
    column : str
        Which says where files are: "wav" for utterances, "image" for images.

    Returns
    -------
    list of dict from column to text
        A row a sample; the file is the text of a :class:`ShardMember` with the shard's whole path or URL.

    Raises
    ------
    FileNotFoundError
        If there is no such set, or a shard of it is missing.
    ShardError
        If the index is none, or of something else, or cannot be read. Shards that are cut off are only reported, for
        most of their files are there.
    """
    base = os.fspath(location).rstrip("/") if is_url(location) else str(Path(location).expanduser().absolute())
    place = f"{base}/{name}.csv"
    try:
        text = _read(place).decode("utf-8")
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{place}: no such index of shards; check the location, and the set's name.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ShardError(f"{place}: is no index of shards ({error}); copy it again.") from error
    if not rows or column not in rows[0]:
        raise ShardError(f"{place}: lists no {FILE_COLUMNS[column]} in shards; make it by `biglittle shard`.")
    members = []
    for number, row in enumerate(rows, start=2):
        member = ShardMember.parse(row[column] or "")
        if member is None or None in row or None in row.values():
            raise ShardError(f"{place}:{number}: does not say where in a shard its file is; copy the index again.")
        members.append(ShardMember(f"{base}/{member.shard}", member.offset, member.size))
        row[column] = str(members[-1])
    check_shards(place, members)
    return rows


def check_shards(index: str, members: Sequence[ShardMember]) -> None:
    """Refuse an index that names a shard which is missing (FileNotFoundError); report those that are cut off."""
    ends: dict[str, int] = {}
    for member in members:
        ends[member.shard] = max(ends.get(member.shard, 0), member.end)
    sizes = {shard: _size(shard) for shard in sorted(ends)}
    missing = [shard for shard, size in sizes.items() if size is None]
    if missing:
        raise FileNotFoundError(
            f"{missing[0]}: no such shard ({len(missing)} of the {len(sizes)} that {index} names are missing); "
            "copy them again."
        )
    for shard, size in sizes.items():
        if size is not None and size < ends[shard]:
            lost = sum(member.shard == shard and member.end > size for member in members)
            logger.warning(
                f"{shard}: is cut off at {size} of at least {ends[shard]} bytes, so that {lost} of {len(members)} "
                "files cannot be read; copy it again."
            )


def _read(url: str, start: int | None = None, end: int | None = None) -> bytes:
    """Bytes of a file, or as many of them as there are."""
    try:
        storage, path = _open(url)
        return bytes(storage.cat_file(path, start=start, end=end))
    except FileNotFoundError:
        raise
    # What a kind of storage raises is its own affair.
    except Exception as error:
        raise _unreadable(url, error) from error


def _size(url: str) -> int | None:
    """Bytes of a file; None if it does not exist."""
    try:
        storage, path = _open(url)
        return int(storage.info(path)["size"])
    except FileNotFoundError:
        return None
    except Exception as error:
        raise _unreadable(url, error) from error


def _open(url: str) -> tuple[Any, str]:
    # Imported here, as files in a folder need none of it. fsspec keeps connections, for each process its own.
    from fsspec.core import url_to_fs

    storage, path = url_to_fs(url)
    return storage, path


def _unreadable(url: str, error: Exception) -> ShardError:
    if isinstance(error, ImportError):
        return ShardError(f"{url}: needs a package for this kind of storage: pip install 'biglittle_asr[storage]'.")
    return ShardError(f"{url}: cannot be read ({first_line(error)}); check the location, and your access to it.")
