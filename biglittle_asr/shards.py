"""Shards: audio files or images packed into large tar files, with random access to each sample.

A set NAME is an index `NAME.csv` next to tar files `NAME-<digest>-<number>.tar`. They are in a folder, an object store
or on a web server: anywhere fsspec can read. Each row of the index gives the shard and the position of its file. So a
sample in any order needs one read of exactly its bytes. Order, augmentation and resumption of a training are the same
as with files in a folder, and no position in a stream has to be saved.

The tar files have webdataset's layout (`key.flac` next to `key.json`), so that other programs can read them.
:mod:`biglittle_asr.corpora.sharding` writes them.

Storage fails now and then. :func:`_request`, through which every byte comes, repeats requests whose failure may pass
(:data:`RETRIES`), and limits the time of each. A failure that stays raises :class:`StorageError`, at which whoever
reads many files stops. Truncated or replaced files raise :class:`ShardError`, and concern no other file.
"""

from __future__ import annotations

import csv
import io
import logging
import os
import random
import re
import ssl
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from time import sleep
from typing import Any, TypeVar
from urllib.parse import urlsplit

from biglittle_asr.extras import missing_extra
from biglittle_asr.messages import FatalError, first_line

logger = logging.getLogger(__name__)

SHARD_NAME = re.compile(r"(?P<set>.+)-(?P<digest>[0-9a-f]{8})-(?P<number>\d{5})\.tar")
MEMBER = re.compile(
    r"(?P<shard>.+\.tar)#(?P<offset>\d{1,18}):(?P<size>\d{1,18})(?::(?P<checksum>[0-9a-f]{8}))?", re.ASCII
)
FILE_COLUMNS = {"wav": "utterances", "image": "images"}
"""Columns with the position of a file, and the name of what the index lists."""


class ShardError(ValueError):
    """A shard, or its index, cannot be used."""


class StorageError(FatalError):
    """Storage does not answer, or refuses access. Other files would fare no better, so reading many of them ends."""


@dataclass(frozen=True)
class RetryPolicy:
    """How long storage may fail before a program gives up."""

    attempts: int = 8
    """Requests for the same bytes. With the waits below, the last follows the first by 45 to 91 s, which outlasts a
    restart of a gateway or a limit on the rate of requests. After longer outages a training resumes anyway."""
    first_wait: float = 1.0
    """Longest wait before the second request, in seconds. It doubles with each request. The wait is drawn between half
    of it and all of it, so that the processes of a training do not come back all at once."""
    longest_wait: float = 30.0
    """Limit of this doubling, in seconds."""
    request_seconds: float = 60.0
    """Time for one request, from connecting to the last byte, besides that for its bytes at `slowest`."""
    slowest: float = 100_000.0
    """Slowest transfer that is waited for, in bytes per second: 2 s for an utterance of 200 KB."""

    def wait(self, attempt: int) -> float:
        """Draw the seconds to wait after a failed attempt, counted from 1."""
        longest = min(self.first_wait * 2 ** (attempt - 1), self.longest_wait)
        # Not from the global generator: a training draws the same random numbers with and without failures.
        return random.SystemRandom().uniform(longest / 2, longest)


