"""Assigns recognized words to segments of the reference, by channel and by time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from biglittle_asr.scoring.nist.ctm import Recognized, TimedWord
from biglittle_asr.scoring.nist.stm import Segment

OVERLAP = 0.01
"""Overlap in seconds that is not remarked on, as recognizers round times to 10 ms."""

Channels = dict[tuple[str, str], tuple[list[Segment], list[Recognized]]]
"""Segments and recognized words of each channel of each recording."""


def channels_of(
    references: Sequence[Segment], hypotheses: Sequence[Recognized], fold: Callable[[str], str]
) -> Channels:
    """Group segments and words by channel.

    Arguments
    ---------
    references, hypotheses : sequences
        Segments and words; each channel keeps their order.
    fold : callable
        Makes names of recordings and channels comparable, such as `str.lower`.

    Returns
    -------
    dict
        Segments and words by (recording, channel), sorted by these names.

    Example
    -------
    >>> segments = [Segment("sw_1", "A", "jane", 0.0, 1.0, (), "yes")]
    >>> channels = channels_of(segments, [TimedWord("SW_1", "a", 0.2, 0.1, "yes")], str.lower)
    >>> [(name, len(spoken), len(recognized)) for name, (spoken, recognized) in channels.items()]
    [(('sw_1', 'a'), 1, 1)]
    """
    channels: Channels = {}
    sides: tuple[Sequence[Segment], Sequence[Recognized]] = (references, hypotheses)
    # Names are folded once per channel: once per word would take longer than reading the file.
    keys: dict[tuple[str, str], tuple[list[Any], list[Any]]] = {}
    for side, entries in enumerate(sides):
        for entry in entries:
            name = entry.recording, entry.channel
            if name not in keys:
                keys[name] = channels.setdefault((fold(name[0]), fold(name[1])), ([], []))
            keys[name][side].append(entry)
    return dict(sorted(channels.items()))


def check_channels(channels: Channels, missing_as_empty: bool) -> None:
    """Refuse channels that have words without segments, or segments without words.

    Arguments
    ---------
    channels : Channels
        Segments and words of each channel.
    missing_as_empty : bool
        Whether a channel with spoken words may have no recognized words.

    Raises
    ------
    ValueError
        If a channel has recognized words but no segments, or spoken words but no recognized words.
    """
    for (recording, channel), (spoken, recognized) in channels.items():
        if not spoken:
            raise ValueError(
                f"{recognized[0].place}: the reference has no segments of recording {recording}, channel {channel}; "
                "remove these words, or correct the names."
            )
    missing = [
        name
        for name, (spoken, recognized) in channels.items()
        if not recognized and any(segment.text and not segment.ignored for segment in spoken)
    ]
    if missing and not missing_as_empty:
        recording, channel = missing[0]
        raise ValueError(
            f"{len(missing)} of {len(channels)} channels (the first is recording {recording}, channel {channel}) have "
            "no recognized word; add them, or have missing ones count as empty (missing-as-empty)."
        )


def assigned(
    spoken: list[Segment], recognized: list[Recognized], outside: list[Recognized]
) -> Iterator[tuple[Segment, list[Recognized]]]:
    """Assign every word of a channel to the first segment that ends after the word's middle, or else to the last one.

    Arguments
    ---------
    spoken, recognized : lists
        Segments and words of one channel.
    outside : list
        Words that lie in no segment are appended to it. A word in a gap counts in the next segment.

    Returns
    -------
    iterator of Segment and list
        Each segment with its words.

    Example
    -------
    >>> segments = [Segment("sw_1", "A", "jane", start, start + 1.0, (), "") for start in (0.0, 2.0)]
    >>> words = [TimedWord("sw_1", "A", start, 0.2, f"at {start}") for start in (0.1, 0.9, 2.5, 3.5)]
    >>> outside = []
    >>> [[word.word for word in words] for _, words in assigned(segments, words, outside)]
    [['at 0.1'], ['at 0.9', 'at 2.5', 'at 3.5']]
    >>> [word.word for word in outside]
    ['at 0.9', 'at 3.5']
    """
    # sclite stores the ends of segments in single precision.
    ends = np.array([segment.end for segment in spoken], dtype=np.float32).tolist()
    begin = 0
    for number, (segment, end) in enumerate(zip(spoken, ends, strict=True), start=1):
        stop = begin
        if number == len(spoken):
            stop = len(recognized)
            outside += [item for item in recognized[begin:] if not segment.start <= item.middle <= end]
        else:
            while stop < len(recognized):
                middle = recognized[stop].middle
                if middle >= end:
                    break
                if middle < segment.start:
                    outside.append(recognized[stop])
                stop += 1
        yield segment, recognized[begin:stop]
        begin = stop


def remarks(channels: Channels, outside: list[Recognized]) -> Iterator[str]:
    """Describe words and segments out of order, words that lie in no segment, and words that overlap.

    Arguments
    ---------
    channels : Channels
        All segments and words.
    outside : list
        Words that `assigned` found in no segment. Those of channels out of order are not reported.
    """
    words = sum(len(recognized) for _, recognized in channels.values())
    disordered: set[tuple[str, str]] = set()
    late_segments: list[Segment] = []
    late_words: list[Recognized] = []
    overlapping: list[Recognized] = []
    for spoken, recognized in channels.values():
        late_segments += [second for first, second in itertools.pairwise(spoken) if second.start < first.start]
        # Alternatives without words have no time.
        timed = [item for item in recognized if next(item.words, None) is not None]
        late_words += [second for first, second in itertools.pairwise(timed) if second.start < first.start]
        overlapping += [
            second
            for first, second in itertools.pairwise(recognized)
            if isinstance(first, TimedWord) and second.start < first.start + first.duration - OVERLAP
        ]
    late = (
        ("segment", late_segments, sum(len(spoken) for spoken, _ in channels.values())),
        ("word", late_words, words),
    )
    for noun, entries, whole in late:
        disordered.update((each.recording, each.channel) for each in entries)
        if entries:
            yield (
                f"{_some(entries, whole, noun)} out of order: {'it starts' if len(entries) == 1 else 'they start'} "
                f"before the {noun} above. Segments and words count as they come, as in sclite; sort the lines by "
                "recording, channel and time."
            )
    unplaced = [item for item in outside if (item.recording, item.channel) not in disordered]
    if unplaced:
        yield (
            f"{_some(unplaced, words)} in no segment; as NIST has it, such words count in their channel's next "
            "segment, or else in its last."
        )
    overlapping = [item for item in overlapping if (item.recording, item.channel) not in disordered]
    if overlapping:
        yield f"{_some(overlapping, words)} over the word before; they are scored one after the other."


def _some(items: Sequence[Segment | Recognized], whole: int, noun: str = "word") -> str:
    """Begin a sentence, such as "3 of 20 words (the first is at hyp.ctm:7) lie"."""
    place = f" (the first is at {items[0].place})" if ":" in items[0].place else ""
    return f"{len(items)} of {whole} {noun}{'' if whole == 1 else 's'}{place} {'lies' if len(items) == 1 else 'lie'}"
