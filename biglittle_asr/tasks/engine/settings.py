"""What the recipes of every task read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from biglittle_asr.recipe.settings import Settings, written


@dataclass(kw_only=True)
class Recipe(Settings):
    """Settings of every task. SpeechBrain's options (precision, max_grad_norm, ...) have defaults of their own here."""

    seed: int
    """Seed of all random numbers."""
    output_folder: str
    """Where everything is written: logs, checkpoints, scores, the model folder."""
    save_folder: str = written("!ref <output_folder>/save")
    """Where manifests, tokenizer and checkpoints are written."""
    data_folder: str
    """The corpus as it is distributed, or shards of it."""

    batch_size: int = 32
    """Examples a batch and process, where batches are not made by length (dynamic_batching)."""
    grad_accumulation_factor: int = 1
    """Batches a step of the optimizer."""
    precision: str = "bf16"
    """fp32, or bf16 or fp16: mixed precision. Training on a CPU without fast bfloat16 uses fp32."""
    max_grad_norm: float = 5.0
    """Gradients with a larger norm are scaled down to it; 0: no clipping."""
    ckpt_interval_minutes: float = 10
    """Minutes between checkpoints inside of epochs, besides one after each; 0: none by time."""
    ckpt_interval_steps: int = 0
    """Batches between checkpoints inside of epochs; 0: none by count."""
    profile: bool = False
    """Measure where the time goes; also --profile."""
    sparsity: Mapping[str, Any] | None = None
    """Weights to prune, such as {rate: 0.9, dense: [encoder.head]}; see docs/costs.md."""
    train_dataloader_opts: Mapping[str, Any] = written("{num_workers: 0}")
    """Options of torch's DataLoader in training."""
    valid_dataloader_opts: Mapping[str, Any] = written("{batch_size: 16}")
    """Options of torch's DataLoader in evaluation."""

    model: Callable[..., Any]
    """Makes the model, with the number of its outputs."""
    opt_class: Callable[..., Any]
    """Makes the optimizer, with the parameters."""
    lr_annealing: Any
    """The schedule of the learning rate, of `biglittle_asr.tasks.engine.schedule`."""


@dataclass(kw_only=True)
class EpochRecipe(Recipe):
    """Settings of trainings of one network over a number of epochs."""

    number_of_epochs: int
    """Passes over the training set."""
    train_log: str = written("!ref <output_folder>/train_log.txt")
    """Losses and error rates, a line an epoch."""
    epoch_counter: Any = written("!new:speechbrain.utils.epoch_loop.EpochCounter\nlimit: !ref <number_of_epochs>\n")
    """Counts epochs, and is saved in checkpoints."""
    checkpointer: Any = written(
        "!new:biglittle_asr.tasks.engine.checkpoints.Checkpointer\ncheckpoints_dir: !ref <save_folder>\n"
    )
    """Saves and loads checkpoints."""
    train_logger: Any = written("!new:speechbrain.utils.train_logger.FileTrainLogger\nsave_file: !ref <train_log>\n")
    """Writes train_log."""
    tensorboard_logger: Any = written(
        "!new:speechbrain.utils.train_logger.TensorboardLogger\nsave_dir: !ref <output_folder>/tensorboard\n"
    )
    """Writes the same for tensorboard."""
