"""The hybrid model: an encoder whose output layer tells states of hidden Markov models apart, and their priors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from biglittle_asr.models.ctc import CTCModel
from biglittle_asr.models.encoder import BigLittleEncoder


class HybridModel(CTCModel):
    """Encoder, dropout, and an output layer of tied HMM states, with their priors.

    A state that is seen in the part f of the frames has the loss weight f^(gamma - 1): trained so, the network says
    what it would have said of frames in which each state is seen in proportion to f^gamma. These are the priors that
    its posteriors are divided by. gamma = 1 weighs all frames alike; less gives rare states more of a say, as drawing
    frames in proportion to f^gamma would, which cannot be done with whole utterances.

    Arguments
    ---------
    encoder : BigLittleEncoder
        Or any module with `output_size`, `output_lengths` and `encode`.
    output_neurons : int
        Tied states V.
    dropout : float
        Before the output layer.
    search_graph : nn.Module, optional
        What words are found with, which a model folder holds as a part of the model.

    Attributes
    ----------
    log_prior : Tensor
        (V,) natural logarithms, zero until :meth:`set_frequencies`.
    loss_weights : Tensor
        (V,) one until then.

    Example
    -------
    >>> from biglittle_asr.models import create_encoder
    >>> model = HybridModel(create_encoder("bl_resnet22_half", time_stride=1), output_neurons=3)
    >>> model.set_frequencies(torch.tensor([100, 50, 50]), balance=0.5)
    >>> model.log_prior.exp(), model.loss_weights
    (tensor([0.4142, 0.2929, 0.2929]), tensor([0.8284, 1.1716, 1.1716]))
    """

    log_prior: Tensor
    loss_weights: Tensor

    def __init__(
        self,
        encoder: BigLittleEncoder,
        output_neurons: int,
        dropout: float = 0.0,
        search_graph: nn.Module | None = None,
    ) -> None:
        super().__init__(encoder, output_neurons, dropout)
        self.register_buffer("log_prior", torch.zeros(output_neurons))
        self.register_buffer("loss_weights", torch.ones(output_neurons))
        self.search_graph = search_graph

    @property
    def num_states(self) -> int:
        """Tied states V."""
        return len(self.log_prior)

    def set_frequencies(self, counts: Tensor, balance: float) -> None:
        """Set priors and loss weights.

        Arguments
        ---------
        counts : Tensor
            (V,) frames of each state in the training data; one that was never seen counts as seen once.
        balance : float
            gamma, from 0 to 1. Weights are scaled so that the mean frame's is 1.
        """
        frequencies = counts.double().clamp(min=1.0)
        frequencies = frequencies / frequencies.sum()
        balanced = frequencies**balance
        self.log_prior.copy_((balanced / balanced.sum()).log())
        self.loss_weights.copy_(balanced / frequencies / balanced.sum())

    @torch.no_grad()
    def refine(self, coarse: HybridModel, origin: Tensor) -> None:
        """Begin with what a network of fewer states knows, each of which is several of this one's.

        Their posteriors add up to its own, in proportion to the priors of both.

        Arguments
        ---------
        coarse : HybridModel
            With the same encoder.
        origin : Tensor
            (V,) integer state of `coarse` that each is a part of.
        """
        priors = torch.zeros_like(coarse.log_prior).index_add(0, origin, self.log_prior.exp())
        self.output.weight.copy_(coarse.output.weight[origin])
        self.output.bias.copy_(coarse.output.bias[origin] + self.log_prior - priors.log()[origin])

    def log_likelihoods(self, log_probs: Tensor) -> Tensor:
        """Log-likelihoods (..., V) of frames, but for a constant a frame, out of their log-probabilities."""
        return log_probs - self.log_prior.to(log_probs.device)

    def posteriors(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Like forward, with what the encoder makes of the frames: log-probabilities, vectors (B, T', D), frames."""
        encoded, frames = self.encoder.encode(features, frames)
        return self.log_probs(encoded), encoded, frames
