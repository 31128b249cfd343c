"""The model folder: everything needed to use a trained recognizer or image classifier, as data.

    config.json          the network's structure
    model.safetensors    its weights and normalization statistics
    README.md            the model card, for people
    tokenizer.json       its tokens (speech only)
    hyperparams.yaml     for SpeechBrain's inference interfaces only, never read here (speech only)
    onnx/                the network for other runtimes, if it was exported (`biglittle export`)

Loading reads config.json, model.safetensors and tokenizer.json, trusts none of them, and executes nothing.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

import safetensors.torch
import torch
from torch import Tensor

from biglittle_asr.export.files import FLOAT, INT8, STREAMING, TOKENS
from biglittle_asr.files import parse_json, read_text, refuse_pointer, replacing_folder
from biglittle_asr.inference.classification import Classifier
from biglittle_asr.inference.exporting import ONNX, PRETRAINED, SNAPSHOTS, run_elsewhere
from biglittle_asr.inference.folder.card import ModelCard, format_card
from biglittle_asr.inference.folder.config import (
    FORMAT,
    build_classifier,
    build_recognizer,
    classifier_config,
    content_of,
    recognizer_config,
)
from biglittle_asr.inference.folder.hub import download, is_hub_name
from biglittle_asr.inference.folder.weights import halve, read_weights
from biglittle_asr.inference.recognizer import Recognizer
from biglittle_asr.inference.runtimes import TORCH
from biglittle_asr.messages import did_you_mean, first_line, sentence
from biglittle_asr.models import list_models
from biglittle_asr.nnet import is_folded
from biglittle_asr.tokens.tokenizer import tokenizer_from_state

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
MODEL = "model"
"""Name of the model folder in an experiment folder."""
CARD, SPEECHBRAIN = "README.md", "hyperparams.yaml"
NEEDED = (CONFIG, WEIGHTS, TOKENIZER)
"""Files read from a speech folder; a classifier's folder has no tokenizer."""
FILES = (*NEEDED, CARD, SPEECHBRAIN)
EXPORTED = (FLOAT, INT8, STREAMING, TOKENS)
"""Files in the folder `onnx`; replacing a model folder removes them, since they are of its weights."""
LARGEST_FILE = 32 << 20
"""Size limit in bytes of files other than weights; a tokenizer of 32,000 word pieces takes 1 MB."""

TRIED_FRAMES = 16
"""Feature frames of the test run after loading."""
TRIED_PIXELS = 64
"""Height and width in pixels of the test image for a classifier."""

DERIVED = "compute_features."
"""Prefix of state that follows from config.json: window and filterbank are computed, not stored."""

HYPERPARAMS = """\
# What SpeechBrain's EncoderASR, EncoderDecoderASR or StreamingASR needs to open this folder. Nothing else reads it.
encoder: !new:biglittle_asr.inference.speechbrain.RecognizerEncoder
decoder: !new:biglittle_asr.inference.speechbrain.RecognizerDecoder
    encoder: !ref <encoder>
tokenizer: !new:biglittle_asr.inference.speechbrain.Detokenizer
enc: !new:biglittle_asr.inference.speechbrain.StreamingEncoder
    encoder: !ref <encoder>
proj_enc: !new:biglittle_asr.inference.speechbrain.StreamingOutput
    encoder: !ref <encoder>
modules:
    encoder: !ref <encoder>
    decoder: !ref <decoder>
    enc: !ref <enc>
    proj_enc: !ref <proj_enc>
decoding_function: !name:biglittle_asr.inference.speechbrain.decode_all
    decoder: !ref <decoder>
fea_streaming_extractor: !new:biglittle_asr.inference.speechbrain.StreamingFeatures
    encoder: !ref <encoder>
make_decoder_streaming_context: !name:biglittle_asr.inference.speechbrain.StreamedTokens
make_tokenizer_streaming_context: !name:biglittle_asr.inference.speechbrain.StreamedText
tokenizer_decode_streaming: !name:biglittle_asr.inference.speechbrain.decode_streamed
pretrainer: !new:biglittle_asr.inference.speechbrain.FolderPretrainer
    encoder: !ref <encoder>
    tokenizer: !ref <tokenizer>
audio_normalizer: !new:speechbrain.dataio.preprocess.AudioNormalizer
    sample_rate: {sample_rate}
"""

