"""The search for words with each kind of speech model: the `searching` of a kind in `kinds.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from biglittle_asr.decoding import BeamSearch, DecodingSettings, Search
from biglittle_asr.decoding.aligned import AlignedAttentionSearch, AlignedTransducerSearch
from biglittle_asr.decoding.hmm.decoder import AlignedHybridSearch
from biglittle_asr.tokens.tokenizer import Tokenizer

Report = Callable[[str], None]


@dataclass(frozen=True)
class GreedySettings:
    """Settings of greedy decoding, which has none."""


@dataclass(frozen=True)
class Searching:
    """The properties in which the searches of kinds differ."""

    search: Callable[[Any, Any, DecodingSettings | None, Any, Report], Search | None]
    """Makes a search from a model, its tokenizer, the user's settings, the model's own settings, and a function called
    about words that are left out. None is greedy decoding. Raises OSError or ValueError if a setting's file cannot be
    read or a setting does not apply."""
    description: str
    """A folder's default decoding, for display; `{own.beam_size}` stands for a setting."""
    streams: bool = False
    """Whether words are known before the utterance ends."""
    takes_language_models: bool = False
    """Whether the search accepts language models, lexicons and hotwords."""
    check: Callable[[Any], object] = lambda search: None
    """Checks a search against its loaded weights; raises ValueError."""

    def describe(self, own: Any) -> str:
        """The description, filled with a model's own settings."""
        return self.description.format(own=own)


def _search_ctc(model: Any, tokenizer: Tokenizer, wishes: DecodingSettings | None, own: Any, report: Report) -> Any:
    return None if wishes is None else BeamSearch(tokenizer, wishes, report)


def _always(search: Callable[[Any, Any, DecodingSettings, Any], Search]) -> Callable[..., Search]:
    """Wrap a search that the model needs even if the user gives no settings."""
    return lambda model, tokenizer, wishes, own, report: search(model, tokenizer, wishes or DecodingSettings(), own)


CTC_SEARCH = Searching(_search_ctc, "Greedy decoding, no language model.", streams=True, takes_language_models=True)
ATTENTION = Searching(
    _always(AlignedAttentionSearch),
    "Beam search of {own.beam_size} hypotheses, CTC's weight {own.ctc_weight:g}, no language model.",
)
TRANSDUCER = Searching(
    _always(AlignedTransducerSearch), "Beam search of {own.beam_size} hypotheses (1: greedy), no language model."
)
HYBRID = Searching(
    _always(AlignedHybridSearch),
    "Search in its graph of lexicon and language model, whose weight is {own.lm_weight:g}.",
    check=lambda search: search.parts,  # which the search keeps
)
