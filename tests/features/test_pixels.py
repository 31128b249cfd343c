"""Pixels: every kind of picture as published to the pixel, or refused in a sentence."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets, transforms

from biglittle_asr.features.images import UnreadableImageError, evaluation_transform, read_image  # noqa: E402
from support.image_recipe import FAULTS, break_image, picture
from support.repository import REPOSITORY

# Pixels


def judged(path: Path) -> torch.Tensor:
    """What torchvision makes of an image in the authors' evaluation."""
    steps = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()]
    normalize = transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    return transforms.Compose([*steps, normalize])(datasets.folder.default_loader(str(path)))


def rotated_by_exif(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(3, (300, 260)).save(path, exif=exif)


PICTURES: dict[str, Callable[[Path], Any]] = {
    "grey.jpg": lambda path: picture(1, (260, 300), "L").save(path),
    "cmyk.jpg": lambda path: picture(2, (260, 300), "CMYK").save(path),
    "exif.jpg": rotated_by_exif,
    "palette.png": lambda path: picture(4, (260, 300), "P").save(path),
    "transparent.png": lambda path: picture(5, (260, 300), "RGBA").save(path),
    "png_named.JPEG": lambda path: picture(6, (300, 290)).save(path, "PNG"),
    "tiny.png": lambda path: picture(7, (9, 14)).save(path),
    "narrow.png": lambda path: picture(8, (1000, 40)).save(path),
    "huge.png": lambda path: picture(10, (900, 700)).save(path),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", PICTURES)
def test_every_kind_of_picture_is_prepared_as_published_to_the_pixel(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # From here on PIL calls a picture huge, and at twice as much it refuses to read it.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500_000)
    path = tmp_path / name
    PICTURES[name](path)
    assert torch.equal(evaluation_transform()(read_image(path)), judged(path))


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".pgm"])
def test_grey_of_16_bits_keeps_its_shades(tmp_path: Path, suffix: str) -> None:
    shades = np.linspace(0, 65535, 4096).astype(np.uint16).reshape(64, 64)
    path = tmp_path / f"a{suffix}"
    if suffix == ".pgm":
        path.write_bytes(b"P5 64 64 65535\n" + shades.astype(">u2").tobytes())
    else:
        Image.fromarray(shades).save(path)
    found = np.asarray(read_image(path))
    assert found.shape == (64, 64, 3)
    np.testing.assert_allclose(found, np.repeat((shades / 257)[:, :, None], 3, axis=2), atol=1)


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_pixels_of_32_bits_are_refused(tmp_path: Path, kind: type) -> None:
    Image.fromarray(np.ones((8, 8), dtype=kind)).save(tmp_path / "a.tiff")
    with pytest.raises(UnreadableImageError, match="its pixels have 32 bits"):
        read_image(tmp_path / "a.tiff")


def test_real_photographs_are_prepared_as_published_to_the_pixel() -> None:
    folder = os.environ.get("BIGLITTLE_IMAGENET", REPOSITORY.parent / "shared" / "data" / "imagenet_sample")
    paths = sorted(Path(folder).rglob("*.JPEG"))
    if not paths:
        pytest.skip(f"no photographs in {folder}; set BIGLITTLE_IMAGENET")
    for path in paths:
        assert torch.equal(evaluation_transform()(read_image(path)), judged(path)), path


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_whole_image_is_refused_in_a_sentence(tmp_path: Path, fault: str) -> None:
    break_image(tmp_path / "a.jpg", fault)
    with pytest.raises(UnreadableImageError) as error:
        read_image(tmp_path / "a.jpg")
    assert str(error.value).startswith(f"{tmp_path / 'a.jpg'}: ") and "\n" not in str(error.value)
