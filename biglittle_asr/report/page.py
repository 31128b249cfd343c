"""The report as one HTML page, from `page/report.html` with `report.css` and `report.js` inside it.

The page makes no request: its Content-Security-Policy allows no address, and only the style sheet and the script whose
hashes it names. Everything from experiments (transcripts, names, settings) is escaped by Jinja2, or is data that the
script inserts as text.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from biglittle_asr import __version__
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
from biglittle_asr.report.recordings import LONGEST, embed, link
from biglittle_asr.report.statistics import (
    Comparison,
    LengthGroup,
    compare,
    count_confusions,
    differing_settings,
    group_by_length,
    most_frequent,
    rank_speakers,
    speaker_rates,
)
from biglittle_asr.report.utterances import audio_of, dump, list_utterances
from biglittle_asr.scoring import AlignedUtterance
from biglittle_asr.scoring.nist.matched_pairs import SIGNIFICANCE

MOST_EXPERIMENTS = 6
"""As many as have colours and markers of their own."""
MOST_SPEAKERS = 100
MOST_CONFUSIONS = 15
SET_NAMES = {"dev": "dev", "test": "test", "hub5_test": "test, as NIST scores", "": ""}
KINDS = {"S": "Substitutions", "D": "Deletions", "I": "Insertions"}
COUNTS = {"S": "substitutions", "D": "deletions", "I": "insertions"}
RATE_NAMES = {"wer": "WER", "cer": "CER", "top1_error": "top-1 error", "top5_error": "top-5 error"}
NO_ENTRY = "\N{EN DASH}"
"""Stands for a value that is not known."""


def build_page(experiments: Sequence[Experiment], folder: Path, bootstrap: int = 1000, audio_bytes: int = 0) -> str:
    """Build the HTML of a report.

    Arguments
    ---------
    experiments : sequence of Experiment
        At least one, up to :data:`MOST_EXPERIMENTS`.
    folder : pathlib.Path
        Folder that the page will be in, for links to audio files.
    bootstrap : int
        Resamples for the intervals of speakers and lengths; 0 for no intervals.
    audio_bytes : int
        Most bytes of audio in the page; 0 for links.

    Raises
    ------
    ValueError
        If there are too many experiments, or nothing to show.

    Example
    -------
    >>> from biglittle_asr.report.experiments import scored_experiment
    >>> from biglittle_asr.scoring import score_texts
    >>> experiment = scored_experiment("mine", score_texts({"a": "one two"}, {"a": "one too"}))
    >>> build_page([experiment], getfixture("tmp_path"))[:15]
    '<!doctype html>'
    """
    if len(experiments) > MOST_EXPERIMENTS:
        raise ValueError(
            f"A report shows up to {MOST_EXPERIMENTS} experiments, not {len(experiments)}; leave some out."
        )
    if not any(each.score or each.totals or each.epochs for each in experiments):
        raise ValueError(f"{experiments[0].name}: has neither scores nor a finished epoch yet; wait for the first one.")
    numbered = [Numbered(number, each, len(experiments) > 1) for number, each in enumerate(experiments)]
    scored = [each for each in numbered if each.experiment.score is not None]
    style, script = (_page_file(name) for name in ("report.css", "report.js"))
    sections: dict[str, Any] = {
        "comparison": _comparison(numbered, scored),
        "learning": _learning(numbered),
        "speakers": _speakers(scored, bootstrap),
        "confusions": _confusions(scored),
        "length": _length(scored, bootstrap),
        "costs": _costs(numbered),
        "utterances": _utterances(scored, folder, audio_bytes),
        "settings": _settings(numbered),
    }
    return (
        _environment()
        .from_string(_page_file("report.html"))
        .render(
            title=" and ".join(each.experiment.name for each in numbered),
            overview=_overview(numbered, bootstrap),
            experiments=numbered,
            scored=scored,
            several=len(experiments) > 1,
            missing=list(_missing(numbered, sections)),
            bootstrap=bootstrap,
            version=__version__,
            kinds=KINDS,
            counts=COUNTS,
            style=Markup(style),
            script=Markup(script),
            policy=_policy(style, script),
            **sections,
        )
    )


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

    @property
    def short(self) -> str:
        """The letter, or the name of a single experiment."""
        return self.letter or self.experiment.name


# Parts of the template


def _page_file(name: str) -> str:
    return (files("biglittle_asr.report") / "page" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "rate": rate,
        "whole": whole,
        "plural": plural,
        "probability": probability,
        "signed": signed,
    }
    return environment


def _policy(style: str, script: str) -> str:
    """The Content-Security-Policy; 'self' and file: are for audio files beside the page."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; img-src data:; "
        "media-src 'self' file: data:; base-uri 'none'; form-action 'none'"
    )