RETRIES = RetryPolicy()
"""The policy for all storage."""
TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Status codes of HTTP that a later request may not get."""
TRANSIENT_ERRORS = frozenset(
    "ClientConnectionError ClientPayloadError HTTPClientError ConnectionError IncompleteRead IncompleteReadError "
    "ResponseStreamingError ServiceRequestError ServiceResponseError TimeoutError".split()
)
"""Names of the exceptions of Python, aiohttp, botocore, urllib3 and Azure's packages for a connection that fails."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class ShardMember:
    """A file in a shard. Its text form in an index is `<shard>#<offset>:<size>:<checksum>`.

    Example
    -------
    >>> member = ShardMember.parse("s3://speech/train-0a1b2c3d-00007.tar#1536:45000:cbf43926")
    >>> member.offset, str(member)
    (1536, 's3://speech/train-0a1b2c3d-00007.tar#1536:45000:cbf43926')
    >>> ShardMember.parse("/data/a.wav") is None
    True
    """

    shard: str
    """Path or URL of the tar file."""
    offset: int
    """Start of the file's tar header, in bytes."""
    size: int
    """Size of the file, in bytes."""
    checksum: str | None = None
    """The file's :func:`crc32`; None in indices of earlier versions, which have none."""

    @classmethod
    def parse(cls, text: str | PathLike[str]) -> ShardMember | None:
        """Parse the text form of :meth:`__str__`; None for the path of an ordinary file."""
        found = MEMBER.fullmatch(os.fspath(text))
        if found is None:
            return None
        return cls(found["shard"], int(found["offset"]), int(found["size"]), found["checksum"])

    def __str__(self) -> str:
        place = f"{self.shard}#{self.offset}:{self.size}"
        return place if self.checksum is None else f"{place}:{self.checksum}"

    @property
    def end(self) -> int:
        """End of the file, in bytes."""
        return self.offset + tarfile.BLOCKSIZE + self.size

    def read(self) -> bytes:
        """Read the file.

        Raises
        ------
        FileNotFoundError
            If a shard in a folder is missing.
        ShardError
            If the shard is truncated before the file's end, or not the one that the index was made from.
        StorageError
            If remote storage fails for longer than :data:`RETRIES` allows, refuses access, or has no such shard.
        """
        try:
            return self._read()
        except ShardError as error:
            if not is_url(self.shard):
                raise
            # The bytes may have been damaged on their way.
            logger.warning(f"{str(error).rstrip('.')}: reading it once more.")
            return self._read()
        except FileNotFoundError as error:
            if not is_url(self.shard):
                raise
            raise StorageError(f"{self.shard}: no such shard; copy it, or its index, again.") from error

    def _read(self) -> bytes:
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
        if size != self.size or self.checksum not in (None, crc32(content)):
            raise ShardError(f"{self.shard}: is not the shard that its index was made of; copy both again.")
        return content


def crc32(content: bytes) -> str:
    """Eight hexadecimal digits that tell a file from damaged or other ones: CRC-32, as in zip files.

    Example
    -------
    >>> crc32(b"123456789")
    'cbf43926'
    """
    return f"{zlib.crc32(content):08x}"


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

    Raises
    ------
    StorageError
        If a URL has a password or token in it.

    Example
    -------
    >>> has_shards("s3://bucket/folder"), has_shards(getfixture("tmp_path"))
    (True, False)
    """
    if is_url(location):
        _refuse_secrets(os.fspath(location))
        return True
    folder = Path(os.path.expanduser(location))
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
    found = (SHARD_NAME.fullmatch(entry.name) for entry in os.scandir(Path(os.path.expanduser(folder))))
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
        If the index is truncated, is invalid, or lists something else. Truncated shards are only reported, as most of
        their files can be read.
    StorageError
        If remote storage fails for longer than :data:`RETRIES` allows, or refuses access.
    """
    base = os.fspath(location).rstrip("/") if is_url(location) else str(Path(os.path.expanduser(location)).absolute())
    place = f"{base}/{name}.csv"
    try:
        text = _read_all(place).decode("utf-8")
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{place}: no such index of shards; check the location, and the set's name.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ShardError(f"{place}: is not an index of shards ({error}); copy it again.") from error
    if rows and not text.endswith("\n"):
        raise ShardError(f"{place}: is cut off in the middle of a line; copy it again.")
    if not rows or column not in rows[0]:
        raise ShardError(f"{place}: lists no {FILE_COLUMNS[column]} in shards; make it with `biglittle shard`.")
    members = []
    for number, row in enumerate(rows, start=2):
        member = ShardMember.parse(row[column] or "")
        if member is None or None in row or None in row.values():
            raise ShardError(f"{place}:{number}: does not say where in a shard its file is; copy the index again.")
        members.append(replace(member, shard=f"{base}/{member.shard}"))
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


