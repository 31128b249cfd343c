"""The learning rate as a function of training progress."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class WarmupCosine:
    """Linear warm-up, then a half cosine to zero (Loshchilov & Hutter 2017, "SGDR").

    The rate depends on progress alone. torch's schedulers count steps, but dynamic batching changes the number of steps
    per epoch. A schedule without state is also right after every resume.

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
        check_peak(self.peak)
        if not 0 <= self.warmup < 1:
            raise ValueError(f"lr_annealing: warmup must be at least 0 and below 1, but is {self.warmup}.")

    def __call__(self, progress: float) -> float:
        """Learning rate at `progress`, from 0 at the start of training to 1 at its end."""
        if progress < self.warmup:
            return self.peak * progress / self.warmup
        return self.peak * 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))


@dataclass(frozen=True)
class ByEpoch:
    """A rate that is constant within each epoch, as is usual for image networks; during warm-up it rises at every step.

    Example
    -------
    >>> [round(ByEpoch(0.1, epochs=4)(progress), 4) for progress in (0.0, 0.25, 0.26, 0.75, 1.0)]
    [0.1, 0.1, 0.0854, 0.05, 0.0146]
    >>> [round(ByEpoch(0.1, epochs=110, schedule="step")(epoch / 110), 4) for epoch in (30, 30.01, 110)]
    [0.1, 0.01, 0.0001]
    >>> [round(ByEpoch(0.1, epochs=5, warmup_epochs=1)(epoch / 5), 4) for epoch in (0.5, 1, 2, 2.01)]
    [0.05, 0.1, 0.1, 0.0854]
    """

    peak: float
    """Rate of the first epoch after the warm-up."""
    epochs: int
    """Number of epochs of the training."""
    schedule: str = "cosine"
    """"cosine": a half cosine over the epochs after the warm-up, which would reach zero after the last one; "step":
    multiply by `factor` after every `step_epochs` epochs."""
    warmup_epochs: int = 0
    """Epochs in which the rate rises linearly; in a training that is not longer, all but the last epoch."""
    step_epochs: int = 30
    factor: float = 0.1

    def __post_init__(self) -> None:
        check_peak(self.peak)
        if self.schedule not in ("cosine", "step"):
            raise ValueError(f"schedule: is '{self.schedule}', but must be cosine or step.")
        if self.warmup_epochs < 0:
            raise ValueError(f"warmup_epochs: is {self.warmup_epochs}, but must be 0 or more.")

    def __call__(self, progress: float) -> float:
        """Learning rate at `progress`, from 0 at the start of training to 1 at its end."""
        done, warmup = progress * self.epochs, max(0, min(self.warmup_epochs, self.epochs - 1))
        if done < warmup:
            return self.peak * done / warmup
        # Progress is measured at the end of a step, so an integer number of epochs belongs to the epoch that it ends.
        epoch = max(math.ceil(done - 1e-9) - 1, warmup)
        if self.schedule == "step":
            return self.peak * self.factor ** (epoch // self.step_epochs)
        part = (epoch - warmup) / (self.epochs - warmup)
        return self.peak * 0.5 * (1 + math.cos(math.pi * part))


def check_peak(peak: float) -> None:
    """Refuse a learning rate that is not a positive number."""
    if isinstance(peak, bool) or not isinstance(peak, int | float) or not peak > 0:
        raise ValueError(f"lr_annealing: peak (lr) is {peak!r}, but must be a number above 0.")
