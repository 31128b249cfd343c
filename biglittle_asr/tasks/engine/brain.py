"""The base of all tasks' Brains: interruptible training, unreadable files, logs, checkpoints."""

import json
import math
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import speechbrain as sb
import torch
from speechbrain.utils.checkpoints import Checkpoint, mark_as_loader, mark_as_saver, register_checkpoint_hooks
from speechbrain.utils.distributed import (
    ddp_barrier,
    if_main_process,
    is_distributed_initialized,
    main_process_only,
)
from speechbrain.utils.logger import get_logger
from speechbrain.utils.run_opts import RunOptions
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from biglittle_asr.files import write_atomically
from biglittle_asr.nnet.normalization import uncounted
from biglittle_asr.profiling import Stopwatch
from biglittle_asr.tasks.engine.batches import (
    EpochBatches,
    Failure,
    count_processes,
    gather,
    mean_over_processes,
    process_number,
    seed_all,
)
from biglittle_asr.tasks.engine.curves import Curves, EpochHistory, plot_curves
from biglittle_asr.tasks.engine.failures import Failures
from biglittle_asr.tasks.engine.logs import draw_epoch, log_epoch, restart_board, rewrite_log
from biglittle_asr.tasks.engine.termination import Termination, end, worker_init
from biglittle_asr.threads import usable_cores

logger = get_logger(__name__)

MAX_FAILED = 0.01
"""Largest part of the training files that may fail during an epoch. One or two files lost in hour three are no reason
to lose the training; more than 1 % means that the disk or the corpus is broken."""

FEW = 10
"""This many files may fail in any case: in a small corpus one file is more than 1 %, and ten are still readable in the
log."""

WAITING = "waiting for data"
"""The activity that gets a stage's time when no other is running."""


class NonFiniteLossError(ValueError):
    """The loss or its gradient is infinite or not a number."""


AnyProgress = TypeVar("AnyProgress", bound="Progress")


@dataclass
class Progress(ABC):
    """Counts since the start of the current epoch, or of the current pass over an evaluation set.

    A task adds its own counts, as fields whose values can be added.
    """

    failed: list[tuple[str, str]] = field(default_factory=list)
    """Examples whose file could not be read, and the reasons."""
    seconds: float = 0.0
    """Seconds of training in earlier runs of this epoch."""
    order: str = ""
    """Identifies the order of the epoch's examples."""

    @property
    @abstractmethod
    def loss(self) -> float:
        """Mean loss."""

    @classmethod
    def total(cls: type[AnyProgress], parts: Iterable[AnyProgress]) -> AnyProgress:
        """The sum of the counts of several processes."""
        names = [each.name for each in fields(cls) if each.name not in ("seconds", "order")]
        total = cls()
        for each in parts:
            for name in names:
                setattr(total, name, getattr(total, name) + getattr(each, name))
        return total

    def of_all_processes(self: AnyProgress) -> AnyProgress:
        """The sum over all processes of a distributed training, on each of them."""
        return self.total(gather(self))


class Batch(Protocol):
    """A loader's batch: examples as its task wants them, and the failures."""

    examples: Any
    """The examples that could be read; None if none could."""
    failures: list[Failure]
    """The examples that could not be read."""
    seconds: dict[str, float]
    """Time spent on reading, by activity."""
    in_worker: bool
    """Whether a process other than the training one read them."""


