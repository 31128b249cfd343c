"""Beam search against its definition: the score of every text by every alignment, on outputs small enough for that."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import sys
from pathlib import Path

import pytest
import soundfile
import torch
from torch import Tensor

from biglittle_asr.cli import main
from biglittle_asr.decoding import (
    BeamSearch,
    BeamWords,
    DecodingSettings,
    GreedyWords,
    ctc_greedy,
    read_settings,
    write_settings,
)
from biglittle_asr.decoding.decoder import SEGMENT_SECONDS
from biglittle_asr.decoding.lm.arpa import write_arpa
from biglittle_asr.decoding.lm.ngram import train_ngrams
from biglittle_asr.decoding.lm.sentences import token_sentences
from biglittle_asr.decoding.settings import read_hotwords
from biglittle_asr.tokens.tokenizer import CharacterTokenizer, SentencePieceTokenizer, Tokenizer
from support.corpora import SAMPLE_RATE
from support.ctc_recipe import finish, write_tones
from support.ngrams import log_prob, parse
from support.recognizers import babble, run
from support.speech_recipes import load

SENTENCES = [["A", "AB"], ["AB", "B"], ["BA", "A", "AB"], ["A"], ["B", "A"]]
WORDS = ("A", "AB", "B", "BA")
TOKENIZERS: dict[str, Tokenizer] = {
    "characters": CharacterTokenizer(" AB"),
    "pieces": SentencePieceTokenizer.train([" ".join(each) for each in SENTENCES] * 3, "bpe", 7),
}


@pytest.fixture
def files(tmp_path) -> Path:
    """A folder with language models of words and of tokens, a lexicon, and hotwords."""
    write_arpa(tmp_path / "words.arpa", train_ngrams(SENTENCES, 2).orders)
    for name, tokenizer in TOKENIZERS.items():
        write_arpa(tmp_path / f"{name}.arpa", train_ngrams(token_sentences(SENTENCES, tokenizer), 3).orders)
    (tmp_path / "lexicon.txt").write_text("AB x\nA y z\nA(2) y\n")
    (tmp_path / "hotwords.txt").write_text("AB 2.5\nB -1\n")
    return tmp_path


def random_output(tokenizer: Tokenizer, frames: int, seed: int, spread: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (spread * torch.randn(frames, tokenizer.size, generator=generator)).log_softmax(-1)


def scores_by_definition(
    log_probs: Tensor, tokenizer: Tokenizer, settings: DecodingSettings, lexicon: tuple[str, ...] | None
) -> dict[str, float]:
    """The score of each text that is allowed: that of its best alignment, and of its words."""
    network: dict[tuple[int, ...], float] = {}
    frames, size = log_probs.shape
    for path in itertools.product(range(size), repeat=frames):
        if lexicon is not None and not isinstance(tokenizer, CharacterTokenizer) and _touches(path, tokenizer):
            continue
        tokens = tuple(index for index, _ in itertools.groupby(path) if index != 0)
        score = sum(float(log_probs[frame, index]) for frame, index in enumerate(path))
        network[tokens] = max(score, network.get(tokens, -math.inf))
    found: dict[str, float] = {}
    for tokens, score in network.items():
        text = tokenizer.decode(tokens)
        words = text.split()
        if lexicon is not None:
            spellings = [tokenizer.encode(word) for word in words]
            if not set(words) <= set(lexicon):
                continue
            if not isinstance(tokenizer, CharacterTokenizer) and list(tokens) != sum(spellings, []):
                continue
        score += settings.word_score * len(words) + sum(settings.hotwords.get(word, 0.0) for word in words)
        if settings.lm is not None:
            grams = parse(Path(settings.lm).read_text())
            units = words
            if lexicon is None:
                units = [tokenizer.piece(index).replace(" ", "▁") for index in tokens]
            history: tuple[str, ...] = ("<s>",)
            order = max(map(len, grams))
            for unit in [*units, "</s>"]:
                unit = unit if (unit,) in grams else "<unk>"
                score += settings.lm_weight * math.log(10) * log_prob(grams, history[-(order - 1) :], unit)
                history = (*history, unit)
        found[text] = max(score, found.get(text, -math.inf))
    return found


def _touches(path: tuple[int, ...], tokenizer: Tokenizer) -> bool:
    """Whether a word's last piece lasts several frames and touches the next word: what is not searched."""
    runs = [(index, len(list(run))) for index, run in itertools.groupby(path)]
    return any(
        index and following and size > 1 and tokenizer.piece(following).startswith(" ")
        for (index, size), (following, _) in itertools.pairwise(runs)
    )


