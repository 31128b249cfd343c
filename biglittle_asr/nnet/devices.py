"""Devices that networks run on."""

from __future__ import annotations

import torch

from biglittle_asr.messages import first_line


def usable_device(name: str) -> torch.device:
    """The device of that name.

    Raises
    ------
    ValueError
        If it cannot be used here.

    Example
    -------
    >>> usable_device("cpu")
    device(type='cpu')
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name}: not usable here ({first_line(error)}); take cpu.") from error
    return device
