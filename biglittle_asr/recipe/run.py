"""From a recipe's command line to its settings, and from errors to messages."""

import contextlib
import dataclasses
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import speechbrain as sb
import torch
from hyperpyyaml import load_hyperpyyaml, resolve_references
from ruamel.yaml import YAML, YAMLError
from speechbrain.utils.distributed import (
    ddp_broadcast,
    get_local_rank,
    if_main_process,
    infer_device,
    is_distributed_initialized,
)
from speechbrain.utils.logger import TqdmCompatibleStreamHandler, get_logger
from speechbrain.utils.run_opts import RunOptions

from biglittle_asr.files import parse_yaml, write_atomically
from biglittle_asr.inference.folder.head import HubFacts
from biglittle_asr.messages import did_you_mean, explain_failure, some
from biglittle_asr.nnet.devices import usable_device
from biglittle_asr.recipe.environment import describe_environment
from biglittle_asr.recipe.settings import Settings
from biglittle_asr.recipe.yaml import (
    RETIRED_KEYS,
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
"""Loggers whose routine messages come several times per epoch or once per file; their warnings are shown."""


HYPERPARAMS = "hyperparams.yaml"
"""File in the output folder with every value in force."""

ONEDNN_PRIMITIVES = 16384
"""Number of compiled operations that oneDNN caches. The default is 1024. The batch shapes of an epoch need many times
that (about three per convolution and shape), so every batch would be compiled again."""

MAX_TIMEOUT_MINUTES = 525600
"""Largest timeout between processes: a year, far below what overflows in C++."""

SHARING_SECONDS = 5.0
"""How long a process looks for a file that the main process has written, before the folder counts as not shared."""


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Run a recipe's `main` on the command line; errors that users can fix end in one sentence and exit status 1.

    Ctrl-C ends it with exit status 130, SIGTERM with 143; a network in training is saved first.
    """
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _exit_by(os.getpid()))
    threading.excepthook = _pass_errors_of_tensorboard
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


def _pass_errors_of_tensorboard(args: threading.ExceptHookArgs) -> None:
    """Do not print a disk's errors in tensorboard's thread, which raises them again in the thread that writes next."""
    if type(args.thread).__module__.startswith("tensorboard.") and isinstance(args.exc_value, OSError):
        logger.debug(f"tensorboard: {args.exc_value}")
    else:
        threading.__excepthook__(args)


def _exit_by(trainer: int) -> Callable[[int, FrameType | None], None]:
    """Make a signal handler that ends this process by an exception; its child processes die of the signal at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() == trainer:
            print("terminated; the same command goes on from the last checkpoint.", file=sys.stderr)
            sys.exit(128 + number)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    return handle


def load_recipe(argv: Sequence[str], settings: type[Settings]) -> tuple[dict[str, Any], RunOptions]:
    """Read a recipe's command line and YAML file, and get ready to train.

    Joins the processes that torchrun started, makes the output folder and the log, and falls back to float32 on CPUs
    without fast bfloat16. In a new output folder it writes `hyperparams.yaml` and `env.log`. Those of an earlier run
    stay until the training has found that its checkpoint fits, and calls the functions in `hparams["on_fit"]`.

    Arguments
    ---------
    argv : sequence of str
        YAML file, SpeechBrain's options (--device, --precision, --test_only, ...), and `--key value` to override a key
        of the YAML file or a default; `--profile` is short for `--profile True`.
    settings : type
        The recipe's settings, with their defaults.

    Returns
    -------
    hparams : dict
        Every field of `settings`, all other keys that the YAML file defines, and `on_fit`, a list of functions without
        arguments; the one in it writes this run's `hyperparams.yaml` and `env.log`.
    run_opts : speechbrain.RunOptions
        The other options.

    Raises
    ------
    RecipeError
        If the file is malformed, lacks a value, or has a value of a wrong type; if the file or the command line has a
        key that nothing reads; if torchrun started more processes than there are GPUs; if the machines of a
        distributed training do not share the output folder.
    ValueError
        If the device cannot be used, or the model card's facts are not valid.
    FileNotFoundError
        If the file is missing.
    PermissionError
        If the output folder is not writable.
    """
    # oneDNN reads this variable at the first convolution.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(ONEDNN_PRIMITIVES))
    # argparse would take --profile for an abbreviation of SpeechBrain's --profile_training.
    profile = "\nprofile: True" if "--profile" in argv else ""
    file, run_opts, overrides = sb.parse_arguments([word for word in argv if word != "--profile"])
    if not sys.stderr.isatty():
        # In a log file, every update of a progress bar is a line.
        run_opts = _override(run_opts, noprogressbar=True)
    if run_opts.device and get_local_rank() is None:
        usable_device(run_opts.device)
    path = Path(file)
    tree = read_tree(path)
    changes = parse_overrides(overrides + profile)
    # SpeechBrain's own options are settings, too: what is in force is written to hyperparams.yaml.
    changes |= {name: getattr(run_opts, name) for name in run_opts.overridden_args if name in settings.names()}
    falls_back = _falls_back(tree, settings, run_opts)
    if falls_back:
        changes["precision"] = "fp32"
    resolved = resolve(tree, path, changes, settings)
    values = parse_yaml(resolved)
    output_folder = Path(str(values["output_folder"]))
    _check_writable(output_folder)
    run_opts = _join_processes(run_opts, _timeout(values["distributed_timeout_minutes"]))
    _check_shared(output_folder)
    try:
        hparams = load_hyperpyyaml(resolved)
    except (ValueError, TypeError, ImportError, YAMLError) as error:
        raise RecipeError(explain(path, error)) from error
    HubFacts.of(hparams.get("card", {}))
    if hparams.get("device") and not run_opts.device and get_local_rank() is None:
        usable_device(hparams["device"])
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    sb.create_experiment_directory(output_folder, save_env_desc=False)

    def record_run() -> None:
        if if_main_process():
            write_atomically(output_folder / "env.log", describe_environment())
            write_atomically(output_folder / HYPERPARAMS, resolved)

    hparams["on_fit"] = [record_run]
    if not (output_folder / HYPERPARAMS).exists():
        record_run()
    _plain_console()
    for key in sorted(RETIRED_KEYS & tree.keys()):
        logger.warning(f"{path}: nothing reads {key} any more; remove it.")
    if falls_back:
        logger.warning("precision: using fp32; this CPU has no fast bf16.")
    return hparams, run_opts


def resolve(tree: Any, path: Path, changes: Mapping[str, Any], settings: type[Settings]) -> str:
    """YAML of every value in force: a recipe's tree with overrides and defaults, references and includes resolved.

    Nothing that the file names is executed.

    Raises
    ------
    RecipeError, FileNotFoundError
        As in :func:`load_recipe`.
    """
    changes, defaults = dict(changes), settings.defaults()
    lacking = [name for name in settings.names() if name not in {*tree, *changes, *defaults}]
    is_misspelled = lacking and did_you_mean(lacking[0], tree)
    if not lacking or is_misspelled:
        check_keys(tree, path, changes, settings.names())
    if lacking:
        raise RecipeError(f"{path}: lacks the key {lacking[0]}; {settings.meanings()[lacking[0]]}")
    tree.update({name: default for name, default in defaults.items() if name not in tree})
    # HyperPyYAML would merge a tagged mapping into the old one, and refuses to replace anything else by a mapping.
    for key in [key for key in changes if tag_of(changes[key]) or replaces_plain_value(changes[key], tree.get(key))]:
        tree[key] = changes.pop(key)
    try:
        resolved = str(resolve_references(as_stream(tree, path), changes).getvalue())
        settings.check(YAML().load(resolved))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: includes {error.filename}, which does not exist.") from error
    except RecursionError as error:
        raise RecipeError(f"{path}: includes itself, or has values that contain themselves; remove that.") from error
    # HyperPyYAML documents no list of what it raises, and nothing of the file has been executed.
    except Exception as error:
        raise RecipeError(explain(path, error)) from error
    return resolved


def _override(run_opts: RunOptions, **options: Any) -> RunOptions:
    """Set options as the command line does: SpeechBrain ignores those that are not among `overridden_args`."""
    return dataclasses.replace(run_opts, **options, overridden_args=run_opts.overridden_args | options.keys())


def _check_writable(output_folder: Path) -> None:
    """Refuse a read-only folder before anything is made that writes to it, in threads of its own even."""
    if output_folder.is_dir() and not os.access(output_folder, os.W_OK | os.X_OK):
        raise PermissionError(
            f"{output_folder}: is not writable; change its permissions, or choose another output_folder."
        )


def _falls_back(tree: Any, settings: type[Settings], run_opts: RunOptions) -> bool:
    """Whether the recipe's bfloat16, which nobody asked for on the command line, is replaced by float32."""
    precision = tree.get("precision", settings.defaults().get("precision"))
    is_asked_for = "precision" in run_opts.overridden_args
    return precision == "bf16" and not is_asked_for and _on_cpu(run_opts) and not cpu_computes_bfloat16()


def _on_cpu(run_opts: RunOptions) -> bool:
    return str(run_opts.device or infer_device()).startswith("cpu")


def _timeout(minutes: float) -> timedelta:
    if not 0 < minutes <= MAX_TIMEOUT_MINUTES:
        raise RecipeError(
            f"distributed_timeout_minutes: is {minutes}, but must be above 0 and at most {MAX_TIMEOUT_MINUTES}."
        )
    return timedelta(minutes=minutes)


def _join_processes(run_opts: RunOptions, timeout: timedelta) -> RunOptions:
    """Join the processes that torchrun started, if it did; on CPUs over gloo, because NCCL needs GPUs."""
    rank, gpus = get_local_rank(), torch.cuda.device_count()
    if rank is None:
        return run_opts
    if _on_cpu(run_opts) and "distributed_backend" not in run_opts.overridden_args:
        run_opts = _override(run_opts, distributed_backend="gloo")
    backend = run_opts.distributed_backend
    if backend != "gloo" and rank >= gpus:
        raise RecipeError(
            f"torchrun: started process {rank + 1} on a machine of {gpus} GPUs; start one process a GPU "
            "(--nproc_per_node), or train on the CPU (--device cpu)."
        )
    if backend == "nccl":
        torch.cuda.set_device(rank)
    # SpeechBrain's function has a fixed timeout.
    torch.distributed.init_process_group(backend, timeout=timeout)
    return run_opts


def _check_shared(output_folder: Path) -> None:
    """Refuse an output folder in which a process does not see what the main process writes.

    Raises
    ------
    RecipeError
        On every process, if there is one that does not; it names them.
    """
    if not is_distributed_initialized():
        return
    made = [folder for folder in (output_folder, *output_folder.parents) if not folder.exists()]
    # Making the folder asks the server of a network storage, which may hold an older listing of it here.
    output_folder.mkdir(parents=True, exist_ok=True)
    rank = torch.distributed.get_rank()
    with contextlib.ExitStack() as stack:
        probe = None
        if rank == 0:
            probe = stack.enter_context(tempfile.NamedTemporaryFile(dir=output_folder, prefix="shared-")).name
        # The name is new, so no process has a cached answer for it.
        path = output_folder / Path(ddp_broadcast(probe)).name
        deadline = time.monotonic() + SHARING_SECONDS
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        seen: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(seen, (path.exists(), socket.gethostname()))
    blind = [f"process {number} on {host}" for number, (sees, host) in enumerate(seen) if not sees]
    if blind:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise RecipeError(
            f"{output_folder}: is not shared by the machines of this training: what process 0 on {seen[0][1]} writes "
            f"there is not seen by {some(blind)}; choose an output_folder on storage that all have under this path."
        )


def cpu_computes_bfloat16() -> bool:
    """Whether oneDNN has fast bfloat16 kernels for this CPU, which requires AVX-512.

    Without them, training takes ten times as long as in float32.
    """
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return False


class _PlainFormatter(logging.Formatter):
    """The message alone, with a level only from warnings on. Times and loggers' names are in log.txt."""

    def format(self, record: logging.LogRecord) -> str:
        message = super().format(record)
        return message if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {message}"


def _plain_console() -> None:
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            # On a full disk, every message would print a traceback; the training itself says what is wrong.
            handler.handleError = lambda record: None  # type: ignore[method-assign]
        if isinstance(handler, TqdmCompatibleStreamHandler):
            handler.setFormatter(_PlainFormatter())
