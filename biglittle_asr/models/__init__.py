"""Networks assembled from :mod:`biglittle_asr.nnet`: acoustic encoders, their presets, and the CTC model."""

from biglittle_asr.models.ctc import CTCModel
from biglittle_asr.models.encoder import BigLittleEncoder, EncoderConfig, create_encoder, list_encoders

__all__ = ["BigLittleEncoder", "CTCModel", "EncoderConfig", "create_encoder", "list_encoders"]
