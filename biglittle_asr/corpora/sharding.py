"""Packing a manifest's audio, or a folder of images, into the shards that :mod:`biglittle_asr.shards` reads."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from biglittle_asr.audio.files import WHOLE
from biglittle_asr.corpora.images.folder import read_image_folder
from biglittle_asr.corpora.manifest import read_manifest, row_segment
from biglittle_asr.files import replacing, write_table
from biglittle_asr.shards import SHARD_NAME, ShardMember, crc32

SHARD_MEGABYTES = 256
"""Default size of a shard. A sample costs one request at any size. 960 hours of FLAC make some 240 files, few enough to
copy and check, and the loss of one costs half a percent of the data."""

LARGEST_SHARD = 1 << 33
"""Largest file in bytes: the limit of a tar header's octal size field."""


@dataclass(frozen=True)
class Sample:
    """A file to be packed."""

    id: str
    path: Path
    size: int
    """Bytes."""
    row: dict[str, str]
    """Its row in the index, without its location."""

    def headers(self) -> tuple[bytes, bytes, bytes]:
        """The description's header and content, and the file's header."""
        description = json.dumps(self.row, ensure_ascii=False, sort_keys=True).encode()
        key = self.id.removesuffix(self.path.suffix)
        return _header(f"{key}.json", len(description)), description, _header(f"{key}{self.path.suffix}", self.size)


@dataclass(frozen=True)
class Shard:
    """A shard to be written: samples, and the offsets of their files' headers."""

    path: Path
    samples: tuple[Sample, ...]
    offsets: tuple[int, ...]
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Summary:
    """The result of packing a set."""

    index: Path
    samples: int
    shards: int
    bytes: int
    written: int
    """Number of new shards."""


