"""Verdicts: what they say of networks that are better, equal or worse, on what they rest, and what they refuse."""

from __future__ import annotations

import itertools
import json
import random
import re
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest
from matplotlib.patches import FancyArrowPatch

from biglittle_asr.files import read_table
from biglittle_asr.scoring import score_texts
from biglittle_asr.study import collect_utterances, decide, draw_comparisons, read_study, summarize
from biglittle_asr.study.plan import StudyError
from biglittle_asr.study.report import DRAWN, draw, plan_plots
from biglittle_asr.study.utterances import ScoredUtterance, read_utterances, utterances_path
from biglittle_asr.study.verdict import INCOMPLETE, Verdict, find_verdict
from support import verdicts
from support.repository import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "recipes"))
import study as command  # noqa: E402  (a script, in no package)

SEEDS = range(8)
"""Seeds of invented results."""


def verdict_of(folder: Path, recognized: verdicts.Recognized, margin: float = 0.5) -> Verdict:
    folder.mkdir()
    (found,) = decide(*verdicts.write(folder, recognized, margin))
    return found


# Properties


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_equal_networks_are_never_better(tmp_path: Path, seed: int, margin: float) -> None:
    recognized = verdicts.invent(random.Random(seed))
    # The same trainings with other seeds: only the means over seeds are equal.
    for one, other in zip((1, 2, 3), (2, 3, 1), strict=True):
        recognized["twin", other] = recognized["bl", one]
    found = verdict_of(tmp_path / "a", recognized, margin)
    assert found.difference == found.low == found.high == 0
    assert found.verdict == ("non-inferior" if margin else "not shown")
    assert sorted(found.wer) == sorted(found.against_wer)


@pytest.mark.parametrize("seed", SEEDS)
def test_fewer_errors_of_every_speaker_are_better_and_the_reverse_is_inferior(tmp_path: Path, seed: int) -> None:
    recognized = verdicts.invent(random.Random(seed))
    for number in (1, 2, 3):
        # One error fewer in an utterance of each speaker.
        rows = [ScoredUtterance(*each) for each in recognized["twin", number]]
        for speaker in {each.speaker for each in rows}:
            place = next(
                i for i, each in enumerate(rows) if each.speaker == speaker and set("SD") & set(each.operations)
            )
            rows[place] = rows[place]._replace(operations=re.sub("[SD]", "C", rows[place].operations, count=1))
        recognized["bl", number] = rows
    assert verdict_of(tmp_path / "a", recognized).verdict == "better"
    other = dict(zip(verdicts.PAIR, verdicts.PAIR[::-1], strict=True))
    swapped = {(other[name], number): rows for (name, number), rows in recognized.items()}
    for margin, word in ((0.0, "inferior"), (100.0, "worse, but non-inferior")):
        found = verdict_of(tmp_path / f"{margin}", swapped, margin)
        assert found.verdict == word and all(test.mean > 0 for test in found.matched_pairs)


