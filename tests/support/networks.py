"""What tests of networks share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from biglittle_asr.models import create_model
from biglittle_asr.models.images import MODELS
from biglittle_asr.nnet import SqueezeExcite


def randomize_batchnorm(module: nn.Module, generator: torch.Generator) -> None:
    """Give every BatchNorm random statistics and affine values, in place.

    A fresh block ends in a scale of zero: it adds nothing to its shortcut, and would pass any test of padding,
    causality or gradients.
    """
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            assert child.running_mean is not None and child.running_var is not None
            with torch.no_grad():
                child.running_mean.copy_(0.3 * torch.randn(child.num_features, generator=generator))
                child.running_var.copy_(0.5 + torch.rand(child.num_features, generator=generator))
                child.weight.copy_(0.5 + torch.rand(child.num_features, generator=generator))
                child.bias.copy_(0.3 * torch.randn(child.num_features, generator=generator))


def keep_gates_alive(module: nn.Module) -> None:
    """Bias squeeze-excite's hidden layer, in place: one this narrow may have no other ReLU that is alive."""
    for child in module.modules():
        if isinstance(child, SqueezeExcite):
            nn.init.constant_(child.fc1.bias, 5.0)


def assert_near(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Equal shapes, and values within `tolerance` of the expected tensor's largest."""
    assert actual.shape == expected.shape
    assert torch.isfinite(actual).all()
    error, scale = (actual - expected).abs().max().item(), expected.abs().max().item()
    assert error <= tolerance * max(scale, 1e-3), f"off by {error:g}, on a scale of {scale:g}"


NARROW = {"basic": (16, 32, 64, 128), "bottleneck": (64, 128, 256, 512)}
"""A quarter of the channels: as deep as the model, and quick."""


def narrow(name, **overrides):
    return create_model(
        name, **{"channels": NARROW[MODELS[name].get("block", "bottleneck")], "num_classes": 10, **overrides}
    )
