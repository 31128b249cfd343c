"""The Brain of a hybrid system: frame cross-entropy on whole utterances, decoded through a graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import speechbrain as sb
import torch
from speechbrain.utils.logger import get_logger
from torch import Tensor, nn

from biglittle_asr.decoding.hmm.search import GraphDecoder
from biglittle_asr.decoding.hmm.tying import Reals
from biglittle_asr.models import HybridModel
from biglittle_asr.nnet.lengths import valid_mask
from biglittle_asr.tasks.hybrid.mmi import Denominator, mmi_loss
from biglittle_asr.tasks.speech.brain import UtteranceBrain, UtteranceProgress

logger = get_logger(__name__)


@dataclass
class FrameProgress(UtteranceProgress):
    """Counts since the start of the current epoch, or of the current pass over an evaluation set."""

    correct: int = 0
    """Frames whose most likely state is the aligned one."""

    @property
    def accuracy(self) -> float:
        """Frame accuracy, in percent of the frames that have a state."""
        return 100 * self.correct / max(self.tokens, 1)


@dataclass(frozen=True)
class FrameOutput:
    """The network's outputs for an utterance."""

    id: str
    words: str
    """Its transcript."""
    speaker: str
    seconds: float
    """Seconds of audio."""
    log_likelihoods: Reals
    """(T', V)."""
    log_probs: Reals
    """(T', V)."""
    vectors: Reals
    """(T', D) outputs of the encoder."""


class HybridBrain(UtteranceBrain):
    """Trains and evaluates a :class:`HybridModel`; see :class:`UtteranceBrain`.

    The targets of an utterance are the tied states of its frames, one per output frame of the encoder. An utterance
    that could not be aligned has no targets; it is decoded, but not trained on. The loss is weighted by state.

    Arguments
    ---------
    model : HybridModel
        The model, with its frequencies set.
    decoder : GraphDecoder, optional
        Finds the words; not needed for alignment.
    hparams : dict
        The values that the recipe's YAML file defines.
    run_opts : speechbrain.RunOptions or dict
        Command line options.
    denominator : Denominator, optional
        Train by maximum mutual information, with `mmi_ce_weight` times the cross-entropy.
    """

    loss_name: ClassVar[str] = "weighted cross-entropy (nats per frame)"
    progress_type = FrameProgress
    progress: FrameProgress
    model: HybridModel

    def __init__(
        self,
        model: HybridModel,
        decoder: GraphDecoder | None,
        hparams: dict[str, Any],
        run_opts: Any = None,
        denominator: Denominator | None = None,
    ) -> None:
        super().__init__(model, hparams, run_opts)
        self.decoder = decoder
        self.denominator = denominator
        self.train_accuracy = self.dev_accuracy = float("nan")

    def forward_model(self, features: Tensor, frames: Tensor, tokens: Tensor, num_tokens: Tensor) -> Any:
        """Log-probabilities (B, T', V), and (B,) integer frames."""
        return self.modules.model(features, frames)

    def losses(self, predictions: Any, tokens: Tensor, num_tokens: Tensor, stage: sb.Stage) -> tuple[Tensor, Tensor]:
        """Weighted cross-entropy of each utterance, or the MMI loss in training; every target fits."""
        log_probs, _ = predictions
        loss, correct = frame_loss(log_probs, tokens, num_tokens, self.model.loss_weights)
        self.progress.correct += correct
        if self.denominator is not None and stage == sb.Stage.TRAIN:
            likelihoods = self.model.log_likelihoods(log_probs)
            mutual = mmi_loss(likelihoods, tokens, num_tokens, self.denominator, self.hparams.mmi_lm_weight)
            loss = mutual + self.hparams.mmi_ce_weight * loss
        return loss, torch.ones_like(num_tokens, dtype=torch.bool)

    def words(self, predictions: Any) -> list[str]:
        """The words that the decoding graph finds."""
        log_probs, frames = predictions
        assert self.decoder is not None
        likelihoods = self.model.log_likelihoods(log_probs).cpu().numpy()
        return [
            " ".join(self.decoder.decode(each[:count]).words)
            for each, count in zip(likelihoods, frames.tolist(), strict=True)
        ]

    def inspect_training(self, progress: FrameProgress) -> None:
        """Record the training set's frame accuracy."""
        self.train_accuracy = progress.accuracy

    def score_epoch(self) -> dict[str, float]:
        """WER and CER on dev, in percent; also logs the frame accuracy."""
        self.dev_accuracy = self.progress.accuracy
        logger.info(f"frame accuracy: train {self.train_accuracy:.2f} %, dev {self.dev_accuracy:.2f} %")
        return super().score_epoch()

    @torch.no_grad()
    def outputs(self, dataset: Any, loader_options: Mapping[str, Any]) -> Iterator[Any]:
        """Compute the network's outputs for each utterance with the current weights.

        Arguments
        ---------
        dataset : Dataset
            Its examples are :attr:`examples`.
        loader_options : mapping
            Options of its loader.

        Yields
        ------
        FrameOutput or Failure
            A failure for each utterance that cannot be read.
        """
        self.modules.eval()
        for batch in self.make_dataloader(dataset, sb.Stage.TEST, **loader_options):
            yield from batch.failures
            if batch.examples is None:
                continue
            examples = batch.examples.to(self.device)
            features, frames = self.extract_features(examples.sig.data, examples.num_samples.to(self.device))
            log_probs, vectors, frames = self.model.posteriors(features, frames)
            likelihoods = self.model.log_likelihoods(log_probs)
            arrays = [each.float().cpu().numpy() for each in (likelihoods, log_probs, vectors)]
            for row, count in enumerate(frames.tolist()):
                yield FrameOutput(
                    examples.id[row],
                    examples.wrd[row],
                    examples.spk_id[row],
                    float(examples.num_samples[row]) / self.hparams.sample_rate,
                    *(each[row, :count] for each in arrays),
                )


def frame_loss(log_probs: Tensor, targets: Tensor, num_targets: Tensor, weights: Tensor) -> tuple[Tensor, int]:
    """Cross-entropy of each utterance, summed over its frames.

    Arguments
    ---------
    log_probs : Tensor
        (B, T, V).
    targets : Tensor
        (B, U) state of each frame, padded; U is at most T.
    num_targets : Tensor
        (B,) integer frames that have a state.
    weights : Tensor
        (V,) weights of the states.

    Returns
    -------
    losses : Tensor
        (B,) in nats.
    correct : int
        Frames whose most likely state is the target.

    Example
    -------
    >>> log_probs = torch.tensor([[[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]]]).log()
    >>> losses, correct = frame_loss(log_probs, torch.tensor([[0, 1]]), torch.tensor([2]), torch.tensor([1.0, 2.0]))
    >>> round(losses.item(), 4), correct
    (5.2983, 1)
    """
    valid = valid_mask(num_targets, targets.shape[1])
    log_probs = log_probs[:, : targets.shape[1]]
    nats = nn.functional.nll_loss(log_probs.transpose(1, 2), targets, weights, reduction="none")
    correct = (log_probs.argmax(2) == targets) & valid
    return nats.masked_fill(~valid, 0.0).sum(1), int(correct.sum())


def stretched(states: np.ndarray, frames: int) -> np.ndarray:
    """Stretch an utterance's states to another number of frames, as after speed perturbation.

    Example
    -------
    >>> stretched(np.array([4, 4, 7]), 6).tolist()
    [4, 4, 4, 4, 7, 7]
    """
    return states[(2 * np.arange(frames) + 1) * len(states) // (2 * max(frames, 1))]