@pytest.mark.parametrize("seed", SEEDS)
def test_neither_order_nor_names_of_speakers_matter(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    recognized = verdicts.invent(rng, rates=(0.3, 0.25))
    names = {each.speaker: f"t{rng.random()}" for each in recognized["bl", 1]}
    shuffled = {
        key: rng.sample([each._replace(speaker=names[each.speaker]) for each in rows], len(rows))
        for key, rows in rng.sample(list(recognized.items()), len(recognized))
    }
    found, other = (verdict_of(tmp_path / name, each) for name, each in (("a", recognized), ("b", shuffled)))
    assert found == other and found.low is not None and found.high is not None and found.low < found.high


@pytest.mark.parametrize("seed", SEEDS)
def test_a_difference_is_that_of_means_over_seeds(tmp_path: Path, seed: int) -> None:
    recognized = verdicts.invent(random.Random(seed), seeds=range(1, 2 + seed), rates=(0.3, 0.2))
    found = verdict_of(tmp_path / "a", recognized)
    assert found.difference == pytest.approx(statistics.mean(found.wer) - statistics.mean(found.against_wer))
    for number, (wer, test) in enumerate(zip(found.wer, found.matched_pairs, strict=True), start=1):
        rows = [recognized[name, number] for name in verdicts.PAIR]
        errors, others = (sum(each.errors for each in side) for side in rows)
        assert wer == pytest.approx(100 * errors / found.words)
        # The pieces of the matched-pairs test hold all errors.
        assert test.mean * test.pieces == pytest.approx(errors - others)
    assert found.low is not None and found.high is not None and found.low <= found.difference <= found.high


def test_words_of_a_verdict_follow_the_interval() -> None:
    order = ["better", "non-inferior", "worse, but non-inferior", "not shown", "worse", "inferior"]
    ends = [-1.0, -0.6, -0.5, -0.1, 0.0, 0.1, 0.5, 0.6, 1.0]
    for low, high, margin in itertools.product(ends, ends, (0.0, 0.5)):
        if low > high:
            continue
        word = find_verdict(low, high, margin)
        assert (word == "better") == (high < 0)
        assert ("non-inferior" in word or word == "better") == (high < margin or high < 0)
        assert ("worse" in word or word == "inferior") == (low > 0)
        # A wider margin never makes it worse, nor does a smaller difference.
        assert order.index(find_verdict(low, high, margin + 0.3)) <= order.index(word)
        assert find_verdict(low - 2, high - 2, margin) == "better"


# What a verdict rests on


def leave_scores(folder: Path, **change: int) -> None:
    """What a recipe leaves in its output folder."""
    folder.mkdir(parents=True)
    score = score_texts({"a": "one two", "b": "six"}, {"a": "one too", "b": ""}, {"a": "jane", "b": "joe"})
    score.write(folder / "wer_test.txt")
    counts = {"all": {**score.all.to_dict(), **change}}
    (folder / "scores.json").write_text(json.dumps({"dev": counts, "test": counts}))


def test_utterances_are_collected_from_an_output_folder(tmp_path: Path, capsys: Any) -> None:
    study, results = verdicts.write(tmp_path, {(name, 1): [] for name in verdicts.PAIR})
    words = [str(tmp_path / "claim.yaml"), "--output", str(tmp_path), "--results", str(results.path), "--collect"]
    assert command.main(words) == 0 and "no finished run" in capsys.readouterr().out
    leave_scores(tmp_path / "runs" / "bl" / "1" / "out")
    assert command.main(words) == 0
    path = tmp_path / "claim_utterances" / "bl_1.csv"
    assert capsys.readouterr().out == f"{path}\n"
    expected = [("a", "jane", "CS"), ("b", "joe", "D")]
    assert [tuple(row.values()) for row in read_table(path)] == expected


def test_utterances_that_do_not_add_up_are_refused(tmp_path: Path) -> None:
    study, results = verdicts.write(tmp_path, {(name, 1): [] for name in verdicts.PAIR})
    (run, _) = study.runs
    for number, name in enumerate(("words", "substitutions", "deletions", "insertions")):
        folder = tmp_path / str(number)
        leave_scores(folder, **{name: 7})
        with pytest.raises(
            StudyError, match=rf"has \d+ {name}, but the scores of bl, seed 1 have 7; take both from one"
        ):
            collect_utterances(results, run, folder)
        assert not utterances_path(results, run).exists()
    # The row of another training counts, if there is one.
    leave_scores(tmp_path / "right")
    results.add(run, {f"test_{name}": 9 for name in ("words", "substitutions", "deletions", "insertions")})
    with pytest.raises(StudyError, match="has 3 words, but the scores of bl, seed 1 have 9"):
        collect_utterances(results, run, tmp_path / "right")


@pytest.mark.parametrize(
    "spoil, problem",
    [
        (lambda path: path.unlink(), r"bl_2.csv: no such file; write it with --collect"),
        (lambda path: path.write_text("utterance,speaker\n"), "has no column operations"),
        (lambda path: path.write_text(path.read_text().replace("u001,", "u100,")), "scored on other references than"),
        (lambda path: path.write_text(path.read_text().replace(",s1,", ",s2,")), "scored on other references than"),
        (
            lambda path: path.write_text(path.read_text().replace("C\n", "c\n")),
            "has other operations than C, S, D",
        ),
        (lambda path: path.write_text(path.read_text().replace("C\n", "S\n")), "substitutions, but the scores of bl,"),
        (lambda path: path.write_text(path.read_text().replace("C\n", "CI\n")), "insertions, but the scores of bl,"),
        (lambda path: path.write_text(path.read_text().rpartition("u")[0]), "words, but the scores of bl, seed 2"),
    ],
)
def test_spoilt_utterances_are_refused_in_a_sentence(tmp_path: Path, capsys: Any, spoil: Any, problem: str) -> None:
    verdicts.write(tmp_path, verdicts.invent(random.Random(1)))
    spoil(tmp_path / "claim_utterances" / "bl_2.csv")
    assert command.main([str(tmp_path / "claim.yaml"), "--verdict"]) == 1
    said = capsys.readouterr()
    assert not said.out and said.err.count("\n") == 1 and re.search(problem, said.err)


# Missing runs


def test_there_is_no_verdict_while_runs_are_missing(tmp_path: Path, capsys: Any) -> None:
    recognized: dict[Any, Any] = verdicts.invent(random.Random(1), rates=(0.01, 0.4))
    verdicts.write(tmp_path, {**recognized, ("twin", 2): []})
    table = tmp_path / "verdict.md"
    assert command.main([str(tmp_path / "claim.yaml"), "--verdict", str(table)]) == 1
    said = capsys.readouterr()
    assert said.out == table.read_text() and f"**{INCOMPLETE}**" in said.out and "**better**" not in said.out
    assert "not in the results yet: twin, seed 2" in said.out.lower() and "twin, seed 2" in said.err
    assert "| 1, 3 |" in said.out
    # The numbers are those of a study without that seed.
    found = verdict_of(tmp_path / "a", {key: rows for key, rows in recognized.items() if key[1] != 2})
    assert found.verdict == "better" and f"{found.low:+.2f} to {found.high:+.2f}" in said.out
    # Nothing at all is an error.
    (tmp_path / "b").mkdir()
    verdicts.write(tmp_path / "b", {key: [] if key[0] == "twin" else rows for key, rows in recognized.items()})
    assert command.main([str(tmp_path / "b" / "claim.yaml"), "--verdict"]) == 1
    assert "has no seed of both networks" in capsys.readouterr().err


@pytest.mark.parametrize(
    "entries, problem",
    [
        ({"comparisons": []}, "has no comparisons"),
        ({"comparisons": [{"run": "bl", "against": "twni"}]}, "against is 'twni', but must be one of: bl, twin."),
        ({"comparisons": [{"run": "bl"}]}, "against is None, but must be one of"),
        ({"comparisons": [{"run": "bl", "against": "twin", "margin": -1}]}, "margin is -1, but must be a number"),
        ({"comparisons": [{"run": "bl", "against": "twin", "margins": 1}]}, "did you mean 'margin'?"),
        ({"comparisons": {"run": "bl"}}, "comparisons are {'run': 'bl'}, but must be"),
        ({"runs": [{"name": "bl", "seeds": [1, 2]}, {"name": "twin"}]}, "must have the same seeds and data"),
        ({"runs": [{"name": "bl", "data": "other"}, {"name": "twin"}]}, "must have the same seeds and data"),
        ({"runs": [{"name": "bl", "test": False}, {"name": "twin"}]}, "bl, seed 1: scores no words of a test set"),
    ],
)
def test_a_comparison_that_cannot_be_made_is_refused(tmp_path: Path, entries: dict[str, Any], problem: str) -> None:
    with pytest.raises(StudyError, match=re.escape(problem)):
        decide(*verdicts.write(tmp_path, {(name, seed): [] for name in verdicts.PAIR for seed in (1, 2, 3)}, **entries))


def test_one_speaker_gives_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="needs words of at least two speakers"):
        verdict_of(tmp_path / "a", verdicts.invent(random.Random(1), speakers=1))


