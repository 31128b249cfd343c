"""Settings of the recipes for speech recognition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from biglittle_asr.recipe.settings import yaml_default
from biglittle_asr.tasks.engine.settings import BaseRecipe, EpochRecipe


@dataclass(kw_only=True)
class SpeechRecipe(BaseRecipe):
    """Settings of every recipe of speech recognition."""

    splits: Mapping[str, str] | None = None
    """The corpus's sets, as in {train: train-clean-100, dev: dev-clean, test: test-clean}; null: train, dev, test."""
    corpus_options: Mapping[str, Any] = yaml_default("{}")
    """Options of the corpus's reader; strict: True refuses a corpus with faults."""
    skip_prep: bool = False
    """Use the manifests that an earlier run made."""
    skip_test: bool = False
    """Score dev only: for tuning, which must not see test."""
    cache_audio: bool = False
    """Keep decoded audio in memory, 0.23 GB per hour at 16 kHz."""
    sample_rate: int
    """Sampling rate in Hz; a corpus with another rate is refused."""
    init_from: str | None = None
    """A model folder whose weights the training starts from; see docs/training.md."""
    average_checkpoints: Sequence[int] = (1, 5, 10)
    """How many of the last epochs to average; dev chooses among these numbers and the best epoch."""

    dynamic_batching: bool = True
    """Make batches of utterances of similar length, whose audio adds up to at most max_batch_length."""
    max_batch_length: float = 60
    """Seconds of audio per batch, in each process."""
    num_buckets: int = 12
    """Number of length buckets; each batch comes from one bucket."""
    sorting: str = "random"
    """Order of the training utterances: random, ascending or descending."""

    compute_features: Any
    """Computes features of waveforms, such as `biglittle_asr.features.LogMel`."""
    normalize: Any
    """Normalizes features, such as `biglittle_asr.features.SentenceNormalization`."""
    wav_augment: Any = None
    """Changes training waveforms, such as `biglittle_asr.features.SpeedPerturbation`; null: nothing."""
    fea_augment: Any = None
    """Changes training features, such as `biglittle_asr.features.SpecAugment`; null: nothing."""
    modules: Mapping[str, Any] = yaml_default(
        "compute_features: !ref <compute_features>\nnormalize: !ref <normalize>\nfea_augment: !ref <fea_augment>\n"
    )
    """Modules besides the model."""
    encoder: Any
    """Network that turns features into vectors: a file in hparams/encoders/, or any other; see docs/swapping.md."""


@dataclass(kw_only=True)
class TokenRecipe(EpochRecipe, SpeechRecipe):
    """Settings of all models whose outputs are tokens."""

    token_type: str = "character"
    """Kind of tokens: character, unigram or bpe."""
    vocab_size: int | None = None
    """Number of tokens including the blank; for unigram and bpe only."""
    output_neurons: int | None = None
    """Outputs of the model; null: the number of tokens. Any other number is refused."""


@dataclass(kw_only=True)
class CTCRecipe(TokenRecipe):
    """Settings of CTC recipes."""

    consistency_weight: float = 0.0
    """Weight of the consistency of two augmented views of each utterance (CR-CTC), at twice the cost; 0: one view."""
    decoding: str | None = None
    """JSON file of beam search settings for the final scores, as written by `biglittle tune`; null: greedy."""


@dataclass(kw_only=True)
class AttentionRecipe(TokenRecipe):
    """Settings of recipes for attention models with CTC."""

    ctc_weight: float = 0.3
    """Weight of CTC in the loss; the decoder has the rest."""
    label_smoothing: float = 0.1
    """Label smoothing of the decoder's targets."""
    valid_beam_size: int = 1
    """Beam size of the search during training, by the decoder alone."""
    test_beam_size: int = 10
    """Beam size of the search for the final scores."""
    ctc_decoding_weight: float = 0.4
    """Weight of CTC in the search for the final scores."""
    search_options: Mapping[str, Any] = yaml_default("{}")
    """Other options of SpeechBrain's S2SBeamSearcher: eos_threshold, using_max_attn_shift, max_attn_shift, ..."""


@dataclass(kw_only=True)
class TransducerRecipe(TokenRecipe):
    """Settings of recipes for transducers."""

    valid_beam_size: int = 1
    """Beam size of the search during training; 1: greedy, which is fast and deletes more than the final search."""
    test_beam_size: int = 4
    """Beam size of the search for the final scores."""
