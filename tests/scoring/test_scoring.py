"""Scoring: counts against an independent edit distance, invariants over random texts, files, intervals, bad inputs."""

import json
import random
import sys
from importlib import metadata

import pytest

from biglittle_asr.cli import command_parser, main
from biglittle_asr.scoring import FORMATS, NORMALIZERS, load_normalizer, read_pair, read_utt2spk, score_texts
from biglittle_asr.scoring.alignment import Counts
from biglittle_asr.scoring.bootstrap import wer_interval
from biglittle_asr.scoring.lookalikes import count_look_alikes
from support.nist import HAS_SCTK, counts_of_sclite, random_trn

NIST_COUNTED = "segments words correct substitutions deletions insertions errors segments_with_errors".split()
COUNTED = ("segments", "words", "correct", "substitutions", "deletions", "insertions", "errors", "segments_with_errors")
WORDS = ["a", "B", "uh-huh", "it's", "größe", "two", "TWO", "你好", "eleven"]


def random_texts(seed, utterances=60, speakers=5):
    """References, hypotheses (related to them, some empty) and speakers, by ID."""
    draw = random.Random(seed)
    references, hypotheses, speaker_of = {}, {}, {}
    for index in range(utterances):
        speaker = f"s{draw.randrange(speakers)}"
        name = f"{speaker}-{index:03}"
        words = draw.choices(WORDS, k=draw.randrange(9))
        heard = [draw.choice(WORDS) if draw.random() < 0.2 else word for word in words if draw.random() < 0.85]
        heard += draw.choices(WORDS, k=draw.randrange(2))
        references[name], hypotheses[name], speaker_of[name] = " ".join(words), " ".join(heard), speaker
    return references, hypotheses, speaker_of


def edit_distance(reference, hypothesis):
    row = list(range(len(hypothesis) + 1))
    for i, expected in enumerate(reference, 1):
        above, row = row, [i]
        for j, found in enumerate(hypothesis, 1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (expected != found)))
    return row[-1]


@pytest.fixture(params=range(5))
def texts(request):
    return random_texts(request.param)


def test_errors_are_the_fewest_possible(texts):
    references, hypotheses, _ = texts
    for name, reference in references.items():
        hypothesis = hypotheses[name]
        counts = score_texts({name: reference}, {name: hypothesis}).all
        assert counts.errors == edit_distance(reference.lower().split(), hypothesis.lower().split())
        assert counts.character_errors == edit_distance(reference.lower(), hypothesis.lower())
        assert counts.characters == len(reference)


def test_counts_add_up(texts):
    references, hypotheses, speakers = texts
    score = score_texts(references, hypotheses, speakers)
    for counts in (score.all, *score.speakers.values(), *(utterance.counts for utterance in score.utterances)):
        assert counts.words == counts.correct + counts.substitutions + counts.deletions
        assert counts.errors == counts.substitutions + counts.deletions + counts.insertions
        assert 0 <= counts.segments_with_errors <= counts.segments
    assert score.all.words == sum(len(text.split()) for text in references.values())
    assert score.all.correct + score.all.substitutions + score.all.insertions == sum(
        len(text.split()) for text in hypotheses.values()
    )
    for name in (*COUNTED, "characters", "character_errors"):
        total = getattr(score.all, name)
        assert total == sum(getattr(counts, name) for counts in score.speakers.values())
        assert total == sum(getattr(utterance.counts, name) for utterance in score.utterances)
    assert list(score.speakers) == sorted(set(speakers.values()))


def test_alignment_spells_out_both_texts(texts):
    references, hypotheses, _ = texts
    for utterance in score_texts(references, hypotheses).utterances:
        assert [pair.reference for pair in utterance.pairs if pair.reference] == references[utterance.id].split()
        assert [pair.hypothesis for pair in utterance.pairs if pair.hypothesis] == hypotheses[utterance.id].split()


def test_swapping_the_sides_swaps_insertions_and_deletions(texts):
    references, hypotheses, _ = texts
    one, other = score_texts(references, hypotheses).all, score_texts(hypotheses, references).all
    # Among alignments with equally few errors the choice may differ between the directions; the balance may not.
    assert one.errors == other.errors
    assert one.insertions - one.deletions == other.deletions - other.insertions
    # With one kind of error alone there is no choice.
    without = {name: " ".join(text.split()[1:]) for name, text in references.items()}
    deleted, inserted = score_texts(references, without).all, score_texts(without, references).all
    assert deleted.deletions == deleted.errors == inserted.insertions == inserted.errors > 0