# Pictures


def test_a_picture_joins_what_is_compared(tmp_path: Path) -> None:
    study, results = verdicts.write(tmp_path, verdicts.invent(random.Random(1)))
    figure = draw(plan_plots(study, summarize(study, results), "test_wer"))
    assert len(figure.axes) == 2
    for axes in figure.axes:
        (arrow,) = (each for each in axes.patches if isinstance(each, FancyArrowPatch))
        assert [text.get_text() for text in axes.texts] == ["bl", "twin"]
        # From the plain network to the Big-Little one, which costs less.
        start, end = axes.transData.inverted().transform(arrow.get_transform().transform(arrow._posA_posB))
        assert end[0] < start[0] or start == pytest.approx(end)


@pytest.mark.slow
def test_the_picture_of_several_studies_is_small_and_the_same_each_time(tmp_path: Path, capsys: Any) -> None:
    verdicts.write(tmp_path, verdicts.invent(random.Random(1)))
    files = [str(tmp_path / "claim.yaml"), str(REPOSITORY / "docs" / "studies" / "cifar10.yaml")]
    for name in ("a.svg", "b.svg"):
        assert command.main([*files, "--picture", str(tmp_path / name)]) == 0, capsys.readouterr().err
    drawn = (tmp_path / "a.svg").read_bytes()
    assert drawn == (tmp_path / "b.svg").read_bytes() and len(drawn) < 150_000
    for name in (b">bl<", b">twin<", b">bl_resnet50<", b">resnet50_15_epochs<", b">toy<", b">cifar10<"):
        assert name in drawn
    assert command.main([*files, "--verdict"]) == 1 and "Several studies" in capsys.readouterr().err
    assert command.main([files[0], "--verdict", files[1]]) == 1 and "name in .md" in capsys.readouterr().err
    assert command.main([files[0], "--json"]) == 1 and "--json: goes with --verdict" in capsys.readouterr().err
    study, results = verdicts.write(tmp_path, {(name, 1): [] for name in verdicts.PAIR})
    results.path.unlink()
    with pytest.raises(StudyError, match="has no run of the study"):
        draw_comparisons([(study, results)], tmp_path / "c.svg", print)
    assert not (tmp_path / "c.svg").exists()


@pytest.mark.parametrize("path", sorted((REPOSITORY / "docs").rglob("*.yaml")), ids=lambda path: path.stem)
def test_studies_of_the_docs_agree_with_their_tables(path: Path) -> None:
    study, results = read_study(path), command.Results(path.with_suffix(".csv"))
    results.check(study)
    assert all(any(row[error] for error in DRAWN) for row in results.read())
    # Committed rows of test have their utterances beside them.
    for run in study.runs:
        assert not (run.test and results.has(run)) or read_utterances(results, run)
