"""Exact costs of a forward pass, layer by layer, counted without computing it.

The pass runs on torch's meta device, where tensors have shapes but no values, so that networks of any size need no
computation and no memory. Every operation is charged to the innermost module that it runs in.
:data:`biglittle_asr.profiling.conventions.CONVENTIONS` defines what counts.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from biglittle_asr.messages import first_line
from biglittle_asr.models import BigLittleEncoder, CTCModel
from biglittle_asr.nnet.sparse import PRUNABLE, freeze, sparsity_of

FRAMES_PER_SECOND = 100
"""Feature frames in a second of audio, at the usual hop of 10 ms."""
COUNTED_FRAMES = 1000
"""Number of frames that encoders are counted on. It is a multiple of every stride and long enough to hide borders."""


@dataclass
class LayerCosts:
    """Costs of one module in one forward pass, without its submodules. Sizes are numbers of elements."""

    name: str
    """Name, as in `named_modules`."""
    kind: str
    """Name of the class."""
    shape: tuple[int, ...] = ()
    """Shape of the output."""
    parameters: int = 0
    """Number of the module's own parameters."""
    nonzero_parameters: int = 0
    """Number of nonzero parameters; masked weights of a sparse layer count as zero."""
    weights: int = 0
    """Number of weights of a convolution or a linear layer."""
    nonzero_weights: int = 0
    """Number of nonzero weights."""
    rate: float = 0.0
    """Fraction of the weights that a sparse layer zeroes."""
    macs: int = 0
    """Multiply-accumulates of convolutions and matrix products, including those with zero weights."""
    nonzero_macs: int = 0
    """Multiply-accumulates with nonzero weights."""
    activation_bytes: int = 0
    """Memory of all results, except views and in-place results."""
    additions: int = 0
    """Scalar additions: n - 1 for a sum over n nonzero weights, one for a bias or a folded norm."""
    multiplications: int = 0
    """Scalar multiplications. A norm has none, as it is folded into the convolution before it."""
    others: int = 0
    """Elements that pass through an activation, and comparisons of max-pooling."""
    averaged: int = 0
    """Elements that enter a mean."""
    bias: int = 0
    """Number of biases, including those that remain of a folded norm."""


