"""Splitting a corpus by lot, so that recordings that are added later leave the others where they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from biglittle_asr.corpora.report import TRAINING
from biglittle_asr.corpora.utterance import stable_hash


def split_by_lot(sizes: Mapping[str, int], percents: Mapping[str, int], seed: int = 0) -> dict[str, str]:
    """Choose a split for each unit: a recording, or a speaker with all that they said.

    The lot of a unit follows from its name and the seed alone, so that more units move none of those that were there.
    Sizes are therefore not exact. Where a split has less than half of what was asked for, or nothing, which happens
    with few units, those whose size comes closest to what is missing are moved there.

    Arguments
    ---------
    sizes : mapping from unit to int
        Recordings of each.
    percents : mapping from split to int
        Percent of the recordings, for each split but "train", which has the rest.
    seed : int
        Of the lot.

    Returns
    -------
    dict from unit to split

    Raises
    ------
    ValueError
        If there are fewer units than splits.

    Example
    -------
    >>> split_by_lot({"anna": 5, "bea": 4, "carl": 30}, {"dev": 10, "test": 10})
    {'anna': 'test', 'bea': 'dev', 'carl': 'train'}
    """
    if len(sizes) < 1 + len(percents):
        raise ValueError(f"{len(sizes)} are too few for {1 + len(percents)} splits.")
    lots = {unit: int(stable_hash(f"{seed} {unit}")[:12], 16) / 16**12 for unit in sizes}
    chosen = {unit: _place(lot, percents) for unit, lot in lots.items()}
    total = sum(sizes.values())
    for split, percent in {TRAINING: 100 - sum(percents.values()), **percents}.items():
        wanted = total * percent / 100
        while True:
            size = sum(sizes[unit] for unit in chosen if chosen[unit] == split)
            if size >= max(1.0, wanted / 2):
                break
            counts = Counter(chosen[unit] for unit in sorted(chosen) if chosen[unit] != split)
            (fullest, count), *_ = counts.most_common(1)
            if count == 1:
                break
            units = sorted(unit for unit in chosen if chosen[unit] == fullest)
            moved = min(units, key=lambda unit: (abs(size + sizes[unit] - wanted), lots[unit]))
            chosen[moved] = split
    return chosen


def _place(lot: float, percents: Mapping[str, int]) -> str:
    edge = 0.0
    for split, percent in percents.items():
        edge += percent / 100
        if lot < edge:
            return split
    return TRAINING
