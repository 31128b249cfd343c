"""NIST's scoring of conversations: recognized words are assigned to segments by time, then aligned.

References come from an STM file, hypotheses from a CTM file, and mapping rules from a GLM file. Counts equal those of
NIST's sclite, or with mapping rules those of its hubscr.pl. `docs/scoring.md` lists the rules and the few exceptions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from os import PathLike
from pathlib import Path
from typing import ClassVar

import numpy as np

from biglittle_asr.scoring.alignment import AlignedUtterance, Counts, OverallCounts, total
from biglittle_asr.scoring.nist.assignment import assigned, channels_of, check_channels, remarks
from biglittle_asr.scoring.nist.ctm import Recognized, write_ctm
from biglittle_asr.scoring.nist.glm import Glm, filter_ctm, filter_stm
from biglittle_asr.scoring.nist.graph_alignment import Alignments, align_graphs
from biglittle_asr.scoring.nist.report import LEGEND, format_box
from biglittle_asr.scoring.nist.stm import Segment, write_stm
from biglittle_asr.scoring.nist.wordgraph import Vocabulary, WordGraph, graph_of_recognized, graph_of_text
from biglittle_asr.scoring.score import Score

TEST_SETS = {"sw": "Switchboard", "en": "CallHome"}
"""Parts of Hub5'00, by the prefix before the underscore in their recordings' names."""


@dataclass(frozen=True)
class SegmentScore(Score):
    """A score of segments, whose characters are not counted."""

    unit: ClassVar[str] = "segments"
    characters: ClassVar[bool] = False
    legend: ClassVar[str] = LEGEND

    def table(self, title: str = "") -> str:
        """Write percentages per speaker, overall and per label, as in sclite's .sys file."""
        return format_box(self, title)


