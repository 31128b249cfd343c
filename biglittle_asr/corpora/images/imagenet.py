"""ImageNet (ILSVRC 2012): its classes, and unpacking its tar files.

Classes are identified by wnids (n01440764: tench). Output i of a 1000-class network is the i-th wnid in sorted order
(`imagenet_wnids.txt`).
"""

from __future__ import annotations

import re
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import resources
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import IO

from biglittle_asr.files import replacing
from biglittle_asr.messages import first_line

DEVKIT = "ILSVRC2012_devkit_t12"
VALIDATION_TAR = "ILSVRC2012_img_val.tar"
TRAINING_TAR = "ILSVRC2012_img_train.tar"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
VALIDATION_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")
TRAINING_IMAGE = re.compile(r"(n\d{8})_\d+\.JPEG")
CLASS_TAR = re.compile(r"(n\d{8})\.tar")
LARGEST_META = 64 << 20
"""Largest number of bytes read from meta.mat, whose size is below 1 MB."""

Progress = Callable[[str, int, int], None]
"""Receives a split, the number of images done, and their total, which is 0 if unknown."""


@cache
def imagenet_classes() -> dict[str, str]:
    """Map ImageNet's 1000 wnids, in the order of the networks' outputs, to their names.

    Example
    -------
    >>> list(imagenet_classes().items())[:2]
    [('n01440764', 'tench'), ('n01443537', 'goldfish')]
    """
    text = resources.files(__package__).joinpath("imagenet_wnids.txt").read_text(encoding="utf-8")
    return dict(line.split(" ", 1) for line in text.splitlines())


def arrange(
    data_folder: str | PathLike[str], output_folder: str | PathLike[str], progress: Progress | None = None
) -> dict[str, Path]:
    """Unpack ImageNet's tar files into class folders: `<output_folder>/val/<wnid>/*.JPEG`, and `train/` likewise.

    The devkit numbers the validation images' classes, not in the order of the wnids, so its meta.mat and its list of
    true classes are read. Each image appears completely or not at all. Existing images are not written again, so an
    interrupted run can be continued by repeating it.

    Arguments
    ---------
    data_folder : path
        Folder with the files of image-net.org: ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz (or its unpacked
        folder), and ILSVRC2012_img_train.tar or the class tar files from it. Missing sets are skipped.
    output_folder : path
        Parent folder for `train` and `val`; created if missing.
    progress : callable, optional
        Called with the progress.

    Returns
    -------
    dict from "train", "val" to pathlib.Path
        The folders of class folders.

    Raises
    ------
    FileNotFoundError
        If the folder has none of the tar files, or lacks the devkit that the validation images need.
    ValueError
        If a file differs from the distributed one, or is truncated.
    """
    data_folder, output_folder = Path(data_folder), Path(output_folder)
    if not data_folder.is_dir():
        raise FileNotFoundError(f"{data_folder}: no such folder; give the one with {VALIDATION_TAR} and {DEVKIT}.")
    tell = progress or (lambda split, done, total: None)
    arranged = {}
    training, class_tars = data_folder / TRAINING_TAR, sorted(data_folder.glob("n????????.tar"))
    validation = data_folder / VALIDATION_TAR
    if validation.is_file():
        truth = _validation_classes(data_folder)
        arranged["val"] = output_folder / "val"
        _arrange_validation(validation, truth, arranged["val"], tell)
    if training.is_file() or class_tars:
        arranged["train"] = output_folder / "train"
        _arrange_training(training if training.is_file() else class_tars, arranged["train"], tell)
    if not arranged:
        raise FileNotFoundError(
            f"{data_folder}: has neither {VALIDATION_TAR} nor {TRAINING_TAR}; download them from image-net.org."
        )
    return arranged


def _validation_classes(data_folder: Path) -> list[str]:
    """Wnids of the validation images, in the order of their numbers.

    torchvision's `parse_devkit_archive` does this for its own data set, but it needs the original archive, with its MD5
    sum, and writes the result beside it. Here a devkit may be unpacked, and the data folder read-only.
    """
    meta = _devkit_file(data_folder, "meta.mat")
    truth = _devkit_file(data_folder, GROUND_TRUTH)
    wnids = _wnids_by_id(meta, data_folder)
    try:
        return [wnids[int(line)] for line in truth.decode("ascii").split()]
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{data_folder}: the devkit's {GROUND_TRUTH} has a class that its meta.mat has not ({error}); "
            "download the devkit again."
        ) from error


