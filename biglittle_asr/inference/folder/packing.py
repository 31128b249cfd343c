"""Makes a model folder, which can be given away, from the experiment folder of a recipe.

Nothing in the experiment is executed: its hyperparams.yaml is read as data, and only parts of known classes are built.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from biglittle_asr.features import NORMALIZATIONS, LogMel
from biglittle_asr.files import read_json, read_yaml
from biglittle_asr.inference.folder.card import ModelCard
from biglittle_asr.inference.folder.head import HubFacts
from biglittle_asr.inference.folder.kinds import KINDS, Kind
from biglittle_asr.inference.folder.store import (
    CARD,
    MODEL,
    NEEDED,
    SPEECHBRAIN,
    WEIGHTS,
    files_of,
    find_folder,
    read_file,
    read_model,
    write_folder,
)
from biglittle_asr.inference.recognizer import Recognizer
from biglittle_asr.messages import first_line, show
from biglittle_asr.models import BigLittleEncoder, create_encoder
from biglittle_asr.models.checkpoints import META, checkpoint_fault, plain_names
from biglittle_asr.nnet.sparse import freeze, sparsify
from biglittle_asr.tokens.tokenizer import load_tokenizer

logger = logging.getLogger(__name__)

SAVE = "save"
STARTED_FROM = "init_from.json"
"""Note in the save folder that names the model folder from which a training started. The folder itself may be gone by
then, since a resumed training does not read it again."""
LARGEST_YAML = 1 << 20

KNOWN: dict[str, dict[str, Callable[..., Any]]] = {
    "compute_features": {"!new:biglittle_asr.features.LogMel": LogMel},
    "normalize": {f"!new:biglittle_asr.features.{name}": kind for name, kind in NORMALIZATIONS.items()},
    "encoder": {
        "!apply:biglittle_asr.models.create_encoder": create_encoder,
        "!new:biglittle_asr.models.BigLittleEncoder": BigLittleEncoder,
    },
}
"""Key of a recipe's YAML file -> its accepted tags, and what each builds."""
RECIPES: dict[str, dict[str, str]] = {
    "ctc": {"model": "!name:biglittle_asr.models.CTCModel"},
    "attention": {
        "model": "!name:biglittle_asr.models.AttentionModel",
        "decoder": "!new:speechbrain.nnet.RNN.AttentionalRNNDecoder",
    },
    "transducer": {"model": "!name:biglittle_asr.models.TransducerModel"},
}
"""Kind -> keys of a recipe's YAML file that hold the model's arguments, with the required tags. Checkpoints of other
kinds lack data that a model folder needs."""
SEARCH_KEYS = {"test_beam_size": "beam_size", "ctc_decoding_weight": "ctc_weight"}
"""Key of a recipe's YAML file -> search setting, for kinds that have it."""


def pack(experiment: str | Path, out: str | Path, float16: bool = False) -> Path:
    """Make a model folder from an experiment folder.

    A finished training has a model folder, which is copied. For an unfinished one, the model folder is made from the
    checkpoint with the lowest word error rate on dev. A damaged checkpoint is named in a warning, and the next best one
    is used.

    Arguments
    ---------
    experiment : path
        The recipe's output_folder, or a model folder, which is checked and copied.
    out : path
        Folder to write; an existing model folder is replaced.
    float16 : bool
        Whether to round large weights to float16, which halves the folder. They are float32 again when it is loaded.

    Raises
    ------
    FileNotFoundError
        If there is neither a model folder nor a checkpoint.
    ValueError
        If a file is broken, or a part is not of this package, or no checkpoint is intact.
    """
    experiment, out = Path(experiment), Path(out)
    if not experiment.is_dir():
        raise FileNotFoundError(f"{experiment}: no such experiment folder.")
    for model in (find_folder(experiment), experiment / MODEL):
        if any((model / name).exists() for name in NEEDED[:2]):
            return copy_model(model, out, float16)
    recognizer, card = from_checkpoint(experiment)
    return write_folder(out, files_of(recognizer, card, float16))


def copy_model(folder: Path, out: Path, float16: bool = False) -> Path:
    """Copy a model folder that can be loaded, with its card; other files in it are left out."""
    files = files_of(read_model(folder), ModelCard(), float16)
    kept = set(files) & set(NEEDED) - ({WEIGHTS} if float16 else set())
    files |= {name: (folder / name).read_bytes() for name in kept}
    if (folder / CARD).exists():
        files[CARD] = read_file(folder, CARD)
    return write_folder(out, files)


def from_checkpoint(experiment: Path) -> tuple[Recognizer, ModelCard]:
    """Build the recognizer that an experiment trains, with the weights of its best checkpoint, and its card.

    Raises
    ------
    FileNotFoundError, ValueError
        As for :func:`pack`.
    """
    path = experiment / SPEECHBRAIN
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; {experiment} is no experiment folder.")
    tree = _read_yaml(path)
    kind = _kind(tree, path)
    tokenizer = load_tokenizer(experiment / SAVE / "tokenizer.json")
    try:
        parts = {key: _build(key, tree.get(key)) for key in KNOWN}
        model = kind.build(parts["encoder"], tokenizer.size, _arguments(tree, kind))
        if tree.get("sparsity"):
            sparsify(model, **_plain(tree["sparsity"]))
        search = kind.search_settings(**_search_settings(tree, kind))
        recognizer = Recognizer(parts["compute_features"], parts["normalize"], model, tokenizer, search)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {first_line(error)}.") from error
    meta = _load_best(recognizer, experiment / SAVE)
    freeze(recognizer.model)
    step = f", step {meta['step']}" if "step" in meta else ""
    wer = f", {meta['WER']:.2f} % WER on dev" if _is_number(meta.get("WER")) else ""
    card = ModelCard(
        data=f"Corpus folder: `{Path(str(tree.get('data_folder'))).name}`. The training did not come to its end.",
        precision=str(tree.get("precision") or ""),
        weights=f"checkpoint of epoch {meta.get('epoch', 'unknown')}{step}{wer}",
        start=started_from(experiment / SAVE),
        hub=HubFacts.of(_plain(tree.get("card") or {})),
    )
    return recognizer, card


