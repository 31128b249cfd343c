"""What a report derives from alignments: intervals, confusions, errors by length, and how experiments differ."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from biglittle_asr.report.experiments import Experiment, utterances_by_id
from biglittle_asr.scoring import AlignedUtterance, Counts, MatchedPairs, NistScore, compare_systems, compare_utterances
from biglittle_asr.scoring.alignment import CORRECT, percent, total
from biglittle_asr.scoring.bootstrap import wer_interval
from biglittle_asr.scoring.lookalikes import shown
from biglittle_asr.scoring.nist.matched_pairs import reference_words

Interval = tuple[float, float]
Confusion = tuple[str, str, str]
"""Operation (S, D or I), reference word and recognized word."""

GROUPS = 8
"""Largest number of groups of utterances by length."""
LEAST_IN_GROUP = 10
"""Fewest utterances per group, with which an interval means something."""


@dataclass(frozen=True)
class Rate:
    """A word error rate in percent, None where there are no reference words, and its interval, if it has one."""

    counts: Counts
    interval: Interval | None


def rate_of(utterances: Sequence[AlignedUtterance], bootstrap: int) -> Rate:
    """Error rate of utterances of the same kind, with an interval from resampling the utterances."""
    counts = [utterance.counts for utterance in utterances]
    interval = None
    if bootstrap:
        interval = wer_interval([each.errors for each in counts], [each.words for each in counts], bootstrap)
    return Rate(total(counts), interval)


def rank_speakers(experiments: Sequence[Experiment], most: int) -> tuple[list[str], int]:
    """The speakers with the highest error rates, of all experiments together, and the number of all speakers.

    Speakers with equal rates are in the order of their names.
    """
    counts: dict[str, list[Counts]] = {}
    for experiment in experiments:
        for name, each in (experiment.score.speakers if experiment.score is not None else {}).items():
            counts.setdefault(name, []).append(each)
    rates = {name: percent(sum(c.errors for c in each), sum(c.words for c in each)) for name, each in counts.items()}
    ranked = sorted(rates, key=lambda name: (-1.0 if rates[name] is None else -(rates[name] or 0.0) - 1, name))
    return ranked[:most], len(ranked)


def speaker_rates(experiment: Experiment, names: Iterable[str], bootstrap: int) -> dict[str, Rate]:
    """Error rates of speakers, by name; of those that the experiment has."""
    by_speaker: dict[str, list[AlignedUtterance]] = {}
    for utterance in experiment.score.utterances if experiment.score is not None else ():
        if utterance.speaker is not None:
            by_speaker.setdefault(utterance.speaker, []).append(utterance)
    return {name: rate_of(by_speaker[name], bootstrap) for name in names if name in by_speaker}


def count_confusions(utterances: Iterable[AlignedUtterance]) -> Counter[Confusion]:
    """Count every kind of error: words that were taken for others, words deleted, words inserted.

    Example
    -------
    >>> from biglittle_asr.scoring import score_texts
    >>> count_confusions(score_texts({"a": "one two"}, {"a": "one too"}).utterances)
    Counter({('S', 'two', 'too'): 1})
    """
    return Counter(
        (pair.operation, pair.reference, pair.hypothesis)
        for utterance in utterances
        for pair in map(shown, utterance.pairs)
        if pair.operation != CORRECT
    )


def most_frequent(
    counters: Sequence[Counter[Confusion]], operation: str, most: int
) -> list[tuple[Confusion, list[int]]]:
    """The most frequent errors of a kind in all experiments together, with their counts in each."""
    everything: Counter[Confusion] = Counter()
    for counter in counters:
        everything.update({error: count for error, count in counter.items() if error[0] == operation})
    ranked = sorted(everything, key=lambda error: (-everything[error], error))[:most]
    return [(error, [counter[error] for counter in counters]) for error in ranked]


@dataclass(frozen=True)
class LengthGroup:
    """Utterances of similar length."""

    low: float
    high: float
    """Shortest and longest."""
    middle: float
    """Mean length."""
    rate: Rate


def group_by_length(
    utterances: Sequence[AlignedUtterance], length: Callable[[AlignedUtterance], float], bootstrap: int
) -> list[LengthGroup]:
    """Groups of equally many utterances by length, the shortest first.

    Utterances of the same length are in the same group, so that groups may differ in size.
    """
    ranked = sorted(utterances, key=lambda utterance: (length(utterance), utterance.id))
    groups = max(1, min(GROUPS, len(ranked) // LEAST_IN_GROUP))
    starts = [len(ranked) * number // groups for number in range(groups)]
    lengths = [length(utterance) for utterance in ranked]
    # A group begins where a length occurs first.
    starts = sorted({lengths.index(lengths[start]) for start in starts}) if ranked else []
    return [
        LengthGroup(
            lengths[start],
            lengths[end - 1],
            sum(lengths[start:end]) / (end - start),
            rate_of(ranked[start:end], bootstrap),
        )
        for start, end in itertools.pairwise([*starts, len(ranked)])
    ]


# Differences


@dataclass(frozen=True)
class Difference:
    """How two experiments differ in the utterances that both have."""

    first: int
    second: int
    """Numbers of the experiments."""
    pairs: MatchedPairs
    utterances: int
    """Utterances that both have."""
    left_out: int
    """Utterances that only one of them has."""
    other_references: int
    """Utterances whose references have other words in one of them."""
    fewer: int
    """Utterances in which the first has fewer errors."""
    more: int
    """Utterances in which the first has more errors."""
    other_words: int
    """Utterances with as many errors, but other words."""
    rates: tuple[float | None, float | None]
    """Error rates of both in these utterances, in percent."""


def compare_experiments(experiments: Sequence[Experiment], first: int, second: int) -> Difference | None:
    """Compare two experiments; None if no utterance is in both."""
    scores = [experiments[number].score for number in (first, second)]
    sides = [utterances_by_id(experiments[number]) for number in (first, second)]
    common = sorted(sides[0].keys() & sides[1].keys())
    if not common:
        return None
    utterances = [[side[each] for each in common] for side in sides]
    counted = [(a.counts.errors, b.counts.errors) for a, b in zip(*utterances, strict=True)]
    other_references = sum(reference_words(a) != reference_words(b) for a, b in zip(*utterances, strict=True))
    pairs = compare_utterances(*utterances)
    if isinstance(scores[0], NistScore) and isinstance(scores[1], NistScore):
        # Knows which alternatives of the references the systems have matched; refuses other references.
        with suppress(ValueError):
            pairs, other_references = compare_systems(scores[0], scores[1]), 0
    return Difference(
        first,
        second,
        pairs,
        len(common),
        len(sides[0].keys() ^ sides[1].keys()),
        other_references,
        sum(a < b for a, b in counted),
        sum(a > b for a, b in counted),
        sum(
            a.counts.errors == b.counts.errors and recognized(a) != recognized(b)
            for a, b in zip(*utterances, strict=True)
        ),
        (total(each.counts for each in utterances[0]).wer, total(each.counts for each in utterances[1]).wer),
    )


def recognized(utterance: AlignedUtterance) -> list[str]:
    """The recognized words of an utterance."""
    return [pair.hypothesis for pair in utterance.pairs if pair.hypothesis]


def differing_settings(settings: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """Settings that are not the same in all experiments that have any, with the values in each; "" where it has none.

    Example
    -------
    >>> differing_settings([{"lr": "0.1", "seed": "1"}, {"lr": "0.2", "seed": "1"}])
    {'lr': ['0.1', '0.2']}
    """
    names = dict.fromkeys(name for each in settings for name in each)
    values = {name: [each.get(name, "") for each in settings] for name in names}
    known = [bool(each) for each in settings]
    return {
        name: each
        for name, each in values.items()
        if len({value for value, has in zip(each, known, strict=True) if has}) > 1
    }
