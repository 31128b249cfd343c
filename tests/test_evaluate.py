"""`biglittle evaluate` on speech: the same score wherever the utterances come from."""

from __future__ import annotations

import json

from babbling import babble, write_container

from biglittle_asr.cli import main


def test_evaluate_scores_a_corpus_and_its_manifest_alike(model_folder, tiny_librispeech, tmp_path, capsys):
    for index, path in enumerate(sorted(tiny_librispeech.rglob("*.flac"))):
        write_container(path, babble(1, index))
    corpus = ["evaluate", str(model_folder), str(tiny_librispeech), "--corpus", "librispeech", "--split", "test-clean"]
    assert main([*corpus, "--json"]) == 0
    score = json.loads(capsys.readouterr().out)
    assert set(score) == {"all", "speakers", "labels"} and score["all"]["segments"] == 6
    assert set(score["speakers"]) == {"11", "12"} and "wer_low" in score["all"]
    assert main(["prepare", "librispeech", str(tiny_librispeech), str(tmp_path / "manifests")]) == 0
    capsys.readouterr()
    manifest = ["evaluate", str(model_folder), str(tmp_path / "manifests" / "test-clean.csv"), "--batch_seconds", "1"]
    assert main([*manifest, "--json", "--output", str(tmp_path / "wer.txt")]) == 0
    assert json.loads(capsys.readouterr().out) == score
    assert (tmp_path / "wer.txt").read_text().count("REF:") == 6
    assert main(manifest) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("speaker")

    bad = next(tiny_librispeech.rglob("11-77-0001.flac"))
    bad.write_text("not audio")
    assert main([*manifest, "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["all"]["segments"] == 5
    assert str(bad) in err and "1 of 6 utterances could not be transcribed" in err


def test_evaluate_refuses_what_is_no_data(model_folder, tiny_librispeech, tmp_path, capsys):
    (tmp_path / "list.csv").write_text("ID,wav\na,a.wav\n")
    (tmp_path / "missing.csv").write_text("ID,wav,wrd\na,a.wav,A\n")
    for arguments, message in (
        ((tiny_librispeech,), "name its corpus"),
        ((tiny_librispeech, "--corpus", "librispeech"), "no split test; choose one of dev-clean"),
        ((tiny_librispeech, "--corpus", "an5"), "Unknown corpus"),
        ((tmp_path / "list.csv",), "no column wrd"),
        ((tmp_path / "nowhere.csv",), "no such manifest"),
        ((tmp_path / "missing.csv",), "nothing to score"),
        ((tmp_path / "missing.csv", "--output", tmp_path / "no" / "wer.txt"), "no such folder"),
    ):
        assert main(["evaluate", str(model_folder), *map(str, arguments)]) == 1
        out, err = capsys.readouterr()
        assert out == "" and message in err and "Traceback" not in err, err
