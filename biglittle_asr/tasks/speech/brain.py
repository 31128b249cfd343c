"""The base of the speech tasks' Brains: features, loss, quick scores and averages; token targets."""

import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import speechbrain as sb
import torch
from speechbrain.utils.checkpoints import Checkpoint, average_checkpoints
from speechbrain.utils.distributed import main_process_only
from speechbrain.utils.logger import get_logger
from speechbrain.utils.optimizers import rm_vector_weight_decay
from torch import Tensor, nn

from biglittle_asr.decoding import DecodingSettings
from biglittle_asr.inference import Recognizer
from biglittle_asr.inference.folder.config import check_types
from biglittle_asr.inference.folder.kinds import ForeignPartError, kind_of
from biglittle_asr.models import BigLittleEncoder
from biglittle_asr.nnet.lengths import valid_mask
from biglittle_asr.nnet.sparse import freeze
from biglittle_asr.recipe.network import make_sparse
from biglittle_asr.scoring import Score, score_texts
from biglittle_asr.tasks.engine.batches import gather, mean_over_processes
from biglittle_asr.tasks.engine.brain import Batch, NonFiniteLossError, Progress, ResumableBrain
from biglittle_asr.tasks.engine.curves import Curves
from biglittle_asr.tasks.engine.logs import rewrite_log
from biglittle_asr.tasks.speech.data import Datasets, Utterances, collate, train_loader_options
from biglittle_asr.tokens.tokenizer import BLANK, Tokenizer

logger = get_logger(__name__)

FRAMES_MULTIPLE = 32
"""On a CPU, the frames of a training batch are padded to a multiple of this: at most 3 % more to compute in a batch of
10 s utterances."""

MAX_LEFT_OUT = 0.01
"""Largest part of the training utterances that may be left out because their target does not fit their frames."""

START = "before training"
"""Name of weights that no training here has changed."""

RATES = {"dev_wer": "dev WER", "dev_cer": "dev CER"}
"""Curves of each epoch, besides the loss."""


@dataclass
class UtteranceProgress(Progress):
    """Counts since the start of the current epoch, or of the current pass over an evaluation set."""

    loss_sum: float = 0.0
    """Nats, summed over all utterances."""
    tokens: int = 0
    utterances: int = 0
    left_out: list[str] = field(default_factory=list)
    """Utterances whose target does not fit their frames."""

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.loss_sum / max(self.tokens, 1)


