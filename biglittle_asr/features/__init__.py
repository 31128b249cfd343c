"""From waveforms to what an encoder reads: log-mel features, their normalization, and augmentation.

Everything here takes integer lengths and gives each utterance the same result whatever it is batched with.
"""

from biglittle_asr.features.augment import SpecAugment, SpeedPerturbation
from biglittle_asr.features.logmel import FORMS, LogMel
from biglittle_asr.features.normalization import NORMALIZATIONS, GlobalNormalization, SentenceNormalization

__all__ = [
    "FORMS",
    "NORMALIZATIONS",
    "GlobalNormalization",
    "LogMel",
    "SentenceNormalization",
    "SpecAugment",
    "SpeedPerturbation",
]
