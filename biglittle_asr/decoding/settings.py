"""Settings of a beam search, as an object and as a JSON file."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from biglittle_asr.files import FIELD, InvalidJSON, read_json, text_lines, write_atomically
from biglittle_asr.messages import show

DEFAULT_BOOST = 5.0
"""In nats. e^5 is about 150 times as probable, which outweighs one or two badly recognized letters."""


def read_hotwords(path: str | Path) -> dict[str, float]:
    r"""Read hotwords: one word per line, optionally followed by its boost in nats (negative to avoid the word).

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If a line has another form, or there are no hotwords. The message names the line.

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
                f"{place}: is not a hotword; write one word per line, optionally with its boost, such as GHENT 2.5."
            ) from error
    if not boosts:
        raise ValueError(f"{path}: has no hotwords; write one per line.")
    return boosts


@dataclass(frozen=True)
class DecodingSettings:
    """Settings of a beam search.

    The score of a text, in nats, is the network's log-probability of its best alignment, plus `lm_weight` times the
    language model's log-probability, plus `word_score` for each word, plus the boosts of its hotwords.

    Raises
    ------
    ValueError
        If a value is out of range or of the wrong type.

    Example
    -------
    >>> DecodingSettings(lm="an4.arpa", lm_weight=0.8).width(default=50)
    50
    """

    lm: str | None = None
    """ARPA or KenLM file of words, or of the model's tokens."""
    lexicon: str | None = None
    """File of the words that may be recognized. By default, these are the words of the language model. Without a
    lexicon or a language model of words, any text may be recognized."""
    lm_weight: float = 0.5
    """Weight of the language model. Below 1: frames are not independent, so the network's scores are overconfident."""
    word_score: float = 0.0
    """Score of each word in nats, which makes up for a word's cost in the language model. Needs a lexicon or a language
    model of words."""
    beam: int | None = None
    """Number of hypotheses kept at each frame or after each token; time grows in proportion. None: the default of the
    kind of search."""
    nbest: int = 1
    """Number of texts per recording, including the best one."""
    hotwords: Mapping[str, float] = field(default_factory=dict)
    """Boost in nats by word, added each time that the word occurs."""

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("lm", "lexicon"):
            if not isinstance(getattr(self, name), str | None):
                raise ValueError(f"{name}: must be the name of a file.")
        for name in ("lm_weight", "word_score"):
            if not _is_number(getattr(self, name)):
                raise ValueError(f"{name}: {getattr(self, name)!r} is not a finite number.")
        for name, value in (("beam", 1 if self.beam is None else self.beam), ("nbest", self.nbest)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name}: {value!r} is not a whole number of at least 1.")
        if self.lm_weight < 0:
            raise ValueError(f"lm_weight: {self.lm_weight} would favor improbable texts; use 0 or more.")
        if self.beam is not None:
            self.width(self.beam)
        if not isinstance(self.hotwords, Mapping) or not all(
            isinstance(word, str) and FIELD.fullmatch(word) and _is_number(boost)
            for word, boost in self.hotwords.items()
        ):
            raise ValueError("hotwords: must be single words, each with a number.")

    def width(self, default: int) -> int:
        """Return the beam, or `default` if it is not set.

        Raises
        ------
        ValueError
            If `nbest` is larger than the beam.
        """
        beam = self.beam or default
        if self.nbest > beam:
            raise ValueError(f"nbest: {self.nbest} texts cannot be found with a beam of {beam}; make it wider.")
        return beam


@dataclass(frozen=True)
class AttentionSettings:
    """Settings of the search in an attention model.

    Raises
    ------
    ValueError
        If beam_size, ctc_weight, max_decode_ratio or temperature is out of range.
    """

    beam_size: int = 10
    """Number of hypotheses kept after each token; 1 is greedy search."""
    ctc_weight: float = 0.0
    """Weight of CTC's prefix scores, at least 0 and below 1; the decoder's weight is 1 minus this."""
    max_decode_ratio: float = 1.0
    """Largest number of tokens per encoder frame."""
    temperature: float = 1.0
    """Temperature of the decoder's softmax."""
    length_normalization: bool = True
    """Whether to rank hypotheses by score per token."""
    using_eos_threshold: bool = True
    """Whether to end a hypothesis only if its end is likely enough; see `eos_threshold`."""
    eos_threshold: float = 1.5
    """The end's log-probability times this must exceed that of the best other token."""
    using_max_attn_shift: bool = False
    """Whether to drop hypotheses whose attention jumps; see `max_attn_shift`."""
    max_attn_shift: int = 60
    """Largest move of the attention peak between two tokens, in frames."""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.beam_size < 1 or not 0 <= self.ctc_weight < 1:
            raise ValueError(
                "a search needs a beam of at least 1 and a ctc_weight of at least 0 and below 1, but they are "
                f"{self.beam_size}, {self.ctc_weight}"
            )
        if self.max_decode_ratio <= 0 or self.temperature <= 0:
            raise ValueError(
                "a search needs a max_decode_ratio and a temperature above 0, but they are "
                f"{self.max_decode_ratio}, {self.temperature}"
            )


@dataclass(frozen=True)
class TransducerSettings:
    """Settings of the search in a transducer.

    Raises
    ------
    ValueError
        If the beam is smaller than 1.
    """

    beam_size: int = 4
    """Number of hypotheses kept at each frame, at most the number of tokens; 1 is greedy search."""

    def __post_init__(self) -> None:
        """Check the value."""
        if self.beam_size < 1:
            raise ValueError(f"a search needs a beam of at least 1, not {self.beam_size}")


def read_settings(path: str | Path) -> DecodingSettings:
    r"""Read settings from a JSON file, such as `biglittle tune` writes. Paths in it are relative to its folder.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it does not contain decoding settings.

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
        what = f"{show(unknown[0])} is none of them" if isinstance(values, dict) else "must be one JSON object"
        raise ValueError(f"{path}: {what}; decoding settings are {', '.join(names)}.")
    for name in ("lm", "lexicon"):
        if isinstance(values.get(name), str):
            values[name] = str(path.parent / values[name])
    try:
        return DecodingSettings(**values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def write_settings(path: str | Path, settings: DecodingSettings) -> None:
    """Write settings to a JSON file atomically. Paths in it are relative to its folder.

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
    # math.isfinite raises an error for whole numbers that are too large for a float.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
