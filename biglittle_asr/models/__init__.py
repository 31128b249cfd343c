"""Networks assembled from :mod:`biglittle_asr.nnet`: acoustic encoders and their presets."""

from biglittle_asr.models.encoder import BigLittleEncoder, EncoderConfig, create_encoder, list_encoders

__all__ = ["BigLittleEncoder", "EncoderConfig", "create_encoder", "list_encoders"]
