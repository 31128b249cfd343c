"""Every value in force in a recipe, and its origin."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from biglittle_asr.recipe.run import resolve
from biglittle_asr.recipe.settings import Settings
from biglittle_asr.recipe.yaml import read_tree, tag_of


@dataclass(frozen=True)
class Value:
    """A key of a recipe and its value."""

    key: str
    text: str
    """`key: value` as YAML, with references resolved; lines end in a line feed."""
    origin: str
    """Origin of the value: file and line, `command line`, `default`, or `missing` if it must be given."""
    meaning: str
    """Meaning of a setting; for keys that only the file itself refers to, the comment there."""

    def __str__(self) -> str:
        """The YAML, with meaning and origin as comments."""
        first, *rest = self.text.splitlines(keepends=True)
        meaning = f"# {self.meaning}\n" if self.meaning else ""
        return f"{meaning}{first.rstrip()}  # {self.origin}\n{''.join(rest)}"


def list_values(path: Path, changes: Mapping[str, Any], settings: type[Settings]) -> list[Value]:
    """List every value in force, the file's first and in its order. Nothing that the file names is executed.

    Arguments
    ---------
    path : pathlib.Path
        The recipe's YAML file.
    changes : mapping
        Keys to override.
    settings : type
        The recipe's settings.

    Raises
    ------
    RecipeError, FileNotFoundError
        As in :func:`~biglittle_asr.recipe.run.load_recipe`; but keys without a value are listed as missing.
    """
    tree = read_tree(path)
    missing = [key for key in tree if tag_of(tree[key]) == "!PLACEHOLDER" and key not in changes]
    tree.update({key: key.upper() for key in missing})
    comments = {key: _comment(tree, key) for key in tree}
    places, meanings = dict(tree.places), {**comments, **settings.meanings()}
    resolved = YAML().load(resolve(tree, path, changes, settings))
    return [
        Value(key, _dump(key, resolved[key]), _origin(key, changes, missing, places), meanings.get(key, ""))
        for key in resolved
        if not key.startswith("__")
    ]


def _comment(tree: Any, key: str) -> str:
    """The comment at the end of a key's line."""
    token = (tree.ca.items.get(key) or [None] * 3)[2]
    return token.value.split("\n")[0].strip("# ") if token else ""


def _origin(key: str, changes: Iterable[str], missing: Iterable[str], places: Mapping[str, str]) -> str:
    if key in changes:
        return "command line"
    return "missing" if key in missing else places.get(key, "default")


def _dump(key: str, node: Any) -> str:
    if node is None:
        return f"{key}: null\n"
    stream = io.StringIO()
    yaml = YAML()
    yaml.width = 4096
    yaml.dump({key: node}, stream)
    # Comments of the file would come after those of the listing.
    return re.sub(r"(?m)(^\s*#.*\n|\s+#.*$|^\s*\n)", "", stream.getvalue())
