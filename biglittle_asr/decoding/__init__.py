"""Decoding: from an encoder's output to tokens and words.

- `ctc/greedy.py`: the best path of a CTC model
- `ctc/beam.py`: beam search of a CTC model; its inputs are in `settings.py`, `ctc/lexicon.py`, `ctc/hotwords.py` and
  `lm/language_model.py`
- `attention.py`, `transducer.py`: searches of other models; `aligned.py`: these searches with word times
- `decoder.py`: one interface for greedy decoding and searches
- `lm/arpa.py`, `lm/ngram.py`, `lm/sentences.py`: ARPA files, and training n-grams on text
"""

from biglittle_asr.decoding.ctc.beam import BeamSearch, Hypothesis
from biglittle_asr.decoding.ctc.greedy import GreedyDecoder, GreedyWords, ctc_greedy
from biglittle_asr.decoding.decoder import BeamWords, Decoder, Search
from biglittle_asr.decoding.settings import DecodingSettings, read_settings, write_settings
from biglittle_asr.tokens.words import Token, Word, WordBuilder

__all__ = [
    "BeamSearch",
    "BeamWords",
    "Decoder",
    "DecodingSettings",
    "GreedyDecoder",
    "GreedyWords",
    "Hypothesis",
    "Search",
    "Token",
    "Word",
    "WordBuilder",
    "ctc_greedy",
    "read_settings",
    "write_settings",
]
