"""CTC: the loss, and the Brain that trains, evaluates and averages it."""

import csv
import io
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import speechbrain as sb
import torch
from speechbrain.utils.checkpoints import (
    Checkpoint,
    average_checkpoints,
    mark_as_loader,
    mark_as_saver,
    register_checkpoint_hooks,
)
from speechbrain.utils.distributed import (
    ddp_barrier,
    get_rank,
    if_main_process,
    is_distributed_initialized,
    main_process_only,
)
from speechbrain.utils.logger import get_logger
from speechbrain.utils.optimizers import rm_vector_weight_decay
from speechbrain.utils.run_opts import RunOptions
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from biglittle_asr.corpora.manifest import write_atomically
from biglittle_asr.decoding import ctc_greedy
from biglittle_asr.decoding.tokenizer import Tokenizer
from biglittle_asr.inference.packing import MODEL
from biglittle_asr.models import CTCModel
from biglittle_asr.nnet.lengths import valid_mask
from biglittle_asr.profiling import Stopwatch
from biglittle_asr.scoring import Score, score_texts
from biglittle_asr.tasks.curves import EpochHistory, plot_curves
from biglittle_asr.tasks.data import Batch, Datasets, Utterances, collate, train_loader_options
from biglittle_asr.tasks.logs import draw_epoch, log_epoch, restart_board, rewrite_log
from biglittle_asr.tasks.model_folder import write_model_folder
from biglittle_asr.tasks.randomness import seed_all

logger = get_logger(__name__)

BLANK = 0
MAX_LEFT_OUT = 0.01
"""Largest part of the training utterances that may be left out because their target does not fit their frames."""


MAX_FAILED = 0.01
"""Largest part of the training utterances whose audio may fail during an epoch. A file or two that are lost at hour
three are no reason to lose the training; more than one in a hundred means that the disk or the corpus is."""

FEW = 10
"""So many may fail whatever their part is: in a small corpus one file is more than 1 %, and ten can still be read in
the log."""

FAILURES_NAME = "failed_files.csv"
"""File in the output folder that lists utterances whose audio failed during training or evaluation."""

LISTED = 5
"""Utterances that a message names; files list all."""


class NonFiniteLossError(ValueError):
    """The loss or its gradient is infinite or not a number."""


def frames_needed(tokens: Sequence[int]) -> int:
    """Fewest frames in which CTC can emit the tokens: one each, and a blank between equal neighbors.

    Example
    -------
    >>> frames_needed([3, 3, 4])
    4
    """
    return len(tokens) + sum(first == second for first, second in zip(tokens, tokens[1:], strict=False))


def ctc_loss(log_probs: Tensor, frames: Tensor, tokens: Tensor, num_tokens: Tensor) -> tuple[Tensor, Tensor]:
    """CTC loss of each utterance whose target fits its frames.

    Arguments
    ---------
    log_probs : Tensor
        (B, T', V).
    frames : Tensor
        (B,) integer valid frames.
    tokens : Tensor
        (B, U) token indices, padded.
    num_tokens : Tensor
        (B,) integer tokens.

    Returns
    -------
    losses : Tensor
        Negative log-likelihood in nats of the utterances that fit, in their order.
    fits : Tensor
        (B,) bool, which these are. The others have no finite loss, and torch would give them a gradient of NaN (or,
        with its `zero_infinity`, of zero without saying so).

    Raises
    ------
    ValueError
        If a token is not in the output layer: torch would return a finite wrong loss.

    Example
    -------
    >>> log_probs = torch.full((2, 3, 4), 0.25).log()
    >>> losses, fits = ctc_loss(log_probs, torch.tensor([3, 2]), torch.tensor([[1, 2], [3, 3]]), torch.tensor([2, 2]))
    >>> fits.tolist()
    [True, False]
    """
    valid = valid_mask(num_tokens, tokens.shape[1])
    largest = int(tokens.masked_fill(~valid, BLANK).max()) if tokens.numel() else BLANK
    if largest >= log_probs.shape[2]:
        raise ValueError(
            f"token {largest} does not exist in an output layer of {log_probs.shape[2]}: "
            "tokenizer and output_neurons disagree."
        )
    repeats = (tokens[:, 1:] == tokens[:, :-1]) & valid[:, 1:]
    fits = frames >= num_tokens + repeats.sum(dim=1)
    losses = nn.functional.ctc_loss(
        log_probs[fits].transpose(0, 1),
        tokens[fits],
        frames[fits],
        num_tokens[fits],
        blank=BLANK,
        reduction="none",
    )
    return losses, fits


