"""Training of image classifiers."""

from biglittle_asr.tasks.images.brain import ImageBrain, find_image_sets

__all__ = ["ImageBrain", "find_image_sets"]
