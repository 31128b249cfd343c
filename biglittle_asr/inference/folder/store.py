"""The model folder: everything needed to recognize speech with a trained network, as data.

    config.json          what the network is built of
    model.safetensors    its weights, and the statistics of its normalizations
    tokenizer.json       its tokens
    README.md            the model card, for people
    hyperparams.yaml     for SpeechBrain's EncoderASR or EncoderDecoderASR only: never read here

Loading reads the first three, trusts none of them, and executes nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import safetensors.torch
import torch
from torch import Tensor

from biglittle_asr.files import parse_json
from biglittle_asr.inference.folder.card import ModelCard, format_card
from biglittle_asr.inference.folder.config import build_recognizer, is_model_config, recognizer_config
from biglittle_asr.inference.folder.weights import read_weights
from biglittle_asr.inference.recognizer import Recognizer
from biglittle_asr.messages import first_line
from biglittle_asr.tokens.tokenizer import tokenizer_from_state

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
CARD, SPEECHBRAIN = "README.md", "hyperparams.yaml"
NEEDED = (CONFIG, WEIGHTS, TOKENIZER)
FILES = (*NEEDED, CARD, SPEECHBRAIN)
LARGEST_FILE = 32 << 20
"""Bytes of the largest file that is read, weights aside; a tokenizer of 32 thousand word pieces takes a million."""

TRIED_FRAMES = 16
"""Feature frames that a network is run on once it is loaded."""

DERIVED = "compute_features."
"""State that follows from config.json: window and filterbank are computed, not stored."""

HYPERPARAMS = """\
# What SpeechBrain's EncoderASR or EncoderDecoderASR needs to open this folder. biglittle_asr never reads this file.
encoder: !new:biglittle_asr.inference.speechbrain.RecognizerEncoder
decoder: !new:biglittle_asr.inference.speechbrain.RecognizerDecoder
    encoder: !ref <encoder>
tokenizer: !new:biglittle_asr.inference.speechbrain.Detokenizer
modules:
    encoder: !ref <encoder>
    decoder: !ref <decoder>
decoding_function: !name:biglittle_asr.inference.speechbrain.decode_all
    decoder: !ref <decoder>
pretrainer: !new:biglittle_asr.inference.speechbrain.FolderPretrainer
    encoder: !ref <encoder>
    tokenizer: !ref <tokenizer>
audio_normalizer: !new:speechbrain.dataio.preprocess.AudioNormalizer
    sample_rate: {sample_rate}
"""

Result = TypeVar("Result")


def save_model(folder: str | Path, recognizer: Recognizer, card: ModelCard = ModelCard()) -> Path:  # noqa: B008
    """Write a model folder, whole or not at all; an older model folder of that name is replaced.

    Arguments
    ---------
    folder : path
    recognizer : Recognizer
    card : ModelCard
        What is known of its training and its errors.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    ValueError
        If the recognizer could not be loaded again (weights that are not finite, parts that a folder cannot hold), or
        something else than a model folder is there.

    Example
    -------
    >>> from biglittle_asr.tokens.tokenizer import CharacterTokenizer
    >>> from biglittle_asr.features import LogMel, SentenceNormalization
    >>> from biglittle_asr.models import CTCModel, create_encoder
    >>> tokenizer = CharacterTokenizer(" AB")
    >>> model = CTCModel(create_encoder("bl_resnet22", channels=(8, 16, 32, 64)), tokenizer.size)
    >>> folder = getfixture("tmp_path") / "model"
    >>> _ = save_model(folder, Recognizer(LogMel(), SentenceNormalization(), model, tokenizer))
    >>> load_model(folder).tokenizer.symbols
    [' ', 'A', 'B']
    """
    tokenizer = {"kind": recognizer.tokenizer.kind, **recognizer.tokenizer.state()}
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in stored_state(recognizer).items()}
    return write_folder(
        Path(folder),
        {
            CONFIG: _dump(recognizer_config(recognizer, card.training())),
            WEIGHTS: safetensors.torch.save(weights),
            TOKENIZER: _dump(tokenizer),
            CARD: _card(recognizer, card),
            SPEECHBRAIN: hyperparams(recognizer),
        },
    )


def write_card(folder: str | Path, recognizer: Recognizer, card: ModelCard) -> None:
    """Write the card of a model folder anew, whole or not at all; its network stays as it is.

    Arguments
    ---------
    folder : path
        Of :func:`save_model`.
    recognizer : Recognizer
        What it holds.
    card : ModelCard
        What has become known since, such as scores.
    """
    place = Path(folder).resolve()
    # Beside the folder, for one that holds a foreign file is never replaced.
    partial = place.with_name(f".{place.name}.{CARD}")
    _write(partial, _card(recognizer, card))
    partial.replace(place / CARD)


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> Recognizer:
    """Load a model folder. Nothing in it is executed, whoever made it.

    Arguments
    ---------
    folder : path
    device : str or torch.device

    Returns
    -------
    Recognizer
        In evaluation mode.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If there is no such folder, or a file is missing in it.
    ValueError
        If a file is not what it should be, and the message names it; or there is no such device.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no such model folder.")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: is a file, but must be a model folder.")
    config, weights, tokenizer = (_file_inside(folder, name) for name in NEEDED)
    return load_files(config, weights, tokenizer, device)


