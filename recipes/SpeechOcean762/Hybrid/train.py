#!/usr/bin/env python3
r"""Train a hybrid system on speechocean762 from a flat start, then score dev and test through a decoding graph.

python recipes/SpeechOcean762/Hybrid/train.py hparams/SpeechOcean762/hybrid_bl_resnet22_context.yaml \
    --data_folder /path/to/speechocean762
"""

from biglittle_asr.threads import bound_spinning

if __name__ == "__main__":
    bound_spinning()  # OpenMP reads the settings once, when torch is imported below.

from collections.abc import Sequence

from biglittle_asr.recipe.run import run
from biglittle_asr.tasks.hybrid.train import train_hybrid


def main(argv: Sequence[str]) -> None:
    """Train and score."""
    train_hybrid(argv, "speechocean762")


if __name__ == "__main__":
    run(main)
