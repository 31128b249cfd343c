"""Scoring as NIST does: its own example, its own tools over random files, each rule by a small fixture, bad inputs."""

import json
import os
import random
import re
import tracemalloc
from pathlib import Path

import pytest

from biglittle_asr.cli import main
from biglittle_asr.scoring import (
    Glm,
    Segment,
    TimedWord,
    compare_systems,
    read_ctm,
    read_glm,
    read_stm,
    score_nist,
    write_ctm,
    write_stm,
)
from biglittle_asr.scoring.nist import graph_alignment
from biglittle_asr.scoring.nist.matched_pairs import pieces
from biglittle_asr.scoring.nist.wordgraph import Vocabulary, graph_of_text
from support.nist import (
    GLMS,
    HAS_SCTK,
    comparison_of_sc_stats,
    counts_of_hubscr,
    counts_of_sclite,
    plain_alignment,
    random_example,
    random_graphs,
)
from support.repository import REPOSITORY

NAMES = "segments words correct substitutions deletions insertions errors segments_with_errors".split()

NIST_EXAMPLE = Path(os.environ.get("BIGLITTLE_HUB5", REPOSITORY.parent / "shared" / "data" / "hub5_scoring"))


def numbers(counts):
    return [getattr(counts, name) for name in NAMES]


def score(folder, glm=None, **options):
    stm, ctm = read_stm(folder / "ref.stm"), read_ctm(folder / "hyp.ctm")
    return score_nist(stm.segments, ctm, glm, bootstrap=0, **options)


def write_example(folder, seed, recordings, for_hubscr=False, glm=None):
    stm, ctm = random_example(seed, recordings, for_hubscr)
    (folder / "ref.stm").write_text(stm, encoding="utf-8")
    (folder / "hyp.ctm").write_text(ctm, encoding="utf-8")
    if glm is not None:
        (folder / "rules.glm").write_text(GLMS[glm])
    return folder


def one_segment(text, *lines, **options):
    """Score the words in `lines`, one a line or with marks of alternatives, against one segment."""
    words = [TimedWord("f", "A", 0.1 * number, 0.05, word) for number, word in enumerate(" ".join(lines).split())]
    result = score_nist(
        [Segment("f", "A", "s", 0.0, 100.0, (), text)], words, bootstrap=0, missing_as_empty=True, **options
    )
    counts = result.all
    return counts.correct, counts.substitutions, counts.deletions, counts.insertions


# NIST's own example


@pytest.fixture(scope="module")
def nist_example():
    if not (NIST_EXAMPLE / "lvc_refe.stm").is_file():
        pytest.skip(f"NIST's example is not in {NIST_EXAMPLE}; set BIGLITTLE_HUB5")
    return NIST_EXAMPLE


