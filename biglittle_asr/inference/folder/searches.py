"""How a speech model of each kind is searched for words: the `searching` of a kind in `kinds.py`."""

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
    """Greedy decoding has none."""


@dataclass(frozen=True)
class Searching:
    """What tells the search of a kind from those of others."""

    search: Callable[[Any, Any, DecodingSettings | None, Any, Report], Search | None]
    """From a model, its tokenizer, what a user wishes, the model's own settings, and whom to tell of words that are
    left out. None: greedy decoding. Raises OSError or ValueError if what is wished cannot be read or does not apply."""
    description: str
    """How a folder transcribes if nothing else is wished, for people; `{own.beam_size}` stands for a setting."""
    streams: bool = False
    """Whether words can be told before the utterance ends."""
    takes_language_models: bool = False
    """Whether it does, and lexicons and hotwords."""
    check: Callable[[Any], object] = lambda search: None
    """Checks of a search what weights alone can say, once they are loaded; raises ValueError."""

    def describe(self, own: Any) -> str:
        """The description, with settings of a model's own."""
        return self.description.format(own=own)


def _search_ctc(model: Any, tokenizer: Tokenizer, wishes: DecodingSettings | None, own: Any, report: Report) -> Any:
    return None if wishes is None else BeamSearch(tokenizer, wishes, report)


def _always(search: Callable[[Any, Any, DecodingSettings, Any], Search]) -> Callable[..., Search]:
    """For a search that a model cannot do without."""
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