def test_identical_texts_have_no_errors(texts):
    references, _, speakers = texts
    counts = score_texts(references, references, speakers).all
    assert (counts.wer, counts.cer, counts.ser, counts.wer_low, counts.wer_high) == (0, 0, 0, 0, 0)


def test_order_of_utterances_does_not_matter(texts):
    references, hypotheses, speakers = texts
    backwards = dict(reversed(references.items()))
    assert score_texts(references, hypotheses, speakers) == score_texts(backwards, hypotheses, speakers)


def test_dictionary_survives_json(texts):
    score = score_texts(*texts)
    copy = json.loads(json.dumps(score.to_dict()))
    assert copy == score.to_dict()
    assert set(copy) == {"all", "speakers", "labels"} and copy["labels"] == {}
    assert set(copy["all"]) == {*COUNTED, "wer", "cer", "ser", "wer_low", "wer_high"}
    assert all(set(counts) == {*COUNTED, "wer", "cer", "ser"} for counts in copy["speakers"].values())
    without = score_texts(*texts, bootstrap=0).to_dict()["all"]
    assert "wer_low" not in without and "wer_high" not in without


def test_case_counts_only_where_asked():
    assert score_texts({"a": "Yes NO"}, {"a": "yes no"}).all.errors == 0
    assert score_texts({"a": "Yes NO"}, {"a": "yes NO"}, case_sensitive=True).all.substitutions == 1


def test_white_space_of_any_kind_separates_words():
    assert score_texts({"a": "yes no"}, {"a": "  yes\t\u00a0no "}).all.cer == 0


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [("", "", (0, 0, 0)), ("", "uh well", (0, 0, 2)), ("yes no", "", (0, 2, 0))],
)
def test_empty_texts(reference, hypothesis, expected):
    counts = score_texts({"a": reference}, {"a": hypothesis}).all
    assert (counts.substitutions, counts.deletions, counts.insertions) == expected


def test_wer_without_reference_words_is_undefined(tmp_path):
    score = score_texts({"a": "", "b": ""}, {"a": "uh", "b": ""}, {"a": "x", "b": "y"})
    assert (score.all.insertions, score.all.wer, score.all.cer, score.all.ser) == (1, None, None, 50.0)
    assert score.all.wer_low is None
    assert score.summary().startswith("WER undefined (1 error in 0 words: 0 sub, 0 del, 1 ins), CER undefined")
    assert json.loads(json.dumps(score.to_dict()))["all"]["wer"] is None
    score.write(tmp_path / "wer.txt")


def test_missing_hypotheses():
    references = {"a": "yes", "c": "no", "b": "well well"}
    with pytest.raises(ValueError, match=r"^2 of 3 utterances \(the first is b\) have no hypothesis; .*\.$"):
        score_texts(references, {"a": "yes"})
    assert score_texts(references, {"a": "yes"}, missing_as_empty=True).all.deletions == 3


def test_extra_hypotheses_unknown_speakers_and_nothing_at_all():
    with pytest.raises(ValueError, match=r"^1 of 2 hypotheses \(the first is b\) has no reference; .*\.$"):
        score_texts({"a": "yes"}, {"a": "yes", "b": "no"})
    with pytest.raises(ValueError, match=r"^1 of 1 utterance \(the first is a\) has no speaker; .*\.$"):
        score_texts({"a": "yes"}, {"a": "yes"}, {"b": "jane"})
    with pytest.raises(ValueError, match="no references"):
        score_texts({}, {})
    with pytest.raises(ValueError, match="at least 1"):
        score_texts({"a": "yes"}, {"a": "yes"}, bootstrap=-1)


def test_interval_is_deterministic_and_contains_the_wer(texts):
    score = score_texts(*texts)
    assert score.all.wer_low < score.all.wer < score.all.wer_high
    assert score_texts(*texts) == score


def test_seed_chooses_the_draws():
    errors, words = list(range(50)), [100] * 50
    assert wer_interval(errors, words, seed=0) == wer_interval(errors, words, seed=0)
    assert wer_interval(errors, words, seed=0) != wer_interval(errors, words, seed=1)