@dataclass(frozen=True)
class NistScore(SegmentScore):
    """Result of `score_nist`.

    Speakers are in the order of recordings, channels and times. Labels are those of the STM, and also Switchboard and
    CallHome. An utterance's ID is the speaker's name and a number, as in sclite.
    """

    remarks: list[str]
    """Sentences about oddities of the input that were scored all the same."""
    references: list[Segment] = field(repr=False)
    """All segments after normalization, in the order of recordings, channels and times."""
    hypotheses: list[Recognized] = field(repr=False)
    """All recognized words after normalization, in the order of recordings, channels and times."""
    alignments: Alignments = field(repr=False)
    """Alignments of the scored segments."""

    @property
    def scored(self) -> list[Segment]:
        """The segments of the utterances, in the same order: those that are not ignored."""
        return [segment for segment in self.references if not segment.ignored]

    def write_filtered(self, folder: str | PathLike[str], comments: Sequence[str] = ()) -> None:
        """Write the normalized references and hypotheses, so that sclite can be run on them.

        Arguments
        ---------
        folder : path
            Folder for ref.stm and hyp.ctm; created if it does not exist.
        comments : sequence of str
            Comments of the STM, which explain its labels.

        Raises
        ------
        OSError
            If a file cannot be written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_stm(folder / "ref.stm", self.references, comments)
        write_ctm(folder / "hyp.ctm", self.hypotheses)


def score_nist(
    references: Sequence[Segment],
    hypotheses: Sequence[Recognized],
    glm: Glm | None = None,
    fragments: bool | None = None,
    optional: bool | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    case_sensitive: bool = False,
    missing_as_empty: bool = False,
) -> NistScore:
    """Compare recognized words with segments of speech, as NIST does.

    Arguments
    ---------
    references : sequence of Segment
        As returned by `read_stm`. With mapping rules, segments and words are sorted by start, as hubscr.pl does.
        Without them, each channel keeps its order of lines, as in sclite.
    hypotheses : sequence of TimedWord and Alternatives
        As returned by `read_ctm`.
    glm : Glm
        Mapping rules for references and hypotheses. Without them, words are compared as they are.
    fragments : bool
        Whether a fragment, such as "th-", matches every word that it begins or ends (sclite's -F). By default only
        with mapping rules.
    optional : bool
        Whether words in brackets may be deleted and inserted freely (sclite's -D). By default only with mapping rules.
    bootstrap : int
        Number of sets of speakers drawn for the interval of the WER; 0 for no interval.
    seed : int
        Seed of the bootstrap.
    case_sensitive : bool
        Whether "Yes" and "yes" are different words. The case of recordings, channels, speakers and labels then matters
        too.
    missing_as_empty : bool
        Whether a channel without recognized words counts as empty instead of raising an error.

    Returns
    -------
    NistScore

    Raises
    ------
    ValueError
        If there is no segment to score, a channel has recognized words but no segments, a channel has spoken words but
        no recognized words, brackets or braces do not match, or `bootstrap` is negative.

    Example
    -------
    >>> from biglittle_asr.scoring.nist.ctm import TimedWord
    >>> segments = [
    ...     Segment("sw_1", "A", "jane", 0.0, 1.0, (), "well { i've / i have } (uh)"),
    ...     Segment("sw_1", "A", "jane", 1.0, 2.0, (), "seen th- that"),
    ... ]
    >>> texts = "well I have seen this that".split()
    >>> words = [TimedWord("sw_1", "A", 0.35 * number, 0.2, word) for number, word in enumerate(texts)]
    >>> score = score_nist(segments, words, Glm([]), bootstrap=0)
    >>> score.all.words, score.all.correct, list(score.labels)
    (7, 7, ['Switchboard'])
    """
    if glm is not None:
        # Sort before filtering, so that the words that replace one word stay together.
        references = filter_stm(sorted(references, key=attrgetter("start")), glm, case_sensitive)
        hypotheses = filter_ctm(sorted(hypotheses, key=attrgetter("start")), glm, case_sensitive)
    fold: Callable[[str], str] = str if case_sensitive else str.lower
    channels = channels_of(references, hypotheses, fold)
    check_channels(channels, missing_as_empty)
    vocabulary = Vocabulary(
        case_sensitive,
        optional=glm is not None if optional is None else optional,
        fragments=glm is not None if fragments is None else fragments,
    )
    segments: list[Segment] = []
    graphs: tuple[list[WordGraph], list[WordGraph]] = ([], [])
    outside: list[Recognized] = []
    for spoken, recognized in channels.values():
        for segment, items in assigned(spoken, recognized, outside):
            if not segment.ignored:
                segments.append(segment._replace(speaker=fold(segment.speaker)))
                graphs[0].append(graph_of_text(segment.text, vocabulary, segment.place))
                graphs[1].append(graph_of_recognized(items, vocabulary))
    if not segments:
        raise ValueError("There are no segments to score; check the STM file.")
    alignments = align_graphs(*graphs, vocabulary)
    counts = _counts(alignments.counts)
    speakers = _grouped(((segment.speaker,) for segment in segments), counts)
    spellings: dict[str, str] = {}
    labels = _grouped((_label_names(segment, spellings, fold) for segment in segments), counts)
    return NistScore(
        OverallCounts.of(total(counts), list(speakers.values()), bootstrap, seed),
        speakers,
        labels,
        list(_utterances(segments, counts, alignments)),
        list(remarks(channels, outside)),
        [segment for spoken, _ in channels.values() for segment in spoken],
        [item for _, recognized in channels.values() for item in recognized],
        alignments,
    )


# Former names.
Hub5Score = NistScore
score_hub5 = score_nist


def _utterances(
    segments: Sequence[Segment], counts: Sequence[Counts], alignments: Alignments
) -> Iterator[AlignedUtterance]:
    spoken: dict[str, int] = {}
    for index, segment in enumerate(segments):
        speaker = segment.speaker
        number = spoken[speaker] = spoken.get(speaker, -1) + 1
        pairs = tuple(alignments.word_pairs(index))
        yield AlignedUtterance(f"{speaker}-{number:03}", speaker, pairs, counts[index])


def _counts(steps: np.ndarray) -> list[Counts]:
    return [
        Counts(1, correct, substitutions, deletions, insertions, int(substitutions + deletions + insertions > 0))
        for correct, substitutions, deletions, insertions in steps.tolist()
    ]


def _grouped(names: Iterator[tuple[str, ...]], counts: list[Counts]) -> dict[str, Counts]:
    groups: dict[str, list[Counts]] = {}
    for group_names, segment_counts in zip(names, counts, strict=True):
        for name in group_names:
            groups.setdefault(name, []).append(segment_counts)
    return {name: total(group) for name, group in groups.items()}


def _label_names(segment: Segment, spellings: dict[str, str], fold: Callable[[str], str]) -> tuple[str, ...]:
    """Return the segment's labels, in their first spelling, and its part of Hub5'00."""
    labels = [spellings.setdefault(fold(label), label) for label in segment.labels]
    prefix, underscore, _ = segment.recording.partition("_")
    if underscore and prefix.lower() in TEST_SETS:
        labels.append(TEST_SETS[prefix.lower()])
    return tuple(dict.fromkeys(labels))
