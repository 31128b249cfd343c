"""From a trained model folder to words: nothing in a folder is executed when it is loaded.

- `folder/`, `speechbrain.py`: the model folder, for speech and for images
- `recognizer.py`: everything from samples to the frame-wise outputs that decoding reads
- `audio.py`, `inputs.py`: recordings of any kind, as samples at the model's rate
- `transcription.py`, `windows.py`, `streaming.py`, `evaluation.py`: from recordings to words and error rates
- `distributed.py`, `archive.py`: the same on many cores and machines, and transcripts in parts
- `tuning.py`: the weights of a beam search
- `transcripts.py`: transcripts as text, JSON, CTM, SRT, WebVTT and TSV
- `optimize.py`: networks made faster, with the same outputs
- `classification.py`: image classifiers, and their accuracy
"""

from biglittle_asr.inference.audio import Recording
from biglittle_asr.inference.classification import Classifier
from biglittle_asr.inference.evaluation import evaluate
from biglittle_asr.inference.folder.card import ModelCard
from biglittle_asr.inference.folder.classifier import load_classifier
from biglittle_asr.inference.folder.packing import pack
from biglittle_asr.inference.folder.store import load_model, save_model
from biglittle_asr.inference.optimize import optimize
from biglittle_asr.inference.recognizer import Recognizer
from biglittle_asr.inference.streaming import transcribe_stream
from biglittle_asr.inference.transcription import Failure, Transcript, transcribe

__all__ = [
    "Classifier",
    "Failure",
    "ModelCard",
    "Recognizer",
    "Recording",
    "Transcript",
    "evaluate",
    "load_classifier",
    "load_model",
    "optimize",
    "pack",
    "save_model",
    "transcribe",
    "transcribe_stream",
]
