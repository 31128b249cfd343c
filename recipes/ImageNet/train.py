#!/usr/bin/env python3
"""Train an image classifier on a folder of class folders, then evaluate it on a single center crop.

python recipes/ImageNet/train.py hparams/ImageNet/authors_bl_resnet50.yaml --data_folder /path/to/imagenet
"""

from biglittle_asr.threads import bound_spinning

if __name__ == "__main__":
    bound_spinning()  # OpenMP reads the settings once, when torch is imported below.

from collections.abc import Sequence

from biglittle_asr.recipe.run import load_recipe, run
from biglittle_asr.tasks.images.brain import ImageBrain, find_image_sets
from biglittle_asr.tasks.images.settings import ImageRecipe


def main(argv: Sequence[str]) -> None:
    """Parse, find the images, fit, evaluate."""
    hparams, run_opts = load_recipe(argv, ImageRecipe)
    sets = find_image_sets(hparams)
    brain = ImageBrain(hparams["model"](num_classes=len(sets.train.classes)), sets, hparams, run_opts)
    brain.fit_sets(hparams)
    brain.evaluate_sets(hparams)


if __name__ == "__main__":
    run(main)
