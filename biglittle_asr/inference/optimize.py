"""Networks made faster for inference, with the same outputs."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, TypeVar

import torch
from torch import nn

from biglittle_asr.inference.classification import Classifier
from biglittle_asr.inference.recognizer import Recognizer
from biglittle_asr.models import BigLittleEncoder, ImageClassifier
from biglittle_asr.nnet import fold

Optimized = TypeVar("Optimized", bound=nn.Module | Classifier)

DTYPES = (torch.float32, torch.bfloat16)


def optimize(module: Optimized, dtype: torch.dtype | None = None) -> Optimized:
    """Make a faster copy of a trained network, for inference only.

    BatchNorm is folded into the convolutions, and their weights are stored channels last, which is faster on a CPU.
    Outputs are those of the original to 1e-4, in streams too. The original is not changed; the copy shares with it the
    parts that stay the same, such as a decoder or a search.

    Arguments
    ---------
    module : BigLittleEncoder, ImageClassifier, Classifier, Recognizer, or a speech model with an encoder
        In evaluation mode. In a recognizer or speech model, the encoder is optimized; one that is not of this package
        stays as it is.
    dtype : torch.float32 or torch.bfloat16, optional
        Precision of the network; None keeps it. bfloat16 takes about half the time on CPUs with AVX-512 BF16 or AMX,
        but has two to three digits, so outputs differ in the third. Encoders and image classifiers take inputs of any
        precision and have outputs of this one; speech models and recognizers compute log-probabilities in float32.

    Returns
    -------
    module of the same class
        In evaluation mode, without gradients. Its state dict has a bias for each convolution and no norms, so neither
        original nor model folders can take it.

    Raises
    ------
    ValueError
        If the module is in training mode, or there is no such precision.
    TypeError
        If it is another module.

    Example
    -------
    >>> from biglittle_asr.models import create_encoder
    >>> encoder = create_encoder("bl_resnet22_half").eval()
    >>> features, lengths = torch.randn(2, 100, 80), torch.tensor([1.0, 0.5])
    >>> torch.allclose(optimize(encoder)(features, lengths), encoder(features, lengths), atol=1e-4)
    True
    >>> optimize(encoder, dtype=torch.bfloat16)(features, lengths).dtype
    torch.bfloat16
    """
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype}: take {' or '.join(map(str, DTYPES))}")
    if isinstance(module, Classifier):
        return dataclasses.replace(module, model=optimize(module.model, dtype))
    return _optimize(module, dtype)


def _optimize(module: Any, dtype: torch.dtype | None) -> Any:
    name = type(module).__name__
    if not isinstance(module, nn.Module):
        raise TypeError(f"{name} cannot be optimized: take an encoder, an image classifier or a recognizer")
    norms = (each for each in module.modules() if isinstance(each, nn.BatchNorm2d))
    if module.training or any(norm.training for norm in norms):
        raise ValueError(f"{name} is in training mode: call its eval() first")
    if isinstance(module, BigLittleEncoder | ImageClassifier):
        network: nn.Module = fold(copy.deepcopy(module)).requires_grad_(False)
        return network.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    part = "model" if isinstance(module, Recognizer) else "encoder"
    inner = getattr(module, part, None)
    if not isinstance(inner, nn.Module):
        raise TypeError(f"{name} has no encoder to optimize: take an encoder, an image classifier or a recognizer")
    if part == "encoder" and not isinstance(inner, BigLittleEncoder):
        if dtype is not None:
            raise TypeError(f"the precision of {type(inner).__name__}, which is not of this package, cannot be changed")
        return module
    return _with_part(module, part, _optimize(inner, dtype))


def _with_part(module: nn.Module, name: str, part: nn.Module) -> nn.Module:
    """A copy of a module that shares all of its parts but one."""
    changed = copy.copy(module)
    changed._modules = {**module._modules, name: part}
    return changed
