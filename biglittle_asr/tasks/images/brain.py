"""Image classification: batches of class folders, and the Brain that trains and evaluates a classifier."""

import copy
import json
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import speechbrain as sb
import torch
from speechbrain.utils.checkpoints import average_checkpoints
from speechbrain.utils.distributed import main_process_only
from speechbrain.utils.logger import get_logger
from speechbrain.utils.optimizers import rm_vector_weight_decay
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import Dataset, get_worker_info

from biglittle_asr.corpora.images.folder import ImageFolder, read_image_folder, read_image_shards
from biglittle_asr.features.images import ImageFiles, UnreadableImageError
from biglittle_asr.files import write_atomically
from biglittle_asr.inference import Classifier, ModelCard, save_model
from biglittle_asr.inference.classification import ImageScore, count_top, read_image_anywhere
from biglittle_asr.inference.folder.card import training_command
from biglittle_asr.inference.folder.head import HubFacts
from biglittle_asr.messages import some
from biglittle_asr.models import ImageClassifier
from biglittle_asr.nnet.sparse import freeze
from biglittle_asr.recipe.network import make_sparse
from biglittle_asr.shards import has_shards
from biglittle_asr.tasks.engine.batches import Draw, EpochBatches, Failure, fixed_batches, mean_over_processes, seed_all
from biglittle_asr.tasks.engine.brain import NonFiniteLossError, Progress, ResumableBrain
from biglittle_asr.tasks.engine.curves import Curves
from biglittle_asr.tasks.engine.logs import rewrite_log

logger = get_logger(__name__)

CURVES = Curves(
    "cross-entropy (nats per image)",
    {"dev_top1_error": "top-1 error", "dev_top5_error": "top-5 error"},
    dev="val",
)
SCORE_NAME, MODEL = "score.json", "model"
"""Entries of the output folder: the last evaluation, and the trained classifier."""


# Data


@dataclass(frozen=True)
class ImageSets:
    """The two sets of a recipe, with the same classes."""

    train: ImageFolder
    val: ImageFolder


def find_image_sets(hparams: Mapping[str, Any]) -> ImageSets:
    """Find the images in `<data_folder>/train` and `<data_folder>/val`, or the same sets in a folder or URL of shards.

    Arguments
    ---------
    hparams : mapping
        Reads data_folder, and `classes` and `images_per_class`: how many to take of the training set, or null for all.
        All validation images of the classes taken are used.

    Raises
    ------
    FileNotFoundError, ValueError
        If a folder is missing or has no images, or the two sets have different classes.
    """
    place = hparams["data_folder"]

    def read(name: str, **options: Any) -> ImageFolder:
        if has_shards(place):
            return read_image_shards(place, name, **options)
        return read_image_folder(Path(place) / name, **options)

    train = read("train", limit_classes=hparams["classes"], images_per_class=hparams["images_per_class"])
    val = read("val", classes=train.classes, ignore_others=hparams["classes"] is not None)
    return ImageSets(train, val)


@dataclass
class Example:
    """An image in memory."""

    id: str
    """Its path inside the folder."""
    pixels: Tensor
    """(3, height, width), normalized."""
    label: int


@dataclass
class Examples:
    """A batch of images in memory."""

    id: list[str]
    pixels: Tensor
    """(B, 3, height, width)."""
    labels: Tensor
    """(B,)."""


@dataclass
class ImageBatch:
    """The readable images of a batch, and the failures; see :class:`~biglittle_asr.tasks.engine.brain.Batch`."""

    examples: Examples | None
    failures: list[Failure]
    seconds: dict[str, float]
    in_worker: bool

    def pin_memory(self) -> "ImageBatch":
        """Pin the tensors, for the loader's option of the same name."""
        if self.examples is not None:
            self.examples.pixels = self.examples.pixels.pin_memory()
            self.examples.labels = self.examples.labels.pin_memory()
        return self


