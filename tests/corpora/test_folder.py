"""People's own recordings: every form of input, what is split how, odd names, and what is refused or reported."""

from __future__ import annotations

import csv
import inspect
import json
import os
import random
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from ruamel.yaml import YAML

from biglittle_asr.corpora import conversion, folder, prepare
from biglittle_asr.corpora.lists import read_list
from biglittle_asr.corpora.plain_text import CASES, normalize_text
from biglittle_asr.corpora.recordings import SPLIT_NAMES
from support.corpora import SAMPLE_RATE, break_audio, tone
from support.repository import REPOSITORY

SPEAKERS = ("anna", "bea", "carl", "dora", "emil", "fay")
WORDS = ("STEW", "FOR", "DINNER", "TURNIPS", "CARROTS")

Rows = Sequence[tuple[str, str, str]]
"""Path without suffix, text, and speaker of each recording."""


def some_rows(count: int) -> list[tuple[str, str, str]]:
    return [
        (f"{SPEAKERS[n % 6]}/{n:03d}", f"{WORDS[n % 5].lower()}, {WORDS[n % 4].lower()}.", SPEAKERS[n % 6])
        for n in range(count)
    ]


def write_audio(path: Path, rate: int = SAMPLE_RATE, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.sin(2 * np.pi * 440 / rate * np.arange(rate // 4))
    soundfile.write(path, np.stack([samples] * channels, axis=1), rate)
    return path


def write_pairs(data: Path, rows: Rows, suffix: str = ".txt") -> None:
    for name, text, _ in rows:
        write_audio(data / f"{name}.wav").with_suffix(suffix).write_text(f"{text}\n", encoding="utf-8")


def write_table(data: Path, rows: Rows, delimiter: str, header: Sequence[str], name: str) -> None:
    for path, _, _ in rows:
        write_audio(data / f"{path}.wav")
    with (data / name).open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([header, *((f"{path}.wav", text, speaker) for path, text, speaker in rows)])


def write_nemo(data: Path, rows: Rows) -> None:
    for path, _, _ in rows:
        write_audio(data / f"{path}.wav")
    lines = [
        json.dumps({"audio_filepath": f"{path}.wav", "duration": 0.25, "text": text, "speaker": speaker})
        for path, text, speaker in rows
    ]
    (data / "manifest.json").write_text("\n".join(lines))


def write_common_voice(data: Path, rows: Rows) -> None:
    lines = ["client_id\tpath\tsentence_id\tsentence\tage"]
    for path, text, speaker in rows:
        name = f"{path.replace('/', '_')}.wav"
        write_audio(data / "clips" / name)
        lines.append(f"{speaker}\t{name}\t77\t{text}\t")
    (data / "validated.tsv").write_text("\n".join(lines))


FORMS = {
    "texts": (write_pairs, {"names": "{speaker}/*"}),
    "lab": (lambda data, rows: write_pairs(data, rows, ".lab"), {"names": "{speaker}/*"}),
    "comma": (lambda data, rows: write_table(data, rows, ",", ("wav", "wrd", "spk_id"), "list.csv"), {}),
    "semicolon": (lambda data, rows: write_table(data, rows, ";", ("File", "Text", "Speaker"), "list.csv"), {}),
    "tab": (lambda data, rows: write_table(data, rows, "\t", ("path", "sentence", "client_id"), "a.tsv"), {}),
    "nemo": (write_nemo, {}),
    "common_voice": (write_common_voice, {}),
}
"""A writer of each form, and options with which it knows the speakers."""

every_form = pytest.mark.parametrize("form", FORMS)


def write_form(form: str, data: Path, rows: Rows) -> dict[str, object]:
    data.mkdir(parents=True, exist_ok=True)
    write, options = FORMS[form]
    write(data, rows)
    return dict(options)


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_sets(manifests: Mapping[str, Path]) -> dict[str, list[dict[str, str]]]:
    return {split: read_rows(path) for split, path in manifests.items()}


def split_of(manifests: Mapping[str, Path]) -> dict[str, str]:
    return {row["ID"]: split for split, rows in read_sets(manifests).items() for row in rows}


def refusal(data: Path, out: Path, **options: object) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        prepare("folder", data, out, **options)
    text = str(error.value)
    assert "\n" not in text and text.endswith("."), text
    return text


# Every form


@every_form
def test_words_and_speakers(form, tmp_path):
    rows = some_rows(36)
    options = write_form(form, tmp_path / "data", rows)
    sets = read_sets(prepare("folder", tmp_path / "data", tmp_path / "out", **options))
    found = sorted((row["spk_id"], row["wrd"]) for of_split in sets.values() for row in of_split)
    assert found == sorted((speaker, normalize_text(text)) for _, text, speaker in rows)
    assert sorted(sets) == ["dev", "test", "train"]
    speakers = [{row["spk_id"] for row in of_split} for of_split in sets.values()]
    assert sum(map(len, speakers)) == len(SPEAKERS) and set().union(*speakers) == set(SPEAKERS)


@every_form
@pytest.mark.parametrize("count", [3, 4, 30])
def test_few_recordings_by_chance(form, tmp_path, caplog, count):
    options = write_form(form, tmp_path / "data", some_rows(count))
    sets = read_sets(prepare("folder", tmp_path / "data", tmp_path / "out", split_by="chance", **options))
    assert {split: bool(rows) for split, rows in sets.items()} == {"train": True, "dev": True, "test": True}
    assert len(sets["train"]) >= 0.4 * count or count == 3
    assert "a speaker may be in train and in test" in caplog.text


@pytest.mark.slow
@every_form
@pytest.mark.parametrize("split_by", ["chance", "speaker"])
def test_more_recordings_move_none(form, tmp_path, split_by):
    options = {**write_form(form, tmp_path / "data", some_rows(60)), "split_by": split_by, "dev_percent": 25}
    before = split_of(prepare("folder", tmp_path / "data", tmp_path / "out", **options))
    write_form(form, tmp_path / "data", some_rows(75))
    after = split_of(prepare("folder", tmp_path / "data", tmp_path / "out", **options))
    assert len(before) == 60 and len(after) == 75
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("form", [form for form in FORMS if form not in ("texts", "lab")])
def test_order_of_a_list_does_not_matter(form, tmp_path):
    rows = some_rows(30)
    splits = []
    for seed in (1, 2):
        random.Random(seed).shuffle(rows)
        options = write_form(form, tmp_path / "data", rows)
        splits.append(split_of(prepare("folder", tmp_path / "data", tmp_path / str(seed), **options)))
    assert splits[0] == splits[1]


@pytest.mark.parametrize("split_by", ["chance", "speaker"])
def test_order_of_files_does_not_matter(tmp_path, monkeypatch, split_by):
    write_pairs(tmp_path / "data", some_rows(30))
    options = {"names": "{speaker}/*", "split_by": split_by}
    before = split_of(prepare("folder", tmp_path / "data", tmp_path / "out", **options))
    walk = os.walk
    monkeypatch.setattr(os, "walk", lambda *args, **kwargs: reversed(list(walk(*args, **kwargs))))
    assert split_of(prepare("folder", tmp_path / "data", tmp_path / "again", **options)) == before


def test_another_seed_makes_other_splits(tmp_path):
    write_pairs(tmp_path / "data", some_rows(30))
    splits = [split_of(prepare("folder", tmp_path / "data", tmp_path / str(seed), seed=seed)) for seed in (0, 1)]
    assert splits[0] != splits[1]


# Splits that are given


@pytest.mark.parametrize("name", [*SPLIT_NAMES, "Dev"])
def test_folders_and_lists_and_columns_that_name_splits(name, tmp_path):
    split = SPLIT_NAMES[name.lower()]
    other = "test" if split == "train" else "train"
    (tmp_path / "lists").mkdir()
    (tmp_path / "column").mkdir()
    column = ["path,text,split"]
    for place, count in ((name, 4), (other, 4)):
        for n in range(count):
            write_pairs(tmp_path / "folders", [(f"{place}/{n}", "yes", "")])
            write_audio(tmp_path / "column" / f"{place}{n}.wav")
            column.append(f"{place}{n}.wav,yes,{place}")
            write_audio(tmp_path / "lists" / f"{place}{n}.wav")
        lines = [f'{{"audio_filepath": "{place}{n}.wav", "text": "yes"}}' for n in range(count)]
        (tmp_path / "lists" / f"{place}_manifest.json").write_text("\n".join(lines))
    (tmp_path / "column" / "list.csv").write_text("\n".join(column))
    (tmp_path / "lists" / "old.json").write_text("{}")
    for form in ("folders", "lists", "column"):
        found = split_of(prepare("folder", tmp_path / form, tmp_path / "out" / form))
        assert sorted(set(found.values())) == ["dev", "test", "train"]
        assert sum(each == "test" for each in found.values()) == (4 if "test" in (split, other) else 1)
        for recording, chosen in found.items():
            if name in recording and split != "train":
                assert chosen == split


def test_a_list_alone_and_a_test_set_alone(tmp_path):
    write_table(tmp_path, some_rows(12), ",", ("wav", "wrd", "spk_id"), "test.csv")
    assert list(prepare("folder", tmp_path, tmp_path / "out")) == ["test"]
    (tmp_path / "test.csv").rename(tmp_path / "mine.csv")
    assert len(split_of(prepare("folder", tmp_path / "mine.csv", tmp_path / "list"))) == 12


def test_split_in_names_and_speakers_of_two_sets(tmp_path, caplog):
    rows = [(f"{split}-anna-{n}", "yes", "") for split in ("train", "dev", "test") for n in range(2)]
    write_pairs(tmp_path / "data", rows)
    sets = read_sets(prepare("folder", tmp_path / "data", tmp_path / "out", names="{split}-{speaker}-*"))
    assert {split: [row["spk_id"] for row in of_split] for split, of_split in sets.items()} == {
        split: ["anna", "anna"] for split in ("train", "dev", "test")
    }
    assert "1 speakers of test are in train as well, such as anna" in caplog.text


def test_a_recording_outside_of_the_folders_of_splits(tmp_path):
    write_pairs(tmp_path / "data", [(f"{split}/{n}", "yes", "") for split in ("dev", "anna") for n in range(2)])
    assert "anna/0 is in none" in refusal(tmp_path / "data", tmp_path / "out")
    # Dev may be a name.
    assert len(split_of(prepare("folder", tmp_path / "data", tmp_path / "out", names="{speaker}/*"))) == 4


# Nothing is lost in silence


def test_every_file_is_in_one_split_or_in_the_report(tmp_path, caplog):
    data = tmp_path / "data"
    write_pairs(data, some_rows(30))
    lost = {"anna/no text.wav", "alone.txt", "two.wav", "two.flac", "two.txt", "memo.m4a", "utf16.txt"}
    for name in ("anna/no text.wav", "two.wav", "two.flac", "utf16.wav"):
        write_audio(data / name)
    for name in ("alone.txt", "two.txt"):
        (data / name).write_text("yes")
    (data / "memo.m4a").write_bytes(b"whatever")
    (data / "utf16.txt").write_text("yes", encoding="utf-16")
    (data / "notes.pdf").touch()
    for litter in ("._000.wav", ".DS_Store", "@eaDir/000.wav", "anna/._000.txt", ".trash/000.wav", "__MACOSX/000.wav"):
        (data / litter).parent.mkdir(exist_ok=True)
        (data / litter).touch()
    (data / "bea" / "back").symlink_to(data)
    caplog.set_level("INFO")
    sets = read_sets(prepare("folder", data, tmp_path / "out"))
    assert sum(map(len, sets.values())) == 30
    report = read_rows(tmp_path / "out" / "report.csv")
    assert {row["ID"] for row in report} == lost and len(report) == len(lost)
    assert {row["split"] for row in report} == {""} and {row["action"] for row in report} == {"left out"}
    assert {row["fault"] for row in report if row["ID"] != "utf16.txt"} == {"unpaired"}
    assert "30 recordings with texts, 7 unpaired files" in caplog.text
    assert "1 files of other kinds are not read, such as notes.pdf" in caplog.text
    assert "7 of 37 utterances are left out of training" in caplog.text
    assert "7 of 37 utterances are faulty" in refusal(data, tmp_path / "strict", strict=True)


def test_recordings_that_a_list_does_not_name(tmp_path):
    write_table(tmp_path / "data", some_rows(12), ",", ("wav", "wrd", "spk_id"), "list.csv")
    write_audio(tmp_path / "data" / "anna" / "more.wav")
    prepare("folder", tmp_path / "data", tmp_path / "out")
    (row,) = read_rows(tmp_path / "out" / "report.csv")
    assert (row["ID"], row["split"], row["fault"], row["value"]) == ("anna/more.wav", "", "unpaired", "not in list.csv")


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", "\n", "...", " ?! "])
@pytest.mark.parametrize("case", CASES)
def test_texts_without_words(tmp_path, text, case):
    rows = [(name, text if n == 5 else words, speaker) for n, (name, words, speaker) in enumerate(some_rows(30))]
    write_pairs(tmp_path / "data", rows)
    prepare("folder", tmp_path / "data", tmp_path / "out", text=case)
    (row,) = read_rows(tmp_path / "out" / "report.csv")
    assert (row["ID"], row["fault"]) == ("fay/005", "no_words")


def test_texts_as_they_stand_and_what_is_no_letter(tmp_path, caplog):
    write_pairs(tmp_path / "data", [(str(n), f"Don’t pay ${n}5,  Zoe\u0308!", "") for n in range(5)])
    for case, words in (
        ("upper", "DON'T PAY $15 ZOË"),
        ("lower", "don't pay $15 zoë"),
        ("as_is", "Don’t pay $15, Zoë!"),
    ):
        caplog.clear()
        sets = read_sets(prepare("folder", tmp_path / "data", tmp_path / case, text=case))
        assert next(row["wrd"] for rows in sets.values() for row in rows if row["ID"] == "1") == words
        assert "5 texts have other characters than letters" in caplog.text and "$" in caplog.text


def test_dollars_reach_the_training(tmp_path):
    from biglittle_asr.tasks.speech.data import (
        AudioReader,
        build_audio_dataset,
    )

    write_pairs(tmp_path / "data", [(f"$cost {n}", "five $ign", "") for n in range(3)])
    manifests = prepare("folder", tmp_path / "data", tmp_path / "out")
    (row,) = build_audio_dataset(manifests["train"], AudioReader(SAMPLE_RATE)).data.values()
    assert row["wrd"] == "FIVE $IGN"


def test_recordings_of_phones(tmp_path):
    write_pairs(tmp_path / "data", some_rows(12))
    (tmp_path / "data" / "anna" / "000.wav").rename(tmp_path / "data" / "anna" / "000.m4a")
    prepare("folder", tmp_path / "data", tmp_path / "out")
    (row,) = read_rows(tmp_path / "out" / "report.csv")
    assert (row["ID"], row["fault"]) == ("anna/000", "unreadable") and "ffmpeg -i 000.m4a 000.flac" in row["value"]


# Names


def test_odd_names(tmp_path):
    names = ["with space", "two\nlines", 'comma, "quote"', "dot.in.name", "sub/with space", "[1] (2)", "ünï", "空"]
    data = tmp_path / "data"
    write_pairs(data, [(name, "yes", "") for name in names])
    # A system that decomposes accents wrote the one, and another the other.
    write_audio(data / f"{unicodedata.normalize('NFD', 'zoë')}.WAV")
    (data / f"{unicodedata.normalize('NFC', 'zoë')}.TXT").write_text("no")
    sets = read_sets(prepare("folder", data, tmp_path / "out"))
    found = {row["ID"]: row for rows in sets.values() for row in rows}
    assert set(found) == {name.replace("\n", "_") for name in (*names, "zoë")}
    assert all(Path(row["wav"]).is_file() for row in found.values())


def test_a_list_finds_files_that_are_called_otherwise(tmp_path):
    decomposed = unicodedata.normalize("NFD", "zoë.wav")
    for name in (decomposed, "sub/b.wav", "clips/c.wav", "d.wav"):
        write_audio(tmp_path / "data" / name)
    lines = ["path,text", "zoë.wav,yes", r"sub\b.wav,yes", "c.wav,yes", f"{tmp_path}/data/d.wav,yes"]
    (tmp_path / "data" / "list.csv").write_text("\n".join(lines), encoding="utf-8")
    found = split_of(prepare("folder", tmp_path / "data", tmp_path / "out"))
    assert set(found) == {"zoë", "sub/b", "clips/c", "d"} and not read_rows(tmp_path / "out" / "report.csv")


# Lists


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("a.csv", 'ID, wav, wrd\n7, a.wav, "CALL ""FOUR"", NOW"\n', 'CALL "FOUR", NOW'),
        ("a.csv", 'path;text\n a.wav ; "CALL; FOUR" \n'.replace(" \n", "\n"), "CALL; FOUR"),
        ("a.csv", "path\ttext\na.wav\tCALL FOUR\n", "CALL FOUR"),
        ("a.csv", '\ufeffpath,text\r\na.wav,"CALL\r\nFOUR"\r\n\r\n', "CALL\nFOUR"),
        ("a.csv", 'path,text\na.wav,CALL "FOUR" THREE 5" NINE\n', 'CALL "FOUR" THREE 5" NINE'),
        ("a.csv", "PATH,Sentence\na.wav,CALL\n,\n", "CALL"),
        ("a.tsv", 'path\tsentence\na.wav\t"Yes," he said.\n', '"Yes," he said.'),
        ("a.tsv", 'path\tsentence\na.wav\t"He said ""yes""."\n', 'He said "yes".'),
        ("a.jsonl", '{"audio_filepath": "a.wav", "text": "one\u2028two", "lang": null}\n\n', "one\u2028two"),
    ],
)
def test_lists_that_are_read(tmp_path, name, text, words):
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    (row,) = read_list(tmp_path / name)
    assert (row.values["wav"], row.values["words"]) == ("a.wav", words)


@pytest.mark.parametrize(
    "name, text, message",
    [
        (
            "a.csv",
            "path,text\na.wav,CALL FOUR, THREE\n",
            "a.csv:2: has 3 values for 2 columns; put texts that hold a ','",
        ),
        ("a.csv", 'path,text\na.wav,"FOUR" CALL\n', "a.csv:2: not readable as CSV"),
        ("a.csv", 'path,text\na.wav,yes\nb.wav,"no\nc.wav,yes\n', "a.csv:3: not readable as CSV"),
        ("a.csv", "a.wav,yes\n", "names no column of the recordings, only a.wav, yes; call it one of audio,"),
        ("a.csv", "wav,duration\na.wav,3\n", "names no column of their words, only wav, duration"),
        ("a.csv", "path,text,words\na.wav,yes,no\n", "has both a column text and a column words"),
        ("a.csv", "path,text,age,age\na.wav,yes,1,2\n", "a.csv:1: names the column 'age' twice"),
        ("a.csv", "path,text\n,yes\n", "a.csv:2: names no recording"),
        ("a.csv", "path,text\n", "lists no recordings"),
        ("a.csv", "", "lists no recordings|names no column"),
        ("a.csv", "path,text,speaker\na.wav,yes,anna\nb.wav,yes,\n", "a.csv:3: names no speaker"),
        ("a.csv", "path,text,split\na.wav,yes,eval\n", "a.csv:2: 'eval' is no split; call it train, dev or test"),
        (
            "a.csv",
            "path,text\n{data_root}/a.wav,yes\n",
            "a.csv:2: no such file: {data_root}/a.wav; write paths in full",
        ),
        ("a.csv", "path,text\na.wav,yes\n./a.wav,no\n", "a.csv:3: a.wav is also at .*a.csv:2"),
        ("a.csv", "id,path,text\n1,a.wav,yes\n1,b.wav,no\n2,c.wav,no\n", "a.csv:3: ID 1 is also at .*a.csv:2"),
        ("a.csv", "path,text,offset\na.wav,yes,soon\n", "a.csv:2: channel None, start soon .* are not all numbers"),
        ("a.tsv", "path\ttext\na.wav\tone\ttwo\n", "a.tsv:2: has 3 values for 2 columns; take tabs out"),
        ("a.jsonl", '[{"path": "a.wav", "text": "yes"}]', "a.jsonl:1: not a JSON object on a line of its own"),
        ("a.jsonl", '{"path": "a.wav",\n "text": "yes"}', "a.jsonl:1: not a JSON object"),
        ("a.jsonl", '{"path": "a.wav", "text": ["yes"]}', "a.jsonl:1: text is neither text nor a number"),
        ("a.jsonl", '{"path": "a\\u0000.wav", "text": "yes"}', "a.jsonl:1: holds U.0000"),
        ("a.jsonl", '{"path": "a.wav", "text": "\\ud800"}', "a.jsonl:1: holds U.0000 or half of a surrogate"),
        ("a.xlsx", "PK", "lists are .csv, .tsv, .jsonl, .json; save it as one of these"),
    ],
)
def test_lists_that_are_refused(tmp_path, name, text, message):
    for each in "abc":
        write_audio(tmp_path / f"{each}.wav")
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert re.search(message, refusal(tmp_path / name, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_lists_of_another_encoding(tmp_path, encoding):
    (tmp_path / "a.csv").write_text("path,text\nzoë.wav,yes\n", encoding=encoding)
    assert "convert the file to UTF-8" in refusal(tmp_path / "a.csv", tmp_path / "out")


def test_which_list(tmp_path):
    write_table(tmp_path / "data", some_rows(6), ",", ("wav", "wrd", "spk_id"), "one.csv")
    (tmp_path / "data" / "two.csv").write_text("x")
    assert "holds several lists (one.csv, two.csv)" in refusal(tmp_path / "data", tmp_path / "out")
    (tmp_path / "data" / "two.csv").unlink()
    write_pairs(tmp_path / "data", some_rows(6))
    assert "texts beside recordings too, such as anna/000.txt" in refusal(tmp_path / "data", tmp_path / "out")


def test_parts_of_a_long_recording(tmp_path):
    for rate, channels in ((SAMPLE_RATE, 1), (44100, 2)):
        data = tmp_path / str(rate)
        data.mkdir()
        samples = 0.1 * np.sin(2 * np.pi * 440 / rate * np.arange(4 * rate))
        soundfile.write(data / "long.wav", np.stack([samples] * channels, axis=1), rate)
        lines = [{"audio_filepath": "long.wav", "offset": n, "duration": 0.5, "text": f"{'ABCD'[n]}"} for n in range(4)]
        (data / "list.json").write_text("\n".join(map(json.dumps, lines)))
        sets = read_sets(prepare("folder", data, tmp_path / "out" / str(rate)))
        found = {row["ID"]: row for rows in sets.values() for row in rows}
        assert set(found) == {f"long-{n}" for n in range(4)}
        assert all(float(row["duration"]) == 0.5 for row in found.values())
        assert ("start" in found["long-0"]) == (rate == SAMPLE_RATE)


# Audio of any kind


@pytest.mark.parametrize(
    "rate, channels, suffix", [(44100, 2, "wav"), (48000, 1, "flac"), (8000, 1, "wav"), (SAMPLE_RATE, 2, "ogg")]
)
def test_recordings_are_converted(tmp_path, monkeypatch, rate, channels, suffix):
    data, out = tmp_path / "data", tmp_path / "out"
    for n in range(4):
        write_audio(data / f"{n}.{suffix}", rate, channels).with_suffix(".txt").write_text("yes")
    before = prepare("folder", data, out)
    for row in (row for rows in read_sets(before).values() for row in rows):
        samples, found = soundfile.read(row["wav"])
        assert found == SAMPLE_RATE and samples.ndim == 1 and Path(row["wav"]).parent == out / "audio"
        assert float(row["duration"]) == 0.25 == len(samples) / SAMPLE_RATE
        middle = slice(500, -500)
        np.testing.assert_allclose(samples[middle], tone(len(samples))[middle], atol=0.01)
    assert not read_rows(out / "report.csv")
    with monkeypatch.context() as patch:
        patch.setattr(conversion, "_write", lambda path, *_: pytest.fail(f"converted {path} again"))
        prepare("folder", data, out)
        # An interrupted run goes on with what it has.
        (out / "prepared.json").unlink()
        prepare("folder", data, out)
    copies = set((out / "audio").iterdir())
    assert len(copies) == 4
    soundfile.write(data / f"0.{suffix}", np.stack([tone(9000)] * channels, axis=1), rate)
    rows = [row for rows in read_sets(prepare("folder", data, out)).values() for row in rows]
    assert len({Path(row["wav"]) for row in rows} & copies) == 3


def test_recordings_of_the_wanted_kind_are_read_in_place(tmp_path):
    write_pairs(tmp_path / "data", some_rows(4))
    prepare("folder", tmp_path / "data", tmp_path / "out")
    assert not (tmp_path / "out" / "audio").exists()
    manifests = prepare("folder", tmp_path / "data", tmp_path / "out", sample_rate=8000)
    assert all(soundfile.info(row["wav"]).samplerate == 8000 for rows in read_sets(manifests).values() for row in rows)


@pytest.mark.parametrize("fault", ["unreadable", "truncated", "empty", "not_finite", "silent", "clipped"])
def test_faults_of_recordings_that_would_be_converted(tmp_path, fault):
    data = tmp_path / "data"
    write_pairs(data, some_rows(20))
    for path in data.rglob("*.wav"):
        write_audio(path, 44100, 2)
    bad = data / "anna" / "006.wav"
    break_audio(bad, fault)
    if fault in ("not_finite", "silent", "clipped"):
        samples, _ = soundfile.read(bad)
        soundfile.write(bad, np.stack([samples, samples], axis=1), 44100, subtype="FLOAT")
    prepare("folder", data, tmp_path / "out")
    (row,) = read_rows(tmp_path / "out" / "report.csv")
    assert (row["ID"], row["fault"]) == ("anna/006", fault)


def test_output_within_the_data_folder(tmp_path, monkeypatch):
    data = tmp_path / "data"
    for n in range(4):
        write_audio(data / f"{n}.wav", 44100, 2).with_suffix(".txt").write_text("yes")
    with monkeypatch.context() as patch:
        patch.setattr("biglittle_asr.corpora.write_manifests", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare("folder", data, data / "out")
    for _ in range(2):
        assert len(split_of(prepare("folder", data, data / "out"))) == 4
        assert not read_rows(data / "out" / "report.csv")
    assert "holds what a preparation wrote" in refusal(data / "out", tmp_path / "out")
    assert "name another folder" in refusal(data, data)
    write_table(data, some_rows(6), ",", ("wav", "wrd", "spk_id"), "train.csv")
    assert "name another folder" in refusal(data / "train.csv", data)


# Options


@pytest.mark.parametrize(
    "options, message",
    [
        ({"split_by": "day"}, "split_by: is 'day', but must be one of auto, speaker, chance"),
        ({"text": "title"}, "text: is 'title', but must be one of upper, lower, as_is"),
        ({"dev_percent": 0}, "dev_percent, test_percent: are 0 and 10"),
        ({"test_percent": 85}, "dev_percent, test_percent: are 10 and 85"),
        ({"names": "{day}/*"}, "names: is '{day}/*', but may have"),
        ({"names": "{speaker}/{speaker}"}, "but may have {speaker} and {split}, each once"),
        ({"names": "{speaker}-*"}, "names: '{speaker}-*' does not fit the recording anna/000"),
        ({"names": {"speaker": None}}, "names: is {'speaker': None}, but must be text; in YAML, write it in quotes"),
        ({"names": "{split}/*"}, "'anna' is no split"),
        ({"split_by": "speaker"}, "split_by: names of 0 speakers are known, too few for train and dev and test"),
    ],
)
def test_impossible_options(tmp_path, options, message):
    write_pairs(tmp_path / "data", some_rows(8))
    assert message in refusal(tmp_path / "data", tmp_path / "out", **options)


def test_too_few_recordings(tmp_path):
    write_pairs(tmp_path / "data", some_rows(2))
    assert "2 recordings with texts are too few" in refusal(tmp_path / "data", tmp_path / "out")


@pytest.mark.parametrize("name", ["ctc_bl_resnet22_context", "ctc_bl_resnet22_demo", "ctc_bl_resnet36_context"])
def test_recipes_options_are_the_defaults(name):
    options = YAML(typ="rt").load((REPOSITORY / "hparams" / "Folder" / f"{name}.yaml").read_text())
    parameters = inspect.signature(folder.read).parameters
    defaults = {each: value.default for each, value in parameters.items() if each != "data_folder"}
    assert dict(options.get("corpus_options", {})) in (defaults, {})
