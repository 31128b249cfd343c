"""Lexicon, tied states, alignment, decoding graphs, search, and Kaldi's files: properties on tiny languages."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import kaldi_native_io
import kaldifst
import numpy as np
import pytest

from biglittle_asr.decoding.ctc.lexicon import read_words
from biglittle_asr.decoding.hmm import (
    Aligner,
    AlignmentError,
    ContextStatistics,
    Lexicon,
    Tying,
    grow_tying,
    monophones,
    read_lexicon,
    read_tying,
)
from biglittle_asr.decoding.hmm.alignment import StateGraph, viterbi
from biglittle_asr.decoding.hmm.graph import Arcs, Graph, build_graph
from biglittle_asr.decoding.hmm.kaldi import read_alignments, read_graph, read_transitions
from biglittle_asr.decoding.hmm.openfst import read_arcs
from biglittle_asr.decoding.hmm.search import GraphDecoder

LEXICON = Lexicon(
    {
        "A": [("AH",), ("EY",)],
        "EIGHT": [("EY", "T")],
        "TEA": [("T", "IY")],
        "TEE": [("T", "IY")],
        "EAT": [("IY", "T")],
        "TEETH": [("T", "IY", "T")],
    }
)
"""Variants, words that sound alike, a word that goes on from another, and the same phones in another order."""
SENTENCES = ["A", "EIGHT A", "EAT A EAT", "TEETH", "A TEA EIGHT"]
"""Each unlike all others, even with one state a phone, where T T sounds as T."""


def write_unigrams(path: Path, words: Sequence[str]) -> Path:
    """A language model of equally likely words."""
    entries = "".join(f"-1.0\t{word}\n" for word in ["</s>", *words])
    path.write_text(
        f"\\data\\\nngram 1={len(words) + 2}\n\n\\1-grams:\n{entries}-99.0\t<s>\n\n\\end\\\n", encoding="utf-8"
    )
    return path


def statistics(tying: Tying, lexicon: Lexicon = LEXICON, dimension: int = 4) -> ContextStatistics:
    """Statistics of vectors that depend on phone, position and left neighbor."""
    generator = np.random.default_rng(0)
    centers = generator.normal(size=(tying.table[..., 0].size, dimension))
    result = ContextStatistics(tying, dimension)
    for first, second in itertools.product(sorted(lexicon.pronunciations), repeat=2):
        states = Aligner(lexicon, tying).uniform([first, second], 60).states
        vectors = 3 * centers[states // len(tying.phones)] + 0.1 * generator.normal(size=(60, dimension))
        result.add(states, vectors)
    return result


def tyings() -> list[Any]:
    """Without context and with, of long rows and short."""
    plain = {states: monophones(LEXICON.phones, states, silence) for states, silence in ((1, 1), (2, 3), (3, 1))}
    tied = {f"tied{states}": grow_tying(statistics(each), each.size + 8, 5) for states, each in plain.items()}
    return [pytest.param(each, id=str(name)) for name, each in (plain | tied).items()]


def said(aligner: Aligner, words: Sequence[str], frames: int, sharpness: float = 12.0) -> np.ndarray:
    """Log-likelihoods (T, V) of someone who says the words evenly."""
    generator = np.random.default_rng(1)
    outputs = aligner.tying.outputs[aligner.uniform(words, frames).states]
    noise = generator.normal(size=(frames, aligner.tying.size))
    return (noise + sharpness * np.eye(aligner.tying.size)[outputs]).astype(np.float32)


# Lexicon


def test_a_lexicon_is_read_with_variants_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "a.dic"
    path.write_text(";;; by hand\nA  AH\nA(2) EY\nA EY\nTEA T IY\n")
    lexicon = read_lexicon(path)
    assert lexicon.pronunciations == {"A": [("AH",), ("EY",)], "TEA": [("T", "IY")]}
    assert lexicon.phones == ("SIL", "AH", "EY", "IY", "T")
    lexicon.check(["A TEA", ""], "train.csv")
    with pytest.raises(ValueError, match=r"lacks 2 words of train.csv: COFFEE, MILK; add"):
        lexicon.check(["A COFFEE", "MILK"], "train.csv")


LEXICONS = {
    "Kaldi's lexiconp.txt": "A\t0.7\tAH\nA\t0.3\tEY\nTEA\t1.0\tT IY\n",
    "with whole numbers": "A 0.5 AH\nA 1 EY\nTEA 1 T IY\n",
    "probabilities behind a space": "A 0.7\tAH\nA 0.3\tEY\nTEA 1.0\tT IY\n",
    "Montreal Forced Aligner's": "A\t0.99\t0.2\t1.0\t1.0\tAH\nA\tEY\nTEA\t0.5\tT IY\n",
    "small probabilities": "A 1e-05 AH\nA 1.0 EY\nTEA 3.2e-4 T IY\n",
    "cmudict.dict": "a AH # article\na(2) EY # letter\ntea T IY\n",
    "comments": ";;; by hand\n# by hand\n## twice\n#\n; one\nA AH\n  # and more\nA EY\nTEA T IY #drink\n",
}


@pytest.mark.parametrize("text", LEXICONS.values(), ids=LEXICONS)
def test_lexicons_of_other_tools_are_read_without_probabilities_and_comments(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.dic"
    path.write_text(text)
    assert read_lexicon(path, upper=True).pronunciations == {"A": [("AH",), ("EY",)], "TEA": [("T", "IY")]}
    assert [word.upper() for word in read_words(path)] == ["A", "TEA"]


def test_words_and_phones_with_marks_are_read_as_they_are(tmp_path: Path) -> None:
    entries = {
        "#HASH": "HH",
        ";SEMI": "S",
        '"QUOTE': "K",
        "A.": "EY",
        "(PAREN": "P",
        "ZWEI": "9 2: @ {",
        "3D": "T r\u0329",
    }
    path = tmp_path / "a.dic"
    path.write_text("".join(f"{word} {phones}\n" for word, phones in entries.items()))
    assert read_lexicon(path).pronunciations == {word: [tuple(phones.split())] for word, phones in entries.items()}
    assert read_words(path) == list(entries)


@pytest.mark.parametrize(
    "text, message",
    [
        ("A AH\nTEA\n", "a.dic:2: the word TEA has no phones"),
        ("\n", "no words"),
        ("A AH\nTEA 0.5\n", "a.dic:2: the word TEA has no phones"),
        ("A AH\nICE CREAM\tAY S\n", "a.dic:2: the word 'ICE CREAM', which ends at a tab, has a space in it"),
        ("A AH 0.5\n", "a.dic:1: '0.5' is not a phone"),
        ("A AH\nTEA T #1\n", "a.dic:2: '#1' is not a phone"),
        ("TEA T IY, T EY\n", "a.dic:1: 'IY,' is not a phone"),
        ("A \u200bAH\n", r"a.dic:1: '\\u200bAH' is not a phone"),
        ("A 0.5 0.5 AH\n", "a.dic:1: has 2 probabilities before its phones"),
    ],
)
def test_a_broken_lexicon_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.dic"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_lexicon(path)


# Tied states


@pytest.mark.parametrize("tying", tyings())
def test_every_context_has_its_outputs_and_every_output_one_phone_and_position(tying: Tying) -> None:
    used = tying.outputs[tying.outputs >= 0]
    assert sorted(set(used.tolist())) == list(range(tying.size))
    for phone in range(len(tying.phones)):
        for position in range(tying.num_states(phone)):
            outputs = np.unique(tying.table[phone, position])
            assert outputs.min() >= 0
            assert all(tying.monophone_of[output] == phone * tying.positions + position for output in outputs)
    assert len(np.unique(tying.table[0, 0])) == 1, "silence knows no context"


def test_a_tying_is_read_as_it_was_written(tmp_path: Path) -> None:
    tying = grow_tying(statistics(monophones(LEXICON.phones)), 20, 5)
    tying.write(tmp_path / "tying.npz")
    again = read_tying(tmp_path / "tying.npz")
    assert again.phones == tying.phones and np.array_equal(again.table, tying.table)
    (tmp_path / "tying.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="tying.npz: holds no tied states"):
        read_tying(tmp_path / "tying.npz")


def test_a_tree_is_the_same_every_time_as_large_as_asked_and_finds_what_matters() -> None:
    plain = monophones(LEXICON.phones)
    tied, again = (grow_tying(statistics(plain), plain.size + 4, 5) for _ in range(2))
    assert tied.size == plain.size + 4 and np.array_equal(tied.table, again.table)
    # The vectors depend on what stands left, and on nothing that stands right.
    assert (tied.table == tied.table[..., :1]).all()
    assert not (tied.table == tied.table[..., :1, :]).all()
    assert grow_tying(statistics(plain), 10**6, min_frames=10**6).size == plain.size
    with pytest.raises(ValueError, match=f"tied_states: is 5, but without context there are {plain.size}"):
        grow_tying(statistics(plain), 5)


def test_statistics_do_not_depend_on_how_frames_are_added() -> None:
    plain = monophones(LEXICON.phones)
    generator = np.random.default_rng(2)
    states = Aligner(LEXICON, plain).uniform(["TEETH", "EAT"], 50).states
    vectors = generator.normal(size=(50, 3))
    whole, parts = ContextStatistics(plain, 3), ContextStatistics(plain, 3)
    whole.add(states, vectors)
    for start in (20, 0, 40, 10, 30):
        parts.add(states[start : start + 10], vectors[start : start + 10])
    for one, other in zip(whole.whitened(), parts.whitened(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)


# Alignment


def all_paths(graph: StateGraph, emissions: np.ndarray) -> float:
    """The best score of all paths, one by one."""
    frames, size = emissions.shape
    best = -np.inf
    for path in itertools.product(range(size), repeat=frames):
        steps = all(before in graph.predecessors[after] for before, after in itertools.pairwise(path))
        if steps and graph.first[path[0]] and graph.last[path[-1]]:
            best = max(best, emissions[np.arange(frames), list(path)].sum())
    return best / frames


@pytest.mark.parametrize("words", [["A"], ["TEA"], []])
def test_viterbi_finds_the_best_of_all_paths(words: list[str]) -> None:
    graph = Aligner(LEXICON, monophones(LEXICON.phones, 1, 1)).graph(words)
    for seed in range(5):
        emissions = np.random.default_rng(seed).normal(size=(5, len(graph.states))).astype(np.float32)
        path, score = viterbi(graph, emissions)
        assert score == pytest.approx(all_paths(graph, emissions), rel=1e-5)
        assert score == pytest.approx(emissions[np.arange(5), path].mean(), rel=1e-5)


@pytest.mark.parametrize("tying", tyings())
@pytest.mark.parametrize("sentence", SENTENCES)
def test_what_was_said_evenly_is_aligned_so(tying: Tying, sentence: str) -> None:
    aligner, words = Aligner(LEXICON, tying), sentence.split()
    even = aligner.uniform(words, 70)
    aligned = aligner.align(words, said(aligner, words, 70))
    assert (tying.outputs[aligned.states] == tying.outputs[even.states]).all()
    assert [segment.word for segment in aligned.segments] == words
    assert all(segment.start < segment.end for segment in aligned.segments)
    assert all(first.end <= second.start for first, second in itertools.pairwise(aligned.segments))


def test_the_other_pronunciation_is_found_and_context_crosses_words() -> None:
    tying = monophones(LEXICON.phones, 1, 1)
    aligner = Aligner(LEXICON, tying)
    number = {phone: index for index, phone in enumerate(tying.phones)}
    heard = [number[phone] for phone in ("EY", "EY", "T", "IY", "SIL")]
    aligned = aligner.align(["A", "TEA"], 5 * np.eye(tying.size, dtype=np.float32)[heard])
    shape = tying.table.shape
    phones, _, lefts, rights = np.unravel_index(aligned.states, shape)
    assert phones.tolist() == heard
    assert lefts.tolist() == [number[phone] for phone in ("SIL", "SIL", "EY", "T", "SIL")]
    assert rights.tolist() == [number[phone] for phone in ("T", "T", "IY", "SIL", "SIL")]
    assert [(each.start, each.end) for each in aligned.segments] == [(0, 2), (2, 4)]


def test_what_cannot_be_aligned_is_refused() -> None:
    aligner = Aligner(LEXICON, monophones(LEXICON.phones, 3, 3))
    with pytest.raises(AlignmentError, match="5 frames are fewer"):
        aligner.align(["TEA"], np.zeros((5, aligner.tying.size), np.float32))
    with pytest.raises(AlignmentError, match="5 frames are fewer than the 6 states"):
        aligner.uniform(["TEA"], 5)
    with pytest.raises(AlignmentError, match="not finite"):
        aligner.align(["TEA"], np.full((9, aligner.tying.size), np.nan, np.float32))
    assert len(aligner.uniform(["TEA"], 7).states) == 7, "without the silences there is room"


# Graphs and search


@pytest.mark.parametrize("tying", tyings())
def test_the_graph_says_what_was_said(tying: Tying, tmp_path: Path) -> None:
    lexicon = Lexicon({word: LEXICON.pronunciations[word] for word in LEXICON.pronunciations if word != "TEE"})
    graph = build_graph(lexicon, tying, write_unigrams(tmp_path / "a.lm", sorted(lexicon.pronunciations)))
    decoder, aligner = GraphDecoder(graph, lm_weight=1.0, beam=30.0), Aligner(lexicon, tying)
    for sentence in SENTENCES:
        log_likelihoods = said(aligner, sentence.split(), 70)
        assert decoder.decode(log_likelihoods).words == tuple(sentence.split())
    log_likelihoods = said(aligner, sentence.split(), 40, sharpness=3.0)
    decoder = GraphDecoder(graph, lm_weight=1.0, beam=60.0, lattice_beam=40.0)
    best = decoder.best(log_likelihoods, 3)
    assert len({each.words for each in best}) == len(best) == 3
    assert best[0].cost <= best[1].cost <= best[2].cost
    assert best[0].cost == pytest.approx(decoder.decode(log_likelihoods).cost, rel=1e-3)
    assert decoder.decode(log_likelihoods[:0]).words == ()


def test_costs_are_those_of_the_language_model_and_of_silence(tmp_path: Path) -> None:
    tying = monophones(LEXICON.phones, 1, 1)
    graph = build_graph(LEXICON, tying, write_unigrams(tmp_path / "a.lm", ["EIGHT", "A"]))
    assert graph.vocabulary() == {"EIGHT", "A"} < LEXICON.pronunciations.keys()
    log_likelihoods = said(Aligner(LEXICON, tying), ["EIGHT"], 20, sharpness=100.0)
    aligned = Aligner(LEXICON, tying).align(["EIGHT"], log_likelihoods)
    language = 2 * np.log(10.0) + 2 * np.log(2.0)
    assert GraphDecoder(graph, lm_weight=1.0).decode(log_likelihoods).cost == pytest.approx(
        language - 20 * aligned.score, rel=1e-4
    )


def test_of_words_that_sound_alike_the_more_frequent_is_taken(tmp_path: Path) -> None:
    tying = monophones(LEXICON.phones)
    model = write_unigrams(tmp_path / "a.lm", sorted(LEXICON.pronunciations))
    log_likelihoods = said(Aligner(LEXICON, tying), ["TEA"], 40)
    for frequent in ("TEA", "TEE"):
        graph = build_graph(LEXICON, tying, model, {frequent: 7})
        assert GraphDecoder(graph, lm_weight=1.0).decode(log_likelihoods).words == (frequent,)


def test_graphs_that_cannot_be_are_refused(tmp_path: Path) -> None:
    tying = monophones(LEXICON.phones, 1, 1)
    model = write_unigrams(tmp_path / "a.lm", ["COFFEE", "MILK"])
    with pytest.raises(ValueError, match="a.lm: the graph is empty, as none of its sentences"):
        build_graph(LEXICON, tying, model)
    model.write_text("COFFEE\n")
    with pytest.raises(ValueError, match="a.lm: is not a language model in ARPA format"):
        build_graph(LEXICON, tying, model)
    with pytest.raises(FileNotFoundError, match="b.lm: no such language model"):
        build_graph(LEXICON, tying, tmp_path / "b.lm")


# Kaldi's files


def write_kaldi(folder: Path, graph: Graph, size: int) -> None:
    """A graph with transition-ids, two of each output, and a model's transitions as Kaldi prints them."""
    graph.write(folder)
    lines = []
    for output in range(size):
        lines += [
            f"Transition-state {output + 1}: phone = A hmm-state = 0 pdf = {output}\n",
            f" Transition-id = {2 * output + 1} p = 0.75 [self-loop]\n",
            f" Transition-id = {2 * output + 2} p = 0.25 [0 -> 1]\n",
        ]
    (folder / "transitions.txt").write_text("".join(lines))


