"""The utterances of a run: a CSV file beside the table of results, with every test utterance's right and wrong words.

It has no text of the corpus, only one letter per word. That is enough for error rates, for resampling speakers and for
matched pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from biglittle_asr.files import read_table, write_table
from biglittle_asr.scoring import AlignedUtterance, read_score
from biglittle_asr.scoring.alignment import CORRECT
from biglittle_asr.scoring.nist.matched_pairs import Steps
from biglittle_asr.study.plan import Run, StudyError
from biglittle_asr.study.results import Results, read_scores


class ScoredUtterance(NamedTuple):
    """A row of the file.

    Example
    -------
    >>> utterance = ScoredUtterance("a1", "jane", "CSI")
    >>> utterance.words, utterance.errors, utterance.steps
    (2, 2, [('', 1), ('S', 2), ('I', 0)])
    """

    utterance: str
    speaker: str
    operations: str
    """A letter per column of the alignment: C correct, S substitution, D deletion, I insertion."""

    @classmethod
    def of(cls, utterance: AlignedUtterance) -> ScoredUtterance:
        """The row of an aligned utterance."""
        operations = "".join(pair.operation or "C" for pair in utterance.pairs)
        return cls(utterance.id, utterance.speaker or "", operations)

    @property
    def words(self) -> int:
        """Number of reference words."""
        return len(self.operations) - self.operations.count("I")

    @property
    def errors(self) -> int:
        """Number of word errors."""
        return len(self.operations) - self.operations.count("C")

    @property
    def steps(self) -> Steps:
        """The alignment, as the matched-pairs test takes it."""
        words = 0
        steps = []
        for letter in self.operations:
            words += letter != "I"
            steps.append((CORRECT if letter == "C" else letter, 0 if letter == "I" else words))
        return steps


def utterances_path(results: Results, run: Run) -> Path:
    """Return the path of a run's file.

    Example
    -------
    >>> utterances_path(Results(Path("docs/claim.csv")), Run("small", 3, "train.py", "small.yaml")).as_posix()
    'docs/claim_utterances/small_3.csv'
    """
    return results.path.with_name(f"{results.path.stem}_utterances") / f"{run.name}_{run.seed}.csv"


def collect_utterances(results: Results, run: Run, folder: Path) -> Path | None:
    """Write the file of a run from its recipe's output folder.

    Arguments
    ---------
    results : Results
        Table of results beside which the file is written. It need not have the run yet.
    run : Run
    folder : pathlib.Path
        The recipe's output folder.

    Returns
    -------
    pathlib.Path or None
        The file; None if the recipe has scored no words of a test set.

    Raises
    ------
    StudyError
        If the recipe's alignments cannot be read, or the utterances do not add up to the run's row, or to the recipe's
        scores. Nothing is written then.
    """
    alignments = folder / "wer_test.txt"
    counts = results.row(run) or read_scores(folder)
    if not run.test or counts is None or not alignments.is_file():
        return None
    try:
        score = read_score(alignments, bootstrap=0)
    except ValueError as error:
        raise StudyError(str(error)) from error
    utterances = sorted(map(ScoredUtterance.of, score.utterances))
    _check_sums(utterances, counts, alignments, run)
    path = utterances_path(results, run)
    path.parent.mkdir(exist_ok=True)
    write_table(path, ScoredUtterance._fields, utterances, durable=True)
    return path


def read_utterances(results: Results, run: Run) -> list[ScoredUtterance]:
    """Read the file of a run, sorted by utterance; empty if the table of results does not have the run's test yet.

    Raises
    ------
    FileNotFoundError
        If the run is in the table of results, but its file is missing.
    StudyError
        If the file is malformed, or its utterances do not add up to the run's row.
    """
    row, path = results.row(run), utterances_path(results, run)
    if row is None or not row["test_words"]:
        return []
    rows = read_table(path, ScoredUtterance._fields, advice="write it with --collect, from the study's output folder")
    utterances = sorted(ScoredUtterance(*(each[name] for name in ScoredUtterance._fields)) for each in rows)
    _check_sums(utterances, row, path, run)
    return utterances


def _check_sums(utterances: Sequence[ScoredUtterance], counts: Mapping[str, Any], path: Path, run: Run) -> None:
    letters = "".join(each.operations for each in utterances)
    if letters.strip("CSDI"):
        raise StudyError(f"{path}: has other operations than C, S, D and I.")
    kinds = {"words": "CSD", "substitutions": "S", "deletions": "D", "insertions": "I"}
    for name, kind in kinds.items():
        found, expected = sum(map(letters.count, kind)), counts[f"test_{name}"]
        if expected == "" or found != int(expected):
            raise StudyError(
                f"{path}: has {found} {name}, but the scores of {run.label} have {expected or 0}; take both from one "
                "training."
            )
