"""Normalization of features over an utterance's own frames."""

import torch
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

    Example
    -------
    >>> features = torch.tensor([[[1.0], [3.0], [0.0]]])
    >>> SentenceNormalization()(features, torch.tensor([2])).flatten().tolist()
    [-1.0, 1.0, 0.0]
    """

    def __init__(self, std: bool = True, min_std: float = 1e-2) -> None:
        super().__init__()
        self.std = std
        self.min_std = min_std

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        """Normalize (B, T, F) features of (B,) integer valid frames; what lies behind them becomes zero."""
        valid = valid_mask(frames, features.shape[1]).unsqueeze(-1)
        count = frames.clamp(min=1).view(-1, 1, 1)
        centered = features.double().masked_fill(~valid, 0.0)
        centered = centered - centered.sum(1, keepdim=True) / count
        centered = centered.masked_fill(~valid, 0.0)
        if self.std:
            deviation = (centered.square().sum(1, keepdim=True) / count).sqrt()
            centered = centered / deviation.clamp(min=self.min_std)
        return centered.to(torch.promote_types(features.dtype, torch.float32))
