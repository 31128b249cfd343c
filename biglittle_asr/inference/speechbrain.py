"""A model folder in SpeechBrain's inference interfaces; its encoder in any recipe of SpeechBrain's.

`EncoderASR`, or `EncoderDecoderASR`, opens any; `StreamingASR` those that can stream.

Their `from_hparams` builds what the folder's hyperparams.yaml names, and that names what is here: an encoder, a decoder
and a tokenizer that are filled, by :func:`biglittle_asr.inference.load_model`'s own reader, once SpeechBrain has
fetched the files. SpeechBrain's relative lengths are turned into samples at this door.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from speechbrain.utils.fetching import FetchConfig, LocalStrategy, fetch
from speechbrain.utils.filter_analysis import FilterProperties
from speechbrain.utils.parameter_transfer import Pretrainer
from torch import Tensor, nn

from biglittle_asr.inference.folder.config import differences
from biglittle_asr.inference.folder.store import NEEDED, load_files, load_model
from biglittle_asr.inference.recognizer import Recognizer
from biglittle_asr.inference.streaming import check_streams
from biglittle_asr.models import BigLittleEncoder
from biglittle_asr.models.encoder import StreamingContext
from biglittle_asr.nnet import relative_to_frames, valid_mask
from biglittle_asr.tokens.tokenizer import Tokenizer


class RecognizerEncoder(nn.Module):
    """SpeechBrain's encoder: the whole chain from samples to the frames of the recognizer's encoder.

    Attributes
    ----------
    recognizer : Recognizer
        Set by :class:`FolderPretrainer`.
    """

    recognizer: Recognizer

    def forward(self, wavs: Tensor, wav_lens: Tensor) -> Tensor:
        """Encoder frames (B, T', D), zero on padding, of waveforms (B, S) with relative lengths (B,).

        Raises
        ------
        ValueError
            For waveforms of no samples.
        """
        num_samples = relative_to_frames(wav_lens.double(), wavs.shape[1])
        features, frames = self.recognizer.features(wavs * valid_mask(num_samples, wavs.shape[1]), num_samples)
        encoded: Tensor = self.recognizer.model.encoder.encode(features, frames)[0]
        return encoded


class RecognizerDecoder(nn.Module):
    """SpeechBrain's decoder: the recognizer's own way from encoder frames to tokens.

    Arguments
    ---------
    encoder : RecognizerEncoder
        Whose outputs it reads.
    """

    def __init__(self, encoder: RecognizerEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, encoded: Tensor, lengths: Tensor | None = None) -> tuple[list[list[int]], None, None, None]:
        """Tokens of each utterance's encoder frames (B, T', D), and for what else SpeechBrain's searchers return, None.

        `lengths`, relative to the waveforms, are not read: times T' they can round to one frame too few. Padding shows
        by its zeros.
        """
        recognizer = self.encoder.recognizer
        places = torch.arange(1, encoded.shape[1] + 1, device=encoded.device)
        frames = (encoded.any(dim=2) * places).amax(dim=1).clamp(min=1)
        outputs, frames = recognizer.kind.outputs_of(recognizer.model, encoded, frames)
        tokens = [recognizer.tokens(row[:valid]) for row, valid in zip(outputs, frames.tolist(), strict=True)]
        return tokens, None, None, None


class Detokenizer:
    """SpeechBrain's tokenizer: a :class:`Tokenizer` under the method name that SpeechBrain calls.

    Attributes
    ----------
    tokenizer : Tokenizer
        Set by :class:`FolderPretrainer`.
    """

    tokenizer: Tokenizer

    def decode_ids(self, ids: Sequence[int]) -> str:
        """Text of token indices."""
        return self.tokenizer.decode(ids)


class StreamingFeatures(nn.Module):
    """SpeechBrain's `fea_streaming_extractor`: normalized features of the samples so far.

    Arguments
    ---------
    encoder : RecognizerEncoder
        Whose features and normalization it has.
    """

    def __init__(self, encoder: RecognizerEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    @property
    def properties(self) -> FilterProperties:
        """Features' window and the stride of the encoder's frames, in samples; the stride tells the size of chunks."""
        compute, encoder = self.encoder.recognizer.compute_features, self.encoder.recognizer.model.encoder
        return FilterProperties(compute.left_samples + compute.window_end, compute.hop_samples * encoder.time_stride)

    def get_recommended_final_chunk_count(self, frames_per_chunk: int) -> int:
        """Chunks of so many zeros that bring out the last features of a file."""
        return math.ceil(self.encoder.recognizer.compute_features.window_end / frames_per_chunk)

    def make_streaming_context(self) -> StreamingContext:
        """What is kept between chunks; raises ValueError for a model that cannot stream."""
        check_streams(self.encoder.recognizer)
        return StreamingContext()

    def forward(self, chunk: Tensor, context: StreamingContext, lengths: Tensor) -> Tensor:
        """Features (B, T, F) that samples (B, S) complete; behind their relative lengths (B,) they are silence."""
        recognizer = self.encoder.recognizer
        compute, normalize = recognizer.compute_features, cast(Any, recognizer.normalize)
        if chunk.shape[1]:
            chunk = chunk * valid_mask(relative_to_frames(lengths.double(), chunk.shape[1]), chunk.shape[1])
        state = compute.initial_state(len(chunk)) if context.state is None else context.state
        features, context.state = compute.step(chunk, state)
        return cast(Tensor, normalize.step(features))


class StreamingEncoder(nn.Module):
    """SpeechBrain's `enc`: the recognizer's encoder on a stream.

    Arguments
    ---------
    encoder : RecognizerEncoder
        Whose encoder it is.
    """

    def __init__(self, encoder: RecognizerEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def make_streaming_context(self, dynchunktrain_config: Any = None) -> StreamingContext:
        """See :meth:`BigLittleEncoder.make_streaming_context`."""
        return self.encoder.recognizer.model.encoder.make_streaming_context()

    def forward_streaming(self, x: Tensor, context: StreamingContext) -> Tensor:
        """Encoder frames (B, T', D) that features (B, T, F) complete."""
        return self.encoder.recognizer.model.encoder.forward_streaming(x, context)


class StreamingOutput(nn.Module):
    """SpeechBrain's `proj_enc`: the recognizer's output layer.

    Arguments
    ---------
    encoder : RecognizerEncoder
        Whose model has the layer.
    """

    def __init__(self, encoder: RecognizerEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, encoded: Tensor) -> Tensor:
        """Log-probabilities (B, T', V) of encoder frames (B, T', D)."""
        return self.encoder.recognizer.model.log_probs(encoded)


class StreamedTokens:
    """Greedy decoding of streams that run side by side: SpeechBrain's `decoder_context`.

    Whatever the chunks, tokens are those of :func:`~biglittle_asr.decoding.ctc_greedy`, each with its first frame.

    Example
    -------
    >>> log_probs = torch.nn.functional.one_hot(torch.tensor([[1, 1, 0, 1, 2]]), 3)
    >>> tokens = StreamedTokens()
    >>> [tokens.add(chunk) for chunk in log_probs.split(2, dim=1)]
    [[[1]], [[1]], [[2]]]
    """

    def __init__(self) -> None:
        self._last: Tensor | None = None

    def add(self, log_probs: Tensor) -> list[list[int]]:
        """Tokens that begin within the next frames, given their log-probabilities (B, T', V)."""
        best = log_probs.argmax(dim=-1)
        before = best.new_zeros(len(best), 1) if self._last is None else self._last
        both = torch.cat([before, best], dim=1)
        self._last = both[:, -1:]
        begins = (best != 0) & (best != both[:, :-1])
        return [row[begin].tolist() for row, begin in zip(best, begins, strict=True)]


class StreamedText:
    """The text of a stream so far: SpeechBrain's `tokenizer_context`."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.text = ""


def decode_streamed(tokenizer: Detokenizer, tokens: Sequence[int], context: StreamedText) -> str:
    """What the next tokens add to the text of a stream."""
    context.tokens += tokens
    before, context.text = context.text, tokenizer.decode_ids(context.tokens)
    return context.text[len(before) :]


def decode_all(outputs: Tensor, lengths: Tensor | StreamedTokens, decoder: RecognizerDecoder) -> list[list[int]]:
    """SpeechBrain's `decoding_function`, for whole utterances and for streams.

    Arguments
    ---------
    outputs : Tensor
        Encoder frames (B, T', D); of streams log-probabilities (B, T', V).
    lengths : Tensor or StreamedTokens
        What SpeechBrain's interface has: relative lengths, which are not read, or the context of streams.
    decoder : RecognizerDecoder
    """
    return lengths.add(outputs) if isinstance(lengths, StreamedTokens) else decoder(outputs)[0]


def load_encoder(encoder: BigLittleEncoder, path: str | Path) -> None:
    """Fill an encoder with that of a model folder: a hook for the `custom_hooks` of SpeechBrain's Pretrainer.

    Arguments
    ---------
    encoder : BigLittleEncoder
        Changed in place; keeps its device.
    path : path
        The folder's model.safetensors, or a link to it. What :func:`biglittle_asr.inference.load_model` reads must lie
        beside it.

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`biglittle_asr.inference.load_model`, and if the folder's encoder has other settings: weights might
        fit, and the outputs would mean nothing.
    """
    # SpeechBrain links to the file, which may itself be a link, in a cache.
    path = Path(path).absolute()
    while path.is_symlink() and not (path.parent / NEEDED[0]).exists():
        path = path.parent / path.readlink()
    folder = path.parent
    trained = load_model(folder).model.encoder
    unequal = differences(dataclasses.asdict(trained.config), dataclasses.asdict(encoder.config))
    if unequal:
        raise ValueError(f"{folder}: holds an encoder of other settings: {unequal}; set them alike.")
    encoder.load_state_dict(trained.state_dict())


class FolderPretrainer(Pretrainer):
    """Fetches the files of a model folder as SpeechBrain does, and reads them as :func:`load_model` does.

    Arguments
    ---------
    encoder : RecognizerEncoder
    tokenizer : Detokenizer
        What is filled.
    """

    def __init__(self, encoder: RecognizerEncoder, tokenizer: Detokenizer) -> None:
        super().__init__()
        self.encoder = encoder
        self.tokenizer = tokenizer

    def collect_files(
        self,
        default_source: Any = None,
        local_strategy: LocalStrategy = LocalStrategy.SYMLINK,
        fetch_config: FetchConfig = FetchConfig(),  # noqa: B008 (frozen)
    ) -> dict[str, Path]:
        """Fetch the files, into the savedir if there is one; returns where they are."""
        self.files = {
            name: fetch(name, default_source, self.collect_in, None, local_strategy, fetch_config) for name in NEEDED
        }
        return self.files

    def load_collected(self) -> None:
        """Fill encoder, and with it the decoder, and tokenizer.

        Raises
        ------
        ValueError
            As :func:`biglittle_asr.inference.load_model`.
        """
        config, weights, tokenizer = (Path(self.files[name]) for name in NEEDED)
        recognizer = load_files(config, weights, tokenizer)
        self.encoder.recognizer = recognizer
        self.tokenizer.tokenizer = recognizer.tokenizer
