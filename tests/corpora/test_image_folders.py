"""Image folders and ImageNet as distributed: classes, their indices, and what does not fit."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from biglittle_asr.cli import main
from biglittle_asr.corpora.images import folder as image_folder
from biglittle_asr.corpora.images import imagenet
from biglittle_asr.features.images import MEAN, evaluation_transform  # noqa: E402
from biglittle_asr.inference.classification import find_images
from biglittle_asr.inference.folder.classifier import Classifier
from biglittle_asr.models import create_model
from biglittle_asr.tasks.images.brain import find_image_sets
from support.image_recipe import TINY, make_folder, picture

# Classes


def nameless(outputs: int) -> Classifier:
    """A classifier that does not know what its classes are called, as published checkpoints are."""
    return Classifier("resnet18", create_model("resnet18", **TINY, num_classes=outputs), None)


def test_classes_are_the_sorted_wnids() -> None:
    assert len(WNIDS) == len(set(WNIDS)) == 1000 and sorted(WNIDS) == WNIDS
    assert (WNIDS[0], WNIDS[999]) == ("n01440764", "n15075141")


@pytest.mark.parametrize("chosen", [(999, 0, 17), (5,), tuple(range(0, 1000, 97))])
def test_a_part_of_imagenet_gets_the_indices_of_the_whole(tmp_path: Path, chosen: tuple[int, ...]) -> None:
    make_folder(tmp_path / "val", [WNIDS[index] for index in chosen], images=1)
    images = find_images(nameless(1000), tmp_path)
    assert {file.path.parent.name: file.label for file in images.files} == {WNIDS[index]: index for index in chosen}


def test_any_other_folder_has_its_own_sorted_classes(image_sets: Path) -> None:
    images = image_folder.read_image_folder(image_sets / "train")
    judge = datasets.ImageFolder(str(image_sets / "train"))
    assert list(images.classes) == judge.classes
    assert [(str(path), label) for path, label in images.files] == judge.samples


def test_a_slimmed_set_has_the_first_classes_and_images(image_sets: Path) -> None:
    found = find_image_sets({"data_folder": image_sets, "classes": 2, "images_per_class": 3})
    assert found.train.classes == found.val.classes == ("ape", "bee")
    assert len(found.train.files) == 2 * 3 and len(found.val.files) == 2 * 2


FOLDERS: dict[str, tuple[Callable[[Path], Any], int, str]] = {
    "nothing there": (lambda folder: None, 3, "no such folder"),
    "no class folders": (lambda folder: folder.mkdir(), 3, "has no class folders"),
    "no subset of ImageNet": (
        lambda folder: make_folder(folder, [WNIDS[3], "cat"]),
        1000,
        "class folder cat is none of the 1000 classes of the model (1 of 2 folders are not)",
    ),
    "another number of classes": (lambda folder: make_folder(folder), 10, "has 3 classes, but the model has 10"),
    "an empty class folder": (
        lambda folder: (make_folder(folder) / "dog").mkdir(),
        4,
        "dog: the class folder is empty",
    ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_folders_that_do_not_fit_are_refused_in_a_sentence(tmp_path: Path, case: str) -> None:
    make, outputs, message = FOLDERS[case]
    folder = tmp_path / "images"
    make(folder)
    with pytest.raises((ValueError, OSError)) as error:
        find_images(nameless(outputs), folder)
    assert message in str(error.value) and str(folder) in str(error.value) and "\n" not in str(error.value)


# Arranging ImageNet


def make_distribution(folder: Path, classes: int = 3) -> dict[str, str]:
    """ImageNet as it is distributed, but small; returns the class of each validation image.

    The devkit numbers classes in another order than the wnids', and knows classes that have subclasses.
    """
    from scipy.io import savemat

    folder.mkdir()
    wnids = WNIDS[:classes]
    numbered = {number: wnid for number, wnid in enumerate([*wnids[1:], wnids[0], "n00001740"], start=1)}
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    synsets = np.array([(n, w, "some words", int(w == "n00001740")) for n, w in numbered.items()], dtype=kind)
    savemat(folder / "meta.mat", {"synsets": synsets.reshape(-1, 1)})
    truth = [1 + index % classes for index in range(2 * classes)]
    (folder / "truth.txt").write_text("".join(f"{number}\n" for number in truth))
    with tarfile.open(folder / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as tar:
        tar.add(folder / "meta.mat", "ILSVRC2012_devkit_t12/data/meta.mat")
        tar.add(folder / "truth.txt", f"ILSVRC2012_devkit_t12/data/{imagenet.GROUND_TRUTH}")
    for name in ("meta.mat", "truth.txt"):
        (folder / name).unlink()
    expected = {}
    with tarfile.open(folder / imagenet.VALIDATION_TAR, "w") as tar:
        for index, number in enumerate(truth, start=1):
            expected[f"ILSVRC2012_val_{index:08d}.JPEG"] = numbered[number]
            add(tar, f"ILSVRC2012_val_{index:08d}.JPEG", jpeg(index))
    with tarfile.open(folder / imagenet.TRAINING_TAR, "w") as tar:
        for wnid in wnids:
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as images:
                add(images, f"{wnid}_7.JPEG", jpeg(7))
                add(images, f"../{wnid}/../../{wnid}_8.JPEG", jpeg(8))
            add(tar, f"{wnid}.tar", inner.getvalue())
    return expected


def jpeg(seed: int) -> bytes:
    data = io.BytesIO()
    picture(seed).save(data, "JPEG")
    return data.getvalue()


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def test_validation_images_get_the_classes_of_the_devkit(tmp_path: Path, capsys: Any) -> None:
    expected = make_distribution(tmp_path / "tars")
    assert main(["prepare", "imagenet", str(tmp_path / "tars"), str(tmp_path / "out"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["val"]["images"], facts["val"]["classes"], facts["train"]["images"]) == (6, 3, 6)
    found = {path.name: path.parent.name for path in (tmp_path / "out" / "val").rglob("*.JPEG")}
    assert found == expected
    # Nothing is written outside, whatever a tar file's names say.
    assert {path.parent.parent for path in tmp_path.rglob("n*_8.JPEG")} == {tmp_path / "out" / "train"}
    assert set(image_folder.read_image_folder(tmp_path / "out" / "train").classes) <= set(WNIDS)


def test_an_interrupted_arrangement_goes_on(tmp_path: Path) -> None:
    make_distribution(tmp_path / "tars")

    class Enough(Exception):
        pass

    def stop(split: str, done: int, total: int) -> None:
        if done == 3:
            raise Enough

    with pytest.raises(Enough):
        imagenet.arrange(tmp_path / "tars", tmp_path / "out", stop)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.JPEG")}
    assert len(before) == 3
    imagenet.arrange(tmp_path / "tars", tmp_path / "out")
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert len(list((tmp_path / "out" / "val").rglob("*.JPEG"))) == 6
    assert not [path for path in (tmp_path / "out").rglob(".*") if path.is_file()]


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 5)


DISTRIBUTIONS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing": (lambda folder: [path.unlink() for path in folder.iterdir()], "has neither ILSVRC2012_img_val.tar nor"),
    "no devkit": (lambda folder: (folder / "ILSVRC2012_devkit_t12.tar.gz").unlink(), "tells the classes of the"),
    "cut validation": (lambda folder: cut(folder / imagenet.VALIDATION_TAR), "ILSVRC2012_img_val.tar: "),
    "cut training": (lambda folder: cut(folder / imagenet.TRAINING_TAR), "ILSVRC2012_img_train.tar: "),
    "cut devkit": (lambda folder: cut(folder / "ILSVRC2012_devkit_t12.tar.gz"), "ILSVRC2012_devkit_t12.tar.gz: "),
    "no tar": (lambda folder: (folder / imagenet.VALIDATION_TAR).write_bytes(b"no tar"), "is no whole tar file"),
    "other meta": (
        lambda folder: [(folder / "data").mkdir(), (folder / "data" / "meta.mat").write_bytes(b"no mat file")],
        "meta.mat is not as distributed",
    ),
    "other truth": (
        lambda folder: [(folder / "data").mkdir(), (folder / "data" / imagenet.GROUND_TRUTH).write_text("77\n")],
        "has a class that its meta.mat has not",
    ),
}


@pytest.mark.parametrize("case", DISTRIBUTIONS)
def test_a_distribution_that_is_not_whole_is_refused_in_a_sentence(tmp_path: Path, case: str, capsys: Any) -> None:
    make_distribution(tmp_path / "tars")
    change, message = DISTRIBUTIONS[case]
    change(tmp_path / "tars")
    assert main(["prepare", "imagenet", str(tmp_path / "tars"), str(tmp_path / "out")]) == 1
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and "Traceback" not in err


def test_mean_is_subtracted() -> None:
    grey = Image.new("RGB", (300, 300), tuple(round(255 * each) for each in MEAN))
    assert evaluation_transform()(grey).abs().max() < 0.02


WNIDS = list(imagenet.imagenet_classes())
