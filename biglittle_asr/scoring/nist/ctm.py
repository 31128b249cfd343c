r"""NIST's conversation time marks (CTM): recognized words with their times, one word per line.

    sw_4390 A 1.10 0.25 well 0.98
    sw_4390 A * * <ALT_BEGIN>
    sw_4390 A 1.40 0.10 i've
    sw_4390 A * * <ALT>
    sw_4390 A 1.40 0.04 i
    sw_4390 A 1.44 0.06 have
    sw_4390 A * * <ALT_END>

The fields are recording, channel, start and duration in seconds, word, and an optional confidence. Two more fields,
type and speaker, are ignored. Three marks delimit alternatives, which may nest. An alternative without words means that
there may be no word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from biglittle_asr.scoring.nist.stm import decimal
from biglittle_asr.scoring.texts import WORD, read_text_file, seconds

BEGIN, NEXT, END = "<ALT_BEGIN>", "<ALT>", "<ALT_END>"
"""Marks that delimit alternatives."""
DEEPEST = 100
"""Largest number of alternatives around a word; those who write them need two or three."""
NO_WORD = "@"
"""Means that there is no word."""

FRACTION = re.compile(r"[01]?\.\d+|[01]\.")
"""Matches a confidence."""

NOISES = frozenset(("[NOISE]", "[LAUGHTER]", "[VOCALIZED-NOISE]", "<UNK>"))
"""Tokens that recognizers write for noises and for unknown words."""
HESITATIONS = frozenset("UH UM EH MM HM AH HUH HA ER OOF HEE ACH EEE EW".split())
"""Hesitations that Kaldi's Switchboard recipes remove before scoring; in references of Hub5'00 they are optional."""


class TimedWord(NamedTuple):
    """One line of a CTM file."""

    recording: str
    channel: str
    start: float
    """Start in seconds."""
    duration: float
    """Duration in seconds."""
    word: str
    confidence: float | None = None
    place: str = "the hypothesis"
    """File and line, for messages."""

    @property
    def middle(self) -> float:
        """Middle of the word in seconds, which decides its segment."""
        return self.start + self.duration / 2.0

    @property
    def words(self) -> Iterator[TimedWord]:
        """Iterates over the word alone."""
        yield self


@dataclass(frozen=True)
class Alternatives:
    """Sequences of words, any one of which may be right."""

    options: list[list[TimedWord | Alternatives]]
    """At least one option; an empty option means no word."""
    recording: str
    channel: str
    place: str = "the hypothesis"
    """File and line of the first mark, for messages."""

    @property
    def words(self) -> Iterator[TimedWord]:
        """Iterates over the words of all options."""
        for option in self.options:
            for item in option:
                yield from item.words

    @property
    def start(self) -> float:
        """Start of the first word in seconds; 0 without words."""
        return next((word.start for word in self.words), 0.0)

    @property
    def middle(self) -> float:
        """Latest middle of a word in seconds; 0 without words. It decides the segment of all options."""
        return max((word.middle for word in self.words), default=0.0)


Recognized = TimedWord | Alternatives
"""An item of a hypothesis."""


def read_ctm(path: str | PathLike[str]) -> list[Recognized]:
    r"""Read a CTM file.

    Arguments
    ---------
    path : path
        Text in UTF-8. Lines that start with a semicolon are comments.

    Returns
    -------
    list of TimedWord and Alternatives
        In the file's order.

    Raises
    ------
    FileNotFoundError
        If the file is missing.
    ValueError
        If it is not UTF-8, a line has too few or too many fields, a time or confidence is not a number, a duration is
        negative, a line has a confidence but no word, or alternatives do not begin and end within a channel or are
        nested too deeply. The message names file and line.

    Example
    -------
    >>> path = getfixture("tmp_path") / "hyp.ctm"
    >>> _ = path.write_text("sw_4390 A 1.10 0.25 well 0.98\nsw_4390 A 1.4 0.1 yes\n")
    >>> [(item.word, item.confidence) for item in read_ctm(path)]
    [('well', 0.98), ('yes', None)]
    """
    items: list[Recognized] = []
    open_alternatives: list[Alternatives] = []
    for place, line in read_text_file(path).numbered():
        if line.startswith(";"):
            continue
        fields = WORD.findall(line)
        if not 5 <= len(fields) <= 8:
            raise ValueError(
                f"{place}: {len(fields)} fields are not a CTM line; write recording, channel, start, duration, word, "
                "and a confidence if there is one."
            )
        recording, channel, start, duration, word = fields[:5]
        inside = open_alternatives[-1].options[-1] if open_alternatives else items
        begun = open_alternatives[0] if open_alternatives else None
        if begun is not None and (recording, channel) != (begun.recording, begun.channel):
            raise ValueError(f"{begun.place}: {BEGIN} has no {END} in its channel; add it.")
        if word[0] == "<" and word.upper() in (BEGIN, NEXT, END):
            _mark(word.upper(), Alternatives([[]], recording, channel, place), inside, open_alternatives)
            continue
        inside.append(
            TimedWord(
                recording,
                channel,
                seconds(start, place, "start"),
                seconds(duration, place, "duration", least=0.0),
                word,
                _confidence(fields[5], place) if len(fields) > 5 else None,
                place,
            )
        )
    if open_alternatives:
        raise ValueError(f"{open_alternatives[0].place}: {BEGIN} has no {END} in its channel; add it.")
    _check_words([word for item in items for word in item.words])
    return items


def _check_words(words: Sequence[TimedWord]) -> None:
    """Refuse a confidence in the place of a word, if other words are followed by confidences."""
    if any(word.confidence is not None for word in words):
        for word in words:
            if word.confidence is None and FRACTION.fullmatch(word.word):
                raise ValueError(f"{word.place}: has no word, but a confidence of {word.word}; add the word.")


def _mark(mark: str, begun: Alternatives, inside: list[Recognized], open_alternatives: list[Alternatives]) -> None:
    if mark == BEGIN:
        if len(open_alternatives) == DEEPEST:
            raise ValueError(f"{begun.place}: alternatives are nested more than {DEEPEST} deep; correct the line.")
        inside.append(begun)
        open_alternatives.append(begun)
    elif not open_alternatives:
        raise ValueError(f"{begun.place}: {mark} without {BEGIN} before it; add it, or remove the line.")
    elif mark == NEXT:
        open_alternatives[-1].options.append([])
    else:
        open_alternatives.pop()


def _confidence(field: str, place: str) -> float | None:
    if field.upper() == "NA":
        return None
    try:
        return float(field)
    except ValueError:
        raise ValueError(f"{place}: the confidence '{field}' is not a number; correct it.") from None


def without_hesitations(items: Sequence[Recognized]) -> list[Recognized]:
    """Remove noises, hesitations and fragments, as Kaldi's recipes do before they score Hub5'00.

    Arguments
    ---------
    items : sequence of TimedWord and Alternatives
        As returned by `read_ctm`.

    Returns
    -------
    list of TimedWord and Alternatives
        Items without words in `NOISES` or `HESITATIONS` (upper or lower case) and without words that end in a hyphen.

    Example
    -------
    >>> words = [TimedWord("f", "A", 0.0, 0.1, word) for word in ("uh", "well", "[noise]", "th-", "yes")]
    >>> [item.word for item in without_hesitations(words)]
    ['well', 'yes']
    """
    kept: list[Recognized] = []
    for item in items:
        if isinstance(item, Alternatives):
            options = [without_hesitations(option) for option in item.options]
            kept.append(Alternatives(options, item.recording, item.channel, item.place))
        elif item.word.upper() not in NOISES | HESITATIONS and not item.word.endswith("-"):
            kept.append(item)
    return kept


def write_ctm(path: str | PathLike[str], items: Sequence[Recognized]) -> None:
    r"""Write a CTM file.

    Arguments
    ---------
    path : path
        Replaced if it exists.
    items : sequence of TimedWord and Alternatives
        Items whose recordings, channels and words have no white space. Times are not rounded.

    Raises
    ------
    OSError
        If the file cannot be written.

    Example
    -------
    >>> path = getfixture("tmp_path") / "hyp.ctm"
    >>> write_ctm(path, [TimedWord("sw_4390", "A", 1.1, 0.25, "well", 0.98)])
    >>> path.read_text()
    'sw_4390 A 1.10 0.25 well 0.98\n'
    """
    Path(path).write_text("".join(f"{line}\n" for item in items for line in _lines(item)), encoding="utf-8")


def _lines(item: Recognized) -> Iterator[str]:
    channel = f"{item.recording} {item.channel}"
    if isinstance(item, TimedWord):
        confidence = f" {item.confidence:g}" if item.confidence is not None else ""
        yield f"{channel} {decimal(item.start)} {decimal(item.duration)} {item.word}{confidence}"
        return
    for number, option in enumerate(item.options):
        yield f"{channel} * * {NEXT if number else BEGIN}"
        # NIST's tools misread an option without lines.
        for part in option or [TimedWord(item.recording, item.channel, item.start, 0.0, NO_WORD)]:
            yield from _lines(part)
    yield f"{channel} * * {END}"
