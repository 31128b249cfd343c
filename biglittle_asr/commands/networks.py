"""Networks by what stands for them on the command line: a name, a model folder, or a recipe's YAML file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def network_builder(word: str, overrides: dict[str, Any], images: bool) -> Callable[[], torch.nn.Module]:
    """What makes the network that a word on the command line stands for."""
    import difflib

    from biglittle_asr.models import create_encoder, create_model, list_encoders, list_models

    if word in list_encoders() and not (images and word in list_models()):
        return lambda: create_encoder(word, **overrides)
    if word in list_models():
        return lambda: create_model(word, **overrides)
    path = Path(word)
    if path.is_dir():
        from biglittle_asr.inference import load_model

        if overrides:
            raise ValueError(f"{word}: a model folder is what it is; leave out {next(iter(overrides))}.")
        return lambda: load_model(path).model
    if path.is_file() or path.suffix in (".yaml", ".yml"):
        from biglittle_asr.tasks.recipe import load_network

        return lambda: load_network(path, overrides)
    known = [*list_encoders(), *list_models()]
    close = difflib.get_close_matches(word, known, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(
        f"unknown model {word!r}: {hint}known are recipes (FILE.yaml), model folders, options of a model (KEY=VALUE), "
        f"the encoders {', '.join(list_encoders())}, and the image models {', '.join(list_models())}"
    )


def override(text: str) -> tuple[str, Any]:
    """Key and value of `alpha=2`; a value is a number, a list, true or false, or else text."""
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"'{text}' is not KEY=VALUE, such as alpha=2.")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
