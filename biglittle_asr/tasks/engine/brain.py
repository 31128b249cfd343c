"""What the Brains of all tasks share: trainings that may be interrupted, files that fail, logs, checkpoints."""

import json
import math
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import speechbrain as sb
import torch
from speechbrain.utils.checkpoints import Checkpoint, mark_as_loader, mark_as_saver, register_checkpoint_hooks
from speechbrain.utils.distributed import (
    ddp_barrier,
    get_rank,
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
    seed_all,
)
from biglittle_asr.tasks.engine.curves import Curves, EpochHistory, plot_curves
from biglittle_asr.tasks.engine.failures import Failures
from biglittle_asr.tasks.engine.logs import draw_epoch, log_epoch, restart_board, rewrite_log
from biglittle_asr.tasks.engine.termination import Termination, end, worker_init
from biglittle_asr.threads import usable_cores

logger = get_logger(__name__)

MAX_FAILED = 0.01
"""Largest part of the training files that may fail during an epoch. A file or two that are lost at hour three are no
reason to lose the training; more than one in a hundred means that the disk or the corpus is."""

FEW = 10
"""So many may fail whatever their part is: in a small corpus one file is more than 1 %, and ten can still be read in
the log."""

WAITING = "waiting for data"
"""What a stage's time is charged to when nothing else is going on."""


class NonFiniteLossError(ValueError):
    """The loss or its gradient is infinite or not a number."""


AnyProgress = TypeVar("AnyProgress", bound="Progress")


@dataclass
class Progress(ABC):
    """What has happened since the present epoch, or the present pass over an evaluation set, began.

    A task adds what it counts, as fields whose values can be added.
    """

    failed: list[tuple[str, str]] = field(default_factory=list)
    """Examples whose file could not be read, and why."""
    seconds: float = 0.0
    """Of training, in the runs before this one."""
    order: str = ""
    """Stands for the order of the epoch's examples."""

    @property
    @abstractmethod
    def loss(self) -> float:
        """Mean loss."""

    def of_all_processes(self: AnyProgress) -> AnyProgress:
        """The sum over all processes of a distributed training, on each of them."""
        names = [each.name for each in fields(self) if each.name not in ("seconds", "order")]
        total = type(self)()
        for each in gather(self):
            for name in names:
                setattr(total, name, getattr(total, name) + getattr(each, name))
        return total


class Batch(Protocol):
    """What a loader yields: examples as its task wants them, and what failed in their place."""

    examples: Any
    """Those that could be read; None if none could."""
    failures: list[Failure]
    """Those that could not."""
    seconds: dict[str, float]
    """What reading took, by activity."""
    in_worker: bool
    """Whether another process than the one that trains did so."""


