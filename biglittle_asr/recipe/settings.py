"""The settings of recipes: names, types, defaults and meanings.

Each kind of recipe (CTC, attention, transducer, hybrid, images) has one dataclass that derives from :class:`Settings`.
A recipe's YAML file sets the values without a default, and overrides others. A new setting is one field.
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

TYPE_DESCRIPTIONS: Mapping[type, tuple[type | tuple[type, ...], str]] = {
    bool: (bool, "True or False"),
    int: (int, "a whole number"),
    float: ((int, float), "a number"),
    str: (str, "text"),
    Sequence: ((list, tuple), "a list"),
    Mapping: (Mapping, "a mapping"),
    types.NoneType: (types.NoneType, "null"),
}
"""Annotation of a field -> the type that its value must have, and its name in messages."""


@dataclasses.dataclass(frozen=True)
class YamlDefault:
    """A default, as a YAML file writes it."""

    text: str


def yaml_default(text: str) -> Any:
    """A default written in YAML, because it refers to other settings or is an object."""
    return dataclasses.field(default=YamlDefault(text))


@dataclasses.dataclass(kw_only=True)
class Settings:
    """Schema of the settings of one kind of recipe. It is never instantiated: values stay in SpeechBrain's `hparams`.

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
        """Refuse values whose type is not their field's; objects, which are tagged in YAML, are not checked.

        Raises
        ------
        RecipeError
            If a value has a wrong type.
        """
        for name, hint in typing.get_type_hints(cls).items():
            value, kinds = values.get(name), _kinds(hint)
            # Fields of other types have values that YAML cannot express; they are not checked.
            known = [TYPE_DESCRIPTIONS[kind] for kind in kinds if kind in TYPE_DESCRIPTIONS]
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
        """Field -> its default as a YAML node; fields without a default are left out."""
        found = {}
        for field in dataclasses.fields(cls):
            if isinstance(field.default, YamlDefault):
                found[field.name] = YAML().load(field.default.text)
            elif field.default is not dataclasses.MISSING:
                # As text, so that a list stays on one line.
                found[field.name] = YAML().load(json.dumps(field.default))
        return found

    @classmethod
    def meanings(cls) -> dict[str, str]:
        """Field -> its docstring, on one line. Python drops docstrings of fields, so the source is read."""
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
    """Whether a value has one of the given types; True and False do not count as numbers."""
    return isinstance(value, kinds) and (kinds is bool or not isinstance(value, bool))