def test_interval_narrows_with_more_speakers():
    draw = random.Random(0)
    errors = [draw.randrange(40) for _ in range(200)]
    widths = []
    for speakers in (5, 20, 200):
        low, high = wer_interval(errors[:speakers], [100] * speakers)
        widths.append(high - low)
    assert widths[0] > widths[1] > widths[2]


def test_interval_matches_the_normal_approximation():
    draw = random.Random(1)
    errors = [draw.randrange(41) for _ in range(400)]
    low, high = wer_interval(errors, [100] * 400, samples=4000)
    mean = sum(errors) / 400
    deviation = (sum((each - mean) ** 2 for each in errors) / 400 / 400) ** 0.5
    assert low == pytest.approx(mean - 1.96 * deviation, abs=0.15)
    assert high == pytest.approx(mean + 1.96 * deviation, abs=0.15)


def test_no_interval_without_two_speakers_or_words():
    assert wer_interval([1], [10]) is None
    assert wer_interval([], []) is None
    assert wer_interval([1, 0], [0, 0]) is None
    # A draw of silent speakers only has no WER and is left out.
    assert wer_interval([1, 1], [0, 10]) is not None
    assert score_texts({"a": "yes"}, {"a": "no"}).all.wer_low is None
    assert score_texts({"a": "yes"}, {"a": "no"}, {"a": "jane"}).all.wer_low is None


def test_report(tmp_path):
    path = tmp_path / "wer_dev.txt"
    references = {"b-1": "one TWO three", "a-1": "你好 yes", "a-2": ""}
    hypotheses = {"b-1": "one to three four", "a-1": "yes", "a-2": ""}
    score = score_texts(references, hypotheses, {"b-1": "b", "a-1": "a", "a-2": "a"})
    score.write(path)
    report = path.read_text(encoding="utf-8")
    assert report.splitlines()[:2] == ["wer_dev.txt", score.summary()]
    assert score.table() in report
    assert [line.split()[0] for line in score.table().splitlines()] == ["speaker", "a", "b", "all"]
    assert report.endswith(
        "a-1 (a): 2 words, 1 error\nREF: 你好 yes\nHYP: **** yes\nOP:  D\n\n"
        "a-2 (a): 0 words, correct\nREF:\nHYP:\nOP:\n\n"
        "b-1 (b): 3 words, 2 errors\nREF: one TWO three ****\nHYP: one to  three four\nOP:      S         I\n"
    )


def test_report_marks_every_error(tmp_path, texts):
    score = score_texts(*texts)
    score.write(tmp_path / "wer.txt", "my test")
    report = (tmp_path / "wer.txt").read_text(encoding="utf-8")
    assert report.startswith("my test\n")
    marks = "".join(line.removeprefix("OP:") for line in report.splitlines() if line.startswith("OP:"))
    counts = score.all
    assert [marks.count(mark) for mark in "SDI"] == [counts.substitutions, counts.deletions, counts.insertions]


WRITERS = {
    "plain": lambda name, text: text,
    "kaldi": lambda name, text: f"{name} {text}",
    "trn": lambda name, text: f"{text} ({name})",
}


def write(path, form, texts, order=sorted):
    path.write_text("".join(WRITERS[form](name, texts[name]) + "\n" for name in order(texts)), encoding="utf-8")
    return path


def test_all_formats_give_the_same_counts_and_are_recognized(tmp_path, texts):
    references, hypotheses, speakers = texts
    expected = score_texts(references, hypotheses).all
    assert set(WRITERS) == set(FORMATS)
    for form, asked in [(each, asked) for each in FORMATS for asked in ("auto", each)]:
        # Where there are IDs, the order of the lines is free.
        order = sorted if form == "plain" else lambda names: sorted(names, key=lambda name: name[::-1])
        reference = write(tmp_path / "ref", form, references)
        hypothesis = write(tmp_path / "hyp", form, hypotheses, order)
        pair = read_pair(reference, hypothesis, asked)
        assert pair.format == form
        assert score_texts(pair.references.texts, pair.hypotheses.texts).all == expected
        assert pair.references.speakers == (speakers if form == "trn" else None)


