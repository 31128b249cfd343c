"""Reading a recipe's YAML file.

A recipe's YAML file is SpeechBrain's (HyperPyYAML), with one addition: a file whose whole content is
`!include:other.yaml` with some keys is the other file with these keys replaced or added, so that two recipes can differ
in nothing but what they say.
"""

import io
import re
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError
from speechbrain.utils.run_opts import RunOptions

from biglittle_asr.files import read_text
from biglittle_asr.messages import did_you_mean
from biglittle_asr.recipe.keys import EXPLAINED, IMAGE_KEYS, OPTIONAL_KEYS, RETIRED_KEYS, SPEECH_ONLY


class RecipeError(ValueError):
    """A recipe's YAML file or command line is wrong."""


def read_tree(path: Path) -> Any:
    """The YAML tree of a recipe, a whole-file include replaced by what it stands for, with keys replaced or added."""
    try:
        tree: Any = YAML().load(read_text(path, "recipe file", "see hparams/ for those that exist"))
    except YAMLError as error:
        raise RecipeError(explain(path, error)) from error
    if not isinstance(tree, dict):
        raise RecipeError(f"{path}: is not a YAML file of 'key: value' lines.")
    if not tag_of(tree).startswith("!include:"):
        return tree
    base = read_tree(path.parent / tag_of(tree).removeprefix("!include:"))
    known = base.keys() | known_keys(tree, path, set().union(*EXPLAINED))
    for key in tree:
        if key not in known:
            raise RecipeError(unknown_key(place_of(path, tree, key), key, sorted(known)))
        base[key] = tree[key]
    return base


def known_keys(tree: Any, path: Path, keys: Set[str]) -> set[str]:
    """What a tree may have as keys, if the recipe reads `keys`."""
    return referred_keys(tree, path) | optional_keys(keys) | set(RunOptions().as_dict()) | RETIRED_KEYS | keys


def optional_keys(keys: Set[str]) -> Set[str]:
    """Keys that may be missing, if the recipe reads `keys`."""
    return OPTIONAL_KEYS - SPEECH_ONLY if keys == IMAGE_KEYS else OPTIONAL_KEYS


def tag_of(node: Any) -> str:
    """The YAML tag of a node, such as `!PLACEHOLDER`; empty if it has none."""
    return str(getattr(getattr(node, "tag", None), "value", None) or "")


def replaces_plain_value(change: Any, node: Any) -> bool:
    """Whether a mapping takes the place of a number, text, list or reference."""
    return isinstance(change, Mapping) and not isinstance(node, Mapping) and not tag_of(node).startswith("!include:")


def referred_keys(tree: Any, path: Path) -> set[str]:
    """Keys that a tree's values refer to."""
    return set(re.findall(r"<(\w+)[\[\].\w]*>", as_stream(tree, path).getvalue()))


class _NamedStream(io.StringIO):
    name: str


def as_stream(tree: Any, path: Path) -> io.StringIO:
    """A tree as a stream; its name tells HyperPyYAML where included files are."""
    stream = _NamedStream()
    YAML().dump(tree, stream)
    stream.seek(0)
    stream.name = str(path)
    return stream


def parse_overrides(overrides: str) -> dict[str, Any]:
    """The command line's `--key value` pairs as a mapping."""
    try:
        changes = YAML().load(overrides) if overrides else {}
    except YAMLError as error:
        raise RecipeError(f"command line: '{overrides}' is not understood; write --key value.") from error
    if not isinstance(changes, Mapping):
        raise RecipeError(f"command line: '{overrides}' is not understood; write --key value.")
    return dict(changes)


def check_keys(path: Path, tree: Any, changes: Mapping[str, Any], keys: Set[str]) -> None:
    """Refuse keys of the file or the command line that nothing reads."""
    settable = [*tree, *(optional_keys(keys) - tree.keys())]
    for key in changes:
        if key not in settable:
            raise RecipeError(unknown_key("command line", f"--{key}", [f"--{known}" for known in settable]))
    known = known_keys(tree, path, keys)
    for key in tree:
        if key not in known and not key.startswith("__"):
            raise RecipeError(unknown_key(place_of(path, tree, key), key, sorted(known)))


def place_of(path: Path, tree: Any, key: str) -> str:
    """File and line of a key, for messages."""
    place = tree.lc.data.get(key)
    return f"{path}, line {place[0] + 1}" if place else str(path)


def unknown_key(where: str, key: str, known: Any) -> str:
    """The message about a key that nothing reads, with the closest known one."""
    return f"{where}: no recipe key is named {key}; {did_you_mean(key, known) or 'remove it.'}"


def explain(path: Path, error: Exception) -> str:
    """The message about an error that HyperPyYAML raised."""
    if isinstance(error, YAMLError):
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        return f"{where}: is not valid YAML ({getattr(error, 'problem', None) or error})."
    text = ": ".join(str(argument) for argument in error.args)
    placeholder = re.match(r"'(\S+)' is a !PLACEHOLDER", text)
    if placeholder:
        key = placeholder[1]
        return f"{path}: {key} has no value; give it on the command line: --{key} VALUE."
    return f"{path}: {text}"
