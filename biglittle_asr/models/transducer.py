"""The transducer: an encoder of the audio, a prediction network over the previous tokens, and a joint network."""

from typing import Any

import torch
from torch import Tensor, nn

from biglittle_asr.nnet.lengths import valid_mask


class TransducerModel(nn.Module):
    """Encoder, prediction network (an LSTM over the tokens), and joint network (Graves 2012, "Sequence transduction").

    Arguments
    ---------
    encoder : nn.Module
        With `output_size` and `encode`.
    output_neurons : int
        Number of tokens V. The first is the blank, which the prediction network also reads before the first token.
    prediction_size : int
        Size of the embeddings and of the LSTM.
    joint_size : int
        Size J of the joint space, in which projections of both are added.
    dropout : float
        Dropout rate on the outputs of the encoder and the prediction network.

    Example
    -------
    >>> from biglittle_asr.models import create_encoder
    >>> encoder = create_encoder("bl_resnet22", channels=(8, 16, 32, 64))
    >>> model = TransducerModel(encoder, output_neurons=29, prediction_size=32, joint_size=48)
    >>> features, frames = torch.randn(2, 100, 80), torch.tensor([100, 50])
    >>> logits, encoded, frames = model(features, frames, torch.tensor([[1, 2], [3, 0]]), torch.tensor([2, 1]))
    >>> logits.shape, encoded.shape, frames.tolist()
    (torch.Size([2, 25, 3, 29]), torch.Size([2, 25, 48]), [25, 13])
    """

    def __init__(
        self,
        encoder: Any,
        output_neurons: int,
        prediction_size: int = 320,
        joint_size: int = 320,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.project_encoded = nn.Linear(encoder.output_size, joint_size)
        self.embedding = nn.Embedding(output_neurons, prediction_size)
        self.prediction = nn.LSTM(prediction_size, prediction_size, batch_first=True)
        self.project_predicted = nn.Linear(prediction_size, joint_size)
        self.output = nn.Linear(joint_size, output_neurons)

    def forward(
        self, features: Tensor, frames: Tensor, tokens: Tensor, num_tokens: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Score every token at every frame, after every prefix of the transcript.

        Arguments
        ---------
        features, frames, tokens, num_tokens : Tensor
            As for :meth:`AttentionModel.forward`: (B, T, F), (B,), (B, U) and (B,).

        Returns
        -------
        logits : Tensor
            (B, T', U + 1, V), float32; T' is that of the longest utterance.
        encoded : Tensor
            (B, T', J) projected encoder frames, float32.
        frames : Tensor
            (B,) integer numbers of encoder frames.
        """
        encoded, frames = self.encode(features, frames)
        given = tokens.masked_fill(~valid_mask(num_tokens, tokens.shape[1]), 0)
        # float32, because the loss sums over paths with one term per frame and token.
        with torch.autocast(encoded.device.type, enabled=False):
            predicted = self.predict(given)
            return self.join(encoded.unsqueeze(2), predicted.unsqueeze(1)), encoded, frames

    def encode(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Encode features (B, T, F) to projected frames (B, T', J), float32, and integer frames (B,), at most T'."""
        return self.project(*self.encoder.encode(features, frames))

    def project(self, encoded: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The part of :meth:`encode` after the encoder: takes its frames (B, T', D) and their numbers (B,)."""
        if not torch.compiler.is_exporting():  # an exported graph knows no values, and has no padding
            encoded = encoded[:, : int(frames.max())]
        with torch.autocast(encoded.device.type, enabled=False):
            return self.project_encoded(self.dropout(encoded.float())), frames

    def predict(self, tokens: Tensor) -> Tensor:
        """Compute projected predictions (B, U + 1, J), before the first and after each of the tokens (B, U)."""
        predicted, _ = self.prediction(self.embedding(nn.functional.pad(tokens, (1, 0))))
        return self.project_predicted(self.dropout(predicted))

    def join(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """Compute logits (..., V) from projected frames (..., J) and projected predictions (..., J)."""
        return self.output(torch.tanh(encoded + predicted))
