"""How to search for words: the settings of a beam search, as one object and as a JSON file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from biglittle_asr.files import FIELD, InvalidJSON, read_json, text_lines, write_atomically

DEFAULT_BOOST = 5.0
"""Nats: e^5, about 150 times more probable, which outweighs a letter or two that were heard badly."""


def read_hotwords(path: str | Path) -> dict[str, float]:
    r"""Read hotwords: a word a line, and behind it, if not the default, its boost in nats (negative: avoid it).

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If a line is none of these; the message has its number.

    Example
    -------
    >>> path = getfixture("tmp_path") / "names.txt"
    >>> _ = path.write_text("ANTWERP\nGHENT 2.5\n")
    >>> read_hotwords(path)
    {'ANTWERP': 5.0, 'GHENT': 2.5}
    """
    boosts: dict[str, float] = {}
    for place, line in text_lines(path, advice="give a file of hotwords"):
        fields = FIELD.findall(line)
        if not fields:
            continue
        word, *rest = fields
        try:
            boosts[word] = float(rest[0]) if rest else DEFAULT_BOOST
            if len(rest) > 1 or not math.isfinite(boosts[word]):
                raise ValueError
        except ValueError as error:
            raise ValueError(
                f"{place}: is no hotword; a line holds one word and, if you like, its boost, such as GHENT 2.5."
            ) from error
    if not boosts:
        raise ValueError(f"{path}: holds no hotwords; write one a line.")
    return boosts


@dataclass(frozen=True)
class DecodingSettings:
    """Settings of a beam search.

    The score of a text, in nats, is the network's log-probability of its best alignment, plus `lm_weight` times the
    language model's log-probability, plus `word_score` for each word, plus the boosts of its hotwords.

    Raises
    ------
    ValueError
        If a value makes no sense.

    Example
    -------
    >>> DecodingSettings(lm="an4.arpa", lm_weight=0.8).width(default=50)
    50
    """

    lm: str | None = None
    """ARPA or KenLM file, of words, or of the model's tokens."""
    lexicon: str | None = None
    """File of the words that may be recognized; if none is given, those of the language model. Without either, and with
    a language model of tokens, any text may."""
    lm_weight: float = 0.5
    """Of the language model. Below 1, for frames are not independent, so that the network is too sure of itself."""
    word_score: float = 0.0
    """For each word, in nats: makes up for what a word costs in a language model. Only where there is a lexicon, or a
    language model of words."""
    beam: int | None = None
    """Hypotheses that are kept at each frame, or behind each token; more cost time in proportion. None: as many as the
    kind of search keeps by itself."""
    nbest: int = 1
    """Texts of a recording, the best one counted."""
    hotwords: Mapping[str, float] = field(default_factory=dict)
    """Word -> boost in nats, for each time it occurs."""

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("lm", "lexicon"):
            if not isinstance(getattr(self, name), str | None):
                raise ValueError(f"{name}: must be the name of a file.")
        for name in ("lm_weight", "word_score"):
            if not _is_number(getattr(self, name)):
                raise ValueError(f"{name}: {getattr(self, name)!r} is no finite number.")
        for name, value in (("beam", 1 if self.beam is None else self.beam), ("nbest", self.nbest)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name}: {value!r} is no whole number of 1 or more.")
        if self.lm_weight < 0:
            raise ValueError(f"lm_weight: {self.lm_weight} would reward what the language model holds for improbable.")
        if self.beam is not None:
            self.width(self.beam)
        if not isinstance(self.hotwords, Mapping) or not all(
            isinstance(word, str) and FIELD.fullmatch(word) and _is_number(boost)
            for word, boost in self.hotwords.items()
        ):
            raise ValueError("hotwords: must be single words, each with a number.")

    def width(self, default: int) -> int:
        """The beam, `default` if there is none.

        Raises
        ------
        ValueError
            If more texts are wanted than it can hold.
        """
        beam = self.beam or default
        if self.nbest > beam:
            raise ValueError(f"nbest: {self.nbest} texts cannot be found with a beam of {beam}; make it wider.")
        return beam


def read_settings(path: str | Path) -> DecodingSettings:
    r"""Read settings from a JSON file, such as `biglittle tune` writes; files it names are sought beside it.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it holds no such settings.

    Example
    -------
    >>> path = getfixture("tmp_path") / "decoding.json"
    >>> _ = path.write_text('{"lm": "an4.arpa", "lm_weight": 0.8}')
    >>> Path(read_settings(path).lm) == path.parent / "an4.arpa"
    True
    """
    path = Path(path)
    try:
        values = read_json(path, advice="`biglittle tune` writes files of decoding settings")
    except InvalidJSON as error:
        raise ValueError(f"{str(error).rstrip('.')}; `biglittle tune` writes files of decoding settings.") from error
    names = [each.name for each in fields(DecodingSettings)]
    if not isinstance(values, dict) or (unknown := sorted(set(values) - set(names))):
        what = f"'{unknown[0]}' is none of them" if isinstance(values, dict) else "must be one JSON object"
        raise ValueError(f"{path}: {what}; decoding settings are {', '.join(names)}.")
    for name in ("lm", "lexicon"):
        if isinstance(values.get(name), str):
            values[name] = str(path.parent / values[name])
    try:
        return DecodingSettings(**values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def write_settings(path: str | Path, settings: DecodingSettings) -> None:
    """Write settings to a JSON file, whole or not at all; files are named as seen from its folder.

    Example
    -------
    >>> path = getfixture("tmp_path") / "decoding.json"
    >>> write_settings(path, DecodingSettings(beam=20))
    >>> read_settings(path) == DecodingSettings(beam=20)
    True
    """
    path = Path(path)
    values: dict[str, Any] = asdict(settings)
    for name in ("lm", "lexicon"):
        if values[name] is not None:
            values[name] = os.path.relpath(values[name], path.parent)
    values = {name: value for name, value in values.items() if value not in (None, {})}
    write_atomically(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
