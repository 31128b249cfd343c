"""config.json of a model folder, for speech or for images: written from a network's parts, and read strictly.

Every key, type and size in the file is checked before anything is built. The accepted values follow from the arguments
of the built classes: a value must be of the same type as the argument's default.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn

from biglittle_asr.features import NORMALIZATIONS, LogMel
from biglittle_asr.inference.classification import Classifier
from biglittle_asr.inference.folder.kinds import KINDS, ForeignPartError, Kind, kind_of
from biglittle_asr.inference.recognizer import Recognizer
from biglittle_asr.messages import LONGEST_TEXT, first_line, show
from biglittle_asr.models import BigLittleEncoder, EncoderConfig, ImageClassifier, ImageConfig
from biglittle_asr.models.encoder import BLOCK_OPTIONS
from biglittle_asr.nnet import BasicBlock
from biglittle_asr.tokens.tokenizer import Tokenizer

FORMAT = "biglittle_asr"
CLASSIFIER_FORMAT = "biglittle_asr-images"
CONTENTS = {FORMAT: "a speech recognizer", CLASSIFIER_FORMAT: "an image classifier"}
"""Values of the key `format` in config.json, with descriptions for messages."""
VERSION = 1

KEYS = ("format", "version", "features", "normalization", "encoder", "output_neurons", "training")
"""Required keys of a speech config."""
OPTIONAL_KEYS = {"model": {"kind": "ctc"}, "search": {}}
"""Optional keys of a speech config, with their defaults."""
CLASSIFIER_KEYS = ("format", "version", "name", "network", "classes", "resize", "crop")

MOST = {
    "blocks": 128,
    "branches": 4,
    "output_neurons": 1 << 18,
    "num_classes": 1 << 18,
    "sample_rate": 1 << 20,
    "n_mels": 1024,
    "win_length": 1000,
    "hop_length": 1000,
    "num_layers": 16,
    "beam_size": 1024,
    "max_decode_ratio": 100.0,
    "max_active": 1 << 20,
    "tied_states": 1 << 18,
    "phones": 1024,
    "positions": 16,
    "arcs": 1 << 30,
    "final_states": 1 << 28,
}
"""Largest value by key, so that absurd sizes are refused rather than tried."""
MOST_WHOLE = 1 << 14
MOST_REAL = 1e6
NEEDED = object()
"""Marks an argument without a default; all of these are sizes, integers."""
FOLLOWS = 1.0
"""Stands for a default of None, which follows from other arguments; all of these are real numbers."""


def recognizer_config(recognizer: Recognizer, training: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Describe a recognizer as plain data, for :func:`build_recognizer`.

    Arguments
    ---------
    recognizer : Recognizer
    training : mapping from str to number or text, optional
        Facts about the training, for the record only.

    Raises
    ------
    ForeignPartError
        If a part is not of this package.
    """
    kind = check_parts(recognizer.compute_features, recognizer.normalize, recognizer.model)
    normalization = cast("dict[str, Any]", recognizer.normalize.config)
    return {
        "format": FORMAT,
        "version": VERSION,
        "features": recognizer.compute_features.config,
        "normalization": {"kind": type(recognizer.normalize).__name__, **normalization},
        "encoder": dataclasses.asdict(recognizer.model.encoder.config),
        "model": {"kind": kind.name, **kind.describe(recognizer.model)},
        "output_neurons": recognizer.tokenizer.size,
        "search": dataclasses.asdict(recognizer.search_settings),
        "training": dict(training or {}),
    }


def check_parts(compute_features: nn.Module, normalize: nn.Module, model: Any) -> Kind:
    """Check that all parts of a trained model are of this package, and so can be built from data alone.

    Returns and raises as for :func:`check_types`.
    """
    kind = check_types(compute_features, normalize, model)
    kind.describe(model)
    return kind


def check_types(compute_features: nn.Module, normalize: nn.Module, model: Any) -> Kind:
    """Check that the types of all parts are of this package; the network need not be trained yet.

    Returns
    -------
    Kind
        The model's.

    Raises
    ------
    ForeignPartError
        If a part is not; the message names it.
    """
    kind = kind_of(model)
    known = {LogMel, BigLittleEncoder, *NORMALIZATIONS.values(), kind.model}
    for part in (compute_features, normalize, model.encoder, model):
        if type(part) not in known:
            names = ", ".join(sorted(each.__name__ for each in known))
            raise ForeignPartError(f"a model folder can hold {names}, but not {type(part).__name__}.")
    return kind


