"""`biglittle pack`: make a model folder from a recipe's output folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from biglittle_asr.commands.shared import tell_log


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("experiment", metavar="EXPERIMENT", type=Path, help="output folder of a recipe")
    parser.add_argument("out", metavar="OUT", type=Path, help="model folder to write")
    parser.add_argument(
        "--float16", action="store_true", help="round weights to float16, which halves the folder; see docs/models.md"
    )


def run(options: argparse.Namespace) -> None:
    """Run the command; raises ValueError or OSError, with a sentence for the user, if it fails."""
    from biglittle_asr.inference import pack

    tell_log("biglittle_asr.inference")
    print(pack(options.experiment, options.out, options.float16))