def load_files(config: Path, weights: Path, tokenizer: Path, device: str | torch.device = "cpu") -> Recognizer:
    """Load the three files of a model folder, wherever they are; see :func:`load_model`."""
    tokens = _checked(tokenizer, lambda: tokenizer_from_state(parse_json(_read(tokenizer))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of filters that no frequency falls into: who trained the network saw that
        recognizer = _checked(config, lambda: build_recognizer(parse_json(_read(config)), tokens))
    state = _checked(weights, lambda: read_weights(weights, stored_state(recognizer)))
    recognizer.load_state_dict(state, strict=False, assign=True)
    _checked(weights, lambda: recognizer.kind.check(recognizer.search))
    _checked(config, lambda: _try(recognizer))
    try:
        return recognizer.to(device)
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"device '{device}' cannot be used ({first_line(error)}).") from error


@torch.inference_mode()
def _try(recognizer: Recognizer) -> None:
    """Run the network once, on the few frames of a ramp: sizes that only look right show here."""
    samples = TRIED_FRAMES * recognizer.compute_features.hop_samples
    try:
        computed = recognizer.everything(torch.linspace(-0.1, 0.1, samples).unsqueeze(0), torch.tensor([samples]))
    except (ArithmeticError, RuntimeError, ValueError) as error:
        raise ValueError(f"describes a network that cannot run ({first_line(error)}).") from error
    if not all(bool(torch.isfinite(each).all()) for each in computed):
        raise ValueError("describes a network whose output is not finite.")


def stored_state(recognizer: Recognizer) -> dict[str, Tensor]:
    """The tensors of model.safetensors by name."""
    return {name: tensor for name, tensor in recognizer.state_dict().items() if not name.startswith(DERIVED)}


def hyperparams(recognizer: Recognizer) -> bytes:
    """The hyperparams.yaml of a recognizer's folder."""
    return HYPERPARAMS.format(sample_rate=recognizer.sample_rate).encode()


def read_file(folder: Path, name: str) -> bytes:
    """A file of a model folder, with the checks that all of its JSON files go through."""
    return _read(_file_inside(folder, name))


def write_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write a model folder beside its place, check that it loads, and move it there."""
    place = folder.resolve()
    _check_replaceable(folder)
    partial, old = (place.with_name(f".{place.name}.{kind}") for kind in ("partial", "old"))
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for name, content in files.items():
            _write(partial / name, content)
        try:
            load_model(partial)
        except ValueError as error:
            raise ValueError(str(error).replace(str(partial), str(folder))) from error
        # A folder cannot be replaced in one step; the old one steps aside until the new one is there.
        shutil.rmtree(old, ignore_errors=True)
        if place.exists():
            place.rename(old)
        partial.rename(place)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _write(path: Path, content: bytes) -> None:
    """Write a file, and have it outlive a power cut."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _card(recognizer: Recognizer, card: ModelCard) -> bytes:
    return format_card(recognizer, card).encode(errors="replace")


def _check_replaceable(folder: Path) -> None:
    """Refuse to replace anything but an empty folder, or a model folder with nothing else in it."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"{folder}: is a file; choose another name for the model folder.")
    names = {path.name for path in folder.iterdir()}
    foreign = sorted(names - set(FILES))
    if foreign:
        raise FileExistsError(f"{folder}: holds {foreign[0]}, so it is not replaced; choose another name.")
    if names and not _is_model_folder(folder):
        raise FileExistsError(f"{folder}: is no model folder, so it is not replaced; choose another name.")


def _is_model_folder(folder: Path) -> bool:
    """Whether config.json says so; whether the rest can be loaded is another question."""
    try:
        return is_model_config(parse_json(read_file(folder, CONFIG)))
    except (OSError, ValueError):
        return False


def _file_inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.exists():
        link = "is a link that leads nowhere" if path.is_symlink() else "no such file"
        raise FileNotFoundError(f"{path}: {link}; {folder} is no whole model folder.")
    if not path.is_file():
        raise ValueError(f"{path}: is no regular file.")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{path}: is a link that leads out of the folder; put the file itself there.")
    return path


def _read(path: Path) -> bytes:
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise ValueError(f"has {size} bytes; up to {LARGEST_FILE} are read.")
    return path.read_bytes()


def _checked(path: Path, load: Callable[[], Result]) -> Result:
    """Have every complaint name the file."""
    try:
        return load()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _dump(data: object) -> bytes:
    return (json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