def redact(text: str) -> str:
    """Remove passwords, tokens and queries, which may hold signatures, from the URLs in a text.

    Example
    -------
    >>> redact("403, url='https://anna:secret@host/a.tar?X-Amz-Signature=0f3c'")
    "403, url='https://host/a.tar?...'"
    >>> redact("abfs://container@account.dfs.core.windows.net/a.tar")
    'abfs://container@account.dfs.core.windows.net/a.tar'
    """
    # A password may hold any character; a port is digits.
    text = re.sub(r"(\w+://)[^/\s:@\[]*:(?!\d+(?:[/\s?'\"]|$))\S*@", r"\1", text)
    # A name alone may be a container's (abfs), but for HTTP it may be a token.
    text = re.sub(r"(https?://)[^/\s]*@", r"\1", text)
    return re.sub(r"(\w+://[^\s?'\"<>]*\?)[^\s'\"<>]*", r"\1...", text)


def _refuse_secrets(url: str) -> None:
    """Raise StorageError if a URL has a secret in it, which manifests, logs and process lists would show."""
    if redact(url) != url:
        raise StorageError(
            f"{redact(url)}: was given with a password, token or query, which logs and manifests would show; set it "
            "in fsspec's configuration, or as the storage's own tools take it (docs/scale.md has examples)."
        )


def _read(url: str, start: int, end: int) -> bytes:
    """Read bytes of a file; fewer only if the file is shorter."""

    def read(storage: Any, path: str, limit: Mapping[str, float]) -> bytes:
        try:
            data = bytes(storage.cat_file(path, start=start, end=end, **limit))
        except Exception as error:
            # What lies behind the file's end.
            if _judge(error)[1] != 416:
                raise
            data = b""
        if len(data) > end - start:
            raise StorageError(
                f"{url}: the storage sent {len(data)} bytes where {end - start} were asked for, so it does not read "
                "parts of files (HTTP's Range); copy the shards to a folder, or to other storage."
            )
        if len(data) < end - start and is_url(url):
            size = storage.info(path, **limit)["size"]
            if size is not None and size >= end:
                raise ConnectionError(f"{len(data)} of {end - start} bytes arrived")
        return data

    return _request(url, read, end - start)


def _read_all(url: str) -> bytes:
    """Read a file completely; raise FileNotFoundError if it does not exist."""
    size = _size(url)
    if size is None:
        raise FileNotFoundError(url)
    data = _read(url, 0, size) if size else b""
    if len(data) < size:
        raise ShardError(f"{url}: is cut off at {len(data)} of {size} bytes; copy it again.")
    return data


def _size(url: str) -> int | None:
    """Return the size of a file in bytes; None if it does not exist."""

    def read(storage: Any, path: str, limit: Mapping[str, float]) -> int:
        size = storage.info(path, **limit)["size"]
        if size is None:
            raise StorageError(f"{url}: the server does not say its size (HTTP's Content-Length); take another server.")
        return int(size)

    try:
        return _request(url, read)
    except FileNotFoundError:
        return None


