"""Reading a recipe's YAML file.

A recipe's YAML file is SpeechBrain's (HyperPyYAML). It sets values that differ from the defaults of its task's
:class:`~biglittle_asr.recipe.settings.Settings`, and those without a default. One addition is for users: a file whose
whole content is `!include:other.yaml` with some keys is the other file with these keys replaced or added.
"""

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.tag import Tag
from speechbrain.utils.run_opts import RunOptions

from biglittle_asr.files import InvalidYAML, parse_yaml, read_yaml
from biglittle_asr.messages import did_you_mean, sentence, show

INCLUDE = "!include:"
RETIRED_KEYS = frozenset({"test_dataloader_opts"})
"""Keys that earlier recipes read. Older YAML files may still have them; a warning says that nothing reads them."""


class RecipeError(ValueError):
    """A recipe's YAML file or command line is wrong."""


def read_tree(path: Path, including: Sequence[Path] = ()) -> Any:
    """Read the YAML tree of a recipe; its attribute `places` locates each key, such as `file.yaml, line 3`.

    A whole-file include is replaced by the file that it names, with keys replaced or added. Paths of further includes
    are relative to the file that contains them.

    Arguments
    ---------
    path : pathlib.Path
    including : sequence of pathlib.Path
        Files that include this one.

    Raises
    ------
    RecipeError
        If the file is not a YAML mapping, or includes itself.
    FileNotFoundError
        If the file does not exist.
    """
    if path.resolve() in including:
        raise RecipeError(f"{path}: includes itself; name another file.")
    try:
        tree: Any = read_yaml(path, "recipe file", "see hparams/ for those that exist")
    except InvalidYAML as error:
        raise RecipeError(str(error)) from error
    if not _is_mapping(tree):
        raise RecipeError(f"{path}: is not a YAML file of 'key: value' lines.")
    places = {key: f"{path}, line {place[0] + 1}" for key, place in tree.lc.data.items()}
    strange = [key for key in tree if not isinstance(key, str)]
    if strange:
        raise RecipeError(f"{places.get(strange[0], path)}: {show(strange[0])} is no key of a recipe; remove it.")
    if not tag_of(tree).startswith(INCLUDE):
        tree.places = places
        return tree
    included = path.parent / tag_of(tree).removeprefix(INCLUDE)
    base = read_tree(included, [*including, path.resolve()])
    for node in _nodes(base):
        if tag_of(node).startswith(INCLUDE):
            there = included.parent / tag_of(node).removeprefix(INCLUDE)
            node.yaml_set_ctag(Tag(suffix=f"{INCLUDE}{there.absolute()}"))
    base.update(tree)
    base.places.update(places)
    return base


def _is_mapping(tree: Any) -> bool:
    return isinstance(tree, Mapping)


def _nodes(tree: Any) -> Iterator[Any]:
    """Iterate over all nodes of a tree."""
    yield tree
    for node in tree.values() if isinstance(tree, Mapping) else tree if isinstance(tree, list) else ():
        yield from _nodes(node)


def tag_of(node: Any) -> str:
    """The YAML tag of a node, such as `!PLACEHOLDER`; empty if it has none."""
    return str(getattr(getattr(node, "tag", None), "value", None) or "")


def replaces_plain_value(change: Any, node: Any) -> bool:
    """Whether a change puts a mapping in place of a number, text, list or reference."""
    return isinstance(change, Mapping) and not isinstance(node, Mapping) and not tag_of(node).startswith(INCLUDE)


def referred_keys(tree: Any, path: Path) -> set[str]:
    """Keys that a tree's values refer to."""
    return set(re.findall(r"<(\w+)[\[\].\w]*>", as_stream(tree, path).getvalue()))


class _NamedStream(io.StringIO):
    name: str


def as_stream(tree: Any, path: Path) -> io.StringIO:
    """Make a stream of a tree; the stream's name tells HyperPyYAML where included files are."""
    stream = _NamedStream()
    YAML().dump(tree, stream)
    stream.seek(0)
    stream.name = str(path)
    return stream


def parse_overrides(overrides: str) -> dict[str, Any]:
    """Parse the command line's `--key value` pairs to a mapping."""
    try:
        changes = parse_yaml(overrides) if overrides else {}
    except InvalidYAML as error:
        raise RecipeError(f"command line: '{overrides}' is not understood; write --key value.") from error
    if not isinstance(changes, Mapping):
        raise RecipeError(f"command line: '{overrides}' is not understood; write --key value.")
    return dict(changes)


def check_keys(tree: Any, path: Path, changes: Iterable[str], names: Iterable[str]) -> None:
    """Refuse keys of the file or the command line that are not in `names`, the keys that the recipe reads."""
    settable = [*tree, *(name for name in names if name not in tree)]
    for key in changes:
        if key not in settable:
            raise RecipeError(unknown_key("command line", key, settable))
    known = {*referred_keys(tree, path), *RunOptions().as_dict(), *RETIRED_KEYS, *names}
    for key in tree:
        if key not in known and not key.startswith("__"):
            raise RecipeError(unknown_key(tree.places[key], key, sorted(known)))


def unknown_key(where: str, key: str, known: Any) -> str:
    """The error message for a key that nothing reads, with the closest known key."""
    return f"{where}: no recipe key is named {key}; {did_you_mean(key, known) or 'remove it.'}"


def explain(path: Path, error: Exception) -> str:
    """The error message for an error that HyperPyYAML raised."""
    if isinstance(error, YAMLError):
        return InvalidYAML.of(error).inside(path)
    text = ": ".join(str(argument) for argument in error.args)
    placeholder = re.match(r"'(\S+)' is a !PLACEHOLDER", text)
    if placeholder:
        key = placeholder[1]
        return f"{path}: {key} has no value; give it on the command line: --{key} VALUE."
    return sentence(f"{path}: {text}")
