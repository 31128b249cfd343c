"""Networks assembled from :mod:`biglittle_asr.nnet`: image classifiers, acoustic encoders and speech models."""

from biglittle_asr.models.attention import AttentionModel
from biglittle_asr.models.checkpoints import load_checkpoint, read_checkpoint
from biglittle_asr.models.ctc import CTCModel
from biglittle_asr.models.encoder import BigLittleEncoder, EncoderConfig, create_encoder, list_encoders
from biglittle_asr.models.hybrid import HybridModel
from biglittle_asr.models.images import ImageClassifier, ImageConfig, create_model, list_models
from biglittle_asr.models.transducer import TransducerModel

__all__ = [
    "AttentionModel",
    "BigLittleEncoder",
    "CTCModel",
    "EncoderConfig",
    "HybridModel",
    "ImageClassifier",
    "ImageConfig",
    "TransducerModel",
    "create_encoder",
    "create_model",
    "list_encoders",
    "list_models",
    "load_checkpoint",
    "read_checkpoint",
]
