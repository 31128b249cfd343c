"""How far a WER could be off by the choice of speakers: a percentile bootstrap interval.

Utterances of one speaker are alike, so it is speakers that are drawn again, with replacement, not utterances
(Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CONFIDENCE = 0.95
"""Part of the resampled error rates that lies inside the interval."""


def wer_interval(
    errors: Sequence[int], words: Sequence[int], samples: int = 1000, seed: int = 0
) -> tuple[float, float] | None:
    """Interval of the WER, in percent, if other speakers of the same kind had been recorded.

    Arguments
    ---------
    errors, words : sequences of int
        Word errors and reference words of each speaker, of the same length.
    samples : int
        How many sets of speakers are drawn.
    seed : int
        The same seed gives the same interval.

    Returns
    -------
    low, high : float
        The central 95 % of the resampled WERs; None instead for fewer than two speakers or no reference words.

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
    # A set in which nobody speaks has no WER.
    spoken = drawn_words > 0
    if not spoken.any():
        return None
    rates = 100.0 * (draws @ np.asarray(errors))[spoken] / drawn_words[spoken]
    low, high = np.quantile(rates, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