def started_from(save: Path) -> str:
    """The model folder from which a training started, or an empty text; `save` is the training's save folder."""
    path = save / STARTED_FROM
    if not path.is_file():
        return ""
    note = read_json(path)
    folder = note.get("folder") if isinstance(note, dict) else None
    if not isinstance(folder, str):
        raise ValueError(f"{path}: does not name a model folder.")
    return folder


def _read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file as plain data: tags are kept as text, and nothing is built."""
    if path.stat().st_size > LARGEST_YAML:
        raise ValueError(f"{path}: is larger than {LARGEST_YAML} bytes, so it is no recipe's.")
    try:
        tree = read_yaml(path)
    except ValueError as error:
        raise ValueError(f"{path}: is not a YAML file of 'key: value' lines.") from error
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: is not a YAML file of 'key: value' lines.")
    return tree


def _build(key: str, node: Any) -> Any:
    tag = _tag(node)
    if tag not in KNOWN[key]:
        raise ValueError(
            f"{key} is {show(tag)}, which pack does not run; it knows {', '.join(KNOWN[key])}, and a training that "
            "comes to its end writes its model folder itself"
        )
    return KNOWN[key][tag](**(_plain(node) if isinstance(node, dict) else {}))


def _kind(tree: dict[str, Any], path: Path) -> Kind:
    """The kind of model that a recipe trains."""
    tags = {keys["model"]: KINDS[name] for name, keys in RECIPES.items()}
    tag = _tag(tree.get("model"))
    if tag not in tags:
        raise ValueError(
            f"{path}: model is {show(tag)}, which pack does not run; it knows {', '.join(tags)}, and a training that "
            "comes to its end writes its model folder itself."
        )
    return tags[tag]


def _arguments(tree: dict[str, Any], kind: Kind) -> dict[str, Any]:
    """The recipe's arguments for a model of this kind; references to other parts are not among them."""
    found: dict[str, Any] = {}
    for key, tag in RECIPES[kind.name].items():
        if _tag(tree.get(key)) != tag:
            raise ValueError(f"{key} is {show(_tag(tree.get(key)))}, which pack does not run; it knows {tag}")
        found |= {name: _plain(tree[key][name]) for name in kind.arguments if name in tree[key]}
    return found


def _search_settings(tree: dict[str, Any], kind: Kind) -> dict[str, Any]:
    """The recipe's settings of the search for its final scores."""
    options = _plain(tree.get("search_options") or {})
    known = {field.name for field in dataclasses.fields(kind.search_settings)}
    return {name: _plain(tree[key]) for key, name in SEARCH_KEYS.items() if key in tree and name in known} | options


def _tag(node: Any) -> str:
    return str(getattr(getattr(node, "tag", None), "value", None))


def _plain(node: Any) -> Any:
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    if node is None:
        return None
    raise ValueError(f"{show(str(node))} is no plain value")


def _load_best(recognizer: Recognizer, save: Path) -> dict[str, Any]:
    """Load the weights of the best checkpoint that is not damaged, and return its meta."""
    intact, faults = [], []
    for folder in sorted(save.glob("CKPT+*/")):
        fault = checkpoint_fault(folder)
        if fault:
            faults.append(f"{folder}: is damaged ({fault})")
        else:
            intact.append(folder)
    if not intact and not faults:
        raise FileNotFoundError(f"{save}: has no checkpoint, and there is no model folder; train first.")
    for folder, meta in rank_checkpoints(intact):
        try:
            for name, module in (("model", recognizer.model), ("normalize", recognizer.normalize)):
                if module.state_dict():
                    _load_weights(module, folder / f"{name}.ckpt")
        except (OSError, ValueError) as error:
            faults.append(first_line(error))
            continue
        for fault in faults:
            logger.warning(f"{fault}; the next best checkpoint is used.")
        return meta
    raise ValueError(f"{faults[-1]}, and there is no other checkpoint to take; train on, which makes one.")


def rank_checkpoints(folders: Iterable[Path]) -> list[tuple[Path, dict[str, Any]]]:
    """Sort checkpoints, and their meta, by WER on dev, lowest first; the latest first among equals, or without WER."""
    found = []
    for folder in folders:
        meta = _plain(_read_yaml(folder / META))
        epoch, step, wer = (meta.get(key) if _is_number(meta.get(key)) else None for key in ("epoch", "step", "WER"))
        step = math.inf if step is None else step
        found.append((math.inf if wer is None else wer, -(epoch or 0), -step, folder, meta))
    return [(folder, meta) for *_, folder, meta in sorted(found, key=lambda entry: entry[:3])]


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _load_weights(module: nn.Module, path: Path) -> None:
    """Load a checkpoint file; it is a pickle, from which only tensors are read."""
    with path.open("rb") as file:
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
            module.load_state_dict({plain: state[name] for name, plain in plain_names(state).items()})
        except Exception as error:  # torch documents no list of what a broken file raises
            raise ValueError(f"{path}: does not hold the weights of this network and nothing else.") from error
