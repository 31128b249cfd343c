"""What counts as a parameter and as an operation: the conventions, as one table, and the scores that go with them.

Published figures disagree by factors because they count differently. Each table of costs names its convention.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from biglittle_asr.messages import unknown
from biglittle_asr.profiling.costs import Costs, LayerCosts

VALUE_BITS, MASK_BITS, FULL_BITS = 16, 1, 32
"""Of a weight that is not zero (16 bits are free of charge, without quantizing), of a mask element, of a full value."""
REFERENCE_PARAMETERS, REFERENCE_OPERATIONS = 6.9e6, 1170e6
"""MobileNet v2 at width 1.4, against which the MicroNet challenge scores networks on ImageNet."""


@dataclass(frozen=True)
class Convention:
    """A way to count."""

    parameters: Callable[[LayerCosts], float]
    """Of a layer."""
    operations: Callable[[LayerCosts], float]
    """Of a layer."""
    unit: str
    """What an operation is."""
    rule: str
    """In words."""


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
"""Name -> convention. A new one is a new entry."""


@dataclass(frozen=True)
class MicroNetScore:
    """A MicroNet score: lower is better, MobileNet v2 at width 1.4 is at 2."""

    name: str
    convention: str
    parameters: float
    """Weight of a parameter of the convention."""
    operations: float
    """Weight of an operation of the convention."""


SCORES = (
    MicroNetScore("seed-dnw, 32 bits", "seed-dnw", parameters=1.0, operations=2.0),
    MicroNetScore("seed-dnw, 16 bits", "seed-dnw", parameters=0.5, operations=1.5),
    MicroNetScore("micronet, by the challenge's rules", "micronet", parameters=1.0, operations=1.0),
)
"""The entry's own claims, with all values at 32 bits and with 16-bit ones at 1.5 operations a MAC, neither with masks;
and what the rules give."""


def count_parameters(costs: Costs, convention: str) -> float:
    """Parameters by a convention.

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
    """Operations by a convention, for each unit of the input.

    Raises
    ------
    ValueError
        For an unknown one.
    """
    total = sum(_convention(convention).operations(layer) for layer in costs.layers)
    return total // costs.units if isinstance(total, int) else total / costs.units


def micronet_scores(costs: Costs) -> dict[str, float]:
    """The challenge's score under each of :data:`SCORES`; it compares networks on ImageNet at 224 x 224."""
    return {
        score.name: score.parameters * count_parameters(costs, score.convention) / REFERENCE_PARAMETERS
        + score.operations * count_operations(costs, score.convention) / REFERENCE_OPERATIONS
        for score in SCORES
    }


def _convention(name: str) -> Convention:
    if name not in CONVENTIONS:
        raise ValueError(unknown("convention", name, CONVENTIONS))
    return CONVENTIONS[name]
