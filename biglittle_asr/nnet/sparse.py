"""Sparse weights: per-layer top-k magnitude masks, trained with a straight-through gradient.

In every forward pass, evaluation included, the int(rate * elements) weights of smallest magnitude in each layer count
as zero. The gradient of the masked weight passes unchanged to all weights, so that a pruned weight can return
(Wortsman, Farhadi and Rastegari, 2019, "Discovering Neural Wirings"; their edges are single weights here).

    sparsify(model, rate=0.9)       # in place; then train as usual
    print(report(model).table())    # nonzero weights per layer
    freeze(model)                   # plain weights under their original names, for evaluation and release
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from biglittle_asr.messages import some

PRUNABLE = (nn.Conv1d, nn.Conv2d, nn.Linear)
"""Layers whose weight can be sparse; biases and norms stay dense."""

ModuleType = TypeVar("ModuleType", bound=nn.Module)


class TopKMask(nn.Module):
    """Parametrization that zeroes the elements of smallest magnitude of a weight, and passes the gradient unchanged.

    Among elements of equal magnitude, those with the lowest index are zeroed first. So the mask depends on neither
    device nor memory format, and is the same in all processes of a training.

    Arguments
    ---------
    rate : float
        Fraction of the elements to zero, in [0, 1).
    elements : int
        Number of elements of the weight; int(rate * elements) of them are zeroed.

    Example
    -------
    >>> TopKMask(0.5, elements=4)(torch.tensor([3.0, -1.0, 1.0, 1.0]))
    tensor([3., 0., 0., 1.])
    """

    def __init__(self, rate: float, elements: int) -> None:
        super().__init__()
        self.rate = rate
        self.zeros = int(rate * elements)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the masked weight, in the shape and memory format of the weight."""
        with torch.no_grad():
            # The exact difference to the masked weight. A clone keeps channels_last, which masked_fill may not.
            change = weight.clone().masked_fill_(_smallest(weight.abs(), self.zeros), 0.0).sub_(weight)
        # Added as a constant, so that the gradient passes; torch.compile would lose that of an autograd function.
        return weight + change

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return the value to store for an assigned weight: all of it."""
        return weight

    def extra_repr(self) -> str:
        return f"rate={self.rate}, zeros={self.zeros}"


def _smallest(magnitude: Tensor, zeros: int) -> Tensor:
    """Mask of the `zeros` smallest elements; among equal ones, those with the lowest index."""
    if not zeros:
        return torch.zeros_like(magnitude, dtype=torch.bool)
    flat = magnitude.flatten()
    threshold = _order_statistic(flat, zeros)
    if _eager_on_cpu(flat):
        # Weights in training are hardly ever equal; then this is the mask, in one pass and in the weight's memory
        # format. Other devices would have to wait for the count.
        mask = magnitude <= threshold
        if mask.count_nonzero() == zeros:
            return mask
    below, ties = flat < threshold, flat == threshold
    first = ties.cumsum(0, dtype=torch.int32) <= zeros - below.sum()
    return (below | (ties & first)).view(magnitude.shape)


def _order_statistic(flat: Tensor, rank: int) -> Tensor:
    """The element of the given rank, from 1, in ascending order."""
    if flat.is_cuda:
        # kthvalue is slower on CUDA, and not allowed if PyTorch is to use deterministic algorithms.
        return flat.topk(rank, largest=False, sorted=False).values.max()
    if _eager_on_cpu(flat) and flat.dtype in (torch.float32, torch.float64):
        # NumPy selects with vector instructions, if the CPU has them, in a tenth of kthvalue's time.
        return torch.as_tensor(np.partition(flat.numpy(), rank - 1)[rank - 1])
    return flat.kthvalue(rank).values


def _eager_on_cpu(tensor: Tensor) -> bool:
    return tensor.is_cpu and not torch.compiler.is_compiling()


def sparsify(
    module: ModuleType, rate: float = 0.9, dense: Sequence[str] = (), first_layer_dense: bool = True
) -> ModuleType:
    """Make the convolutions and linear layers of any module sparse, in place.

    In a `state_dict`, the weight of a sparse layer is `<layer>.parametrizations.weight.original`, with all elements,
    pruned or not. Call this before passing the parameters to an optimizer or DistributedDataParallel.

    Arguments
    ---------
    module : nn.Module
    rate : float
        Fraction of each layer's weights to zero, in [0, 1). At 0 nothing changes.
    dense : sequence of str
        Layers that stay dense: their names or those of modules around them, with shell wildcards, such as "head",
        "stages.0" or "*.downsample.*".
    first_layer_dense : bool
        Also keep the first layer dense: it is small, and all other layers depend on its output.

    Returns
    -------
    nn.Module
        The same module.

    Raises
    ------
    ValueError
        If the rate is out of range, a pattern matches no layer, or the module has no layer to prune or is already
        sparse.

    Example
    -------
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 10))
    >>> report(sparsify(net, rate=0.9)).nonzero
    52
    >>> net[2].weight.count_nonzero()
    tensor(16)
    """
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
        raise ValueError(f"sparsity rate is {rate!r}: take a number from 0 up and below 1, the part of weights to zero")
    if isinstance(dense, str):
        dense = (dense,)
    layers = dict(_layers(module))
    if not layers:
        raise ValueError(f"{type(module).__name__} has no convolution or linear layer that could be sparse")
    kept = {next(iter(layers))} if first_layer_dense else set()
    for pattern in dense:
        matched = {name for name in layers if _matches(name, pattern)}
        if not matched:
            raise ValueError(f"no layer matches {pattern!r}, which is to stay dense: layers are {some(list(layers))}")
        kept |= matched
    for name, layer in layers.items():
        if parametrize.is_parametrized(layer, "weight"):
            raise ValueError(
                f"layer {name!r} is parametrized already: freeze the module before it is made sparse again"
            )
    for name, layer in layers.items():
        mask = TopKMask(rate, layer.weight.numel())
        if name not in kept and mask.zeros:
            # unsafe=True skips PyTorch's check of shape and dtype, which would run the mask.
            parametrize.register_parametrization(layer, "weight", mask, unsafe=True)
    return module


def freeze(module: ModuleType) -> ModuleType:
    """Turn sparse layers into plain ones with the masked weights, in place, under their original names.

    Pruned weights are lost; to continue training, keep the sparse module.

    Returns
    -------
    nn.Module
        The same module. A module without sparse layers is not changed.

    Example
    -------
    >>> net = freeze(sparsify(nn.Linear(10, 10), rate=0.9, first_layer_dense=False))
    >>> sorted(net.state_dict()), net.weight.count_nonzero()
    (['bias', 'weight'], tensor(10))
    """
    for _, layer in _layers(module):
        if sparsity_of(layer) is not None:
            weight, bias = layer.parametrizations.weight.original, layer.bias
            with torch.no_grad():
                weight.copy_(layer.weight)
            sparse_class, masked = type(layer), type(layer).weight
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
            sparse_class.weight = masked  # a deep copy of the layer has the same class
            del layer.weight
            # Weight before bias, as originally, since optimizers number the parameters.
            del layer.bias
            layer.register_parameter("weight", weight)
            layer.register_parameter("bias", bias)
    return module


def sparsity_of(layer: nn.Module) -> TopKMask | None:
    """The mask of a layer, or None if it is not sparse."""
    if not parametrize.is_parametrized(layer, "weight"):
        return None
    masks = [mask for mask in layer.parametrizations["weight"] if isinstance(mask, TopKMask)]  # type: ignore[index]
    return masks[0] if masks else None


@dataclass(frozen=True)
class LayerSparsity:
    """Sparsity of the weight of a layer."""

    name: str
    elements: int
    nonzero: int
    """Counted number of elements that are not zero."""
    rate: float | None
    """Fraction to be zeroed; None for a layer that is not sparse."""


@dataclass(frozen=True)
class SparsityReport:
    """Sparsity of all convolutions and linear layers of a module, without biases and norms."""

    layers: tuple[LayerSparsity, ...]

    @property
    def elements(self) -> int:
        """Total number of weights."""
        return sum(layer.elements for layer in self.layers)

    @property
    def nonzero(self) -> int:
        """Number of weights that are not zero."""
        return sum(layer.nonzero for layer in self.layers)

    def table(self) -> str:
        """Format one line per layer, and one for the total."""
        width = max([len(layer.name) for layer in self.layers] + [len("in all")])
        lines = [f"{'layer':{width}}  {'weights':>13}  {'not zero':>13}  {'part':>7}"]
        for name, elements, nonzero, rate in [
            *((layer.name, layer.elements, layer.nonzero, layer.rate) for layer in self.layers),
            ("in all", self.elements, self.nonzero, 0.0),
        ]:
            remark = "  dense" if rate is None else ""
            lines.append(f"{name:{width}}  {elements:13,}  {nonzero:13,}  {100 * nonzero / elements:5.1f} %{remark}")
        return "\n".join(lines)


@torch.no_grad()
def report(module: nn.Module) -> SparsityReport:
    """Count the nonzero weights of a module's convolutions and linear layers, sparse, frozen or dense.

    Example
    -------
    >>> print(report(sparsify(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8)), rate=0.75)).table())
    layer         weights       not zero     part
    0                  32             32  100.0 %  dense
    1                  64             16   25.0 %
    in all             96             48   50.0 %
    """
    rows = []
    for name, layer in _layers(module):
        weight, mask = layer.weight, sparsity_of(layer)
        rows.append(LayerSparsity(name, weight.numel(), int(weight.count_nonzero()), mask.rate if mask else None))
    return SparsityReport(tuple(rows))


def _layers(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the layers that can be sparse, in order of their creation."""
    for name, child in module.named_modules():
        if isinstance(child, PRUNABLE):
            yield name, child


def _matches(name: str, pattern: str) -> bool:
    """Whether a pattern matches the name of a layer or of a module around it."""
    parts = name.split(".")
    return any(fnmatch.fnmatchcase(".".join(parts[: count + 1]), pattern) for count in range(len(parts)))
