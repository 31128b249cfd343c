"""The settings of a recipe: what each task reads, with the default and the meaning of every field.

A task has one dataclass that derives from :class:`Settings`. A recipe's YAML file sets what it wants otherwise,
and what has no sensible default. A new setting is one field.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML

from biglittle_asr.recipe.yaml import RecipeError, tag_of

WORDS: Mapping[type, tuple[type | tuple[type, ...], str]] = {
    bool: (bool, "True or False"),
    int: (int, "a whole number"),
    float: ((int, float), "a number"),
    str: (str, "text"),
    Sequence: ((list, tuple), "a list"),
    Mapping: (Mapping, "a mapping"),
    types.NoneType: (types.NoneType, "null"),
}
"""Annotation of a field -> what its value must be an instance of, and how a message says so."""


@dataclasses.dataclass(frozen=True)
class Written:
    """A default as a YAML file writes it."""

    text: str


def written(text: str) -> Any:
    """A field whose default is written in YAML, because it refers to other settings or is an object."""
    return dataclasses.field(default=Written(text))


@dataclasses.dataclass(kw_only=True)
class Settings:
    """What the recipes of a task read.

    Example
    -------
    >>> @dataclasses.dataclass(kw_only=True)
    ... class Small(Settings):
    ...     data_folder: str
    ...     number_of_epochs: int = 10
    >>> Small.names(), Small.defaults()
    (['data_folder', 'number_of_epochs'], {'number_of_epochs': 10})
    >>> Small.check({"data_folder": "an4", "number_of_epochs": "ten"})
    Traceback (most recent call last):
        ...
    biglittle_asr.recipe.yaml.RecipeError: number_of_epochs: is 'ten', but must be a whole number.
    """

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> None:
        """Refuse values of other types than their fields; objects, which are tagged in YAML, are taken as they are.

        Raises
        ------
        RecipeError
            If there is one.
        """
        for name, hint in typing.get_type_hints(cls).items():
            value, kinds = values.get(name), _kinds(hint)
            known = [WORDS[kind] for kind in kinds if kind in WORDS]
            if name not in values or tag_of(value) or len(known) < len(kinds):
                continue
            if not any(_is_a(value, instance) for instance, _ in known):
                words = " or ".join(word for _, word in known)
                raise RecipeError(f"{name}: is {value!r}, but must be {words}.")

    @classmethod
    def names(cls) -> list[str]:
        """The names of all fields."""
        return [field.name for field in dataclasses.fields(cls)]

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Field -> its default as a YAML node; fields without one are missing."""
        found = {}
        for field in dataclasses.fields(cls):
            if field.default_factory is not dataclasses.MISSING:
                found[field.name] = field.default_factory()
            elif isinstance(field.default, Written):
                found[field.name] = YAML().load(field.default.text)
            elif field.default is not dataclasses.MISSING:
                # As text, so that a list stays on one line.
                found[field.name] = YAML().load(json.dumps(field.default))
        return found

    @classmethod
    def meanings(cls) -> dict[str, str]:
        """Field -> its docstring, on one line."""
        found: dict[str, str] = {}
        for base in reversed(cls.__mro__):
            if dataclasses.is_dataclass(base):
                body = ast.parse(inspect.cleandoc(inspect.getsource(base))).body[0]
                assert isinstance(body, ast.ClassDef)
                for field, text in zip(body.body, body.body[1:], strict=False):
                    if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                        found[ast.unparse(field.target)] = " ".join(ast.literal_eval(text.value).split())
        return found


def _kinds(hint: Any) -> list[Any]:
    """The types of a union, without their parameters."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return [typing.get_origin(kind) or kind for kind in (typing.get_args(hint) if union else [hint])]


def _is_a(value: Any, kinds: type | tuple[type, ...]) -> bool:
    """Whether a value has one of some types; True and False are no numbers."""
    return isinstance(value, kinds) and (kinds is bool or not isinstance(value, bool))
