"""Conventions for counting parameters and operations, in one table, and MicroNet scores computed from them.

Published figures differ by factors because they count differently. Each table of costs names its convention.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from biglittle_asr.messages import unknown
from biglittle_asr.profiling.costs import Costs, LayerCosts

VALUE_BITS, MASK_BITS, FULL_BITS = 16, 1, 32
"""Bits of a nonzero weight (the challenge allows 16 without quantization), of a mask element, and of a full value."""
REFERENCE_PARAMETERS, REFERENCE_OPERATIONS = 6.9e6, 1170e6
"""Costs of MobileNet v2 at width 1.4, the reference of the MicroNet challenge for ImageNet."""


@dataclass(frozen=True)
class Convention:
    """Rules for counting parameters and operations."""

    parameters: Callable[[LayerCosts], float]
    """Counts the parameters of a layer."""
    operations: Callable[[LayerCosts], float]
    """Counts the operations of a layer."""
    unit: str
    """Name of an operation."""
    rule: str
    """The rules in words."""


def _seed_parameters(layer: LayerCosts) -> float:
    return int((1 - layer.rate) * layer.weights)


def _seed_operations(layer: LayerCosts) -> float:
    return int((1 - layer.rate) * layer.macs) + layer.averaged


def _micronet_parameters(layer: LayerCosts) -> float:
    mask = MASK_BITS * layer.weights if layer.rate else 0
    return (VALUE_BITS * (layer.nonzero_weights + layer.bias) + mask) / FULL_BITS


def _micronet_operations(layer: LayerCosts) -> float:
    return layer.additions + layer.others + layer.multiplications * VALUE_BITS / FULL_BITS


CONVENTIONS: dict[str, Convention] = {
    "macs": Convention(
        parameters=lambda layer: layer.parameters,
        operations=lambda layer: layer.macs,
        unit="MACs",
        rule="all parameters; multiply-accumulates of convolutions and linear layers, those with zero weights too",
    ),
    "seed-dnw": Convention(
        parameters=_seed_parameters,
        operations=_seed_operations,
        unit="MACs",
        rule="weights of convolutions and linear layers times (1 - rate), rounded down layer by layer, and so their "
        "MACs; an average over positions adds its inputs; norms and biases are not counted",
    ),
    "micronet": Convention(
        parameters=_micronet_parameters,
        operations=_micronet_operations,
        unit="32-bit operations",
        rule="weights that are not zero at 16 of 32 bits, masks of sparse layers at 1 of 32, norms folded into biases; "
        "multiplications at 16 of 32 bits, additions at 32, n - 1 of them for n weights; one for an activation",
    ),
}
"""Convention by name. A new convention is a new entry."""


@dataclass(frozen=True)
class MicroNetScore:
    """A MicroNet score. Lower is better; MobileNet v2 at width 1.4 scores 2."""

    name: str
    convention: str
    parameters: float
    """Weight of each parameter that the convention counts."""
    operations: float
    """Weight of each operation that the convention counts."""


SCORES = (
    MicroNetScore("seed-dnw, 32 bits", "seed-dnw", parameters=1.0, operations=2.0),
    MicroNetScore("seed-dnw, 16 bits", "seed-dnw", parameters=0.5, operations=1.5),
    MicroNetScore("micronet, by the challenge's rules", "micronet", parameters=1.0, operations=1.0),
)
"""The entry's two claims (all values at 32 bits; 16-bit values at 1.5 operations per MAC), neither of which counts
masks, and the score by the challenge's rules."""


def count_parameters(costs: Costs, convention: str) -> float:
    """Count parameters by a convention.

    Raises
    ------
    ValueError
        For an unknown one.

    Example
    -------
    >>> import torch
    >>> from torch import nn
    >>> from biglittle_asr.nnet.sparse import sparsify
    >>> from biglittle_asr.profiling import count_costs
    >>> net = sparsify(nn.Linear(15, 1, bias=False), rate=0.9, first_layer_dense=False)
    >>> costs = count_costs(net, torch.zeros(1, 15))
    >>> [count_parameters(costs, name) for name in CONVENTIONS]   # 13 of 15 are zeroed
    [15, 1, 1.46875]
    """
    return sum(_convention(convention).parameters(layer) for layer in costs.layers)


def count_operations(costs: Costs, convention: str) -> float:
    """Count operations by a convention, per unit of the input.

    Raises
    ------
    ValueError
        For an unknown one.
    """
    total = sum(_convention(convention).operations(layer) for layer in costs.layers)
    return total // costs.units if isinstance(total, int) else total / costs.units


def micronet_scores(costs: Costs) -> dict[str, float]:
    """Compute the challenge's score by each of :data:`SCORES`, for networks on ImageNet at 224 x 224."""
    return {
        score.name: score.parameters * count_parameters(costs, score.convention) / REFERENCE_PARAMETERS
        + score.operations * count_operations(costs, score.convention) / REFERENCE_OPERATIONS
        for score in SCORES
    }


def _convention(name: str) -> Convention:
    if name not in CONVENTIONS:
        raise ValueError(unknown("convention", name, CONVENTIONS))
    return CONVENTIONS[name]
