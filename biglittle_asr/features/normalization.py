"""Normalization of features: over an utterance's own frames, or by what was learned from the training data.

All take features (B, T, F) and frames (B,), and have the attribute `config`: their arguments as plain data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor, nn

from biglittle_asr.nnet.lengths import valid_mask


class SentenceNormalization(nn.Module):
    """Subtract each feature's mean over the valid frames of its utterance, and divide by its standard deviation.

    Sums are taken in float64: in float32 their last digits depend on how much padding is summed along, and a feature
    that hardly varies would amplify them.

    Arguments
    ---------
    std : bool
        Divide by the standard deviation, not only subtract the mean.
    min_std : float
        Standard deviations below it count as it, so that a constant feature becomes zero rather than noise.
    epsilon : float
        Added to the standard deviation. `min_std=0.0, epsilon=1e-5` is the normalization that NeMo calls `per_feature`,
        as sherpa-onnx computes it.

    Example
    -------
    >>> features = torch.tensor([[[1.0], [3.0], [0.0]]])
    >>> SentenceNormalization()(features, torch.tensor([2])).flatten().tolist()
    [-1.0, 1.0, 0.0]
    """

    def __init__(self, std: bool = True, min_std: float = 1e-2, epsilon: float = 0.0) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"std": std, "min_std": min_std, "epsilon": epsilon}
        self.std = std
        self.min_std = min_std
        self.epsilon = epsilon

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        """Normalize (B, T, F) features of (B,) integer valid frames; what lies behind them becomes zero."""
        valid = valid_mask(frames, features.shape[1]).unsqueeze(-1)
        count = frames.clamp(min=1).view(-1, 1, 1)
        centered = features.double().masked_fill(~valid, 0.0)
        centered = centered - centered.sum(1, keepdim=True) / count
        centered = centered.masked_fill(~valid, 0.0)
        if self.std:
            deviation = (centered.square().sum(1, keepdim=True) / count).sqrt()
            centered = centered / self._divisor(deviation)
        return centered.to(torch.promote_types(features.dtype, torch.float32))

    def fitted(self, blocks: Iterable[Tensor]) -> Callable[[Tensor], Tensor]:
        """What :meth:`forward` does to the frames of one utterance that is too long to be held at once.

        Arguments
        ---------
        blocks : iterable of Tensor
            Its features, (T, F) each.

        Returns
        -------
        function from Tensor to Tensor
            Normalizes any frames (T, F) of it.

        Example
        -------
        >>> features = torch.tensor([[1.0], [3.0]])
        >>> SentenceNormalization().fitted(features.split(1))(features).flatten().tolist()
        [-1.0, 1.0]
        """
        count, total, squares = 0, torch.zeros(()), torch.zeros(())
        for block in blocks:
            double = block.double()
            count, total, squares = count + len(block), total + double.sum(0), squares + double.square().sum(0)
        mean = total / max(1, count)
        divisor = self._divisor((squares / max(1, count) - mean.square()).clamp(min=0).sqrt())

        def normalize(features: Tensor) -> Tensor:
            centered = features.double() - mean
            return (centered / divisor if self.std else centered).to(torch.promote_types(features.dtype, torch.float32))

        return normalize

    def _divisor(self, deviation: Tensor) -> Tensor:
        return deviation.clamp(min=self.min_std) + self.epsilon

    def step(self, features: Tensor) -> Tensor:
        """Raises ValueError: this normalization cannot stream."""
        raise ValueError(
            "SentenceNormalization needs the whole utterance, so it cannot stream: train with GlobalNormalization"
        )


class GlobalNormalization(nn.Module):
    """Subtract each feature's mean over the training data, and divide by its standard deviation.

    What a streaming model uses: it needs nothing of the utterance that is still to come. In training mode each batch is
    first added to the statistics, then normalized with them; they settle within the first epoch, and belong to the
    weights of the model that was trained on them. In evaluation mode they rest. Before the first batch features come
    out as they are.

    Arguments
    ---------
    num_features : int
        Features of a frame F, deltas included.
    min_std : float
        Standard deviations below it count as it, so that a constant feature becomes zero rather than noise.

    Example
    -------
    >>> normalize = GlobalNormalization(1)
    >>> normalize(torch.tensor([[[1.0], [3.0], [0.0]]]), torch.tensor([2])).flatten().tolist()
    [-1.0, 1.0, 0.0]
    >>> normalize.eval()(torch.tensor([[[4.0]]]), torch.tensor([1])).item()
    2.0
    """

    count: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, num_features: int, min_std: float = 1e-2) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"num_features": num_features, "min_std": min_std}
        self.min_std = min_std
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(num_features, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(num_features, dtype=torch.float64))

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        """Normalize (B, T, F) features of (B,) integer valid frames; what lies behind them becomes zero."""
        valid = valid_mask(frames, features.shape[1]).unsqueeze(-1)
        if self.training:
            self._learn(features, valid)
        return self._normalize(features).masked_fill(~valid, 0.0)

    def step(self, features: Tensor) -> Tensor:
        """Normalize the next (B, T, F) features of a stream, none of which is padding."""
        if self.training:
            raise ValueError("a normalization in training mode cannot stream: call its eval() first")
        return self._normalize(features)

    def _normalize(self, features: Tensor) -> Tensor:
        normalized = (features.double() - self.mean) / self.variance.sqrt().clamp(min=self.min_std)
        return normalized.to(torch.promote_types(features.dtype, torch.float32))

    @torch.no_grad()
    def _learn(self, features: Tensor, valid: Tensor) -> None:
        """Add a batch, of all processes together, to the statistics."""
        # Around the mean so far, so that the difference of two large sums costs no digits.
        centered = (features.double() - self.mean).masked_fill(~valid, 0.0)
        sums = torch.cat([centered.sum((0, 1)), centered.square().sum((0, 1)), valid.sum().double()[None]])
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(sums)
        shift, square, count = sums[: len(self.mean)], sums[len(self.mean) : -1], sums[-1]
        total = self.count + count
        shift = shift / total
        # A variance around another point is larger by the squared distance.
        self.variance.copy_(((self.variance * self.count + square) / total - shift.square()).clamp(min=0.0))
        self.mean.add_(shift)
        self.count.copy_(total)


NORMALIZATIONS: dict[str, type[nn.Module]] = {
    normalization.__name__: normalization for normalization in (SentenceNormalization, GlobalNormalization)
}
"""Class name -> class, for what names its normalization in a file."""
