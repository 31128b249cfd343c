"""Percentile bootstrap interval of the WER over speakers.

Utterances of one speaker are correlated, so speakers are resampled with replacement, not utterances
(Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CONFIDENCE = 0.95
"""Fraction of the resampled error rates inside the interval."""


def wer_interval(
    errors: Sequence[float], words: Sequence[int], samples: int = 1000, seed: int = 0
) -> tuple[float, float] | None:
    """Estimate the range of WERs, in percent, that other speakers of the same kind would give.

    Arguments
    ---------
    errors, words : sequences of float and of int
        Word errors and reference words of each speaker; both have the same length. Errors may be means of several
        trainings, or differences between two systems.
    samples : int
        Number of sets of speakers to draw.
    seed : int
        The same seed gives the same interval.

    Returns
    -------
    low, high : float
        The central 95 % of the resampled WERs; None if there are fewer than two speakers or no reference words.

    Raises
    ------
    ValueError
        If `samples` is less than 1.

    Example
    -------
    >>> low, high = wer_interval(errors=[3, 8, 5, 1], words=[50, 60, 40, 50])
    >>> low < 100 * 17 / 200 < high
    True
    >>> wer_interval([3], [50]) is None
    True
    """
    if samples < 1:
        raise ValueError(f"bootstrap: {samples} samples give no interval; use at least 1, or 0 for none at all.")
    speakers = len(words)
    if speakers < 2 or not any(words):
        return None
    # How often each speaker is in each drawn set: (samples, speakers).
    draws = np.random.default_rng(seed).multinomial(speakers, np.full(speakers, 1 / speakers), size=samples)
    drawn_words = draws @ np.asarray(words)
    # A drawn set without reference words has no WER.
    spoken = drawn_words > 0
    if not spoken.any():
        return None
    rates = 100.0 * (draws @ np.asarray(errors))[spoken] / drawn_words[spoken]
    low, high = np.quantile(rates, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
