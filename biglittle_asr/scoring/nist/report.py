"""A score as a boxed table in the style of sclite."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from biglittle_asr.scoring.alignment import Counts, percent
from biglittle_asr.scoring.score import Score

LEGEND = (
    "Segments, words, and percentages: words of the reference that are correct, substituted, deleted, inserted, wrong\n"
    "in all, and segments with errors. OP: S substitution, D deletion, I insertion. Optionally deletable words that\n"
    "were deleted or inserted have no partner and no mark."
)

RATES: Sequence[Callable[[Counts], float | None]] = (
    lambda counts: percent(counts.correct, counts.words),
    lambda counts: percent(counts.substitutions, counts.words),
    lambda counts: percent(counts.deletions, counts.words),
    lambda counts: percent(counts.insertions, counts.words),
    lambda counts: counts.wer,
    lambda counts: counts.ser,
)
"""Rates of the columns Corr, Sub, Del, Ins, Err and S.Err."""


def format_box(score: Score, title: str = "") -> str:
    """Write percentages per speaker, overall, averaged over speakers, and per label.

    Arguments
    ---------
    score : Score
        Score to show.
    title : str
        First line, such as the name of the hypothesis file; omitted if empty.

    Returns
    -------
    str
        Lines without a newline at the end. A rate without words is shown as a hyphen.
    """
    width = max(len(" Sum/Avg"), *(len(name) + 2 for name in (*score.speakers, *score.labels)))
    spoken = [counts for counts in score.speakers.values() if counts.words]
    inner = width + 1 + 13 + 1 + 41
    rule, double = (f"|{mark * width}+{mark * 13}+{mark * 41}|" for mark in "-=")
    lines = [f",{'-' * inner}."]
    if title:
        lines += [f"|{title:^{inner}}|", f"|{'-' * inner}|"]
    lines.append(f"|{' SPKR':<{width}}| # Snt # Wrd | Corr    Sub    Del    Ins    Err  S.Err |")
    for name, counts in score.speakers.items():
        lines += [rule, _row(name, counts, width)]
    lines += [double.replace("+", "="), _row("Sum/Avg", score.all, width), double.replace("+", "=")]
    for name, summarize in (("Mean", statistics.mean), ("S.D.", _deviation), ("Median", statistics.median)):
        sizes = [
            summarize([getattr(counts, side) for counts in score.speakers.values()]) for side in ("segments", "words")
        ]
        rates = [
            summarize(
                [rate(counts) or 0.0 for counts in (spoken if rate is not RATES[-1] else score.speakers.values())]
            )
            if spoken
            else None
            for rate in RATES
        ]
        lines.append(f"|{name:^{width}}|{sizes[0]:5.1f}{sizes[1]:7.1f} |{_cells(rates)}|")
    if score.labels:
        lines.append(double.replace("+", "="))
        lines += [_row(name, counts, width) for name, counts in score.labels.items()]
    lines.append(f"`{'-' * inner}'")
    return "\n".join(lines)


def _deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _row(name: str, counts: Counts, width: int) -> str:
    rates = [rate(counts) for rate in RATES]
    return f"|{f' {name}':<{width}}|{counts.segments:5}{counts.words:7} |{_cells(rates)}|"


def _cells(rates: Sequence[float | None]) -> str:
    return "".join("-".rjust(7) if rate is None else f"{rate:7.1f}" for rate in rates)[2:] + " "