def test_a_graph_of_kaldis_decodes_as_ours(tmp_path: Path) -> None:
    tying = monophones(LEXICON.phones, 2, 2)
    ours = build_graph(LEXICON, tying, write_unigrams(tmp_path / "a.lm", sorted(LEXICON.pronunciations)))
    write_kaldi(tmp_path, ours, tying.size)
    transitions = read_transitions(tmp_path / "transitions.txt")
    assert transitions.tolist() == [-1, *(output for output in range(tying.size) for _ in range(2))]
    # Ours has outputs plus 1 where Kaldi's has transition-ids: those of the same number, for this test.
    same = np.arange(-1, tying.size, dtype=np.int32)
    theirs = read_graph(tmp_path / "HCLG.fst", tmp_path / "words.txt", same)
    log_likelihoods = said(Aligner(LEXICON, tying), ["EIGHT", "TEETH"], 60)
    assert GraphDecoder(theirs).decode(log_likelihoods) == GraphDecoder(ours).decode(log_likelihoods)
    table = (tmp_path / "words.txt").read_text()
    (tmp_path / "words.txt").write_text(table.replace("TEETH ", "[teeth] "))
    noisy = read_graph(tmp_path / "HCLG.fst", tmp_path / "words.txt", same)
    assert GraphDecoder(noisy).decode(log_likelihoods).words == ("EIGHT",)
    (tmp_path / "words.txt").write_text(table)
    with pytest.raises(ValueError, match="HCLG.fst: has transition-id .* but the model has only 2"):
        read_graph(tmp_path / "HCLG.fst", tmp_path / "words.txt", same[:3])
    (tmp_path / "words.txt").write_text("<eps> 0\nA 1\n")
    with pytest.raises(ValueError, match="which .*words.txt lacks"):
        read_graph(tmp_path / "HCLG.fst", tmp_path / "words.txt", same)
    (tmp_path / "HCLG.fst").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="is not a whole OpenFst graph"):
        read_graph(tmp_path / "HCLG.fst", tmp_path / "words.txt", same)


