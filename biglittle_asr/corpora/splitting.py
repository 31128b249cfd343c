"""Splitting a corpus: by hash, the same on every machine, with whole speakers or conversations on one side."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from biglittle_asr.corpora.report import TRAINING
from biglittle_asr.corpora.utterance import Utterance


def stable_hash(text: str) -> str:
    """A sort key that shuffles names, the same on every machine; Python's own `hash` differs from run to run.

    Example
    -------
    >>> sorted(["anna", "bea", "carl", "dora"], key=stable_hash)
    ['anna', 'carl', 'dora', 'bea']
    """
    return hashlib.sha256(text.encode()).hexdigest()


def split_off(
    utterances: Sequence[Utterance],
    unit: Callable[[Utterance], str],
    chosen: Collection[str],
    option: str,
    counted: str,
    example: int = 1,
) -> tuple[list[Utterance], list[Utterance]]:
    """Split off a development set of whole units: speakers, or conversations.

    Arguments
    ---------
    utterances : sequence of Utterance
    unit : function of Utterance
        Gives the speaker or conversation of an utterance.
    chosen : collection of str
        Units that become dev.
    option : str
        The corpus's option for the size of dev.
    counted : str
        The chosen and the total number of units, for the message.
    example : int
        A valid value of the option.

    Returns
    -------
    train, dev : lists of Utterance
        In the original order.

    Raises
    ------
    ValueError
        If either is empty.

    Example
    -------
    >>> from pathlib import Path
    >>> both = [Utterance(name, Path(name), name, "YES", "list:1") for name in ("anna", "bea")]
    >>> train, dev = split_off(both, lambda each: each.speaker, ["bea"], "dev_speakers", "1 of 2 speakers")
    >>> train[0].id, dev[0].id
    ('anna', 'bea')
    """
    units = set(chosen)
    train = [each for each in utterances if unit(each) not in units]
    dev = [each for each in utterances if unit(each) in units]
    if not train or not dev:
        raise ValueError(
            f"{option}: {counted} leave no {'train set; lower' if dev else 'dev set; raise'} it, in a recipe with "
            f"--corpus_options '{{{option}: {example}}}'."
        )
    return train, dev


def split_by_lot(sizes: Mapping[str, int], percents: Mapping[str, int], seed: int = 0) -> dict[str, str]:
    """Choose a split at random for each unit: a recording, or a speaker with all their recordings.

    A unit's split follows from its name and the seed alone, so adding units moves no others. Sizes are therefore only
    approximate. With few units, a split may get less than half of the requested size, or nothing; then the units whose
    total size comes closest to the missing amount are moved there.

    Arguments
    ---------
    sizes : mapping from unit to int
        Number of recordings of each.
    percents : mapping from split to int
        Percent of the recordings, for each split except "train", which has the rest.
    seed : int
        Seed of the random choice.

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
