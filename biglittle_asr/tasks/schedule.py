"""The learning rate as a function of training progress."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class WarmupCosine:
    """Linear warm-up, then half a cosine down to zero (Loshchilov & Hutter 2017, "SGDR").

    A function of progress and nothing else. torch's schedulers count steps, whose number an epoch is not constant under
    dynamic batching; and what keeps no state is right after every resume.

    Example
    -------
    >>> schedule = WarmupCosine(peak=1e-3, warmup=0.1)
    >>> [round(schedule(progress), 6) for progress in (0.0, 0.05, 0.1, 0.55, 1.0)]
    [0.0, 0.0005, 0.001, 0.0005, 0.0]
    """

    peak: float
    """Highest learning rate."""
    warmup: float = 0.05
    """Part of the training that warms up, from 0 to below 1."""

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise ValueError(f"lr_annealing: warmup must be at least 0 and below 1, but is {self.warmup}.")

    def __call__(self, progress: float) -> float:
        """Learning rate at `progress`, from 0 at the start of training to 1 at its end."""
        if progress < self.warmup:
            return self.peak * progress / self.warmup
        return self.peak * 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))
