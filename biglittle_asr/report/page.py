"""The report as one HTML page: `page/report.html` with style sheets and script inside it.

The style is that of every page, `biglittle_asr/page.css`, and behind it `page/report.css`.

The page asks no server: its Content-Security-Policy allows audio from the page's own place, and only the style sheet
and the script whose hashes it names. Everything from experiments (transcripts, names, settings) is escaped by Jinja2,
or is data that the script inserts as text.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from biglittle_asr import __version__
from biglittle_asr.report.experiments import Experiment
from biglittle_asr.report.formats import plural, probability, rate, signed, whole
from biglittle_asr.report.sections import (
    COUNTS,
    KINDS,
    Numbered,
    Section,
    not_shown,
    show_comparison,
    show_confusions,
    show_costs,
    show_learning,
    show_length,
    show_overview,
    show_settings,
    show_speakers,
    show_utterances,
)

MOST_EXPERIMENTS = 6
"""As many as have colours and markers of their own."""
FILTERS = {"rate": rate, "whole": whole, "plural": plural, "probability": probability, "signed": signed}
"""Functions that the template writes numbers with."""


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
    style, script = shared_style() + _page_file("report.css"), _page_file("report.js")
    sections: dict[str, Section] = {
        "comparison": show_comparison(numbered, scored),
        "learning": show_learning(numbered),
        "speakers": show_speakers(scored, bootstrap),
        "confusions": show_confusions(scored),
        "length": show_length(scored, bootstrap),
        "costs": show_costs(numbered),
        "utterances": show_utterances(scored, folder, audio_bytes),
        "settings": show_settings(numbered),
    }
    return (
        _environment()
        .from_string(_page_file("report.html"))
        .render(
            title=", ".join(each.experiment.name for each in numbered),
            overview=show_overview(numbered, bootstrap),
            experiments=numbered,
            scored=scored,
            several=len(experiments) > 1,
            missing=list(not_shown(numbered, sections)),
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


def shared_style() -> str:
    """The style sheet that all pages of this package begin with."""
    return (files("biglittle_asr") / "page.css").read_text(encoding="utf-8")


def _page_file(name: str) -> str:
    return (files("biglittle_asr.report") / "page" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= FILTERS
    return environment


def _policy(style: str, script: str) -> str:
    """The Content-Security-Policy; 'self' and file: are for audio files beside the page."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; img-src data:; "
        "media-src 'self' file: data:; base-uri 'none'; form-action 'none'"
    )