@pytest.mark.parametrize(
    "lines",
    [
        "yes no\nyes no\n",
        "2nd street\n10th avenue\n",
        "uh-huh\n",
        "one (laughter)\ntwo (laughter)\n",
        "u1 yes\nno\n",
        "yes (a-1)\nno\n",
        "1 2 3\n4 5\n",
    ],
)
def test_what_may_be_plain_text_is_taken_for_it(tmp_path, lines):
    (tmp_path / "both").write_text(lines)
    assert read_pair(tmp_path / "both", tmp_path / "both").format == "plain"


ID_LISTS = {
    "numbers": ("1001", "1002", "1003", "1004"),
    "names": ("ann", "bob", "joe", "zoe"),
    "paths": ("b/x.wav", "a/y.wav", "d/z.wav", "c/w.wav"),
    "words and an ID": ("ann", "bob-2", "joe", "zoe"),
}
"""IDs that might be words, in an order in which lists may stand."""
SAID = ("yes no", "go on", "", "yes go")


def lines_of(form, ids, texts=SAID, order=None):
    lines = [WRITERS[form](name, text) for name, text in zip(ids, texts, strict=True)]
    return "".join(f"{lines[index]}\n" for index in order or range(len(lines)))


@pytest.mark.parametrize("ids", ID_LISTS.values(), ids=ID_LISTS)
def test_ids_that_might_be_words_are_never_scored_as_words(tmp_path, ids):
    ids = sorted(ids)
    (tmp_path / "ref").write_text(lines_of("kaldi", ids))
    (tmp_path / "hyp").write_text(lines_of("kaldi", ids, order=(0, 1, 3)))
    with pytest.raises(ValueError, match=r"may be utterance IDs, or words; say which with --format kaldi or .* plain"):
        read_pair(tmp_path / "ref", tmp_path / "hyp")
    # A tab behind each name, as `biglittle transcribe` writes it, settles it.
    (tmp_path / "tab").write_text("".join(f"{name}\t{text}\n" for name, text in zip(ids, SAID, strict=True)))
    for files in (("ref", "tab"), ("tab", "ref"), ("tab", "tab")):
        pair = read_pair(*(tmp_path / name for name in files))
        assert pair.format == "kaldi" and pair.references.texts == dict(zip(ids, SAID, strict=True))
        assert pair.hypotheses.texts == pair.references.texts
    # So does trn's place of IDs, and so does a name.
    for order in ((0, 1, 2, 3), (3, 1, 0, 2)):
        (tmp_path / "ref").write_text(lines_of("trn", ids))
        (tmp_path / "hyp").write_text(lines_of("trn", ids, order=order))
        pair = read_pair(tmp_path / "ref", tmp_path / "hyp")
        assert pair.format == "trn" and pair.hypotheses.texts == dict(zip(ids, SAID, strict=True))
    for name in ("ref.trn", "hyp"):
        (tmp_path / name).write_text(lines_of("trn", ids[:1], SAID[:1]))
    for names in (("ref.trn", "hyp"), ("hyp", "ref.trn")):
        assert read_pair(*(tmp_path / name for name in names)).format == "trn"


@pytest.mark.parametrize(
    ("reference", "hypothesis"),
    [
        ("yes please\nno thanks\n", "yes please\nno thank\n"),
        ("go on\nalways left\nstop\n", "go on\nalways lift\nstop\n"),
        ("go on\nbe well\nzip it\n", "no on\nme well\nzip it\n"),
        ("yes\nno\nstop\n", "stop\nyes\nno\n"),
        ("a\tb\na\tc\n", "a\tb\nd c\n"),
    ],
)
def test_what_is_hardly_a_list_of_ids_is_plain_text(tmp_path, reference, hypothesis):
    (tmp_path / "ref").write_text(reference)
    (tmp_path / "hyp").write_text(hypothesis)
    assert read_pair(tmp_path / "ref", tmp_path / "hyp").format == "plain"


