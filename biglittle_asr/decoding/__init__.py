"""From an encoder's posteriors to token sequences."""

from biglittle_asr.decoding.greedy import ctc_greedy

__all__ = ["ctc_greedy"]
