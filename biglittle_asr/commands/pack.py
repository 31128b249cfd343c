"""`biglittle pack`: a model folder of what a recipe trained."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("experiment", metavar="EXPERIMENT", type=Path, help="output folder of a recipe")
    parser.add_argument("out", metavar="OUT", type=Path, help="model folder to write")


def run(options: argparse.Namespace) -> None:
    """Do the work; raises ValueError or OSError, with a sentence for the user, if it cannot."""
    from biglittle_asr.inference import pack

    print(pack(options.experiment, options.out))
