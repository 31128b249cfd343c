"""Settings of every recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from biglittle_asr.recipe.settings import Settings, yaml_default


@dataclass(kw_only=True)
class BaseRecipe(Settings):
    """Settings of every recipe. SpeechBrain's options (precision, max_grad_norm, ...) have other defaults here."""

    seed: int
    """Seed of all random numbers."""
    output_folder: str
    """Where everything is written: logs, checkpoints, scores, the model folder."""
    save_folder: str = yaml_default("!ref <output_folder>/save")
    """Where manifests, tokenizer and checkpoints are written."""
    data_folder: str
    """The corpus as it is distributed, or shards of it."""

    batch_size: int = 32
    """Examples per batch, in each process; for speech, only without dynamic_batching."""
    grad_accumulation_factor: int = 1
    """Batches per optimizer step."""
    precision: str = "bf16"
    """fp32, or bf16 or fp16: mixed precision. Training on a CPU without fast bfloat16 uses fp32."""
    max_grad_norm: float = 5.0
    """Gradients with a larger norm are scaled down to it; 0: no clipping."""
    ckpt_interval_minutes: float = 10
    """Minutes between checkpoints inside epochs, besides one after each; 0: none by time."""
    ckpt_interval_steps: int = 0
    """Batches between checkpoints inside epochs; 0: none by count."""
    distributed_timeout_minutes: float = 120
    """Minutes that a process of several waits for the others before it ends with an error. Preparation, for which all
    others wait, must take less."""
    profile: bool = False
    """Measure where the time goes; --profile is short for it."""
    card: Mapping[str, Any] = yaml_default("{}")
    """Facts for the head of the model card, such as {language: en, license: apache-2.0}; see docs/models.md."""
    sparsity: Mapping[str, Any] | None = None
    """Weights to prune, such as {rate: 0.9, dense: [encoder.head]}; see docs/costs.md."""
    train_dataloader_opts: Mapping[str, Any] = yaml_default("{num_workers: 0}")
    """Options of torch's DataLoader in training."""
    valid_dataloader_opts: Mapping[str, Any] = yaml_default("{batch_size: 16}")
    """Options of torch's DataLoader in evaluation."""

    model: Callable[..., Any]
    """Makes the model once the number of its outputs is known."""
    opt_class: Callable[..., Any]
    """Makes the optimizer of the model's parameters."""
    lr_annealing: Any
    """Schedule of the learning rate, from `biglittle_asr.tasks.engine.schedule`."""


@dataclass(kw_only=True)
class EpochRecipe(BaseRecipe):
    """Settings of trainings of one network over a number of epochs."""

    number_of_epochs: int
    """Passes over the training set."""
    train_log: str = yaml_default("!ref <output_folder>/train_log.txt")
    """File of losses and error rates, one line per epoch."""
    epoch_counter: Any = yaml_default(
        "!new:speechbrain.utils.epoch_loop.EpochCounter\nlimit: !ref <number_of_epochs>\n"
    )
    """Counts epochs, and is saved in checkpoints."""
    checkpointer: Any = yaml_default(
        "!new:biglittle_asr.tasks.engine.checkpoints.Checkpointer\ncheckpoints_dir: !ref <save_folder>\n"
    )
    """Saves and loads checkpoints."""
    train_logger: Any = yaml_default(
        "!new:speechbrain.utils.train_logger.FileTrainLogger\nsave_file: !ref <train_log>\n"
    )
    """Writes train_log."""
    tensorboard_logger: Any = yaml_default(
        "!new:speechbrain.utils.train_logger.TensorboardLogger\nsave_dir: !ref <output_folder>/tensorboard\n"
    )
    """Writes the same for tensorboard."""