def write_shards(
    source: str | PathLike[str],
    output_folder: str | PathLike[str],
    shard_megabytes: int = SHARD_MEGABYTES,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Summary:
    r"""Pack a set into `<name>.csv` and `<name>-<digest>-<number>.tar`; the name is that of the manifest or folder.

    Files are packed unchanged. The same files and options give the same bytes. A hash of the ID determines a sample's
    shard, so each shard is a fair sample of the set, and losing one does not lose a speaker. Shards are written
    atomically and existing ones are not written again, so an interrupted run can be continued by repeating it. The
    index is written last, with a checksum of every file.

    Arguments
    ---------
    source : path
        A manifest (ID, duration, wav, spk_id, wrd), or a folder with one folder of images per class.
    output_folder : path
        Created if missing; several sets may share it.
    shard_megabytes : int
        Largest size of a shard.
    progress : callable
        Called with the number of bytes done, and their total.

    Returns
    -------
    Summary

    Raises
    ------
    FileNotFoundError
        If the source or one of its files is missing.
    ValueError
        If the source is neither, or one of its files changes during packing.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "a.wav").write_bytes(b"audio")
    >>> _ = (folder / "train.csv").write_text("ID,duration,wav,spk_id,wrd\na,1.0,a.wav,s,YES\n")
    >>> summary = write_shards(folder / "train.csv", folder / "shards")
    >>> summary.index.read_text().splitlines()[1]
    'a,1.0,train-b85ec0d0-00000.tar#1024:5:187d3695,s,YES'
    """
    source, output_folder = Path(source), Path(output_folder)
    if not 0 < shard_megabytes << 20 <= LARGEST_SHARD:
        raise ValueError(f"megabytes of a shard: is {shard_megabytes}, but must be from 1 to {LARGEST_SHARD >> 20}.")
    if source.is_dir():
        column, name, samples = "image", source.absolute().name, _images(source)
    else:
        column, name, samples = "wav", source.stem, _utterances(source)
    shards = _arrange(output_folder, name, samples, shard_megabytes << 20)
    newest = max(sample.path.stat().st_mtime_ns for sample in samples)
    due = [not _is_written(shard, newest) for shard in shards]
    total = sum(shard.size for shard in shards)
    done = 0
    output_folder.mkdir(parents=True, exist_ok=True)
    progress(done, total)
    places: dict[str, ShardMember] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for shard, checksums in zip(shards, pool.map(_write, shards, due), strict=True):
            for sample, offset, digits in zip(shard.samples, shard.offsets, checksums, strict=True):
                places[sample.id] = ShardMember(shard.path.name, offset, sample.size, digits)
            done += shard.size
            progress(done, total)
    index = output_folder / f"{name}.csv"
    columns = ["ID", "duration", "wav", "spk_id", "wrd"] if column == "wav" else ["ID", "class", "image"]
    rows = [{**sample.row, column: str(places[sample.id])} for sample in samples]
    write_table(index, columns, [[row.get(name, "") for name in columns] for row in rows])
    _remove_others(output_folder, name, shards)
    return Summary(index, len(samples), len(shards), total, sum(due))


def _utterances(manifest: Path) -> list[Sample]:
    rows = read_manifest(manifest)
    for row in rows:
        if row_segment(row) != WHOLE:
            raise ValueError(
                f"{manifest}: {row['ID']} is a part of {row['wav']}, but shards hold whole files; cut it out."
            )
    return [_sample(row["ID"], Path(row["wav"]), {key: row[key] for key in row if key != "wav"}) for row in rows]


def _images(folder: Path) -> list[Sample]:
    images = read_image_folder(folder)
    return [
        _sample(name, folder / name, {"ID": name, "class": images.classes[file.label]})
        for name, file in zip(images.names, images.files, strict=True)
    ]


def _sample(name: str, path: Path, row: dict[str, str]) -> Sample:
    try:
        return Sample(name, path, path.stat().st_size, row)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: no such file; restore it, or leave {name} out of the set.") from error


def _header(name: str, size: int) -> bytes:
    """Make the tar header of a file; long or non-ASCII names need another header in front."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _padding(size: int) -> int:
    return -size % tarfile.BLOCKSIZE


def _arrange(folder: Path, name: str, samples: Sequence[Sample], largest: int) -> list[Shard]:
    facts = sorted((sample.id, sample.size, sorted(sample.row.items())) for sample in samples)
    digest = hashlib.sha256(repr((largest, facts)).encode()).hexdigest()[:8]
    shards: list[Shard] = []
    held: list[Sample] = []
    offsets: list[int] = []
    end = 0

    def close() -> None:
        path = folder / f"{name}-{digest}-{len(shards):05d}.tar"
        shards.append(Shard(path, tuple(held), tuple(offsets), end + 2 * tarfile.BLOCKSIZE))

    for sample in sorted(samples, key=lambda sample: hashlib.sha256(sample.id.encode()).digest()):
        first, description, second = sample.headers()
        before = len(first) + len(description) + _padding(len(description)) + len(second)
        size = before + sample.size + _padding(sample.size)
        if held and end + size > largest:
            close()
            held, offsets, end = [], [], 0
        held.append(sample)
        offsets.append(end + before - tarfile.BLOCKSIZE)
        end += size
    close()
    return shards


def _is_written(shard: Shard, newest: int) -> bool:
    """Whether a shard exists; it is complete if so, and up to date if no file is newer."""
    try:
        status = shard.path.stat()
    except FileNotFoundError:
        return False
    return status.st_size == shard.size and status.st_mtime_ns >= newest


def _write(shard: Shard, due: bool) -> list[str]:
    """Write a shard if it is due, and return the checksums of its files."""
    if not due:
        return [crc32(_content(sample)) for sample in shard.samples]
    checksums = []
    with replacing(shard.path) as temporary, temporary.open("wb") as file:
        for sample in shard.samples:
            first, description, second = sample.headers()
            content = _content(sample)
            checksums.append(crc32(content))
            for part in (first, description, bytes(_padding(len(description))), second, content):
                file.write(part)
            file.write(bytes(_padding(sample.size)))
        file.write(bytes(2 * tarfile.BLOCKSIZE))
    return checksums


def _content(sample: Sample) -> bytes:
    content = sample.path.read_bytes()
    if len(content) != sample.size:
        raise ValueError(f"{sample.path}: changed while it was packed; start again when it is complete.")
    return content


def _remove_others(folder: Path, name: str, shards: Sequence[Shard]) -> None:
    """Remove shards of the set that its index no longer names."""
    named = {shard.path.name for shard in shards}
    for entry in os.scandir(folder):
        found = SHARD_NAME.fullmatch(entry.name)
        if found and found["set"] == name and entry.name not in named:
            os.unlink(entry.path)