def consistency_loss(log_probs: Tensor, frames: Tensor) -> Tensor:
    """How far the posteriors of two views of the same utterances lie apart.

    Each view is drawn towards the other, which is held fast: sum over valid frames of KL(second || first) and
    KL(first || second) (Yao et al. 2025, "CR-CTC: Consistency regularization on CTC for improved speech recognition",
    section 3.2).

    Arguments
    ---------
    log_probs : Tensor
        (2B, T', V), the second views behind the first.
    frames : Tensor
        (2B,) integer valid frames.

    Returns
    -------
    Tensor
        Scalar, in nats.

    Example
    -------
    >>> log_probs = torch.tensor([[[0.5, 0.5]], [[0.9, 0.1]]]).log()
    >>> round(consistency_loss(log_probs, torch.tensor([1, 1])).item(), 4)
    0.8789
    >>> consistency_loss(log_probs[[0, 0]], torch.tensor([1, 1])).item()
    0.0
    """
    first, second = log_probs.chunk(2)
    valid = valid_mask(frames[: len(first)], first.shape[1]).unsqueeze(-1)
    apart = _divergence(first, second.detach()) + _divergence(second, first.detach())
    return apart.masked_fill(~valid, 0.0).sum()


def _divergence(log_probs: Tensor, target: Tensor) -> Tensor:
    return nn.functional.kl_div(log_probs, target, reduction="none", log_target=True)


@dataclass
class Progress:
    """What has happened since the present epoch, or the present pass over an evaluation set, began."""

    loss_sum: float = 0.0
    """Nats, of all utterances."""
    tokens: int = 0
    utterances: int = 0
    left_out: list[str] = field(default_factory=list)
    """Utterances whose target does not fit their frames."""
    failed: list[tuple[str, str]] = field(default_factory=list)
    """Utterances whose audio could not be read, and why."""
    seconds: float = 0.0
    """Of training, in the runs before this one."""
    order: str = ""
    """Stands for the order of the epoch's utterances."""

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.loss_sum / max(self.tokens, 1)

    def and_those_of(self, others: "Sequence[Progress]") -> "Progress":
        """The sum over several processes."""
        every = [self, *others]
        return Progress(
            loss_sum=sum(each.loss_sum for each in every),
            tokens=sum(each.tokens for each in every),
            utterances=sum(each.utterances for each in every),
            left_out=[name for each in every for name in each.left_out],
            failed=[failed for each in every for failed in each.failed],
        )