def build_recognizer(config: Any, tokenizer: Tokenizer) -> Recognizer:
    """Build the recognizer that a config describes, with weights on PyTorch's meta device, which allocates no memory.

    Arguments
    ---------
    config : Any
        The content of config.json.
    tokenizer : Tokenizer

    Raises
    ------
    ValueError
        If a key is unknown, missing, of the wrong type, too large, or cannot be built; the message names the key.
    """
    _check_format(config, FORMAT)
    _check_keys(config, {*KEYS, *OPTIONAL_KEYS}, KEYS)
    config = {**OPTIONAL_KEYS, **config}
    _check_facts(config["training"])
    features = _arguments(config["features"], "features", _defaults(LogMel))
    encoder = _arguments(config["encoder"], "encoder", _field_defaults(EncoderConfig))
    normalization, arguments = _of_a_kind(
        config["normalization"], "normalization", {name: _defaults(each) for name, each in NORMALIZATIONS.items()}
    )
    kind, model_arguments = _of_a_kind(config["model"], "model", {name: each.arguments for name, each in KINDS.items()})
    search_type = KINDS[kind].search_settings
    search = _arguments(config["search"], "search", _field_defaults(search_type))
    output_neurons = _like(config["output_neurons"], 1, "output_neurons", "output_neurons")
    if output_neurons != tokenizer.size:
        raise ValueError(
            f"output_neurons is {output_neurons}, but tokenizer.json has {tokenizer.size} tokens, blank included: "
            "they are not of the same model."
        )
    compute_features = _build("features", LogMel, features)
    with torch.device("meta"):
        normalize = _build("normalization", NORMALIZATIONS[normalization], arguments)
        encoder = _build("encoder", BigLittleEncoder, encoder)
        build_model = functools.partial(KINDS[kind].build, encoder, output_neurons, model_arguments)
        model = _build("model", build_model, {})
    if compute_features.output_size != encoder.config.input_size:
        raise ValueError(
            f"encoder.input_size is {encoder.config.input_size}, but there are {compute_features.output_size} features."
        )
    return Recognizer(compute_features, normalize, model, tokenizer, _build("search", search_type, search))


def classifier_config(classifier: Classifier) -> dict[str, Any]:
    """Describe a classifier as plain data, for :func:`build_classifier`."""
    return {
        "format": CLASSIFIER_FORMAT,
        "version": VERSION,
        "name": classifier.name,
        "network": dataclasses.asdict(classifier.model.config),
        "classes": list(classifier.classes or ()),
        "resize": classifier.resize,
        "crop": classifier.crop,
    }


def build_classifier(config: Any) -> Classifier:
    """Build the classifier that a config describes; see :func:`build_recognizer`."""
    _check_format(config, CLASSIFIER_FORMAT)
    _check_keys(config, CLASSIFIER_KEYS, CLASSIFIER_KEYS)
    examples = {"name": "", "resize": 1, "crop": 1}
    facts = {key: _like(config[key], example, key, key) for key, example in examples.items()}
    network = _arguments(config["network"], "network", _field_defaults(ImageConfig))
    classes = config["classes"]
    if not isinstance(classes, list) or any(not isinstance(each, str) for each in classes):
        raise ValueError("classes must be a list of names.")
    with torch.device("meta"):
        model = _build("network", ImageClassifier, network)
    return Classifier(model=model.eval(), classes=tuple(classes), **facts)


def content_of(config: Any) -> str:
    """The format, one of `CONTENTS`, of a config of any version; raises ValueError if it has none of them.

    Example
    -------
    >>> content_of({"format": "biglittle_asr"})
    'biglittle_asr'
    """
    content = config.get("format") if isinstance(config, dict) else None
    if not isinstance(content, str) or content not in CONTENTS:
        raise ValueError(f'is not the config of a model folder: it lacks "format": "{FORMAT}".')
    return content


def _check_format(config: Any, content: str) -> None:
    found = content_of(config)
    if found != content:
        raise ValueError(f"is the config of {CONTENTS[found]}, but must be that of {CONTENTS[content]}.")
    if type(config.get("version")) is not int or config["version"] != VERSION:
        raise ValueError(f"version is {show(config.get('version'))}, but this program reads version {VERSION} only.")


