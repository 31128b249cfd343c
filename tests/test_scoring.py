"""Scoring: counts against an independent edit distance, invariants over random texts, files, intervals, bad inputs."""

import json
import random

import pytest

from biglittle_asr.scoring import FORMATS, read_pair, read_utt2spk, score_texts
from biglittle_asr.scoring.bootstrap import wer_interval
from biglittle_asr.scoring.counts import Counts

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
