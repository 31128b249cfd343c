"""CTC: the loss, and the Brain that trains, evaluates and averages it."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, ClassVar

import speechbrain as sb
import torch
from speechbrain.utils.checkpoints import Checkpoint, average_checkpoints
from speechbrain.utils.distributed import main_process_only
from speechbrain.utils.logger import get_logger
from speechbrain.utils.optimizers import rm_vector_weight_decay
from torch import Tensor, nn

from biglittle_asr.decoding import ctc_greedy
from biglittle_asr.decoding.tokenizer import Tokenizer
from biglittle_asr.inference.packing import MODEL
from biglittle_asr.models import CTCModel
from biglittle_asr.nnet.lengths import valid_mask
from biglittle_asr.nnet.sparse import freeze
from biglittle_asr.scoring import Score, score_texts
from biglittle_asr.tasks.brain import Batch, NonFiniteLossError, ResumableBrain
from biglittle_asr.tasks.brain import Progress as BrainProgress
from biglittle_asr.tasks.curves import Curves
from biglittle_asr.tasks.data import Datasets, Utterances, collate, train_loader_options
from biglittle_asr.tasks.logs import rewrite_log
from biglittle_asr.tasks.model_folder import write_model_folder
from biglittle_asr.tasks.recipe import make_sparse

logger = get_logger(__name__)

BLANK = 0
FRAMES_MULTIPLE = 32
"""Frames of a training batch on a CPU are padded to a multiple of this: at worst 3 % more to compute in a batch of 10 s
utterances."""

MAX_LEFT_OUT = 0.01
"""Largest part of the training utterances that may be left out because their target does not fit their frames."""

CURVES = Curves("CTC loss (nats per token)", {"dev_wer": "dev WER", "dev_cer": "dev CER"})


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
class Progress(BrainProgress):
    """What has happened since the present epoch, or the present pass over an evaluation set, began."""

    loss_sum: float = 0.0
    """Nats, of all utterances."""
    tokens: int = 0
    utterances: int = 0
    left_out: list[str] = field(default_factory=list)
    """Utterances whose target does not fit their frames."""

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.loss_sum / max(self.tokens, 1)


class CTCBrain(ResumableBrain):
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

    examples: ClassVar[str] = "utterances"
    error: ClassVar[str] = "WER"
    fate: ClassVar[str] = "the words count as deletions"
    progress_type = Progress
    progress: Progress
    model: CTCModel

    def __init__(self, model: CTCModel, tokenizer: Tokenizer, hparams: dict[str, Any], run_opts: Any = None) -> None:
        make_sparse(model, hparams)
        normalize = hparams["modules"]["normalize"]
        if normalize.state_dict():
            hparams["checkpointer"].add_recoverable("normalize", normalize)
        super().__init__(model, hparams["modules"], CURVES, hparams, run_opts)
        self.tokenizer = tokenizer

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
        self.report_lost()

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
            (self.modules.compute_features, self.modules.normalize, freeze(deepcopy(self.model)), self.tokenizer),
            datasets,
            scores,
            hparams["data_folder"],
            self.precision,
            self.weights,
        )
        self.show_profile()
        return scores

    @main_process_only
    def _write_scores(self, scores: Mapping[str, Score]) -> None:
        evaluations = []
        for name, score in scores.items():
            score.write(self.output_folder / f"wer_{name}.txt")
            logger.info(f"{name}: {score.summary()}")
            evaluations.append({"Evaluated": name, "weights": self.weights, "WER": score.all.wer, "CER": score.all.cer})
        rewrite_log(self.history.rows, evaluations, self.hparams.train_logger)
        self.write_failures()

    # Forward and loss

    def read(self, dataset: Any) -> Any:
        """Utterances, their batches, and their IDs."""
        return Utterances(dataset, self.hparams.seed), collate, dataset.data_ids

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
        if self.model.training and features.device.type == "cpu":
            # Padding changes nothing but the number of shapes, each of which oneDNN compiles anew.
            features = nn.functional.pad(features, (0, 0, 0, -features.shape[1] % FRAMES_MULTIPLE))
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
                raise NonFiniteLossError(self.not_finite("loss", batch.id))
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

    def forward_nothing(self) -> Tensor:
        """Log-probabilities of a second of silence."""
        rate = self.hparams.sample_rate
        log_probs, _ = self._log_probs(
            torch.zeros(1, rate, device=self.device), torch.tensor([rate], device=self.device)
        )
        return log_probs

    # Optimization

    def init_optimizers(self) -> None:
        """Weight decay on matrices only: norms and biases have no reason to be near zero."""
        self.optimizer = self.opt_class(rm_vector_weight_decay(self.modules))
        self.optimizers_dict = {"opt_class": self.optimizer}
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("optimizer", self.optimizer)

    def evaluate_batch(self, batch: Batch, stage: sb.Stage) -> Tensor:
        """Evaluate what could be read of a batch; the words of the rest count as deletions."""
        for failure in batch.failures:
            self.hypotheses[failure.id] = ""
            self.references[failure.id] = failure.words
            self.speakers[failure.id] = failure.speaker
        return super().evaluate_batch(batch, stage)

    # Stages

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Forget the last stage, unless a checkpoint inside this one was loaded."""
        self.hypotheses: dict[str, str] = {}
        self.references: dict[str, str] = {}
        self.speakers: dict[str, str] = {}
        super().on_stage_start(stage, epoch)

    def score_epoch(self) -> dict[str, float]:
        """WER and CER on dev, in percent."""
        rates = score_texts(self.references, self.hypotheses, bootstrap=0).all
        assert rates.wer is not None and rates.cer is not None
        return {"dev_wer": rates.wer, "dev_cer": rates.cer, self.error: rates.wer}

    def inspect_training(self, progress: Progress) -> None:
        """Report targets that did not fit their frames."""
        self._report_left_out(progress)

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

    def choose_average(self, dev: Any, hparams: Mapping[str, Any]) -> None:
        """Load the weights with the lowest WER on dev: the best epoch's, or the average of the last few epochs'.

        Of equals, the average over more epochs wins.

        Raises
        ------
        FileNotFoundError
            If there is no checkpoint.
        """
        latest = self.find_epochs()[: max(hparams["average_checkpoints"])]
        if not latest:
            raise FileNotFoundError(f"{hparams['save_folder']}: no checkpoint of a whole epoch; train first.")
        best = self.checkpointer.find_checkpoint(min_key=self.error)
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
            self.report_failures(name, None, self.progress.failed)
        with self.stopwatch("scoring"):
            return score_texts(self.references, self.hypotheses, self.speakers, bootstrap=bootstrap)
