"""Scores that are read back from their files equal those that were written."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from biglittle_asr.scoring import (
    Glm,
    Score,
    TimedWord,
    compare_systems,
    compare_utterances,
    read_ctm,
    read_glm,
    read_pair,
    read_score,
    read_stm,
    score_nist,
    score_texts,
)
from support.nist import GLMS, random_example, random_trn

WORDS = [
    "a",
    "B",
    "TWO",
    "two",
    "*",
    "**",
    "***",
    "S",
    "D",
    "I",
    "REF:",
    "caf\u00e9",
    "cafe\u0301",
    "don't",
    "don\u2019t",
]
WORDS += ["\u0301", "你好", "größe", "(uh)", "x:", "<script>", "\\u00e9"]

NAMES = ["a", "b (c)", "u1: 3 words, correct", "(s) 1: 2 words", "anna maria", "你"]


def random_score(seed: int, **options: bool) -> Score:
    draw = random.Random(seed)
    references, hypotheses, speakers = {}, {}, {}
    for index in range(40):
        words = draw.choices(WORDS, k=draw.randrange(8))
        heard = [draw.choice(WORDS) if draw.random() < 0.3 else word for word in words if draw.random() < 0.8]
        name = f"u-{index:02}"
        references[name], hypotheses[name] = " ".join(words), " ".join(heard + draw.choices(WORDS, k=index % 2))
        speakers[name] = draw.choice(NAMES)
    return score_texts(references, hypotheses, None if seed % 2 else speakers, **options)


def nist_score(seed: int, folder: Path, glm: str | None) -> Score:
    stm, ctm = random_example(seed, 5, for_hubscr=False)
    (folder / "ref.stm").write_text(stm, encoding="utf-8")
    (folder / "hyp.ctm").write_text(ctm, encoding="utf-8")
    rules: Glm | None = None
    if glm is not None:
        (folder / "rules.glm").write_text(GLMS[glm])
        rules = read_glm(folder / "rules.glm")
    return score_nist(read_stm(folder / "ref.stm").segments, read_ctm(folder / "hyp.ctm"), rules)


@pytest.mark.parametrize("case_sensitive", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_a_score_of_texts_is_read_as_it_was_written(seed: int, case_sensitive: bool, tmp_path: Path) -> None:
    score = random_score(seed, case_sensitive=case_sensitive)
    score.write(tmp_path / "wer.txt", "two words")
    assert read_score(tmp_path / "wer.txt") == score
    assert replace(read_score(tmp_path / "wer.txt", bootstrap=0).all, bootstrap=0).wer_low is None


@pytest.mark.parametrize("glm", [None, *GLMS])
@pytest.mark.parametrize("seed", range(3))
def test_a_score_by_nists_method_is_read_but_for_its_labels(seed: int, glm: str | None, tmp_path: Path) -> None:
    score = nist_score(seed, tmp_path, glm)
    score.write(tmp_path / "wer.txt")
    found = read_score(tmp_path / "wer.txt")
    assert (found.all, found.speakers, found.utterances) == (score.all, score.speakers, score.utterances)
    assert found.to_dict() == {**score.to_dict(), "labels": {}}
    assert found.summary() == score.summary()


@pytest.mark.parametrize("seed", range(3))
def test_of_marked_texts_all_but_characters_is_read(seed: int, tmp_path: Path) -> None:
    for name, text in zip(("ref.trn", "hyp.trn"), random_trn(seed, 40), strict=True):
        (tmp_path / name).write_text(text, encoding="utf-8")
    pair = read_pair(tmp_path / "ref.trn", tmp_path / "hyp.trn")
    score = score_texts(pair.references.texts, pair.hypotheses.texts, pair.references.speakers, marks=True)
    score.write(tmp_path / "wer.txt")
    found = read_score(tmp_path / "wer.txt")
    without = {"characters": 0, "character_errors": 0}
    assert [replace(each.counts, **without) for each in found.utterances] == [
        replace(each.counts, **without) for each in score.utterances
    ]
    assert found.all.cer in (None, score.all.cer)


CHANGES = {
    "another file": lambda text: "one two three\n",
    "no line": lambda text: "",
    "no alignments": lambda text: text.split("\nu-")[0],
    "an utterance is missing": lambda text: text[: text.rindex("\nu-")],
    "a column is missing": lambda text: text.replace("\nREF: ", "\nREF: more ", 1),
    "an unknown mark": lambda text: text.replace("\nOP:  S", "\nOP:  X", 1).replace("\nOP:  D", "\nOP:  X", 1),
    "an error is no longer marked": lambda text: re.sub(r"(\nOP: .*)D", r"\1", text, count=1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_was_changed_is_refused_in_one_sentence(change: str, tmp_path: Path) -> None:
    path = tmp_path / "wer.txt"
    score_texts({f"u-{i}": "one two" for i in range(3)}, {f"u-{i}": "too" for i in range(3)}).write(path)
    text = path.read_text()
    path.write_text(CHANGES[change](text))
    assert path.read_text() != text
    with pytest.raises(ValueError, match="wer.txt") as caught:
        read_score(path)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize("alternatives", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_systems_compare_by_their_utterances_as_by_their_graphs(seed: int, alternatives: bool, tmp_path: Path) -> None:
    first = nist_score(seed, tmp_path, None)
    segments = [
        each if alternatives else each._replace(text=re.sub(r"[{}/@]", " ", each.text)) for each in first.references
    ]
    words = [item for item in first.hypotheses if alternatives or isinstance(item, TimedWord)]
    draw = random.Random(seed)
    first, second = (
        score_nist(segments, [word for word in words if draw.random() < kept], missing_as_empty=True)
        for kept in (1.0, 0.8)
    )
    expected, found = compare_systems(first, second), compare_utterances(first.utterances, second.utterances)
    assert found.mean * found.pieces == pytest.approx(first.all.errors - second.all.errors)
    if not alternatives:
        assert found == expected
    # An utterance is one piece if the systems match different alternatives in it.
    assert found.pieces <= expected.pieces
