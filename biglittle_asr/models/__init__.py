"""Networks assembled from :mod:`biglittle_asr.nnet`: image classifiers, acoustic encoders, and the CTC model."""

from biglittle_asr.models.checkpoints import load_checkpoint, read_checkpoint
from biglittle_asr.models.ctc import CTCModel
from biglittle_asr.models.encoder import BigLittleEncoder, EncoderConfig, create_encoder, list_encoders
from biglittle_asr.models.images import ImageClassifier, ImageConfig, create_model, list_models

__all__ = [
    "BigLittleEncoder",
    "CTCModel",
    "EncoderConfig",
    "ImageClassifier",
    "ImageConfig",
    "create_encoder",
    "create_model",
    "list_encoders",
    "list_models",
    "load_checkpoint",
    "read_checkpoint",
]
