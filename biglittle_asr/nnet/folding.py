"""Folding of BatchNorm into the convolutions before it, for networks that are trained."""

from __future__ import annotations

from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn

from biglittle_asr.nnet.layers import Conv2d
from biglittle_asr.nnet.normalization import MaskedBatchNorm2d, ZeroPadding
from biglittle_asr.nnet.sparse import freeze

ModuleType = TypeVar("ModuleType", bound=nn.Module)


@torch.no_grad()
def fold(module: ModuleType) -> ModuleType:
    """Fold every norm into the convolution before it, in place; the outputs of evaluation mode stay the same.

    In evaluation mode a norm scales each channel and adds a constant, which the weights and a bias of the convolution
    can do as well. Each module of this package has a norm directly behind its convolution, also in the order of its
    children. Sparse layers are frozen.

    Returns
    -------
    nn.Module
        The same module.

    Example
    -------
    >>> from biglittle_asr.nnet import ConvNorm, Layers
    >>> layer = ConvNorm(Layers(), 1, 4, 3).eval()
    >>> x = torch.randn(1, 1, 5, 5)
    >>> y = layer(x)
    >>> torch.allclose(fold(layer)(x), y, atol=1e-6), sorted(layer.state_dict())
    (True, ['0.bias', '0.weight'])
    """
    freeze(module)
    for parent in module.modules():
        for (_, convolution), (name, norm) in pairwise(list(parent.named_children())):
            if isinstance(convolution, Conv2d) and isinstance(norm, MaskedBatchNorm2d):
                _fold(convolution, norm)
                setattr(parent, name, ZeroPadding().eval())
    return module


def is_folded(module: nn.Module) -> bool:
    """Whether a module has had norms that are folded."""
    return any(isinstance(each, ZeroPadding) for each in module.modules())


def _fold(convolution: Conv2d, norm: MaskedBatchNorm2d) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = norm.bias.double() - norm.running_mean.double() * scale
    weight = convolution.weight * scale.to(convolution.weight.dtype).view(-1, 1, 1, 1)
    convolution.weight = nn.Parameter(weight, requires_grad=False)
    convolution.bias = nn.Parameter(bias.to(weight.dtype), requires_grad=False)