CASES = {
    "network": ({}, None),
    "lexicon": ({"lexicon": "lexicon.txt"}, ("A", "AB")),
    "words": ({"lm": "words.arpa", "lm_weight": 0.7}, WORDS),
    "word score": ({"lm": "words.arpa", "lm_weight": 0.7, "word_score": 1.5}, WORDS),
    "words and lexicon": ({"lm": "words.arpa", "lexicon": "lexicon.txt"}, ("A", "AB")),
    "tokens": ({"lm": "tokens", "lm_weight": 0.6}, None),
    "hotwords": ({"hotwords": {"AB": 2.5, "B": -1.0}}, None),
    "hotwords and words": ({"lm": "words.arpa", "hotwords": {"AB": 2.5, "BB": 1.0}}, (*WORDS, "BB")),
    "hotwords and tokens": ({"lm": "tokens", "hotwords": {"AB": 2.5, "B": -1.0}}, None),
    "negative word score": ({"lexicon": "lexicon.txt", "word_score": -2.0}, ("A", "AB")),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("case", CASES)
def test_the_best_texts_are_those_of_the_definition(files, case, kind):
    tokenizer, (options, lexicon) = TOKENIZERS[kind], CASES[case]
    paths = {name: str(files / options[name]) for name in ("lm", "lexicon") if name in options}
    if options.get("lm") == "tokens":
        paths["lm"] = str(files / f"{kind}.arpa")
    settings = DecodingSettings(**{**options, **paths}, beam=2000, nbest=2000)
    search = BeamSearch(tokenizer, settings)
    assert search.has_words == (lexicon is not None)
    for seed, frames in ((0, 1), (1, 3), (2, 5 if kind == "characters" else 4)):
        log_probs = random_output(tokenizer, frames, seed)
        expected = scores_by_definition(log_probs, tokenizer, settings, lexicon)
        found = search(log_probs)
        scores = [hypothesis.score for hypothesis in found]
        assert scores == sorted(scores, reverse=True)
        assert len({hypothesis.text for hypothesis in found}) == len(found)
        best = max(expected.values())
        # The search drops what lies 20 nats behind, in the middle of an utterance as well.
        likely = {text for text, score in expected.items() if score > best - 5}
        assert likely <= {hypothesis.text for hypothesis in found}
        for hypothesis in found:
            assert hypothesis.score <= expected[hypothesis.text] + 1e-3
            if hypothesis.text in likely:
                assert hypothesis.score == pytest.approx(expected[hypothesis.text], abs=1e-3)


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("beam", [1, 5, 50])
def test_without_anything_to_go_by_the_best_text_is_the_greedy_one(kind, beam):
    tokenizer = TOKENIZERS[kind]
    search = BeamSearch(tokenizer, DecodingSettings(beam=beam))
    for seed in range(5):
        log_probs = random_output(tokenizer, 40, seed)
        (ids,) = ctc_greedy(log_probs[None], torch.tensor([40]))
        (found,) = search(log_probs)
        assert found.text == tokenizer.decode(ids)
        assert found.score == pytest.approx(float(log_probs.max(-1).values.sum()), abs=1e-3) == found.network_score


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_greedy_and_beam_agree_on_words_times_and_confidences(kind):
    tokenizer = TOKENIZERS[kind]
    for seed in range(5):
        log_probs = random_output(tokenizer, 60, seed, spread=4)
        greedy, beam = GreedyWords(tokenizer, 0.04), BeamWords(BeamSearch(tokenizer), 0.04)
        assert [*greedy.decode(log_probs), *greedy.finish(2.4)] == [*beam.decode(log_probs), *beam.finish(2.4)]


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("frames", [1, 2, 7, 120])
def test_with_a_lexicon_every_word_is_in_it(files, kind, frames):
    search = BeamSearch(TOKENIZERS[kind], DecodingSettings(lexicon=str(files / "lexicon.txt"), beam=10, nbest=10))
    texts = set()
    for seed in range(10):
        decoder = BeamWords(search, 0.2)
        found = [*decoder.decode(random_output(TOKENIZERS[kind], frames, seed)), *decoder.finish(frames * 0.2)]
        assert {word.text for word in found} <= {"A", "AB"}
        times = [time for word in found for time in (word.start, word.end)]
        assert times == sorted(times) and all(0 <= word.confidence <= 1 for word in found)
        assert " ".join(word.text for word in found) == decoder.hypotheses[0].text or frames * 0.2 > SEGMENT_SECONDS
        for hypothesis in decoder.hypotheses:
            assert set(hypothesis.text.split()) <= {"A", "AB"} and hypothesis.score > -1000
            assert " ".join(word.text for word in decoder.words(hypothesis, 99)) == hypothesis.text
            texts.add(hypothesis.text)
    assert len(texts) > 1


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("of", ["words", "tokens"])
def test_a_language_model_of_weight_0_changes_nothing(files, kind, of):
    with_model = DecodingSettings(lm=str(files / f"{kind if of == 'tokens' else of}.arpa"), lm_weight=0, nbest=20)
    (files / "all.txt").write_text("\n".join(WORDS))
    without = DecodingSettings(lexicon=str(files / "all.txt") if of == "words" else None, nbest=20)
    first, second = BeamSearch(TOKENIZERS[kind], with_model), BeamSearch(TOKENIZERS[kind], without)
    third = BeamSearch(TOKENIZERS[kind], dataclasses.replace(with_model, lm_weight=2)).reweighted(0, 0)
    for seed in range(5):
        log_probs = random_output(TOKENIZERS[kind], 30, seed)
        found = [search(log_probs)[0] for search in (first, second, third)]
        assert found[0].text == found[1].text == found[2].text
        assert found[0].score == found[1].score == found[2].score


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("lexicon", [False, True])
def test_a_hotword_raises_its_word(files, kind, lexicon):
    path = str(files / "lexicon.txt") if lexicon else None
    counts = []
    for boost in (-9.0, 0.0, 3.0, 9.0):
        search = BeamSearch(TOKENIZERS[kind], DecodingSettings(lexicon=path, hotwords={"BA": boost}, beam=20))
        outputs = (random_output(TOKENIZERS[kind], 20, seed) for seed in range(8))
        counts.append(sum(search(log_probs)[0].text.split().count("BA") for log_probs in outputs))
    assert counts == sorted(counts) and counts[0] < counts[-1]


def test_a_pause_within_a_word_of_a_lexicon_leaves_it_whole(files):
    path = [2] + [0] * 40 + [3, 1]
    log_probs = (9 * torch.nn.functional.one_hot(torch.tensor(path), 4).float()).log_softmax(-1)
    for settings, expected in (
        (DecodingSettings(), ["A", "B"]),
        (DecodingSettings(lexicon=str(files / "lexicon.txt")), ["AB"]),
    ):
        decoder = BeamWords(BeamSearch(TOKENIZERS["characters"], settings), 0.04)
        words = [*decoder.decode(log_probs), *decoder.finish(1.72)]
        assert [word.text for word in words] == expected
        assert words[0].start == 0 and words[-1].end == 1.68


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("lm", [None, "words.arpa"])
def test_words_of_a_long_recording_do_not_depend_on_how_it_is_cut(files, kind, lm):
    tokenizer = TOKENIZERS[kind]
    search = BeamSearch(tokenizer, DecodingSettings(lm=lm and str(files / lm), beam=5))
    log_probs = random_output(tokenizer, 500, seed=3)
    log_probs[180:200, 0] += 20
    found = []
    for size in (1, 77, 1000):
        decoder = BeamWords(search, frame_seconds=0.15)
        words = [word for piece in log_probs.split(size) for word in decoder.decode(piece)]
        # What lies half a minute back is decided.
        assert words[-1].end > 75 - 2 * SEGMENT_SECONDS
        found.append([*words, *decoder.finish(75)])
        times = [time for word in found[-1] for time in (word.start, word.end)]
        assert times == sorted(times) and times[-1] <= 75
    assert found[0] == found[1] == found[2] and len(found[0]) > 50


@pytest.mark.slow
def test_a_recipes_final_scores_are_of_the_search_it_names(tmp_path):
    write_tones(tmp_path, ["ONE", "BAD"])
    (tmp_path / "words.txt").write_text("BAD\nDO\n")
    write_settings(tmp_path / "a.json", DecodingSettings(lexicon=str(tmp_path / "words.txt")))
    brain, datasets, hparams = load("ctc", tmp_path, decoding=tmp_path / "a.json")
    brain.fit_datasets(datasets, hparams)
    finish(brain, datasets, hparams)
    words = [line.split()[4] for line in (tmp_path / "test.ctm").read_text().splitlines()]
    assert words and set(words) <= {"BAD", "DO"}
    assert "Beam search with the settings of a.json." in (tmp_path / "model" / "README.md").read_text()


# What does not fit


def test_what_does_not_fit_is_told_in_one_sentence_with_examples(files):
    characters, told = TOKENIZERS["characters"], []
    (files / "lower.txt").write_text("ab\na\nb\n")
    (files / "foreign.txt").write_text("ÄB\nÖ\nA\n")
    (files / "some.txt").write_text("ÄB\nB\nA\n")
    (files / "other.txt").write_text("AAB\nBAB\nA\n")
    (files / "odd.txt").write_text("BAB\nB\nA\n")
    write_arpa(files / "stranger.arpa", train_ngrams([["▁", "X"]], 2).orders)
    write_arpa(files / "none.arpa", [{("<s>",): (-99.0, None), ("</s>",): (-1.0, None)}])
    words = str(files / "words.arpa")
    for options, message in (
        (
            {"lexicon": "lower.txt"},
            "no tokens to spell 3 of 3 words with, such as 'ab', 'a', 'b'; in upper case it could",
        ),
        ({"lexicon": "foreign.txt"}, "2 of 3 words with, such as 'ÄB', 'Ö'; take one made of"),
        ({"lexicon": "other.txt", "lm": "words.arpa"}, f"2 of its 3 words are not in {words}, such as 'AAB', 'BAB'"),
        ({"lm": "stranger.arpa"}, "such as 'X'; train one with `biglittle lm --tokens MODEL`"),
        ({"lm": "characters.arpa", "lexicon": "lexicon.txt"}, "a language model of tokens"),
        ({"lm": "characters.arpa", "word_score": 1.0}, "--word-score: only with a lexicon"),
        ({"lm": "none.arpa"}, "knows no words"),
        ({"hotwords": {"ab": 1.0}}, "no tokens to spell 'ab' with"),
    ):
        paths = {name: str(files / options[name]) for name in ("lm", "lexicon") if name in options}
        with pytest.raises(ValueError) as caught:
            BeamSearch(characters, DecodingSettings(**{**options, **paths}))
        assert message in str(caught.value) and str(caught.value).endswith(".") and "\n" not in str(caught.value)
    BeamSearch(characters, DecodingSettings(lexicon=str(files / "some.txt")), told.append)
    BeamSearch(characters, DecodingSettings(lexicon=str(files / "odd.txt"), lm=words), told.append)
    assert "1 of 3 words with, such as 'ÄB'" in told[0] and "1 of its 3 words are not in" in told[1] and len(told) == 2


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("of", ["words", "tokens"])
def test_hotwords_that_cannot_be_spelled_are_left_out_and_named(files, kind, of):
    told = []
    lexicon = str(files / "lexicon.txt") if of == "words" else None
    boosts = {"AB": 2.0, "A\u200b?": 9.0, "B": -1.0}
    search = BeamSearch(TOKENIZERS[kind], DecodingSettings(lexicon=lexicon, hotwords=boosts), told.append)
    assert search.settings.hotwords == {"AB": 2.0, "B": -1.0}
    assert told == ["hotwords: the model has no tokens to spell 'A\\u200b?' with; left out."]
    assert search.settings == BeamSearch(TOKENIZERS[kind], search.settings).settings


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "flashlight.lib.text.decoder", None)
    with pytest.raises(ValueError, match=r"needs flashlight-text .*pip install 'biglittle-asr\[lm\]'"):
        BeamSearch(TOKENIZERS["characters"])


