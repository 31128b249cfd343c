"""N-gram language models: training against lmplz and the definition, files against KenLM's scores, faults by line."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path

import pytest

from biglittle_asr.cli import main
from biglittle_asr.decoding.lm.arpa import read_arpa, write_arpa
from biglittle_asr.decoding.lm.language_model import load_kenlm, open_language_model
from biglittle_asr.decoding.lm.ngram import train_ngrams
from biglittle_asr.tokens.tokenizer import train_tokenizer
from support.ngrams import Grams, log_prob, parse

TEXT = "A B A B C\nA B\nC A B\nB\n"
TRIGRAMS = """\
\\1-grams:
-1 <unk> 0
-99 <s> -0.24033217
-0.6754889 </s> 0
-0.57403123 A 0
-0.6754889 B -0.24033217
-0.6754889 C -0.22184873
\\2-grams:
-0.46043605 B </s> 0
-0.48589522 C </s> 0
-0.42212537 <s> A -0.30103
-0.5963077 B A -0.30103
-0.44369748 C A -0.30103
-0.6548442 <s> B -0.30103
-0.6754889 A B -0.30103
-0.6548442 <s> C -0.30103
-0.6548442 B C -0.30103
\\3-grams:
-0.17185947 <s> B </s>
-0.37346002 A B </s>
-0.17826821 B C </s>
-0.5991743 A B A
-0.16749108 <s> C A
-0.21784604 <s> A B
-0.21784604 B A B
-0.21784604 C A B
-0.6276507 A B C
"""
"""What `lmplz -o 3 --discount_fallback` of KenLM 0.3.0 makes of TEXT; it writes 0 for <s>, which nobody asks for."""
BINARIES = sorted((Path(__file__).parent / "kenlm").iterdir())
"""The trigrams of TEXT, as `build_binary probing` and `build_binary trie` of KenLM 0.3.0 write them."""


@pytest.fixture
def arpa(tmp_path) -> Path:
    path = tmp_path / "tiny.arpa"
    write_arpa(path, train_ngrams(map(str.split, TEXT.splitlines()), 3).orders)
    return path


# Training


def test_training_gives_what_lmplz_gives(arpa):
    found, expected = parse(arpa.read_text()), parse(TRIGRAMS)
    assert set(found) == set(expected)
    for gram, values in expected.items():
        assert found[gram] == pytest.approx(values, abs=2e-6), gram


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_of_every_history_sum_to_1(tmp_path, order):
    words = "ONE TWO THREE FOUR FIVE".split()
    sentences = [words[start : start + 1 + size % 4] for start, size in itertools.product(range(5), range(7))]
    sentences += [[words[index * index % 5] for index in range(start, start + 6)] for start in range(9)]
    write_arpa(tmp_path / "a.arpa", train_ngrams(sentences, order).orders)
    grams = parse((tmp_path / "a.arpa").read_text())
    histories = {gram for gram in grams if len(gram) < order and gram[-1] != "</s>"} | {("FIVE", "FIVE"), ("<unk>",)}
    for history in {(), *histories}:
        total = sum(10 ** log_prob(grams, history, word) for word in [*words, "</s>", "<unk>"])
        assert total == pytest.approx(1, abs=1e-5), history


def test_n_grams_are_no_longer_than_the_longest_sentence(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("GO ON\nGO\n")
    assert main(["lm", str(tmp_path / "a.txt"), str(tmp_path / "a.arpa"), "--order", "9", "--json"]) == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)["ngrams"]) == 4 and "no sentence has words for 9-grams" in err
    assert train_ngrams([["GO", "ON"], ["GO"]], 9).orders == train_ngrams([["GO", "ON"], ["GO"]], 4).orders
    load_kenlm(open_language_model(tmp_path / "a.arpa"), ["GO", "ON"])


def test_where_discounts_cannot_be_estimated_they_are_a_guess_that_is_told():
    assert train_ngrams([["A"]], 2).fallback_orders == (1, 2)
    # Two words that always follow one another once: (1 - 0.5) / 1 of their own, and half of the unigrams' share.
    model = train_ngrams([["A"]], 2)
    unigram = (1 - 0.5) / 2 + 0.5 * 1 / 3
    assert 10 ** model.orders[0][("A",)][0] == pytest.approx(unigram)
    assert 10 ** model.orders[1][("<s>", "A")][0] == pytest.approx(0.5 + 0.5 * unigram)


def test_the_command_trains_on_text_on_manifests_and_on_tokens(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("GO ON\n\nGO GO\n")
    (tmp_path / "b.csv").write_text("ID,wav,wrd\nb,b.wav,ON ON\n")
    command = ["lm", str(tmp_path / "a.txt"), str(tmp_path / "b.csv"), str(tmp_path / "words.arpa")]
    assert main([*command, "--order", "2", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["ngrams"][0] == 5 and "discounts of 1-grams, 2-grams;" in err
    assert set(open_language_model(tmp_path / "words.arpa").words) == {"GO", "ON"}

    (tmp_path / "model").mkdir()
    train_tokenizer(["GO ON"], tmp_path / "model" / "tokenizer.json")
    tokens = ["lm", str(tmp_path / "a.txt"), str(tmp_path / "tokens.arpa"), "--tokens", str(tmp_path / "model")]
    assert main(tokens) == 0
    assert "1-grams" in capsys.readouterr().out
    model = open_language_model(tmp_path / "tokens.arpa")
    assert model.of_tokens and set(model.words) == set("GON▁")


def test_the_command_refuses_what_it_cannot_train_on(tmp_path, capsys):
    (tmp_path / "special.txt").write_text("GO\n<s> GO\n")
    (tmp_path / "latin.txt").write_bytes(b"GO\nGR\xdcN\n")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "foreign.txt").write_text("ÉTÉ\n")
    (tmp_path / "model").mkdir()
    train_tokenizer(["GO ON"], tmp_path / "model" / "tokenizer.json")
    out = str(tmp_path / "out.arpa")
    for arguments, message in (
        (["special.txt", out], "special.txt:2: '<s>'"),
        (["latin.txt", out], "latin.txt:2: not UTF-8"),
        (["empty.txt", out], "no sentence"),
        (["missing.txt", out], "missing.txt: no such file"),
        (["special.txt", str(tmp_path / "no" / "out.arpa")], "no such folder"),
        (["special.txt", str(tmp_path / "model")], "model: is a folder"),
        (["special.txt", "special.txt"], "name the text first"),
        (["foreign.txt", out, "--tokens", str(tmp_path / "model")], "in the model's letters and case"),
    ):
        arguments = [str(tmp_path / each) if each.endswith(".txt") else each for each in arguments]
        assert main(["lm", *arguments]) == 1, message
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1
    assert not Path(out).exists()


# Files


def check_scores(path: Path, grams: Grams, order: int) -> None:
    words = ["A", "B", "C", "D"]
    kenlm = load_kenlm(open_language_model(path), words)
    for sentence in itertools.product(range(4), repeat=3):
        state, history = kenlm.start(False), ("<s>",)
        for index in sentence:
            state, score = kenlm.score(state, index)
            word = words[index] if (words[index],) in grams else "<unk>"
            assert score == pytest.approx(log_prob(grams, history[-(order - 1) :] if order > 1 else (), word), abs=1e-5)
            history = (*history, word)
        _, score = kenlm.finish(state)
        expected = log_prob(grams, history[-(order - 1) :] if order > 1 else (), "</s>")
        assert score == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_arpa_files_are_scored_by_their_definition(tmp_path, order, capfd):
    path = tmp_path / "a.arpa"
    write_arpa(path, train_ngrams(map(str.split, TEXT.splitlines()), order).orders)
    grams = parse(path.read_text())
    check_scores(path, grams, order)
    (tmp_path / "commented.arpa").write_text(f"# a comment\n\ndata: \\1-grams:\n{path.read_text()}")
    check_scores(tmp_path / "commented.arpa", grams, order)
    (tmp_path / "a.arpa.gz").write_bytes(gzip.compress(path.read_bytes()))
    check_scores(tmp_path / "a.arpa.gz", grams, order)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("path", BINARIES, ids=lambda path: path.stem)
def test_kenlm_files_are_scored_like_the_arpa_file_they_are_made_of(path):
    assert open_language_model(path).words == {"A", "B", "C"}
    check_scores(path, parse(TRIGRAMS), 3)


def test_an4s_own_language_model_is_read(an4_folder):
    model = open_language_model(an4_folder / "etc" / "an4.ug.lm")
    assert {"ENTER", "RUBOUT", "ZERO"} < set(model.words) and len(model.words) == 104
    kenlm = load_kenlm(model, ["ZERO"])
    assert kenlm.score(kenlm.start(True), 0)[1] == pytest.approx(-2.0253)


@pytest.mark.parametrize("space", ["\u00a0", "\u3000", "\x0b", "\x0c", "\x85", "\u2028"], ids=ascii)
@pytest.mark.parametrize("word", ["{}", "A{}B", "{}B", "B{}"])
def test_odd_white_space_is_of_words_as_kenlm_has_it(arpa, word, space):
    word = word.format(space)
    arpa.write_bytes(arpa.read_bytes().replace(b"C", word.encode()))
    grams = parse(TRIGRAMS)
    model = open_language_model(arpa)
    assert word in model.words and read_arpa(arpa, whole=True).counts == (6, 9, 9)
    kenlm = load_kenlm(model, [word])
    assert kenlm.score(kenlm.start(False), 0)[1] == pytest.approx(log_prob(grams, ("<s>",), "C"), abs=1e-5)


SPACED = {
    "spaces": lambda line: line.replace("\t", " "),
    "several spaces": lambda line: line.replace("\t", "   "),
    "tabs between words": lambda line: line.replace(" ", "\t"),
    "space at the end": lambda line: f"{line} ",
    "space at the beginning": lambda line: f" {line}",
    "carriage return": lambda line: f"{line}\r",
}


@pytest.mark.parametrize("change", SPACED)
def test_fields_of_arpa_files_may_be_set_off_by_any_spaces(arpa, change):
    lines = arpa.read_text().split("\n")
    arpa.write_bytes("\n".join(SPACED[change](line) if line[:1] == "-" else line for line in lines).encode())
    check_scores(arpa, parse(arpa.read_text()), 3)


BAD_ARPA = {
    "no data": (lambda text: text.replace("\\data\\", "data"), "is not an ARPA file"),
    "no counts": (lambda text: "\\data\\\n\\1-grams:\n", ":2: n-grams begin before"),
    "counts out of order": (lambda text: text.replace("ngram 2=9", "ngram 3=9"), ":3: 'ngram 3=9' where 'ngram 2='"),
    "ends in the head": (lambda text: "\\data\\\nngram 1=4\n", ":2: the file ends"),
    "no probability": (lambda text: text.replace("-1\t<unk>", "x\t<unk>"), ": 'x' is not the log10 of a probability"),
    "probability above 1": (lambda text: text.replace("-1\t<unk>", "0.5\t<unk>"), ": '0.5' is not the log10"),
    "too many": (lambda text: text.replace("ngram 1=6", "ngram 1=5"), ": 6 1-grams end here"),
    "too few": (lambda text: text.replace("ngram 3=9", "ngram 3=10"), ": 9 3-grams end here"),
    "no word": (lambda text: text.replace("-1\t<unk>", "-1"), "is not a 1-gram"),
    "a word twice": (lambda text: text.replace("-1\t<unk>", "-1\tA"), "the word 'A' occurs a second time"),
    "an unknown word": (lambda text: text.replace("<s> B </s>", "<s> Z </s>"), ": 'Z' is not among the 1-grams"),
    "no backoff weight": (lambda text: text.replace("<s> A\t", "<s> A\tx"), "is not a backoff weight"),
    "no sentence end": (lambda text: text.replace("</s>", "END"), "has no </s>"),
    "cut off": (lambda text: text[: len(text) - 40], ": "),
    "not UTF-8": (lambda text: text.replace("\tC\t", "\t\udcdc\t"), "is not UTF-8"),
}


@pytest.mark.parametrize("case", BAD_ARPA)
def test_a_bad_arpa_file_is_told_by_its_line(arpa, case):
    change, message = BAD_ARPA[case]
    text = arpa.read_text()
    arpa.write_bytes(change(text).encode(errors="surrogateescape"))
    with pytest.raises(ValueError) as caught:
        load_kenlm(open_language_model(arpa), ["A"])
    assert str(caught.value).startswith(str(arpa)) and message in str(caught.value)
    assert str(caught.value).count("\n") == 0 and str(caught.value).endswith(".")
    if case != "no sentence end":
        with pytest.raises(ValueError, match=f"(?s)^{arpa}"):
            read_arpa(arpa, whole=True)


@pytest.mark.parametrize("path", BINARIES, ids=lambda path: path.stem)
def test_a_cut_off_kenlm_file_is_refused(path, tmp_path):
    content = path.read_bytes()
    for size in (40, 90, 120, len(content) // 2, len(content) - 3):
        (tmp_path / "a.kenlm").write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"a\.kenlm: is a damaged KenLM file"):
            open_language_model(tmp_path / "a.kenlm")


def test_other_files_are_no_language_models(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"x" * 100)[:-9])
    for name, content in {"a.txt": b"text\n", "a.bin": bytes(range(256)), "b.gz": gzip.compress(b"text\n")}.items():
        (tmp_path / name).write_bytes(content)
    for path in tmp_path.iterdir():
        with pytest.raises(ValueError, match=path.name):
            open_language_model(path)
    with pytest.raises(ValueError, match="is a folder"):
        open_language_model(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_language_model(tmp_path / "missing")