@register_checkpoint_hooks
class ResumableBrain(sb.Brain, ABC):
    """A Brain whose training may be interrupted at any moment, and whose files may fail under it.

    A training that is interrupted, however and wherever, and started again ends in the same weights as one that is not,
    to the bit where the arithmetic is deterministic (on one machine's CPU, with the same number of threads). For that
    a checkpoint holds model, optimizer, history and the position in the epoch, and nothing random: every number drawn
    follows from seed, epoch and step or example.

    A task says how to read a dataset (:meth:`read`), what to do for a batch of which nothing could be read
    (:meth:`forward_nothing`), and what an epoch achieved (:meth:`score_epoch`); forward and loss are SpeechBrain's
    `compute_forward` and `compute_objectives`.

    Arguments
    ---------
    model : nn.Module
        What is trained.
    modules : dict from str to nn.Module or None
        Others that the task uses; those that are None are left out.
    curves : Curves
        What is drawn of each epoch.
    hparams : dict
        What the recipe's YAML file defines.
    run_opts : speechbrain.RunOptions or dict
        Command line options.
    """

    examples: ClassVar[str] = "examples"
    """What the training set consists of, for messages."""
    error: ClassVar[str]
    """Entry of a checkpoint's meta by which the best is found: lower is better."""
    fate: ClassVar[str]
    """What happens in evaluation to an example that cannot be read."""
    progress_type: ClassVar[type[Progress]]
    """What a task counts."""

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
        # SpeechBrain would have checkpoints by step or by time, not both.
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
        self.epoch_start = time.monotonic()
        self.profiled = bool(hparams.get("profile"))
        # Always on, which costs microseconds a step; only a profile may make the host wait for the device.
        synchronize = torch.cuda.synchronize if self.profiled and self.device_type == "cuda" else None
        self.stopwatch = Stopwatch(synchronize=synchronize)
        self.termination = Termination()
        self.trained: dict[str, Any] | None = None
        """What a checkpoint says between the last step of an epoch and the end of its evaluation."""

    # What a task says

    @abstractmethod
    def read(self, dataset: Any) -> tuple[Any, Callable[[Sequence[Any]], Batch], Sequence[str]]:
        """How to read a dataset.

        Returns
        -------
        dataset : torch.utils.data.Dataset
            Takes an index or a :class:`~biglittle_asr.tasks.engine.batches.Draw`.
        collate : callable
            From its examples to a batch.
        names : sequence of str
            Of its examples, in their order.
        """

    @abstractmethod
    def describe_inputs(self, hparams: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """What the network is fed with, by key of the recipe and setting: a training goes on with the same only."""

    @abstractmethod
    def forward_nothing(self) -> Tensor:
        """The forward pass of an input that matters to nobody, in place of a batch that could not be read."""

    @abstractmethod
    def score_epoch(self) -> dict[str, float]:
        """Results on dev, by name of the history's column, and by :attr:`error`."""

    def inspect_training(self, progress: Any) -> None:
        """Look at what training counted in an epoch, over all processes; a task may refuse to go on."""

    # Training

    def fit_epochs(
        self, train: Any, dev: Any, train_options: Mapping[str, Any], dev_options: Mapping[str, Any]
    ) -> None:
        """Train, from the last checkpoint if there is one, watching dev; with the options of the sets' loaders.

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
        """A loader of :class:`Batch`: each process has its own batches to train on, and its share to evaluate."""
        # More would take turns.
        kwargs["num_workers"] = min(kwargs.get("num_workers", 0), usable_cores())
        if kwargs["num_workers"]:
            kwargs.setdefault("worker_init_fn", worker_init())
        readable, collate, names = self.read(dataset)
        if stage == sb.Stage.TRAIN:
            kwargs["batch_sampler"].deal(get_rank() or 0, count_processes())
        else:
            self.evaluated_names = names
            if count_processes() > 1:
                kwargs["sampler"] = range(get_rank() or 0, len(names), count_processes())
        loader = super().make_dataloader(readable, stage, collate_fn=collate, **kwargs)
        if stage == sb.Stage.TRAIN:
            self.train_names = names
            self.train_batches: EpochBatches = kwargs["batch_sampler"]
            # SpeechBrain tells only what it finds here in which epoch it is.
            self.train_sampler = self.train_batches
        return loader

    def _train_loader_specifics(self, dataset: Any, loader_kwargs: dict[str, Any]) -> dict[str, Any]:
        """Keep the sampler, which knows of the processes; SpeechBrain's would repeat batches to make them even."""
        return loader_kwargs

    # Optimization

    def _wrap_distributed(self) -> None:
        """Wrap the model for several processes. Its BatchNorm shares statistics; SpeechBrain would replace it."""
        if not self.distributed_launch:
            super()._wrap_distributed()
            return
        # Said of a 1x1 convolution, whose gradient lies the same in memory under both strides.
        warnings.filterwarnings("ignore", r"(?s)Grad strides do not match .*\n *grad\.sizes\(\) = \[\d+, \d+, 1, 1\]")
        devices = None if self.distributed_backend == "gloo" else [self.device]
        for name, module in self.modules.items():
            if any(parameter.requires_grad for parameter in module.parameters()):
                # What is not trained is the same everywhere, or made so before it is used; see _share_statistics.
                self.modules[name] = DistributedDataParallel(module, device_ids=devices, broadcast_buffers=False)

    def fit_batch(self, batch: Batch) -> Tensor:
        """Train on what could be read of a batch, with random numbers that follow from its place."""
        self.note_reading(batch)
        self.progress.failed += [(failure.id, failure.reason) for failure in batch.failures]
        if len(self.progress.failed) > max(FEW, MAX_FAILED * len(self.train_names)):
            raise ValueError(
                f"{len(self.progress.failed)} training {self.examples} of epoch {self.hparams.epoch_counter.current} "
                f"could not be read, the last because of: {self.progress.failed[-1][1].rstrip('.')}; see to the disk "
                "and the corpus, then start again: the training goes on from its last checkpoint."
            )
        seed_all(self.hparams.seed, self.hparams.epoch_counter.current, self.step, get_rank() or 0)
        # What of this takes time and is not measured inside is the backward pass.
        with self.stopwatch("backward"):
            return self._fit_nothing() if batch.examples is None else super().fit_batch(batch.examples)

    def _fit_nothing(self) -> Tensor:
        """Take the step of a batch of which nothing could be read: others may have gone before it, or go beside it."""
        should_step = self.step % self.grad_accumulation_factor == 0
        self.batch_ids: Sequence[str] = []
        self._set_learning_rate()
        if is_distributed_initialized():
            # The other processes wait for this one's statistics and gradients.
            with self.no_sync(not should_step), self.training_ctx, uncounted(self.modules):
                nothing = self.forward_nothing().sum()
                mean_over_processes(torch.zeros((), device=self.device))
                self.scaler.scale(0.0 * nothing).backward()
        if should_step and any(parameter.grad is not None for parameter in self.modules.parameters()):
            self.optimizers_step()
        # Not a number: SpeechBrain leaves it out of its running average.
        return torch.tensor(math.nan)

    def on_fit_batch_start(self, batch: Any, should_step: bool) -> None:
        """Set the learning rate."""
        self.batch_ids = batch.id
        self._set_learning_rate()

    def _set_learning_rate(self) -> None:
        """From how far the training is, which is right after every resume."""
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
        """The sentence on a loss or gradient that is not finite."""
        return (
            f"{what} is not finite in epoch {self.hparams.epoch_counter.current}, step {self.step}, {self.examples} "
            f"{', '.join(ids)}: look at their data, or lower the learning rate (lr) or max_grad_norm."
        )

    # Evaluation

    def evaluate_batch(self, batch: Batch, stage: sb.Stage) -> Tensor:
        """Evaluate what could be read of a batch, and note the rest."""
        # Processes have unequal numbers of these batches, so that several cannot agree before the epoch is over.
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
        """Charge the time that reading a batch took."""
        if batch.in_worker:
            self.stopwatch.add_parallel(batch.seconds)
        else:
            self.stopwatch.add(batch.seconds)
            self.seconds_reading += sum(batch.seconds.values())

    def on_evaluate_start(self, max_key: str | None = None, min_key: str | None = None) -> None:
        """Keep the weights that are loaded, rather than load a checkpoint."""

    # Stages

    def fit(self, *arguments: Any, **options: Any) -> None:
        """SpeechBrain's loop over epochs; SIGTERM ends it with a checkpoint and exit status 143."""
        with self.termination:
            super().fit(*arguments, **options)

    def _end_terminated(self) -> None:
        if if_main_process():
            logger.info("SIGTERM: the training stops at a checkpoint; the same command goes on from it.")
        end()

    def on_fit_start(self) -> None:
        """Go on from the last checkpoint, and make the logs say what it says."""
        super().on_fit_start()
        # Nothing is deleted before all processes have found it.
        ddp_barrier()
        self._keep_what_is_needed()
        self._rewrite_logs()

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Forget the last stage, unless a checkpoint inside this one was loaded."""
        if stage == sb.Stage.TRAIN:
            self.trained = None
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
            self.epoch_start = time.monotonic() - self.progress.seconds
        else:
            self.progress = self.progress_type()
            self._share_statistics()
        self.seconds_before = dict(self.stopwatch.seconds)
        self.seconds_reading = 0.0
        self.stopwatch.start(WAITING)

    def _share_statistics(self) -> None:
        """Evaluate the same network everywhere: a BatchNorm that is not ours has other statistics on each process."""
        if count_processes() > 1:
            for buffer in self.modules.buffers():
                torch.distributed.broadcast(buffer, 0)

    def on_stage_end(self, stage: sb.Stage, stage_loss: float, epoch: int | None = None) -> None:
        """Report on a stage; at the end of an epoch, save a checkpoint, log, and draw the curves."""
        self.stopwatch.stop()
        if stage == sb.Stage.TRAIN:
            logger.info(f"epoch {epoch}: {self.waiting_share():.1f} % of the training time was spent waiting for data.")
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
            # The checkpoint first: from it, a run that is killed before it has logged the epoch can still do so.
            with self.stopwatch("checkpointing"):
                self.checkpointer.save_checkpoint(meta={"epoch": epoch, self.error: results[self.error]})
                self._keep_what_is_needed()
            with self.stopwatch("logs and curves"):
                self._log_epoch(row)
            if self.termination.is_requested(self.device):
                self._end_terminated()

    def waiting_share(self) -> float:
        """Percent of this process's time since the stage began in which it waited for data, or read them itself."""
        spent = {name: total - self.seconds_before.get(name, 0.0) for name, total in self.stopwatch.seconds.items()}
        return 100 * (spent[WAITING] + self.seconds_reading) / max(sum(spent.values()), 1e-9)

    @main_process_only
    def show_profile(self) -> None:
        """Print and write where the time went, if that was asked for."""
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
        """SpeechBrain's rule, but never between the steps of one accumulation, whose gradients would be lost."""
        if self.step % self.grad_accumulation_factor != 0:
            return False
        if self.termination.is_requested(self.device):
            self._save_intra_epoch_ckpt()
            self._end_terminated()
        return bool(super()._should_save_intra_epoch_ckpt(last_ckpt_time, steps_since_ckpt))

    def _save_intra_epoch_ckpt(self) -> None:
        """Save a checkpoint inside of an epoch, in place of the last such one."""
        with self.stopwatch("checkpointing"):
            step = self.step if self.trained is None else self.trained["step"]
            self.checkpointer.save_checkpoint(
                meta={"epoch": self.hparams.epoch_counter.current, "step": step}, end_of_epoch=False
            )
            self._keep_what_is_needed()

    @main_process_only
    def _keep_what_is_needed(self) -> None:
        """Keep the latest epochs, two or as many as are averaged at most, the best one, and what is newer than all."""
        epochs = self.find_epochs()
        best = self.checkpointer.find_checkpoints(min_key=self.error, max_num_checkpoints=1)
        # Two at least, or two inside of the first epoch: if the latest is damaged, there is one before it.
        kept = max([2, *getattr(self.hparams, "average_checkpoints", [])])
        latest = self.checkpointer.find_checkpoints(max_num_checkpoints=1 if epochs else 2)
        self.checkpointer.keep_only([*epochs[:kept], *best, *latest])

    def find_epochs(self) -> list[Checkpoint]:
        """Checkpoints of whole epochs, scored on dev, the latest first."""
        return self.checkpointer.find_checkpoints(ckpt_predicate=lambda checkpoint: self.error in checkpoint.meta)

    @mark_as_saver
    def _save_state(self, path: Path) -> None:
        """Write what a checkpoint holds besides weights and optimizer."""
        Path(path).write_text(json.dumps(self.trained or self._state()), encoding="utf-8")

    def _state(self) -> dict[str, Any]:
        return {
            "epoch": self.hparams.epoch_counter.current,
            "step": self.step,
            "taken": self.train_batches.taken(self.step) if self.step else 0,
            "optimizer_step": self.optimizer_step,
            "avg_train_loss": self.avg_train_loss,
            "progress": asdict(self.progress) | {"seconds": time.monotonic() - self.epoch_start},
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
        progress = self.progress_type(**state["progress"])
        progress.failed = [(name, reason) for name, reason in progress.failed]
        # The counts are the main process's; those of the others are lost with it, and only reports are poorer.
        self.progress = progress if if_main_process() else self.progress_type(order=progress.order)


def plain(value: Any) -> Any:
    """Settings as plain data, as a file has them.

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
