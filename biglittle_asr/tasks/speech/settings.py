"""What the recipes of speech recognition read."""

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
    """Sets of the corpus, such as {train: train-clean-100, dev: dev-clean, test: test-clean}; null: of these names."""
    corpus_options: Mapping[str, Any] = yaml_default("{}")
    """Options of the corpus's reader, and strict: True, which refuses a corpus with faults."""
    skip_prep: bool = False
    """Use the manifests that an earlier run made."""
    skip_test: bool = False
    """Score dev only: for tuning, which must not see test."""
    cache_audio: bool = False
    """Keep decoded audio in memory, 0.23 GB an hour at 16 kHz."""
    sample_rate: int
    """Sampling rate in Hz; a corpus of another rate is refused."""
    init_from: str | None = None
    """A model folder whose weights the training starts from; see docs/training.md."""
    average_checkpoints: Sequence[int] = (1, 5, 10)
    """How many of the last epochs to average; dev chooses among these numbers and the best epoch."""

    dynamic_batching: bool = True
    """Make batches of similar lengths whose audio adds up to at most max_batch_length."""
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
    """Network from features to vectors: a file of hparams/encoders/, or any other; see docs/swapping.md."""


@dataclass(kw_only=True)
class TokenRecipe(EpochRecipe, SpeechRecipe):
    """Settings of every kind of model whose outputs are tokens."""

    token_type: str = "character"
    """Kind of tokens: character, unigram or bpe."""
    vocab_size: int | None = None
    """Number of tokens including the blank; for unigram and bpe only."""
    output_neurons: int | None = None
    """Outputs of the model; null: as many as there are tokens. Another number is refused."""


@dataclass(kw_only=True)
class CTCRecipe(TokenRecipe):
    """Settings of CTC recipes."""

    consistency_weight: float = 0.0
    """Weight of the consistency of two augmented views of each utterance (CR-CTC), at twice the cost; 0: one view."""
    decoding: str | None = None
    """JSON file of a beam search for the final scores, as `biglittle tune` writes; null: greedy."""


@dataclass(kw_only=True)
class AttentionRecipe(TokenRecipe):
    """Settings of recipes of attention models with CTC beside them."""

    ctc_weight: float = 0.3
    """Weight of CTC in the loss; the rest is the decoder's."""
    label_smoothing: float = 0.1
    """Label smoothing of the decoder's targets."""
    valid_beam_size: int = 1
    """Beam of the search during training, by the decoder alone."""
    test_beam_size: int = 10
    """Beam of the search for the final scores."""
    ctc_decoding_weight: float = 0.4
    """Weight of CTC in the search for the final scores."""
    search_options: Mapping[str, Any] = yaml_default("{}")
    """Other options of SpeechBrain's S2SBeamSearcher: eos_threshold, using_max_attn_shift, max_attn_shift, ..."""


@dataclass(kw_only=True)
class TransducerRecipe(TokenRecipe):
    """Settings of recipes of transducers."""

    valid_beam_size: int = 1
    """Beam of the search during training; 1: greedy, which is fast and deletes more than the final search."""
    test_beam_size: int = 4
    """Beam of the search for the final scores."""
