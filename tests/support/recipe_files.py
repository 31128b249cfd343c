"""The recipes' YAML files, and what reads them."""

from __future__ import annotations

from pathlib import Path

from biglittle_asr.commands.recipe import recipe_settings
from biglittle_asr.recipe.settings import Settings
from biglittle_asr.recipe.yaml import read_tree, tag_of
from support.repository import REPOSITORY

ENCODER_FILES = sorted((REPOSITORY / "hparams" / "encoders").glob("*.yaml"))
RECIPE_FILES = sorted(set((REPOSITORY / "hparams").glob("*/*.yaml")) - set(ENCODER_FILES))


def settings_of(path: Path) -> type[Settings]:
    """What the recipe of a YAML file reads."""
    return recipe_settings()[tag_of(read_tree(path)["model"]).rpartition(".")[2]]
