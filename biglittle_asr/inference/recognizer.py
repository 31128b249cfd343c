"""The recognizer, which a model folder holds: one module from samples to the outputs that decoding reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import torch
from torch import Tensor, nn

from biglittle_asr.decoding import BeamWords, Decoder, DecodingSettings, GreedyWords, Search, ctc_greedy
from biglittle_asr.features import LogMel
from biglittle_asr.inference.audio import AudioSource, Recording
from biglittle_asr.inference.folder.kinds import kind_of
from biglittle_asr.inference.folder.searches import Report
from biglittle_asr.inference.runtimes import RuntimeNetwork, RuntimeStream
from biglittle_asr.inference.streaming import ModelStream
from biglittle_asr.inference.transcription import Failure, Transcript, transcribe
from biglittle_asr.profiling import Stopwatch
from biglittle_asr.tokens.tokenizer import Tokenizer


class Recognizer(nn.Module):
    """Features, their normalization and a speech model, with the tokenizer of the model's tokens.

    It starts in evaluation mode. Outputs do not depend on batching, to 1e-5 in float32.

    Arguments
    ---------
    compute_features : LogMel
    normalize : nn.Module
        One of `biglittle_asr.features.NORMALIZATIONS`.
    model : CTCModel, AttentionModel, TransducerModel, or HybridModel with a search_graph
    tokenizer : Tokenizer
        A WordTokenizer for a hybrid model.
    search_settings : AttentionSettings, TransducerSettings or HybridSettings, optional
        The model's own search settings, in force until :meth:`set_search` changes them.
    search : Search, optional
        Finds the words in place of the model's own search. The tokenizer must then fit this search rather than the
        model, and no model folder can hold the recognizer.

    Attributes
    ----------
    kind : Kind
        The model's kind.
    search : Search or None
        Finds the words; None, for CTC models only, is greedy decoding. Assign another one, or call
        :meth:`set_search`.
    sample_rate : int
        Sample rate in Hz of the waveforms that :meth:`forward` takes.
    frame_seconds : float
        Seconds from one output frame to the next. Frame t starts at `t * frame_seconds` with every form of
        features, so word times equal those that sherpa-onnx gives for the same model.

    Raises
    ------
    ValueError
        If the model is of no known kind, or the numbers of tokens of model and tokenizer differ.

    Example
    -------
    >>> import torch
    >>> from biglittle_asr.tokens.tokenizer import CharacterTokenizer
    >>> from biglittle_asr.features import SentenceNormalization
    >>> from biglittle_asr.models import CTCModel, create_encoder
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

    def __init__(
        self,
        compute_features: LogMel,
        normalize: nn.Module,
        model: Any,
        tokenizer: Tokenizer,
        search_settings: Any = None,
        search: Search | None = None,
    ) -> None:
        super().__init__()
        self.kind = kind_of(model)
        tokens = self.kind.tokens(model) if search is None else tokenizer.size
        if not isinstance(tokenizer, self.kind.tokenizer) or tokens != tokenizer.size:
            raise ValueError(
                f"the model has {tokens} tokens and the {tokenizer.kind} tokenizer {tokenizer.size}, "
                "blank included: they are not of the same model"
            )
        self.compute_features = compute_features
        self.normalize = normalize
        self.model = model
        self.tokenizer = tokenizer
        self.sample_rate = compute_features.sample_rate
        self.frame_seconds = compute_features.hop_samples * model.encoder.time_stride / self.sample_rate
        self.search_settings = self.kind.search_settings() if search_settings is None else search_settings
        self.search = search
        if search is None:
            self.set_search()
        self.network: RuntimeNetwork | None = None
        """The network in another runtime, which takes the place of `model`; see :func:`run_elsewhere`."""
        self.stopwatch = Stopwatch(enabled=False)
        """Measures where time goes; assign an enabled one to use it."""
        self.eval()

    @property
    def latency_seconds(self) -> float:
        """Seconds of audio after its own time that an output frame must wait for (look-ahead); 0.0125 if causal.

        The sum of half a feature window and the encoder's right context.

        Raises
        ------
        ValueError
            If the encoder's context is not finite (squeeze-excite).
        """
        ahead = self.model.encoder.context[1] * self.compute_features.hop_samples / self.sample_rate
        return self.compute_features.latency / 1000 + ahead

    def set_search(self, settings: DecodingSettings | None = None, report: Report = lambda message: None) -> None:
        """Decode with other settings; with None, use the model's own.

        Arguments
        ---------
        settings : DecodingSettings, optional
        report : function of str
            Called with a message about words that are left out.

        Raises
        ------
        OSError, ValueError
            If a file that the settings name cannot be read, or a setting does not apply to this kind of model.
        """
        search = self.kind.searching.search
        self.search = search(self.model, self.tokenizer, settings, self.search_settings, report)

    @overload
    def transcribe(
        self, audio: AudioSource, *, sample_rate: int | None = None, channel: int | None = None, **options: Any
    ) -> Transcript: ...

    @overload
    def transcribe(
        self,
        audio: list[Any] | tuple[Any, ...],
        *,
        sample_rate: int | None = None,
        channel: int | None = None,
        **options: Any,
    ) -> list[Transcript | Failure]: ...

    def transcribe(
        self, audio: Any, *, sample_rate: int | None = None, channel: int | None = None, **options: Any
    ) -> Transcript | list[Transcript | Failure]:
        """Transcribe recordings of any length and sample rate, as `biglittle transcribe` does.

        Arguments
        ---------
        audio : path, numpy.ndarray, Tensor, Recording, or a list or tuple of these
            Arrays and tensors (S,) are samples: floats with full scale 1, or 16-bit integers.
        sample_rate : int, optional
            Hz. Required for samples; files have their own.
        channel : int, optional
            Channel of files, from 1; the mean of all channels if not given.
        **options
            `window_seconds`, `batch_seconds` and `progress` of
            :func:`~biglittle_asr.inference.transcription.transcribe`; none changes a word.

        Returns
        -------
        Transcript, or list of Transcript and Failure
            In the order of `audio`. A recording of a list that cannot be transcribed becomes a Failure; the others
            are not affected. A Failure has the `error`, and raises it when its text or words are read.

        Raises
        ------
        OSError, ValueError
            If a single recording cannot be read or transcribed, samples are ambiguous (see
            :class:`~biglittle_asr.inference.audio.AudioSamples`), or the recognizer is in training mode.
        TypeError
            If `audio` is of another type.

        Example
        -------
        >>> import numpy, soundfile
        >>> from biglittle_asr.tokens.tokenizer import CharacterTokenizer
        >>> from biglittle_asr.features import SentenceNormalization
        >>> from biglittle_asr.models import CTCModel, create_encoder
        >>> model = CTCModel(create_encoder("bl_resnet22", channels=(8, 16, 32, 64)), output_neurons=4)
        >>> recognizer = Recognizer(LogMel(), SentenceNormalization(), model, CharacterTokenizer(" AB"))
        >>> samples = numpy.random.default_rng(0).normal(size=8000) / 10
        >>> path = getfixture("tmp_path") / "talk.wav"
        >>> soundfile.write(path, samples, 8000, subtype="FLOAT")
        >>> first, second = recognizer.transcribe([path, "missing.wav"])
        >>> first.text == recognizer.transcribe(path).text == recognizer.transcribe(samples, sample_rate=8000).text
        True
        >>> second.error
        FileNotFoundError('missing.wav: no such audio file; check the path.')
        """
        if self.training:
            raise ValueError("the recognizer is in training mode; call its eval() first.")
        several = isinstance(audio, list | tuple)
        sources: Sequence[Any] = audio if several else [audio]
        labels = [f"samples {index}" if several else "samples" for index, _ in enumerate(sources, 1)]
        recordings = [
            Recording.of(source, sample_rate, channel, label) for source, label in zip(sources, labels, strict=True)
        ]
        found = {each.recording: each for each in transcribe(self, recordings, **options)}
        if several:
            return [found[recording] for recording in recordings]
        (result,) = found.values()
        if isinstance(result, Failure):
            raise result.error
        return result

    def decoder(self) -> Decoder:
        """Make a decoder for the outputs of :meth:`forward` for one utterance."""
        if self.search is None:
            return GreedyWords(self.tokenizer, self.frame_seconds)
        return BeamWords(self.search, self.frame_seconds)

    def forward(self, wavs: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the frame-wise outputs that decoding reads.

        Arguments
        ---------
        wavs : Tensor
            (B, S) at `sample_rate`, full scale 1, zero after each utterance's end.
        num_samples : Tensor
            (B,) integer numbers of samples.

        Returns
        -------
        outputs : Tensor
            Float32. CTC models: log-probabilities (B, T', V), token 0 being the blank. Hybrid models:
            log-probabilities of their tied states. Other models: the result (B, T', D) of their `encode`.
        frames : Tensor
            (B,) integer numbers of frames; values of `outputs` after them have no meaning.

        Raises
        ------
        ValueError
            If waveforms have no samples.
        """
        return self.outputs(*self.features(wavs, num_samples))

    def everything(self, wavs: Tensor, num_samples: Tensor) -> Sequence[Tensor]:
        """Compute all outputs of the model, with transcripts of one token; arguments as in :meth:`forward`."""
        return self.kind.everything(self.model, *self.features(wavs, num_samples))

    def tokens(self, outputs: Tensor) -> list[int]:
        """Find the tokens of one utterance from its outputs (T', D) of :meth:`forward`."""
        if self.search is None:
            return ctc_greedy(outputs.unsqueeze(0), torch.tensor([len(outputs)]))[0]
        return [token.index for token in self.search(outputs)[0].tokens]

    def features(self, wavs: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        """Compute normalized features (B, T, F) and integer frames (B,); arguments as in :meth:`forward`."""
        if not wavs.shape[1]:
            raise ValueError("waveforms of no samples have no transcript; leave them out.")
        with self.stopwatch("features"):
            features, frames = self.compute_features(wavs, num_samples)
            return self.normalize(features, frames), frames

    def outputs(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The part of :meth:`forward` after feature normalization: takes features (B, T, F), frames (B,)."""
        with self.stopwatch("encoder"):
            if self.network is not None:
                return self.network.outputs(features, frames)
            return self.kind.outputs(self.model, features, frames)

    def stream(self) -> ModelStream | RuntimeStream:
        """Begin a stream of normalized features through the network."""
        return ModelStream(self.model) if self.network is None else self.network.stream()
