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
    """What has happened since the present epoch, or the present pass over an evaluation set, began."""

    correct: int = 0
    """Frames whose most likely state is that of the alignment."""

    @property
    def accuracy(self) -> float:
        """In percent of the frames that have a state."""
        return 100 * self.correct / max(self.tokens, 1)


@dataclass(frozen=True)
class FrameOutput:
    """What the network says of an utterance."""

    id: str
    words: str
    """Its transcript."""
    speaker: str
    seconds: float
    """Of its audio."""
    log_likelihoods: Reals
    """(T', V)."""
    log_probs: Reals
    """(T', V)."""
    vectors: Reals
    """(T', D) what the encoder made of its frames."""


class HybridBrain(UtteranceBrain):
    """Trains and evaluates a :class:`HybridModel`; see :class:`UtteranceBrain`.

    The targets of an utterance are the tied states of its frames, one for each that comes out of the encoder; one
    without targets, because it could not be aligned, is decoded and not learned from. The loss is weighted by state.

    Arguments
    ---------
    model : HybridModel
        With its frequencies set.
    decoder : GraphDecoder, optional
        Finds the words; not needed to align.
    hparams : dict
        What the recipe's YAML file defines.
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
        """Weighted cross-entropy of each utterance, and what it is trained by; all of them fit."""
        log_probs, _ = predictions
        loss, correct = frame_loss(log_probs, tokens, num_tokens, self.model.loss_weights)
        self.progress.correct += correct
        if self.denominator is not None and stage == sb.Stage.TRAIN:
            likelihoods = self.model.log_likelihoods(log_probs)
            mutual = mmi_loss(likelihoods, tokens, num_tokens, self.denominator, self.hparams.mmi_lm_weight)
            loss = mutual + self.hparams.mmi_ce_weight * loss
        return loss, torch.ones_like(num_tokens, dtype=torch.bool)

    def words(self, predictions: Any) -> list[str]:
        """What the decoding graph finds."""
        log_probs, frames = predictions
        assert self.decoder is not None
        likelihoods = self.model.log_likelihoods(log_probs).cpu().numpy()
        return [
            " ".join(self.decoder.decode(each[:count]).words)
            for each, count in zip(likelihoods, frames.tolist(), strict=True)
        ]

    def inspect_training(self, progress: FrameProgress) -> None:
        """Note how many frames were right."""
        self.train_accuracy = progress.accuracy

    def score_epoch(self) -> dict[str, float]:
        """WER and CER on dev, in percent; reports how many frames were right."""
        self.dev_accuracy = self.progress.accuracy
        logger.info(f"frame accuracy: train {self.train_accuracy:.2f} %, dev {self.dev_accuracy:.2f} %")
        return super().score_epoch()

    @torch.no_grad()
    def outputs(self, dataset: Any, loader_options: Mapping[str, Any]) -> Iterator[Any]:
        """What the present weights make of each utterance.

        Arguments
        ---------
        dataset : Dataset
            Of :attr:`examples`.
        loader_options : mapping
            Of its loader.

        Yields
        ------
        FrameOutput or Failure
            The latter for those that cannot be read.
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
        (B, U) state of each frame, padded; U is T or less.
    num_targets : Tensor
        (B,) integer frames that have a state.
    weights : Tensor
        (V,) of the states.

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
    """The states of an utterance that lasts another number of frames, as after speed perturbation.

    Example
    -------
    >>> stretched(np.array([4, 4, 7]), 6).tolist()
    [4, 4, 4, 4, 7, 7]
    """
    return states[(2 * np.arange(frames) + 1) * len(states) // (2 * max(frames, 1))]
