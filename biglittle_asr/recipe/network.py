"""The network of a recipe, without its data."""

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from hyperpyyaml import load_hyperpyyaml
from ruamel.yaml import YAMLError
from torch import nn

from biglittle_asr.nnet.sparse import sparsify
from biglittle_asr.recipe.yaml import RecipeError, as_stream, explain, read_tree, referred_keys, unknown_key

PARTS = frozenset({"crop", "encoder", "model", "output_neurons", "sparsity"})
"""Keys that say what a recipe's network is. A file may leave some of them to their defaults."""


def make_sparse(model: nn.Module, hparams: Mapping[str, Any]) -> None:
    """Prune a model as the key `sparsity` says, such as {rate: 0.9, dense: [encoder.head]}; without it, do nothing.

    Raises
    ------
    RecipeError
        If the model cannot be pruned so.
    """
    options = hparams.get("sparsity")
    if options:
        try:
            sparsify(model, **options)
        except (TypeError, ValueError) as error:
            raise RecipeError(f"sparsity: {options} cannot be done ({error}).") from error


def load_network(path: Path, changes: Mapping[str, Any]) -> nn.Module:
    """Build the network of a recipe, without data and folders.

    The network's part of the file is executed, as always: `!new:` and `!apply:` call the functions that they name.

    Arguments
    ---------
    path : pathlib.Path
        The recipe's YAML file.
    changes : mapping
        Keys to override.

    Returns
    -------
    nn.Module
        The model; for a CTC recipe whose `output_neurons` is not set, the encoder alone.

    Raises
    ------
    RecipeError, FileNotFoundError
        As in :func:`load_recipe`, and if the file has no network.
    """
    hparams = _load_part(path, changes, PARTS - {"crop"})
    if not {"encoder", "model"} & hparams.keys():
        raise RecipeError(f"{path}: has neither a model nor an encoder, so it is no recipe.")
    network: Any = hparams.get("model", hparams.get("encoder"))
    tokens = hparams.get("output_neurons")
    if "encoder" in hparams and "model" in hparams:
        network = network(output_neurons=tokens or 1)
    elif not isinstance(network, nn.Module):
        network = network()
    make_sparse(network, hparams)
    return network if tokens or "encoder" not in hparams else hparams["encoder"]


def read_image_size(path: Path, changes: Mapping[str, Any]) -> int | None:
    """Height and width in pixels of a recipe's input images: its `crop`; None for other recipes.

    Arguments
    ---------
    path, changes
        As in :func:`load_network`.

    Raises
    ------
    RecipeError, FileNotFoundError
        As in :func:`load_recipe`, and if `crop` is not a size.
    """
    size = _load_part(path, changes, {"crop"}).get("crop")
    if size is not None and (type(size) is not int or size < 1):
        raise RecipeError(f"{path}: crop is {size!r}, but must be a whole number of pixels above 0.")
    return size


def _load_part(path: Path, changes: Mapping[str, Any], keys: Set[str]) -> dict[str, Any]:
    """Load those of the keys that a YAML file has, and the keys they refer to; nothing else is executed."""
    tree = read_tree(path)
    for key in changes:
        if key not in {*tree, *PARTS}:
            raise RecipeError(unknown_key("command line", key, tree))
    tree.update({key: changes[key] for key in changes if key not in tree})
    part: Any = {}
    needed = keys & tree.keys()
    while needed - part.keys():
        part = {key: tree[key] for key in tree if key in needed}
        needed |= referred_keys(part, path) & tree.keys()
    if not part:
        return {}
    try:
        return load_hyperpyyaml(as_stream(part, path), {key: changes[key] for key in changes if key in part})
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: includes {error.filename}, which does not exist.") from error
    except (ValueError, TypeError, ImportError, YAMLError) as error:
        raise RecipeError(explain(path, error)) from error
