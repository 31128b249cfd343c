"""The hybrid model: an encoder whose output layer tells states of hidden Markov models apart, and their priors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from biglittle_asr.models.ctc import CTCModel
from biglittle_asr.models.encoder import BigLittleEncoder
from biglittle_asr.nnet.lengths import output_length


class HybridModel(CTCModel):
    """Encoder, dropout, and an output layer of tied HMM states, with their priors.

    A state that is seen in the part f of the frames has the loss weight f^(gamma - 1): trained so, the network says
    what it would have said of frames in which each state is seen in proportion to f^gamma. These are the priors that
    its posteriors are divided by. gamma = 1 weighs all frames alike; less gives rare states more of a say, as drawing
    frames in proportion to f^gamma would, which cannot be done with whole utterances.

    One frame of an encoder with a coarse time_stride can give the posteriors of several finer frames, each by an output
    layer of its own (Vanhoucke, Devin & Heigold 2013, "Multiframe deep neural networks for acoustic modeling"): a
    posterior every 10 ms at a fraction of the computation.

    Arguments
    ---------
    encoder : BigLittleEncoder
        Or any module with `output_size`, `output_lengths`, `time_stride` and `encode`.
    output_neurons : int
        Tied states V.
    dropout : float
        Before the output layer.
    multiframe : int
        Posteriors that each frame of the encoder gives; a divisor of its time_stride.
    search_graph : nn.Module, optional
        What words are found with, which a model folder holds as a part of the model.

    Attributes
    ----------
    time_stride : int
        Frames of features for each posterior.
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
        multiframe: int = 1,
        search_graph: nn.Module | None = None,
    ) -> None:
        if multiframe < 1 or encoder.time_stride % multiframe:
            raise ValueError(
                f"multiframe must divide the encoder's time_stride {encoder.time_stride}, not be {multiframe}"
            )
        super().__init__(encoder, multiframe * output_neurons, dropout)
        self.multiframe = multiframe
        self.time_stride = encoder.time_stride // multiframe
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
        weight, bias = (each.unflatten(0, (self.multiframe, -1)) for each in (coarse.output.weight, coarse.output.bias))
        self.output.weight.copy_(weight[:, origin].flatten(0, 1))
        self.output.bias.copy_((bias[:, origin] + self.log_prior - priors.log()[origin]).flatten())

    def log_likelihoods(self, log_probs: Tensor) -> Tensor:
        """Log-likelihoods (..., V) of frames, but for a constant a frame, out of their log-probabilities."""
        return log_probs - self.log_prior.to(log_probs.device)

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, T', V), float32, and integer frames (B,) out of features (B, T, F) and frames (B,)."""
        log_probs, _, frames = self.posteriors(features, frames)
        return log_probs, frames

    def posteriors(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Like forward, with what the encoder makes of the frames: log-probabilities, vectors (B, T', D), frames."""
        encoded, _ = self.encoder.encode(features, frames)
        length = output_length(features.shape[1], self.time_stride)
        vectors = encoded.repeat_interleave(self.multiframe, 1)[:, :length]
        return self._log_probs(encoded)[:, :length], vectors, output_length(frames, self.time_stride)

    def _log_probs(self, encoded: Tensor) -> Tensor:
        # As in CTCModel.
        with torch.autocast(encoded.device.type, enabled=False):
            logits = self.output(self.dropout(encoded.float()))
            return logits.unflatten(2, (self.multiframe, -1)).flatten(1, 2).log_softmax(dim=-1)
