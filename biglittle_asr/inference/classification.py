"""Image classifiers, and their accuracy."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from biglittle_asr.corpora.images.folder import ImageFolder, read_image_folder, read_image_shards, split_folder
from biglittle_asr.corpora.images.imagenet import imagenet_classes
from biglittle_asr.models import ImageClassifier
from biglittle_asr.shards import ShardError, ShardMember, has_shards
from biglittle_asr.threads import usable_cores


@dataclass(frozen=True)
class Classifier:
    """A trained image classifier with its preprocessing and class names; raises ValueError if its parts do not fit."""

    name: str
    """Name for display, such as bl_resnet50."""
    model: ImageClassifier
    classes: tuple[str, ...] | None
    """Names of its outputs; None if not recorded."""
    resize: int = 256
    """Size in pixels to which an image's shorter side is scaled."""
    crop: int = 224
    """Side in pixels of the square then cut from the center."""

    def __post_init__(self) -> None:
        outputs = self.model.config.num_classes
        if self.classes is not None and not len(set(self.classes)) == len(self.classes) == outputs:
            raise ValueError(f"classes are {len(self.classes)} names, but num_classes is {outputs}.")
        if self.resize < 1 or self.crop < 1:
            raise ValueError(f"resize is {self.resize} and crop {self.crop}, but both must be 1 or more.")


@dataclass(frozen=True)
class ImageScore:
    """A classifier's accuracy on a single center crop of each image."""

    images: int
    """Number of images evaluated."""
    top1: float
    """Percent of images whose class has the highest score."""
    top5: float
    """Percent of images whose class is among the five highest."""
    loss: float
    """Mean cross-entropy, in nats."""
    skipped: int
    """Number of files that could not be read."""

    def to_dict(self) -> dict[str, float]:
        """The score as a JSON object."""
        return dataclasses.asdict(self)


def count_top(logits: Tensor, labels: Tensor) -> tuple[int, int]:
    """Count the labels (B,) with the highest logit of (B, classes), and those with one of the five highest.

    Among equal logits, the lower class index ranks higher, so the counts do not depend on sorting.

    Example
    -------
    >>> count_top(torch.tensor([[0.1, 0.9, 0.0], [0.5, 0.2, 0.3]]), torch.tensor([1, 2]))
    (1, 2)
    """
    own = logits.gather(1, labels.unsqueeze(1))
    earlier = torch.arange(logits.shape[1], device=logits.device) < labels.unsqueeze(1)
    rank = ((logits > own) | ((logits == own) & earlier)).sum(dim=1)
    # NaN compares as above nothing, so it would count as the best.
    rank = rank.masked_fill(~own.isfinite().squeeze(1), logits.shape[1])
    return int((rank < 1).sum()), int((rank < 5).sum())


def find_images(
    classifier: Classifier, data: str | PathLike[str], skip_bad: bool = False, split: str | None = None
) -> ImageFolder:
    """Find the images of a folder or of shards, with the class indices of a classifier.

    A network with 1000 outputs and no class names is taken as one of ImageNet, whose wnids the folder must have. Any
    other network without class names gets the folder's classes, sorted.

    Arguments
    ---------
    classifier : Classifier
    data : path or URL
        A folder of class folders, or of sets, each a folder or shards.
    skip_bad : bool
        Accept class folders without images.
    split : str, optional
        The set; if not given, `val` where there are several.

    Raises
    ------
    FileNotFoundError
        If there is no such set.
    ValueError
        If the classes are not those of the classifier.
    """
    outputs = classifier.model.config.num_classes
    classes: Sequence[str] | None = classifier.classes
    if classes is None and outputs == len(imagenet_classes()):
        classes = tuple(imagenet_classes())
    if has_shards(data):
        images = read_image_shards(data, split or "val", classes)
    else:
        folder = split_folder(data, "val") if split is None else Path(data) / split
        images = read_image_folder(folder, classes, allow_empty=skip_bad)
    if len(images.classes) != outputs:
        raise ValueError(
            f"{images.folder}: has {len(images.classes)} classes, but the model has {outputs}; give a folder with the "
            "model's classes."
        )
    return images


def read_image_anywhere(place: Path | ShardMember) -> Any:
    """Read an image from a folder or a shard, as RGB; see :func:`~biglittle_asr.features.images.read_image`.

    Raises
    ------
    UnreadableImageError
    """
    from biglittle_asr.features.images import UnreadableImageError, read_image

    if isinstance(place, Path):
        return read_image(place)
    try:
        return read_image(io.BytesIO(place.read()), label=str(place))
    except (ShardError, FileNotFoundError) as error:
        raise UnreadableImageError(str(error)) from error


@torch.inference_mode()
def evaluate_images(
    classifier: Classifier,
    images: ImageFolder,
    *,
    batch_size: int = 64,
    workers: int = 0,
    device: str | torch.device = "cpu",
    skip_bad: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
    report: Callable[[str], None] = lambda sentence: None,
) -> ImageScore:
    """Classify images, each by a single center crop, in float32.

    Arguments
    ---------
    classifier : Classifier
    images : ImageFolder
        From :func:`find_images`.
    batch_size : int
        Images per batch; changes results only by rounding.
    workers : int
        Processes that read images; 0 for this one.
    device : str or torch.device
    skip_bad : bool
        Skip and count files that cannot be read.
    progress : callable
        Called with the number of files done and in total.
    report : callable
        Called with a sentence for each file that is skipped.

    Raises
    ------
    UnreadableImageError
        If a file cannot be read, unless `skip_bad`.
    ValueError
        If no file can be read.
    """
    from biglittle_asr.features.images import ImageFiles, UnreadableImageError, evaluation_transform

    transform = evaluation_transform(classifier.resize, classifier.crop)
    files = _Attempts(ImageFiles(images.files, transform, read_image_anywhere))
    model = classifier.model.to(device).eval()
    top1 = top5 = count = skipped = 0
    loss = 0.0
    for batch in DataLoader(files, batch_size, num_workers=min(workers, usable_cores()), collate_fn=list):
        for problem in (item for item in batch if isinstance(item, str)):
            if not skip_bad:
                raise UnreadableImageError(f"{problem.rstrip('.')}, or evaluate without such files (--skip_bad).")
            report(problem)
            skipped += 1
        read = [item for item in batch if not isinstance(item, str)]
        if read:
            labels = torch.tensor([label for _, label in read], device=device)
            logits = model(torch.stack([pixels for pixels, _ in read]).to(device))
            loss += nn.functional.cross_entropy(logits.double(), labels, reduction="sum").item()
            first, five = count_top(logits, labels)
            top1, top5, count = top1 + first, top5 + five, count + len(read)
        progress(count + skipped, len(files))
    if not count:
        raise ValueError(f"{images.folder}: none of its {skipped} files is an image that can be read.")
    return ImageScore(count, 100 * top1 / count, 100 * top5 / count, loss / count, skipped)


class _Attempts(torch.utils.data.Dataset[Any]):
    """Items of a dataset, or the reason why one cannot be read."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        from biglittle_asr.features.images import UnreadableImageError

        try:
            return self.dataset[index]
        except UnreadableImageError as error:
            return str(error)
