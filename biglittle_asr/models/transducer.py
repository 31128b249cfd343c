"""The transducer: an encoder of the audio, a network that reads the tokens so far, and one that joins the two."""

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
        Tokens V; the first is the blank, which is also what the prediction network reads before the first token.
    prediction_size : int
        Of the embeddings and of the LSTM.
    joint_size : int
        Of the space J in which both are added.
    dropout : float
        On the encoder's and the prediction network's output.

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
        """Score every token at every frame, after every beginning of the transcript.

        Arguments
        ---------
        features, frames, tokens, num_tokens : Tensor
            As of :meth:`AttentionModel.forward`: (B, T, F), (B,), (B, U) and (B,).

        Returns
        -------
        logits : Tensor
            (B, T', U + 1, V), float32; T' is the longest utterance's.
        encoded : Tensor
            (B, T', J), what is joined with predictions, float32.
        frames : Tensor
            (B,) integer frames out of the encoder.
        """
        encoded, frames = self.encode(features, frames)
        given = tokens.masked_fill(~valid_mask(num_tokens, tokens.shape[1]), 0)
        # The loss is a sum over paths, of as many terms as there are frames and tokens.
        with torch.autocast(encoded.device.type, enabled=False):
            predicted = self.predict(given)
            return self.join(encoded.unsqueeze(2), predicted.unsqueeze(1)), encoded, frames

    def encode(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """What is joined with predictions (B, T', J), float32, and integer frames (B,), of which the largest is T'."""
        return self.project(*self.encoder.encode(features, frames))

    def project(self, encoded: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The part of :meth:`encode` behind the encoder's frames (B, T', D)."""
        with torch.autocast(encoded.device.type, enabled=False):
            return self.project_encoded(self.dropout(encoded[:, : int(frames.max())].float())), frames

    def predict(self, tokens: Tensor) -> Tensor:
        """Projected predictions (B, U + 1, J), before the first token and behind each of tokens (B, U)."""
        predicted, _ = self.prediction(self.embedding(nn.functional.pad(tokens, (1, 0))))
        return self.project_predicted(self.dropout(predicted))

    def join(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """Logits (..., V) of projected frames (..., J) and projected predictions (..., J)."""
        return self.output(torch.tanh(encoded + predicted))
