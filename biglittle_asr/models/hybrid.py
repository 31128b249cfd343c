"""The hybrid model: an encoder whose output layer classifies states of hidden Markov models, and their priors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from biglittle_asr.models.ctc import CTCModel
from biglittle_asr.models.encoder import BigLittleEncoder


class HybridModel(CTCModel):
    """Encoder, dropout, and an output layer of tied HMM states, with their priors.

    A state with relative frequency f has the loss weight f^(gamma - 1). The network then learns the posteriors of data
    in which states occur in proportion to f^gamma, and these proportions are the priors by which its posteriors are
    divided. gamma = 1 weighs all frames alike; a smaller gamma gives more weight to rare states. The effect is that of
    sampling frames in proportion to f^gamma, which whole utterances do not allow.

    Arguments
    ---------
    encoder : BigLittleEncoder
        This class, or any module with `output_size`, `output_lengths` and `encode`.
    output_neurons : int
        Number of tied states V.
    dropout : float
        Dropout rate before the output layer.
    search_graph : nn.Module, optional
        The graph for the word search; a model folder holds it as part of the model.

    Attributes
    ----------
    log_prior : Tensor
        (V,) natural logarithms of the priors, zero until :meth:`set_frequencies`.
    loss_weights : Tensor
        (V,) weights of states in the loss, one until then.

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
        """Number of tied states V."""
        return len(self.log_prior)

    def set_frequencies(self, counts: Tensor, balance: float) -> None:
        """Set priors and loss weights.

        Arguments
        ---------
        counts : Tensor
            (V,) frames per state in the training data; a state that does not occur counts once.
        balance : float
            gamma, from 0 to 1. Weights are scaled to a mean of 1 over frames.
        """
        frequencies = counts.double().clamp(min=1.0)
        frequencies = frequencies / frequencies.sum()
        balanced = frequencies**balance
        self.log_prior.copy_((balanced / balanced.sum()).log())
        self.loss_weights.copy_(balanced / frequencies / balanced.sum())

    @torch.no_grad()
    def refine(self, coarse: HybridModel, origin: Tensor) -> None:
        """Initialize the output layer from a network with fewer states, each of which is split into several here.

        The posterior of a coarse state is divided among its parts in proportion to their priors.

        Arguments
        ---------
        coarse : HybridModel
            With the same encoder.
        origin : Tensor
            (V,) index of the state of `coarse` from which each state was split.
        """
        priors = torch.zeros_like(coarse.log_prior).index_add(0, origin, self.log_prior.exp())
        self.output.weight.copy_(coarse.output.weight[origin])
        self.output.bias.copy_(coarse.output.bias[origin] + self.log_prior - priors.log()[origin])

    def log_likelihoods(self, log_probs: Tensor) -> Tensor:
        """Convert log-probabilities of frames to log-likelihoods (..., V), up to a constant per frame."""
        return log_probs - self.log_prior.to(log_probs.device)

    def posteriors(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Like forward, with the encoder's output too: log-probabilities, vectors (B, T', D), integer frames."""
        encoded, frames = self.encoder.encode(features, frames)
        return self.log_probs(encoded), encoded, frames
