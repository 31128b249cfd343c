"""What every recipe's train.py shares: reading its YAML file, preparing the corpus, tokenizer and model.

A recipe's YAML file is SpeechBrain's (HyperPyYAML), with one addition: a file whose whole content is
`!include:other.yaml` with some keys is the other file with these keys replaced or added, so that two recipes can differ
in nothing but what they say.
"""

import dataclasses
import difflib
import io
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml, resolve_references
from ruamel.yaml import YAML, YAMLError
from speechbrain.utils.distributed import (
    ddp_barrier,
    ddp_init_group,
    get_local_rank,
    if_main_process,
    infer_device,
    run_on_main,
)
from speechbrain.utils.logger import TqdmCompatibleStreamHandler, get_logger
from speechbrain.utils.run_opts import RunOptions
from torch import nn

from biglittle_asr.corpora import prepare
from biglittle_asr.corpora.manifest import copy_indices, read_manifest
from biglittle_asr.corpora.shards import has_shards
from biglittle_asr.decoding.tokenizer import Tokenizer, load_tokenizer, train_tokenizer
from biglittle_asr.nnet.sparse import sparsify

logger = get_logger(__name__)

SPEECH_KEYS = frozenset(
    """
    seed output_folder save_folder train_log data_folder skip_prep corpus_options skip_test cache_audio
    number_of_epochs batch_size sorting dynamic_batching max_batch_length num_buckets average_checkpoints
    train_dataloader_opts valid_dataloader_opts test_dataloader_opts
    sample_rate token_type vocab_size output_neurons
    compute_features normalize wav_augment fea_augment modules encoder model
    opt_class lr_annealing checkpointer epoch_counter train_logger tensorboard_logger
    """.split()
)
"""Keys that all speech recognition recipes read. A YAML file may have others only where it refers to them itself."""

CTC_KEYS = SPEECH_KEYS | {"consistency_weight", "decoding"}
"""Keys that CTC recipes read."""

ATTENTION_KEYS = SPEECH_KEYS | frozenset(
    "ctc_weight label_smoothing valid_beam_size test_beam_size ctc_decoding_weight search_options".split()
)
"""Keys that recipes of attention models read."""

TRANSDUCER_KEYS = SPEECH_KEYS | {"valid_beam_size", "test_beam_size"}
"""Keys that recipes of transducers read."""

HYBRID_KEYS = frozenset(
    """
    seed output_folder save_folder data_folder skip_prep corpus_options skip_test cache_audio
    lexicon language_model kaldi states_per_phone silence_states iterations tied_states min_frames balance
    lm_weights search_options mmi_lm_weight mmi_ce_weight
    batch_size sorting dynamic_batching max_batch_length num_buckets average_checkpoints
    train_dataloader_opts valid_dataloader_opts test_dataloader_opts
    sample_rate compute_features normalize wav_augment fea_augment modules encoder model opt_class lr_annealing
    """.split()
)
"""Keys that hybrid recipes read."""

IMAGE_KEYS = frozenset(
    """
    seed output_folder save_folder train_log data_folder classes images_per_class skip_bad
    number_of_epochs batch_size train_dataloader_opts valid_dataloader_opts
    resize crop train_transform val_transform label_smoothing
    model sparsity channels_last ema_decay decay_vectors
    opt_class lr_annealing checkpointer epoch_counter train_logger tensorboard_logger
    """.split()
)
"""Keys that image recipes read."""

EXPLAINED: Mapping[Set[str], str] = {
    CTC_KEYS: "hparams/AN4/ctc_bl_resnet22.yaml",
    ATTENTION_KEYS: "hparams/LibriSpeech/attention_bl_resnet22.yaml",
    TRANSDUCER_KEYS: "hparams/LibriSpeech/transducer_bl_resnet22.yaml",
    HYBRID_KEYS: "hparams/AN4/hybrid_bl_resnet22.yaml",
    IMAGE_KEYS: "hparams/ImageNet/authors_bl_resnet50.yaml",
}
"""A file that explains the keys."""

