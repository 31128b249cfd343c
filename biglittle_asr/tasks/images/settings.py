"""Settings of the recipes for image classification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from biglittle_asr.recipe.settings import yaml_default
from biglittle_asr.tasks.engine.settings import EpochRecipe


@dataclass(kw_only=True)
class ImageRecipe(EpochRecipe):
    """Settings of image recipes. `data_folder` has train/ and val/, each with a folder of images for every class."""

    classes: int | None = None
    """Number of classes to use, the first ones in sorted order; null: all."""
    images_per_class: int | None = None
    """Number of training images to use per class, the first ones; null: all."""
    skip_bad: bool = False
    """Evaluate even if some validation images cannot be read."""
    batch_size: int = 256
    """Images per batch, in each process."""
    precision: str = "fp32"
    """fp32, or bf16 or fp16: mixed precision. Training on a CPU without fast bfloat16 uses fp32."""
    max_grad_norm: float = 0
    """Gradients with a larger norm are scaled down to it; 0: no clipping."""
    ckpt_interval_minutes: float = 30
    """Minutes between checkpoints inside epochs, besides one after each; 0: none by time."""
    train_dataloader_opts: Mapping[str, Any] = yaml_default("{num_workers: 4, pin_memory: True}")
    """Options of torch's DataLoader in training."""
    valid_dataloader_opts: Mapping[str, Any] = yaml_default("{batch_size: 256, num_workers: 4}")
    """Options of torch's DataLoader in evaluation."""

    resize: int = 256
    """Pixels of a validation image's shorter side."""
    crop: int
    """Pixels of the side of a validation image's center crop; also the size of training images."""
    train_transform: Any
    """Makes a tensor of a training image, such as `biglittle_asr.features.images.training_transform`."""
    val_transform: Any = yaml_default(
        "!apply:biglittle_asr.features.images.evaluation_transform\nresize: !ref <resize>\ncrop: !ref <crop>\n"
    )
    """Makes a tensor of a validation image."""

    channels_last: bool = True
    """Use the channels-last memory format; faster on most hardware."""
    label_smoothing: float = 0.0
    """Label smoothing of the targets."""
    decay_vectors: bool = True
    """Apply weight decay to norms and biases too."""
    ema_decay: float | None = None
    """Evaluate a moving average of the weights with this decay per step, such as 0.9999; null: none."""