def test_settings_survive_their_file(files):
    settings = DecodingSettings(
        lm=str(files / "words.arpa"),
        lm_weight=1.25,
        word_score=-0.5,
        beam=7,
        hotwords=read_hotwords(files / "hotwords.txt"),
    )
    (files / "deep").mkdir()
    write_settings(files / "deep" / "a.json", settings)
    assert json.loads((files / "deep" / "a.json").read_text())["lm"] == "../words.arpa"
    found = read_settings(files / "deep" / "a.json")
    assert Path(found.lm).samefile(settings.lm) and dataclasses.replace(found, lm=settings.lm) == settings


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        '{"beam": 0}',
        '{"beam": true}',
        '{"beam": 2, "nbest": 3}',
        '{"lm_weight": "much"}',
        '{"lm_weight": -1}',
        '{"lm_weight": NaN}',
        '{"lm": 3}',
        '{"alpha": 1}',
        '{"hotwords": ["A"]}',
        '{"hotwords": {"A B": 1}}',
        '{"hotwords": {"A": "much"}}',
    ],
)
def test_bad_settings_are_refused(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=r"^\S*a\.json: .*\.$"):
        read_settings(tmp_path / "a.json")


@pytest.mark.parametrize("content", ["A B\n", "A 1 2\n", "A inf\n", "\n", b"\xff\n"])
def test_bad_hotwords_are_refused(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"^\S*a\.txt:.*\.$"):
        read_hotwords(tmp_path / "a.txt")


