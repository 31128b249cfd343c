"""`biglittle recipe`: list every setting of a recipe, with its value, meaning, and the origin of the value."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biglittle_asr.commands.shared import add_json
from biglittle_asr.files import parse_yaml

if TYPE_CHECKING:
    from biglittle_asr.recipe.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a recipe's YAML file; nothing in it is executed")
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="settings to change, such as lr=0.001")
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command; raises ValueError or OSError, with a sentence for the user, if it fails."""
    from biglittle_asr.recipe.listing import list_values
    from biglittle_asr.recipe.yaml import parse_overrides, read_tree, tag_of

    changes: dict[str, Any] = {}
    for text in options.overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"'{text}' is not KEY=VALUE, such as lr=0.001.")
        changes |= parse_overrides(f"{key}: {value}")
    tree = read_tree(options.file)
    model = tag_of(tree.get("model")).rpartition(".")[2]
    tasks = recipe_settings()
    if model not in tasks:
        raise ValueError(f"{options.file}: is no recipe; its key 'model' names none of {', '.join(tasks)}.")
    values = list_values(options.file, changes, tasks[model])
    if options.json:
        print(
            json.dumps(
                {
                    value.key: {
                        "value": _plain(parse_yaml(value.text)[value.key]),
                        "from": value.origin,
                        "meaning": value.meaning,
                    }
                    for value in values
                }
            )
        )
    else:
        print("".join(map(str, values)).replace(f"# {options.file}, line ", "# line "), end="")


def recipe_settings() -> Mapping[str, type[Settings]]:
    """Name of the function or class that makes a recipe's model -> settings of its task."""
    from biglittle_asr.tasks.hybrid.settings import HybridRecipe
    from biglittle_asr.tasks.images.settings import ImageRecipe
    from biglittle_asr.tasks.speech.settings import AttentionRecipe, CTCRecipe, TransducerRecipe

    return {
        "CTCModel": CTCRecipe,
        "AttentionModel": AttentionRecipe,
        "TransducerModel": TransducerRecipe,
        "HybridModel": HybridRecipe,
        "create_model": ImageRecipe,
    }


def _plain(node: Any) -> Any:
    """Convert a YAML node for JSON; a tagged node becomes an object with the key `tag`."""
    from biglittle_asr.recipe.yaml import tag_of

    plain: Any = getattr(node, "value", node)
    if isinstance(node, Mapping):
        plain = {key: _plain(value) for key, value in node.items()}
    elif isinstance(node, list):
        plain = [_plain(value) for value in node]
    if not tag_of(node):
        return plain
    return {"tag": tag_of(node), **(plain if isinstance(plain, dict) else {"arguments": plain})}
