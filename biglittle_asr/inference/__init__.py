"""From a trained model folder to words: nothing in a folder is executed when it is loaded."""

from biglittle_asr.inference.card import ModelCard
from biglittle_asr.inference.folder import load_model, save_model
from biglittle_asr.inference.packing import pack
from biglittle_asr.inference.recognizer import Recognizer

__all__ = ["ModelCard", "Recognizer", "load_model", "pack", "save_model"]
