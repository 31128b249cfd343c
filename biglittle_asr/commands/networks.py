"""Finds the network that a word on the command line names: a preset, a model folder, or a recipe's YAML file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biglittle_asr.commands.shared import tell
from biglittle_asr.files import InvalidYAML, parse_yaml
from biglittle_asr.messages import unknown

if TYPE_CHECKING:
    import torch


IMAGE = "image:"
"""Prefix of an image model's name, needed only if an encoder has the same name."""


@dataclass(frozen=True)
class Network:
    """The network that a word on the command line names."""

    build: Callable[[], torch.nn.Module]
    named: bool = False
    """Whether it is a preset, with random weights."""
    image_size: int = 224
    """Height and width in pixels of its images, if it takes images; the default is that of ImageNet."""


def find_network(word: str, overrides: dict[str, Any], image_size: int | None) -> Network:
    """Find the network that a word names, and its image size unless `image_size` is given.

    If an encoder and an image model have the same name, it means the encoder; the image model is `image:resnet34`.

    Raises
    ------
    OSError, ValueError
        If there is no such network, or a file is not valid.
    """
    from biglittle_asr.models import create_encoder, create_model, list_encoders, list_models

    if image_size is not None and word in list_encoders() and word in list_models():
        # Before the prefix existed, --image-size selected the image model.
        tell(f"{word}: is an encoder; with --image-size, {IMAGE}{word} is taken for it: write that.")
        word = IMAGE + word
    if word in list_encoders():
        return Network(lambda: create_encoder(word, **overrides), named=True)
    name = word.removeprefix(IMAGE)
    if name in list_models():
        return Network(lambda: create_model(name, **overrides), True, image_size or Network.image_size)
    path = Path(word)
    if path.is_dir():
        from biglittle_asr.inference import Classifier
        from biglittle_asr.inference.folder.store import read_model

        if overrides:
            raise ValueError(f"{word}: a model folder is what it is; leave out {next(iter(overrides))}.")
        model = read_model(path)
        if isinstance(model, Classifier):
            return Network(lambda: model.model, image_size=image_size or model.crop)
        return Network(lambda: _countable(model.model))
    if path.is_file() or path.suffix in (".yaml", ".yml"):
        from biglittle_asr.recipe.network import load_network, read_image_size

        size = image_size or read_image_size(path, overrides) or Network.image_size
        return Network(lambda: _countable(load_network(path, overrides)), image_size=size)
    listing = (
        "recipes (FILE.yaml), model folders, options of a model (KEY=VALUE), "
        f"the encoders {', '.join(list_encoders())}, and the image models {', '.join(list_models())}"
    )
    raise ValueError(unknown("model", word, [*list_encoders(), *list_models()], listing))


def _countable(network: Any) -> torch.nn.Module:
    """The part whose cost is counted: only the encoder if the decoder's cost depends on the words."""
    from biglittle_asr.models import AttentionModel, TransducerModel

    counted: torch.nn.Module = network.encoder if isinstance(network, AttentionModel | TransducerModel) else network
    return counted


def override(text: str) -> tuple[str, Any]:
    """Parse an override such as `alpha=2`; the value is YAML, as on a recipe's command line.

    Raises
    ------
    ValueError
        If it is not KEY=VALUE, or the value is not YAML.

    Example
    -------
    >>> override("alpha=2"), override("encoder={channels: [8, 16]}"), override("stem=small")
    (('alpha', 2), ('encoder', {'channels': [8, 16]}), ('stem', 'small'))
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"'{text}' is not KEY=VALUE, such as alpha=2.")
    try:
        return key, parse_yaml(value, plain=True)
    except InvalidYAML as error:
        raise ValueError(f"'{text}': the value {error}") from None
