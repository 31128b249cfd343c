"""The repository, and where real data may be."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
AN4 = Path(os.environ.get("BIGLITTLE_AN4", REPOSITORY.parent / "shared" / "data" / "an4"))
"""Where the real corpus may be."""
SPEECHOCEAN762 = Path(
    os.environ.get("BIGLITTLE_SPEECHOCEAN762", REPOSITORY.parent / "shared" / "data" / "speechocean762")
)
"""The same of speechocean762."""


def recipe_main(*folders: str) -> Callable[[Sequence[str]], Any]:
    """`main` of the train.py in a folder of recipes/."""
    file = REPOSITORY.joinpath("recipes", *folders, "train.py")
    spec = importlib.util.spec_from_file_location("train", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    main: Callable[[Sequence[str]], Any] = module.main
    return main
