"""From an encoder's posteriors to token sequences and words.

- `greedy.py`, `words.py`, `tokenizer.py`: the best path, and words of tokens
- `beam.py`: beam search; `settings.py`, `lexicon.py`, `language_model.py`, `hotwords.py`: what it is told
- `attention.py`, `transducer.py`: searches of other models; `aligned.py`: with the times of their words
- `decoder.py`: greedy decoding and searches as two of one kind
- `arpa.py`, `ngram.py`, `sentences.py`: ARPA files, and training n-grams on text
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
