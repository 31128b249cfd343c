"""From image files to normalized pixels: decoding, the published preprocessing, and augmentation.

Evaluation is that of the published networks, to the pixel: RGB, shorter side to 256 by PIL's bilinear filter (which
averages where it shrinks), the 224 x 224 pixels in the middle, ImageNet's mean and deviation. An orientation in a
photograph's EXIF data is ignored, as it was when those networks were trained and measured.

Takes torchvision: `pip install 'biglittle_asr[images]'`. Not imported by the room, so that speech needs none of it.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from biglittle_asr.files import LFS_POINTER, refuse_pointer
from biglittle_asr.messages import first_line

try:
    from PIL import Image
    from torchvision import transforms
except ImportError as error:
    raise ValueError(f"images need torchvision and Pillow ({error}): pip install 'biglittle_asr[images]'.") from error

MEAN = (0.485, 0.456, 0.406)
"""Of ImageNet's training images, red, green, blue, at full scale 1."""
DEVIATION = (0.229, 0.224, 0.225)

UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, struct.error, zlib.error)
"""What PIL raises on files that are damaged or no images; what it may raise is not documented."""


class UnreadableImageError(ValueError):
    """A file is no whole image."""


def read_image(path: Path | BinaryIO, label: str | None = None) -> Image.Image:
    """An image as RGB, whatever its format, size and color model; orientation by EXIF is ignored.

    Arguments
    ---------
    path : path or binary file
        The file, or an open one.
    label : str
        What to call it in error messages; its path if not given.

    Raises
    ------
    UnreadableImageError
        If the file is missing, no image, damaged, cut off, or claims more pixels than PIL dares to decode, or has
        pixels of 32 bits.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.png"
    >>> Image.new("L", (4, 2), 128).save(path)
    >>> read_image(path).getpixel((0, 0))
    (128, 128, 128)
    """
    label = label if label is not None else str(path)
    try:
        with warnings.catch_warnings():
            # That it is large, or has a broken EXIF part or a transparent palette, changes nothing here.
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                return _to_rgb(image)
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise UnreadableImageError(f"{label}: claims more than {most} megapixels; remove or shrink it.") from error
    except FileNotFoundError as error:
        raise UnreadableImageError(f"{label}: no such image file.") from error
    except Image.UnidentifiedImageError as error:
        if isinstance(path, Path):
            try:
                with path.open("rb") as file:
                    refuse_pointer(file.read(len(LFS_POINTER)))
            except ValueError as pointer:
                raise UnreadableImageError(f"{label}: {pointer}") from None
        raise UnreadableImageError(f"{label}: is no image that can be read; remove or replace it.") from error
    except UNREADABLE as error:
        raise UnreadableImageError(f"{label}: cannot be decoded ({first_line(error)}); replace it.") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    """PIL's own conversion cuts off what is above 255: of grey with more than 8 bits it leaves black and white."""
    # Pillow opens 16-bit PNM, and in older releases PNG, as "I"; these have no more bits.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        # The upper byte, which is what PIL takes of color with 16 bits.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError("its pixels have 32 bits, and it does not say which value is white; convert it to 8 bits")
    return image.convert("RGB")


def evaluation_transform(resize: int = 256, crop: int = 224) -> Any:
    """The published preprocessing: from an RGB image to a tensor (3, crop, crop), normalized.

    Arguments
    ---------
    resize : int
        Pixels of the shorter side.
    crop : int
        Pixels of the square that is cut from the middle; with black around, where the image is smaller.

    Example
    -------
    >>> evaluation_transform()(Image.new("RGB", (500, 300))).shape
    torch.Size([3, 224, 224])
    """
    return transforms.Compose([transforms.Resize(resize), transforms.CenterCrop(crop), *_to_normalized()])


def training_transform(
    size: int = 224,
    scale: Sequence[float] = (0.08, 1.0),
    ratio: Sequence[float] = (3 / 4, 4 / 3),
    jitter: float = 0.0,
    rotation: float = 0.0,
    padding: int | None = None,
) -> Any:
    """Augmentation: from an RGB image to a random tensor (3, size, size), normalized. It draws from torch's generator.

    Arguments
    ---------
    size : int
        Pixels of a side.
    scale, ratio : pair of float
        Part of the image's area, and width by height, of the rectangle that is cut out and brought to the size.
    jitter : float
        Largest relative change of brightness, contrast and saturation, each; the authors of Big-Little nets take 0.4.
    rotation : float
        Largest turn, in degrees, before all else; they take 10 for networks with squeeze-excite.
    padding : int, optional
        For images that have about that size already (CIFAR): instead of a rectangle of random size, cut a square of
        `size` out of the image with so many black pixels around it.

    Example
    -------
    >>> training_transform(32, padding=4)(Image.new("RGB", (32, 32))).shape
    torch.Size([3, 32, 32])
    """
    steps: list[Any] = []
    if rotation:
        steps.append(transforms.RandomRotation(rotation))
    if padding is None:
        steps.append(transforms.RandomResizedCrop(size, tuple(scale), tuple(ratio)))
    else:
        steps += [transforms.Resize(size), transforms.RandomCrop(size, padding)]
    if jitter:
        steps.append(transforms.ColorJitter(jitter, jitter, jitter))
    steps.append(transforms.RandomHorizontalFlip())
    return transforms.Compose([*steps, *_to_normalized()])


def _to_normalized() -> list[Any]:
    return [transforms.ToTensor(), transforms.Normalize(MEAN, DEVIATION)]


class ImageFiles(Dataset[tuple[Tensor, int]]):
    """Images and class indices; reading one may raise :class:`UnreadableImageError`.

    Arguments
    ---------
    files : sequence of (path, int)
        Image files, or what else `read` takes, and the class of each.
    transform : callable
        From an RGB image to a tensor.
    read : callable
        From a file to an image; raises :class:`UnreadableImageError`.
    """

    def __init__(
        self, files: Sequence[tuple[Any, int]], transform: Any, read: Callable[[Any], Image.Image] = read_image
    ) -> None:
        self.files = files
        self.transform = transform
        self.read = read

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Pixels (3, height, width) and class."""
        path, label = self.files[index]
        return cast(Tensor, self.transform(self.read(path))), label
