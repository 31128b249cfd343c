"""Features for encoders: log-mel filterbanks, normalization, and augmentation.

All modules take integer lengths, and the result of an utterance does not depend on its batch.
"""

from biglittle_asr.features.augment import RandomFilter, SpecAugment, SpeedPerturbation
from biglittle_asr.features.logmel import FORMS, LogMel
from biglittle_asr.features.normalization import NORMALIZATIONS, GlobalNormalization, SentenceNormalization

__all__ = [
    "FORMS",
    "NORMALIZATIONS",
    "GlobalNormalization",
    "LogMel",
    "RandomFilter",
    "SentenceNormalization",
    "SpecAugment",
    "SpeedPerturbation",
]
