"""Big-Little networks for speech and images: acoustic encoders and classifiers, trained and measured.

Import the room you need (`biglittle_asr.models`, `biglittle_asr.scoring`, ...): this file imports none, so that
scoring a file does not wait for torch.
"""

from biglittle_asr import moved

moved.install()

__version__ = "0.1.0"
