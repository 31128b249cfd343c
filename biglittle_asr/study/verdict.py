"""The verdict of a study: for each of its comparisons, whether one network is at least nearly as good as the other.

The difference of two WERs is that of the networks as trained: errors are averaged over seeds within each utterance. Its
interval comes from resampling the test speakers, both networks with the same speakers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from biglittle_asr.scoring.bootstrap import wer_interval
from biglittle_asr.scoring.nist.matched_pairs import MatchedPairs, compare_alignments
from biglittle_asr.study.plan import Comparison, Study, StudyError
from biglittle_asr.study.report import Values, markdown_table
from biglittle_asr.study.results import Results
from biglittle_asr.study.utterances import ScoredUtterance, read_utterances

SAMPLES = 10000
"""Number of sets of speakers drawn. The draws have a fixed seed, so a verdict repeats exactly."""

INCOMPLETE = "none yet"
"""In place of a verdict if runs are missing."""


@dataclass(frozen=True)
class Verdict:
    """The result of a comparison, over the seeds that both networks have; numbers are None if there is none yet."""

    run: str
    against: str
    margin: float
    seeds: list[int]
    missing: list[str]
    """Runs of any seed without results."""
    speakers: int
    utterances: int
    words: int
    """Reference words of the test set."""
    wer: list[float]
    """WER of each seed, in percent."""
    against_wer: list[float]
    """The same of the other network."""
    difference: float | None
    """Mean WER minus that of the other network, in points."""
    low: float | None
    high: float | None
    """Ends of the difference's 95 % interval."""
    matched_pairs: list[MatchedPairs]
    """Matched-pairs test (MAPSSWE) of each seed."""
    verdict: str
    """As :func:`find_verdict` words it; :data:`INCOMPLETE` if runs are missing."""


def find_verdict(low: float, high: float, margin: float) -> str:
    """Word the verdict on a network whose WER differs from another's by `low` to `high` points.

    Example
    -------
    >>> find_verdict(-2.0, -0.1, 0.5), find_verdict(-0.3, 0.4, 0.5), find_verdict(-0.3, 0.9, 0.5)
    ('better', 'non-inferior', 'not shown')
    >>> find_verdict(0.1, 0.4, 0.5), find_verdict(0.1, 0.9, 0.5), find_verdict(0.6, 0.9, 0.5)
    ('worse, but non-inferior', 'worse', 'inferior')
    """
    if high < 0:
        return "better"
    if high < margin:
        return "worse, but non-inferior" if low > 0 else "non-inferior"
    if low > margin:
        return "inferior"
    return "worse" if low > 0 else "not shown"


def decide(study: Study, results: Results) -> list[Verdict]:
    """Compare the networks of each comparison of a study.

    Arguments
    ---------
    study : Study
    results : Results
        Table of results, with the files of utterances beside it.

    Raises
    ------
    StudyError
        If the study has no comparisons, does not score test, or no comparison has results of both networks; if two runs
        were scored on different references, or the test set has fewer than two speakers.
    """
    if not study.comparisons:
        raise StudyError(f"{study.name}: has no comparisons; name them in the study file (docs/studies.md).")
    verdicts = [compare(study, each, results) for each in study.comparisons]
    if not any(each.seeds for each in verdicts):
        raise StudyError(f"{results.path}: has no seed of both networks of any comparison of {study.name} yet.")
    return verdicts


