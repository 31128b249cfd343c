"""Small encoders of every preset, and with every option."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch

from biglittle_asr.models import BigLittleEncoder, create_encoder, list_encoders
from support.networks import keep_gates_alive, randomize_batchnorm

SMALL: dict[str, Any] = {"channels": (8, 16, 32, 64), "input_size": 20, "output_size": 24}

OPTIONS: dict[str, dict[str, Any]] = {
    "input_size": {"input_size": 33},
    "input_size 1": {"input_size": 1},
    "input_channels": {"input_size": 30, "input_channels": 3},
    "channels": {"channels": [4, 4, 8, 12]},
    "blocks": {"blocks": [2, 3, 4, 2]},
    "output_size": {"output_size": 7},
    "time_stride 1": {"time_stride": 1},
    "time_stride 2": {"time_stride": 2},
    "time_stride 8": {"time_stride": 8},
    "big_little_stages": {"big_little_stages": 3},
    "alpha": {"alpha": 2},
    "beta": {"beta": 1},
    "branches": {"branches": 3, "alpha": 2},
    "branches, time_stride 1": {"branches": 3, "alpha": 2, "time_stride": 1, "beta": 1},
    "branches, concat": {"branches": 3, "alpha": 2, "merge": "concat"},
    "big_stride (1, 2)": {"big_stride": [1, 2]},
    "pool_frequency False": {"pool_frequency": False},
    "pool_frequency False, odd bins": {"pool_frequency": False, "input_size": 67},
    "context_blocks": {"context_blocks": 2},
    "context_kernel": {"context_blocks": 2, "context_kernel": 5, "pool_frequency": False},
    "big_stride (2, 1)": {"big_stride": (2, 1)},
    "big_stride (1, 1)": {"big_stride": (1, 1)},
    "upsampling": {"upsampling": "bilinear"},
    "upsampling (1, 2)": {"upsampling": "bilinear", "big_stride": (1, 2)},
    "upsampling, pyramid": {"upsampling": "bilinear", "pyramid": True, "time_stride": 8},
    "merge": {"merge": "concat"},
    "merge, upsampling": {"merge": "concat", "upsampling": "bilinear"},
    "pyramid": {"pyramid": True, "time_stride": 1},
    "pyramid, concat": {"pyramid": True, "merge": "concat"},
    "pyramid, branches": {"pyramid": True, "branches": 3, "alpha": 2},
    "block shortcut": {"block": {"shortcut": "conv"}},
    "block squeeze_excite": {"block": {"squeeze_excite": True}},
    "block, plain": {"block": {"shortcut": "conv", "squeeze_excite": True}, "big_little_stages": 0},
}
"""What each option is tested with, on bl_resnet22, in both time paddings; the key starts with the option's name."""

SEES_THE_FUTURE = [
    *("upsampling", "upsampling, pyramid", "merge, upsampling"),
    *("block squeeze_excite", "block, plain"),
]

Case = tuple[str, dict[str, Any]]
PRESET_CASES: list[Case] = [
    (name, {"time_padding": padding}) for name in list_encoders() for padding in ("same", "causal")
]
OPTION_CASES: list[Case] = [
    ("bl_resnet22", {**options, "time_padding": padding})
    for key, options in OPTIONS.items()
    for padding in ("same", "causal")
    if padding == "same" or key not in SEES_THE_FUTURE
]


def every(cases: Iterable[Case]) -> pytest.MarkDecorator:
    """Parametrize over small encoders: (preset, overrides)."""
    ids = [" ".join([name, *(f"{key}={value}" for key, value in options.items())]) for name, options in cases]
    return pytest.mark.parametrize("case", cases, ids=ids)


def build(case: Case, **overrides: Any) -> BigLittleEncoder:
    """The small encoder of a case, with random BatchNorm, in evaluation mode."""
    torch.manual_seed(0)
    name, options = case
    encoder = create_encoder(name, **{**SMALL, **options, **overrides})
    randomize_batchnorm(encoder, torch.Generator().manual_seed(1))
    keep_gates_alive(encoder)
    return encoder.eval()
