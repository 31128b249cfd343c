"""Small corpora by speech synthesis: `python -m biglittle_asr.corpora.synthesis OUT` makes one."""

from biglittle_asr.corpora.synthesis.librispeech_like import Recipe, synthesize

__all__ = ["Recipe", "synthesize"]