@pytest.mark.parametrize("kind", ["vector", "const"])
@pytest.mark.parametrize("seed", range(8))
def test_graphs_are_read_as_by_openfst(tmp_path: Path, kind: str, seed: int) -> None:
    draw = random.Random(seed)
    states = range(draw.randint(1, 8))
    lines = ["0 0 1 1 0.5"]
    for state in states:
        for _ in range(draw.randint(0, 3)):
            labels = draw.randrange(4), draw.randrange(4)
            lines.append(f"{state} {draw.choice(states)} {labels[0]} {labels[1]} {draw.choice(['', 0.5, 1.25, -7])}")
        if draw.random() < 0.5:
            lines.append(f"{state} {draw.choice(['', 2.5])}")
    fst = kaldifst.compile("\n".join(lines))
    expected = Arcs.of(fst)
    if seed % 2:
        fst.input_symbols = kaldifst.SymbolTable.from_str("<eps> 0\na 1\nlonger 2\n")
    if seed % 3:
        fst.output_symbols = kaldifst.SymbolTable.from_str("<eps> 0\n\u00e4 7\n")
    (fst if kind == "vector" else kaldifst.StdConstFst(fst)).write(str(tmp_path / "a.fst"))
    found = read_arcs(tmp_path / "a.fst")
    for name in ("start", "sources", "targets", "inputs", "outputs", "costs"):
        assert np.array_equal(getattr(found, name), getattr(expected, name))
    # OpenFst prints some states in which no text ends, too.
    assert found.final == {state: cost for state, cost in expected.final.items() if cost < np.inf}


