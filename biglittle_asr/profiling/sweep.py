"""Costs of a Big-Little model for different alpha and beta, next to its plain counterpart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from biglittle_asr.models import (
    BigLittleEncoder,
    ImageClassifier,
    create_encoder,
    create_model,
    list_encoders,
    list_models,
)
from biglittle_asr.nnet import BigLittleBranches, BigLittleStage
from biglittle_asr.profiling.costs import count_costs, encoder_costs

ALPHAS = BETAS = (1, 2, 4)
"""Values of the authors' sweep."""

PUBLISHED_ERRORS: dict[tuple[str, int, int], float] = {
    ("bl_resnet50", 2, 2): 22.72,
    ("bl_resnet50", 2, 4): 22.69,
    ("bl_resnet50", 4, 2): 23.20,
    ("bl_resnet50", 4, 4): 23.15,
    ("resnet50", 0, 0): 23.66,
}
"""Top-1 error in percent on ImageNet (one 224 x 224 crop) in the authors' sweep, by (model, alpha, beta)."""

CHECKPOINT_ERRORS: dict[tuple[str, int, int], float] = {
    ("bl_resnet50", 2, 4): 22.41,
    ("bl_resnet101", 2, 4): 21.34,
    ("bl_resnext50_32x4d", 2, 4): 21.62,
    ("bl_resnext101_32x4d", 2, 4): 20.87,
    ("bl_resnext101_64x4d", 2, 4): 20.34,
    ("bl_seresnext50_32x4d", 2, 4): 21.44,
    ("bl_seresnext101_32x4d", 2, 4): 21.04,
}
"""Top-1 error of the authors' published checkpoints, which they trained later in PyTorch."""


@dataclass(frozen=True)
class Variant:
    """One network of a sweep."""

    name: str
    alpha: int
    """Alpha; 0 for the plain network."""
    betas: tuple[int, ...]
    """All betas that give this network. Once all little branches have one block, a larger beta changes nothing."""
    little_blocks: tuple[int, ...]
    """Number of blocks of the little branch in each stage."""
    parameters: int
    macs: int
    """MACs for an image of 224 x 224, or for a second of audio."""
    published_error: float | None
    """Top-1 error in percent in the authors' sweep."""
    checkpoint_error: float | None
    """Top-1 error in percent of the authors' published checkpoint."""

    def to_dict(self) -> dict[str, Any]:
        """Return the variant for JSON."""
        return asdict(self)


def sweep(name: str) -> list[Variant]:
    """Build the plain counterpart, then the different networks for alpha and beta in 1, 2, 4.

    Arguments
    ---------
    name : str
        Name of a Big-Little image model or acoustic encoder.

    Raises
    ------
    ValueError
        For a plain or unknown model.

    Example
    -------
    >>> plain, *variants = sweep("bl_resnet22")
    >>> plain.macs, [(v.alpha, v.betas, v.macs) for v in variants if v.alpha == 4]
    (611084800, [(4, (1,), 341363200), (4, (2, 4), 336755200)])
    """
    return list(_variants(name))


def sweep_table(name: str) -> str:
    """Write the result of :func:`sweep` as a text table.

    Example
    -------
    >>> print(sweep_table("bl_resnet22").splitlines()[0])
    bl_resnet22: parameters without an output layer, MACs for a second of audio (convention: macs)
    """
    variants = sweep(name)
    image = name in list_models()
    what = "MACs for an image of 224 x 224" if image else "MACs for a second of audio"
    note = "" if image else " without an output layer"
    published = any(v.published_error or v.checkpoint_error for v in variants)
    lines = [
        f"{name}: parameters{note}, {what} (convention: macs)",
        "alpha  beta   little blocks  parameters            MACs" + published * "  error %, published  of checkpoint",
    ]
    for v in variants:
        if not v.alpha:
            start = f"{v.name:<21}"
        else:
            start = f"{v.alpha:<7}{', '.join(map(str, v.betas)):<7}{', '.join(map(str, v.little_blocks)):<13}"
        errors = f"{_error(v.published_error):>20}{_error(v.checkpoint_error):>15}" if published else ""
        lines.append(f"{start:<27}{v.parameters:>12,}{v.macs:>16,}{errors}".rstrip())
    if published:
        lines.append("Errors are the authors' (top-1, ImageNet, one 224 x 224 crop), not measured here.")
    return "\n".join(lines)


def _variants(name: str) -> Iterator[Variant]:
    if name not in [*list_models(), *list_encoders()] or not name.startswith("bl_"):
        known = ", ".join(known for known in [*list_models(), *list_encoders()] if known.startswith("bl_"))
        raise ValueError(f"{name} is not a Big-Little model, so it has no alpha and beta; choose one of {known}.")
    plain = re.sub("^bl_(pyramid_)?", "", name)
    yield _variant(plain, 0, (0,), _build(plain))
    for alpha in ALPHAS:
        alike: dict[tuple[int, ...], list[int]] = {}
        for beta in BETAS:
            alike.setdefault(_little_blocks(_build(name, alpha=alpha, beta=beta)), []).append(beta)
        for betas in alike.values():
            yield _variant(name, alpha, tuple(betas), _build(name, alpha=alpha, beta=betas[0]))


def _variant(name: str, alpha: int, betas: tuple[int, ...], network: ImageClassifier | BigLittleEncoder) -> Variant:
    if isinstance(network, ImageClassifier):
        costs = count_costs(network, torch.zeros(1, 3, 224, 224, device="meta"))
    else:
        costs = encoder_costs(network)
    published, checkpoint = (
        next((errors[name, alpha, beta] for beta in betas if (name, alpha, beta) in errors), None)
        for errors in (PUBLISHED_ERRORS, CHECKPOINT_ERRORS)
    )
    little = () if not alpha else _little_blocks(network)
    return Variant(name, alpha, betas if alpha else (), little, costs.parameters, costs.macs, published, checkpoint)


def _build(name: str, **overrides: int) -> ImageClassifier | BigLittleEncoder:
    # An encoder's plain counterpart may have the same name as an image model.
    with torch.device("meta"):
        if name in list_models() and name not in list_encoders():
            return create_model(name, **overrides)
        return create_encoder(name, **overrides)


def _little_blocks(network: ImageClassifier | BigLittleEncoder) -> tuple[int, ...]:
    branches = [module for module in network.modules() if isinstance(module, BigLittleStage | BigLittleBranches)]
    return tuple(len(list(module.get_submodule("little").children())) for module in branches)


def _error(error: float | None) -> str:
    return "" if error is None else f"{error:.2f}"
