"""The attention model: an encoder, a decoder that attends to its frames, and a CTC layer on the same frames."""

from typing import Any

import torch
from torch import Tensor, nn

from biglittle_asr.nnet.lengths import frames_to_relative, valid_mask


class AttentionModel(nn.Module):
    """Encoder, attentional decoder, and an output layer on each of them.

    Both output layers have the tokenizer's V tokens, the first of which is the CTC blank, and two more: `bos` = V
    begins a transcript, and `eos` = V + 1 ends it.

    Arguments
    ---------
    encoder : nn.Module
        With `output_size` and `encode`.
    decoder : nn.Module
        SpeechBrain's `AttentionalRNNDecoder`, or a module with the same `hidden_size` and forward, which maps
        embeddings, encoded frames and their relative lengths to (B, U, hidden_size).
    output_neurons : int
        Number of tokens V, blank included.
    embedding_size : int
        The decoder's `input_size`.
    dropout : float
        Dropout rate before the output layers.

    Example
    -------
    >>> from speechbrain.nnet.RNN import AttentionalRNNDecoder
    >>> from biglittle_asr.models import create_encoder
    >>> encoder = create_encoder("bl_resnet22", channels=(8, 16, 32, 64))
    >>> decoder = AttentionalRNNDecoder("gru", "content", 32, 32, 1, enc_dim=encoder.output_size, input_size=16)
    >>> model = AttentionModel(encoder, decoder, output_neurons=29, embedding_size=16)
    >>> features, frames = torch.randn(2, 100, 80), torch.tensor([100, 50])
    >>> ctc, log_probs, encoded, frames = model(features, frames, torch.tensor([[1, 2], [3, 0]]), torch.tensor([2, 1]))
    >>> ctc.shape, log_probs.shape, encoded.shape, frames.tolist()
    (torch.Size([2, 25, 31]), torch.Size([2, 3, 31]), torch.Size([2, 25, 512]), [25, 13])
    """

    def __init__(
        self, encoder: Any, decoder: Any, output_neurons: int, embedding_size: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.bos, self.eos = output_neurons, output_neurons + 1
        self.encoder = encoder
        self.embedding = nn.Embedding(output_neurons + 2, embedding_size)
        self.decoder = decoder
        self.dropout = nn.Dropout(dropout)
        self.ctc_output = nn.Linear(encoder.output_size, output_neurons + 2)
        self.output = nn.Linear(decoder.hidden_size, output_neurons + 2)

    def forward(
        self, features: Tensor, frames: Tensor, tokens: Tensor, num_tokens: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Predict each token from the frames and from the tokens before it.

        Arguments
        ---------
        features : Tensor
            (B, T, F).
        frames : Tensor
            (B,) integer numbers of valid frames.
        tokens : Tensor
            (B, U) token indices, padded.
        num_tokens : Tensor
            (B,) integer numbers of tokens.

        Returns
        -------
        ctc : Tensor
            (B, T', V + 2) log-probabilities of CTC, float32.
        log_probs : Tensor
            (B, U + 1, V + 2) log-probabilities of the tokens and of `eos`, float32.
        encoded : Tensor
            (B, T', D) vectors that the decoder attends to, float32.
        frames : Tensor
            (B,) integer numbers of encoder frames.
        """
        encoded, frames = self.encode(features, frames)
        return *self.decode(encoded, frames, tokens, num_tokens), encoded, frames

    def encode(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Encode features (B, T, F) to vectors for the decoder (B, T', D), float32, and integer frames (B,)."""
        encoded, frames = self.encoder.encode(features, frames)
        return encoded.float(), frames

    def decode(self, encoded: Tensor, frames: Tensor, tokens: Tensor, num_tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Compute log-probabilities of CTC and the decoder from the output of :meth:`encode`; see :meth:`forward`."""
        given = tokens.masked_fill(~valid_mask(num_tokens, tokens.shape[1]), 0)
        given = nn.functional.pad(given, (1, 0), value=self.bos)
        # float32: in bfloat16 the recurrent states would lose small changes from token to token.
        with torch.autocast(encoded.device.type, enabled=False):
            ctc = self.ctc_output(self.dropout(encoded)).log_softmax(dim=-1)
            decoded, _ = self.decoder(self.embedding(given), encoded, frames_to_relative(frames, encoded.shape[1]))
            log_probs = self.output(self.dropout(decoded)).log_softmax(dim=-1)
        return ctc, log_probs
