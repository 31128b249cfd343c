"""Start a training from a trained model: the weights of a model folder instead of random ones.

The key `init_from` of a recipe names the folder, which is read like every model folder: nothing in it is executed.
docs/training.md says what is loaded, what is not, and what is refused.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from speechbrain.utils.distributed import if_main_process
from speechbrain.utils.logger import get_logger
from torch import Tensor, nn

from biglittle_asr.files import write_atomically
from biglittle_asr.inference import Recognizer, load_model
from biglittle_asr.inference.folder.config import differences
from biglittle_asr.inference.folder.packing import STARTED_FROM, started_from
from biglittle_asr.messages import some
from biglittle_asr.recipe.yaml import RecipeError
from biglittle_asr.tasks.engine.checkpoints import Checkpointer
from biglittle_asr.tokens.tokenizer import BLANK, Tokenizer

logger = get_logger(__name__)

ENCODER = "encoder."
COUNTER = ".num_batches_tracked"
"""Statistics of a BatchNorm."""


@dataclass(frozen=True)
class Start:
    """The trained model at the start of a training."""

    folder: str
    recognizer: Recognizer

    @property
    def tokenizer(self) -> Tokenizer:
        """The trained model's tokenizer."""
        return self.recognizer.tokenizer

    @torch.no_grad()
    def load(self, model: Any, normalize: nn.Module, tokenizer: Tokenizer | None = None) -> None:
        """Load the weights that fit into a new model, and log the others by name.

        The encoder is loaded tensor by tensor. So is the rest of a model of the same kind; where a layer has one row
        per token, rows are matched by their token's text. Rows of new tokens start as the mean of the trained tokens'
        rows, so that no new token is more probable than all trained ones (Hewitt 2021, "Initializing New Word
        Embeddings for Pretrained Language Models"). The rest of a model of another kind is left as it is, and so is a
        hybrid model's output layer, whose states depend on its corpus. Call this before the model is made sparse.

        Arguments
        ---------
        model : nn.Module
            Has an `encoder`; changed in place.
        normalize : nn.Module
            The normalization of features; gets the trained statistics, if there are any.
        tokenizer : Tokenizer, optional
            The new model's tokenizer; a hybrid model needs none.

        Raises
        ------
        RecipeError
            If no layer of the encoder fits.
        """
        kind = self.recognizer.kind
        there, here = self.recognizer.model.state_dict(), model.state_dict()
        whole = type(model) is kind.model and bool(kind.token_layers) and tokenizer is not None
        if not whole:
            there, here = _encoder_only(there), _encoder_only(here)
        taken: dict[str, Tensor] = {}
        for name, tensor in there.items():
            if name not in here:
                continue
            if tokenizer is not None and name.split(".")[0] in kind.token_layers:
                tensor = self._rows(tensor, here[name], tokenizer)
            if tensor.shape == here[name].shape:
                taken[name] = tensor
        # Counters and biases of different layers may fit by chance; a matrix does not.
        if not any(name.startswith(ENCODER) and tensor.dim() > 1 for name, tensor in taken.items()):
            raise RecipeError(
                f"init_from: no layer of the encoder in {self.folder} fits the recipe's; set `encoder` as its "
                "config.json says."
            )
        model.load_state_dict(taken, strict=False)
        if normalize.state_dict():
            normalize.load_state_dict(self.recognizer.normalize.state_dict())
        self._report(model, there, here, taken, whole, tokenizer)

    def _rows(self, trained: Tensor, initial: Tensor, tokenizer: Tokenizer) -> Tensor:
        """Rows of the trained layer in the order of the new tokens; unchanged if their size differs."""
        if trained.shape[1:] != initial.shape[1:]:
            return trained
        known, own = self.tokenizer.size, self.recognizer.kind.own_tokens
        rows = trained[BLANK + 1 : known].mean(0, keepdim=True).repeat_interleave(len(initial), 0)
        places = _places(self.tokenizer, tokenizer)
        rows[list(places)] = trained[list(places.values())]
        rows[tokenizer.size : tokenizer.size + own] = trained[known : known + own]
        return rows

    def _report(
        self,
        model: Any,
        there: Collection[str],
        here: Collection[str],
        taken: Mapping[str, Tensor],
        whole: bool,
        tokenizer: Tokenizer | None,
    ) -> None:
        logger.info(f"init_from: {len(taken)} of {len(here)} tensors are those of {self.folder}")
        # An encoder with a layer that fits is from this package, as the folder's encoder is.
        trained, encoder = (dataclasses.asdict(each.encoder.config) for each in (self.recognizer.model, model))
        unequal = differences(trained, encoder)
        if unequal:
            logger.warning(
                f"init_from: the encoders differ, and so do their outputs: {unequal}. To start from the whole encoder, "
                "set `encoder` as the folder's config.json says."
            )
        if not whole:
            title = self.recognizer.kind.title
            logger.info(f"init_from: the encoder only, for that is a {title}; all behind it is left as initialized")
        elif tokenizer is not None:
            places = _places(self.tokenizer, tokenizer)
            new = [repr(tokenizer.piece(index)) for index in range(1, tokenizer.size) if index not in places]
            lost = self.tokenizer.size - len(places)
            logger.info(
                f"init_from: {len(places) - 1} of {tokenizer.size - 1} tokens keep their rows, {len(new)} are new"
                + (f" ({some(new)})" if new else "")
                + (f"; {lost} of the folder's are not used here" if lost else "")
            )
        # These counters always fit, and would otherwise keep their modules from being named as a whole.
        there, here = ([name for name in state if not name.endswith(COUNTER)] for state in (there, here))
        unlike = [name for name in here if name in there and name not in taken]
        for what, names, all_names in (
            ("of another shape there, left as initialized", unlike, here),
            ("missing there, left as initialized", [name for name in here if name not in there], here),
            ("there only, not used", [name for name in there if name not in here], there),
        ):
            if names:
                logger.warning(f"init_from: {what}: {', '.join(compact(names, all_names))}")