@register_checkpoint_hooks
class ResumableBrain(sb.Brain, ABC):
    """A Brain whose training may be interrupted at any moment, and whose files may fail during training.

    A training that is interrupted and started again ends with the same weights as an uninterrupted one, to the bit
    where the arithmetic is deterministic (on one machine's CPU, with the same number of threads). For that, a
    checkpoint holds model, optimizer, history and the position in the epoch. It holds no random state: every number
    drawn follows from seed, epoch and step or example.

    A task defines how to read a dataset (:meth:`read`), how to handle a batch of which nothing could be read
    (:meth:`forward_nothing`), and the results of an epoch (:meth:`score_epoch`). Forward and loss are SpeechBrain's
    `compute_forward` and `compute_objectives`.

    Arguments
    ---------
    model : nn.Module
        The model to train.
    modules : dict from str to nn.Module or None
        Other modules that the task uses; those that are None are left out.
    curves : Curves
        The values plotted for each epoch.
    hparams : dict
        The values that the recipe's YAML file defines.
    run_opts : speechbrain.RunOptions or dict
        Command line options.
    """

    examples: ClassVar[str] = "examples"
    """Plural noun for the training set's examples, for messages."""
    error: ClassVar[str]
    """Entry of a checkpoint's meta that ranks checkpoints: lower is better."""
    fate: ClassVar[str]
    """How evaluation treats an example that cannot be read."""
    progress_type: ClassVar[type[Progress]]
    """Type of the task's counts."""

    def __init__(
        self,
        model: nn.Module,
        modules: Mapping[str, nn.Module | None],
        curves: Curves,
        hparams: dict[str, Any],
        run_opts: Any = None,
    ) -> None:
        checkpointer = hparams["checkpointer"]
        checkpointer.add_recoverables({"model": model, "counter": hparams["epoch_counter"]})
        if isinstance(run_opts, dict):
            run_opts = RunOptions.from_dictionary(run_opts)
        # SpeechBrain would save checkpoints by step or by time, not by both.
        interval = hparams.get("ckpt_interval_steps", 0)
        if run_opts is not None and "ckpt_interval_steps" in run_opts.overridden_args:
            interval = run_opts.ckpt_interval_steps
            run_opts = replace(run_opts, overridden_args=run_opts.overridden_args - {"ckpt_interval_steps"})
        super().__init__(
            modules={name: module for name, module in {**modules, "model": model}.items() if module is not None},
            opt_class=hparams["opt_class"],
            hparams={**hparams, "ckpt_interval_steps": 0},
            run_opts=run_opts,
            checkpointer=checkpointer,
        )
        checkpointer.inputs = plain(self.describe_inputs(hparams))
        checkpointer.check_inputs()
        self.ckpt_interval_steps = interval
        self.train_sampler: Any = None
        self.model = model
        self.curves = curves
        self.output_folder = Path(hparams["output_folder"])
        self.history = EpochHistory(self.output_folder / "epochs.csv", curves.columns)
        self.failures = Failures(self.output_folder, self.examples, self.fate)
        self.progress = self.progress_type()
        self.progress_elsewhere: list[Progress] = []
        """What the other processes have counted, for a checkpoint inside the epoch."""
        self.epoch_start = self.last_saved = time.monotonic()
        self.profiled = bool(hparams.get("profile"))
        # Always on, at a cost of microseconds per step; only a profile may make the host wait for the device.
        synchronize = torch.cuda.synchronize if self.profiled and self.device_type == "cuda" else None
        self.stopwatch = Stopwatch(synchronize=synchronize)
        self.termination = Termination()
        self.trained: dict[str, Any] | None = None
        """State for a checkpoint written between the last step of an epoch and the end of its evaluation."""

    # To be defined by a task

    @abstractmethod
    def read(self, dataset: Any) -> tuple[Any, Callable[[Sequence[Any]], Batch], Sequence[str]]:
        """Describe how to read a dataset.

        Returns
        -------
        dataset : torch.utils.data.Dataset
            Takes an index or a :class:`~biglittle_asr.tasks.engine.batches.Draw`.
        collate : callable
            Makes a batch of its examples.
        names : sequence of str
            Names of its examples, in order.
        """

    @abstractmethod
    def describe_inputs(self, hparams: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The network's inputs, by key of the recipe and setting; a training resumes only with the same inputs."""

    @abstractmethod
    def forward_nothing(self) -> Tensor:
        """Run a forward pass on a dummy input, in place of a batch that could not be read."""

    @abstractmethod
    def score_epoch(self) -> dict[str, float]:
        """Results on dev, by column of the history and by :attr:`error`."""

    def inspect_training(self, progress: Any) -> None:
        """Check the training counts of an epoch, summed over all processes; a task may refuse to continue."""

    # Training

    def fit_epochs(
        self, train: Any, dev: Any, train_options: Mapping[str, Any], dev_options: Mapping[str, Any]
    ) -> None:
        """Train from the last checkpoint, if there is one, and evaluate dev after each epoch.

        Raises
        ------
        ValueError
            If more than 1 % of the training examples cannot be read, or the loss is not finite.
        """
        options = {"train_loader_kwargs": dict(train_options), "valid_loader_kwargs": dict(dev_options)}
        self.fit(self.hparams.epoch_counter, train, dev, **options)
        self.failures.report_lost()

    # Loading

    def make_dataloader(self, dataset: Any, stage: sb.Stage, **kwargs: Any) -> Any:
        """Make a loader of :class:`Batch`: each process has its own training batches and evaluation share."""
        # More workers would only take turns.
        kwargs["num_workers"] = min(kwargs.get("num_workers", 0), usable_cores())
        if kwargs["num_workers"]:
            kwargs.setdefault("worker_init_fn", worker_init())
        readable, collate, names = self.read(dataset)
        if stage == sb.Stage.TRAIN:
            kwargs["batch_sampler"].deal(process_number(), count_processes())
        else:
            self.evaluated_names = names
            if count_processes() > 1:
                kwargs["sampler"] = range(process_number(), len(names), count_processes())
        loader = super().make_dataloader(readable, stage, collate_fn=collate, **kwargs)
        if stage == sb.Stage.TRAIN:
            self.train_names = names
            self.train_batches: EpochBatches = kwargs["batch_sampler"]
            # SpeechBrain sets the epoch only on samplers that it finds here.
            self.train_sampler = self.train_batches
        return loader

    def _train_loader_specifics(self, dataset: Any, loader_kwargs: dict[str, Any]) -> dict[str, Any]:
        """Keep the sampler, which knows the processes; SpeechBrain's would repeat batches to make the shares equal."""
        return loader_kwargs

    # Optimization

    def _wrap_distributed(self) -> None:
        """Wrap the model for several processes. Its BatchNorm shares statistics; SpeechBrain would replace it."""
        if not self.distributed_launch:
            super()._wrap_distributed()
            return
        # torch warns about convolutions of 1x1 or of one channel, whose gradient has the same memory layout under both
        # strides; and about an option whose successor torch 2.11 lacks.
        sizes = r"\[\d+, (\d+, 1, 1|1, \d+, \d+)\]"
        warnings.filterwarnings("ignore", rf"(?s)Grad strides do not match .*\n *grad\.sizes\(\) = {sizes}")
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        devices = None if self.distributed_backend == "gloo" else [self.device]
        for name, module in self.modules.items():
            if any(parameter.requires_grad for parameter in module.parameters()):
                # Buffers are the same in every process, or are made so before use; see _share_statistics.
                self.modules[name] = DistributedDataParallel(module, device_ids=devices, broadcast_buffers=False)

    def fit_batch(self, batch: Batch) -> Tensor:
        """Train on the readable part of a batch, with random numbers that follow from its position."""
        self.note_reading(batch)
        self.progress.failed += [(failure.id, failure.reason) for failure in batch.failures]
        if len(self.progress.failed) > max(FEW, MAX_FAILED * len(self.train_names)):
            raise ValueError(
                f"{len(self.progress.failed)} training {self.examples} of epoch {self.hparams.epoch_counter.current} "
                f"could not be read, the last because of: {self.progress.failed[-1][1].rstrip('.')}; see to the disk "
                "and the corpus, then start again: the training goes on from its last checkpoint."
            )
        seed_all(self.hparams.seed, self.hparams.epoch_counter.current, self.step, process_number())
        # The unmeasured rest of this time is the backward pass.
        with self.stopwatch("backward"):
            return self._fit_nothing() if batch.examples is None else super().fit_batch(batch.examples)

    def _fit_nothing(self) -> Tensor:
        """Take the step of an unreadable batch: accumulated gradients or other processes may depend on it."""
        should_step = self.step % self.grad_accumulation_factor == 0
        self.batch_ids: Sequence[str] = []
        self._set_learning_rate()
        if is_distributed_initialized():
            # The other processes wait for this process's statistics and gradients.
            with self.no_sync(not should_step), self.training_ctx, uncounted(self.modules):
                nothing = self.forward_nothing().sum()
                mean_over_processes(torch.zeros((), device=self.device))
                self.scaler.scale(0.0 * nothing).backward()
        if should_step and any(parameter.grad is not None for parameter in self.modules.parameters()):
            self.optimizers_step()
        # Not a number: SpeechBrain leaves NaN out of its running average.
        return torch.tensor(math.nan)

    def on_fit_batch_start(self, batch: Any, should_step: bool) -> None:
        """Set the learning rate."""
        self.batch_ids = batch.id
        self._set_learning_rate()

    def _set_learning_rate(self) -> None:
        """Set the learning rate from the training's progress, which is right after every resume."""
        part = self.train_batches.taken(self.step) / len(self.train_batches.batches)
        epochs_done = self.hparams.epoch_counter.current - 1 + part
        rate = self.hparams.lr_annealing(min(epochs_done / self.hparams.number_of_epochs, 1.0))
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def optimizers_step(self) -> None:
        """Clip the norm of the whole gradient (SpeechBrain clips the first parameter group only), and step."""
        with self.stopwatch("optimizer"):
            self.scaler.unscale_(self.optimizer)
            parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
            # As in SpeechBrain, a max_grad_norm of 0 clips nothing.
            norm = nn.utils.clip_grad_norm_(parameters, self.max_grad_norm or math.inf)
            if not bool(torch.isfinite(norm)) and not self.scaler.is_enabled():
                raise NonFiniteLossError(self.not_finite("gradient", self.batch_ids))
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad(set_to_none=True)
            self.optimizer_step += 1

    def not_finite(self, what: str, ids: Sequence[str]) -> str:
        """The error message for a loss or gradient that is not finite."""
        return (
            f"{what} is not finite in epoch {self.hparams.epoch_counter.current}, step {self.step}, {self.examples} "
            f"{', '.join(ids)}: look at their data, or lower the learning rate (lr) or max_grad_norm."
        )

    # Evaluation

    def evaluate_batch(self, batch: Batch, stage: sb.Stage) -> Tensor:
        """Evaluate the readable part of a batch, and record the rest."""
        # Processes have unequal numbers of these batches, so they cannot synchronize before the epoch ends.
        if self.termination.requested and count_processes() == 1:
            if self.trained is not None:
                self._save_intra_epoch_ckpt()
            self._end_terminated()
        self.note_reading(batch)
        self.progress.failed += [(failure.id, failure.reason) for failure in batch.failures]
        if batch.examples is None:
            return torch.tensor(math.nan)
        return super().evaluate_batch(batch.examples, stage)

    def note_reading(self, batch: Batch) -> None:
        """Add the time that reading a batch took to the stopwatch."""
        if batch.in_worker:
            self.stopwatch.add_parallel(batch.seconds)
        else:
            self.stopwatch.add(batch.seconds)
            self.seconds_reading += sum(batch.seconds.values())

    def on_evaluate_start(self, max_key: str | None = None, min_key: str | None = None) -> None:
        """Keep the loaded weights instead of loading a checkpoint."""

    # Stages

    def fit(self, *arguments: Any, **options: Any) -> None:
        """Run SpeechBrain's loop over epochs; SIGTERM ends it with a checkpoint and exit status 143."""
        with self.termination:
            super().fit(*arguments, **options)

    def _end_terminated(self) -> None:
        if if_main_process():
            logger.info("SIGTERM: the training stops at a checkpoint; the same command goes on from it.")
        end()

    def on_fit_start(self) -> None:
        """Load the last checkpoint, and make the output folder agree with it.

        Nothing in the output folder is changed before the checkpoint has been found to fit.
        """
        super().on_fit_start()
        self._check_same_start()
        for call in self.hparams.on_fit:
            call()
        # Nothing is deleted until all processes have found it.
        ddp_barrier()
        self._keep_what_is_needed()
        self._rewrite_logs()

    def _check_same_start(self) -> None:
        """Refuse to train if processes resumed from different checkpoints: network storage may show an older folder."""
        starts = gather((self.hparams.epoch_counter.current, self.step))
        if len(set(starts)) > 1:
            found = "; ".join(
                f"process {number}: epoch {epoch}, step {step}" for number, (epoch, step) in enumerate(starts)
            )
            raise ValueError(
                f"{self.checkpointer.checkpoints_dir}: processes of this training found different latest checkpoints "
                f"({found}); start again once all machines see the same files there."
            )

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Reset the counts, unless a checkpoint inside this stage was loaded."""
        if stage == sb.Stage.TRAIN:
            self.trained = None
            self.progress_elsewhere = []
            self.train_sampler.set_epoch(epoch)
            order = self.train_batches.digest(self.train_names)
            if self.step == 0:
                self.progress = self.progress_type(order=order)
            elif self.progress.order != order:
                logger.warning(
                    f"{self.output_folder}: the training set or its batches are not those of the checkpoint inside "
                    f"epoch {epoch}; the rest of this epoch may repeat or miss {self.examples}."
                )
                self.progress.order = order
            self.last_saved = time.monotonic()
            self.epoch_start = self.last_saved - self.progress.seconds
        else:
            self.progress = self.progress_type()
            self._share_statistics()
        self.seconds_before = dict(self.stopwatch.seconds)
        self.seconds_reading = 0.0
        self.stopwatch.start(WAITING)

    def _share_statistics(self) -> None:
        """Evaluate the same network everywhere: torch's own BatchNorm has different statistics in each process."""
        if count_processes() > 1:
            for buffer in self.modules.buffers():
                torch.distributed.broadcast(buffer, 0)

    def on_stage_end(self, stage: sb.Stage, stage_loss: float, epoch: int | None = None) -> None:
        """Report a stage; at the end of an epoch, save a checkpoint, log, and plot the curves."""
        self.stopwatch.stop()
        if stage == sb.Stage.TRAIN:
            logger.info(f"epoch {epoch}: {self.waiting_share():.1f} % of the training time was spent waiting for data.")
            self.progress_elsewhere = gather(self.progress)[1:]
            progress = self.progress.of_all_processes()
            self.train_loss = progress.loss
            self.inspect_training(progress)
            self.failures.report("train", epoch, progress.failed)
            self.trained = self._state()
        else:
            self.progress = self.progress.of_all_processes()
        if stage == sb.Stage.VALID:
            assert epoch is not None
            self.trained = None
            with self.stopwatch("scoring"):
                results = self.score_epoch()
            self.failures.report(self.curves.dev, epoch, self.progress.failed)
            row = {
                "epoch": epoch,
                "lr": self.optimizer.param_groups[0]["lr"],
                "train_loss": self.train_loss,
                "dev_loss": self.progress.loss,
                **{name: value for name, value in results.items() if name in self.curves.columns},
                "seconds": time.monotonic() - self.epoch_start,
            }
            self.history.add(row)
            # The checkpoint comes first: a run that is killed before it has logged the epoch can still do so from it.
            with self.stopwatch("checkpointing"):
                self.checkpointer.save_checkpoint(meta={"epoch": epoch, self.error: results[self.error]})
                self._keep_what_is_needed()
            with self.stopwatch("logs and curves"):
                self._log_epoch(row)
            if self.termination.is_requested(self.device):
                self._end_terminated()

    def waiting_share(self) -> float:
        """Percent of this process's time in the stage that it spent waiting for data or reading it."""
        spent = {name: total - self.seconds_before.get(name, 0.0) for name, total in self.stopwatch.seconds.items()}
        return 100 * (spent[WAITING] + self.seconds_reading) / max(sum(spent.values()), 1e-9)

    @main_process_only
    def show_profile(self) -> None:
        """Print and write the time profile, if the user asked for it."""
        if self.profiled:
            table = self.stopwatch.table()
            logger.info(f"Where the time went:\n{table}")
            write_atomically(self.output_folder / "profile.txt", f"{table}\n")

    # Logs

    @main_process_only
    def _log_epoch(self, row: dict[str, float]) -> None:
        log_epoch(row, self.hparams.train_logger)
        draw_epoch(row, self.hparams.tensorboard_logger)
        self.history.write()
        self.failures.write()
        plot_curves(self.history.rows, self.output_folder / "curves.png", self.curves, self.output_folder.as_posix())

    @main_process_only
    def _rewrite_logs(self) -> None:
        rows = self.history.rows
        rewrite_log(rows, [], self.hparams.train_logger)
        self.hparams.tensorboard_logger = restart_board(rows, self.hparams.tensorboard_logger)
        self.history.write()
        self.failures.write()

    # Checkpoints

    def _should_save_intra_epoch_ckpt(self, last_ckpt_time: float, steps_since_ckpt: int) -> bool:
        """SpeechBrain's rule, but never within a gradient accumulation, whose gradients would be lost.

        Minutes are those of a clock that nobody can set back.
        """
        if self.step % self.grad_accumulation_factor != 0:
            return False
        if self.termination.is_requested(self.device):
            self._save_intra_epoch_ckpt()
            self._end_terminated()
        elapsed = time.monotonic() - self.last_saved
        return bool(super()._should_save_intra_epoch_ckpt(time.time() - elapsed, steps_since_ckpt))

    def _save_intra_epoch_ckpt(self) -> None:
        """Save a checkpoint inside an epoch, and replace the previous one."""
        with self.stopwatch("checkpointing"):
            if self.trained is None:
                self.progress_elsewhere = gather(self.progress)[1:]
            step = self.step if self.trained is None else self.trained["step"]
            self.checkpointer.save_checkpoint(
                meta={"epoch": self.hparams.epoch_counter.current, "step": step}, end_of_epoch=False
            )
            self._keep_what_is_needed()
        self.last_saved = time.monotonic()

    @main_process_only
    def _keep_what_is_needed(self) -> None:
        """Keep the best epoch, checkpoints newer than all epochs, and the latest epochs: two, or those to average."""
        epochs = self.find_epochs()
        best = self.checkpointer.find_checkpoints(min_key=self.error, max_num_checkpoints=1)
        # At least two, also inside the first epoch: if the latest is damaged, the one before it is left.
        kept = max([2, *getattr(self.hparams, "average_checkpoints", [])])
        latest = self.checkpointer.find_checkpoints(max_num_checkpoints=1 if epochs else 2)
        self.checkpointer.keep_only([*epochs[:kept], *best, *latest])

    def find_epochs(self) -> list[Checkpoint]:
        """Checkpoints of complete epochs with dev scores, latest first."""
        return self.checkpointer.find_checkpoints(ckpt_predicate=lambda checkpoint: self.error in checkpoint.meta)

    @mark_as_saver
    def _save_state(self, path: Path) -> None:
        """Write the checkpoint's state besides weights and optimizer."""
        Path(path).write_text(json.dumps(self.trained or self._state()), encoding="utf-8")

    def _state(self) -> dict[str, Any]:
        return {
            "epoch": self.hparams.epoch_counter.current,
            "step": self.step,
            "taken": self.train_batches.taken(self.step) if self.step else 0,
            "optimizer_step": self.optimizer_step,
            "avg_train_loss": self.avg_train_loss,
            "progress": asdict(self.progress) | {"seconds": time.monotonic() - self.epoch_start},
            "progress_elsewhere": [asdict(each) for each in self.progress_elsewhere],
            "history": list(self.history.rows),
            "failures": list(self.failures.rows),
        }

    @mark_as_loader
    def _load_state(self, path: Path, end_of_epoch: bool) -> None:
        state = json.loads(Path(path).read_text(encoding="utf-8"))
        self.step = state["step"]
        self.train_batches.resume(state["epoch"], self.step, state["taken"])
        self.optimizer_step = state["optimizer_step"]
        self.avg_train_loss = state["avg_train_loss"]
        self.history.rows = state["history"]
        self.failures.rows = state["failures"]
        # Checkpoints of older versions have the counts of the main process only.
        counted = [self._read_progress(each) for each in [state["progress"], *state.get("progress_elsewhere", [])]]
        if len(counted) == count_processes():
            self.progress = counted[process_number()]
        elif if_main_process():
            self.progress = self.progress_type.total(counted)
            self.progress.seconds, self.progress.order = counted[0].seconds, counted[0].order
        else:
            self.progress = self.progress_type(order=counted[0].order)

    def _read_progress(self, values: Mapping[str, Any]) -> Progress:
        progress = self.progress_type(**values)
        progress.failed = [(name, reason) for name, reason in progress.failed]
        return progress


def plain(value: Any) -> Any:
    """Convert settings to plain data, as a file holds them.

    Example
    -------
    >>> plain({"speeds": (0.9, 1.0), "form": None, "window": torch.hann_window})
    {'speeds': [0.9, 1.0], 'form': None, 'window': 'hann_window'}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return getattr(value, "__name__", type(value).__name__)