OPTIONAL_KEYS = frozenset({"init_from", "profile", "sparsity", "splits"})
"""Keys that the recipes read where a YAML file or the command line has them."""

SPEECH_ONLY = frozenset({"init_from", "splits"})
"""Those of them that image recipes do not read."""

OWN_SPLITS = {"train": "train", "dev": "dev", "test": "test"}
"""Names of the sets in a corpus that calls them as the recipes do."""

CHATTY = (
    *(
        f"speechbrain.{name}"
        for name in ("core", "dataio.sampler", "utils.checkpoints", "utils.epoch_loop", "utils.quirks")
    ),
    "fsspec",
)
"""Loggers whose routine messages are about themselves, several an epoch or one a file; their warnings are shown."""


ONEDNN_PRIMITIVES = 16384
"""Compiled operations that oneDNN keeps. By default 1024, which the batch shapes of an epoch exceed many times (each
needs about three a convolution), so that every batch would be compiled again."""


class RecipeError(ValueError):
    """A recipe's YAML file or command line is wrong."""


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Run a recipe's `main` on the command line; what the user can mend ends in one sentence and exit status 1."""
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint.", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError) as error:
        logger.debug("The traceback of the error:", exc_info=True)
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def load_recipe(argv: Sequence[str], keys: Set[str] = CTC_KEYS) -> tuple[dict[str, Any], RunOptions]:
    """Read a recipe's command line and YAML file, and make its output folder.

    Arguments
    ---------
    argv : sequence of str
        YAML file, SpeechBrain's options (--device, --precision, --test_only, ...), and `--key value` to override keys
        of the YAML file, or to add one of `OPTIONAL_KEYS`; `--profile` stands for `--profile True`.
    keys : set of str
        That the recipe reads.

    Returns
    -------
    hparams : dict
        What the YAML file defines.
    run_opts : speechbrain.RunOptions
        The other options.

    Raises
    ------
    RecipeError
        If the file is malformed, lacks a value, or file or command line have a key that nothing reads; if torchrun
        started more processes than there are GPUs to train on.
    FileNotFoundError
        If the file is missing.
    """
    # Read when the first convolution runs.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(ONEDNN_PRIMITIVES))
    # SpeechBrain would take it for the beginning of its own --profile_training.
    profile = "\nprofile: True" if "--profile" in argv else ""
    file, run_opts, overrides = sb.parse_arguments([word for word in argv if word != "--profile"])
    path = Path(file)
    tree = _read_yaml(path)
    changes = _parse_overrides(overrides + profile)
    _check_keys(path, tree, changes, keys)
    # What is tagged stands for itself; HyperPyYAML would mix a mapping's entries into the one that it replaces, and
    # refuses a mapping in place of anything else.
    for key in [key for key in changes if _tag(changes[key]) or _replaces_plain_value(changes[key], tree.get(key))]:
        tree[key] = changes.pop(key)
    run_opts = _join_processes(run_opts)
    try:
        resolved = resolve_references(_as_stream(tree, path), changes).getvalue()
        hparams = load_hyperpyyaml(resolved)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: includes {error.filename}, which does not exist.") from error
    except (ValueError, TypeError, ImportError, YAMLError) as error:
        raise RecipeError(_explain(path, error)) from error
    missing = sorted(keys - hparams.keys())
    if missing:
        raise RecipeError(f"{path}: lacks the key {missing[0]}; {EXPLAINED[keys]} explains it.")
    output_folder = Path(hparams["output_folder"])
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    sb.create_experiment_directory(output_folder)
    if if_main_process():
        (output_folder / "hyperparams.yaml").write_text(resolved, encoding="utf-8")
    _plain_console()
    if hparams.get("precision") == "bf16" and "precision" not in run_opts.overridden_args:
        if _on_cpu(run_opts) and not cpu_computes_bfloat16():
            logger.warning("precision: fp32 in place of bf16, which this CPU has no instructions for and is slow at.")
            hparams["precision"] = "fp32"
    return hparams, run_opts


