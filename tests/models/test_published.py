"""The image models against the authors' published ones: the same keys, shapes, counts, and the same logits."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest
import torch
from torch import Tensor

from biglittle_asr.models import create_model
from support.repository import REPOSITORY

pytestmark = pytest.mark.slow

REFERENCE = REPOSITORY.parent / "shared" / "reference" / "ibm_biglittle.json"

NAMES = (
    "bl_resnet50",
    "bl_resnet101",
    "bl_resnext50_32x4d",
    "bl_resnext101_32x4d",
    "bl_resnext101_64x4d",
    "bl_seresnext50_32x4d",
    "bl_seresnext101_32x4d",
)


def published_fill(key: str, shape: torch.Size) -> Tensor:
    """The value that the reference logits were made with, for one entry of the state dict."""
    n = shape.numel()
    wave = np.sin(0.7 * np.arange(n) + zlib.crc32(key.encode()) % 997).reshape(shape)
    if len(shape) >= 2:
        wave = wave * np.sqrt(2 / (n / shape[0]))
    elif key.endswith("running_var"):
        wave = 1 + 0.2 * wave
    elif key.endswith(("running_mean", "bias")):
        wave = 0.1 * wave
    else:
        wave = 1 + 0.1 * wave
    return torch.from_numpy(wave)


@pytest.mark.parametrize("name", NAMES)
def test_published_network(name: str) -> None:
    if not REFERENCE.is_file():
        pytest.skip(f"no reference logits in {REFERENCE}")
    reference = json.loads(REFERENCE.read_text())[f"{name}_a2_b4"]
    with torch.device("meta"):
        net = create_model(name, alpha=2, beta=4).double().eval()
    state = net.state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == reference["state_dict"]
    assert sum(p.numel() for p in net.parameters()) == reference["parameters"]

    fill = {
        key: torch.tensor(0) if key.endswith("num_batches_tracked") else published_fill(key, value.shape)
        for key, value in state.items()
    }
    net.load_state_dict(fill, assign=True)
    size = reference["input"]["size"]
    images = torch.sin(0.013 * torch.arange(2 * 3 * size * size, dtype=torch.float64)).view(2, 3, size, size)
    with torch.no_grad():
        logits = net(images)
    # The file has nine decimals of the first, and full precision of the second.
    head, l2 = torch.tensor(reference["logits_head"]).double(), torch.tensor(reference["logits_l2"]).double()
    torch.testing.assert_close(logits[:, :8], head, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(logits.norm(dim=1), l2, rtol=1e-6, atol=0)