class Images(Dataset[tuple[Example | Failure, float]]):
    """Images whose files may fail, and whose augmentation depends only on seed, epoch and image.

    Arguments
    ---------
    images : ImageFolder
    transform : callable
        Maps an RGB image to a tensor.
    seed : int
        Seed of the training.
    """

    def __init__(self, images: ImageFolder, transform: Any, seed: int) -> None:
        self.files = ImageFiles(images.files, transform, read_image_anywhere)
        self.names = images.names
        self.seed = seed

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: int | Draw) -> tuple[Example | Failure, float]:
        """An image and its reading time in seconds; augmentation is drawn for the epoch of a :class:`Draw`."""
        start = time.perf_counter()
        index = key.position if isinstance(key, Draw) else key
        name = self.names[index]
        if isinstance(key, Draw):
            seed_all(self.seed, key.epoch, name)
        try:
            return Example(name, *self.files[index]), time.perf_counter() - start
        except UnreadableImageError as error:
            return Failure(name, str(error)), time.perf_counter() - start


def collate(items: Sequence[tuple[Example | Failure, float]]) -> ImageBatch:
    """Make a batch from items of :class:`Images`."""
    read = [item for item, _ in items if isinstance(item, Example)]
    failures = [item for item, _ in items if isinstance(item, Failure)]
    examples = None
    if read:
        labels = torch.tensor([item.label for item in read])
        examples = Examples([item.id for item in read], torch.stack([item.pixels for item in read]), labels)
    seconds = {"reading images": sum(seconds for _, seconds in items)}
    return ImageBatch(examples, failures, seconds, get_worker_info() is not None)