def _on_cpu(run_opts: RunOptions) -> bool:
    return str(run_opts.device or infer_device()).startswith("cpu")


def _join_processes(run_opts: RunOptions) -> RunOptions:
    """Join the processes that torchrun started, if it did; over gloo on CPUs, where NCCL does not work."""
    rank, gpus = get_local_rank(), torch.cuda.device_count()
    if rank is None:
        return run_opts
    if _on_cpu(run_opts) and "distributed_backend" not in run_opts.overridden_args:
        overridden = run_opts.overridden_args | {"distributed_backend"}
        run_opts = dataclasses.replace(run_opts, distributed_backend="gloo", overridden_args=overridden)
    if run_opts.distributed_backend != "gloo" and rank >= gpus:
        raise RecipeError(
            f"torchrun: started process {rank + 1} on a machine of {gpus} GPUs; start one process a GPU "
            "(--nproc_per_node), or train on the CPU (--device cpu)."
        )
    ddp_init_group(run_opts)
    return run_opts


def cpu_computes_bfloat16() -> bool:
    """Whether oneDNN has fast kernels of bfloat16 for this CPU, which takes AVX-512.

    Without them, training takes ten times as long as in float32.
    """
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return False


class _PlainFormatter(logging.Formatter):
    """The message alone; a level only where it is worth a look. Times and loggers' names are in log.txt."""

    def format(self, record: logging.LogRecord) -> str:
        message = super().format(record)
        return message if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {message}"


def _plain_console() -> None:
    for handler in logging.getLogger().handlers:
        if isinstance(handler, TqdmCompatibleStreamHandler):
            handler.setFormatter(_PlainFormatter())


def prepare_manifests(corpus: str, hparams: Mapping[str, Any]) -> dict[str, Path]:
    """Prepare the corpus, unless `skip_prep`; where `data_folder` holds shards, its manifests are their indices.

    Arguments
    ---------
    corpus : str
        One of `biglittle_asr.corpora.list_corpora()`.
    hparams : mapping
        Reads data_folder (a path, or a URL of shards), save_folder, skip_prep, sample_rate, corpus_options (the
        corpus's own and `strict`, which refuses a corpus with faults rather than leave them out), and splits: names
        that the corpus has for "train", "dev" and "test", as {"train": "train-clean-100", ...}; its other splits are
        not read.

    Returns
    -------
    dict from "train", "dev", "test" to pathlib.Path
        The manifests.

    Raises
    ------
    FileNotFoundError, ValueError
        If the data folder does not hold the corpus, or `splits` does not name the three.
    """
    folder = Path(hparams["save_folder"]) / "manifests"
    options = dict(hparams["corpus_options"])
    splits = hparams.get("splits", OWN_SPLITS)
    if not isinstance(splits, Mapping) or splits.keys() != OWN_SPLITS.keys():
        raise RecipeError(f"splits: is {splits}, but must be {{train: NAME, dev: NAME, test: NAME}}.")
    if "splits" in hparams:
        options["splits"] = list(splits.values())
    if not hparams["skip_prep"]:
        if has_shards(hparams["data_folder"]):
            run_on_main(copy_indices, args=[hparams["data_folder"], splits.values(), folder])
        else:
            options["sample_rate"] = hparams["sample_rate"]
            run_on_main(prepare, args=[corpus, hparams["data_folder"], folder], kwargs=options)
    return {name: folder / f"{split}.csv" for name, split in splits.items()}