def _devkit_file(data_folder: Path, name: str) -> bytes:
    """Content of a file in the devkit's folder `data`, from the tar file or the unpacked folder."""
    for folder in (data_folder / DEVKIT / "data", data_folder / "data", data_folder):
        if (folder / name).is_file():
            return (folder / name).read_bytes()
    archive = data_folder / f"{DEVKIT}.tar.gz"
    if not archive.is_file():
        raise FileNotFoundError(
            f"{archive}: no such file, which tells the classes of the validation images; download the devkit."
        )
    with _open_tar(archive) as tar:
        for member in _members(tar, archive):
            if member.isfile() and PurePosixPath(member.name).name == name and member.size <= LARGEST_META:
                source = tar.extractfile(member)
                assert source is not None
                return _read(source, archive)
    raise ValueError(f"{archive}: has no file {name}; download the devkit again.")


def _wnids_by_id(meta: bytes, data_folder: Path) -> dict[int, str]:
    """Map the devkit's numbers of classes without subclasses to wnids."""
    from io import BytesIO

    from scipy.io import loadmat

    try:
        synsets = loadmat(BytesIO(meta), squeeze_me=True)["synsets"]
        return {
            int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets.reshape(-1) if int(row["num_children"]) == 0
        }
    # scipy does not document what it raises on a file that is truncated or not a MAT file.
    except Exception as error:
        raise ValueError(
            f"{data_folder}: the devkit's meta.mat is not as distributed ({type(error).__name__}); download it again."
        ) from error


def _arrange_validation(path: Path, truth: Sequence[str], out: Path, tell: Progress) -> None:
    done = 0
    with _open_tar(path) as tar:
        for member in _members(tar, path):
            name = PurePosixPath(member.name).name
            match = VALIDATION_IMAGE.fullmatch(name)
            if not member.isfile() or match is None:
                continue
            number = int(match[1])
            if not 0 < number <= len(truth):
                raise ValueError(f"{path}: has {name}, but the devkit knows {len(truth)} images; download both again.")
            _extract(tar, member, out / truth[number - 1] / name, path)
            done += 1
            tell("val", done, len(truth))
    if done != len(truth):
        raise ValueError(f"{path}: has {done} of the {len(truth)} images that the devkit lists; download it again.")


def _arrange_training(source: Path | Sequence[Path], out: Path, tell: Progress) -> None:
    done = 0

    def unpack(tar: tarfile.TarFile, wnid: str, place: Path) -> None:
        nonlocal done
        for member in _members(tar, place):
            name = PurePosixPath(member.name).name
            match = TRAINING_IMAGE.fullmatch(name)
            if member.isfile() and match is not None and match[1] == wnid:
                _extract(tar, member, out / wnid / name, place)
                done += 1
                tell("train", done, 0)

    if isinstance(source, Path):
        with _open_tar(source) as tar:
            for member in _members(tar, source):
                match = CLASS_TAR.fullmatch(PurePosixPath(member.name).name)
                inner = tar.extractfile(member) if match is not None and member.isfile() else None
                if match is not None and inner is not None:
                    with _open_tar(source, inner) as classes:
                        unpack(classes, match[1], source)
    else:
        for path in source:
            with _open_tar(path) as tar:
                unpack(tar, path.stem, path)
    if not done:
        place = source if isinstance(source, Path) else source[0]
        raise ValueError(f"{place}: has no training images; download it again.")


def _open_tar(path: Path, file: IO[bytes] | None = None) -> tarfile.TarFile:
    try:
        return tarfile.open(path if file is None else None, fileobj=file)
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise _damaged(path, error) from error


def _members(tar: tarfile.TarFile, path: Path) -> Iterator[tarfile.TarInfo]:
    members = iter(tar)
    while True:
        try:
            member = next(members)
        except StopIteration:
            return
        except (tarfile.TarError, EOFError, OSError) as error:
            raise _damaged(path, error) from error
        yield member


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path, path: Path) -> None:
    """Write a file of a tar file atomically, unless it exists."""
    if target.is_file() and target.stat().st_size == member.size:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(member)
    assert source is not None
    with replacing(target) as temporary:
        try:
            with temporary.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
        except (tarfile.TarError, EOFError) as error:
            raise _damaged(path, error) from error
        if temporary.stat().st_size != member.size:
            raise _damaged(path, EOFError("unexpected end of data"))


def _read(source: IO[bytes], path: Path) -> bytes:
    try:
        return source.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path}: is no whole tar file ({first_line(error)}); download it again.")