@pytest.mark.parametrize(
    ("reference", "hypothesis", "message"),
    [
        ("yes\nno\n", "a\tyes\nb\tno\n", "ref looks like plain and .*hyp like kaldi"),
        ("hello (laughs)\n", "hallo (laughs)\n", r"ends in brackets, the first in \(laughs\).*--format trn or "),
        ("yes (1001)\nno (1002)\n", "yes (2001)\nno (2002)\n", r"ends in brackets.*--format trn or "),
        ("jane\tyes\njoe\tno\n", "1\tyes\n2\tno\n", "begins with another word, the first with 'jane'.*--format kaldi"),
        ("u1 yes\n", "yes (u1-1)\n", "looks like kaldi and .* like trn"),
    ],
)
def test_doubtful_formats_are_refused(tmp_path, reference, hypothesis, message):
    (tmp_path / "ref").write_text(reference)
    (tmp_path / "hyp").write_text(hypothesis)
    with pytest.raises(ValueError, match=f"{message}.*--format"):
        read_pair(tmp_path / "ref", tmp_path / "hyp")
    assert read_pair(tmp_path / "ref", tmp_path / "hyp", "plain").format == "plain"


# trn as sclite reads it


TRN_IDS = {
    "case": (("SPK-01", "spk-02"), ("spk-01", "SPK-02")),
    "spaces": (("speaker 1 utt 1", "speaker 1 utt 2"), ("speaker 1 utt 1", "speaker 1  utt 2 ")),
    "scores": (("an251-fash-b", "an253-fash-b"), ("an251-fash-b -7716", "an253-fash-b 0")),
    "fractions": (("a-1", "b-1"), ("a-1 -77.5", "b-1 1e-3")),
    "scores of both": (("a-1 -1", "b-1 -2"), ("a-1 -3", "b-1 -4")),
    "no mark": (("1001", "1002"), ("1001", "1002")),
}
"""IDs of references and hypotheses that are the same."""


@pytest.mark.parametrize("case", TRN_IDS)
@pytest.mark.parametrize("form", ["auto", "trn"])
def test_trn_ids_are_found_as_decoders_write_them(tmp_path, case, form):
    for name, ids in zip(("ref", "hyp"), TRN_IDS[case], strict=True):
        (tmp_path / name).write_text("".join(f"yes no ({each})\n" for each in ids))
    pair = read_pair(tmp_path / "ref", tmp_path / "hyp", form)
    assert pair.format == "trn" and list(pair.references.texts) == list(pair.hypotheses.texts)
    assert score_texts(pair.references.texts, pair.hypotheses.texts, pair.references.speakers).all.errors == 0
    assert len(pair.references.texts) == 2
    if case == "case":
        assert pair.references.speakers == {"SPK-01": "SPK", "spk-02": "SPK"}
        pair = read_pair(tmp_path / "ref", tmp_path / "hyp", form, case_sensitive=True)
        assert not pair.references.texts.keys() & pair.hypotheses.texts.keys()


TRN_TEXTS = [
    # Reference, hypothesis, sclite's options, correct, substituted, deleted, inserted.
    ("{ UM / UH } OUI", "UH OUI", "", (2, 0, 0, 0)),
    ("{UM/UH / @} OUI", "OUI", "", (1, 0, 0, 0)),
    ("yes @ no", "yes no", "", (2, 0, 0, 0)),
    ("{ i've / i have } seen", "i have { scene / seen }", "", (3, 0, 0, 0)),
    ("yes;tag no*", "yes no", "", (2, 0, 0, 0)),
    ("COUT (EUR) DIX", "cout (EUR) DIX", "", (3, 0, 0, 0)),
    ("COUT (EUR) DIX", "COUT DIX", "", (2, 0, 1, 0)),
    ("COUT (EUR) DIX", "COUT DIX", "-D", (3, 0, 0, 0)),
    ("COUT (EUR) DIX", "COUT EUR DIX", "-D", (3, 0, 0, 0)),
    ("{ (uh) / @ } yes", "yes", "-D", (1, 0, 0, 0)),
    ("wor- on", "word on", "", (1, 1, 0, 0)),
    ("wor- on", "word on", "-F", (2, 0, 0, 0)),
    ("yes / no", "yes no", "", (2, 0, 1, 0)),
]
TRN_OPTIONS = {"optional": "-D", "fragments": "-F"}


