"""Image classifiers, by name or from their model folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from biglittle_asr.inference.classification import Classifier
from biglittle_asr.inference.folder.config import CLASSIFIER_FORMAT
from biglittle_asr.inference.folder.store import content_of_folder, existing_folder, find_folder, read_model, save_model
from biglittle_asr.models import ImageClassifier, create_model, list_models
from biglittle_asr.models.checkpoints import load_checkpoint, read_checkpoint

save_classifier = save_model


def load_classifier(model: str | Path, weights: Path | None = None, **overrides: Any) -> Classifier:
    """Load an image classifier by name, or from its folder.

    Arguments
    ---------
    model : str or path
        A name of :func:`~biglittle_asr.models.list_models`, or a folder that the ImageNet recipe wrote.
    weights : pathlib.Path, optional
        A checkpoint for a named model; a folder has its own.
    **overrides
        Configuration of a named model, such as `alpha=4`; not allowed for a folder.

    Raises
    ------
    FileNotFoundError
        If there is neither such a model nor such a folder.
    ValueError
        If a named model is given no weights, a folder is given weights, or a file is not valid.
    """
    if model in list_models():
        if weights is None:
            raise ValueError(f"{model}: has no weights of its own; give a checkpoint with --weights FILE.")
        return Classifier(str(model), _with_weights(str(model), weights, overrides).eval(), None)
    if overrides:
        raise ValueError(f"{model}: a model folder is what it is; leave out {next(iter(overrides))}.")
    if weights is not None:
        raise ValueError(f"{model}: is no image model's name, so --weights does not apply; folders have their own.")
    loaded = read_model(model)
    if not isinstance(loaded, Classifier):
        raise ValueError(f"{model}: recognizes speech; load it with load_model.")
    return loaded


def _with_weights(name: str, weights: Path, overrides: Mapping[str, Any]) -> ImageClassifier:
    """Build a named network with its checkpoint, whose number of classes it takes unless `num_classes` is given."""
    output = read_checkpoint(weights).get("fc.weight")
    with torch.device("meta"):
        inputs = create_model(name, **overrides).fc.in_features
    fits = output is not None and output.dim() == 2 and output.shape[1] == inputs
    classes = {"num_classes": len(output)} if output is not None and fits else {}
    network = create_model(name, **{**classes, **overrides})
    load_checkpoint(network, weights)
    return network


def is_classifier(model: str) -> bool:
    """Whether `model` names an image model or the folder of one."""
    if model in list_models():
        return True
    try:
        return content_of_folder(find_folder(existing_folder(model))) == CLASSIFIER_FORMAT
    except OSError:
        return False
