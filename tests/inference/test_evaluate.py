"""`biglittle evaluate` on speech: the same score wherever the utterances come from."""

from __future__ import annotations

import csv
import json
import os
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import fsspec
import pytest
import soundfile

from biglittle_asr.cli import main
from biglittle_asr.corpora.sharding import write_shards
from support.corpora import SAMPLE_RATE
from support.recognizers import babble, write_container
from support.terminal import Terminal


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


def test_evaluate_compares_normalized_texts(model_folder, recognizer, recordings, tmp_path, capsys):
    rows = ["ID,wav,wrd"]
    for path in recordings[1:]:
        heard = recognizer.transcribe(path).text
        rows.append(f"{path.stem},{path},{heard.capitalize()}!")
    (tmp_path / "test.csv").write_text("\n".join(rows) + "\n")
    words = ["evaluate", str(model_folder), str(tmp_path / "test.csv")]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["all"]["errors"] == len(rows) - 1
    assert main([*words, "--json", "--normalizer", "basic", "--output", str(tmp_path / "wer.txt")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["all"]["errors"] == 0 < found["all"]["words"] and found["normalizer"].startswith("basic (")
    assert "normalizer basic (" in (tmp_path / "wer.txt").read_text().splitlines()[0]
    (tmp_path / "test.stm").write_text("r1 A s 0 1 x\n")
    assert main([*words, "--normalizer", "basic"]) == 1
    assert "is scored as NIST does; add --by-utterance." in capsys.readouterr().err
    assert main([*words, "--normalizer", "basic", "--by-utterance"]) == 0


def test_evaluate_refuses_what_is_no_data(model_folder, tiny_librispeech, tmp_path, capsys):
    (tmp_path / "list.csv").write_text("ID,wav\na,a.wav\n")
    (tmp_path / "missing.csv").write_text("ID,wav,wrd\na,a.wav,A\n")
    for arguments, message in (
        ((tiny_librispeech,), "name its corpus"),
        ((tiny_librispeech, "--corpus", "librispeech"), "no split test; choose one of dev-clean"),
        ((tiny_librispeech, "--corpus", "an5"), "unknown corpus"),
        ((tmp_path / "missing.csv", "--split", "dev"), "is one set"),
        ((tmp_path / "list.csv",), "no column wrd"),
        ((tmp_path / "nowhere.csv",), "no such manifest"),
        ((tmp_path / "missing.csv",), "nothing to score"),
        ((tmp_path / "missing.csv", "--output", tmp_path / "no" / "wer.txt"), "no such folder"),
        ((tmp_path / "missing.csv", "--output", tmp_path), "is a folder"),
        ((tmp_path / "missing.csv", "--skip-bad"), "is no image model; leave out --skip-bad"),
    ):
        assert main(["evaluate", str(model_folder), *map(str, arguments)]) == 1
        out, err = capsys.readouterr()
        assert out == "" and message in err and "Traceback" not in err, err


# Shards


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Noise of two speakers, in files."""
    (tmp_path / "files").mkdir()
    with (tmp_path / "files" / "test.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ID", "duration", "wav", "spk_id", "wrd"])
        for number in range(4):
            wav = tmp_path / "files" / f"u{number}.{'flac' if number % 2 else 'wav'}"
            soundfile.write(wav, babble(1 + number / 4, number), SAMPLE_RATE)
            writer.writerow([f"u{number}", 1 + number / 4, wav, f"s{number % 2}", "AB C"])
    return tmp_path / "files" / "test.csv"


@pytest.fixture
def shards(manifest: Path, tmp_path: Path) -> Path:
    """The same, packed."""
    return write_shards(manifest, tmp_path / "shards").index.parent


@pytest.mark.slow
def test_shards_are_scored_and_transcribed_as_the_files_in_them(
    model_folder: Path, manifest: Path, shards: Path, capsys: Any
) -> None:
    def told(command: str, *arguments: object) -> Any:
        assert main([command, str(model_folder), *map(str, arguments)]) == 0
        return capsys.readouterr().out

    words, score = told("transcribe", manifest), told("evaluate", manifest, "--json")
    assert json.loads(score)["all"]["segments"] == 4 and json.loads(score)["all"]["insertions"] > 0
    storage = fsspec.filesystem("memory")
    storage.pipe({f"/bucket/{path.name}": path.read_bytes() for path in shards.iterdir()})
    for data in (shards, shards / "test.csv", "memory://bucket"):
        assert told("evaluate", data, "--json") == score
    # An index may lie elsewhere, and name its shards where they are.
    index = (shards / "test.csv").read_text()
    for place in (shards, "memory://bucket"):
        (manifest.parent / "index.csv").write_text(index.replace("test-", f"{place}/test-"))
        assert told("transcribe", manifest.parent / "index.csv") == words
    storage.rm("/bucket", recursive=True)


def test_a_terminal_shows_progress(model_folder: Path, manifest: Path) -> None:
    with redirect_stderr(Terminal()) as terminal:
        assert main(["evaluate", str(model_folder), str(manifest)]) == 0
    assert "evaluating: 100%|" in terminal.getvalue()


def test_shards_that_cannot_be_scored_are_refused_in_one_sentence(
    model_folder: Path, manifest: Path, shards: Path, capsys: Any
) -> None:
    def refused(command: str, *arguments: object) -> str:
        assert main([command, str(model_folder), *map(str, arguments)]) == 1
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and err.endswith(".\n"), err
        return err

    assert "no split dev; choose one of test with --split" in refused("evaluate", shards, "--split", "dev")
    assert "leave out --corpus" in refused("evaluate", shards, "--corpus", "librispeech")
    assert "name the index of one of its sets" in refused("transcribe", shards)
    assert "no such index of shards" in refused("evaluate", "memory://nowhere")
    (tar,) = shards.glob("*.tar")
    os.truncate(tar, tar.stat().st_size // 2)
    assert main(["evaluate", str(model_folder), str(shards), "--json"]) == 1
    out, err = capsys.readouterr()
    lost = 4 - json.loads(out)["all"]["segments"]
    assert lost > 0 and f"{lost} of 4 utterances could not be transcribed" in err and f"{tar}: is cut off at" in err
    tar.unlink()
    assert "no such shard (1 of the 1" in refused("evaluate", shards / "test.csv")
