"""What a forward pass takes, layer by layer, counted exactly and without computing anything.

The pass runs on torch's meta device, where tensors have shapes but no values: nothing is computed or allocated,
whatever the size of the network. Every operation is charged to the innermost module that it runs in. What a count means
is a matter of convention; :data:`biglittle_asr.profiling.conventions.CONVENTIONS` has those.
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
from torch.utils.flop_counter import flop_registry

from biglittle_asr.messages import first_line
from biglittle_asr.models import BigLittleEncoder, CTCModel
from biglittle_asr.nnet.sparse import PRUNABLE, freeze, sparsity_of

FRAMES_PER_SECOND = 100
"""Feature frames in a second of audio, at the usual hop of 10 ms."""
COUNTED_FRAMES = 1000
"""Frames that encoders are counted on; long enough, and a multiple of every stride, that no border shows."""


@dataclass
class LayerCosts:
    """What one module takes in one forward pass, without the modules in it; all sizes are numbers of elements."""

    name: str
    """As in `named_modules`."""
    kind: str
    """Name of its class."""
    shape: tuple[int, ...] = ()
    """Of what it puts out."""
    parameters: int = 0
    """Elements of its own parameters."""
    nonzero_parameters: int = 0
    """Those that are not zero, of a sparse layer as masked."""
    weights: int = 0
    """Elements of its weight, if it is a convolution or a linear layer."""
    nonzero_weights: int = 0
    """Those that are not zero."""
    rate: float = 0.0
    """The part of the weights that a sparse layer zeroes."""
    macs: int = 0
    """Multiply-accumulates of convolutions and matrix products, zero weights included."""
    nonzero_macs: int = 0
    """Those with a weight that is not zero."""
    activation_bytes: int = 0
    """Memory of all that it computes, views and in-place results excepted."""
    additions: int = 0
    """Scalar ones: n - 1 for a sum over n weights that are not zero, one for a bias or a folded norm."""
    multiplications: int = 0
    """Scalar ones; a norm has none, as it is folded into the convolution in front of it."""
    others: int = 0
    """Elements that go through an activation, and comparisons of max-pooling."""
    averaged: int = 0
    """Elements that a mean is taken over."""
    bias: int = 0
    """Elements of its bias, or of that which a norm leaves behind when it is folded."""


@dataclass(frozen=True)
class Costs:
    """What one forward pass takes, for each unit of its input: each image, or each second of audio."""

    layers: tuple[LayerCosts, ...]
    """Of the whole pass, in the order of the modules; only those that take anything."""
    units: int = 1
    """Images, or seconds of audio, in the pass."""

    def total(self, of: str, layers: Iterable[LayerCosts] | None = None) -> int:
        """Sum of an attribute of the layers over a unit."""
        total = sum(getattr(layer, of) for layer in (self.layers if layers is None else layers))
        return total // (1 if of in PER_MODEL else self.units)

    @property
    def parameters(self) -> int:
        """Elements of all parameters."""
        return self.total("parameters")

    @property
    def nonzero_parameters(self) -> int:
        """Those that are not zero."""
        return self.total("nonzero_parameters")

    @property
    def weights(self) -> int:
        """Weights of convolutions and linear layers: parameters without norms and biases."""
        return self.total("weights")

    @property
    def nonzero_weights(self) -> int:
        """Those that are not zero."""
        return self.total("nonzero_weights")

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and matrix products."""
        return self.total("macs")

    @property
    def nonzero_macs(self) -> int:
        """Those with a weight that is not zero."""
        return self.total("nonzero_macs")

    @property
    def activation_bytes(self) -> int:
        """Memory of all intermediate results: about what a training step keeps for its backward pass."""
        return self.total("activation_bytes")

    def __repr__(self) -> str:
        return (
            f"Costs(parameters={self.parameters}, nonzero_parameters={self.nonzero_parameters}, macs={self.macs}, "
            f"nonzero_macs={self.nonzero_macs})"
        )


PER_MODEL = frozenset({"parameters", "nonzero_parameters", "weights", "nonzero_weights", "bias"})
"""What does not grow with the input."""


COUNTED = ("parameters", "macs", "activation_bytes", "additions", "multiplications", "others")
"""A layer that has none of these takes nothing."""


def count_costs(module: nn.Module, *example: Tensor, units: int | None = None) -> Costs:
    """Costs of a module on an example input.

    Arguments
    ---------
    module : nn.Module
        Left as it is. On the meta device, where there are no values, those are taken for zero that are masked, as many
        in each output channel.
    *example : Tensor
        Arguments of its forward; only their shapes and dtypes matter.
    units : int, optional
        What to divide by; the batch size of the first tensor if not given.

    Raises
    ------
    ValueError
        If the forward pass does not accept the example.

    Example
    -------
    >>> count_costs(nn.Linear(10, 20, bias=False), torch.zeros(3, 10))
    Costs(parameters=200, nonzero_parameters=200, macs=200, nonzero_macs=200)
    """
    # Parameters and buffers are replaced while copying, so that the copy takes no memory.
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
    """Costs of an acoustic encoder, for each second of audio (100 frames).

    Example
    -------
    >>> from biglittle_asr.models import create_encoder
    >>> encoder_costs(create_encoder("bl_resnet22")).macs
    336755200
    """
    example = torch.empty(1, COUNTED_FRAMES, encoder.config.input_size, device="meta")
    return count_costs(encoder, example, units=COUNTED_FRAMES // FRAMES_PER_SECOND)


def head_costs(model: CTCModel) -> Costs:
    """Costs of what stands behind the encoder, for each second of audio.

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
    """Sees every operation of a forward pass, and knows in which module it is."""

    def __init__(self, module: nn.Module, shadow: nn.Module) -> None:
        super().__init__()
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
        if packet in flop_registry:
            self._add_product(layer, packet, args, kwargs, out)
        else:
            for kind, number in _elementwise(packet, args, kwargs, out).items():
                setattr(layer, kind, getattr(layer, kind) + number)
        return result

    def _add_product(self, layer: LayerCosts, packet: Any, args: Any, kwargs: Any, out: Tensor) -> None:
        """A convolution or matrix product."""
        macs = flop_registry[packet](*args, **kwargs, out_val=out) // 2
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
    """Weights of each output channel that are not zero."""
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
"""Operation -> what each element it puts out takes one of. What is in none of these tables takes nothing."""


def _elementwise(packet: Any, args: Any, kwargs: Any, out: Tensor) -> dict[str, int]:
    """What an operation other than a product takes."""
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