def _request(url: str, work: Callable[[Any, str, Mapping[str, float]], Result], size: int = 0) -> Result:
    """Have storage do something, and again while it fails in a way that may pass.

    Arguments
    ---------
    url : str
        Path or URL.
    work : callable
        Gets the storage, the path in it, and the keyword arguments that limit the time of a call.
    size : int
        Bytes to be transferred.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ShardError
        If a file in a folder cannot be read.
    StorageError
        As the class says.
    """
    policy = RETRIES
    storage, path = _open(url)
    seconds = policy.request_seconds + size / policy.slowest
    # fsspec limits the time only of storage whose calls are asynchronous, which is all that comes over HTTP.
    limit = {"timeout": seconds} if getattr(storage, "async_impl", False) else {}
    for attempt in range(1, policy.attempts + 1):
        try:
            return work(storage, path, limit)
        except (ShardError, StorageError):
            raise
        # Each kind of storage raises exceptions of its own, whose texts may name what must stay secret: `from None`.
        except Exception as error:
            transient, status = _judge(error)
            if isinstance(error, FileNotFoundError) and not transient and status in (None, 404, 410):
                raise FileNotFoundError(url) from None
            reason = _reason(error, seconds)
        if not is_url(url):
            raise ShardError(f"{url}: cannot be read ({reason}); check the location, and your access to it.")
        if not transient:
            denied = status in (401, 403)
            advice = (
                "give valid credentials that may read it" if denied else "check the location, and your access to it"
            )
            raise StorageError(f"{url}: cannot be read ({reason}); {advice}.")
        if attempt < policy.attempts:
            wait = policy.wait(attempt)
            logger.warning(f"{url}: {reason}; request {attempt} of {policy.attempts}, the next in {wait:.1f} s.")
            sleep(wait)
    raise StorageError(
        f"{url}: cannot be read ({reason}, the last of {policy.attempts} requests); check the network and the storage, "
        "and start again."
    )


def _open(url: str) -> tuple[Any, str]:
    # Imported here, as files in a folder do not need it. fsspec keeps connections, separate ones for each process.
    from fsspec.config import conf
    from fsspec.core import url_to_fs

    options: dict[str, Any] = {}
    if is_url(url):
        _refuse_secrets(url)
        if urlsplit(url).scheme in ("s3", "s3a"):
            # Repeating is done here alone.
            own = conf.get("s3", {}).get("config_kwargs", {})
            options["config_kwargs"] = {"retries": {"total_max_attempts": 1}, **own}
    try:
        storage, path = url_to_fs(url, **options)
    except ImportError as error:
        need = f"{url}: needs a package for this kind of storage"
        raise StorageError(missing_extra(need, "storage", error)) from error
    except ValueError as error:
        raise StorageError(f"{url}: cannot be read ({first_line(error)}); check the location.") from error
    if options:
        storage.retries = 1
    return storage, path


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, and those that caused it."""
    while error is not None:
        yield error
        error = error.__cause__


def _judge(error: BaseException) -> tuple[bool, int | None]:
    """Whether a later request may succeed, and HTTP's status code if an exception of any package stands for one."""
    chain = list(_chain(error))
    if any(isinstance(each, ssl.SSLCertVerificationError) for each in chain):
        return False, None
    # From the outermost on: aiohttp also gives a status to what is not the server's, such as too short a body.
    for each in chain:
        if any(kind.__name__ in TRANSIENT_ERRORS for kind in type(each).__mro__):
            return True, None
        response = getattr(each, "response", None)
        if isinstance(response, dict):
            code = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        else:
            # The names that aiohttp, Azure's packages and gcsfs give it.
            name = next((name for name in ("status", "status_code", "code") if hasattr(each, name)), None)
            code = None if name is None else getattr(each, name)
        if isinstance(code, int) and 400 <= code < 600:
            return code in TRANSIENT_STATUS, code
    return False, None


def _reason(error: BaseException, seconds: float) -> str:
    """What failed, as a part of a sentence."""
    # fsspec hides most failures of asking for a size behind "no such file".
    origin = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ is not None else error
    if not str(origin) and any(kind.__name__ == "TimeoutError" for kind in type(origin).__mro__):
        return f"no answer within {seconds:.3g} s"
    text = getattr(origin, "message", None) or getattr(origin, "strerror", None) or first_line(RuntimeError(origin))
    _, status = _judge(error)
    return redact(f"HTTP status {status}: {text}" if status is not None else str(text)).rstrip(".: ")
