"""Tuning: the table is what evaluation says, its best is written, and the number of processes changes nothing."""

from __future__ import annotations

import json
from contextlib import redirect_stderr
from pathlib import Path

import pytest
import soundfile

from biglittle_asr.cli import main
from biglittle_asr.decoding import read_settings
from biglittle_asr.decoding.lm.arpa import write_arpa
from biglittle_asr.decoding.lm.ngram import train_ngrams
from biglittle_asr.inference import save_model
from support.corpora import SAMPLE_RATE
from support.recognizers import babble, make_recognizer
from support.terminal import Terminal


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder with a model, a language model, and a manifest of development data."""
    folder = tmp_path_factory.mktemp("tuning")
    save_model(folder / "model", make_recognizer())
    write_arpa(folder / "lm.arpa", train_ngrams([["AB", "A"], ["BE", "CAB"], ["AB", "BE"]], 2).orders)
    rows = ["ID,wav,wrd"]
    for index, words in enumerate(("AB A BE CAB", "BE AB", "A A CAB BE AB")):
        soundfile.write(folder / f"{index}.wav", babble(1 + index / 2, index), SAMPLE_RATE)
        rows.append(f"u{index},{folder / f'{index}.wav'},{words}")
    (folder / "dev.csv").write_text("\n".join([*rows, ""]))
    return folder


def tune(files: Path, *options: object) -> int:
    return main(["tune", str(files / "model"), str(files / "dev.csv"), *map(str, options)])


@pytest.mark.slow
def test_the_best_weights_of_the_table_are_written_for_evaluate(files, tmp_path, capsys):
    output = tmp_path / "decoding.json"
    options = ["--lm", files / "lm.arpa", "--lm-weights", "0.5,2,0", "--word-scores=-1,2", "--output", output]
    assert tune(files, *options, "--json", "--workers", 1) == 0
    found = json.loads(capsys.readouterr().out)
    pairs = [(trial["lm_weight"], trial["word_score"]) for trial in found["trials"]]
    assert pairs == [(weight, score) for weight in (0, 0.5, 2) for score in (-1, 2)]
    assert found["best"] in found["trials"]
    assert found["best"]["errors"] == min(trial["errors"] for trial in found["trials"])
    assert len({trial["errors"] for trial in found["trials"]}) > 1
    settings = read_settings(output)
    assert [settings.lm_weight, settings.word_score] == [found["best"]["lm_weight"], found["best"]["word_score"]]

    for arguments, expected in (
        (["--decoding", str(output)], found["best"]),
        (["--lm", str(files / "lm.arpa"), "--lm-weight", "2", "--word-score=-1"], found["trials"][4]),
        ([], found["greedy"]),
    ):
        assert main(["evaluate", str(files / "model"), str(files / "dev.csv"), "--json", *arguments]) == 0
        counts = json.loads(capsys.readouterr().out)["all"]
        assert counts["errors"] == expected["errors"] and counts["cer"] == expected["cer"]

    assert tune(files, *options, "--workers", 2) == 0
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 9 and sum(line.endswith("*") for line in table) == 1
    assert [line.split()[:5] for line in table[1:7]] == [
        [f"{trial[name]:.2f}" for name in ("lm_weight", "word_score", "wer")]
        + [str(trial[name]) for name in ("substitutions", "deletions")]
        for trial in found["trials"]
    ]


def test_a_lexicon_alone_has_a_word_score_to_tune(files, tmp_path, capsys):
    (tmp_path / "words.txt").write_text("AB\nA\nBE\n")
    options = ["--lexicon", tmp_path / "words.txt", "--word-scores", "0,1", "--output", tmp_path / "a.json"]
    assert tune(files, *options, "--json", "--workers", 1) == 0
    assert len(json.loads(capsys.readouterr().out)["trials"]) == 2


def test_a_terminal_shows_progress(files, tmp_path):
    options = ["--lm", files / "lm.arpa", "--lm-weights", "0", "--word-scores", "0", "--output", tmp_path / "a.json"]
    with redirect_stderr(Terminal()) as terminal:
        assert tune(files, *options, "--workers", 1) == 0
    assert "reading: 100%|" in terminal.getvalue() and "searching: 100%|" in terminal.getvalue()


def test_what_cannot_be_tuned_is_told_in_one_sentence(files, tmp_path, capsys):
    (tmp_path / "no.csv").write_text("ID,wav,wrd\na,missing.wav,A\n")
    lm = ["--lm", files / "lm.arpa", "--output", tmp_path / "a.json", "--workers", 1]
    assert tune(files, "--output", tmp_path / "a.json") == 1
    assert "no weights to tune" in capsys.readouterr().err
    assert tune(files, *lm, "--output", tmp_path / "no" / "a.json") == 1
    assert "no such folder" in capsys.readouterr().err
    write_arpa(tmp_path / "tokens.arpa", train_ngrams([["A", "▁", "B"]], 2).orders)
    of_tokens = ["--lm", tmp_path / "tokens.arpa", "--output", tmp_path / "a.json", "--workers", 1]
    assert tune(files, *of_tokens, "--word-scores", "1") == 1
    assert "only with a lexicon or a language model of words" in capsys.readouterr().err
    (tmp_path / "words.txt").write_text("AB\n")
    assert tune(files, "--lexicon", tmp_path / "words.txt", "--lm-weights", "1", "--output", tmp_path / "a.json") == 1
    assert "name one with --lm" in capsys.readouterr().err
    assert tune(files, *lm, "--output", tmp_path) == 1
    assert "is a folder" in capsys.readouterr().err
    assert tune(files, *lm, "--lm-weights=-1") == 1
    assert "lm_weight: -1" in capsys.readouterr().err
    assert main(["tune", str(files / "model"), str(tmp_path / "no.csv"), *map(str, lm)]) == 1
    err = capsys.readouterr().err
    assert "missing.wav" in err and "nothing to tune" in err and err.count("\n") == 2
    assert not (tmp_path / "a.json").exists()
    with pytest.raises(SystemExit):
        tune(files, *lm, "--word-scores", "much")