def make_tokenizer(
    manifests: Mapping[str, Path], hparams: Mapping[str, Any], base: Tokenizer | None = None
) -> Tokenizer:
    """Train the tokenizer on the training transcripts, or load the one that was; saved as tokenizer.json.

    Arguments
    ---------
    manifests : mapping from "train", "dev", "test" to pathlib.Path
    hparams : mapping
        Reads save_folder, token_type, vocab_size, output_neurons, checkpointer.
    base : Tokenizer, optional
        Of the trained model that the training starts from; see :func:`train_tokenizer`.

    Raises
    ------
    ValueError
        If `output_neurons` is set and differs from its size.
    """
    if not manifests["train"].is_file():
        raise FileNotFoundError(f"{manifests['train']}: no such manifest; run without skip_prep, which makes it.")
    path = Path(hparams["save_folder"]) / "tokenizer.json"
    if if_main_process():
        texts = [row["wrd"] for row in read_manifest(manifests["train"])]
        going_on = bool(hparams["checkpointer"].find_checkpoints(max_num_checkpoints=1))
        train_tokenizer(texts, path, hparams["token_type"], hparams["vocab_size"], base, going_on)
    ddp_barrier()
    tokenizer = load_tokenizer(path)
    if hparams["output_neurons"] not in (None, tokenizer.size):
        raise RecipeError(
            f"output_neurons: is {hparams['output_neurons']}, but the tokenizer ({path}) has {tokenizer.size} tokens "
            "with the blank; leave the key empty to take its size."
        )
    return tokenizer


def make_sparse(model: nn.Module, hparams: Mapping[str, Any]) -> None:
    """Prune a model as the key `sparsity` says, such as {rate: 0.9, dense: [encoder.head]}; not at all without it.

    Raises
    ------
    RecipeError
        If that cannot be done.
    """
    options = hparams.get("sparsity")
    if options:
        try:
            sparsify(model, **options)
        except (TypeError, ValueError) as error:
            raise RecipeError(f"sparsity: {options} cannot be done ({error}).") from error


def load_network(path: Path, changes: Mapping[str, Any]) -> nn.Module:
    """Build the network of a recipe, and nothing else: no data, no folders.

    What the file says of it is executed, as always: `!new:` and `!apply:` call what they name.

    Arguments
    ---------
    path : pathlib.Path
        The recipe's YAML file.
    changes : mapping
        Keys to override.

    Returns
    -------
    nn.Module
        The model; of a CTC recipe whose `output_neurons` is not set, the encoder alone.

    Raises
    ------
    RecipeError, FileNotFoundError
        As :func:`load_recipe`, and if no network is in the file.
    """
    hparams = _load_part(path, changes, {"encoder", "model", "output_neurons", "sparsity"})
    if not {"encoder", "model"} & hparams.keys():
        raise RecipeError(f"{path}: has neither a model nor an encoder, so it is no recipe.")
    network: Any = hparams.get("model", hparams.get("encoder"))
    tokens = hparams.get("output_neurons")
    if "encoder" in hparams and "model" in hparams:
        network = network(output_neurons=tokens or 1)
    elif not isinstance(network, nn.Module):
        network = network()
    make_sparse(network, hparams)
    return network if tokens or "encoder" not in hparams else hparams["encoder"]


def read_image_size(path: Path, changes: Mapping[str, Any]) -> int | None:
    """Height and width in pixels of the images that a recipe's network takes: its `crop`; None of other recipes.

    Arguments
    ---------
    path, changes
        As of :func:`load_network`.

    Raises
    ------
    RecipeError, FileNotFoundError
        As :func:`load_recipe`, and if it is no size.
    """
    size = _load_part(path, changes, {"crop"}).get("crop")
    if size is not None and (type(size) is not int or size < 1):
        raise RecipeError(f"{path}: crop is {size!r}, but must be a whole number of pixels above 0.")
    return size


def _load_part(path: Path, changes: Mapping[str, Any], keys: Set[str]) -> dict[str, Any]:
    """What a YAML file defines as `keys`, of those that it has, and as what they refer to; nothing else is executed."""
    tree = _read_yaml(path)
    for key in changes:
        if key not in tree:
            raise RecipeError(_unknown_key("command line", key, tree))
    part: Any = {}
    needed = keys & tree.keys()
    while needed - part.keys():
        part = {key: tree[key] for key in tree if key in needed}
        needed |= _referred(part, path) & tree.keys()
    if not part:
        return {}
    try:
        return load_hyperpyyaml(_as_stream(part, path), {key: changes[key] for key in changes if key in part})
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: includes {error.filename}, which does not exist.") from error
    except (ValueError, TypeError, ImportError, YAMLError) as error:
        raise RecipeError(_explain(path, error)) from error