Model: TypeAlias = Recognizer | Classifier
Result = TypeVar("Result")


def save_model(folder: str | Path, model: Model, card: ModelCard | str = ModelCard()) -> Path:  # noqa: B008
    """Write a model folder, completely or not at all; an existing model folder of that name is replaced.

    Arguments
    ---------
    folder : path
    model : Recognizer or Classifier
    card : ModelCard or str
        Facts about the training and the scores; or the whole card, in Markdown.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    ValueError
        If the model could not be loaded again (weights that are not finite, parts that a folder cannot hold).
    FileExistsError
        If `folder` exists and is not a model folder.

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
    return write_folder(Path(folder), files_of(model, card))


def files_of(model: Model, card: ModelCard | str, float16: bool = False) -> dict[str, bytes]:
    """Names and contents of all files of a model's folder; see :func:`save_model`.

    With `float16`, large tensors take half the space, and have three digits.
    """
    if is_folded(model.model):
        raise ValueError("an optimized model cannot be saved, since it has no norms left; save the original.")
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in stored_state(model).items()}
    if float16:
        weights = halve(weights)
    text = card if isinstance(card, str) else format_card(model, card)
    files = {WEIGHTS: safetensors.torch.save(weights), CARD: text.encode(errors="replace")}
    if isinstance(model, Classifier):
        return files | {CONFIG: _dump(classifier_config(model))}
    return files | {
        CONFIG: _dump(recognizer_config(model, {} if isinstance(card, str) else card.training())),
        TOKENIZER: _dump({"kind": model.tokenizer.kind, **model.tokenizer.state()}),
        SPEECHBRAIN: HYPERPARAMS.format(sample_rate=model.sample_rate).encode(),
    }


def write_card(folder: str | Path, model: Model, card: ModelCard) -> None:
    """Replace the card of a model folder, completely or not at all; other files are not changed.

    Arguments
    ---------
    folder : path
        A folder from :func:`save_model`.
    model : Recognizer or Classifier
        The folder's model.
    card : ModelCard
        The new facts, such as scores.
    """
    place = Path(folder).resolve()
    # Written beside the folder, since a folder with a foreign file is never replaced.
    partial = place.with_name(f".{place.name}.{CARD}")
    _write(partial, format_card(model, card).encode(errors="replace"))
    partial.replace(place / CARD)


def load_model(
    folder: str | Path, device: str | torch.device = "cpu", runtime: str = TORCH, precision: str = "fp32"
) -> Recognizer:
    """Load a speech model folder; nothing in it is executed, so it need not be trusted.

    Arguments
    ---------
    folder : path
        A model folder, an experiment folder that has one, or a model's folder in a Hugging Face hub cache. Where there
        is no such folder, the name of a model that comes with this package (`biglittle models`), or of one on the hub,
        `org/name`, if there is no folder `org` here. Only the files of a model folder are downloaded.
    device : str or torch.device
    runtime : "torch", "onnxruntime" or "openvino"
        What runs the network. Files for runtimes other than PyTorch are in the folder `onnx` of the model folder; a
        missing one is made. They run on the CPU.
    precision : "fp32" or "int8"
        Of runtimes other than PyTorch. The int8 file is not made here, since that takes audio: see `biglittle export`.

    Returns
    -------
    Recognizer
        In evaluation mode.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If there is no such folder, or it lacks a file.
    ValueError
        If a file is not valid (the message names it), the folder holds an image classifier, which
        :func:`~biglittle_asr.inference.load_classifier` loads, there is no such device, or the runtime cannot be used.
    """
    model = read_model(folder, device)
    if isinstance(model, Classifier):
        raise ValueError(f"{folder}: classifies images; load it with load_classifier, or use `biglittle evaluate`.")
    if runtime != TORCH:
        if torch.device(device).type != "cpu":
            raise ValueError(f"device '{device}': {runtime} runs on the CPU; leave the device out.")
        run_elsewhere(model, find_folder(existing_folder(folder)), runtime, precision)
    elif precision != "fp32":
        raise ValueError(f"precision {precision}: is of other runtimes than torch, such as onnxruntime.")
    return model


def read_model(folder: str | Path, device: str | torch.device = "cpu") -> Model:
    """Load a model folder, for speech or for images; see :func:`load_model`."""
    folder = find_folder(existing_folder(folder))
    config, weights = (_file_inside(folder, name) for name in (CONFIG, WEIGHTS))
    if _checked(config, lambda: content_of(parse_json(_read(config)))) == FORMAT:
        return load_files(config, weights, _file_inside(folder, TOKENIZER), device)
    classifier = _checked(config, lambda: build_classifier(parse_json(_read(config))))
    _load_weights(classifier, config, weights, device)
    return classifier


def existing_folder(folder: str | Path) -> Path:
    """Find the folder of a model: a path, the name of one of this package, or of one on Hugging Face's hub.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If it does not; the message suggests the closest name of a folder beside it or of an image model.
    """
    folder = Path(folder)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise NotADirectoryError(f"{folder}: is a file, but must be a model folder.")
    shipped = sorted(path.name for path in PRETRAINED.iterdir() if path.is_dir()) if PRETRAINED.is_dir() else []
    if str(folder) in shipped:
        return PRETRAINED / folder
    if is_hub_name(folder):
        return download(folder.as_posix(), (*NEEDED, CARD))
    beside = folder.parent.iterdir() if folder.parent.is_dir() else ()
    hint = did_you_mean(folder.name, [*(path.name for path in beside if path.is_dir()), *shipped, *list_models()])
    raise FileNotFoundError(f"{folder}: no such model folder{f'; {hint}' if hint else '.'}")


def find_folder(folder: str | Path) -> Path:
    """The model folder that a folder stands for: itself, the one in an experiment folder, or a cache's snapshot.

    Example
    -------
    >>> experiment = getfixture("tmp_path")
    >>> (experiment / "model").mkdir()
    >>> _ = (experiment / "model" / "config.json").write_text("{}")
    >>> find_folder(experiment).name
    'model'
    """
    folder = Path(folder)
    if os.path.lexists(folder / CONFIG):
        return folder
    snapshots = sorted((folder / SNAPSHOTS).glob("*/"))
    main = folder / "refs" / "main"
    if len(snapshots) > 1 and main.is_file():
        snapshots = [path for path in snapshots if path.name == read_text(main).strip()]
    if len(snapshots) == 1:
        return find_folder(snapshots[0])
    return folder / MODEL if os.path.lexists(folder / MODEL / CONFIG) else folder


def load_files(config: Path, weights: Path, tokenizer: Path, device: str | torch.device = "cpu") -> Recognizer:
    """Load the three files of a speech model, from any places; see :func:`load_model`."""
    tokens = _checked(tokenizer, lambda: tokenizer_from_state(parse_json(_read(tokenizer))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about empty mel filters: the training has shown it
        recognizer = _checked(config, lambda: build_recognizer(parse_json(_read(config)), tokens))
    _load_weights(recognizer, config, weights, device)
    return recognizer


def _load_weights(model: Model, config: Path, weights: Path, device: str | torch.device) -> None:
    """Load weights into the model that a config describes, and check that it runs."""
    module = model.model if isinstance(model, Classifier) else model
    state = _checked(weights, lambda: read_weights(weights, stored_state(model)))
    module.load_state_dict(state, strict=False, assign=True)
    if isinstance(model, Recognizer):
        search = model.search
        _checked(weights, lambda: model.kind.searching.check(search))
    _checked(config, lambda: _try(model))
    try:
        module.to(device)
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"device '{device}' cannot be used ({first_line(error)}).") from error


@torch.inference_mode()
def _try(model: Model) -> None:
    """Run the network once on a short ramp, since some wrong sizes fail only at run time."""
    try:
        if isinstance(model, Classifier):
            ramp = torch.linspace(-1, 1, TRIED_PIXELS).expand(1, model.model.config.input_channels, TRIED_PIXELS, -1)
            computed: Sequence[Tensor] = [model.model(ramp)]
        else:
            samples = TRIED_FRAMES * model.compute_features.hop_samples
            computed = model.everything(torch.linspace(-0.1, 0.1, samples).unsqueeze(0), torch.tensor([samples]))
    except (ArithmeticError, RuntimeError, ValueError) as error:
        raise ValueError(f"describes a network that cannot run ({first_line(error)}).") from error
    if not all(bool(torch.isfinite(each).all()) for each in computed):
        raise ValueError("describes a network whose output is not finite.")


def stored_state(model: Model) -> dict[str, Tensor]:
    """The tensors of model.safetensors, by name."""
    state = (model.model if isinstance(model, Classifier) else model).state_dict()
    return {name: tensor for name, tensor in state.items() if not name.startswith(DERIVED)}


def read_file(folder: Path, name: str) -> bytes:
    """Read a file of a model folder, with the checks that apply to its JSON files."""
    return _read(_file_inside(folder, name))


def write_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write a model folder beside its place, check that it loads, and move it there."""
    _check_replaceable(folder)
    with replacing_folder(folder) as partial:
        for name, content in files.items():
            _write(partial / name, content)
        try:
            read_model(partial)
        except ValueError as error:
            raise ValueError(str(error).replace(str(partial), str(folder))) from error
    return folder


