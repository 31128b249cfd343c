"""The sections of a report: what each shows, as values for the page's template.

A section is None if nothing is known for it; :func:`not_shown` then says why.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from biglittle_asr.report.charts import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Mark,
    Series,
    axis_row,
    chart,
    interval_row,
    linear_axis,
    logarithmic_axis,
)
from biglittle_asr.report.experiments import Experiment
from biglittle_asr.report.formats import NO_ENTRY, plural, probability, rate, whole
from biglittle_asr.report.recordings import LONGEST, embed, link
from biglittle_asr.report.statistics import (
    Difference,
    LengthGroup,
    compare_experiments,
    count_confusions,
    differing_settings,
    group_by_length,
    most_frequent,
    rank_speakers,
    speaker_rates,
)
from biglittle_asr.report.utterances import DATA_LIMIT, audio_of, dump, list_utterances
from biglittle_asr.scoring import AlignedUtterance
from biglittle_asr.scoring.nist.matched_pairs import SIGNIFICANCE

MOST_SPEAKERS = 100
"""As many as are shown, so that the page stays readable."""
MOST_CONFUSIONS = 15
"""Most frequent errors of each kind that are shown."""
SET_NAMES = {"dev": "dev", "test": "test", "hub5_test": "test, as NIST scores", "": ""}
KINDS = {"S": "Substitutions", "D": "Deletions", "I": "Insertions"}
COUNTS = {"S": "substitutions", "D": "deletions", "I": "insertions"}
RATE_NAMES = {"wer": "WER", "cer": "CER", "top1_error": "top-1 error", "top5_error": "top-5 error"}

HEADLINES = {
    "encoder.name": "{}",
    "number_of_epochs": "{} epochs",
    "precision": "{}",
    "seed": "seed {}",
    "normalizer": "normalizer {}",
}
"""Settings in the overview, and how they are written."""
HEADLINE_VERSIONS = ("biglittle_asr", "torch", "commit")
"""Versions in the overview."""

Section = dict[str, Any] | None


@dataclass(frozen=True)
class Numbered:
    """An experiment with its place in the report."""

    number: int
    """From 0; decides colour and marker."""
    experiment: Experiment
    several: bool
    """Whether there are others."""

    @property
    def letter(self) -> str:
        """Short name: A, B, ...; empty for a single experiment."""
        return chr(ord("A") + self.number) if self.several else ""

    @property
    def name(self) -> str:
        """Letter and name."""
        return f"{self.letter} {self.experiment.name}".strip()


# Overview


def show_overview(numbered: Sequence[Numbered], bootstrap: int) -> dict[str, Any]:
    """Cards of the experiments, and the rows of all sets and labels."""
    rows: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    cards = [
        {
            "of": each,
            "counts": each.experiment.counts,
            "set": SET_NAMES[each.experiment.set],
            "interval": _interval_text(each.experiment.counts, bootstrap),
            "settings": ", ".join(_headlines(each.experiment)),
        }
        for each in numbered
    ]
    for each in numbered:
        experiment = each.experiment
        rows += [{"of": each, "set": SET_NAMES[name], "counts": counts} for name, counts in experiment.totals.items()]
        if experiment.score is not None:
            labels += [
                {"of": each, "set": name, "counts": counts.to_dict()}
                for name, counts in experiment.score.labels.items()
            ]
    shown = [counts for each in numbered if (counts := each.experiment.counts) is not None]
    return {
        "cards": cards,
        "rows": rows,
        "labels": labels,
        "most": max([1, *(counts[name] for counts in shown for name in COUNTS.values())]),
        "characters": any(row["counts"].get("cer") is not None for row in rows),
    }


def _interval_text(counts: Mapping[str, Any] | None, bootstrap: int) -> str:
    if counts is None:
        return "The training has not ended; there are no scores yet."
    if counts.get("wer_low") is not None:
        return f"95 % interval {rate(counts['wer_low'])} to {rate(counts['wer_high'])}"
    return "No interval: that takes two speakers or more." if bootstrap else "No interval was asked for."


def _headlines(experiment: Experiment) -> Iterable[str]:
    for name, text in HEADLINES.items():
        if experiment.settings.get(name):
            yield text.format(experiment.settings[name])
    for name in HEADLINE_VERSIONS:
        if name in experiment.versions:
            yield f"{name} {experiment.versions[name]}"


# Difference


def show_comparison(numbered: Sequence[Numbered], scored: Sequence[Numbered]) -> Section:
    """The matched-pairs test of each pair of experiments, and in how many utterances they differ."""
    if len(scored) < 2:
        return None
    found: list[Difference] = []
    remarks: list[str] = []
    experiments = [each.experiment for each in numbered]
    for first, second in itertools.combinations(scored, 2):
        comparison = compare_experiments(experiments, first.number, second.number)
        if comparison is None:
            remarks.append(f"{first.letter} and {second.letter} have no utterance in common, so they are not compared.")
            continue
        found.append(comparison)
        names = f"{first.letter} and {second.letter}"
        if comparison.left_out:
            remarks.append(
                f"{names} are compared in the {plural(comparison.utterances, 'utterance')} that both have; "
                f"{plural(comparison.left_out, 'utterance is', 'utterances are')} in one of them only."
            )
        if comparison.other_references:
            remarks.append(
                f"The references of {plural(comparison.other_references, 'utterance')} differ between {names}: check "
                "that both were scored against the same references, unless these have alternatives."
            )
    if len(found) > 1:
        remarks.append(f"No p is corrected for the number of comparisons, {len(found)}.")
    rows = [
        {
            "pairs": each.pairs,
            "first": numbered[each.first],
            "second": numbered[each.second],
            "sentence": _verdict(numbered, each),
            "counts": each,
            "same": each.utterances - each.fewer - each.more - each.other_words,
        }
        for each in found
    ]
    return {"rows": rows, "remarks": remarks}


def _verdict(numbered: Sequence[Numbered], comparison: Difference) -> str:
    """State in a sentence which experiment has fewer errors, and whether that is significant."""
    first, second = numbered[comparison.first].letter, numbered[comparison.second].letter
    pairs = comparison.pairs
    if not pairs.mean:
        return f"{first} and {second} have equally many errors."
    better, worse = (first, second) if pairs.mean < 0 else (second, first)
    rates = [each for each in comparison.rates if each is not None]
    points = f" ({abs(rates[0] - rates[1]):.2f} points of WER)" if len(rates) == 2 else ""
    verdict = "the difference is significant" if pairs.p < SIGNIFICANCE else "the difference is not significant"
    return (
        f"{better} has fewer errors than {worse}{points}; {verdict} (p\N{NO-BREAK SPACE}{probability(pairs.p, '=')})."
    )


# Learning curves


def show_learning(numbered: Sequence[Numbered]) -> Section:
    """Loss and errors on dev by epoch, as charts and tables."""
    shown = [each for each in numbered if each.experiment.epochs]
    if not shown:
        return None
    rates = list(
        dict.fromkeys(
            name
            for each in shown
            for name in each.experiment.epochs[0]
            if name.startswith("dev_") and name != "dev_loss"
        )
    )
    losses = [("train_loss", True), ("dev_loss", False)]
    # With several experiments, one line each.
    drawn = rates[:1] if len(shown) > 1 else rates
    return {
        "loss": _curves(shown, losses, "Loss by epoch", logarithmic=True),
        "rates": _curves(shown, [(name, name != rates[0]) for name in drawn], "Error on dev by epoch, in percent"),
        "drawn": [_rate_name(name) for name in drawn],
        "best": [best for each in shown if (best := _best_epoch(each, rates))],
        "tables": [_epoch_table(each, rates) for each in shown],
    }


def _rate_name(column: str) -> str:
    name = column.removeprefix("dev_")
    return RATE_NAMES.get(name, name.replace("_", " "))


def _curves(
    shown: Sequence[Numbered], columns: Sequence[tuple[str, bool]], label: str, logarithmic: bool = False
) -> Markup | None:
    series = []
    for each in shown:
        for column, dashed in columns:
            points = [
                Mark(place, row[column], f"{each.name}, epoch {place}: {_rate_name(column)} {row[column]:.4g}")
                for place, row in enumerate(each.experiment.epochs, start=1)
                if column in row and math.isfinite(row[column]) and row[column] >= 0
            ]
            series.append(Series(each.number, points, dashed))
    values = [point.y for each in series for point in each.points]
    if not values:
        return None
    epochs = max(len(each.experiment.epochs) for each in shown)
    x = linear_axis([epochs], LEFT, RIGHT, whole=True)
    if logarithmic and min(values) > 0:
        y = logarithmic_axis(values, BOTTOM, TOP)
    else:
        y = linear_axis(values, BOTTOM, TOP, most=5)
    return chart(series, x, y, label, "epoch")


def _best_epoch(each: Numbered, rates: Sequence[str]) -> Section:
    """The epoch with the lowest rate on dev."""
    values = [
        (row[rates[0]], place) for place, row in enumerate(each.experiment.epochs, 1) if rates and rates[0] in row
    ]
    values = [value for value in values if math.isfinite(value[0])]
    if not values:
        return None
    value, place = min(values)
    return {
        "of": each,
        "rate": rate(value),
        "name": _rate_name(rates[0]),
        "epoch": place,
        "epochs": len(each.experiment.epochs),
    }


def _epoch_table(each: Numbered, rates: Sequence[str]) -> dict[str, Any]:
    columns = ["train_loss", "dev_loss", *rates, "lr", "seconds"]
    formats = {"train_loss": ".3f", "dev_loss": ".3f", "lr": ".3g", "seconds": ".0f"}
    rows = [
        [format(row[column], formats.get(column, ".2f")) if column in row else NO_ENTRY for column in columns]
        for row in each.experiment.epochs
    ]
    heads = ["train loss", "dev loss", *(f"dev {_rate_name(name)} %" for name in rates), "learning rate", "seconds"]
    return {"of": each, "heads": heads, "rows": rows}


# Speakers


def show_speakers(scored: Sequence[Numbered], bootstrap: int) -> Section:
    """Error rates of the speakers, highest first, as a dot plot."""
    names, total = rank_speakers([each.experiment for each in scored], MOST_SPEAKERS)
    if not names:
        return None
    rates = [speaker_rates(each.experiment, names, bootstrap) for each in scored]
    values = [
        value
        for by_name in rates
        for each in by_name.values()
        for value in (each.counts.wer, *(each.interval or ()))
        if value is not None
    ]
    axis = linear_axis(values, 3.0, 95.0, most=5)
    rows = []
    for name in names:
        found = [by_name.get(name) for by_name in rates]
        marks = [
            (of.number, Mark(0, each.counts.wer, f"{of.name}: {rate(each.counts.wer)} %", *(each.interval or ())))
            if each is not None and each.counts.wer is not None
            else None
            for of, each in zip(scored, found, strict=True)
        ]
        known = next(each for each in found if each is not None)
        rows.append(
            {
                "name": name,
                "segments": known.counts.segments,
                "words": known.counts.words,
                "rates": found,
                "dots": interval_row(marks, axis, _overall(scored)),
            }
        )
    return {"rows": rows, "axis": axis_row(axis), "total": total}


def _overall(scored: Sequence[Numbered]) -> float | None:
    """The error rate of a single experiment, as a mark among those of its speakers."""
    score = scored[0].experiment.score
    return score.all.wer if len(scored) == 1 and score is not None else None


# Confusions


def show_confusions(scored: Sequence[Numbered]) -> Section:
    """The most frequent errors of each kind."""
    counters = [count_confusions(_scored_utterances(each)) for each in scored]
    if not any(counters):
        return None
    tables = []
    for kind, title in KINDS.items():
        rows = most_frequent(counters, kind, MOST_CONFUSIONS)
        largest = max([max(counts) for _, counts in rows], default=1)
        distinct = len({error for counter in counters for error in counter if error[0] == kind})
        tables.append({"kind": kind, "title": title, "rows": rows, "largest": largest, "distinct": distinct})
    return {"tables": tables}


def _scored_utterances(each: Numbered) -> Sequence[AlignedUtterance]:
    return each.experiment.score.utterances if each.experiment.score is not None else ()


# Length


def show_length(scored: Sequence[Numbered], bootstrap: int) -> Section:
    """Error rates by duration, or by number of words where durations are not known."""
    if not scored:
        return None
    timed = all(utterance.id in each.experiment.audio for each in scored for utterance in _scored_utterances(each))
    groups: list[tuple[Numbered, list[LengthGroup]]] = []
    for each in scored:
        audio = each.experiment.audio
        groups.append(
            (
                each,
                group_by_length(
                    _scored_utterances(each),
                    (lambda utterance, audio=audio: audio[utterance.id].duration)  # type: ignore[misc]
                    if timed
                    else (lambda utterance: float(utterance.counts.words)),
                    bootstrap,
                ),
            )
        )
    if max(len(found) for _, found in groups) < 2:
        return None
    unit = "s" if timed else "words"
    series = [
        Series(
            each.number,
            [
                Mark(
                    group.middle,
                    group.rate.counts.wer,
                    f"{each.name}, {group.low:g} to {group.high:g} {unit}: WER {rate(group.rate.counts.wer)} %",
                    *(group.rate.interval or ()),
                )
                for group in found
                if group.rate.counts.wer is not None
            ],
        )
        for each, found in groups
    ]
    values = [value for each in series for point in each.points for value in (point.y, point.high) if value is not None]
    x = linear_axis([point.x for each in series for point in each.points], LEFT, RIGHT)
    label = f"WER by {'duration' if timed else 'number of words'} of utterances"
    x_label = "duration, s" if timed else "words of the reference"
    return {
        "timed": timed,
        "unit": unit,
        "chart": chart(series, x, linear_axis(values, BOTTOM, TOP, most=5), label, x_label),
        "tables": groups,
    }


# Costs


def show_costs(numbered: Sequence[Numbered]) -> Section:
    """Parameters, MACs and times beside error rates."""
    known = [each for each in numbered if each.experiment.costs is not None or each.experiment.minutes is not None]
    if not known:
        return None
    points = []
    for each in known:
        experiment = each.experiment
        counts = experiment.counts
        macs = experiment.costs.encoder_macs if experiment.costs is not None else None
        if counts is not None and counts["wer"] is not None and macs is not None:
            title = f"{each.name}: {whole(macs)} MACs, WER {rate(counts['wer'])} %"
            point = Mark(float(macs), counts["wer"], title, counts.get("wer_low"), counts.get("wer_high"))
            points.append(Series(each.number, [point], line=False))
    drawn = None
    if len(points) > 1:
        values = [value for each in points for p in each.points for value in (p.y, p.high) if value is not None]
        x = linear_axis([each.points[0].x for each in points], LEFT, RIGHT, most=5)
        y = linear_axis(values, BOTTOM, TOP, most=5)
        drawn = chart(points, x, y, "WER by cost of the encoder", "MACs of the encoder per second of audio")
    latencies = list(
        dict.fromkeys(each.experiment.costs.latency_of for each in known if each.experiment.costs is not None)
    )
    counted = any(each.experiment.costs is not None for each in known)
    return {"rows": known, "counted": counted, "chart": drawn, "latencies": [each for each in latencies if each]}


# Utterances


def show_utterances(scored: Sequence[Numbered], folder: Path, audio_bytes: int) -> Section:
    """The alignments of the utterances, for the page's script, and their audio."""
    if not scored:
        return None
    experiments = [each.experiment for each in scored]
    listed = list_utterances(experiments, DATA_LIMIT)
    audio = [audio_of(experiments, each) for each in listed.ids]
    embedded = embed(audio, audio_bytes) if audio_bytes else None
    links = [link(each, folder) for each in audio] if embedded is None else []
    data = {
        "experiments": [
            {"letter": each.letter, "number": each.number, "name": each.experiment.name} for each in scored
        ],
        **listed.data,
        "links": links if any(links) else [],
        "audio": embedded or [],
    }
    remarks = []
    if len(listed.ids) < listed.total:
        remarks.append(
            f"This list has {len(listed.ids):,} of {listed.total:,} utterances, those with the most errors, so that "
            "the page stays small. All utterances count in the numbers above."
        )
    if embedded is not None:
        held = sum(map(bool, embedded))
        limit = f"{audio_bytes / 1e6:g} MB"
        if len(embedded) < len(listed.ids):
            remarks.append(
                f"The page holds the audio of {held:,} of {listed.total:,} utterances, those with the most errors; the "
                f"others would make it larger by more than {limit} (--audio-limit)."
            )
        elif held < len(listed.ids):
            remarks.append(
                f"The page holds the audio of {held:,} of {len(listed.ids):,} utterances; that of the others is not "
                f"known, cannot be read, or is longer than {LONGEST:g} s."
            )
    elif any(links):
        remarks.append("Audio is in files beside this page, by their relative paths; --audio puts it into the page.")
    return {"data": Markup(dump(data)), "remarks": remarks, "speakers": sorted(listed.data["speakers"])}