# Commands


@pytest.fixture
def recording(tmp_path) -> Path:
    soundfile.write(tmp_path / "r.wav", babble(2.0), SAMPLE_RATE)
    return tmp_path / "r.wav"


@pytest.mark.slow
def test_transcribe_takes_settings_as_options_or_as_a_file(model_folder, recording, files, capsys):
    assert run(model_folder, recording) == 0
    greedy = capsys.readouterr().out
    assert run(model_folder, recording, "--beam", 20) == 0
    assert capsys.readouterr().out == greedy
    options = (
        "--lm",
        files / "words.arpa",
        "--lm-weight",
        "0.3",
        "--word-score",
        "1",
        "--hotwords",
        files / "hotwords.txt",
    )
    assert run(model_folder, recording, *options) == 0
    found = capsys.readouterr().out
    assert found != greedy and set(found.split()) <= set(WORDS) and len(found.split()) > 3
    settings = DecodingSettings(
        lm=str(files / "words.arpa"), lm_weight=0.3, word_score=1, hotwords=read_hotwords(files / "hotwords.txt")
    )
    write_settings(files / "decoding.json", settings)
    assert run(model_folder, recording, "--decoding", files / "decoding.json") == 0
    assert capsys.readouterr().out == found
    (files / "decoding.json").write_text('{"lm": "words.arpa", "lm_weight": 9}')
    assert run(model_folder, recording, "--decoding", files / "decoding.json", *options[2:]) == 0
    assert capsys.readouterr().out == found