def _write(path: Path, content: bytes) -> None:
    """Write a file and flush it to disk, so that it survives a power cut."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _check_replaceable(folder: Path) -> None:
    """Refuse to replace anything but an empty folder, or a model folder with nothing else in it."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"{folder}: is a file; choose another name for the model folder.")
    names = {path.name for path in folder.iterdir()}
    exported = {path.name for path in (folder / ONNX).iterdir()} if (folder / ONNX).is_dir() else set()
    foreign = sorted(names - {*FILES, ONNX}) or sorted(exported - {*EXPORTED})
    if foreign:
        raise FileExistsError(f"{folder}: holds {foreign[0]}, so it is not replaced; choose another name.")
    if names and content_of_folder(folder) is None:
        raise FileExistsError(f"{folder}: is no model folder, so it is not replaced; choose another name.")


def content_of_folder(folder: Path) -> str | None:
    """The format in a folder's config.json, or None; the folder's other files are not checked."""
    try:
        return content_of(parse_json(read_file(folder, CONFIG)))
    except (OSError, ValueError):
        return None


def _file_inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.exists():
        if name == CONFIG and (folder / "save").is_dir():
            raise FileNotFoundError(
                f"{path}: no such file, because the training in {folder} has not come to its end; let it go on, or "
                f"make a model folder of its best checkpoint: biglittle pack {folder} OUT."
            )
        link = "is a link that leads nowhere" if path.is_symlink() else "no such file"
        raise FileNotFoundError(f"{path}: {link}; {folder} is no whole model folder.")
    if not path.is_file():
        raise ValueError(f"{path}: is no regular file.")
    allowed = [folder.resolve()]
    # In a Hugging Face hub cache, snapshots/<revision>/config.json is a link to blobs/<checksum>.
    allowed += [parent.parent / "blobs" for parent in folder.resolve().parents if parent.name == SNAPSHOTS]
    if not any(path.resolve().is_relative_to(place) for place in allowed):
        raise ValueError(f"{path}: is a link that leads out of the folder; put the file itself there.")
    return path


def _read(path: Path) -> bytes:
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise ValueError(f"has {size} bytes; up to {LARGEST_FILE} are read.")
    content = path.read_bytes()
    refuse_pointer(content)
    return content


def _checked(path: Path, load: Callable[[], Result]) -> Result:
    """Call `load`, and prefix the file's path to the message of a ValueError."""
    try:
        return load()
    except ValueError as error:
        raise ValueError(sentence(f"{path}: {error}")) from error


def _dump(data: object) -> bytes:
    return (json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