@pytest.mark.parametrize(("reference", "hypothesis", "options", "expected"), TRN_TEXTS)
def test_marks_in_trn_files_mean_what_they_mean_to_sclite(tmp_path, capsys, reference, hypothesis, options, expected):
    (tmp_path / "ref.trn").write_text(f"{reference} (s-1)\n")
    (tmp_path / "hyp.trn").write_text(f"{hypothesis} (s-1)\n")
    given = [f"--{name}" for name, option in TRN_OPTIONS.items() if option in options]
    files = ["--ref", str(tmp_path / "ref.trn"), "--hyp", str(tmp_path / "hyp.trn")]
    assert main(["score", *files, "--json", "--bootstrap", "0", *given]) == 0
    out, err = capsys.readouterr()
    counts = json.loads(out)["all"]
    assert tuple(counts[name] for name in ("correct", "substitutions", "deletions", "insertions")) == expected
    assert json.loads(out)["format"] == "trn"
    assert ("to let it be deleted, use --optional" in err) == ("(" in reference and "-D" not in options)
    assert (counts["cer"] == 0) == (sum(expected[1:]) == 0)
    if HAS_SCTK:
        found = counts_of_sclite(tmp_path, *options.split(), formats=("trn", "trn"))
        assert tuple(found["Sum"][2:6]) == expected


@pytest.mark.skipif(not HAS_SCTK, reason="needs NIST's tools: Debian's package sctk")
@pytest.mark.parametrize("names", [(), ("optional",), ("fragments",), tuple(TRN_OPTIONS)], ids="-".join)
def test_counts_of_trn_files_are_sclites(tmp_path, names):
    texts = random_trn(len(names), utterances=100)
    for name, text in zip(("ref", "hyp"), texts, strict=True):
        (tmp_path / f"{name}.trn").write_text(text)
    pair = read_pair(tmp_path / "ref.trn", tmp_path / "hyp.trn")
    options = dict.fromkeys(names, True)
    found = score_texts(
        pair.references.texts, pair.hypotheses.texts, pair.references.speakers, bootstrap=0, marks=True, **options
    )
    expected = counts_of_sclite(tmp_path, *(TRN_OPTIONS[name] for name in names), formats=("trn", "trn"))
    counted = {
        name.lower(): [getattr(counts, each) for each in NIST_COUNTED] for name, counts in found.speakers.items()
    }
    assert counted == {name.lower(): counts for name, counts in expected.items() if name != "Sum"}
    assert len(counted) == 100


@pytest.mark.parametrize("seed", range(4))
def test_marked_texts_that_are_the_same_have_no_errors(seed):
    reference, _ = random_trn(seed, utterances=20)
    texts = {line.rpartition("(")[2]: line.rpartition("(")[0] for line in reference.splitlines()}
    plain = {name: text for name, text in texts.items() if "{" not in text}
    found = score_texts(plain, plain, marks=True, optional=True, fragments=True).all
    assert found.errors == found.character_errors == 0 and found.words > 0


@pytest.mark.parametrize("text", ["M^{ME} DUPONT", "{ a / b", "a } b", "{ / }"])
def test_marks_that_do_not_match_are_told_by_their_utterance(text):
    with pytest.raises(ValueError, match="^utterance fr-01, reference: .*brace"):
        score_texts({"fr-01": text, "fr-02": "a"}, {"fr-01": "a", "fr-02": "a"}, marks=True)
    with pytest.raises(ValueError, match="^utterance fr-01, hypothesis: .*brace"):
        score_texts({"fr-01": "a", "fr-02": "a"}, {"fr-01": text, "fr-02": "a"}, marks=True)


# Words that look alike

LOOK_ALIKES = [
    ("caf\u00e9", "cafe\u0301"),
    ("\uc548\ub155", "\u110b\u1161\u11ab\u1102\u1167\u11bc"),
    ("don\u2019t", "don't"),
    ("o\u200bff", "off"),
    ("co\u2010op", "co-op"),
    ("\uff46ull", "full"),
    ("\ufeffgo", "go"),
]


