"""Checkpoints that are complete or absent, however and whenever a training stops."""

import logging
import math
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from speechbrain.utils import checkpoints as speechbrain_checkpoints
from speechbrain.utils.checkpoints import CKPT_PREFIX, METAFNAME, PARAMFILE_EXT, Checkpoint
from speechbrain.utils.distributed import ddp_barrier, if_main_process
from speechbrain.utils.logger import get_logger

from biglittle_asr.files import force_to_disk
from biglittle_asr.messages import first_line
from biglittle_asr.models.checkpoints import CHECKSUMS, checkpoint_fault, checksum

logger = get_logger(__name__)

PARTIAL_PREFIX = "partial-"
"""Prefix of folders that are being written or deleted; nothing reads them, and the next run removes them."""
DAMAGED_PREFIX = "damaged-"
"""Prefix that damaged checkpoints are renamed to; nothing reads them."""
INPUTS = "inputs"
"""Entry of a checkpoint's meta: the network's inputs."""


class Checkpointer(speechbrain_checkpoints.Checkpointer):
    """SpeechBrain's checkpointer, made safe against a run that ends while writing or deleting.

    A checkpoint is written under a temporary name, synced to disk, and then renamed; it is renamed again before it is
    deleted. So a folder `CKPT+...` is complete. A checkpoint that was damaged later is named in a warning and not
    listed, so that a training continues from the one before. "Latest" means by epoch and step, not by a clock that may
    have been set back. Tensors are loaded without executing anything from the file.

    Arguments
    ---------
    checkpoints_dir : path
        Where checkpoints are; made if it is not there.

    Attributes
    ----------
    inputs : dict from str to dict
        The network's inputs, by part, as plain data; kept with every checkpoint.

    Example
    -------
    >>> import torch
    >>> layer = torch.nn.Linear(2, 2)
    >>> checkpointer = Checkpointer(getfixture("tmp_path") / "save", {"layer": layer})
    >>> _ = checkpointer.save_checkpoint(meta={"epoch": 1})
    >>> _ = checkpointer.save_checkpoint(meta={"epoch": 2, "step": 7}, end_of_epoch=False)
    >>> [checkpoint.path.name for checkpoint in checkpointer.find_checkpoints()]
    ['CKPT+epoch-0002-step-000007', 'CKPT+epoch-0001']
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.inputs: dict[str, dict[str, Any]] = {}
        self.faults: dict[Path, str] = {}
        """Fault of each checkpoint that was checked; an empty text if it is intact."""

    def save_checkpoint(
        self,
        meta: dict[str, Any] | None = None,
        end_of_epoch: bool = True,
        name: str | None = None,
        verbosity: int = logging.INFO,
    ) -> Checkpoint | None:
        """Save a checkpoint; call it on all processes of a distributed training.

        Arguments
        ---------
        meta : dict
            Saved with it: `epoch` and, inside an epoch, `step` give the progress.
        end_of_epoch : bool
            Whether the epoch is complete.
        name : str, optional
            Name of the folder, after `CKPT+`; made of epoch and step if not given.
        verbosity : int
            Logging level of the message.

        Returns
        -------
        Checkpoint, or None on any but the main process
        """
        meta = {**(meta or {}), INPUTS: self.inputs}
        if name is None:
            name = f"epoch-{meta.get('epoch', 0):04d}"
            name += "" if end_of_epoch else f"-step-{meta.get('step', 0):06d}"
        partial, whole = self._custom_checkpoint_dirpath(name), self.checkpoints_dir / f"{CKPT_PREFIX}+{name}"
        if if_main_process():
            shutil.rmtree(partial, ignore_errors=True)
        written = super().save_checkpoint(meta, end_of_epoch, name, verbosity)
        ddp_barrier()
        if written is None:
            return None
        meta[CHECKSUMS] = {path.name: checksum(path) for path in sorted(partial.glob(f"*{PARAMFILE_EXT}"))}
        meta = self._save_checkpoint_metafile(partial / METAFNAME, meta, end_of_epoch)
        for path in [*partial.iterdir(), partial]:
            force_to_disk(path)
        if whole.exists():
            self._delete(whole)
        partial.rename(whole)
        force_to_disk(self.checkpoints_dir)
        self.faults[whole] = ""
        return Checkpoint(whole, meta, {key: whole / path.name for key, path in written.paramfiles.items()})

    def keep_only(self, checkpoints: Iterable[Checkpoint]) -> None:
        """Delete all other checkpoints and unfinished remains of interrupted runs; on the main process only."""
        kept = {checkpoint.path for checkpoint in checkpoints}
        for checkpoint in self.list_checkpoints():
            if checkpoint.path not in kept:
                self._delete(checkpoint.path)
        for path in [path for path, fault in self.faults.items() if fault and path.exists()]:
            aside = path.with_name(f"{DAMAGED_PREFIX}{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        for partial in self.checkpoints_dir.glob(f"{PARTIAL_PREFIX}*"):
            shutil.rmtree(partial)

    def list_checkpoints(self) -> list[Checkpoint]:
        """List all intact checkpoints; each damaged one is named in a warning, once.

        Raises
        ------
        ValueError
            If there are checkpoints, but none is intact.
        """
        whole, folders = [], sorted(self.checkpoints_dir.glob(f"{CKPT_PREFIX}+*/"))
        for path in folders:
            if path not in self.faults:
                self.faults[path] = _fault(path)
                if self.faults[path] and if_main_process():
                    logger.warning(f"{path}: is damaged ({self.faults[path]}), and is not used.")
            if not self.faults[path]:
                whole.append(path)
        if folders and not whole:
            raise ValueError(
                f"{folders[-1]}: is damaged ({self.faults[folders[-1]]}), and there is no other checkpoint to go on "
                "from; remove it, and the training starts from its beginning."
            )
        found: list[Checkpoint] = self._construct_checkpoint_objects(whole)
        return found

    def check_inputs(self) -> None:
        """Refuse to resume from checkpoints of a network with other inputs.

        Raises
        ------
        ValueError
            If inputs differ; the message names them.
        """
        for checkpoint in self.find_checkpoints(max_num_checkpoints=1):
            for part, here in self.inputs.items():
                there = checkpoint.meta.get(INPUTS, {}).get(part, {})
                # An entry that only one of them has was added by a newer version.
                unequal = [
                    f"{key} {there[key]} there, {here[key]} here"
                    for key in here
                    if there.get(key, here[key]) != here[key]
                ]
                if unequal:
                    raise ValueError(
                        f"{checkpoint.path}: was trained on other input: {part} has {'; '.join(unequal)}; continue "
                        "with the settings that it was made with, or choose another output_folder."
                    )

    def find_checkpoints(
        self,
        importance_key: Callable[[Checkpoint], Any] | None = None,
        max_key: str | None = None,
        min_key: str | None = None,
        ckpt_predicate: Callable[[Checkpoint], bool] | None = None,
        max_num_checkpoints: int | None = None,
    ) -> list[Checkpoint]:
        """Find checkpoints that satisfy the predicate, most important first; among equals, the latest first.

        Arguments
        ---------
        importance_key : callable, optional
            Higher is more important; training progress, if no key is given.
        max_key, min_key : str, optional
            An entry of `meta` to maximize or minimize; checkpoints without it are not considered.
        ckpt_predicate : callable, optional
            Selects the checkpoints to consider.
        max_num_checkpoints : int, optional
            Largest number of checkpoints to return.
        """
        key = max_key or min_key
        found = [
            checkpoint
            for checkpoint in self.list_checkpoints()
            if (key is None or _is_number(checkpoint.meta.get(key)))
            and (ckpt_predicate is None or ckpt_predicate(checkpoint))
        ]
        found.sort(key=progress, reverse=True)
        if key is not None:
            found.sort(key=lambda checkpoint: checkpoint.meta[key], reverse=max_key is not None)
        elif importance_key is not None:
            found.sort(key=importance_key, reverse=True)
        return found[:max_num_checkpoints]

    def load_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Load a checkpoint.

        Raises
        ------
        ValueError
            If it was made with other settings, or is damaged.
        """
        try:
            super().load_checkpoint(checkpoint)
        except (RuntimeError, UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{checkpoint.path}: does not fit this training ({first_line(error)}); continue with the settings that "
                "it was made with, or choose another output_folder."
            ) from error

    def _custom_checkpoint_dirpath(self, name: str) -> Path:
        """The folder that SpeechBrain writes to."""
        return self.checkpoints_dir / f"{PARTIAL_PREFIX}{name}"

    def _delete(self, path: Path) -> None:
        partial = self.checkpoints_dir / f"{PARTIAL_PREFIX}{path.name}"
        shutil.rmtree(partial, ignore_errors=True)
        path.rename(partial)
        shutil.rmtree(partial)
        self.faults.pop(path, None)


def _fault(folder: Path) -> str:
    """Describe the fault of a checkpoint; an empty text if it has none."""
    fault = checkpoint_fault(folder)
    if fault:
        return fault
    try:
        # As SpeechBrain will read it. The parser also raises what int(), datetime() and the like do.
        (checkpoint,) = speechbrain_checkpoints.Checkpointer._construct_checkpoint_objects([folder])
    except Exception as error:
        return f"{METAFNAME} cannot be read: {first_line(error)}"
    inputs = checkpoint.meta.get(INPUTS, {})
    if (
        not isinstance(inputs, Mapping)
        or not all(isinstance(part, Mapping) for part in inputs.values())
        or not all(map(_is_number, progress(checkpoint)))
    ):
        return f"{METAFNAME} is not as it was written"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def progress(checkpoint: Checkpoint) -> tuple[int, float]:
    """Progress of the training: the epoch, and the step in it, which is infinite after the epoch's end."""
    meta = checkpoint.meta
    return meta.get("epoch", 0), math.inf if meta["end-of-epoch"] else meta.get("step", 0)