def test_transitions_may_have_two_outputs_a_state_and_must_be_whole(tmp_path: Path) -> None:
    path = tmp_path / "transitions.txt"
    state = "Transition-state 1: phone = A hmm-state = 0 forward-pdf = 3 self-loop-pdf = 5\n"
    path.write_text(state + " Transition-id = 1 p = 0.5 [self-loop]\n Transition-id = 2 p = 0.5 [0 -> 1]\n")
    assert read_transitions(path).tolist() == [-1, 5, 3]
    path.write_text(state + " Transition-id = 2 p = 0.5 [0 -> 1]\n")
    with pytest.raises(ValueError, match="does not have all transition-ids"):
        read_transitions(path)
    path.write_text("<TransitionModel>\n")
    with pytest.raises(ValueError, match="transitions.txt:1: is not a line"):
        read_transitions(path)


def test_alignments_of_kaldis_become_outputs(tmp_path: Path) -> None:
    path = tmp_path / "ali.1"
    with kaldi_native_io.Int32VectorWriter(f"ark:{path}") as writer:
        writer.write("u1", [1, 1, 2, 3])
        writer.write("u2", [4])
    transitions = np.array([-1, 0, 0, 7, 8], np.int32)
    assert {name: ids.tolist() for name, ids in read_alignments(f"ark:{path}", transitions)} == {
        "u1": [0, 0, 0, 7],
        "u2": [8],
    }
    assert {name: ids.tolist() for name, ids in read_alignments(f"ark:{path}")}["u2"] == [4]
    with pytest.raises(ValueError, match="utterance u1 has transition-ids that the model lacks"):
        list(read_alignments(f"ark:{path}", transitions[:3]))
    with pytest.raises(ValueError, match="is not a specifier"):
        list(read_alignments("ark:gunzip -c ali.1.gz |"))
    with pytest.raises(FileNotFoundError, match="no such alignments"):
        list(read_alignments("ark:ali.9"))