class UtteranceBrain(ResumableBrain):
    """Trains a model of utterances, for any kind of targets, and computes the WER on dev after each epoch.

    The loss is the sum of the negative log-likelihoods of a batch, divided by the number of its targets. So every
    target of a batch has the same weight, and neither batches of short utterances nor those of long ones dominate an
    epoch.

    A task defines the call of its model (:meth:`forward_model`), the loss of an utterance (:meth:`losses`), and a quick
    transcription for use during training (:meth:`words`). The final scores are those of a recognizer, see
    :func:`~biglittle_asr.tasks.speech.evaluation.evaluate_recipe`.

    Arguments
    ---------
    model : nn.Module
        The model to train; has an `encoder`.
    hparams : dict
        The values that the recipe's YAML file defines.
    run_opts : speechbrain.RunOptions or dict
        Command line options.
    """

    examples: ClassVar[str] = "utterances"
    error: ClassVar[str] = "WER"
    fate: ClassVar[str] = "the words count as deletions"
    loss_name: ClassVar[str]
    """Name of the loss in the plot of the training."""
    decoding_settings: DecodingSettings | None = None
    """Settings of the search for the final scores, if it differs from the quick one."""
    decoding: str = ""
    """A description of that search, for the model card."""
    progress_type = UtteranceProgress
    progress: UtteranceProgress
    model: Any

    def __init__(self, model: Any, hparams: dict[str, Any], run_opts: Any = None) -> None:
        # The final scores need a recognizer, so a model that cannot have one is refused before the training.
        kind_of(model)
        make_sparse(model, hparams)
        normalize = hparams["modules"]["normalize"]
        if normalize.state_dict():
            hparams["checkpointer"].add_recoverable("normalize", normalize)
        super().__init__(model, hparams["modules"], Curves(self.loss_name, RATES), hparams, run_opts)

    # To be defined by a task

    @abstractmethod
    def forward_model(self, features: Tensor, frames: Tensor, tokens: Tensor, num_tokens: Tensor) -> Any:
        """The model's predictions for features (B, T, F) with (B,) integer frames, and targets (B, U) with (B,) tokens.

        The methods below receive the returned value. The call must go through `self.modules.model`, which is
        synchronized over processes, and not through `self.model`.
        """

    @abstractmethod
    def losses(self, predictions: Any, tokens: Tensor, num_tokens: Tensor, stage: sb.Stage) -> tuple[Tensor, Tensor]:
        """Loss in nats of each utterance whose target fits its frames, and a mask (B,) bool of these utterances."""

    @abstractmethod
    def words(self, predictions: Any) -> list[str]:
        """Transcribe each utterance, by a search that is fast enough for every epoch."""

    def views(self, stage: sb.Stage) -> int:
        """Number of independently augmented views per utterance; a batch has all first views, then all second ones."""
        return 1

    def penalty(self, predictions: Any) -> Tensor | None:
        """A term that training adds to the sum of the losses."""
        return None

    def describe_inputs(self, hparams: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Features and their normalization."""
        modules = {name: hparams["modules"][name] for name in ("compute_features", "normalize")}
        return {
            **{name: describe_module(module) for name, module in modules.items()},
            "audio": {"sample_rate": hparams["sample_rate"]},
        }

    # Training and evaluation

    def fit_datasets(self, datasets: Datasets, hparams: Mapping[str, Any]) -> None:
        """Train, and evaluate dev after each epoch, see :meth:`fit_epochs`; `hparams` gives the loaders' options."""
        if not self.test_only:
            try:
                check_types(self.modules.compute_features, self.modules.normalize, self.model)
            except ForeignPartError as error:
                logger.warning(f"The training will end without a model folder: {error}")
            options = train_loader_options(datasets.train, hparams)
            self.fit_epochs(datasets.train, datasets.dev, options, hparams["valid_dataloader_opts"])

    @main_process_only
    def log_scores(self, scores: Mapping[str, Score]) -> None:
        """Add final scores to train_log.txt, and write the list of unreadable files.

        Arguments
        ---------
        scores : mapping from "dev", "test" to Score
        """
        evaluations = [
            {"Evaluated": name, "weights": self.weights, "WER": score.all.wer, "CER": score.all.cer}
            for name, score in scores.items()
        ]
        rewrite_log(self.history.rows, evaluations, self.hparams.train_logger)
        self.failures.write()

    # Forward and loss

    def read(self, dataset: Any) -> Any:
        """Utterances, their batches, and their IDs."""
        return Utterances(dataset, self.hparams.seed), collate, dataset.data_ids

    def compute_forward(self, batch: Any, stage: sb.Stage) -> Any:
        """The model's predictions for a batch of waveforms."""
        batch = batch.to(self.device)
        views = self.views(stage)
        features, frames = self.extract_features(batch.sig.data, batch.num_samples.to(self.device), views)
        with self.stopwatch("encoder"):
            return self.forward_model(features, frames, *self._targets(batch, views))

    def extract_features(self, wav: Tensor, num_samples: Tensor, views: int = 1) -> tuple[Tensor, Tensor]:
        """Features (views * B, T, F) and frames (views * B,); each view of an utterance is augmented independently."""
        with self.stopwatch("features"):
            features, frames = self.modules.compute_features(wav, num_samples)
            features = self.modules.normalize(features, frames)
        features, frames = features.repeat(views, 1, 1), frames.repeat(views)
        if "fea_augment" in self.modules:
            with self.stopwatch("augmentation"):
                features = self.modules.fea_augment(features, frames)
        if self.model.training and features.device.type == "cpu" and isinstance(self.model.encoder, BigLittleEncoder):
            # Padding does not change the outputs of these encoders. It reduces the number of shapes, each of which
            # oneDNN compiles separately.
            features = nn.functional.pad(features, (0, 0, 0, -features.shape[1] % FRAMES_MULTIPLE))
        return features, frames

    def _targets(self, batch: Any, views: int) -> tuple[Tensor, Tensor]:
        return batch.tokens.data.to(self.device).repeat(views, 1), batch.num_tokens.to(self.device).repeat(views)

    def compute_objectives(self, predictions: Any, batch: Any, stage: sb.Stage) -> Tensor:
        """Loss in nats per target; evaluation also transcribes."""
        with self.stopwatch("loss"):
            tokens, num_tokens = self._targets(batch, self.views(stage))
            losses, fits = self.losses(predictions, tokens, num_tokens, stage)
            total, count = losses.sum(), num_tokens[fits].sum()
            if not bool(torch.isfinite(total)):
                raise NonFiniteLossError(self.not_finite("loss", batch.id))
            self.progress.left_out += [
                name for name, fit in zip(batch.id, fits[: len(batch)].tolist(), strict=True) if not fit
            ]
            self.progress.loss_sum += float(total.detach())
            self.progress.tokens += int(count)
            self.progress.utterances += len(batch)
            penalty = self.penalty(predictions) if stage == sb.Stage.TRAIN else None
            if penalty is not None:
                total = total + penalty
            if stage == sb.Stage.TRAIN:
                count = mean_over_processes(count)
        if stage != sb.Stage.TRAIN:
            with self.stopwatch("decoding"):
                self.hypotheses.update(zip(batch.id, self.words(predictions), strict=True))
            self.references.update(zip(batch.id, batch.wrd, strict=True))
            self.speakers.update(zip(batch.id, batch.spk_id, strict=True))
        return (total / count.clamp(min=1)).to(total.dtype)

    def forward_nothing(self) -> Tensor:
        """The sum of all predictions for one second of silence with one token."""
        rate = self.hparams.sample_rate
        wav, num_samples = torch.zeros(1, rate, device=self.device), torch.tensor([rate], device=self.device)
        one = torch.ones(1, dtype=torch.long, device=self.device)
        predictions = self.forward_model(*self.extract_features(wav, num_samples), one.unsqueeze(0), one)
        return torch.stack([each.sum() for each in predictions if each.requires_grad]).sum()

    # Optimization

    def init_optimizers(self) -> None:
        """Use weight decay on matrices only: norms and biases have no reason to be near zero."""
        self.optimizer = self.opt_class(rm_vector_weight_decay(self.modules))
        self.optimizers_dict = {"opt_class": self.optimizer}
        if self.checkpointer is not None:
            self.checkpointer.add_recoverable("optimizer", self.optimizer)

    def evaluate_batch(self, batch: Batch, stage: sb.Stage) -> Tensor:
        """Evaluate the readable part of a batch; the words of the rest count as deletions."""
        for failure in batch.failures:
            self.hypotheses[failure.id] = ""
            self.references[failure.id] = failure.words
            self.speakers[failure.id] = failure.speaker
        return super().evaluate_batch(batch, stage)

    # Stages

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Reset the transcripts and counts, unless a checkpoint inside this stage was loaded."""
        self.hypotheses: dict[str, str] = {}
        self.references: dict[str, str] = {}
        self.speakers: dict[str, str] = {}
        super().on_stage_start(stage, epoch)

    def on_stage_end(self, stage: sb.Stage, stage_loss: float, epoch: int | None = None) -> None:
        """Collect the transcripts of all processes, and report."""
        if stage != sb.Stage.TRAIN:
            for texts in (self.hypotheses, self.references, self.speakers):
                merged = {name: text for part in gather(texts) for name, text in part.items()}
                texts.clear()
                texts.update((name, merged[name]) for name in self.evaluated_names if name in merged)
        super().on_stage_end(stage, stage_loss, epoch)

    def score_epoch(self) -> dict[str, float]:
        """WER and CER on dev, in percent."""
        rates = score_texts(self.references, self.hypotheses, bootstrap=0).all
        assert rates.wer is not None and rates.cer is not None
        return {"dev_wer": rates.wer, "dev_cer": rates.cer, self.error: rates.wer}

    # Evaluation

    def choose_average(self, dev: Any, hparams: Mapping[str, Any]) -> None:
        """Load the weights with the lowest WER on dev: the best epoch's, or the average of the last few epochs'.

        Among equals, the average over more epochs wins. The initial weights of a training are never averaged with
        others.

        Raises
        ------
        FileNotFoundError
            If there is no checkpoint.
        """
        best = self.checkpointer.find_checkpoint(min_key=self.error)
        if best is None:
            raise FileNotFoundError(f"{hparams['save_folder']}: no checkpoint of a whole epoch; train first.")
        latest = [checkpoint for checkpoint in self.find_epochs() if checkpoint.meta["epoch"] > 0]
        candidates = {f"best epoch ({best.meta['epoch']})" if best.meta["epoch"] > 0 else START: [best]}
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
        """Load the average of checkpoints' weights and statistics (of BatchNorm, and of features if learned)."""
        self.model.load_state_dict(average_checkpoints(checkpoints, "model"))
        if self.modules.normalize.state_dict():
            self.modules.normalize.load_state_dict(average_checkpoints(checkpoints, "normalize"))

    def score_dataset(self, dataset: Any, loader_options: Mapping[str, Any], bootstrap: int = 1000) -> Score:
        """Transcribe a dataset by the quick search with the current weights, and score it."""
        self.evaluate(dataset, test_loader_kwargs=dict(loader_options))
        with self.stopwatch("scoring"):
            return score_texts(self.references, self.hypotheses, self.speakers, bootstrap=bootstrap)


class RecognitionBrain(UtteranceBrain):
    """Trains a model whose targets are tokens; see :class:`UtteranceBrain`.

    A task also defines the number of frames that a target needs (:meth:`frames_needed`), and its recognized tokens
    (:meth:`decode`).

    Arguments
    ---------
    model : nn.Module
        The model to train; has an `encoder`.
    tokenizer : Tokenizer
        The targets' tokenizer.
    hparams : dict
        The values that the recipe's YAML file defines.
    run_opts : speechbrain.RunOptions or dict
        Command line options.
    """

    search_settings: Any = None
    """Settings of the model folder's search."""

    def __init__(self, model: Any, tokenizer: Tokenizer, hparams: dict[str, Any], run_opts: Any = None) -> None:
        super().__init__(model, hparams, run_opts)
        self.tokenizer = tokenizer
        self.score_start: Callable[[], Score] | None = None
        """Scores the initial weights on dev, if they are those of a trained model."""

    @abstractmethod
    def frames_needed(self, tokens: Sequence[int]) -> int:
        """Fewest output frames of the encoder for which the loss of these tokens is finite."""

    @abstractmethod
    def decode(self, predictions: Any) -> list[list[int]]:
        """Tokens of each utterance, by a search that is fast enough for every epoch."""

    def words(self, predictions: Any) -> list[str]:
        """Transcripts that the decoded tokens spell."""
        return [self.tokenizer.decode(ids) for ids in self.decode(predictions)]

    def fit_datasets(self, datasets: Datasets, hparams: Mapping[str, Any], is_trained: bool = False) -> None:
        """Train, and evaluate dev after each epoch, see :meth:`fit_epochs`.

        Arguments
        ---------
        datasets : Datasets
        hparams : mapping
            The values that the recipe's YAML file defines.
        is_trained : bool
            Whether the weights are those of a trained model. If so, they are scored on dev and saved as the checkpoint
            of epoch 0: an interrupted training can resume from it, and it is the best one if no epoch is better.

        Raises
        ------
        ValueError
            If the targets of more than 1 % of the training utterances do not fit their frames, more than 1 % cannot be
            read, or the loss is not finite.
        """
        if not self.test_only:
            self.check_targets_fit(datasets.train)
        if is_trained:
            options = hparams["valid_dataloader_opts"]
            self.score_start = partial(self.score_dataset, datasets.dev, options, bootstrap=0)
        super().fit_datasets(datasets, hparams)

    def on_fit_start(self) -> None:
        """Load the last checkpoint, or save the first one if the weights are those of a trained model."""
        super().on_fit_start()
        if self.score_start is not None:
            score = self.score_start()
            logger.info(f"dev, {START}: {score.summary()}")
            # Done here because the optimizer, which is part of every checkpoint, exists only now.
            self.checkpointer.save_checkpoint(meta={"epoch": 0, self.error: score.all.wer})

    def inspect_training(self, progress: UtteranceProgress) -> None:
        """Report targets that do not fit their frames."""
        self._report_left_out(progress)

    def _report_left_out(self, progress: UtteranceProgress) -> None:
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
        """Check before training that targets fit their frames, by the durations in the manifest.

        Raises
        ------
        ValueError
            If more than 1 % do not.
        """
        progress = UtteranceProgress(utterances=len(dataset))
        for name in dataset.data_ids:
            row = dataset.data[name]
            samples = round(row["duration"] * self.hparams.sample_rate)
            frames = self.model.encoder.output_lengths(self.modules.compute_features.output_lengths(samples))
            if frames < self.frames_needed(self.tokenizer.encode(row["wrd"])):
                progress.left_out.append(name)
        self._report_left_out(progress)

    def recognizer(self) -> Recognizer:
        """Make a recognizer with a copy of the current weights; sparse ones are frozen."""
        front_end = self.modules.compute_features, self.modules.normalize
        return Recognizer(*front_end, freeze(deepcopy(self.model)), self.tokenizer, self.search_settings)


def describe_module(module: nn.Module) -> dict[str, Any]:
    """Describe a module: its `config`, or the arguments of it and its parts that are numbers or text.

    Example
    -------
    >>> describe_module(nn.Sequential(nn.Dropout(0.5)))
    {'class': 'Sequential', '0.p': 0.5, '0.inplace': False}
    """
    settings: dict[str, Any] = {"class": type(module).__name__}
    if isinstance(getattr(module, "config", None), Mapping):
        return settings | dict(module.config)  # type: ignore[arg-type]
    for name, part in module.named_modules():
        for argument in inspect.signature(type(part).__init__).parameters:
            value = getattr(part, argument, None)
            if isinstance(value, bool | int | float | str):
                settings[f"{name}.{argument}".lstrip(".")] = value
    return settings


def check_tokens(tokens: Tensor, num_tokens: Tensor, output_neurons: int) -> None:
    """Check that the output layer has every token of the targets (B, U); otherwise losses would be finite and wrong.

    Raises
    ------
    ValueError
        If a token is missing. Padding after an utterance's end is not checked.
    """
    valid = valid_mask(num_tokens, tokens.shape[1])
    largest = int(tokens.masked_fill(~valid, BLANK).max()) if tokens.numel() else BLANK
    if largest >= output_neurons:
        raise ValueError(
            f"token {largest} does not exist in an output layer of {output_neurons}: "
            "tokenizer and output_neurons disagree."
        )
