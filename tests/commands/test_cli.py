"""The `biglittle` command: what goes where, exit statuses, one sentence for every failure."""

import json
import os
import sys
import warnings
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
import soundfile

from biglittle_asr import __version__
from biglittle_asr.cli import COMMANDS, NO_READER, main
from biglittle_asr.inference.transcription import audio_progress
from biglittle_asr.scoring import FORMATS
from support.terminal import Terminal


@pytest.fixture
def files(tmp_path):
    (tmp_path / "ref.txt").write_text("jane-1 one two\njoe-1 three\njoe-2\n")
    (tmp_path / "hyp.txt").write_text("joe-1 three three\njane-1 one too\njoe-2\n")
    (tmp_path / "utt2spk").write_text("jane-1 jane\njoe-1 joe\njoe-2 joe\n")
    return tmp_path


def score(files, *options):
    return main(["score", "--ref", str(files / "ref.txt"), "--hyp", str(files / "hyp.txt"), *map(str, options)])


def test_score_prints_a_table(files, capsys):
    assert score(files, "--utt2spk", files / "utt2spk") == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines() if line] == ["speaker", "jane", "joe", "all", "WER"]
    assert "WER 66.67 % [" in out
    assert err.startswith("biglittle: reading ") and "as kaldi" in err


def test_score_prints_one_json_object(files, capsys):
    assert score(files, "--json", "--utt2spk", files / "utt2spk") == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result) == {"all", "speakers", "labels", "format"} and result["labels"] == {}
    assert result["format"] == "kaldi"
    expected = {"segments": 3, "words": 3, "correct": 2, "substitutions": 1, "deletions": 0, "insertions": 1}
    assert expected.items() <= result["all"].items()
    assert result["all"]["errors"] == result["all"]["segments_with_errors"] == 2
    assert result["all"]["wer_low"] <= result["all"]["wer"] <= result["all"]["wer_high"]
    assert result["speakers"]["jane"]["wer"] == 50


def test_score_without_speakers_says_why_there_is_no_interval(files, capsys):
    assert score(files, "--json") == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["speakers"] == {} and result["all"]["wer_low"] is None
    assert "no interval" in err
    assert score(files, "--json", "--bootstrap", 0, "--format", "kaldi") == 0
    out, err = capsys.readouterr()
    assert "wer_low" not in json.loads(out)["all"] and err == ""


def test_score_writes_alignments(files, capsys):
    assert score(files, "--alignments", files / "wer.txt") == 0
    report = (files / "wer.txt").read_text()
    assert report.startswith(f"{files / 'hyp.txt'} against {files / 'ref.txt'} (kaldi)\n")
    assert "REF: one two\nHYP: one too\nOP:      S\n" in report


def test_score_options_reach_the_scorer(files, capsys):
    (files / "hyp.txt").write_text("jane-1 ONE two\n")
    assert score(files) == 1
    assert score(files, "--missing-as-empty", "--case-sensitive", "--json") == 0
    counts = json.loads(capsys.readouterr().out)["all"]
    assert (counts["substitutions"], counts["deletions"]) == (1, 1)


