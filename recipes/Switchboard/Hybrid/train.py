#!/usr/bin/env python3
r"""Train a hybrid system on Switchboard (optionally with Fisher) from a flat start, then score dev and Hub5'00.

python recipes/Switchboard/Hybrid/train.py hparams/Switchboard/hybrid_bl_resnet22.yaml \
    --data_folder /path/to/switchboard --hub5_folder /path/to/hub5 --language_model /path/to/3gram.arpa
"""

from biglittle_asr.threads import bound_spinning

if __name__ == "__main__":
    bound_spinning()  # OpenMP reads the settings once, when torch is imported below.

from collections.abc import Sequence

from biglittle_asr.recipe.run import run
from biglittle_asr.tasks.hybrid.train import train_hybrid


def main(argv: Sequence[str]) -> None:
    """Train and score."""
    train_hybrid(argv, "switchboard")


if __name__ == "__main__":
    run(main)
