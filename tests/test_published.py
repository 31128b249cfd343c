"""The blocks against the authors' published image nets: the same keys, shapes, counts, and the same logits."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from torch import Tensor, nn

from biglittle_asr.nnet import BigLittleConfig, BigLittleStage, BigLittleStem, Bottleneck, plain_stage

REFERENCE = REPOSITORY.parent / "shared" / "reference" / "ibm_biglittle.json"

RESNEXT = {"groups": 32, "base_width": 4}
SE_RESNEXT = {**RESNEXT, "squeeze_excite": True}
DEPTH_50, DEPTH_101 = (3, 4, 6, 3), (4, 8, 18, 3)

NETS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "bl_resnet50_a2_b4": (DEPTH_50, {}),
    "bl_resnet101_a2_b4": (DEPTH_101, {}),
    "bl_resnext50_32x4d_a2_b4": (DEPTH_50, RESNEXT),
    "bl_resnext101_32x4d_a2_b4": (DEPTH_101, RESNEXT),
    "bl_resnext101_64x4d_a2_b4": (DEPTH_101, {"groups": 64, "base_width": 4}),
    "bl_seresnext50_32x4d_a2_b4": (DEPTH_50, SE_RESNEXT),
    "bl_seresnext101_32x4d_a2_b4": (DEPTH_101, SE_RESNEXT),
}
"""Published name -> blocks of the four stages, options of the blocks."""


class PublishedNet(BigLittleStem):
    """A published net; the stem is its root, since the checkpoints have no prefix for it."""

    def __init__(self, blocks: Sequence[int], config: BigLittleConfig, **options: Any):
        super().__init__(3, 64, config.alpha)
        stage = partial(BigLittleStage, config=config, block=Bottleneck, **options)
        self.layer1 = stage(64, 256, blocks[0], stride=(2, 2))
        self.layer2 = stage(256, 512, blocks[1], stride=(2, 2))
        self.layer3 = stage(512, 1024, blocks[2], stride=(1, 1))
        self.layer4 = plain_stage(1024, 2048, blocks[3], (2, 2), Bottleneck, **options)
        self.fc = nn.Linear(2048, 1000)

    def forward(self, x: Tensor, mask: None = None) -> Tensor:
        x = self.layer4(self.layer3(self.layer2(self.layer1(super().forward(x)))))
        return self.fc(x.mean((2, 3)))


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


@pytest.mark.parametrize("name", NETS)
def test_published_network(name: str) -> None:
    if not REFERENCE.is_file():
        pytest.skip(f"no reference logits in {REFERENCE}")
    reference = json.loads(REFERENCE.read_text())[name]
    blocks, options = NETS[name]
    net = PublishedNet(blocks, BigLittleConfig(alpha=2, beta=4), **options).double().eval()
    state = net.state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == reference["state_dict"]
    assert sum(p.numel() for p in net.parameters()) == reference["parameters"]

    net.load_state_dict(
        {k: v if k.endswith("num_batches_tracked") else published_fill(k, v.shape) for k, v in state.items()}
    )
    size = reference["input"]["size"]
    images = torch.sin(0.013 * torch.arange(2 * 3 * size * size, dtype=torch.float64)).view(2, 3, size, size)
    with torch.no_grad():
        logits = net(images)
    # The file has nine decimals of the first, and full precision of the second.
    head, l2 = torch.tensor(reference["logits_head"]).double(), torch.tensor(reference["logits_l2"]).double()
    torch.testing.assert_close(logits[:, :8], head, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(logits.norm(dim=1), l2, rtol=1e-6, atol=0)
