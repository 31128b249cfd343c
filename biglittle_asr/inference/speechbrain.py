"""A model folder in SpeechBrain's inference interfaces, and its encoder in any SpeechBrain recipe.

`EncoderASR` or `EncoderDecoderASR` opens any model folder for speech; `StreamingASR` opens those that can stream.

Their `from_hparams` builds what the folder's hyperparams.yaml names: the encoder, decoder and tokenizer of this module.
Once SpeechBrain has fetched the files, the reader of :func:`biglittle_asr.inference.load_model` fills them. This module
converts SpeechBrain's relative lengths to samples.
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
    """SpeechBrain's encoder: everything from samples to the frames of the recognizer's encoder.

    Attributes
    ----------
    recognizer : Recognizer
        Set by :class:`FolderPretrainer`.
    """

    recognizer: Recognizer

    def forward(self, wavs: Tensor, wav_lens: Tensor) -> Tensor:
        """Compute encoder frames (B, T', D), zero on padding, of waveforms (B, S) with relative lengths (B,).

        Raises
        ------
        ValueError
            If waveforms have no samples.
        """
        num_samples = relative_to_frames(wav_lens.double(), wavs.shape[1])
        features, frames = self.recognizer.features(wavs * valid_mask(num_samples, wavs.shape[1]), num_samples)
        encoded: Tensor = self.recognizer.model.encoder.encode(features, frames)[0]
        return encoded


class RecognizerDecoder(nn.Module):
    """SpeechBrain's decoder: the recognizer's own decoding, from encoder frames to tokens.

    Arguments
    ---------
    encoder : RecognizerEncoder
        The encoder whose outputs it reads.
    """

    def __init__(self, encoder: RecognizerEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, encoded: Tensor, lengths: Tensor | None = None) -> tuple[list[list[int]], None, None, None]:
        """Decode encoder frames (B, T', D) to tokens; None stands for what else SpeechBrain's searchers return.

        `lengths`, relative to the waveforms, are not read, because times T' they can round to one frame too few.
        Padding is recognized by its zeros.
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
        """Convert token indices to text."""
        return self.tokenizer.decode(ids)


class StreamingFeatures(nn.Module):
    """SpeechBrain's `fea_streaming_extractor`: normalized features of a stream.

    Arguments
    ---------
    encoder : RecognizerEncoder
        The encoder whose features and normalization it uses.
    """

    def __init__(self, encoder: RecognizerEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    @property
    def properties(self) -> FilterProperties:
        """The feature window and the encoder's frame stride, in samples; SpeechBrain sizes chunks by the stride."""
        compute, encoder = self.encoder.recognizer.compute_features, self.encoder.recognizer.model.encoder
        return FilterProperties(compute.left_samples + compute.window_end, compute.hop_samples * encoder.time_stride)

    def get_recommended_final_chunk_count(self, frames_per_chunk: int) -> int:
        """Number of chunks of `frames_per_chunk` zeros that flush the last features of a file."""
        return math.ceil(self.encoder.recognizer.compute_features.window_end / frames_per_chunk)

    def make_streaming_context(self) -> StreamingContext:
        """Create the state kept between chunks; raises ValueError for a model that cannot stream."""
        check_streams(self.encoder.recognizer)
        return StreamingContext()

    def forward(self, chunk: Tensor, context: StreamingContext, lengths: Tensor) -> Tensor:
        """Compute the features (B, T, F) completed by samples (B, S), which are zeroed after relative lengths (B,)."""
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
        The module that holds the recognizer.
    """

    def __init__(self, encoder: RecognizerEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def make_streaming_context(self, dynchunktrain_config: Any = None) -> StreamingContext:
        """See :meth:`BigLittleEncoder.make_streaming_context`."""
        return self.encoder.recognizer.model.encoder.make_streaming_context()

    def forward_streaming(self, x: Tensor, context: StreamingContext) -> Tensor:
        """Compute the encoder frames (B, T', D) completed by features (B, T, F)."""
        return self.encoder.recognizer.model.encoder.forward_streaming(x, context)


class StreamingOutput(nn.Module):
    """SpeechBrain's `proj_enc`: the recognizer's output layer.

    Arguments
    ---------
    encoder : RecognizerEncoder
        The module that holds the recognizer.
    """

    def __init__(self, encoder: RecognizerEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, encoded: Tensor) -> Tensor:
        """Compute log-probabilities (B, T', V) of encoder frames (B, T', D)."""
        return self.encoder.recognizer.model.log_probs(encoded)


class StreamedTokens:
    """Greedy decoding of parallel streams: SpeechBrain's `decoder_context`.

    With any chunks, tokens equal those of :func:`~biglittle_asr.decoding.ctc_greedy`, each given at its first frame.

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
        """Find the tokens that begin within the next frames, from log-probabilities (B, T', V)."""
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
    """Add tokens to a stream; returns the new part of its text."""
    context.tokens += tokens
    before, context.text = context.text, tokenizer.decode_ids(context.tokens)
    return context.text[len(before) :]


def decode_all(outputs: Tensor, lengths: Tensor | StreamedTokens, decoder: RecognizerDecoder) -> list[list[int]]:
    """SpeechBrain's `decoding_function`, for whole utterances and for streams.

    Arguments
    ---------
    outputs : Tensor
        Encoder frames (B, T', D), or for streams log-probabilities (B, T', V).
    lengths : Tensor or StreamedTokens
        Relative lengths, which are not read, or the context of streams.
    decoder : RecognizerDecoder
    """
    return lengths.add(outputs) if isinstance(lengths, StreamedTokens) else decoder(outputs)[0]


def load_encoder(encoder: BigLittleEncoder, path: str | Path) -> None:
    """Load the weights of a model folder's encoder: a hook for the `custom_hooks` of SpeechBrain's Pretrainer.

    Arguments
    ---------
    encoder : BigLittleEncoder
        Changed in place; keeps its device.
    path : path
        The folder's model.safetensors, or a link to it. The folder's other files must be beside it.

    Raises
    ------
    FileNotFoundError, ValueError
        As for :func:`biglittle_asr.inference.load_model`; also if the folder's encoder has other settings, since
        weights that fit by shape would then give meaningless outputs.
    """
    # SpeechBrain links to the file, which in a cache may itself be a link.
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
        Filled once the files are fetched, as is the encoder.
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
        """Fetch the files, into the savedir if there is one; returns their paths by name."""
        self.files = {
            name: fetch(name, default_source, self.collect_in, None, local_strategy, fetch_config) for name in NEEDED
        }
        return self.files

    def load_collected(self) -> None:
        """Fill the encoder, and with it the decoder, and the tokenizer.

        Raises
        ------
        ValueError
            As for :func:`biglittle_asr.inference.load_model`.
        """
        config, weights, tokenizer = (Path(self.files[name]) for name in NEEDED)
        recognizer = load_files(config, weights, tokenizer)
        self.encoder.recognizer = recognizer
        self.tokenizer.tokenizer = recognizer.tokenizer