@register_checkpoint_hooks
class CTCBrain(sb.Brain):
    """Trains and evaluates a :class:`CTCModel`.

    A training that is interrupted, however and wherever, and started again ends in the same weights as one that is not,
    to the bit where the arithmetic is deterministic (on one machine's CPU, with the same number of threads). For that
    a checkpoint holds model, optimizer, history and the position in the epoch, and nothing random: every number drawn
    follows from seed, epoch and step or utterance.

    The loss is the sum over a batch of the utterances' negative log-likelihoods, divided by the number of their tokens:
    so it is in nats per token, every token of a batch weighs the same, and neither a batch of short utterances nor one
    of long ones dominates an epoch.

    Arguments
    ---------
    model : CTCModel
        What is trained.
    tokenizer : Tokenizer
        Of the targets.
    hparams : dict
        What the recipe's YAML file defines.
    run_opts : speechbrain.RunOptions or dict
        Command line options.
    """

    def __init__(self, model: CTCModel, tokenizer: Tokenizer, hparams: dict[str, Any], run_opts: Any = None) -> None:
        modules = {**hparams["modules"], "model": model}
        checkpointer = hparams["checkpointer"]
        checkpointer.add_recoverables({"model": model, "counter": hparams["epoch_counter"]})
        if modules["normalize"].state_dict():
            checkpointer.add_recoverable("normalize", modules["normalize"])
        if isinstance(run_opts, dict):
            run_opts = RunOptions.from_dictionary(run_opts)
        # SpeechBrain would have checkpoints by step or by time, not both.
        interval = hparams.get("ckpt_interval_steps", 0)
        if run_opts is not None and "ckpt_interval_steps" in run_opts.overridden_args:
            interval = run_opts.ckpt_interval_steps
            run_opts = replace(run_opts, overridden_args=run_opts.overridden_args - {"ckpt_interval_steps"})
        super().__init__(
            modules={name: module for name, module in modules.items() if module is not None},
            opt_class=hparams["opt_class"],
            hparams={**hparams, "ckpt_interval_steps": 0},
            run_opts=run_opts,
            checkpointer=checkpointer,
        )
        self.ckpt_interval_steps = interval
        self.train_sampler: Any = None
        self.model = model
        self.tokenizer = tokenizer
        self.output_folder = Path(hparams["output_folder"])
        self.history = EpochHistory(self.output_folder / "epochs.csv")
        self.failures: list[dict[str, Any]] = []
        self.progress = Progress()
        synchronize = torch.cuda.synchronize if self.device_type == "cuda" else None
        self.stopwatch = Stopwatch(bool(hparams.get("profile")), synchronize)

    def fit_datasets(self, datasets: Datasets, hparams: Mapping[str, Any]) -> None:
        """Train, from the last checkpoint if there is one, watching dev.

        Raises
        ------
        ValueError
            If the targets of more than 1 % of the training utterances do not fit their frames, as many cannot be read,
            or the loss is not finite.
        """
        if self.test_only:
            return
        self.check_targets_fit(datasets.train)
        self.fit(
            self.hparams.epoch_counter,
            datasets.train,
            datasets.dev,
            train_loader_kwargs=train_loader_options(datasets.train, hparams),
            valid_loader_kwargs=dict(hparams["valid_dataloader_opts"]),
        )
        lost = {row["ID"] for row in self.failures if row["set"] == "train"}
        if lost:
            logger.warning(
                f"{_some(sorted(lost))}: could not be read in one epoch or more, and were left out there; "
                f"{self.output_folder / FAILURES_NAME} says why."
            )

    def evaluate_datasets(self, datasets: Datasets, hparams: Mapping[str, Any]) -> dict[str, Score]:
        """Choose the checkpoints to average on dev, then score dev and, unless `skip_test`, test once.

        Writes wer_dev.txt, wer_test.txt, and the model folder with the chosen weights.
        """
        self.choose_average(datasets.dev, hparams)
        scores = {"dev": self.score_dataset(datasets.dev, hparams["valid_dataloader_opts"], name="dev")}
        if not hparams["skip_test"]:
            scores["test"] = self.score_dataset(datasets.test, hparams["test_dataloader_opts"], name="test")
        self._write_scores(scores)
        write_model_folder(
            self.output_folder / MODEL,
            (self.modules.compute_features, self.modules.normalize, self.model, self.tokenizer),
            datasets,
            scores,
            hparams["data_folder"],
            self.precision,
            self.weights,
        )
        self._show_profile()
        return scores

    @main_process_only
    def _write_scores(self, scores: Mapping[str, Score]) -> None:
        evaluations = []
        for name, score in scores.items():
            score.write(self.output_folder / f"wer_{name}.txt")
            logger.info(f"{name}: {score.summary()}")
            evaluations.append({"Evaluated": name, "weights": self.weights, "WER": score.all.wer, "CER": score.all.cer})
        rewrite_log(self.history.rows, evaluations, self.hparams.train_logger)
        self._write_failures()

    @main_process_only
    def _show_profile(self) -> None:
        if self.stopwatch.enabled:
            table = self.stopwatch.table()
            logger.info(f"Where the time went:\n{table}")
            write_atomically(self.output_folder / "profile.txt", f"{table}\n")

    # Forward and loss

    def compute_forward(self, batch: Any, stage: sb.Stage) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, T', V) and frames (B,) of a batch of waveforms."""
        batch = batch.to(self.device)
        views = 2 if stage == sb.Stage.TRAIN and self.hparams.consistency_weight > 0 else 1
        return self._log_probs(batch.sig.data, batch.num_samples.to(self.device), views)

    def _log_probs(self, wav: Tensor, num_samples: Tensor, views: int = 1) -> tuple[Tensor, Tensor]:
        """Log-probabilities (views * B, T', V) and frames: views of the utterances, each augmented on its own."""
        with self.stopwatch("features"):
            features, frames = self.modules.compute_features(wav, num_samples)
            features = self.modules.normalize(features, frames)
        features, frames = features.repeat(views, 1, 1), frames.repeat(views)
        if "fea_augment" in self.modules:
            with self.stopwatch("augmentation"):
                features = self.modules.fea_augment(features, frames)
        with self.stopwatch("encoder"):
            return self.modules.model(features, frames)

    def compute_objectives(self, predictions: tuple[Tensor, Tensor], batch: Any, stage: sb.Stage) -> Tensor:
        """Loss in nats per token; outside of training, decodes as well."""
        log_probs, frames = predictions
        views = len(log_probs) // len(batch)
        with self.stopwatch("loss"):
            num_tokens = batch.num_tokens.to(self.device).repeat(views)
            losses, fits = ctc_loss(log_probs, frames, batch.tokens.data.repeat(views, 1), num_tokens)
            total, tokens = losses.sum(), num_tokens[fits].sum().clamp(min=1)
            if not bool(torch.isfinite(total)):
                raise NonFiniteLossError(self._not_finite("loss", batch.id))
            self.progress.left_out += [
                name for name, fit in zip(batch.id, fits[: len(batch)].tolist(), strict=True) if not fit
            ]
            self.progress.loss_sum += float(total.detach())
            self.progress.tokens += int(tokens)
            self.progress.utterances += len(batch)
            if views == 2:
                total = total + self.hparams.consistency_weight * consistency_loss(log_probs, frames)
        if stage != sb.Stage.TRAIN:
            with self.stopwatch("decoding"):
                decoded = [self.tokenizer.decode(ids) for ids in ctc_greedy(log_probs, frames, BLANK)]
            self.hypotheses.update(zip(batch.id, decoded, strict=True))
            self.references.update(zip(batch.id, batch.wrd, strict=True))
            self.speakers.update(zip(batch.id, batch.spk_id, strict=True))
        return total / tokens

    def _not_finite(self, what: str, ids: Sequence[str]) -> str:
        return (
            f"{what} is not finite in epoch {self.hparams.epoch_counter.current}, step {self.step}, utterances "
            f"{', '.join(ids)}: look at their audio and transcripts, or lower the learning rate (lr) or max_grad_norm."
        )

    # Optimization

    def init_optimizers(self) -> None:
        """Weight decay on matrices only: norms and biases have no reason to be near zero."""
        self.optimizer = self.opt_class(rm_vector_weight_decay(self.modules))
        self.optimizers_dict = {"opt_class": self.optimizer}
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("optimizer", self.optimizer)

    def _wrap_distributed(self) -> None:
        """Wrap the model for several processes. Its BatchNorm shares statistics; SpeechBrain would replace it."""
        if not self.distributed_launch:
            super()._wrap_distributed()
            return
        devices = None if self.distributed_backend == "gloo" else [self.device]
        for name, module in self.modules.items():
            if any(parameter.requires_grad for parameter in module.parameters()):
                self.modules[name] = DistributedDataParallel(module, device_ids=devices)

    def make_dataloader(self, dataset: Any, stage: sb.Stage, **kwargs: Any) -> Any:
        """A loader of :class:`Batch`; the training sampler is told the epoch, as SpeechBrain tells only its own."""
        loader = super().make_dataloader(Utterances(dataset, self.hparams.seed), stage, collate_fn=collate, **kwargs)
        if stage == sb.Stage.TRAIN:
            self.train_loader = loader
            self.train_batches = kwargs["batch_sampler"]
            if self.train_sampler is None:
                self.train_sampler = self.train_batches
        return loader

    def fit_batch(self, batch: Batch) -> Tensor:
        """Train on what could be read of a batch, with random numbers that follow from its place."""
        self._note_reading(batch)
        self.progress.failed += [(failure.id, failure.reason) for failure in batch.failures]
        if len(self.progress.failed) > max(FEW, MAX_FAILED * len(self.train_loader.dataset)):
            raise ValueError(
                f"{len(self.progress.failed)} training utterances of epoch {self.hparams.epoch_counter.current} could "
                f"not be read, the last because of: {self.progress.failed[-1][1].rstrip('.')}; see to the disk and the "
                "corpus, then start again: the training goes on from its last checkpoint."
            )
        seed_all(self.hparams.seed, self.hparams.epoch_counter.current, self.step, get_rank() or 0)
        # What of this takes time and is not measured inside is the backward pass.
        with self.stopwatch("backward"):
            return self._fit_nothing() if batch.utterances is None else super().fit_batch(batch.utterances)

    def _fit_nothing(self) -> Tensor:
        """Take the step of a batch of which nothing could be read: others may have gone before it, or go beside it."""
        should_step = self.step % self.grad_accumulation_factor == 0
        self.batch_ids: list[str] = []
        self._set_learning_rate()
        if is_distributed_initialized():
            # The other processes wait for this one's statistics and gradients; a second of silence gives zeros.
            rate = self.hparams.sample_rate
            with self.no_sync(not should_step), self.training_ctx:
                log_probs, _ = self._log_probs(
                    torch.zeros(1, rate, device=self.device), torch.tensor([rate], device=self.device)
                )
                self.scaler.scale(0.0 * log_probs.sum()).backward()
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
        epochs_done = self.hparams.epoch_counter.current - 1 + self.step / len(self.train_loader)
        rate = self.hparams.lr_annealing(min(epochs_done / self.hparams.number_of_epochs, 1.0))
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def optimizers_step(self) -> None:
        """Clip the norm of the whole gradient (SpeechBrain clips the first parameter group only), and step."""
        with self.stopwatch("optimizer"):
            self.scaler.unscale_(self.optimizer)
            parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
            norm = nn.utils.clip_grad_norm_(parameters, self.max_grad_norm)
            if not bool(torch.isfinite(norm)) and not self.scaler.is_enabled():
                raise NonFiniteLossError(self._not_finite("gradient", self.batch_ids))
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad(set_to_none=True)
            self.optimizer_step += 1

    def evaluate_batch(self, batch: Batch, stage: sb.Stage) -> Tensor:
        """Evaluate what could be read of a batch; the words of the rest count as deletions."""
        self._note_reading(batch)
        for failure in batch.failures:
            self.progress.failed.append((failure.id, failure.reason))
            self.hypotheses[failure.id] = ""
            self.references[failure.id] = failure.words
            self.speakers[failure.id] = failure.speaker
        if batch.utterances is None:
            return torch.tensor(math.nan)
        return super().evaluate_batch(batch.utterances, stage)

    def _note_reading(self, batch: Batch) -> None:
        if batch.in_worker:
            self.stopwatch.add_parallel(batch.seconds)
        else:
            self.stopwatch.add(batch.seconds)

    # Stages

    def on_fit_start(self) -> None:
        """Go on from the last checkpoint, and make the logs say what it says."""
        super().on_fit_start()
        # Nothing is deleted before all processes have found it.
        ddp_barrier()
        self._keep_what_is_needed()
        self._rewrite_logs()

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Forget the last stage, unless a checkpoint inside this one was loaded."""
        self.hypotheses: dict[str, str] = {}
        self.references: dict[str, str] = {}
        self.speakers: dict[str, str] = {}
        if stage == sb.Stage.TRAIN:
            self.train_sampler.set_epoch(epoch)
            order = self.train_batches.digest(self.train_loader.dataset.dataset.data_ids)
            if self.step == 0:
                self.progress = Progress(order=order)
            elif self.progress.order != order:
                logger.warning(
                    f"{self.output_folder}: the training set or its batches are not those of the checkpoint inside "
                    f"epoch {epoch}; the rest of this epoch may repeat or miss utterances."
                )
                self.progress.order = order
            self.epoch_start = time.monotonic() - self.progress.seconds
        else:
            self.progress = Progress()
        self.stopwatch.start("waiting for data")

    def on_stage_end(self, stage: sb.Stage, stage_loss: float, epoch: int | None = None) -> None:
        """Report on a stage; at the end of an epoch, save a checkpoint, log, and draw the curves."""
        self.stopwatch.stop()
        if stage == sb.Stage.TRAIN:
            first, *others = _of_all_processes(self.progress)
            progress = first.and_those_of(others)
            self.train_loss = progress.loss
            self._report_left_out(progress)
            self._report_failures("train", epoch, progress.failed)
        if stage == sb.Stage.VALID:
            assert epoch is not None
            with self.stopwatch("scoring"):
                rates = score_texts(self.references, self.hypotheses, bootstrap=0).all
            assert rates.wer is not None and rates.cer is not None
            self._report_failures("dev", epoch, self.progress.failed)
            row = {
                "epoch": epoch,
                "lr": self.optimizer.param_groups[0]["lr"],
                "train_loss": self.train_loss,
                "dev_loss": self.progress.loss,
                "dev_wer": rates.wer,
                "dev_cer": rates.cer,
                "seconds": time.monotonic() - self.epoch_start,
            }
            self.history.add(row)
            # The checkpoint first: from it, a run that is killed before it has logged the epoch can still do so.
            with self.stopwatch("checkpointing"):
                self.checkpointer.save_checkpoint(meta={"epoch": epoch, "WER": rates.wer})
                self._keep_what_is_needed()
            with self.stopwatch("logs and curves"):
                self._log_epoch(row)

    def _report_left_out(self, progress: Progress) -> None:
        if not progress.left_out:
            return
        message = (
            f"{len(progress.left_out)} of {progress.utterances} utterances have too few frames for their target: "
            + ", ".join(sorted(progress.left_out))
        )
        if len(progress.left_out) > MAX_LEFT_OUT * progress.utterances:
            raise ValueError(f"{message}; correct them, use larger tokens, or lower the encoder's time_stride.")
        logger.warning(f"{message}; they are left out of the loss.")

    @main_process_only
    def _report_failures(self, name: str, epoch: int | None, failed: Sequence[tuple[str, str]]) -> None:
        """Log utterances that could not be read, and remember them."""
        if failed:
            where = name if epoch is None else f"epoch {epoch}, {name}"
            number = f"{len(failed)} utterance{'s' if len(failed) > 1 else ''}"
            fate = "left out" if name == "train" else "the words count as deletions"
            reasons = _some([reason.rstrip(".") for _, reason in failed], "; ")
            logger.warning(f"{where}: {number} could not be read, {fate}: {reasons}.")
        self.failures = [row for row in self.failures if (row["epoch"], row["set"]) != (epoch, name)]
        self.failures += [{"epoch": epoch, "set": name, "ID": each, "problem": reason} for each, reason in failed]

    def _write_failures(self) -> None:
        path = self.output_folder / FAILURES_NAME
        if self.failures or path.exists():
            text = io.StringIO()
            writer = csv.DictWriter(text, ["epoch", "set", "ID", "problem"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.failures)
            write_atomically(path, text.getvalue())

    @main_process_only
    def _log_epoch(self, row: dict[str, float]) -> None:
        log_epoch(row, self.hparams.train_logger)
        draw_epoch(row, self.hparams.tensorboard_logger)
        self.history.write()
        self._write_failures()
        plot_curves(self.history.rows, self.output_folder / "curves.png", self.output_folder.as_posix())

    @main_process_only
    def _rewrite_logs(self) -> None:
        rows = self.history.rows
        rewrite_log(rows, [], self.hparams.train_logger)
        self.hparams.tensorboard_logger = restart_board(rows, self.hparams.tensorboard_logger)
        self.history.write()
        self._write_failures()

    # Checkpoints

    def _should_save_intra_epoch_ckpt(self, last_ckpt_time: float, steps_since_ckpt: int) -> bool:
        """SpeechBrain's rule, but never between the steps of one accumulation, whose gradients would be lost."""
        if self.step % self.grad_accumulation_factor != 0:
            return False
        return bool(super()._should_save_intra_epoch_ckpt(last_ckpt_time, steps_since_ckpt))

    def _save_intra_epoch_ckpt(self) -> None:
        """Save a checkpoint inside of an epoch, in place of the last such one."""
        with self.stopwatch("checkpointing"):
            self.checkpointer.save_checkpoint(
                meta={"epoch": self.hparams.epoch_counter.current, "step": self.step}, end_of_epoch=False
            )
            self._keep_what_is_needed()

    @main_process_only
    def _keep_what_is_needed(self) -> None:
        """Keep the latest epochs, as many as are averaged at most, the best one, and what is newer than all of them."""
        epochs = self.checkpointer.find_checkpoints(ckpt_predicate=_is_epoch)
        latest = self.checkpointer.find_checkpoints(max_num_checkpoints=1)
        best = self.checkpointer.find_checkpoints(min_key="WER", max_num_checkpoints=1)
        self.checkpointer.keep_only([*epochs[: max(self.hparams.average_checkpoints)], *best, *latest])

    @mark_as_saver
    def _save_state(self, path: Path) -> None:
        """Write what a checkpoint holds besides weights and optimizer."""
        state = {
            "step": self.step,
            "optimizer_step": self.optimizer_step,
            "avg_train_loss": self.avg_train_loss,
            "progress": asdict(self.progress) | {"seconds": time.monotonic() - self.epoch_start},
            "history": self.history.rows,
            "failures": self.failures,
        }
        Path(path).write_text(json.dumps(state), encoding="utf-8")

    @mark_as_loader
    def _load_state(self, path: Path, end_of_epoch: bool) -> None:
        state = json.loads(Path(path).read_text(encoding="utf-8"))
        self.step = state["step"]
        self.optimizer_step = state["optimizer_step"]
        self.avg_train_loss = state["avg_train_loss"]
        self.history.rows = state["history"]
        self.failures = state["failures"]
        progress = Progress(**state["progress"])
        progress.failed = [(name, reason) for name, reason in progress.failed]
        # The counts are the main process's; those of the others are lost with it, and only reports are poorer.
        self.progress = progress if if_main_process() else Progress(order=progress.order)

    def check_targets_fit(self, dataset: Any) -> None:
        """Check before training that targets fit their frames, going by the manifest's durations.

        Raises
        ------
        ValueError
            If more than 1 % do not.
        """
        progress = Progress(utterances=len(dataset))
        for name in dataset.data_ids:
            row = dataset.data[name]
            samples = round(row["duration"] * self.hparams.sample_rate)
            frames = self.model.encoder.output_lengths(self.modules.compute_features.output_lengths(samples))
            if frames < frames_needed(self.tokenizer.encode(row["wrd"])):
                progress.left_out.append(name)
        self._report_left_out(progress)

    # Evaluation

    def on_evaluate_start(self, max_key: str | None = None, min_key: str | None = None) -> None:
        """Keep the weights that :meth:`load_average` chose, rather than load a checkpoint."""

    def choose_average(self, dev: Any, hparams: Mapping[str, Any]) -> None:
        """Load the weights with the lowest WER on dev: the best epoch's, or the average of the last few epochs'.

        Of equals, the average over more epochs wins.

        Raises
        ------
        FileNotFoundError
            If there is no checkpoint.
        """
        latest = self.checkpointer.find_checkpoints(
            ckpt_predicate=_is_epoch, max_num_checkpoints=max(hparams["average_checkpoints"])
        )
        if not latest:
            raise FileNotFoundError(f"{hparams['save_folder']}: no checkpoint of a whole epoch; train first.")
        best = self.checkpointer.find_checkpoint(min_key="WER")
        candidates = {f"best epoch ({best.meta['epoch']})": [best]}
        for count in sorted(set(hparams["average_checkpoints"])):
            if count <= len(latest):
                name = "last epoch" if count == 1 else f"average of last {count} epochs"
                candidates[name] = latest[:count]
        errors = {}
        for name, checkpoints in candidates.items():
            self.load_average(checkpoints)
            score = self.score_dataset(dev, hparams["valid_dataloader_opts"], bootstrap=0)
            logger.info(f"dev, {name}: {score.summary()}")
            errors[name] = score.all.errors
        self.weights = min(reversed(candidates), key=lambda name: errors[name])
        self.load_average(candidates[self.weights])

    def load_average(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Load the average of checkpoints' weights and statistics: of BatchNorm, and of the features where learned."""
        self.model.load_state_dict(average_checkpoints(checkpoints, "model"))
        if self.modules.normalize.state_dict():
            self.modules.normalize.load_state_dict(average_checkpoints(checkpoints, "normalize"))

    def score_dataset(
        self, dataset: Any, loader_options: Mapping[str, Any], bootstrap: int = 1000, name: str | None = None
    ) -> Score:
        """Transcribe a dataset with the present weights and score it; report what could not be read under `name`."""
        self.evaluate(dataset, test_loader_kwargs=dict(loader_options))
        if name is not None:
            self._report_failures(name, None, self.progress.failed)
        with self.stopwatch("scoring"):
            return score_texts(self.references, self.hypotheses, self.speakers, bootstrap=bootstrap)


def _is_epoch(checkpoint: Checkpoint) -> bool:
    """Whether it is of a whole epoch, scored on dev."""
    return "WER" in checkpoint.meta


def _of_all_processes(progress: Progress) -> list[Progress]:
    if not is_distributed_initialized():
        return [progress]
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, progress)
    return gathered


def _some(texts: Sequence[str], separator: str = ", ") -> str:
    """The first few texts, and how many there are more."""
    more = f" and {len(texts) - LISTED} more" if len(texts) > LISTED else ""
    return separator.join(texts[:LISTED]) + more
