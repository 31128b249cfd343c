#!/usr/bin/env python3
"""Train a hybrid system on AN4 from a flat start, then score dev and test through a decoding graph.

python recipes/AN4/Hybrid/train.py hparams/AN4/hybrid_bl_resnet22.yaml --data_folder /path/to/an4
"""

from biglittle_asr.threads import bound_spinning

if __name__ == "__main__":
    bound_spinning()  # OpenMP reads the settings once, when torch is imported below.

from collections.abc import Sequence

from biglittle_asr.recipe.run import run
from biglittle_asr.tasks.hybrid.train import train_hybrid


def main(argv: Sequence[str]) -> None:
    """Train and score."""
    train_hybrid(argv, "an4")


if __name__ == "__main__":
    run(main)
