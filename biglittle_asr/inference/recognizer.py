"""Everything between samples and what decoding goes by, as one module: what a model folder holds."""

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
from biglittle_asr.inference.transcription import Failure, Transcript, transcribe
from biglittle_asr.profiling import Stopwatch
from biglittle_asr.tokens.tokenizer import Tokenizer


class Recognizer(nn.Module):
    """Features, their normalization and a model of speech recognition, with the tokenizer of the model's tokens.

    Is made in evaluation mode. An utterance comes out the same whatever it is batched with, to 1e-5 in float32.

    Arguments
    ---------
    compute_features : LogMel
    normalize : nn.Module
        One of `biglittle_asr.features.NORMALIZATIONS`.
    model : CTCModel, AttentionModel, TransducerModel, or HybridModel with a search_graph
    tokenizer : Tokenizer
        Of a hybrid model, a WordTokenizer.
    search_settings : AttentionSettings, TransducerSettings or HybridSettings, optional
        How such a model is searched unless :meth:`set_search` is told otherwise.
    search : Search, optional
        Finds the words in place of the model's own search. Such a recognizer has whatever tokens its search has, and
        no model folder can hold it.

    Attributes
    ----------
    kind : Kind
        Of the model.
    search : Search or None
        What finds the words; None, which only CTC models know: greedy decoding. Put another in its place, or see
        :meth:`set_search`.
    sample_rate : int
        Hz of the waveforms that :meth:`forward` takes.
    frame_seconds : float
        Seconds from one output frame to the next. Frame t counts as audio from `t * frame_seconds` on, with every form
        of features: times of words are those that sherpa-onnx gives for the same model.

    Raises
    ------
    ValueError
        If the model is of no known kind, or it and the tokenizer have not the same number of tokens.

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

    def set_search(self, settings: DecodingSettings | None = None, report: Report = lambda message: None) -> None:
        """Decode with other settings; without any, as the model does by itself.

        Arguments
        ---------
        settings : DecodingSettings, optional
        report : function of str
            Is told of words that are left out.

        Raises
        ------
        OSError, ValueError
            If files that the settings name cannot be read, or settings do not apply to this kind of model.
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
        """The words of recordings of any length and sample rate, as `biglittle transcribe` finds them.

        Arguments
        ---------
        audio : path, numpy.ndarray, Tensor, Recording, or a list or tuple of these
            Of an array or a tensor (S,): samples, floats with full scale 1 or 16-bit integers.
        sample_rate : int, optional
            Hz, of samples. Files say their own.
        channel : int, optional
            Of files, from 1; the mean of all channels if not given.
        **options
            `window_seconds`, `batch_seconds` and `progress` of
            :func:`~biglittle_asr.inference.transcription.transcribe`, which change no word.

        Returns
        -------
        Transcript, or list of Transcript and Failure
            In the order of `audio`. A bad recording does not cost the others of a list: a Failure is in its place,
            which has its `error`, and raises it when it is asked for text or words.

        Raises
        ------
        OSError, ValueError
            If the only recording cannot be read or transcribed; if samples are of no clear meaning; or if the
            recognizer is in training mode.
        TypeError
            If `audio` is something else.

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
        """A decoder for what :meth:`forward` gives of one utterance."""
        if self.search is None:
            return GreedyWords(self.tokenizer, self.frame_seconds)
        return BeamWords(self.search, self.frame_seconds)

    def forward(self, wavs: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        """What decoding goes by, of every frame.

        Arguments
        ---------
        wavs : Tensor
            (B, S) at `sample_rate`, full scale 1, zero behind each utterance's end.
        num_samples : Tensor
            (B,) integer samples of each utterance.

        Returns
        -------
        outputs : Tensor
            Float32. Of CTC models log-probabilities (B, T', V), token 0 being the blank; of hybrid models those of
            their tied states; of others (B, T', D), what their `encode` gives.
        frames : Tensor
            (B,) integer frames of each utterance; what lies behind them in `outputs` means nothing.

        Raises
        ------
        ValueError
            For waveforms of no samples.
        """
        return self.outputs(*self.features(wavs, num_samples))

    def everything(self, wavs: Tensor, num_samples: Tensor) -> Sequence[Tensor]:
        """All that the model can compute of waveforms, for transcripts of one token: see :meth:`forward`."""
        return self.kind.everything(self.model, *self.features(wavs, num_samples))

    def tokens(self, outputs: Tensor) -> list[int]:
        """The tokens found in one utterance, of which :meth:`forward` gives outputs (T', D)."""
        if self.search is None:
            return ctc_greedy(outputs.unsqueeze(0), torch.tensor([len(outputs)]))[0]
        return [token.index for token in self.search(outputs)[0].tokens]

    def features(self, wavs: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        """Normalized features (B, T, F) and integer frames (B,) of waveforms: see :meth:`forward`."""
        if not wavs.shape[1]:
            raise ValueError("waveforms of no samples have no transcript; leave them out.")
        with self.stopwatch("features"):
            features, frames = self.compute_features(wavs, num_samples)
            return self.normalize(features, frames), frames

    def outputs(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The part of :meth:`forward` behind normalized features (B, T, F) with (B,) integer frames."""
        with self.stopwatch("encoder"):
            return self.kind.outputs(self.model, features, frames)