def rate(value: float | None, digits: int = 2) -> str:
    """Write a rate in percent, or a dash.

    Example
    -------
    >>> rate(9.3141), rate(None)
    ('9.31', '–')
    """
    return NO_ENTRY if value is None else f"{value:.{digits}f}"


def whole(value: float | None) -> str:
    """Write a whole number with commas, or a dash.

    Example
    -------
    >>> whole(2620)
    '2,620'
    """
    return NO_ENTRY if value is None else f"{value:,.0f}"


def plural(count: int, noun: str, plural: str = "") -> str:
    """Write a number and its noun.

    Example
    -------
    >>> plural(1, "word"), plural(2620, "utterance")
    ('1 word', '2,620 utterances')
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


# Overview


def _overview(numbered: Sequence[Numbered], bootstrap: int) -> dict[str, Any]:
    """Cards of the experiments, and the rows of all sets and labels."""
    rows: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    cards = [
        {
            "of": each,
            "counts": each.experiment.counts,
            "set": SET_NAMES[each.experiment.set],
            "interval": _interval_text(each.experiment.counts, bootstrap),
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


# Comparison


def _comparison(numbered: Sequence[Numbered], scored: Sequence[Numbered]) -> dict[str, Any] | None:
    if len(scored) < 2:
        return None
    found: list[Comparison] = []
    remarks: list[str] = []
    experiments = [each.experiment for each in numbered]
    for first, second in itertools.combinations(scored, 2):
        comparison = compare(experiments, first.number, second.number)
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
            "significant": each.pairs.p < SIGNIFICANCE,
            "sentence": _verdict(numbered, each),
            "counts": each,
            "same": each.utterances - each.fewer - each.more - each.other_words,
        }
        for each in found
    ]
    return {"rows": rows, "remarks": remarks}


def _verdict(numbered: Sequence[Numbered], comparison: Comparison) -> str:
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


def probability(p: float, equals: str = "") -> str:
    r"""Write a probability, behind an equals sign if one is given.

    Example
    -------
    >>> probability(0.0312), probability(0.0312, "=")
    ('0.0312', '=\xa00.0312')
    """
    sign, value = ("<", "0.0001") if p < 0.0001 else (equals, f"{p:.4f}")
    return f"{sign}\N{NO-BREAK SPACE}{value}" if sign else value


def signed(value: float, digits: int) -> str:
    r"""Write a number with its sign.

    Example
    -------
    >>> signed(-0.0712, 3), signed(1.0, 1)
    ('\u22120.071', '+1.0')
    """
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


# Learning curves


def _learning(numbered: Sequence[Numbered]) -> dict[str, Any] | None:
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
        "rate_names": [_rate_name(name) for name in rates],
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


def _best_epoch(each: Numbered, rates: Sequence[str]) -> dict[str, Any] | None:
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


def _speakers(scored: Sequence[Numbered], bootstrap: int) -> dict[str, Any] | None:
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
    axis = linear_axis(values, 3.0, 97.0, most=5)
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


def _confusions(scored: Sequence[Numbered]) -> dict[str, Any] | None:
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


def _length(scored: Sequence[Numbered], bootstrap: int) -> dict[str, Any] | None:
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


def _costs(numbered: Sequence[Numbered]) -> dict[str, Any] | None:
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


def _utterances(scored: Sequence[Numbered], folder: Path, audio_bytes: int) -> dict[str, Any] | None:
    if not scored:
        return None
    experiments = [each.experiment for each in scored]
    listed = list_utterances(experiments)
    audio = [audio_of(experiments, each) for each in listed.ids]
    embedded = embed(audio, audio_bytes) if audio_bytes else None
    links = [link(each, folder) for each in audio] if embedded is None else []
    data = {
        "experiments": [
            {"letter": each.letter, "number": each.number, "name": each.experiment.name} for each in scored
        ],
        **listed.data,
        "links": links if any(links) else [],
        "audio": list(embedded.files) if embedded is not None else [],
    }
    remarks = []
    if len(listed.ids) < listed.total:
        remarks.append(
            f"Listed are {len(listed.ids):,} of {listed.total:,} utterances, those with the most errors, so that the "
            "page stays small. All of them count in the numbers above."
        )
    if embedded is not None:
        held = sum(map(bool, embedded.files))
        limit = f"{audio_bytes / 1e6:g} MB"
        if len(embedded.files) < len(listed.ids):
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


def _settings(numbered: Sequence[Numbered]) -> dict[str, Any] | None:
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


def _missing(numbered: Sequence[Numbered], sections: Mapping[str, Any]) -> Iterable[str]:
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
