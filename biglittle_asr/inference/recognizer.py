"""Everything between samples and log-probabilities, as one module: what a model folder holds."""

from __future__ import annotations

from torch import Tensor, nn

from biglittle_asr.decoding import BeamSearch, BeamWords, Decoder, GreedyWords
from biglittle_asr.decoding.tokenizer import Tokenizer
from biglittle_asr.features import LogMel
from biglittle_asr.models import CTCModel
from biglittle_asr.profiling import Stopwatch


class Recognizer(nn.Module):
    """Features, their normalization, encoder and output layer, with the tokenizer of the output layer's tokens.

    Is made in evaluation mode. An utterance comes out the same whatever it is batched with, to 1e-5 in float32.

    Arguments
    ---------
    compute_features : LogMel
    normalize : nn.Module
        One of `biglittle_asr.features.NORMALIZATIONS`.
    model : CTCModel
    tokenizer : Tokenizer

    Attributes
    ----------
    sample_rate : int
        Hz of the waveforms that :meth:`forward` takes.
    frame_seconds : float
        Seconds from one output frame to the next.

    Raises
    ------
    ValueError
        If output layer and tokenizer have not the same number of tokens.

    Example
    -------
    >>> import torch
    >>> from biglittle_asr.decoding.tokenizer import CharacterTokenizer
    >>> from biglittle_asr.features import SentenceNormalization
    >>> from biglittle_asr.models import create_encoder
    >>> tokenizer = CharacterTokenizer(" AB")
    >>> model = CTCModel(create_encoder("bl_resnet22", channels=(8, 16, 32, 64)), tokenizer.size)
    >>> recognizer = Recognizer(LogMel(), SentenceNormalization(), model, tokenizer)
    >>> with torch.inference_mode():
    ...     log_probs, frames = recognizer(torch.randn(2, 16000), torch.tensor([16000, 8000]))
    >>> log_probs.shape, frames.tolist(), recognizer.frame_seconds
    (torch.Size([2, 26, 4]), [26, 13], 0.04)
    >>> recognizer.latency_seconds
    0.8925
    """

    def __init__(self, compute_features: LogMel, normalize: nn.Module, model: CTCModel, tokenizer: Tokenizer) -> None:
        super().__init__()
        if model.output.out_features != tokenizer.size:
            raise ValueError(
                f"the output layer has {model.output.out_features} tokens and the tokenizer {tokenizer.size}, "
                "blank included: they are not of the same model"
            )
        self.compute_features = compute_features
        self.normalize = normalize
        self.model = model
        self.tokenizer = tokenizer
        self.sample_rate = compute_features.sample_rate
        self.frame_seconds = compute_features.hop_samples * model.encoder.time_stride / self.sample_rate
        self.search: BeamSearch | None = None
        """Put one here to find words with a beam, a language model, a lexicon, hotwords; None: greedy decoding."""
        self.stopwatch = Stopwatch(enabled=False)
        """What time is charged to; put one that is enabled in its place to see where it goes."""
        self.eval()

    @property
    def latency_seconds(self) -> float:
        """Seconds of audio behind its own time that an output frame waits for; 0.0125 for a causal encoder.

        Half a window of the features, and the encoder's context on the right.

        Raises
        ------
        ValueError
            If the encoder's context is not finite (squeeze-excite).
        """
        ahead = self.model.encoder.context[1] * self.compute_features.hop_samples / self.sample_rate
        return self.compute_features.latency / 1000 + ahead

    def decoder(self) -> Decoder:
        """A decoder for the log-probabilities of one utterance."""
        if self.search is None:
            return GreedyWords(self.tokenizer, self.frame_seconds)
        return BeamWords(self.search, self.frame_seconds)

    def forward(self, wavs: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of every frame.

        Arguments
        ---------
        wavs : Tensor
            (B, S) at `sample_rate`, full scale 1, zero behind each utterance's end.
        num_samples : Tensor
            (B,) integer samples of each utterance.

        Returns
        -------
        log_probs : Tensor
            (B, T', V), float32; token 0 is the blank.
        frames : Tensor
            (B,) integer frames of each utterance; what lies behind them in `log_probs` means nothing.
        """
        with self.stopwatch("features"):
            features, frames = self.compute_features(wavs, num_samples)
            features = self.normalize(features, frames)
        with self.stopwatch("encoder"):
            return self.model(features, frames)