# Settings


def show_settings(numbered: Sequence[Numbered]) -> Section:
    """Settings of the recipes, and versions of programs."""
    settings = [each.experiment.settings for each in numbered]
    versions = [each.experiment.versions for each in numbered]
    if not any(settings) and not any(versions):
        return None
    names = list(dict.fromkeys(name for each in settings for name in each if any(s.get(name) for s in settings)))
    programs = list(dict.fromkeys(name for each in versions for name in each))
    return {
        "differing": differing_settings(settings) if sum(map(bool, settings)) > 1 else {},
        "compared": sum(map(bool, settings)) > 1,
        "all": {name: [each.get(name, "") for each in settings] for name in names},
        "versions": {name: [each.get(name, NO_ENTRY) for each in versions] for name in programs},
    }


# What is missing


def not_shown(numbered: Sequence[Numbered], sections: Mapping[str, Any]) -> Iterable[str]:
    """Say what the report does not show, and why."""
    for each in numbered:
        experiment = each.experiment
        if experiment.score is None:
            why = "its training has not ended" if not experiment.totals else "the file with its alignments is missing"
            yield f"Alignments of {each.name}: {why}."
    if sections["learning"] is None:
        yield "Learning curves and settings: they are in a recipe's output folder."
    if sections["speakers"] is None and sections["utterances"] is not None:
        yield "Errors by speaker: the speakers are not known; --utt2spk names them."
    if sections["confusions"] is None and sections["utterances"] is not None:
        yield "Confusions: there are no errors."
    length = sections["length"]
    if length is None and sections["utterances"] is not None:
        yield "Errors by length: there are too few utterances."
    if length is not None and not length["timed"]:
        yield "Errors by duration: the durations are not known; --manifest gives them."
    if all(each.experiment.costs is None for each in numbered):
        yield "Parameters and MACs: they are known of a recipe's output folder with a model folder in it."