def compare(study: Study, comparison: Comparison, results: Results) -> Verdict:
    """Compare the two networks of one comparison; see :func:`decide`."""
    runs = [run for name in (comparison.run, comparison.against) for run in study.seeds(name).values()]
    references: dict[str, list[tuple[str, str, int]]] = {}
    found: dict[tuple[str, int], list[ScoredUtterance]] = {}
    for run in runs:
        if not run.test:
            raise StudyError(f"{run.label}: scores no words of a test set, so there is nothing to compare.")
        utterances = read_utterances(results, run)
        if utterances:
            found[run.name, run.seed] = utterances
            references[run.label] = [(each.utterance, each.speaker, each.words) for each in utterances]
            first = next(iter(references))
            if references[run.label] != references[first]:
                raise StudyError(f"{run.label}: was scored on other references than {first}; train it again.")
    seeds = [run.seed for run in runs if run.name == comparison.run]
    seeds = [seed for seed in seeds if (comparison.run, seed) in found and (comparison.against, seed) in found]
    ours, others = ([found[name, seed] for seed in seeds] for name in (comparison.run, comparison.against))
    words, differences = _by_speaker(ours, others)
    low, high = wer_interval(differences, words, SAMPLES) or (None, None)
    if seeds and low is None:
        raise StudyError(f"{results.path}: the test set of {comparison.run} needs words of at least two speakers.")
    missing = [run.label for run in runs if run.label not in references]
    return Verdict(
        **asdict(comparison),
        seeds=seeds,
        missing=missing,
        speakers=len(words),
        utterances=len(ours[0]) if seeds else 0,
        words=sum(words),
        wer=[_wer(each) for each in ours],
        against_wer=[_wer(each) for each in others],
        difference=100 * sum(differences) / sum(words) if seeds else None,
        low=low,
        high=high,
        matched_pairs=[
            compare_alignments(*([each.steps for each in side] for side in pair))
            for pair in zip(ours, others, strict=True)
        ],
        verdict=INCOMPLETE if missing or low is None or high is None else find_verdict(low, high, comparison.margin),
    )


def _by_speaker(
    ours: list[list[ScoredUtterance]], others: list[list[ScoredUtterance]]
) -> tuple[list[int], list[float]]:
    """Return each speaker's words, and the difference of errors averaged over seeds."""
    words, differences = Counter[str](), Counter[str]()
    for pair in zip(ours, others, strict=True):
        for one, other in zip(*pair, strict=True):
            words[one.speaker] += one.words
            differences[one.speaker] += one.errors - other.errors
    # Sorted by value, so that neither the order nor the names of speakers change the draws.
    rows = sorted((words[speaker] // len(ours), differences[speaker] / len(ours)) for speaker in words)
    return [count for count, _ in rows], [difference for _, difference in rows]


def _wer(utterances: list[ScoredUtterance]) -> float:
    return 100 * sum(each.errors for each in utterances) / sum(each.words for each in utterances)


# Text

REMARKS = f"""\
Differences are in points of WER, of errors averaged over seeds within each utterance; negative: fewer errors than the
other network. Intervals: {SAMPLES:,} resamples of the test speakers, for these trained networks. p: matched-pairs test.
[studies.md](studies.md#the-verdict) says what the verdicts mean.
"""
"""Below the table, as pages of docs/ may have it."""

HEAD = (
    *("", "against", "test words, speakers", "seeds", "WER, %", "of the other, %"),
    *("difference", "95 % interval", "difference by seed (p)", "margin", "verdict"),
)


def format_verdicts(verdicts: Sequence[Verdict]) -> str:
    """Write a Markdown table with a line per comparison, and what its words mean."""
    table = markdown_table([HEAD, *map(_cells, verdicts)])
    missing = dict.fromkeys(label for each in verdicts for label in each.missing)
    return f"{table}\n{REMARKS}" + (f"\nNot in the results yet: {'; '.join(missing)}.\n" if missing else "")


def _cells(verdict: Verdict) -> list[str]:
    by_seed = zip(verdict.wer, verdict.against_wer, verdict.matched_pairs, strict=True)
    return [
        f"`{verdict.run}`",
        f"`{verdict.against}`",
        f"{verdict.words:,}, {verdict.speakers}",
        ", ".join(map(str, verdict.seeds)),
        *(Values(tuple(each)).describe(2) for each in (verdict.wer, verdict.against_wer)),
        "" if verdict.difference is None else f"{verdict.difference:+.2f}",
        "" if verdict.low is None else f"{verdict.low:+.2f} to {verdict.high:+.2f}",
        ", ".join(f"{one - other:+.2f} ({test.p:.3f})" for one, other, test in by_seed),
        f"{verdict.margin:g}",
        f"**{verdict.verdict}**",
    ]