def find_start(hparams: Mapping[str, Any], checkpointer: Checkpointer) -> Start | None:
    """The initial model of a training; None without `init_from`, or if the training resumes from a checkpoint.

    Records the folder in the save_folder.

    Arguments
    ---------
    hparams : mapping
        Reads init_from, save_folder, compute_features, modules.
    checkpointer : Checkpointer
        The training's checkpointer, or that of its first part.

    Raises
    ------
    RecipeError
        If the folder cannot be loaded, `init_from` is not a path, or the model was trained on other features.
    """
    folder, save = hparams.get("init_from"), Path(hparams["save_folder"])
    if folder is not None and (not isinstance(folder, str) or not folder):
        raise RecipeError(f"init_from: is {folder!r}, but must be the path of a model folder, or the name of a model.")
    if checkpointer.find_checkpoints(max_num_checkpoints=1):
        before = started_from(save)
        if folder is not None:
            origin = f"which started from {before}" if before else "which did not start from a model folder"
            logger.info(f"init_from: {folder} is not read, for the training goes on, {origin}")
        return None
    if folder is None:
        if if_main_process():
            (save / STARTED_FROM).unlink(missing_ok=True)
        return None
    try:
        recognizer = load_model(folder)
    except (OSError, ValueError) as error:
        raise RecipeError(f"init_from: {error}") from error
    _check_front_end(folder, recognizer, hparams)
    if if_main_process():
        write_atomically(save / STARTED_FROM, json.dumps({"folder": folder}) + "\n")
    return Start(folder, recognizer)


def _check_front_end(folder: str, recognizer: Recognizer, hparams: Mapping[str, Any]) -> None:
    """Refuse features that differ from those that the network was trained on."""
    pairs: dict[str, tuple[Any, Any]] = {
        "compute_features": (recognizer.compute_features, hparams["compute_features"]),
        "normalize": (recognizer.normalize, hparams["modules"]["normalize"]),
    }
    for key, (there, here) in pairs.items():
        if type(there) is not type(here):
            unequal = f"{type(there).__name__} there, {type(here).__name__} here"
        else:
            unequal = differences(there.config, here.config)
        if unequal:
            raise RecipeError(f"init_from: {folder} was trained on other features: {key} has {unequal}; set it alike.")


def _encoder_only(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if name.startswith(ENCODER)}


def _places(trained: Tokenizer, new: Tokenizer) -> dict[int, int]:
    """Map the index of each common token, including the blank, from the new tokenizer to the trained one."""
    known = {trained.piece(index): index for index in range(1, trained.size)}
    pieces = {index: new.piece(index) for index in range(1, new.size)}
    return {BLANK: BLANK, **{index: known[piece] for index, piece in pieces.items() if piece in known}}


def compact(names: Sequence[str], all_names: Collection[str]) -> list[str]:
    """Shorten a list of tensor names: a module all of whose tensors are listed becomes one entry.

    Arguments
    ---------
    names : sequence of str
        Names of tensors.
    all_names : collection of str
        Names of all tensors of the network.

    Example
    -------
    >>> compact(["a.b.weight", "a.b.bias", "c.bias"], ["a.b.weight", "a.b.bias", "a.d", "c.weight", "c.bias"])
    ['a.b.* (2)', 'c.bias']
    """
    chosen, found = set(names), []
    for name in names:
        ends = [place + 1 for place, letter in enumerate(name) if letter == "."]
        for module in [*(name[:end] for end in ends), name]:
            inside = [other for other in all_names if other.startswith(module)]
            if chosen.issuperset(inside):
                found.append(f"{module}* ({len(inside)})" if len(inside) > 1 else name)
                break
    return list(dict.fromkeys(found))
