"""From a recipe's command line to its settings, and from errors to sentences."""

import dataclasses
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from types import FrameType
from typing import Any

import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml, resolve_references
from ruamel.yaml import YAMLError
from speechbrain.utils.distributed import ddp_init_group, get_local_rank, if_main_process, infer_device
from speechbrain.utils.logger import TqdmCompatibleStreamHandler, get_logger
from speechbrain.utils.run_opts import RunOptions

from biglittle_asr.messages import explain_failure
from biglittle_asr.nnet.devices import usable_device
from biglittle_asr.recipe.keys import CTC_KEYS, EXPLAINED, RETIRED_KEYS
from biglittle_asr.recipe.yaml import (
    RecipeError,
    as_stream,
    check_keys,
    explain,
    parse_overrides,
    read_tree,
    replaces_plain_value,
    tag_of,
)

logger = get_logger(__name__)


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


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Run a recipe's `main` on the command line; what the user can mend ends in one sentence and exit status 1.

    Ctrl-C ends it with exit status 130, SIGTERM with 143; a network that is being trained is saved first.
    """
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _exit_by(os.getpid()))
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint.", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError, RuntimeError, MemoryError, AssertionError) as error:
        sentence = explain_failure(error)
        if sentence is None:
            raise
        logger.debug("The traceback of the error:", exc_info=True)
        print(f"error: {sentence}", file=sys.stderr)
        sys.exit(1)


def _exit_by(trainer: int) -> Callable[[int, FrameType | None], None]:
    """What ends the process of that number by an exception; others that it has started die of the signal at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() == trainer:
            print("terminated; the same command goes on from the last checkpoint.", file=sys.stderr)
            sys.exit(128 + number)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    return handle


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
    ValueError
        If the device cannot be used.
    FileNotFoundError
        If the file is missing.
    """
    # Read when the first convolution runs.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(ONEDNN_PRIMITIVES))
    # SpeechBrain would take it for the beginning of its own --profile_training.
    profile = "\nprofile: True" if "--profile" in argv else ""
    file, run_opts, overrides = sb.parse_arguments([word for word in argv if word != "--profile"])
    if run_opts.device:
        usable_device(run_opts.device)
    path = Path(file)
    tree = read_tree(path)
    changes = parse_overrides(overrides + profile)
    check_keys(path, tree, changes, keys)
    # What is tagged stands for itself; HyperPyYAML would mix a mapping's entries into the one that it replaces, and
    # refuses a mapping in place of anything else.
    for key in [key for key in changes if tag_of(changes[key]) or replaces_plain_value(changes[key], tree.get(key))]:
        tree[key] = changes.pop(key)
    run_opts = _join_processes(run_opts)
    try:
        resolved = resolve_references(as_stream(tree, path), changes).getvalue()
        hparams = load_hyperpyyaml(resolved)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: includes {error.filename}, which does not exist.") from error
    except (ValueError, TypeError, ImportError, YAMLError) as error:
        raise RecipeError(explain(path, error)) from error
    missing = sorted(keys - hparams.keys())
    if missing:
        raise RecipeError(f"{path}: lacks the key {missing[0]}; {EXPLAINED[keys]} explains it.")
    if hparams.get("device") and not run_opts.device:
        usable_device(hparams["device"])
    output_folder = Path(hparams["output_folder"])
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    sb.create_experiment_directory(output_folder)
    if if_main_process():
        (output_folder / "hyperparams.yaml").write_text(resolved, encoding="utf-8")
    _plain_console()
    for key in sorted(RETIRED_KEYS & tree.keys()):
        logger.warning(f"{path}: nothing reads {key} any more; remove it.")
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
