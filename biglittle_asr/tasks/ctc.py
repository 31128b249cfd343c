"""CTC: the loss, and the Brain that trains, evaluates and averages it."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import speechbrain as sb
import torch
from speechbrain.utils.checkpoints import Checkpoint, average_checkpoints, ckpt_recency
from speechbrain.utils.distributed import get_rank, main_process_only
from speechbrain.utils.logger import get_logger
from speechbrain.utils.optimizers import rm_vector_weight_decay
from torch import Tensor, nn

from biglittle_asr.decoding import ctc_greedy
from biglittle_asr.decoding.tokenizer import Tokenizer
from biglittle_asr.inference.packing import MODEL
from biglittle_asr.models import CTCModel
from biglittle_asr.nnet.lengths import valid_mask
from biglittle_asr.scoring import Score, score_texts
from biglittle_asr.tasks.curves import EpochHistory, plot_curves
from biglittle_asr.tasks.data import Datasets, train_loader_options
from biglittle_asr.tasks.model_folder import write_model_folder

logger = get_logger(__name__)

BLANK = 0
MAX_LEFT_OUT = 0.01
"""Largest part of the training utterances that may be left out because their target does not fit their frames."""


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


class CTCBrain(sb.Brain):
    """Trains and evaluates a :class:`CTCModel`.

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
        super().__init__(
            modules={name: module for name, module in modules.items() if module is not None},
            opt_class=hparams["opt_class"],
            hparams=hparams,
            run_opts=run_opts,
            checkpointer=checkpointer,
        )
        self.train_sampler: Any = None
        self.model = model
        self.tokenizer = tokenizer
        self.output_folder = Path(hparams["output_folder"])
        self.history = EpochHistory(self.output_folder / "epochs.csv")

    def fit_datasets(self, datasets: Datasets, hparams: Mapping[str, Any]) -> None:
        """Train, from the last checkpoint if there is one, watching dev.

        Raises
        ------
        ValueError
            If the targets of more than 1 % of the training utterances do not fit their frames, or the loss is not
            finite.
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

    def evaluate_datasets(self, datasets: Datasets, hparams: Mapping[str, Any]) -> dict[str, Score]:
        """Choose the checkpoints to average on dev, then score dev and, unless `skip_test`, test once.

        Writes wer_dev.txt, wer_test.txt, and the model folder with the chosen weights.
        """
        self.choose_average(datasets.dev, hparams)
        scores = {"dev": self.score_dataset(datasets.dev, hparams["valid_dataloader_opts"])}
        if not hparams["skip_test"]:
            scores["test"] = self.score_dataset(datasets.test, hparams["test_dataloader_opts"])
        for name, score in scores.items():
            score.write(self.output_folder / f"wer_{name}.txt")
            logger.info(f"{name}: {score.summary()}")
            self.hparams.train_logger.log_stats(
                {"Evaluated": name, "weights": self.weights},
                test_stats={"WER": score.all.wer, "CER": score.all.cer},
                verbose=False,
            )
        write_model_folder(
            self.output_folder / MODEL,
            (self.modules.compute_features, self.modules.normalize, self.model, self.tokenizer),
            datasets,
            scores,
            hparams["data_folder"],
            self.precision,
            self.weights,
        )
        return scores

    # Forward and loss

    def compute_forward(self, batch: Any, stage: sb.Stage) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, T', V) and frames (B,) of a batch of waveforms."""
        batch = batch.to(self.device)
        features, frames = self.modules.compute_features(batch.sig.data, batch.num_samples.to(self.device))
        features = self.modules.normalize(features, frames)
        if "fea_augment" in self.modules:
            features = self.modules.fea_augment(features, frames)
        return self.modules.model(features, frames)

    def compute_objectives(self, predictions: tuple[Tensor, Tensor], batch: Any, stage: sb.Stage) -> Tensor:
        """Loss in nats per token; outside of training, decodes as well."""
        log_probs, frames = predictions
        num_tokens = batch.num_tokens.to(self.device)
        losses, fits = ctc_loss(log_probs, frames, batch.tokens.data, num_tokens)
        if not bool(fits.all()):
            self.left_out += [name for name, fit in zip(batch.id, fits.tolist(), strict=True) if not fit]
        total, tokens = losses.sum(), num_tokens[fits].sum().clamp(min=1)
        if not bool(torch.isfinite(total)):
            raise NonFiniteLossError(self._not_finite("loss", batch.id))
        self.loss_sum += float(total.detach())
        self.token_sum += int(tokens)
        self.utterances_seen += len(batch)
        if stage != sb.Stage.TRAIN:
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

    def make_dataloader(self, dataset: Any, stage: sb.Stage, **kwargs: Any) -> Any:
        """Remember the training loader, and have its sampler told the epoch: SpeechBrain tells only its own."""
        loader = super().make_dataloader(dataset, stage, **kwargs)
        if stage == sb.Stage.TRAIN:
            self.train_loader = loader
            if self.train_sampler is None:
                self.train_sampler = kwargs.get("batch_sampler")
        return loader

    def on_fit_batch_start(self, batch: Any, should_step: bool) -> None:
        """Set the learning rate from how far the training is."""
        epochs_done = self.hparams.epoch_counter.current - 1 + self.step / len(self.train_loader)
        rate = self.hparams.lr_annealing(min(epochs_done / self.hparams.number_of_epochs, 1.0))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.batch_ids = batch.id

    def optimizers_step(self) -> None:
        """Clip the norm of the whole gradient (SpeechBrain clips the first parameter group only), and step."""
        self.scaler.unscale_(self.optimizer)
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.max_grad_norm)
        if not bool(torch.isfinite(norm)) and not self.scaler.is_enabled():
            raise NonFiniteLossError(self._not_finite("gradient", self.batch_ids))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer_step += 1

    # Stages

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Forget the last stage. Each training epoch has its own seed, so that a resumed run draws the same numbers."""
        self.loss_sum, self.token_sum, self.utterances_seen = 0.0, 0, 0
        self.left_out: list[str] = []
        self.hypotheses: dict[str, str] = {}
        self.references: dict[str, str] = {}
        self.speakers: dict[str, str] = {}
        if stage == sb.Stage.TRAIN:
            torch.manual_seed(self.hparams.seed + 1000 * (epoch or 0) + (get_rank() or 0))
            self.epoch_start = time.monotonic()

    def on_stage_end(self, stage: sb.Stage, stage_loss: float, epoch: int | None = None) -> None:
        """Log an epoch, draw the curves, save a checkpoint."""
        loss = self.loss_sum / max(self.token_sum, 1)
        if stage == sb.Stage.TRAIN:
            self.train_loss = loss
            self._report_left_out()
        if stage == sb.Stage.VALID:
            assert epoch is not None
            rates = score_texts(self.references, self.hypotheses, bootstrap=0).all
            assert rates.wer is not None and rates.cer is not None
            self._log_epoch(
                {
                    "epoch": epoch,
                    "lr": self.optimizer.param_groups[0]["lr"],
                    "train_loss": self.train_loss,
                    "dev_loss": loss,
                    "dev_wer": rates.wer,
                    "dev_cer": rates.cer,
                    "seconds": time.monotonic() - self.epoch_start,
                }
            )
            self._save_epoch(epoch, rates.wer)

    def _report_left_out(self) -> None:
        if not self.left_out:
            return
        message = (
            f"{len(self.left_out)} of {self.utterances_seen} utterances have too few frames for their target: "
            + ", ".join(sorted(self.left_out))
        )
        if len(self.left_out) > MAX_LEFT_OUT * self.utterances_seen:
            raise ValueError(f"{message}; correct them, use larger tokens, or lower the encoder's time_stride.")
        logger.warning(f"{message}; they are left out of the loss.")

    @main_process_only
    def _log_epoch(self, row: dict[str, float]) -> None:
        train_stats = {"loss": row["train_loss"]}
        valid_stats = {"loss": row["dev_loss"], "WER": row["dev_wer"], "CER": row["dev_cer"]}
        meta = {name: row[name] for name in ("epoch", "lr", "seconds")}
        self.hparams.train_logger.log_stats(meta, train_stats, valid_stats)
        # SpeechBrain's logger counts calls; after a resume it would start over at the first epoch.
        before = int(row["epoch"]) - 1
        board = self.hparams.tensorboard_logger
        board.global_step = {
            "train": dict.fromkeys(train_stats, before),
            "valid": dict.fromkeys(valid_stats, before),
            "test": {},
            "meta": before,
        }
        board.log_stats({"lr": row["lr"], "seconds": row["seconds"]}, train_stats, valid_stats)
        self.history.add(row)
        plot_curves(self.history.rows, self.output_folder / "curves.png", self.output_folder.as_posix())

    def _save_epoch(self, epoch: int, wer: float) -> None:
        """Save the epoch; keep the latest, as many as are averaged at most, and the best."""
        self.checkpointer.save_checkpoint(meta={"epoch": epoch, "WER": wer})
        best = self.checkpointer.find_checkpoint(min_key="WER")
        self.checkpointer.delete_checkpoints(
            num_to_keep=max(self.hparams.average_checkpoints),
            importance_keys=[ckpt_recency],
            ckpt_predicate=lambda checkpoint: checkpoint.path != best.path,
        )

    def check_targets_fit(self, dataset: Any) -> None:
        """Check before training that targets fit their frames, going by the manifest's durations.

        Raises
        ------
        ValueError
            If more than 1 % do not.
        """
        self.left_out, self.utterances_seen = [], len(dataset)
        for name in dataset.data_ids:
            row = dataset.data[name]
            samples = round(row["duration"] * self.hparams.sample_rate)
            frames = self.model.encoder.output_lengths(self.modules.compute_features.output_lengths(samples))
            if frames < frames_needed(self.tokenizer.encode(row["wrd"])):
                self.left_out.append(name)
        self._report_left_out()

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
            ckpt_predicate=lambda checkpoint: "WER" in checkpoint.meta,
            max_num_checkpoints=max(hparams["average_checkpoints"]),
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

    def score_dataset(self, dataset: Any, loader_options: Mapping[str, Any], bootstrap: int = 1000) -> Score:
        """Transcribe a dataset with the present weights and score it."""
        self.evaluate(dataset, test_loader_kwargs=dict(loader_options))
        return score_texts(self.references, self.hypotheses, self.speakers, bootstrap=bootstrap)
