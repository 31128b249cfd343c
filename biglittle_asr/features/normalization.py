"""Normalization of features, by statistics of each utterance or of the training data.

All classes take features (B, T, F) and frames (B,). Their attribute `config` holds their arguments as plain data.
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

    Sums are in float64. In float32, their last digits depend on the amount of padding, and division by a small standard
    deviation would amplify them.

    Arguments
    ---------
    std : bool
        Whether to divide by the standard deviation after subtracting the mean.
    min_std : float
        Smaller standard deviations are raised to this, so that a constant feature becomes zero instead of noise.
    epsilon : float
        Added to the standard deviation. `min_std=0.0, epsilon=1e-5` is NeMo's `per_feature` normalization as computed
        by sherpa-onnx.

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
        """Normalize (B, T, F) features with (B,) integer numbers of valid frames; padding becomes zero."""
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
        """Prepare the normalization of one utterance that is too long to hold in memory.

        Arguments
        ---------
        blocks : iterable of Tensor
            Its features, in blocks (T, F).

        Returns
        -------
        function from Tensor to Tensor
            Normalizes any frames (T, F) of the utterance as :meth:`forward` would.

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
        """Raise ValueError, as this normalization cannot stream."""
        raise ValueError(
            "SentenceNormalization needs the whole utterance, so it cannot stream: train with GlobalNormalization"
        )


class GlobalNormalization(nn.Module):
    """Subtract each feature's mean over the training data, and divide by its standard deviation.

    Streaming models use it, as it needs no future frames. In training mode, each batch is first added to the statistics
    and then normalized with them. The statistics settle within the first epoch, and are saved with the model's weights.
    In evaluation mode they do not change. Before the first batch, features are returned unchanged.

    Arguments
    ---------
    num_features : int
        Number of features per frame F, including deltas.
    min_std : float
        Smaller standard deviations are raised to this, so that a constant feature becomes zero instead of noise.

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
        """Normalize (B, T, F) features with (B,) integer numbers of valid frames; padding becomes zero."""
        valid = valid_mask(frames, features.shape[1]).unsqueeze(-1)
        if self.training:
            self._learn(features, valid)
        return self._normalize(features).masked_fill(~valid, 0.0)

    def step(self, features: Tensor) -> Tensor:
        """Normalize the next (B, T, F) features of a stream, which have no padding."""
        if self.training:
            raise ValueError("a normalization in training mode cannot stream: call its eval() first")
        return self._normalize(features)

    def _normalize(self, features: Tensor) -> Tensor:
        normalized = (features.double() - self.mean) / self.variance.sqrt().clamp(min=self.min_std)
        return normalized.to(torch.promote_types(features.dtype, torch.float32))

    @torch.no_grad()
    def _learn(self, features: Tensor, valid: Tensor) -> None:
        """Add the batch of all processes to the statistics."""
        # Center on the current mean, so that no digits are lost in a difference of large sums.
        centered = (features.double() - self.mean).masked_fill(~valid, 0.0)
        sums = torch.cat([centered.sum((0, 1)), centered.square().sum((0, 1)), valid.sum().double()[None]])
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(sums)
        shift, square, count = sums[: len(self.mean)], sums[len(self.mean) : -1], sums[-1]
        total = self.count + count
        shift = shift / total
        # The mean square around another point exceeds the variance by the squared distance.
        self.variance.copy_(((self.variance * self.count + square) / total - shift.square()).clamp(min=0.0))
        self.mean.add_(shift)
        self.count.copy_(total)


NORMALIZATIONS: dict[str, type[nn.Module]] = {
    normalization.__name__: normalization for normalization in (SentenceNormalization, GlobalNormalization)
}
"""Class by name, for files that name their normalization."""
