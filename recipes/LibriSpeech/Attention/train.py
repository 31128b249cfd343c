#!/usr/bin/env python3
"""Train an attention model jointly with CTC on LibriSpeech or a corpus with its layout; score by beam search.

python recipes/LibriSpeech/Attention/train.py hparams/LibriSpeech/attention_bl_resnet22.yaml --data_folder DATA
"""

from biglittle_asr.threads import bound_spinning

if __name__ == "__main__":
    bound_spinning()  # OpenMP reads the settings once, when torch is imported below.

from collections.abc import Sequence

from biglittle_asr.recipe.run import run
from biglittle_asr.tasks.speech.attention import AttentionBrain
from biglittle_asr.tasks.speech.settings import AttentionRecipe
from biglittle_asr.tasks.speech.train import train_recognizer


def main(argv: Sequence[str]) -> None:
    """Train and score."""
    train_recognizer(argv, "librispeech", AttentionBrain, AttentionRecipe)


if __name__ == "__main__":
    run(main)