@pytest.mark.parametrize("words", LOOK_ALIKES, ids=ascii)
@pytest.mark.parametrize("form", ["kaldi", "nist"])
def test_words_that_look_alike_are_shown_as_what_they_are(tmp_path, capsys, words, form):
    if form == "kaldi":
        names = "ref.txt", "hyp.txt"
        texts = [f"u-1 yes {word}\n" for word in words]
    else:
        names = "ref.stm", "hyp.ctm"
        texts = [f"a A s 0.0 1.0 yes {words[0]}\n", f"a A 0.0 0.1 yes\na A 0.2 0.1 {words[1]}\n"]
    for name, text in zip(names, texts, strict=True):
        (tmp_path / name).write_text(text)
    files = ["--ref", str(tmp_path / names[0]), "--hyp", str(tmp_path / names[1])]
    assert main(["score", *files, "--alignments", str(tmp_path / "report"), "--bootstrap", "0"]) == 0
    escaped = [word.encode("ascii", "backslashreplace").decode() for word in words]
    lines = (tmp_path / "report").read_text().splitlines()
    found = [line.split()[1:] for line in lines if line.startswith(("REF:", "HYP:"))]
    assert found == [["yes", word] for word in escaped]
    assert f"1 substituted word looks like the reference's, such as '{escaped[1]}' for '{escaped[0]}'" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("one", "other"), [("stra\u00dfe", "strasse"), ("Yes", "yes"), ("to", "two"), ("\u0130s", "is")]
)
def test_words_that_differ_to_the_eye_are_shown_as_they_are(tmp_path, one, other):
    score = score_texts({"a": one}, {"a": other}, case_sensitive=True)
    score.write(tmp_path / "report")
    lines = (tmp_path / "report").read_text().splitlines()
    assert f"REF: {one}" in [line.rstrip() for line in lines] and f"HYP: {other}" in [line.rstrip() for line in lines]
    assert count_look_alikes(score.utterances) == (0, None)


def test_messages_name_ids_with_what_nobody_sees():
    with pytest.raises(ValueError, match=r"\(the first is a\\u200b-1\) has no hypothesis"):
        score_texts({"a\u200b-1": "yes"}, {"a-1": "yes"})


def test_plain_text_keeps_blank_lines_and_line_numbers(tmp_path):
    (tmp_path / "ref").write_bytes(b"\xef\xbb\xbfone\r\n\r\n" + b"x\n" * 8)
    texts = read_pair(tmp_path / "ref", tmp_path / "ref").references.texts
    assert list(texts.items())[:2] == [("01", "one"), ("02", "")] and len(texts) == 10


def test_trn_speakers_comments_and_spaces(tmp_path):
    (tmp_path / "ref").write_text(";; made by hand (x-1)\nyes (no) (jane_x-01)\n\n(joe-2-3)\n  well ( ann-4 )  \n")
    references = read_pair(tmp_path / "ref", tmp_path / "ref").references
    assert references.texts == {"jane_x-01": "yes (no)", "joe-2-3": "", "ann-4": "well"}
    assert references.speakers == {"jane_x-01": "jane", "joe-2-3": "joe", "ann-4": "ann"}


BAD_PAIRS = {
    "line counts": ("plain", "a\nb\n", "a\n", r"ref has 2 lines and \S+hyp has 1, but plain text is compared line by"),
    "line counts, auto": ("auto", "a b\nb\n", "a\n", "ref has 2 lines"),
    "duplicate kaldi": ("kaldi", "u1 a\nu2 b\n\nu1 c\n", "u1 a", r"ref:4: utterance u1 is already at \S+ref:1; remove"),
    "duplicate trn": (
        "auto",
        "a (u-1)\n",
        "a (u-1)\nb (u-1)\n",
        r"hyp:2: utterance u-1 is already at \S+hyp:1; remove",
    ),
    "no ID": ("trn", "a (u-1)\nb\n", "a (u-1)\n", "ref:2: no utterance ID in brackets"),
    "two formats": ("auto", "u1 yes\n", "yes (u-1)\n", r"ref looks like kaldi and \S+hyp like trn; "),
    "format": ("stm", "a", "a", "Unknown format 'stm'; choose one of: auto, plain, kaldi, trn"),
}


