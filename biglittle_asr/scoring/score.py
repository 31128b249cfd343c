"""Scores texts by utterance ID: counts overall and per speaker, interval, alignments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

from biglittle_asr.messages import visible
from biglittle_asr.scoring.alignment import AlignedUtterance, Counts, OverallCounts, align, total
from biglittle_asr.scoring.nist.marks import align_marked
from biglittle_asr.scoring.report import LEGEND, format_alignment, format_summary, format_table


@dataclass(frozen=True)
class Score:
    """Result of comparing hypotheses with references.

    :func:`score_texts` scores texts by utterance; :func:`~biglittle_asr.scoring.nist.score.score_nist` scores words by
    time.
    """

    unit: ClassVar[str] = "utterances"
    """Plural name of what is compared, for summaries."""
    characters: ClassVar[bool] = True
    """Whether characters are counted as well as words."""
    legend: ClassVar[str] = LEGEND
    """Explains the table and the alignments."""

    all: OverallCounts
    """All utterances together."""
    speakers: dict[str, Counts]
    """Counts per speaker; empty if speakers are unknown."""
    labels: dict[str, Counts]
    """Counts per label of an STM file; empty for texts, which have no labels."""
    utterances: list[AlignedUtterance] = field(repr=False)
    """The alignment of every scored utterance."""

    def to_dict(self) -> dict[str, Any]:
        """Return the object that `biglittle score --json` prints.

        Example
        -------
        >>> score_texts({"a": "one two"}, {"a": "one"}, {"a": "jane"}).to_dict()["speakers"]["jane"]["deletions"]
        1
        """
        return {
            "all": self._plain(self.all),
            "speakers": {name: self._plain(counts) for name, counts in self.speakers.items()},
            "labels": {name: self._plain(counts) for name, counts in self.labels.items()},
        }

    def _plain(self, counts: Counts) -> dict[str, int | float | None]:
        return {name: value for name, value in counts.to_dict().items() if self.characters or name != "cer"}

    def summary(self) -> str:
        """Write error rates, interval and counts in one line.

        Example
        -------
        >>> score_texts({"a": "one two"}, {"a": "one"}).summary()
        'WER 50.00 % (1 error in 2 words: 0 sub, 1 del, 0 ins), CER 57.14 %, SER 100.00 % (1 of 1 utterances)'
        """
        return format_summary(self.all, self.unit, self.characters)

    def table(self, title: str = "") -> str:
        """Write counts and rates, one line per speaker and one for all, below the title if there is one.

        Example
        -------
        >>> print(score_texts({"a": "one two"}, {"a": "one"}, {"a": "jane"}).table())
        speaker  segments  words  correct  sub  del  ins  errors  WER %  CER %   SER %
        jane            1      2        1    0    1    0       1  50.00  57.14  100.00
        all             1      2        1    0    1    0       1  50.00  57.14  100.00
        """
        return "\n".join(filter(None, [title, format_table(self.speakers, self.all)]))

    def write(self, path: str | PathLike[str], title: str | None = None) -> None:
        """Write the summary, the table per speaker, and every utterance's alignment with marked errors to a file.

        Arguments
        ---------
        path : path
            Such as results/wer_test.txt; replaced if it exists.
        title : str
            First line of the file; the file's name if not given.

        Raises
        ------
        OSError
            If the file cannot be written.

        Example
        -------
        >>> path = getfixture("tmp_path") / "wer_test.txt"
        >>> score_texts({"a": "one two"}, {"a": "one too"}).write(path)
        >>> print(path.read_text(encoding="utf-8"))  # doctest: +ELLIPSIS
        wer_test.txt
        WER 50.00 % ...
        a: 2 words, 1 error
        REF: one two
        HYP: one too
        OP:      S
        <BLANKLINE>
        """
        path = Path(path)
        head = [title or path.name, self.summary()]
        if self.all.wer_low is not None:
            head.append(
                f"In brackets: 95 % interval of the WER, from {self.all.bootstrap} bootstrap samples of "
                f"{len(self.speakers)} speakers."
            )
        parts = ["\n".join([*head, self.legend]), self.table(), *map(format_alignment, self.utterances)]
        path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def score_texts(
    references: Mapping[str, str],
    hypotheses: Mapping[str, str],
    speakers: Mapping[str, str] | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    case_sensitive: bool = False,
    missing_as_empty: bool = False,
    marks: bool = False,
    optional: bool = False,
    fragments: bool = False,
) -> Score:
    """Compare hypotheses with references.

    Arguments
    ---------
    references, hypotheses : mappings from utterance ID to text
        Words are separated by white space. Either text may be empty; against an empty reference, every hypothesis word
        is an insertion.
    speakers : mapping from utterance ID to speaker
        Must contain every reference. Without it, there are no counts per speaker and no interval.
    bootstrap : int
        Number of sets of speakers drawn for the interval of the WER; 0 for no interval.
    seed : int
        Seed of the bootstrap.
    case_sensitive : bool
        Whether "Yes" and "yes" are different words.
    missing_as_empty : bool
        Whether a missing hypothesis counts as an empty one instead of raising an error.
    marks : bool
        Whether the texts have NIST's marks, such as alternatives in braces. Such texts are aligned at NIST's costs, as
        sclite does, instead of with the fewest errors.
    optional, fragments : bool
        Both apply only with marks. `optional`: words in brackets may be deleted and inserted freely (sclite's -D).
        `fragments`: a fragment, such as "th-", matches every word that it begins or ends (sclite's -F).

    Returns
    -------
    Score
        Speakers are sorted by name and utterances by ID, whatever the order of the mappings.

    Raises
    ------
    ValueError
        If there are no references, a hypothesis is missing or has no reference, a speaker is missing, marks do not
        match, or `bootstrap` is negative.

    Example
    -------
    >>> score = score_texts({"a": "yes", "b": "one two"}, {"a": "yes", "b": "one to too"})
    >>> score.all.wer, score.all.substitutions, score.all.insertions
    (66.66666666666667, 1, 1)
    """
    _check(references, hypotheses, speakers, missing_as_empty)
    ids = sorted(references)
    columns = (
        ids,
        [references[each] for each in ids],
        [hypotheses.get(each, "") for each in ids],
        [speakers[each] if speakers is not None else None for each in ids],
        case_sensitive,
    )
    utterances = align_marked(*columns, optional, fragments) if marks else align(*columns)
    by_speaker: dict[str, list[Counts]] = {}
    for utterance in utterances:
        if utterance.speaker is not None:
            by_speaker.setdefault(utterance.speaker, []).append(utterance.counts)
    speaker_counts = {name: total(by_speaker[name]) for name in sorted(by_speaker)}
    counts = total(utterance.counts for utterance in utterances)
    overall = OverallCounts.of(counts, list(speaker_counts.values()), bootstrap, seed)
    return Score(overall, speaker_counts, {}, utterances)


def _check(
    references: Mapping[str, str],
    hypotheses: Mapping[str, str],
    speakers: Mapping[str, str] | None,
    missing_as_empty: bool,
) -> None:
    if not references:
        raise ValueError("There are no references to score against; check the reference file.")
    missing = references.keys() - hypotheses.keys()
    if missing and not missing_as_empty:
        raise ValueError(
            f"{_some(missing, len(references), 'utterance')} no hypothesis; "
            "add them, or have missing ones count as empty (missing-as-empty)."
        )
    extra = hypotheses.keys() - references.keys()
    if extra:
        raise ValueError(f"{_some(extra, len(hypotheses), 'hypothesis', 'hypotheses')} no reference; remove them.")
    unknown = references.keys() - speakers.keys() if speakers is not None else set()
    if unknown:
        raise ValueError(f"{_some(unknown, len(references), 'utterance')} no speaker; add them to the speaker list.")


def _some(ids: set[str], whole: int, singular: str, plural: str | None = None) -> str:
    """Begin a sentence, such as "3 of 20 utterances (the first is a) have"."""
    noun = singular if whole == 1 else plural or f"{singular}s"
    return f"{len(ids)} of {whole} {noun} (the first is {visible(min(ids))}) {'has' if len(ids) == 1 else 'have'}"
