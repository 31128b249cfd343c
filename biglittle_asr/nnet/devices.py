"""Devices on which networks run."""

from __future__ import annotations

import torch

from biglittle_asr.messages import first_line


def usable_device(name: str) -> torch.device:
    """Return the device of this name, after checking that it works.

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