def test_json_has_the_n_best_texts(model_folder, recording, files, capsys):
    assert run(model_folder, recording, "--lm", files / "words.arpa", "--nbest", 5, "--json") == 0
    transcript = json.loads(capsys.readouterr().out)
    texts = transcript["nbest"]
    assert len(texts) == 5 == len({each["text"] for each in texts})
    assert texts[0]["text"] == transcript["text"] and texts[0]["words"] == transcript["words"]
    assert [each["score"] for each in texts] == sorted((each["score"] for each in texts), reverse=True)
    for each in texts:
        assert " ".join(word["word"] for word in each["words"]) == each["text"]


def test_wrong_requests_are_one_sentence(model_folder, recording, files, capsys, monkeypatch):
    monkeypatch.setattr("biglittle_asr.inference.transcription.SEGMENT_SECONDS", 1.0)
    for arguments, message in (
        ((recording, "--nbest", 3), "take --format json"),
        ((recording, "--nbest", 3, "--json"), "r.wav: lasts 2 s, and N-best lists"),
        ((recording, "--stream", "--lm", files / "words.arpa"), "streaming cannot"),
        ((recording, "--lm", files / "missing.arpa"), "missing.arpa: No such file"),
        ((recording, "--lm", recording), "is not an ARPA file"),
        ((recording, "--lm-weight", "nan"), "not a finite number"),
        ((recording, "--word-score", "1"), "only with a lexicon"),
        ((recording, "--lm-weight", "1"), "name one with --lm"),
        ((recording, "--decoding", recording), "is not valid JSON"),
    ):
        assert run(model_folder, *arguments) == 1, message
        out, err = capsys.readouterr()
        assert out == "" and message in err and err.count("\n") == 1, err


def test_evaluate_searches_as_transcribe_does(model_folder, recording, files, capsys):
    options = ["--lm", str(files / "words.arpa"), "--beam", "10"]
    assert run(model_folder, recording, *options) == 0
    text = capsys.readouterr().out.strip()
    (files / "a.csv").write_text(f"ID,wav,wrd\nr,{recording},{text}\n")
    for arguments, errors in ((options, 0), ([], None)):
        assert main(["evaluate", str(model_folder), str(files / "a.csv"), "--json", *arguments]) == 0
        score = json.loads(capsys.readouterr().out)["all"]
        assert score["errors"] == errors if errors is not None else score["errors"] > 0
