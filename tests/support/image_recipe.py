"""The image recipe, on pictures of random colors."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from biglittle_asr.recipe.run import load_recipe
from biglittle_asr.tasks.images.brain import ImageBrain, find_image_sets
from biglittle_asr.tasks.images.settings import ImageRecipe
from support.repository import REPOSITORY

PLAIN = REPOSITORY / "hparams" / "ImageNet" / "reproduction_resnet18.yaml"
TINY = {"channels": [8, 8, 8, 8], "blocks": [1, 1, 1, 1], "stem": "small", "small_stem_stride": 2}
"""Shape of a network for images of 16 pixels."""


def picture(seed: int, size: tuple[int, int] = (16, 16), mode: str = "RGB") -> Image.Image:
    """A picture of smooth random colors."""
    rough = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC).convert(mode)


def make_folder(folder: Path, classes: Sequence[str] = ("ape", "bee", "cat"), images: int = 4) -> Path:
    """Class folders with a few pictures each."""
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(images):
            picture(100 * number + index).save(folder / name / f"{index}.png")
    return folder


PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def break_image(path: Path, fault: str) -> None:
    """Put a file that is no whole image in the place of one."""
    path.unlink(missing_ok=True)
    whole = io.BytesIO()
    picture(9, (64, 64)).save(whole, "JPEG")
    data = whole.getvalue()
    contents = {
        "no image": b"this is text",
        "empty file": b"",
        "truncated": data[: len(data) // 2],
        "corrupt": data[:30] + b"\xff" * 200 + data[230:],
        "cut PNG": PNG_SIGNATURE + b"\0\0\0\rIHDR",
        "bomb": PNG_SIGNATURE
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 1, 0, 0, 0, 0))
        + chunk(b"IDAT", b""),
    }
    if fault != "missing":
        path.write_bytes(contents[fault])


# The recipe


def tiny(yaml: Path, sets: Path, out: Path, **overrides: Any) -> list[str]:
    """Command line of a recipe at 16 pixels with a small network."""
    big_little = {"blocks": [2, 1, 1, 1], "big_little_stages": 1} if "_bl_" in yaml.name else {}
    options = {
        "data_folder": sets,
        "output_folder": out,
        "model": json.dumps({**TINY, **big_little}),
        "number_of_epochs": 1,
        "batch_size": 4,
        "crop": 16,
        "resize": 18,
        "precision": "fp32",
        "train_dataloader_opts": "{num_workers: 0, pin_memory: False}",
        "valid_dataloader_opts": "{batch_size: 4, num_workers: 0}",
        **overrides,
    }
    options["warmup_epochs"] = 0
    return [str(yaml), "--noprogressbar", *(f"--{key}={value}" for key, value in options.items())]


def train(arguments: Sequence[str]) -> ImageBrain:
    """What train.py does."""
    hparams, run_opts = load_recipe(arguments, ImageRecipe)
    found = find_image_sets(hparams)
    brain = ImageBrain(hparams["model"](num_classes=len(found.train.classes)), found, hparams, run_opts)
    brain.fit_sets(hparams)
    brain.score = brain.evaluate_sets(hparams)
    return brain


FAULTS = ("no image", "empty file", "truncated", "corrupt", "cut PNG", "bomb", "missing")
