"""Settings of the recipes for hybrid systems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from biglittle_asr.recipe.settings import yaml_default
from biglittle_asr.tasks.speech.settings import SpeechRecipe


@dataclass(kw_only=True)
class HybridRecipe(SpeechRecipe):
    """Settings of hybrid recipes."""

    kaldi: Mapping[str, Any] = yaml_default("{}")
    """Kaldi's alignments and graph to train on, {alignments, transitions, graph, words}; see docs/hybrid.md."""
    lexicon: str | None
    """File of pronunciations, in CMU's or Kaldi's format."""
    language_model: Any
    """ARPA file, or {order: 3}: n-grams of the training transcripts."""
    states_per_phone: int = 3
    """States per phone, which is also the least number of output frames that a phone lasts."""
    silence_states: int = 3
    """States of silence, likewise."""
    iterations: Sequence[Mapping[str, Any]]
    """Trainings, each on the alignments of the previous one: {epochs: 10, tied: True, mmi: False}; see
    docs/hybrid.md."""
    tied_states: int
    """Largest number of tied context-dependent states."""
    min_frames: int = 150
    """Least number of training frames per tied state."""
    balance: float = 0.8
    """gamma: a state with a fraction f of the frames has loss weight f^(gamma - 1) and prior f^gamma."""
    mmi_lm_weight: float = 4
    """Weight of the language model in iterations with `mmi: True`."""
    mmi_ce_weight: float = 0.1
    """Weight of the cross-entropy added to MMI."""
    lm_weights: Sequence[float] = (2, 3, 4, 5, 6, 8, 10, 12, 15)
    """Weights of the language model in the search; dev chooses."""
    search_options: Mapping[str, Any] = yaml_default("{beam: 12.0, max_active: 5000}")
    """Options of the search; beam is in units of the graph's costs."""
    average_checkpoints: Sequence[int] = (1, 3, 5)
    """How many of the last epochs to average; dev chooses among these numbers and the best epoch."""
    batch_size: int = 16
    """Utterances per batch, without dynamic_batching."""
    max_batch_length: float = 40
    """Seconds of audio per batch, in each process."""
    valid_dataloader_opts: Mapping[str, Any] = yaml_default("{batch_size: 8}")
    """Options of torch's DataLoader in evaluation."""