BAD = {
    "missing hypothesis": (
        {"hyp.txt": "jane-1 one\n"},
        (),
        "2 of 3 utterances (the first is joe-1) have no hypothesis",
    ),
    "extra hypothesis": ({"ref.txt": "jane-1 one\n"}, (), "2 of 3 hypotheses (the first is joe-1) have no reference"),
    "duplicate ID": ({"hyp.txt": "joe-1 a\njoe-1 b\n"}, (), "hyp.txt:2: utterance joe-1 is already at"),
    "not UTF-8": ({"hyp.txt": b"jane-1 gr\xfcn\n"}, (), "hyp.txt:1: not UTF-8"),
    "line counts": ({"hyp.txt": "yes\n"}, ("--format", "plain"), "ref.txt has 3 lines and"),
    "empty": ({"ref.txt": "", "hyp.txt": ""}, (), "There are no references to score against"),
    "no such speakers": ({}, ("--utt2spk", "nowhere"), "nowhere: no such file"),
    "speakers of plain": (
        {},
        ("--format", "plain", "--utt2spk", "utt2spk"),
        "utt2spk: plain text has no utterance IDs",
    ),
    "missing ID": ({}, ("--format", "trn"), "ref.txt:1: no utterance ID in brackets"),
    "no such folder": ({}, ("--alignments", "no/wer.txt"), "no: no such folder; make it, or write wer.txt elsewhere"),
    "exchanged": ({"a.ctm": "", "a.stm": ""}, ("--ref", "a.ctm", "--hyp", "a.stm"), "give the STM as --ref"),
    "folder for a file": ({}, ("--alignments", "."), ".: is a folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_failures_are_one_sentence_and_status_1(files, capsys, monkeypatch, case):
    contents, options, message = BAD[case]
    for name, content in contents.items():
        (files / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.chdir(files)
    assert score(files, *options) == 1
    out, err = capsys.readouterr()
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith("biglittle: ") and last.endswith(".") and message in last
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["no-such-command"],
        ["score"],
        ["score", "--ref", "a", "--hyp", "b", "--bootstrap", "-1"],
        ["score", "--ref", "a", "--hyp", "b", "--bootstrap", "many"],
        ["score", "--ref", "a", "--hyp", "b", "--format", "sgml"],
        ["prepare", "an4"],
    ],
)
def test_wrong_usage_is_status_2(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == "" and "usage: biglittle" in err


@pytest.mark.parametrize("form", ["auto", *FORMATS])
def test_every_format_can_be_named(files, capsys, form):
    for name in ("ref.txt", "hyp.txt"):
        (files / name).write_text("jane-1 yes (jane-1)\n")
    assert score(files, "--format", form) == 0


def test_help_and_version(capsys):
    for arguments in (["--help"], ["--version"], *([command.name, "--help"] for command in COMMANDS)):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
        assert capsys.readouterr().out.strip()
    assert __version__ == "0.1.0"


def test_sums_of_durations_may_miss_the_total_by_rounding():
    with warnings.catch_warnings(), redirect_stderr(Terminal()) as terminal:
        warnings.simplefilter("error")
        with audio_progress("reading") as show:
            show(0.1 + 0.2, 0.3)
    assert "reading: 100%|" in terminal.getvalue()


@pytest.fixture
def librispeech(tmp_path):
    """Half a second of sound in LibriSpeech's layout."""
    folder = tmp_path / "LibriSpeech" / "dev-clean" / "84" / "121123"
    folder.mkdir(parents=True)
    soundfile.write(folder / "84-121123-0000.flac", [0.0, 0.5] * 4000, 16000)
    (folder / "84-121123.trans.txt").write_text("84-121123-0000 GO\n")
    return tmp_path / "LibriSpeech"


def test_prepare_tells_the_size_of_every_split(librispeech, tmp_path, capsys):
    arguments = ["prepare", "librispeech", str(librispeech), str(tmp_path / "out")]
    assert main([*arguments, "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out).values()
    assert Path(facts.pop("manifest")).is_file()
    assert facts == {"utterances": 1, "speakers": 1, "hours": pytest.approx(0.5 / 3600)}
    assert main(arguments) == 0
    heads, sizes = (line.split() for line in capsys.readouterr().out.splitlines())
    assert dict(zip(heads[:4], sizes, strict=False)) == {
        "split": "dev-clean",
        "utterances": "1",
        "speakers": "1",
        "hours": "0.00",
    }


def test_prepare_failures_are_one_sentence(tmp_path, capsys):
    assert main(["prepare", "an5", str(tmp_path), str(tmp_path)]) == 1
    names = "an4, fisher, folder, hub5, librispeech, speechocean762, switchboard"
    assert capsys.readouterr().err == f"biglittle: unknown corpus 'an5': did you mean 'an4'? known are {names}.\n"
    assert main(["prepare", "an4", str(tmp_path / "nowhere"), str(tmp_path / "out")]) == 1
    err = capsys.readouterr().err
    assert err.startswith("biglittle: ") and "nowhere" in err and "Traceback" not in err


GONE = {
    **{name: [name, "--help"] for name in (command.name for command in COMMANDS)},
    "help": ["--help"],
    "version": ["--version"],
    "score": ["score", "--ref", "ref.txt", "--hyp", "hyp.txt", "--bootstrap", "0"],
    "score --json": ["score", "--ref", "ref.txt", "--hyp", "hyp.txt", "--bootstrap", "0", "--json"],
    "completion of bash": ["completion", "bash"],
    "doctor --json": ["doctor", "--json"],
}
"""Commands that print something."""


@pytest.mark.parametrize("case", GONE)
@pytest.mark.parametrize("buffering", [1, 8192], ids=["by line", "at once"])
def test_a_reader_that_has_gone_ends_a_command_quietly(
    files: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, case: str, buffering: int
) -> None:
    monkeypatch.chdir(files)
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", buffering=buffering) as nobody:
        monkeypatch.setattr(sys, "stdout", nobody)
        try:
            assert main(GONE[case]) == NO_READER
        except SystemExit as left:
            # argparse takes no notice if writing its help fails.
            assert left.code == 0 and "--help" in GONE[case]
    # Closing it has flushed the rest, of which nothing may be said either.
    said = capsys.readouterr().err.lower()
    assert "pipe" not in said and "traceback" not in said