@dataclass(frozen=True)
class Costs:
    """Costs of one forward pass per unit of input, which is an image or a second of audio."""

    layers: tuple[LayerCosts, ...]
    """Costs of each layer for the whole pass, in the order of the modules, without layers that cost nothing."""
    units: int = 1
    """Number of images, or seconds of audio, in the pass."""

    def total(self, of: str, layers: Iterable[LayerCosts] | None = None) -> int:
        """Sum an attribute of the layers, per unit of input."""
        total = sum(getattr(layer, of) for layer in (self.layers if layers is None else layers))
        return total // (1 if of in PER_MODEL else self.units)

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return self.total("parameters")

    @property
    def nonzero_parameters(self) -> int:
        """Number of nonzero parameters."""
        return self.total("nonzero_parameters")

    @property
    def weights(self) -> int:
        """Number of weights of convolutions and linear layers, without norms and biases."""
        return self.total("weights")

    @property
    def nonzero_weights(self) -> int:
        """Number of nonzero weights."""
        return self.total("nonzero_weights")

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and matrix products."""
        return self.total("macs")

    @property
    def nonzero_macs(self) -> int:
        """Multiply-accumulates with nonzero weights."""
        return self.total("nonzero_macs")

    @property
    def activation_bytes(self) -> int:
        """Memory of all intermediate results in bytes, about what a training step keeps for its backward pass."""
        return self.total("activation_bytes")

    def __repr__(self) -> str:
        return (
            f"Costs(parameters={self.parameters}, nonzero_parameters={self.nonzero_parameters}, macs={self.macs}, "
            f"nonzero_macs={self.nonzero_macs})"
        )


PER_MODEL = frozenset({"parameters", "nonzero_parameters", "weights", "nonzero_weights", "bias"})
"""Costs that do not depend on the input."""


COUNTED = ("parameters", "macs", "activation_bytes", "additions", "multiplications", "others")
"""Costs that make a layer appear in the list; others are omitted."""


def count_costs(module: nn.Module, *example: Tensor, units: int | None = None) -> Costs:
    """Count the costs of a module on an example input.

    Arguments
    ---------
    module : nn.Module
        The module, which is not changed. On the meta device, weights have no values; each output channel of a sparse
        layer is then counted with the same number of zeros.
    *example : Tensor
        Arguments of its forward; only their shapes and dtypes matter.
    units : int, optional
        Number of units in the input; by default the batch size of the first tensor.

    Raises
    ------
    ValueError
        If the forward pass does not accept the example.

    Example
    -------
    >>> count_costs(nn.Linear(10, 20, bias=False), torch.zeros(3, 10))
    Costs(parameters=200, nonzero_parameters=200, macs=200, nonzero_macs=200)
    """
    # Parameters and buffers are replaced while copying, so that the copy needs no memory.
    memo: dict[int, Any] = {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
        for parameter in module.parameters()
    }
    memo |= {id(buffer): torch.empty_like(buffer, device="meta") for buffer in module.buffers()}
    shadow = freeze(copy.deepcopy(module, memo)).eval()
    counter = _Counter(module, shadow)
    try:
        with torch.no_grad(), counter:
            shadow(*(tensor.to("meta") for tensor in example))
    except RuntimeError as error:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in example)
        raise ValueError(
            f"{type(module).__name__} cannot take an input of shape {shapes} ({first_line(error)})."
        ) from error
    layers = tuple(layer for layer in counter.layers.values() if any(getattr(layer, key) for key in COUNTED))
    return Costs(layers, len(example[0]) if units is None else units)


def encoder_costs(encoder: BigLittleEncoder) -> Costs:
    """Count the costs of an acoustic encoder per second of audio (100 frames).

    Example
    -------
    >>> from biglittle_asr.models import create_encoder
    >>> encoder_costs(create_encoder("bl_resnet22")).macs
    336755200
    """
    example = torch.empty(1, COUNTED_FRAMES, encoder.config.input_size, device="meta")
    return count_costs(encoder, example, units=COUNTED_FRAMES // FRAMES_PER_SECOND)


def head_costs(model: CTCModel) -> Costs:
    """Count the costs of the layers after the encoder, per second of audio.

    Example
    -------
    >>> from biglittle_asr.models import create_encoder
    >>> head_costs(CTCModel(create_encoder("bl_resnet22"), output_neurons=29)).macs   # 25 frames x 512 x 29
    371200
    """
    frames = model.encoder.output_lengths(COUNTED_FRAMES)
    example = torch.empty(1, frames, model.encoder.output_size, device="meta")
    return count_costs(model.output, example, units=COUNTED_FRAMES // FRAMES_PER_SECOND)


class _Counter(TorchDispatchMode):
    """Intercepts every operation of a forward pass, and charges it to its module."""

    def __init__(self, module: nn.Module, shadow: nn.Module) -> None:
        # Imported here, because it imports triton.
        from torch.utils.flop_counter import flop_registry

        super().__init__()
        self.flop_counts = flop_registry
        real = dict(module.named_modules())
        self.layers: dict[str, LayerCosts] = {}
        self.nonzeros: dict[str, Tensor] = {}
        self.inside: list[str] = []
        for name, child in shadow.named_modules():
            self.layers[name] = self._describe(name, real[name], type(child).__name__)
            child.register_forward_pre_hook(lambda *_, name=name: self.inside.append(name))
            child.register_forward_hook(lambda *_: self.inside.pop() and None)

    @torch.no_grad()
    def _describe(self, name: str, module: nn.Module, kind: str) -> LayerCosts:
        layer = LayerCosts(name, kind)
        parameters: dict[str, Tensor] = dict(module.named_parameters(recurse=False))
        if isinstance(module, PRUNABLE):
            parameters["weight"] = module.weight
            mask = sparsity_of(module)
            layer.rate = mask.rate if mask is not None else 0.0
            layer.weights = module.weight.numel()
            self.nonzeros[name] = _nonzeros_by_channel(module)
            layer.nonzero_weights = int(self.nonzeros[name].sum())
        for key, parameter in parameters.items():
            layer.parameters += parameter.numel()
            known = key == "weight" and isinstance(module, PRUNABLE)
            if known:
                layer.nonzero_parameters += layer.nonzero_weights
            else:
                layer.nonzero_parameters += parameter.numel() if parameter.is_meta else int(parameter.count_nonzero())
        if "bias" in parameters:
            layer.bias = parameters["bias"].numel()
        return layer

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = operation(*args, **kwargs)
        out = result[0] if isinstance(result, tuple | list) else result
        if not isinstance(out, Tensor) or not self.inside:
            return result
        name = self.inside[-1]
        layer = self.layers[name]
        layer.shape = tuple(out.shape)
        if not any(returned.alias_info is not None for returned in operation._schema.returns):
            layer.activation_bytes += out.numel() * out.element_size()
        packet = operation.overloadpacket
        if packet in self.flop_counts:
            self._add_product(layer, packet, args, kwargs, out)
        else:
            for kind, number in _elementwise(packet, args, kwargs, out).items():
                setattr(layer, kind, getattr(layer, kind) + number)
        return result

    def _add_product(self, layer: LayerCosts, packet: Any, args: Any, kwargs: Any, out: Tensor) -> None:
        """Add the costs of a convolution or matrix product."""
        macs = self.flop_counts[packet](*args, **kwargs, out_val=out) // 2
        layer.macs += macs
        nonzeros = self.nonzeros.get(layer.name)
        if nonzeros is None:
            layer.nonzero_macs += macs
            layer.multiplications += macs
            layer.additions += macs - out.numel()
            return
        positions = out.numel() // len(nonzeros)
        layer.nonzero_macs += positions * layer.nonzero_weights
        layer.multiplications += positions * layer.nonzero_weights
        layer.additions += positions * (int((nonzeros - 1).clamp(min=0).sum()) + layer.bias)


def _nonzeros_by_channel(module: Any) -> Tensor:
    """Count the nonzero weights of each output channel."""
    if not module.weight.is_meta:
        return module.weight.flatten(1).count_nonzero(1).cpu()
    mask = sparsity_of(module)
    kept = module.weight.numel() - (mask.zeros if mask is not None else 0)
    channels = torch.arange(len(module.weight), device="cpu")
    return (kept + channels) // len(module.weight)


ELEMENTWISE: dict[Any, str] = {
    torch.ops.aten.add: "additions",
    torch.ops.aten.add_: "additions",
    torch.ops.aten.sub: "additions",
    torch.ops.aten.mul: "multiplications",
    torch.ops.aten.div: "multiplications",
    torch.ops.aten.native_batch_norm: "additions",
    torch.ops.aten._native_batch_norm_legit_no_training: "additions",
    torch.ops.aten.relu: "others",
    torch.ops.aten.relu_: "others",
    torch.ops.aten.sigmoid: "others",
    torch.ops.aten.sigmoid_: "others",
    torch.ops.aten.silu: "others",
    torch.ops.aten.silu_: "others",
    torch.ops.aten.gelu: "others",
    torch.ops.aten.tanh: "others",
}
"""Operation -> the cost that each output element adds 1 to. Operations in none of these tables cost nothing."""


def _elementwise(packet: Any, args: Any, kwargs: Any, out: Tensor) -> dict[str, int]:
    """Count the costs of an operation other than a product."""
    if packet in ELEMENTWISE:
        return {ELEMENTWISE[packet]: out.numel()}
    if packet is torch.ops.aten.mean:
        elements = args[0].numel()
        return {"averaged": elements, "additions": elements - out.numel(), "multiplications": out.numel()}
    if packet is torch.ops.aten.avg_pool2d:
        return {"additions": out.numel() * (math.prod(args[1]) - 1), "multiplications": out.numel()}
    if packet is torch.ops.aten.max_pool2d_with_indices:
        return {"others": out.numel() * (math.prod(args[1]) - 1)}
    if packet is torch.ops.aten.upsample_bilinear2d:
        return {"additions": 3 * out.numel(), "multiplications": 4 * out.numel()}
    return {}