def _read_yaml(path: Path) -> Any:
    """The YAML tree of a recipe, a whole-file include replaced by what it stands for, with keys replaced or added."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such recipe file; see hparams/ for those that exist.")
    try:
        tree: Any = YAML().load(path.read_text(encoding="utf-8"))
    except YAMLError as error:
        raise RecipeError(_explain(path, error)) from error
    if not isinstance(tree, dict):
        raise RecipeError(f"{path}: is not a YAML file of 'key: value' lines.")
    if not _tag(tree).startswith("!include:"):
        return tree
    base = _read_yaml(path.parent / _tag(tree).removeprefix("!include:"))
    known = base.keys() | _known(tree, path, set().union(*EXPLAINED))
    for key in tree:
        if key not in known:
            raise RecipeError(_unknown_key(_place(path, tree, key), key, sorted(known)))
        base[key] = tree[key]
    return base


def _known(tree: Any, path: Path, keys: Set[str]) -> set[str]:
    """What a tree may have as keys, if the recipe reads `keys`."""
    return _referred(tree, path) | _optional(keys) | set(RunOptions().as_dict()) | keys


def _optional(keys: Set[str]) -> Set[str]:
    """Keys that may be missing, if the recipe reads `keys`."""
    return OPTIONAL_KEYS - SPEECH_ONLY if keys == IMAGE_KEYS else OPTIONAL_KEYS


def _tag(node: Any) -> str:
    return str(getattr(getattr(node, "tag", None), "value", None) or "")


def _replaces_plain_value(change: Any, node: Any) -> bool:
    """Whether a mapping takes the place of a number, text, list or reference."""
    return isinstance(change, Mapping) and not isinstance(node, Mapping) and not _tag(node).startswith("!include:")


def _referred(tree: Any, path: Path) -> set[str]:
    """Keys that a tree's values refer to."""
    return set(re.findall(r"<(\w+)[\[\].\w]*>", _as_stream(tree, path).getvalue()))


class _NamedStream(io.StringIO):
    name: str


def _as_stream(tree: Any, path: Path) -> io.StringIO:
    """A tree as a stream; its name tells HyperPyYAML where included files are."""
    stream = _NamedStream()
    YAML().dump(tree, stream)
    stream.seek(0)
    stream.name = str(path)
    return stream


def _parse_overrides(overrides: str) -> dict[str, Any]:
    try:
        changes = YAML().load(overrides) if overrides else {}
    except YAMLError as error:
        raise RecipeError(f"command line: '{overrides}' is not understood; write --key value.") from error
    if not isinstance(changes, Mapping):
        raise RecipeError(f"command line: '{overrides}' is not understood; write --key value.")
    return dict(changes)


def _check_keys(path: Path, tree: Any, changes: Mapping[str, Any], keys: Set[str]) -> None:
    settable = [*tree, *(_optional(keys) - tree.keys())]
    for key in changes:
        if key not in settable:
            raise RecipeError(_unknown_key("command line", f"--{key}", [f"--{known}" for known in settable]))
    known = _known(tree, path, keys)
    for key in tree:
        if key not in known and not key.startswith("__"):
            raise RecipeError(_unknown_key(_place(path, tree, key), key, sorted(known)))


def _place(path: Path, tree: Any, key: str) -> str:
    place = tree.lc.data.get(key)
    return f"{path}, line {place[0] + 1}" if place else str(path)


def _unknown_key(where: str, key: str, known: Any) -> str:
    closest = difflib.get_close_matches(key, list(known), n=1)
    hint = f"did you mean {closest[0]}?" if closest else "remove it."
    return f"{where}: no recipe key is named {key}; {hint}"


def _explain(path: Path, error: Exception) -> str:
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
