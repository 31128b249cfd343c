"""A model folder in SpeechBrain's `EncoderASR`.

`EncoderASR.from_hparams` builds what the folder's hyperparams.yaml names, and that names what is here: an encoder and
a tokenizer that are filled, by :func:`biglittle_asr.inference.load_model`'s own reader, once SpeechBrain has fetched
the files. SpeechBrain's relative lengths are turned into samples at this door.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from speechbrain.utils.fetching import FetchConfig, LocalStrategy, fetch
from speechbrain.utils.parameter_transfer import Pretrainer
from torch import Tensor, nn

from biglittle_asr.decoding import ctc_greedy
from biglittle_asr.decoding.tokenizer import Tokenizer
from biglittle_asr.inference.folder import NEEDED, load_files
from biglittle_asr.inference.recognizer import Recognizer
from biglittle_asr.nnet import relative_to_frames, valid_mask

BLANK = 0


class RecognizerEncoder(nn.Module):
    """`EncoderASR`'s encoder: the whole chain from samples to log-probabilities.

    Attributes
    ----------
    recognizer : Recognizer
        Set by :class:`FolderPretrainer`.
    """

    recognizer: Recognizer

    def forward(self, wavs: Tensor, wav_lens: Tensor) -> Tensor:
        """Log-probabilities (B, T', V) of waveforms (B, S) with relative lengths (B,); padding is all blank."""
        num_samples = relative_to_frames(wav_lens.double(), wavs.shape[1])
        valid = valid_mask(num_samples, wavs.shape[1])
        log_probs, frames = self.recognizer(wavs * valid, num_samples)
        padding = ~valid_mask(frames, log_probs.shape[1])
        blank = torch.full_like(log_probs[0, 0], -torch.inf)
        blank[BLANK] = 0.0
        log_probs[padding] = blank
        return log_probs


class Detokenizer:
    """`EncoderASR`'s tokenizer: a :class:`Tokenizer` under the method name that SpeechBrain calls.

    Attributes
    ----------
    tokenizer : Tokenizer
        Set by :class:`FolderPretrainer`.
    """

    tokenizer: Tokenizer

    def decode_ids(self, ids: Sequence[int]) -> str:
        """Text of token indices."""
        return self.tokenizer.decode(ids)


def decode_all(log_probs: Tensor, lengths: Tensor, blank_id: int = BLANK) -> list[list[int]]:
    """Greedy decoding of log-probabilities (B, T', V) over all frames.

    `lengths`, relative to the waveforms, are not read: times T' they can round to one frame too few, and
    :class:`RecognizerEncoder` has put blanks behind each utterance's end.
    """
    return ctc_greedy(log_probs, torch.full((len(log_probs),), log_probs.shape[1]), blank_id)


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
        """Fill encoder and tokenizer.

        Raises
        ------
        ValueError
            As :func:`biglittle_asr.inference.load_model`.
        """
        config, weights, tokenizer = (Path(self.files[name]) for name in NEEDED)
        recognizer = load_files(config, weights, tokenizer)
        self.encoder.recognizer = recognizer
        self.tokenizer.tokenizer = recognizer.tokenizer
