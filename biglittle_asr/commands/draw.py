"""`biglittle draw`: a picture of a network."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path

from biglittle_asr.commands.networks import IMAGE, find_network, override
from biglittle_asr.commands.shared import add_image_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="encoder preset, image model, model folder, or a recipe's YAML file, which is executed as in "
        "SpeechBrain: use only files you trust",
    )
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="settings to change, such as alpha=4")
    parser.add_argument("--output", type=Path, metavar="FILE", help="SVG or PNG file (default: the model's name, .svg)")
    add_image_size(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command; raises ValueError or OSError, with a sentence for the user, if it fails."""
    import torch

    from biglittle_asr.models import BigLittleEncoder, CTCModel, ImageClassifier
    from biglittle_asr.profiling import draw_network, save_drawing

    found = find_network(options.model, dict(map(override, options.overrides)), options.image_size)
    with torch.device("meta") if found.named else nullcontext():
        network = found.build()
    if isinstance(network, CTCModel):
        network = network.encoder
    if not isinstance(network, BigLittleEncoder | ImageClassifier):
        raise ValueError(f"{options.model}: is a {type(network).__name__}; only encoders and image models are drawn.")
    if isinstance(network, BigLittleEncoder) and options.image_size is not None:
        raise ValueError(f"{options.model}: takes audio, so --image-size does not apply.")
    output = options.output or Path(f"{Path(options.model.removeprefix(IMAGE)).stem}.svg")
    name = " ".join([options.model, *options.overrides])
    save_drawing(draw_network(network, name, found.image_size), output)
    print(output)
