"""Model folders of image classifiers."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from biglittle_asr.files import parse_json
from biglittle_asr.inference.folder.weights import read_weights
from biglittle_asr.messages import first_line, show
from biglittle_asr.models import ImageClassifier, ImageConfig, create_model, list_models
from biglittle_asr.models.checkpoints import load_checkpoint, read_checkpoint

FORMAT = "biglittle_asr-images"


VERSION = 1


CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"


KEYS = {"format", "version", "name", "network", "classes", "resize", "crop"}


LARGEST_CONFIG = 32 << 20


MOST_WHOLE = 1 << 14


MOST = {"num_classes": 1 << 18, "blocks": 128, "branches": 4}
"""Largest whole number of a field, so that the wildest file is refused rather than tried."""


@dataclass(frozen=True)
class Classifier:
    """A trained image classifier, and what it takes to use it."""

    name: str
    """For people, such as bl_resnet50."""
    model: ImageClassifier
    classes: tuple[str, ...] | None
    """Names of its outputs; None where they are not recorded."""
    resize: int = 256
    """Pixels that an image's shorter side is brought to."""
    crop: int = 224
    """Pixels of the square that is then cut from its middle."""


def load_classifier(model: str, weights: Path | None = None) -> Classifier:
    """An image classifier by name, or from its folder.

    Arguments
    ---------
    model : str
        A name of :func:`~biglittle_asr.models.list_models`, or a folder that the ImageNet recipe wrote.
    weights : pathlib.Path, optional
        A checkpoint of a named model; a folder has its own.

    Raises
    ------
    FileNotFoundError
        If there is neither such a model nor such a folder.
    ValueError
        If a named model is given no weights, a folder is given some, or a file is not what it should be.
    """
    if model in list_models():
        if weights is None:
            raise ValueError(f"{model}: has no weights of its own; give a checkpoint with --weights FILE.")
        return Classifier(model, _with_weights(model, weights).eval(), None)
    if weights is not None:
        raise ValueError(f"{model}: is no image model's name, so --weights does not apply; folders have their own.")
    return read_classifier(Path(model))


def _with_weights(name: str, weights: Path) -> ImageClassifier:
    """A named network with as many classes as its checkpoint has."""
    output = read_checkpoint(weights).get("fc.weight")
    with torch.device("meta"):
        inputs = create_model(name).fc.in_features
    fits = output is not None and output.dim() == 2 and output.shape[1] == inputs
    network = create_model(name, num_classes=len(output)) if output is not None and fits else create_model(name)
    load_checkpoint(network, weights)
    return network


def is_classifier(model: str) -> bool:
    """Whether this names an image model, or is the folder of one."""
    if model in list_models():
        return True
    try:
        config = parse_json(_read_config(Path(model)))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("format") == FORMAT


def read_classifier(folder: Path) -> Classifier:
    """Load the folder of an image classifier.

    Raises
    ------
    OSError
        If a file is missing.
    ValueError
        If one is not what it should be.
    """
    path = folder / CONFIG
    try:
        config = parse_json(_read_config(folder))
        classes, network = _check_config(config)
        with torch.device("meta"):
            model = ImageClassifier(**network)
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {first_line(error)}") from error
    try:
        state = read_weights(folder / WEIGHTS, model.state_dict())
    except ValueError as error:
        raise ValueError(f"{folder / WEIGHTS}: {error}") from error
    model.load_state_dict(state, assign=True)
    return Classifier(config["name"], model.eval(), classes, config["resize"], config["crop"])


def _read_config(folder: Path) -> bytes:
    path = folder / CONFIG
    if path.stat().st_size > LARGEST_CONFIG:
        raise ValueError(f"has {path.stat().st_size} bytes; up to {LARGEST_CONFIG} are read.")
    return path.read_bytes()


def _check_config(config: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Classes and network of a config, if it is one."""
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ValueError(f'is not the config of an image classifier: it lacks "format": "{FORMAT}".')
    if config.get("version") != VERSION:
        raise ValueError(f"version is {show(config.get('version'))}, but this program reads version {VERSION} only.")
    if config.keys() != KEYS or not isinstance(config["name"], str):
        raise ValueError(f"must have the keys {', '.join(sorted(KEYS))}, and name must be text.")
    for key in ("resize", "crop"):
        if type(config[key]) is not int or not 0 < config[key] <= MOST_WHOLE:
            raise ValueError(f"{key} is {show(config[key])}, but must be a whole number from 1 to {MOST_WHOLE}.")
    network, fields = config["network"], [field.name for field in dataclasses.fields(ImageConfig)]
    if not isinstance(network, dict) or sorted(network) != sorted(fields):
        raise ValueError(f"network must have the keys {', '.join(fields)}.")
    for key, value in network.items():
        for each in value if isinstance(value, list) else [value]:
            if type(each) is int and not 0 <= each <= MOST.get(key, MOST_WHOLE):
                raise ValueError(f"network.{key} is {show(value)}; up to {MOST.get(key, MOST_WHOLE)} are built.")
    classes = config["classes"]
    if not isinstance(classes, list) or any(not isinstance(name, str) for name in classes):
        raise ValueError("classes must be a list of names.")
    if len(set(classes)) != network["num_classes"] or len(classes) != network["num_classes"]:
        raise ValueError(f"classes are {len(classes)} names, but num_classes is {show(network['num_classes'])}.")
    return tuple(classes), network


def save_classifier(folder: Path, classifier: Classifier, card: str) -> Path:
    """Write the folder of an image classifier, whole or not at all, in place of an older one.

    Raises
    ------
    ValueError
        If it could not be loaded again: weights that are not finite, or sparse ones that are not frozen.
    FileExistsError
        If something else is there.
    """
    config = {
        "format": FORMAT,
        "version": VERSION,
        "name": classifier.name,
        "network": dataclasses.asdict(classifier.model.config),
        "classes": list(classifier.classes or ()),
        "resize": classifier.resize,
        "crop": classifier.crop,
    }
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in classifier.model.state_dict().items()}
    if folder.exists() and any(path.name not in (CONFIG, WEIGHTS, CARD) for path in folder.iterdir()):
        raise FileExistsError(f"{folder}: holds other files, so it is not replaced; choose another output_folder.")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        (partial / WEIGHTS).write_bytes(safetensors.torch.save(weights))
        text = json.dumps(config, indent=1, ensure_ascii=False, allow_nan=False)
        (partial / CONFIG).write_text(f"{text}\n", encoding="utf-8")
        (partial / CARD).write_text(card, encoding="utf-8")
        read_classifier(partial)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder
