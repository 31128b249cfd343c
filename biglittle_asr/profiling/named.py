"""The costs of all networks that have a name, in `named.json`, so that listing them takes no PyTorch and no time.

`python -m biglittle_asr.profiling.named` writes the file anew; a test compares it with the networks.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from biglittle_asr.files import write_atomically
from biglittle_asr.models import create_encoder, create_model, list_encoders, list_models
from biglittle_asr.profiling.costs import count_costs, encoder_costs

IMAGE_PIXELS = 224
"""Height and width of the images on which image models are counted, as in `biglittle profile`."""


def encoder_facts(name: str) -> dict[str, int]:
    """Count the parameters of an encoder preset, and its MACs per second of audio.

    Example
    -------
    >>> encoder_facts("bl_resnet22")
    {'parameters': 3201584, 'macs': 336755200}
    """
    with torch.device("meta"):
        costs = encoder_costs(create_encoder(name).eval())
    return {"parameters": costs.parameters, "macs": costs.macs}


def image_model_facts(name: str) -> dict[str, int]:
    """Count the parameters of an image model, and its MACs per image of 224 x 224 pixels.

    Example
    -------
    >>> image_model_facts("resnet18")
    {'parameters': 11689512, 'macs': 1814073344}
    """
    with torch.device("meta"):
        costs = count_costs(create_model(name).eval(), torch.empty(1, 3, IMAGE_PIXELS, IMAGE_PIXELS))
    return {"parameters": costs.parameters, "macs": costs.macs}


def main() -> None:
    """Write the file."""
    found = {
        "encoders": {name: encoder_facts(name) for name in list_encoders()},
        "images": {name: image_model_facts(name) for name in list_models()},
    }
    write_atomically(Path(__file__).with_suffix(".json"), json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
