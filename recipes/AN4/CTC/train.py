#!/usr/bin/env python3
"""Train a CTC model on AN4, then score dev and test by greedy decoding.

python recipes/AN4/CTC/train.py hparams/AN4/ctc_bl_resnet22.yaml --data_folder /path/to/an4
"""

from biglittle_asr.threads import bound_spinning

if __name__ == "__main__":
    bound_spinning()  # OpenMP reads the settings once, when torch is imported below.

from collections.abc import Sequence

from biglittle_asr.recipe.run import run
from biglittle_asr.tasks.speech.ctc import CTCBrain
from biglittle_asr.tasks.speech.train import train_recognizer


def main(argv: Sequence[str]) -> None:
    """Train and score."""
    train_recognizer(argv, "an4", CTCBrain)


if __name__ == "__main__":
    run(main)
