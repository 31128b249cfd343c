"""The CTC model: an encoder and the layer that turns its frames into log-probabilities of tokens."""

import torch
from torch import Tensor, nn

from biglittle_asr.models.encoder import BigLittleEncoder
from biglittle_asr.nnet import StreamState


class CTCModel(nn.Module):
    """Encoder, dropout and output layer.

    Arguments
    ---------
    encoder : BigLittleEncoder
        This class, or any module with `output_size`, `output_lengths` and `encode`.
    output_neurons : int
        Number of tokens V, blank included.
    dropout : float
        Dropout rate before the output layer.

    Example
    -------
    >>> from biglittle_asr.models import create_encoder
    >>> model = CTCModel(create_encoder("bl_resnet22", channels=(8, 16, 32, 64)), output_neurons=29)
    >>> log_probs, frames = model(torch.randn(2, 100, 80), torch.tensor([100, 50]))
    >>> log_probs.shape, frames.tolist()
    (torch.Size([2, 25, 29]), [25, 13])
    """

    def __init__(self, encoder: BigLittleEncoder, output_neurons: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(encoder.output_size, output_neurons)

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Map features (B, T, F), frames (B,) to log-probabilities (B, T', V), float32, and integer frames (B,)."""
        encoded, frames = self.encoder.encode(features, frames)
        return self.log_probs(encoded), frames

    def initial_state(self, batch: int = 1) -> StreamState:
        """The state before the first :meth:`step`, for `batch` parallel streams."""
        return self.encoder.initial_state(batch)

    @torch.no_grad()
    def step(self, features: Tensor, state: StreamState) -> tuple[Tensor, StreamState]:
        """Compute log-probabilities (B, T', V) of the frames completed by features (B, T, F), and the next state.

        See :meth:`BigLittleEncoder.step`.
        """
        encoded, state = self.encoder.step(features, state)
        return self.log_probs(encoded), state

    def log_probs(self, encoded: Tensor) -> Tensor:
        """Compute log-probabilities (B, T', V), float32, of the encoder's frames (B, T', D)."""
        # bfloat16 would keep only two to three digits of a log-probability.
        with torch.autocast(encoded.device.type, enabled=False):
            logits = self.output(self.dropout(encoded.float()))
            return logits.log_softmax(dim=-1)