def whole_batches(total: int, size: int, seed: int) -> Callable[[int], list[list[int]]]:
    """Make batches of one size for each epoch; images left over are not used in that epoch.

    Raises
    ------
    ValueError
        If there are too few images for one batch.
    """
    if total < size:
        raise ValueError(f"batch_size: is {size}, but there are only {total} training images; lower it.")
    batches = fixed_batches(total, size, seed)
    return lambda epoch: batches(epoch)[: total // size]


# Training


@dataclass
class ImageProgress(Progress):
    """Counts since the start of the current epoch, or of the current pass over an evaluation set."""

    loss_sum: float = 0.0
    """Nats, summed over all images."""
    images: int = 0
    top1: int = 0
    """Images whose class has the highest score; counted in evaluation only."""
    top5: int = 0

    @property
    def loss(self) -> float:
        """Nats per image."""
        return self.loss_sum / max(self.images, 1)

    def score(self) -> ImageScore:
        """The counts as percentages."""
        if not self.images:
            raise ValueError(f"none of the {len(self.failed)} validation images can be read; see to data_folder.")
        top1, top5 = 100 * self.top1 / self.images, 100 * self.top5 / self.images
        return ImageScore(self.images, top1, top5, self.loss, len(self.failed))


class ImageBrain(ResumableBrain):
    """Trains and evaluates an image classifier; each validation image is evaluated on a single center crop.

    Arguments
    ---------
    model : ImageClassifier
        The model to train; pruned here as the recipe's `sparsity` says.
    sets : ImageSets
        The images.
    hparams : dict
        The values that the recipe's YAML file defines.
    run_opts : speechbrain.RunOptions or dict
        Command line options.
    """

    examples: ClassVar[str] = "images"
    error: ClassVar[str] = "top1_error"
    fate: ClassVar[str] = "not counted"
    progress_type = ImageProgress
    progress: ImageProgress
    model: ImageClassifier

    def __init__(self, model: ImageClassifier, sets: ImageSets, hparams: dict[str, Any], run_opts: Any = None) -> None:
        self.sets = sets
        make_sparse(model, hparams)
        self.layout = torch.channels_last if hparams["channels_last"] else torch.contiguous_format
        arrange_weights(model, self.layout)
        self.average: AveragedModel | None = None
        if hparams["ema_decay"]:
            decay = get_ema_multi_avg_fn(hparams["ema_decay"])
            self.average = AveragedModel(model, multi_avg_fn=decay, use_buffers=True).requires_grad_(False)
            hparams["checkpointer"].add_recoverable("average", self.average)
        super().__init__(model, {"average": self.average}, CURVES, hparams, run_opts)

    def describe_inputs(self, hparams: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Sizes and normalization of the images; the augmentation may change."""
        sizes = {"resize": hparams["resize"], "crop": hparams["crop"]}
        return {"images": sizes} | {
            name: describe_transform(hparams[name]) for name in ("train_transform", "val_transform")
        }

    def fit_sets(self, hparams: Mapping[str, Any]) -> None:
        """Train and evaluate the validation set after each epoch, see :meth:`fit_epochs`."""
        if self.test_only:
            return
        batches = whole_batches(len(self.sets.train.files), hparams["batch_size"], hparams["seed"])
        options = {**hparams["train_dataloader_opts"], "batch_sampler": EpochBatches(batches)}
        self.fit_epochs(self.sets.train, self.sets.val, options, hparams["valid_dataloader_opts"])

    def evaluate_sets(self, hparams: Mapping[str, Any]) -> ImageScore:
        """Evaluate the last epoch's weights (or their moving average, if there is one) on the validation images.

        Writes score.json and the model folder.

        Raises
        ------
        FileNotFoundError
            If there is no checkpoint.
        ValueError
            If an image cannot be read, unless the recipe says `skip_bad`.
        """
        epochs = self.find_epochs()
        if not epochs:
            raise FileNotFoundError(f"{hparams['save_folder']}: no checkpoint of a whole epoch; train first.")
        self.model.load_state_dict(average_checkpoints(epochs[:1], "model"))
        if self.average is not None:
            self.average.load_state_dict(average_checkpoints(epochs[:1], "average"))
        self.evaluate(self.sets.val, test_loader_kwargs=dict(hparams["valid_dataloader_opts"]))
        progress = self.progress
        self.failures.report("val", None, progress.failed)
        if progress.failed and not hparams["skip_bad"]:
            reasons = some([reason.rstrip(".") for _, reason in progress.failed], "; ")
            raise ValueError(f"{reasons}; or evaluate without such images (--skip_bad True --test_only).")
        score = progress.score()
        self._write_score(score, epochs[0].meta["epoch"], hparams)
        self.show_profile()
        return score

    @main_process_only
    def _write_score(self, score: ImageScore, epoch: int, hparams: Mapping[str, Any]) -> None:
        logger.info(f"val: {describe(score)}")
        results = {"top1_error": 100 - score.top1, "top5_error": 100 - score.top5, "loss": score.loss}
        evaluation = {"Evaluated": "val", "weights": f"epoch {epoch}", **results}
        rewrite_log(self.history.rows, [evaluation], self.hparams.train_logger)
        self.failures.write()
        model = arrange_weights(copy.deepcopy(self.evaluated).cpu(), torch.contiguous_format)
        freeze(model)
        name = hparams["model"].keywords["name"]
        classifier = Classifier(name, model, self.sets.train.classes, hparams["resize"], hparams["crop"])
        save_model(self.output_folder / MODEL, classifier, self._card(score, epoch))
        # Last, because this file also marks the recipe as complete.
        write_atomically(self.output_folder / SCORE_NAME, json.dumps(score.to_dict(), indent=1) + "\n")

    def _card(self, score: ImageScore, epoch: int) -> ModelCard:
        kind = "moving average of the weights" if self.average is not None else "weights"
        return ModelCard(
            data=f"{len(self.sets.train.files)} images.",
            command=training_command(sys.argv),
            precision=self.precision,
            weights=f"{kind} of epoch {epoch}, the last",
            scores={"val": score},
            hub=HubFacts.of(self.hparams.card, Path(self.hparams.data_folder).name),
        )

    @property
    def evaluated(self) -> ImageClassifier:
        """The evaluated network: the trained one, or the moving average of its weights."""
        return self.model if self.average is None else cast(ImageClassifier, self.average.module)

    # Data

    def read(self, dataset: ImageFolder) -> Any:
        """Images (augmented if they are for training), their batches, and their names."""
        training = dataset is self.sets.train
        transform = self.hparams.train_transform if training else self.hparams.val_transform
        images = Images(dataset, transform, self.hparams.seed)
        return images, collate, images.names

    # Forward and loss

    def compute_forward(self, batch: Examples, stage: sb.Stage) -> Tensor:
        """Logits (B, classes)."""
        with self.stopwatch("copying"):
            pixels = batch.pixels.to(self.device, memory_format=self.layout, non_blocking=True)
        with self.stopwatch("forward"):
            return self.modules.model(pixels) if stage == sb.Stage.TRAIN else self.evaluated(pixels)

    def forward_nothing(self) -> Tensor:
        """Logits of two black images."""
        return self.modules.model(torch.zeros(2, 3, self.hparams.crop, self.hparams.crop, device=self.device))

    def compute_objectives(self, predictions: Tensor, batch: Examples, stage: sb.Stage) -> Tensor:
        """Mean cross-entropy in nats; labels are smoothed in training only. Evaluation also counts correct images."""
        training = stage == sb.Stage.TRAIN
        with self.stopwatch("loss"):
            labels = batch.labels.to(self.device, non_blocking=True)
            smoothing = self.hparams.label_smoothing if training else 0.0
            loss = nn.functional.cross_entropy(predictions.float(), labels, label_smoothing=smoothing)
            if training and not bool(torch.isfinite(loss)):
                raise NonFiniteLossError(self.not_finite("loss", batch.id))
            self.progress.loss_sum += float(loss.detach()) * len(labels)
            self.progress.images += len(labels)
            if training:
                count = loss.new_tensor(len(labels))
                loss = loss * (count / mean_over_processes(count)).to(loss.dtype)
            else:
                top1, top5 = count_top(predictions, labels)
                self.progress.top1 += top1
                self.progress.top5 += top5
        return loss

    def init_optimizers(self) -> None:
        """Weight decay on everything, as in the published recipes, or on matrices only (`decay_vectors`)."""
        model = nn.ModuleDict({"model": self.modules.model})
        self.optimizer = self.opt_class(
            model.parameters() if self.hparams.decay_vectors else rm_vector_weight_decay(model)
        )
        self.optimizers_dict = {"opt_class": self.optimizer}
        self.checkpointer.add_recoverable("optimizer", self.optimizer)

    def optimizers_step(self) -> None:
        """Take a step, and update the moving average."""
        super().optimizers_step()
        if self.average is not None:
            self.average.update_parameters(self.model)

    # Stages

    def on_fit_start(self) -> None:
        """Load the last checkpoint, and draw the network's graph for tensorboard."""
        super().on_fit_start()
        self._draw_graph()

    @main_process_only
    def _draw_graph(self) -> None:
        # Trace a copy: tracing runs the network, which must neither change its statistics nor see its wrappers.
        model = arrange_weights(copy.deepcopy(self.evaluated).cpu(), torch.contiguous_format).eval()
        crop = self.hparams.crop
        with warnings.catch_warnings():
            # torch warns that a trace holds for one size of images only; that is enough for a picture of the graph.
            warnings.simplefilter("ignore")
            self.hparams.tensorboard_logger.writer.add_graph(model, torch.zeros(1, 3, crop, crop))

    def score_epoch(self) -> dict[str, float]:
        """Top-1 and top-5 error on the validation images, in percent."""
        score = self.progress.score()
        top1_error, top5_error = 100 - score.top1, 100 - score.top5
        return {"dev_top1_error": top1_error, "dev_top5_error": top5_error, self.error: top1_error}


def describe_transform(transform: Any) -> dict[str, Any]:
    """Describe the images that a torchvision transform makes: sizes, mean and deviation, by step.

    Example
    -------
    >>> from torchvision.transforms import CenterCrop, Compose, Normalize
    >>> describe_transform(Compose([CenterCrop(8), Normalize([0.5], [0.2])]))
    {'CenterCrop.size': (8, 8), 'Normalize.mean': [0.5], 'Normalize.std': [0.2]}
    """
    steps = getattr(transform, "transforms", [transform])
    return {
        f"{type(step).__name__}.{name}": getattr(step, name)
        for step in steps
        for name in ("size", "mean", "std")
        if hasattr(step, name)
    }


def arrange_weights(model: ImageClassifier, layout: torch.memory_format) -> ImageClassifier:
    """Convert a model's weights to a memory format, in place."""
    # torch's type annotations lack this argument.
    return cast(Any, model).to(memory_format=layout)


def describe(score: ImageScore) -> str:
    """Format a score as text.

    Example
    -------
    >>> describe(ImageScore(images=50, top1=78.0, top5=94.0, loss=0.81, skipped=0))
    'top-1 78.00 %, top-5 94.00 %, loss 0.810 (50 images)'
    """
    skipped = f", {score.skipped} skipped" if score.skipped else ""
    return f"top-1 {score.top1:.2f} %, top-5 {score.top5:.2f} %, loss {score.loss:.3f} ({score.images} images{skipped})"
