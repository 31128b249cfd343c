"""Parameters and multiply-accumulates (MACs), counted exactly and without computing anything.

Convention `macs`: one MAC is one multiplication and one addition of a convolution or a matrix product; norms,
activations, pooling, additions and biases are not counted. Published tables that say FLOPs often mean MACs.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from biglittle_asr.models import BigLittleEncoder

FRAMES_PER_SECOND = 100
"""Feature frames in a second of audio, at the usual hop of 10 ms."""
COUNTED_FRAMES = 1000
"""Frames that encoders are counted on; long enough, and a multiple of every stride, that no border shows."""


@dataclass(frozen=True)
class Costs:
    """What one forward pass takes."""

    parameters: int
    """Elements of all parameters."""
    nonzero_parameters: int
    """Those that are not zero."""
    macs: int
    """Multiply-accumulates of one forward pass."""


def count_costs(module: nn.Module, *example: Tensor) -> Costs:
    """Costs of a module on an example input.

    The forward pass runs on torch's meta device: shapes are followed, nothing is computed.

    Arguments
    ---------
    module : nn.Module
        Left as it is. One on the meta device has no values: none of its weights counts as zero.
    *example : Tensor
        Arguments of its forward; only their shapes and dtypes matter.

    Example
    -------
    >>> count_costs(nn.Linear(10, 20, bias=False), torch.zeros(3, 10))
    Costs(parameters=200, nonzero_parameters=200, macs=600)
    """
    shadow = copy.deepcopy(module).eval().to("meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(*(tensor.to("meta") for tensor in example))
    parameters = list(module.parameters())
    return Costs(
        parameters=sum(parameter.numel() for parameter in parameters),
        nonzero_parameters=sum(p.numel() if p.is_meta else int(p.count_nonzero()) for p in parameters),
        macs=counter.get_total_flops() // 2,
    )


def encoder_costs(encoder: BigLittleEncoder) -> Costs:
    """Costs of an acoustic encoder, MACs per second of audio (100 frames).

    Example
    -------
    >>> from biglittle_asr.models import create_encoder
    >>> encoder_costs(create_encoder("bl_resnet22")).macs
    336755200
    """
    costs = count_costs(encoder, torch.zeros(1, COUNTED_FRAMES, encoder.config.input_size))
    return Costs(costs.parameters, costs.nonzero_parameters, costs.macs * FRAMES_PER_SECOND // COUNTED_FRAMES)
