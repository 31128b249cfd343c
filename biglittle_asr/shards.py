"""Shards: audio files or images packed into large tar files, with random access to each sample.

A set NAME is an index `NAME.csv` next to tar files `NAME-<digest>-<number>.tar`. They are in a folder, an object store
or on a web server: anywhere fsspec can read. Each row of the index gives the shard and the position of its file. So a
sample in any order needs one read of exactly its bytes. Order, augmentation and resumption of a training are the same
as with files in a folder, and no position in a stream has to be saved.

The tar files have webdataset's layout (`key.flac` next to `key.json`), so that other programs can read them.
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

from biglittle_asr.extras import missing_extra
from biglittle_asr.messages import first_line

logger = logging.getLogger(__name__)

SHARD_NAME = re.compile(r"(?P<set>.+)-(?P<digest>[0-9a-f]{8})-(?P<number>\d{5})\.tar")
MEMBER = re.compile(r"(?P<shard>.+\.tar)#(?P<offset>\d+):(?P<size>\d+)")
FILE_COLUMNS = {"wav": "utterances", "image": "images"}
"""Columns with the position of a file, and the name of what the index lists."""


class ShardError(ValueError):
    """A shard, or its index, cannot be used."""


@dataclass(frozen=True)
class ShardMember:
    """A file in a shard. Its text form in an index is `<shard>#<offset>:<size>`.

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
    """Start of the file's tar header, in bytes."""
    size: int
    """Size of the file, in bytes."""

    @classmethod
    def parse(cls, text: str | PathLike[str]) -> ShardMember | None:
        """Parse the text form of :meth:`__str__`; None for the path of an ordinary file."""
        found = MEMBER.fullmatch(os.fspath(text))
        return cls(found["shard"], int(found["offset"]), int(found["size"])) if found else None

    def __str__(self) -> str:
        return f"{self.shard}#{self.offset}:{self.size}"

    @property
    def end(self) -> int:
        """End of the file, in bytes."""
        return self.offset + tarfile.BLOCKSIZE + self.size

    def read(self) -> bytes:
        """Read the file.

        Raises
        ------
        ShardError
            If the shard is missing, truncated before the file's end, or not the one that the index was made from.
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
    """Whether a location is a URL that fsspec reads, such as s3://bucket/folder, rather than a path.

    Example
    -------
    >>> is_url("s3://bucket/folder"), is_url("/data/folder")
    (True, False)
    """
    return "://" in os.fspath(location)


def has_shards(location: str | PathLike[str]) -> bool:
    """Whether a folder has shards rather than an unpacked corpus; a URL always has shards.

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
    """List the names of the sets whose shards are in a folder, sorted.

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
        Name of the set, such as `train`.
    column : str
        Column with the positions of files: "wav" for utterances, "image" for images.

    Returns
    -------
    list of dict from column to text
        One row per sample. The file is the text of a :class:`ShardMember` with the shard's full path or URL.

    Raises
    ------
    FileNotFoundError
        If there is no such set, or a shard of it is missing.
    ShardError
        If the index cannot be read, is invalid, or lists something else. Truncated shards are only reported, as most
        of their files can be read.
    """
    base = os.fspath(location).rstrip("/") if is_url(location) else str(Path(location).expanduser().absolute())
    place = f"{base}/{name}.csv"
    try:
        text = _read(place).decode("utf-8")
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{place}: no such index of shards; check the location, and the set's name.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ShardError(f"{place}: is not an index of shards ({error}); copy it again.") from error
    if not rows or column not in rows[0]:
        raise ShardError(f"{place}: lists no {FILE_COLUMNS[column]} in shards; make it with `biglittle shard`.")
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
    """Raise FileNotFoundError if a shard in the index is missing, and report truncated shards."""
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
    """Read bytes of a file, or fewer if the file is shorter."""
    try:
        storage, path = _open(url)
        return bytes(storage.cat_file(path, start=start, end=end))
    except FileNotFoundError:
        raise
    # Each kind of storage raises exceptions of its own.
    except Exception as error:
        raise _unreadable(url, error) from error


def _size(url: str) -> int | None:
    """Return the size of a file in bytes; None if it does not exist."""
    try:
        storage, path = _open(url)
        return int(storage.info(path)["size"])
    except FileNotFoundError:
        return None
    except Exception as error:
        raise _unreadable(url, error) from error


def _open(url: str) -> tuple[Any, str]:
    # Imported here, as files in a folder do not need it. fsspec keeps connections, separate ones for each process.
    from fsspec.core import url_to_fs

    storage, path = url_to_fs(url)
    return storage, path


def _unreadable(url: str, error: Exception) -> ShardError:
    if isinstance(error, ImportError):
        return ShardError(missing_extra(f"{url}: needs a package for this kind of storage", "storage", error))
    return ShardError(f"{url}: cannot be read ({first_line(error)}); check the location, and your access to it.")
