"""From an encoder's posteriors to token sequences and words."""

from biglittle_asr.decoding.greedy import GreedyDecoder, Token, ctc_greedy
from biglittle_asr.decoding.words import Word, WordBuilder

__all__ = ["GreedyDecoder", "Token", "Word", "WordBuilder", "ctc_greedy"]
