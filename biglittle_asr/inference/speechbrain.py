"""A model folder in SpeechBrain's `EncoderASR`, or `EncoderDecoderASR`; its encoder in any recipe of SpeechBrain's.

Their `from_hparams` builds what the folder's hyperparams.yaml names, and that names what is here: an encoder, a decoder
and a tokenizer that are filled, by :func:`biglittle_asr.inference.load_model`'s own reader, once SpeechBrain has
fetched the files. SpeechBrain's relative lengths are turned into samples at this door.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from speechbrain.utils.fetching import FetchConfig, LocalStrategy, fetch
from speechbrain.utils.parameter_transfer import Pretrainer
from torch import Tensor, nn

from biglittle_asr.inference.folder.config import differences
from biglittle_asr.inference.folder.store import NEEDED, load_files, load_model
from biglittle_asr.inference.recognizer import Recognizer
from biglittle_asr.models import BigLittleEncoder
from biglittle_asr.nnet import relative_to_frames, valid_mask
from biglittle_asr.tokens.tokenizer import Tokenizer


class RecognizerEncoder(nn.Module):
    """SpeechBrain's encoder: the whole chain from samples to what decoding goes by.

    Attributes
    ----------
    recognizer : Recognizer
        Set by :class:`FolderPretrainer`.
    """

    recognizer: Recognizer

    def forward(self, wavs: Tensor, wav_lens: Tensor) -> Tensor:
        """Outputs (B, T', D) of waveforms (B, S) with relative lengths (B,); padding is NaN, and shows by that."""
        num_samples = relative_to_frames(wav_lens.double(), wavs.shape[1])
        valid = valid_mask(num_samples, wavs.shape[1])
        outputs, frames = self.recognizer(wavs * valid, num_samples)
        return outputs.masked_fill(~valid_mask(frames, outputs.shape[1]).unsqueeze(2), torch.nan)


class RecognizerDecoder(nn.Module):
    """SpeechBrain's decoder: the recognizer's own way from outputs to tokens.

    Arguments
    ---------
    encoder : RecognizerEncoder
        Whose outputs it reads.
    """

    def __init__(self, encoder: RecognizerEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, outputs: Tensor, lengths: Tensor | None = None) -> tuple[list[list[int]], None, None, None]:
        """Tokens of each utterance, and for three other things that SpeechBrain's searchers return, nothing.

        `lengths`, relative to the waveforms, are not read: times T' they can round to one frame too few.
        """
        recognizer = self.encoder.recognizer
        frames = outputs[:, :, 0].isfinite().sum(dim=1).tolist()
        return [recognizer.tokens(row[:valid]) for row, valid in zip(outputs, frames, strict=True)], None, None, None


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


def decode_all(outputs: Tensor, lengths: Tensor, decoder: RecognizerDecoder) -> list[list[int]]:
    """The decoder, as a function; see :meth:`RecognizerDecoder.forward`."""
    return decoder(outputs)[0]


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