def _check_keys(value: Any, known: Iterable[str], needed: Iterable[str], inside: str = "") -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{inside.rstrip('.')} is {show(value)}, but must be an object.")
    unknown = [key for key in value if key not in known]
    if unknown:
        raise ValueError(f"has the unknown key {show(inside + unknown[0])}.")
    missing = [key for key in needed if key not in value]
    if missing:
        raise ValueError(f"lacks the key {inside}{missing[0]}.")


def _check_facts(facts: Any) -> None:
    if not isinstance(facts, dict):
        raise ValueError(f"training is {show(facts)}, but must be an object.")
    for key, value in facts.items():
        if not isinstance(value, (str, int, float)):
            raise ValueError(f"training.{show(key)} is {show(value)}, but must be a number or text.")


def _defaults(callable_: Callable[..., Any]) -> dict[str, Any]:
    """Arguments and their defaults; `NEEDED` stands for no default."""
    parameters = inspect.signature(callable_).parameters
    return {name: NEEDED if each.default is each.empty else each.default for name, each in parameters.items()}


def _field_defaults(config: type) -> dict[str, Any]:
    return {field.name: getattr(config(), field.name) for field in dataclasses.fields(config)}


def _of_a_kind(value: Any, name: str, kinds: Mapping[str, Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
    """The value of the key `kind`, and the arguments of that kind beside it."""
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise ValueError(f"{name}.kind is {show(kind)}, but must be one of {', '.join(kinds)}.")
    return kind, _arguments({key: value[key] for key in value if key != "kind"}, name, kinds[kind])


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Describe how the settings of two networks differ; the text is empty if they do not.

    Example
    -------
    >>> differences({"n_mels": 80, "deltas": True}, {"n_mels": 40, "deltas": True})
    'n_mels 80 there, 40 here'
    """
    pairs = {key: (_listed(there.get(key)), _listed(here.get(key))) for key in sorted({*there, *here})}
    return "; ".join(f"{key} {one} there, {other} here" for key, (one, other) in pairs.items() if one != other)


def _listed(value: Any) -> Any:
    """Convert sequences to lists, since a YAML file has lists where a class has tuples."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _arguments(value: Any, name: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The checked arguments from the file; those that it lacks keep their defaults."""
    needed = [key for key, default in defaults.items() if default is NEEDED]
    _check_keys(value, defaults, needed, f"{name}.")
    return {key: _like(value[key], defaults[key], f"{name}.{key}", key) for key in value}


def _like(value: Any, default: Any, where: str, key: str) -> Any:
    """Return the value if it is of the type of the default, or raise ValueError."""
    if isinstance(default, Mapping):
        known = _defaults(BasicBlock)
        if not isinstance(value, dict) or any(name not in BLOCK_OPTIONS for name in value):
            raise ValueError(f"{where} is {show(value)}, but must be an object with {' or '.join(BLOCK_OPTIONS)}.")
        return {name: _like(each, known[name], f"{where}.{name}", name) for name, each in value.items()}
    if isinstance(default, Sequence) and not isinstance(default, str):
        if not isinstance(value, list) or len(value) != len(default):
            raise ValueError(f"{where} is {show(value)}, but must be a list of {len(default)} whole numbers.")
        return tuple(_like(each, default[0], where, key) for each in value)
    if default is NEEDED:
        default = 1
    if default is None:
        default = FOLLOWS
    most = MOST.get(key, MOST_REAL if isinstance(default, float) else MOST_WHOLE)
    kind, fits = {
        bool: ("true or false", lambda: isinstance(value, bool)),
        int: (f"a whole number from 0 to {most}", lambda: type(value) is int and 0 <= value <= most),
        float: (
            f"a number from 0 to {most:g}",
            lambda: type(value) in (int, float) and 0 <= value <= most,
        ),
        str: ("a short text", lambda: isinstance(value, str) and len(value) <= LONGEST_TEXT),
    }[type(default)]
    if not fits():
        raise ValueError(f"{where} is {show(value)}, but must be {kind}.")
    return value


def _build(name: str, kind: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    try:
        return kind(**arguments)
    except (ArithmeticError, AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{name} cannot be built ({first_line(error)}).") from error