@pytest.mark.parametrize("case", BAD_PAIRS)
def test_bad_pairs_are_told_in_one_sentence(tmp_path, case):
    form, reference, hypothesis, message = BAD_PAIRS[case]
    (tmp_path / "ref").write_text(reference)
    (tmp_path / "hyp").write_text(hypothesis)
    with pytest.raises(ValueError, match=message) as caught:
        read_pair(tmp_path / "ref", tmp_path / "hyp", form)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_unreadable_files(tmp_path):
    (tmp_path / "good").write_text("a\n")
    (tmp_path / "latin").write_bytes(b"yes\ngr\xf6\xdfe\n")
    with pytest.raises(FileNotFoundError, match="^[^\n]*none: no such file; check the path.$"):
        read_pair(tmp_path / "good", tmp_path / "none")
    with pytest.raises(ValueError, match="latin:2: not UTF-8 text; convert the file to UTF-8.$"):
        read_pair(tmp_path / "latin", tmp_path / "good")


def test_utt2spk(tmp_path):
    path = tmp_path / "utt2spk"
    path.write_text("a jane\nb  joe \n")
    assert read_utt2spk(path) == {"a": "jane", "b": "joe"}
    for text, message in {
        "a jane\nb\n": r"utt2spk:2: 'b' is not an",
        "a x\na x\n": "utt2spk:2: utterance a is",
    }.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_utt2spk(path)


def test_rates_of_nothing_are_undefined():
    assert (Counts().wer, Counts().cer, Counts().ser) == (None, None, None)


# Normalizers

NORMALIZED = {
    "english": ("Mr. Smith's colours won't cost twenty-two dollars, um.", "mister smith is colors will not cost $22"),
    "basic": ("\u00c4pfel, [Husten] Birnen!", "\u00e4pfel birnen"),
}
"""A text of each normalizer, and what it is to write."""


def test_every_normalizer_can_be_asked_for():
    assert set(NORMALIZED) == set(NORMALIZERS)
    for command in (["score", "--ref", "r", "--hyp", "h"], ["evaluate", "MODEL", "test.csv"]):
        for name in NORMALIZERS:
            assert command_parser().parse_args([*command, "--normalizer", name]).normalizer == name


@pytest.mark.parametrize("name", NORMALIZERS)
def test_a_normalizer_writes_both_sides_alike_and_is_named(name, tmp_path, capsys):
    said, written = NORMALIZED[name]
    (tmp_path / "ref.txt").write_text(f"jane-1 {said}\njoe-1 well\n")
    (tmp_path / "hyp.txt").write_text(f"jane-1 {written}\njoe-1 bell\n")
    words = ["score", "--ref", str(tmp_path / "ref.txt"), "--hyp", str(tmp_path / "hyp.txt"), "--normalizer", name]
    alignments = tmp_path / "errors.txt"
    assert main([*words, "--json", "--alignments", str(alignments)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["all"]["errors"] == 1 and found["all"]["words"] == len(written.split()) + 1
    version = metadata.version("whisper-normalizer")
    assert found["normalizer"] == f"{name} (whisper-normalizer {version})"
    assert main(words) == 0
    assert capsys.readouterr().out.startswith(f"normalizer: {found['normalizer']}\n")
    assert f"(kaldi, normalizer {found['normalizer']})" in alignments.read_text().splitlines()[0]
    assert main([*words[:-2], "--json"]) == 0
    assert "normalizer" not in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "suffix, text, options, message",
    [
        (".txt", "a-1 yes\n", ["--case-sensitive"], "leave out --case-sensitive"),
        (".stm", "", [], "an STM and a CTM are mapped by rules of NIST's"),
        (".trn", "{ um / uh } yes (a-1)\n", [], "knows no marks, as in '{ um / uh } yes'"),
        (".trn", "yes (a-1)\n", ["--optional"], "knows no --optional and --fragments"),
    ],
)
def test_what_a_normalizer_would_spoil_is_refused(suffix, text, options, message, tmp_path, capsys):
    path = tmp_path / f"words{suffix}"
    path.write_text(text)
    assert main(["score", "--ref", str(path), "--hyp", str(path), "--normalizer", "english", *options]) == 1
    out, err = capsys.readouterr()
    assert out == "" and message in err.splitlines()[-1]


def test_without_its_package_a_normalizer_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "whisper_normalizer.english", None)
    with pytest.raises(
        ValueError, match=r"^--normalizer needs whisper-normalizer \(.*'biglittle-asr\[normalizer\]'\.$"
    ):
        load_normalizer("english")
    with pytest.raises(ValueError, match="unknown normalizer 'englisch': did you mean 'english'"):
        load_normalizer("englisch")