def test_nist_example_is_counted_exactly(nist_example, capsys):
    files = ["--ref", nist_example / "lvc_refe.stm", "--hyp", nist_example / "lvc_hyp.ctm"]
    command = ["score", *files, "--glm", nist_example / "example.glm", "--bootstrap", 0]
    assert main([*map(str, command), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [result["all"][name] for name in NAMES] == [58, 1676, 959, 503, 214, 166, 883, 57]
    rates = {name: round(counts["wer"], 1) for name, counts in result["speakers"].items()}
    assert rates == {"2347-a": 51.2, "2347-b": 43.5, "3129-a": 91.0, "3129-b": 51.1}
    assert main([*map(str, command)]) == 0
    rows = set(re.findall(r"^\|.*\|$", capsys.readouterr().out, re.MULTILINE))
    report = (nist_example / "lvc_hyp.ctm.filt.sys").read_text()
    assert rows >= {line.strip() for line in report.splitlines() if re.search(r"\d{2}\.\d", line)}


# NIST's own tools

SCLITE_OPTIONS = {"fragments": "-F", "optional": "-D", "case_sensitive": "-s"}


@pytest.mark.skipif(not HAS_SCTK, reason="needs NIST's tools: Debian's package sctk")
@pytest.mark.parametrize(
    "names", [(), ("fragments",), ("optional",), tuple(SCLITE_OPTIONS)[:2], tuple(SCLITE_OPTIONS)], ids="-".join
)
def test_counts_are_sclites(tmp_path, names):
    write_example(tmp_path, len(names), recordings=60)
    expected = counts_of_sclite(tmp_path, *(SCLITE_OPTIONS[name] for name in names))
    found = score(tmp_path, **{name: name in names for name in SCLITE_OPTIONS})
    assert {name.lower(): numbers(counts) for name, counts in found.speakers.items()} == {
        name.lower(): counts for name, counts in expected.items() if name != "Sum"
    }
    assert numbers(found.all) == expected["Sum"]


@pytest.mark.skipif(not HAS_SCTK, reason="needs NIST's tools: Debian's package sctk")
@pytest.mark.parametrize("rules", GLMS)
def test_counts_are_hubscrs(tmp_path, rules):
    write_example(tmp_path, 7, recordings=80, for_hubscr=True, glm=rules)
    expected = counts_of_hubscr(tmp_path)
    found = score(tmp_path, read_glm(tmp_path / "rules.glm"))
    assert {name: numbers(counts) for name, counts in found.speakers.items()} | {"Sum": numbers(found.all)} == expected
    # What is written for sclite gives the same counts there.
    found.write_filtered(tmp_path / "filtered")
    assert counts_of_sclite(tmp_path / "filtered", "-F", "-D") == expected


# Properties of random files


@pytest.mark.parametrize("seed", range(4))
def test_counts_add_up(tmp_path, seed):
    found = score(write_example(tmp_path, seed, recordings=10), Glm([]))
    for group in (found.speakers, {"Switchboard": 0, "CallHome": 0} | found.labels):
        assert all(counts == 0 or counts.segments <= found.all.segments for counts in group.values())
    for name in NAMES:
        assert sum(getattr(counts, name) for counts in found.speakers.values()) == getattr(found.all, name)
        assert sum(getattr(each.counts, name) for each in found.utterances) == getattr(found.all, name)
    for utterance in found.utterances:
        operations = [pair.operation for pair in utterance.pairs]
        assert [operations.count(mark) for mark in ("", "S", "D", "I")] == numbers(utterance.counts)[2:6]
        assert all(pair.hypothesis for pair in utterance.pairs if pair.operation in ("S", "I"))
        assert all(pair.reference for pair in utterance.pairs if pair.operation in ("S", "D"))


@pytest.mark.parametrize("seed", range(4))
def test_files_survive_writing_and_reading(tmp_path, seed):
    write_example(tmp_path, seed, recordings=5)
    stm, ctm = read_stm(tmp_path / "ref.stm"), read_ctm(tmp_path / "hyp.ctm")
    write_stm(tmp_path / "again.stm", stm.segments, stm.comments)
    write_ctm(tmp_path / "again.ctm", ctm)
    again = read_stm(tmp_path / "again.stm")
    assert [segment[:-1] for segment in again.segments] == [segment[:-1] for segment in stm.segments]
    assert again.comments == stm.comments
    words = [[word[:-1] for item in items for word in item.words] for items in (ctm, read_ctm(tmp_path / "again.ctm"))]
    # An alternative without words is written as @.
    assert [word for word in words[1] if word[4] != "@"] == [word for word in words[0] if word[4] != "@"]


@pytest.mark.parametrize("rules", GLMS)
def test_filtered_files_score_the_same(tmp_path, rules):
    write_example(tmp_path, 3, recordings=10, glm=rules)
    found = score(tmp_path, read_glm(tmp_path / "rules.glm"))
    found.write_filtered(tmp_path / "filtered")
    assert score(tmp_path / "filtered", fragments=True, optional=True).to_dict() == found.to_dict()


def test_order_of_lines_does_not_matter_with_rules(tmp_path):
    write_example(tmp_path, 1, recordings=10)
    stm, ctm = read_stm(tmp_path / "ref.stm").segments, read_ctm(tmp_path / "hyp.ctm")
    # Words and segments that start at once keep the file's order.
    ctm = list({(word.recording, word.channel, word.start): word for word in ctm}.values())
    stm = list({(segment.recording, segment.channel, segment.start): segment for segment in stm}.values())
    expected = score_nist(stm, ctm, Glm([]), bootstrap=0, missing_as_empty=True).to_dict()
    for side in (stm, ctm):
        random.Random(0).shuffle(side)
    assert score_nist(stm, ctm, Glm([]), bootstrap=0, missing_as_empty=True).to_dict() == expected


# Each rule: text, words, and what is correct, substituted, deleted, inserted

ALIGNMENTS = {
    "case": ("Yes NO", "yes no", (2, 0, 0, 0)),
    # 3 substitutions cost as much as 2 insertions and 2 deletions; NIST's costs take the latter where a word is right.
    "costs": ("a b c", "b c d", (2, 0, 1, 1)),
    "costs of pairs": ("a b", "c d", (0, 2, 0, 0)),
    "alternative": ("we { i've / i have } seen", "we i have seen", (4, 0, 0, 0)),
    "shorter alternative": ("we { i've / i have } seen", "we seen", (2, 0, 1, 0)),
    "nested": ("{ a { b / c d } / e }", "a c d", (3, 0, 0, 0)),
    "no word": ("a { um / @ } b", "a b", (2, 0, 0, 0)),
    "no word and one said": ("a { um / @ } b", "a uh b", (2, 0, 0, 1)),
    # Unescaped, what follows the semicolon is a tag.
    "tags": (r"word;tag a\;b c*", "word;other a;b c", (2, 1, 0, 0)),
    "nothing": ("", "", (0, 0, 0, 0)),
    "nothing said": ("", "a", (0, 0, 0, 1)),
    "nothing recognized": ("{ a b / c }", "", (0, 0, 1, 0)),
}


@pytest.mark.parametrize(("text", "words", "expected"), ALIGNMENTS.values(), ids=ALIGNMENTS)
def test_alignment(text, words, expected):
    assert one_segment(text, words) == expected


OPTIONS = {
    "optional, deleted": ("a (uh) b", "a b", "optional", (3, 0, 0, 0), (2, 0, 1, 0)),
    "optional, said": ("a (uh) b", "a uh b", "optional", (3, 0, 0, 0), (2, 1, 0, 0)),
    "optional, another": ("a (uh) b", "a um b", "optional", (2, 1, 0, 0), (2, 1, 0, 0)),
    "optional, inserted": ("a b", "a (uh) b", "optional", (3, 0, 0, 0), (2, 0, 0, 1)),
    "fragment, begun": ("a wor- b", "a world b", "fragments", (3, 0, 0, 0), (2, 1, 0, 0)),
    "fragment, ended": ("a -ord b", "a word b", "fragments", (3, 0, 0, 0), (2, 1, 0, 0)),
    "fragment, recognized": ("a word b", "a wo- b", "fragments", (3, 0, 0, 0), (2, 1, 0, 0)),
    "fragment, another": ("a wor- b", "a lord b", "fragments", (2, 1, 0, 0), (2, 1, 0, 0)),
}


@pytest.mark.parametrize(("text", "words", "option", "on", "off"), OPTIONS.values(), ids=OPTIONS)
def test_options(text, words, option, on, off):
    assert one_segment(text, words, **{option: True}) == on
    assert one_segment(text, words, **{option: False}) == off
    assert one_segment(text, words) == off
    assert one_segment(text, words, glm=Glm([])) == on


ALTERNATIVES = {
    "one or the other": ("BEGIN a ALT b c END d", ["a d", "b c d"], "b d"),
    "or none": ("BEGIN a ALT END d", ["a d", "d"], "b d"),
    "none first": ("BEGIN ALT a END d", ["a d", "d"], "b d"),
    "nested": ("BEGIN a BEGIN b ALT c END ALT d END e", ["a b e", "a c e", "d e"], "a e"),
}


@pytest.mark.parametrize(("recognized", "right", "wrong"), ALTERNATIVES.values(), ids=ALTERNATIVES)
def test_recognized_alternatives(tmp_path, recognized, right, wrong):
    marks = {"BEGIN": "<ALT_BEGIN>", "ALT": "<alt>", "END": "<ALT_END>"}
    lines = [f"f A * * {marks[word]}\n" if word in marks else f"f A 1 0.1 {word}\n" for word in recognized.split()]
    (tmp_path / "hyp.ctm").write_text("".join(lines))
    for text in (*right, wrong):
        (tmp_path / "ref.stm").write_text(f"f A s 0 2 {text}\n")
        assert (score(tmp_path).all.errors == 0) == (text in right)


def test_words_go_to_segments_by_their_middles():
    segments = [
        Segment("f", "A", "s", start, end, (), text) for start, end, text in [(0, 1, "a"), (1.5, 2, "b"), (2, 3, "c")]
    ]
    words = [TimedWord("f", "A", start, 0.2, word) for start, word in [(0.85, "a"), (1.2, "b"), (7.0, "c")]]
    found = score_nist(segments, words, bootstrap=0)
    assert found.all.correct == 3
    assert any("2 of 3 words lie in no segment" in remark for remark in found.remarks)
    # The middle decides: a word that starts in one segment may belong to the next.
    later = [TimedWord("f", "A", 0.95, 0.2, "a"), *words[1:]]
    assert [each.counts.correct for each in score_nist(segments, later, bootstrap=0).utterances] == [0, 1, 1]


def test_ignored_segments_take_their_words_along():
    texts = ["a", "ignore_time_segment_in_scoring", "c"]
    segments = [Segment("f", "A", "s", start, start + 1, (), text) for start, text in enumerate(texts)]
    words = [TimedWord("f", "A", start + 0.5, 0.2, word) for start, word in enumerate("axc")]
    assert numbers(score_nist(segments, words, bootstrap=0).all) == [2, 2, 2, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("mark", ["IGNORE_TIME_SEGMENT_IN_SCORING", "IGNORETIMESEGMENTINSCORING"])
@pytest.mark.parametrize("rules", [None, "[_] => []", "[TIME] => [HOUR]", "[IGNORE_TIME_SEGMENT_IN_SCORING] => []"])
def test_segments_are_ignored_by_either_mark_whatever_the_rules_make_of_it(tmp_path, mark, rules):
    (tmp_path / "ref.stm").write_text(f"r A s 0.0 1.0 hello there\nr A s 1.0 2.0 {mark}\n")
    (tmp_path / "hyp.ctm").write_text("r A 0.1 0.2 hello\nr A 0.4 0.2 there\nr A 1.2 0.2 junk\n")
    glm = None
    if rules is not None:
        (tmp_path / "rules.glm").write_text(f";;\n{rules}\n")
        glm = read_glm(tmp_path / "rules.glm")
    found = score(tmp_path, glm)
    assert numbers(found.all) == [1, 2, 2, 0, 0, 0, 0, 0]
    if HAS_SCTK:
        found.write_filtered(tmp_path / "filtered")
        assert counts_of_sclite(tmp_path / "filtered")["Sum"] == numbers(found.all)


@pytest.mark.parametrize("side", ["stm", "ctm"])
@pytest.mark.parametrize("rule", ["[X] => [{OKAY / O.K.}]", "X => {A", "[X] => [A }] / [ ] __ [ ]"])
def test_a_rule_at_fault_is_named_where_it_applies(tmp_path, side, rule):
    words = {"stm": ("yes x", "yes"), "ctm": ("yes", "yes x")}[side]
    (tmp_path / "ref.stm").write_text(f"r A s 0.0 1.0 {words[0]}\n")
    (tmp_path / "hyp.ctm").write_text("".join(f"r A 0.{n} 0.1 {word}\n" for n, word in enumerate(words[1].split())))
    (tmp_path / "rules.glm").write_text(f";;\n[NEVER] => [ALWAYS] / [ ] __ [ ]\n{rule}\n* case_sensitive = 'F'\n")
    glm = read_glm(tmp_path / "rules.glm")
    with pytest.raises(ValueError, match=r"rules\.glm:3: the rule puts in .*, whose braces do not match"):
        score(tmp_path, glm)
    # Where it does not apply, it does no harm.
    (tmp_path / "ref.stm").write_text("r A s 0.0 1.0 yes\n")
    (tmp_path / "hyp.ctm").write_text("r A 0.1 0.1 yes\n")
    assert score(tmp_path, glm).all.errors == 0


@pytest.mark.parametrize("disordered", ["stm", "ctm"])
def test_lines_out_of_order_are_called_that(tmp_path, disordered):
    lines = {
        "stm": ["b 1 s 0.0 2.0 one two", "b 1 s 2.0 4.0 three four"],
        "ctm": [
            f"b 1 {start} 0.2 {word}" for start, word in ((0.1, "one"), (0.9, "two"), (2.2, "three"), (2.9, "four"))
        ],
    }
    shift = {"stm": 1, "ctm": 2}[disordered]
    lines[disordered] = lines[disordered][shift:] + lines[disordered][:shift]
    (tmp_path / "ref.stm").write_text("".join(f"{line}\n" for line in lines["stm"]))
    (tmp_path / "hyp.ctm").write_text("".join(f"{line}\n" for line in lines["ctm"]))
    found = score(tmp_path)
    (remark,) = found.remarks
    whole, noun, place = {"stm": (2, "segment", "ref.stm:2"), "ctm": (4, "word", "hyp.ctm:3")}[disordered]
    assert remark.startswith(f"1 of {whole} {noun}s (the first is at {tmp_path / place}) lies out of order")
    if HAS_SCTK:
        assert counts_of_sclite(tmp_path)["Sum"] == numbers(found.all)
    # Mapping rules come with sorting, as in hubscr.pl.
    sorted_ = score(tmp_path, Glm([]))
    assert sorted_.all.errors == 0 and not sorted_.remarks


def test_a_confidence_without_a_word_is_refused(tmp_path):
    (tmp_path / "hyp.ctm").write_text("r A 0.4 0.2 there 0.9\nr A 0.1 0.2  0.9\n")
    with pytest.raises(ValueError, match="hyp.ctm:2: has no word, but a confidence of 0.9"):
        read_ctm(tmp_path / "hyp.ctm")
    # Without confidences, it may be a word.
    (tmp_path / "hyp.ctm").write_text("r A 0.4 0.2 there\nr A 0.1 0.2  0.9\n")
    assert [item.word for item in read_ctm(tmp_path / "hyp.ctm")] == ["there", "0.9"]


def test_overlapping_words_are_remarked():
    words = [TimedWord("f", "A", 0.1, 0.5, "a"), TimedWord("f", "A", 0.3, 0.2, "b")]
    found = score_nist([Segment("f", "A", "s", 0.0, 1.0, (), "a b")], words, bootstrap=0)
    assert found.all.correct == 2 and "1 of 2 words lies over the word before" in found.remarks[0]


def test_labels_and_test_sets():
    segments = [
        Segment(name, "A", name, 0.0, 1.0, labels, "a")
        for name, labels in [("sw_1", ("O", "M")), ("en_1", ("o",)), ("other", ())]
    ]
    words = [TimedWord(name, "a", 0.2, 0.1, "a") for name in ("SW_1", "en_1", "other")]
    found = score_nist(segments, words, bootstrap=0)
    # Labels that differ in case are one, spelled as in the recording that comes first.
    expected = {"o": 2, "M": 1, "Switchboard": 1, "CallHome": 1}
    assert {name: counts.segments for name, counts in found.labels.items()} == expected
    assert "| Switchboard |" in found.table("hyp.ctm")


RULES = {
    "anywhere": ("AIR LINES => AIRLINES", "fair lines", "FAIRLINES"),
    "in context": ("[A] => [B] / [ ] __ [ ]", "a aa a a", "B AA B B"),
    "quoted": ('" OK " => " OKAY "', "ok ok", "OKAY OK"),
    "first rule first": ("[AB] => [X]\n[A] => [Y]", "ab a", "X Y"),
    "nothing": ("[NOISE] => [] / [ ] __ [ ]", "a noise b", "A B"),
    "alternatives": ("[I'VE] => [{I'VE / I HAVE}] / [ ] __ [ ]", "i've", "{I'VE / I HAVE}"),
    "commented": ("A => B ;; no matter what", "a", "B"),
    "other case": ("* case_sensitive = 'F'\na => b", "a", "b"),
    "for references": (';; INPUT_DEPENDENT_APPLICATION = "stm|rttm"\nA => B', "a", "B"),
    "for hypotheses": (';; INPUT_DEPENDENT_APPLICATION = "hyp"\nA => B', "a", "A"),
    "hyphens": ("", "uh-huh wor- -ord a-b-c", "UH HUH WOR- -ORD A B C"),
    "brackets": ("[UH] => [UM] / [ ] __ [ ]", "(uh huh) (a-b)", "(UM) (HUH) (A) (B)"),
}


@pytest.mark.parametrize(("rules", "text", "expected"), RULES.values(), ids=RULES)
def test_rules(tmp_path, rules, text, expected):
    (tmp_path / "rules.glm").write_text(f";;\n{rules}\n")
    (tmp_path / "ref.stm").write_text(f"f A s 0 1 {text}\n")
    found = score_nist(
        read_stm(tmp_path / "ref.stm").segments,
        [],
        read_glm(tmp_path / "rules.glm"),
        bootstrap=0,
        missing_as_empty=True,
    )
    assert found.references[0].text == expected


# Alignments


@pytest.mark.parametrize("cells", [1, 100, graph_alignment.CELLS_AT_ONCE])
@pytest.mark.parametrize("seed", range(20))
def test_alignments_are_those_of_the_plain_algorithm(monkeypatch, seed, cells):
    # With few cells in memory at once, every pair has a table of its own, which is computed in several blocks.
    monkeypatch.setattr(graph_alignment, "CELLS_AT_ONCE", cells)
    references, hypotheses, vocabulary = random_graphs(seed, pairs=6)
    alignments = graph_alignment.align_graphs(references, hypotheses, vocabulary)
    for pair, graphs in enumerate(zip(references, hypotheses, strict=True)):
        expected = plain_alignment(*graphs, vocabulary)
        assert [tuple(each) for each in alignments.word_pairs(pair)] == expected
        operations = [operation for operation, _, _ in expected]
        assert alignments.counts[pair].tolist() == [operations.count(mark) for mark in ("", "S", "D", "I")]
        texts = [vocabulary.texts[graphs[0].words[place]] for _, place in alignments.places(pair)]
        assert texts == [reference for _, reference, _ in expected]


def test_a_long_pair_needs_less_memory_than_a_byte_per_cell(monkeypatch):
    monkeypatch.setattr(graph_alignment, "CELLS_AT_ONCE", 1 << 16)
    words = random.Random(0).choices("abcd", k=1500)
    words[700] = "{ b c d / a }"
    vocabulary = Vocabulary()
    reference, hypothesis = (graph_of_text(text, vocabulary) for text in (" ".join(words), "a b c " * 500))
    tracemalloc.start()
    graph_alignment.align_graphs([reference], [hypothesis], vocabulary)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(reference.words) * len(hypothesis.words)


# Two systems


def test_pieces_end_where_both_have_two_words_right():
    right, wrong = [("", place) for place in range(1, 7)], ("S", 3)
    assert list(pieces(right, right)) == []
    assert list(pieces([*right[:2], wrong, *right[3:]], right)) == [(1, 0)]
    # One word right does not end a piece; an insertion begins one.
    assert list(pieces([("S", 1), ("", 2), ("S", 3), *right[3:]], right)) == [(2, 0)]
    assert list(pieces([("I", 0), *right], [*right, ("I", 0)])) == [(1, 0), (0, 1)]


@pytest.mark.parametrize("seed", range(3))
def test_comparison_is_fair(tmp_path, seed):
    write_example(tmp_path, seed, recordings=15)
    stm, ctm = read_stm(tmp_path / "ref.stm").segments, read_ctm(tmp_path / "hyp.ctm")
    other = [word for index, word in enumerate(ctm) if index % 5]
    one, two = (score_nist(stm, words, bootstrap=0, missing_as_empty=True) for words in (ctm, other))
    there, back = compare_systems(one, two), compare_systems(two, one)
    assert (there.pieces, there.mean, there.z, there.p) == (back.pieces, -back.mean, -back.z, back.p)
    assert round(there.mean * there.pieces) == one.all.errors - two.all.errors
    same = compare_systems(one, one)
    assert (same.z, same.p) == (0.0, 1.0)


@pytest.mark.skipif(not HAS_SCTK, reason="needs NIST's tools: Debian's package sctk")
@pytest.mark.parametrize("optional", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_comparison_is_that_of_sc_stats(tmp_path, seed, optional):
    draw = random.Random(seed)
    words, stm, systems = "abcdefghij"[: draw.choice([3, 10])], [], ([], [])
    rates = draw.choice([0.02, 0.1, 0.3]), draw.choice([0.05, 0.15, 0.3])
    for number in range(80):
        text = draw.choices(words, k=draw.randint(1, 30))
        spoken = [f"({word})" if optional and draw.random() < 0.1 else word for word in text]
        stm.append(f"f{number // 8} A s{number // 8} {number % 8}.0 {number % 8}.9 {' '.join(spoken)}\n")
        for rate, system in zip(rates, systems, strict=True):
            heard = []
            # sc_stats passes over what the second system has inserted at the very end.
            for word in text[:-1]:
                others = draw.choices(words, k=2)
                wrong = draw.choice([others[:1], [], [word, others[0]], others])
                heard += wrong if draw.random() < rate else [word]
            for index, word in enumerate([*heard, text[-1]]):
                system.append(f"f{number // 8} A {number % 8 + 0.1 + 0.01 * index:.2f} 0.01 {word}\n")
    (tmp_path / "ref.stm").write_text("".join(stm))
    segments, scores = read_stm(tmp_path / "ref.stm").segments, []
    for name, system in zip(("one", "two"), systems, strict=True):
        (tmp_path / f"{name}.ctm").write_text("".join(system))
        scores.append(score_nist(segments, read_ctm(tmp_path / f"{name}.ctm"), bootstrap=0, optional=optional))
    found = compare_systems(*scores)
    expected = comparison_of_sc_stats(tmp_path, *(["-D"] if optional else []))
    assert (found.pieces, round(found.mean, 3), round(found.z, 3)) == expected


# The command


@pytest.fixture
def files(tmp_path):
    (tmp_path / "ref.stm").write_text(
        ';; LABEL "O" "Overall" "All"\n'
        "sw_1 A jane 0 1 <O> well (uh) i've th- seen\nsw_1 B joe 0 1 <O> { yes / yeah }\nen_1 A ann 0 1 yes no\n"
    )
    (tmp_path / "hyp.ctm").write_text(
        "sw_1 A 0.1 0.1 well\nsw_1 A 0.3 0.2 i 0.9\nsw_1 A 0.5 0.1 have\nsw_1 A 0.6 0.1 that\nsw_1 A 0.7 0.1 seen\n"
        "sw_1 B 0.1 0.1 yeah\nen_1 A 0.5 0.1 no\n"
    )
    (tmp_path / "other.ctm").write_text("sw_1 A 0.1 0.1 well\nsw_1 B 0.1 0.1 yes\nen_1 A 0.5 0.1 no\n")
    (tmp_path / "rules.glm").write_text(";;\n[I'VE] => [{I'VE / I HAVE}] / [ ] __ [ ]\n")
    return tmp_path


def run(folder, *options):
    return main(["score", "--ref", f"{folder}/ref.stm", "--hyp", f"{folder}/hyp.ctm", *map(str, options)])


def test_command_scores_as_nist_does(files, capsys):
    assert run(files, "--glm", files / "rules.glm", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert [result["all"][name] for name in NAMES] == [3, 9, 8, 0, 1, 0, 1, 1]
    assert set(result["labels"]) == {"O", "Switchboard", "CallHome"} and set(result["speakers"]) == {
        "jane",
        "joe",
        "ann",
    }
    assert {"wer_low", "wer_high"} <= result["all"].keys() and "cer" not in result["all"]
    assert run(files, "--json") == 0
    # Without rules, neither fragments nor brackets are known.
    assert json.loads(capsys.readouterr().out)["all"]["errors"] > 1
    assert run(files, "--glm", files / "rules.glm", "--no-fragments", "--no-optional", "--json") == 0
    assert json.loads(capsys.readouterr().out)["all"]["errors"] == 3
    assert run(files, "--fragments", "--optional", "--json") == 0
    assert json.loads(capsys.readouterr().out)["all"]["errors"] == 3


def test_command_drops_hesitations(files, capsys):
    recognized = (files / "hyp.ctm").read_text()
    noises = "sw_1 A 0.2 0.1 <unk>\nsw_1 B 0.3 0.1 UH\nen_1 A 0.6 0.1 tha-\nen_1 A 0.7 0.1 [LAUGHTER]\n"
    assert run(files, "--json") == 0
    clean = json.loads(capsys.readouterr().out)
    (files / "hyp.ctm").write_text(recognized + noises)
    for options, insertions in ((), 4), (("--drop-hesitations",), 0):
        assert run(files, "--json", *options) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["all"]["insertions"] == clean["all"]["insertions"] + insertions
    assert found["all"] == clean["all"]


def test_command_compares_and_writes(files, capsys):
    options = ["--glm", files / "rules.glm", "--compare", files / "other.ctm", "--alignments", files / "wer.txt"]
    assert run(files, *options, "--filtered", files / "filtered") == 0
    printed = capsys.readouterr().out
    assert "|  jane" in printed.replace("| jane", "|  jane") and "hyp.ctm has fewer errors than other.ctm" in printed
    assert "REF: WELL (UH) I HAVE TH-  SEEN" in (files / "wer.txt").read_text()
    assert (
        "sw_1 A jane 0.00 1.00 <O> WELL (UH) {I'VE / I HAVE} TH- SEEN" in (files / "filtered" / "ref.stm").read_text()
    )
    assert run(files, *options, "--json") == 0
    compared = json.loads(capsys.readouterr().out)["compared"]
    assert compared["all"]["errors"] == 4 and set(compared["matched_pairs"]) == {"pieces", "mean", "z", "p"}


BRACES = "sw_1 A s 0 1 {}\nsw_1 B s 0 1\nen_1 A s 0 1\n"
BAD = {
    "STM fields": ("ref.stm", "sw_1 A jane 0\n", (), "ref.stm:1: 4 fields are not an STM line"),
    "STM time": ("ref.stm", "f A s 0 1 a\nf A s 0 x a\n", (), "ref.stm:2: the end 'x' is not a number of seconds"),
    "STM infinite": ("ref.stm", "f A s 0 inf a\n", (), "ref.stm:1: the end 'inf' is not a number of seconds"),
    "STM order": ("ref.stm", "f A s 2 1 a\n", (), "ref.stm:1: the segment ends at 1 s, before its start at 2 s"),
    "STM labels": ("ref.stm", "f A s 0 1 <O,x a\n", (), "ref.stm:1: the labels '<O,x' do not end in >"),
    "STM empty": ("ref.stm", ";; nothing\n", (), "hyp.ctm:7: the reference has no segments of recording en_1"),
    "braces open": ("ref.stm", BRACES.format("{ a / b"), (), "ref.stm:1: alternatives lack their closing brace"),
    "braces closed": ("ref.stm", BRACES.format("a } b"), (), "ref.stm:1: a brace closes no alternatives"),
    "braces empty": ("ref.stm", BRACES.format("{ / }"), (), "ref.stm:1: the braces hold no words"),
    "brace in word": ("ref.stm", BRACES.format("a{b / c}"), (), "ref.stm:1: a brace is inside a word, after 'a'"),
    "CTM fields": ("hyp.ctm", "sw_1 A 0 1\n", (), "hyp.ctm:1: 4 fields are not a CTM line"),
    "CTM start": ("hyp.ctm", "sw_1 A * 1 a\n", (), "hyp.ctm:1: the start '*' is not a number of seconds"),
    "CTM duration": ("hyp.ctm", "sw_1 A 0 -1 a\n", (), "hyp.ctm:1: the duration '-1' is not a number of seconds of at"),
    "CTM confidence": ("hyp.ctm", "sw_1 A 0 1 a b\n", (), "hyp.ctm:1: the confidence 'b' is not a number"),
    "CTM open": ("hyp.ctm", "sw_1 A * * <ALT_BEGIN>\nsw_1 B 0 1 a\n", (), "hyp.ctm:1: <ALT_BEGIN> has no <ALT_END>"),
    "CTM unopened": ("hyp.ctm", "sw_1 A * * <ALT>\n", (), "hyp.ctm:1: <ALT> without <ALT_BEGIN> before it"),
    "channel without reference": (
        "hyp.ctm",
        "sw_1 C 0 1 a\n",
        (),
        "hyp.ctm:1: the reference has no segments of recording",
    ),
    "channel without words": (
        "hyp.ctm",
        "sw_1 A 0 1 a\n",
        (),
        "2 of 3 channels (the first is recording en_1, channel a)",
    ),
    "GLM arrow": ("rules.glm", ";;\nA => B\nA B\n", ("--glm", "rules.glm"), "rules.glm:3: 'A B' is not a rule"),
    "GLM source": ("rules.glm", ";;\n => B\n", ("--glm", "rules.glm"), "rules.glm:2: '=> B' is not a rule"),
    "GLM setting": ("rules.glm", ";;\n* name x\n", ("--glm", "rules.glm"), "rules.glm:2: the setting has no value"),
    "GLM expression": (
        "rules.glm",
        ';;\n;; INPUT_DEPENDENT_APPLICATION = "("\n',
        ("--glm", "rules.glm"),
        "rules.glm:2: '(' is not a valid regular expression",
    ),
    "GLM empty": ("rules.glm", "", ("--glm", "rules.glm"), "rules.glm: no lines"),
    "brackets": ("ref.stm", "sw_1 A s 0 1 (uh\n", ("--glm", "rules.glm"), "ref.stm:1: brackets in '(uh' do not match"),
    "speakers": ("ref.stm", "f A s 0 1 a\n", ("--utt2spk", "x"), "an STM names the speakers itself"),
    "other format": (
        "ref.stm",
        "f A s 0 1 a\n",
        ("--format", "plain", "--glm", "x"),
        "--glm is for an STM against a CTM",
    ),
    "missing": ("ref.stm", "f A s 0 1 a\n", ("--compare", "none.ctm"), "the reference has no segments"),
}


@pytest.mark.parametrize(("name", "text", "options", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_sentence(files, monkeypatch, capsys, name, text, options, message):
    monkeypatch.chdir(files)
    Path(name).write_text(text)
    assert main(["score", "--ref", "ref.stm", "--hyp", "hyp.ctm", *options]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and error.startswith("biglittle: ")


def test_channels_without_words_may_count_as_empty(files, capsys):
    (files / "hyp.ctm").write_text("sw_1 A 0 1 well\n")
    assert run(files, "--missing-as-empty", "--json") == 0
    assert json.loads(capsys.readouterr().out)["all"]["deletions"] == 7
