"""Images as normalized pixels: decoding, the published preprocessing, and augmentation.

Preprocessing for evaluation equals that of the published networks to the pixel: RGB, shorter side resized to 256 pixels
by PIL's bilinear filter (which averages when shrinking), a central crop of 224 x 224 pixels, and ImageNet's mean and
standard deviation. EXIF orientation is ignored, as it was when those networks were trained and evaluated.

Needs torchvision: `pip install 'biglittle-asr[images]'`. The package does not import this module, so that speech does
not need torchvision.
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

from biglittle_asr.extras import missing_extra
from biglittle_asr.files import LFS_POINTER, refuse_pointer
from biglittle_asr.messages import first_line

try:
    from PIL import Image
    from torchvision import transforms
except ImportError as error:
    raise ValueError(missing_extra("images need torchvision and Pillow", "images", error)) from error

MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's training images (red, green, blue), with full scale 1."""
DEVIATION = (0.229, 0.224, 0.225)

UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, struct.error, zlib.error)
"""Exceptions that PIL raises on damaged files and on files that are not images; PIL does not document them."""


class UnreadableImageError(ValueError):
    """A file is not a complete image."""


def read_image(path: Path | BinaryIO, label: str | None = None) -> Image.Image:
    """Read an image of any format, size and color model as RGB; EXIF orientation is ignored.

    Arguments
    ---------
    path : path or binary file
        A path, or an open file.
    label : str
        Name in error messages; the path by default.

    Raises
    ------
    UnreadableImageError
        If the file is missing, not an image, damaged or truncated, claims more pixels than PIL's safety limit, or has
        32-bit pixels.

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
            # PIL's warnings of large images, broken EXIF data or transparent palettes do not matter here.
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
        raise UnreadableImageError(f"{label}: is not a readable image; remove or replace it.") from error
    except UNREADABLE as error:
        raise UnreadableImageError(f"{label}: cannot be decoded ({first_line(error)}); replace it.") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB. PIL's own conversion clips at 255, which turns 16-bit grey into black and white."""
    # Pillow opens 16-bit PNM (and in older releases 16-bit PNG) as "I".
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        # Take the upper byte, as PIL does for 16-bit color.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError("its pixels have 32 bits, and it does not say which value is white; convert it to 8 bits")
    return image.convert("RGB")


def evaluation_transform(resize: int = 256, crop: int = 224) -> Any:
    """Make the published preprocessing, from an RGB image to a normalized tensor (3, crop, crop).

    Arguments
    ---------
    resize : int
        Length of the shorter side in pixels.
    crop : int
        Side of the central square in pixels. Smaller images get a black border.

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
    """Make random augmentation, from an RGB image to a normalized tensor (3, size, size). Draws from torch's generator.

    Arguments
    ---------
    size : int
        Side in pixels.
    scale, ratio : pair of float
        Ranges of the area, as a fraction of the image, and of the aspect ratio (width / height) of the random crop.
    jitter : float
        Largest relative change of brightness, contrast and saturation; the authors of Big-Little Net use 0.4.
    rotation : float
        Largest rotation in degrees, applied first; the authors use 10 for networks with squeeze-excite.
    padding : int, optional
        For images that are about `size` already (CIFAR): pad with this many black pixels and crop a square of `size`,
        instead of cropping a random rectangle.

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
    """Images and class indices; reading an image may raise :class:`UnreadableImageError`.

    Arguments
    ---------
    files : sequence of (path, int)
        Image files (or other inputs of `read`), and the class of each.
    transform : callable
        Maps an RGB image to a tensor.
    read : callable
        Maps a file to an image; raises :class:`UnreadableImageError`.
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
        """Return pixels (3, height, width) and class."""
        path, label = self.files[index]
        return cast(Tensor, self.transform(self.read(path))), label
