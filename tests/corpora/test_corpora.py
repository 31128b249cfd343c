"""Corpora: what must hold for every registered one, then what each reads, and what it says about bad input."""

from __future__ import annotations

import csv
import functools
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from biglittle_asr.audio.files import read_audio
from biglittle_asr.corpora import list_corpora, prepare
from biglittle_asr.corpora.checks import FAULTS
from biglittle_asr.corpora.librispeech import COUNTS
from biglittle_asr.corpora.manifest import COLUMNS, SEGMENT_COLUMNS
from biglittle_asr.corpora.report import KEPT, LEFT_OUT, REPORT_COLUMNS
from biglittle_asr.corpora.synthesis.librispeech_like import SLOTS, TEMPLATES, Recipe, synthesize
from support.corpora import (
    FILE_FAULTS,
    SAMPLE_RATE,
    break_an4,
    break_audio,
    make_an4,
    make_folder,
    make_librispeech,
    make_speechocean762,
    make_telephone,
    tone,
    write_sphere,
)
from support.repository import REPOSITORY, SPEECHOCEAN762

EXAMPLES: dict[str, tuple[Callable[[Path], Path], dict[str, object]]] = {
    "an4": (make_an4, {"dev_utterances": 7}),
    "fisher": (functools.partial(make_telephone, "fisher"), {"dev_conversations": 2}),
    "folder": (make_folder, {"dev_percent": 20, "test_percent": 20}),
    "folder of pairs": (functools.partial(make_folder, pairs=True), {"names": "{speaker}/*", "test_percent": 20}),
    "hub5": (functools.partial(make_telephone, "hub5"), {}),
    "librispeech": (make_librispeech, {}),
    "speechocean762": (make_speechocean762, {"dev_speakers": 4}),
    "switchboard": (functools.partial(make_telephone, "switchboard"), {"dev_conversations": 2}),
}
"""A maker of a small corpus, and options that fit it, for each registered corpus, which is the name's first word."""

SMALL = Recipe(train_speakers=3, dev_speakers=2, test_speakers=2, utterances=4, held_out_utterances=3)


@pytest.fixture(params=sorted(EXAMPLES))
def example(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path, dict[str, object]]:
    """Name, folder and options of a small corpus of each registered kind."""
    make, options = EXAMPLES[request.param]
    return request.param.split()[0], make(tmp_path / "data" / "corpus"), options


def read_rows(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def audio_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".sph", ".flac", ".wav"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def one_sentence(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert "\n" not in text and text.endswith("."), text
    return text


# Every registered corpus


def test_litter_of_operating_systems_is_no_corpus(example, tmp_path):
    name, folder, options = example
    prepare(name, folder, tmp_path / "clean", **options)
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        thumbnails = path.parent / "@eaDir"
        thumbnails.mkdir(exist_ok=True)
        for litter in (path.with_name(f"._{path.name}"), thumbnails / path.name, path.with_name(".DS_Store")):
            litter.write_bytes(b"\0\5\x16\7")
    # Whole folders, too, as Synology's file server and macOS' archives have them.
    shutil.copytree(folder, folder / "@eaDir" / "again", ignore=shutil.ignore_patterns("@eaDir", "._*"))
    prepare(name, folder, tmp_path / "littered", **options)
    assert contents(tmp_path / "littered") == contents(tmp_path / "clean")


def test_no_corpus_is_missed():
    assert {name.split()[0] for name in EXAMPLES} == set(list_corpora())


def test_manifests_are_sorted_and_complete(example, tmp_path):
    corpus, folder, options = example
    manifests = prepare(corpus, folder, tmp_path / "out", **options)
    for split, manifest in manifests.items():
        assert manifest == tmp_path / "out" / f"{split}.csv"
        rows = read_rows(manifest)
        assert rows and tuple(rows[0]) in (COLUMNS, COLUMNS + SEGMENT_COLUMNS)
        assert [row["ID"] for row in rows] == sorted(row["ID"] for row in rows)
        for row in rows:
            assert row["wrd"] and row["wrd"] == " ".join(row["wrd"].upper().split())
            assert Path(row["wav"]).is_absolute()
            length = soundfile.info(row["wav"]).duration
            if "start" in row:
                assert 0 <= float(row["start"]) < float(row["start"]) + float(row["duration"]) <= length
            else:
                assert float(row["duration"]) == length


def test_ids_are_unique_and_speakers_disjoint(example, tmp_path):
    corpus, folder, options = example
    rows = {split: read_rows(path) for split, path in prepare(corpus, folder, tmp_path / "out", **options).items()}
    ids = [row["ID"] for split in rows.values() for row in split]
    assert len(ids) == len(set(ids))
    wavs = [row["wav"] for split in rows.values() for row in split]
    assert len(set(wavs)) == len(audio_files(folder))
    assert "start" in next(iter(rows.values()))[0] or len(wavs) == len(set(wavs))
    speakers = [{row["spk_id"] for row in split} for split in rows.values()]
    assert sum(map(len, speakers)) == len(set().union(*speakers))


def test_same_bytes_everywhere(example, tmp_path):
    corpus, folder, options = example
    prepare(corpus, folder, tmp_path / "one", **options)
    prepare(corpus, folder, tmp_path / "two", **options)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_second_run_changes_nothing_and_opens_no_audio(example, tmp_path, monkeypatch):
    corpus, folder, options = example
    manifests = prepare(corpus, folder, tmp_path / "out", **options)
    before = contents(tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr("biglittle_asr.corpora.checks.inspect_audio", lambda path, _: pytest.fail(f"opened {path}"))
        assert prepare(corpus, folder, tmp_path / "out", **options) == manifests
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("ID\n")])
def test_damaged_manifest_is_written_again(example, tmp_path, damage):
    corpus, folder, options = example
    manifests = prepare(corpus, folder, tmp_path / "out", **options)
    before = contents(tmp_path / "out")
    damage(manifests[min(manifests)])
    prepare(corpus, folder, tmp_path / "out", **options)
    assert contents(tmp_path / "out") == before


def test_parent_folder_will_do(tmp_path):
    for corpus, folder_name in (("an4", "an4"), ("librispeech", "LibriSpeech"), ("speechocean762", "speechocean762")):
        make, options = EXAMPLES[corpus]
        folder = make(tmp_path / corpus / folder_name)
        direct = prepare(corpus, folder, tmp_path / "out" / corpus, **options)
        nested = prepare(corpus, folder.parent, tmp_path / "nested" / corpus, **options)
        assert [path.read_bytes() for path in direct.values()] == [path.read_bytes() for path in nested.values()]


def test_missing_folder(example, tmp_path):
    corpus, _, _ = example
    with pytest.raises(FileNotFoundError) as error:
        prepare(corpus, tmp_path / "nowhere", tmp_path / "out")
    assert str(tmp_path / "nowhere") in one_sentence(error)


def test_wrong_folder(example, tmp_path):
    corpus, _, _ = example
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError) as error:
        prepare(corpus, tmp_path / "empty", tmp_path / "out")
    assert str(tmp_path / "empty") in one_sentence(error)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["missing", "unreadable", "silent"])
def test_faults_are_left_out_of_training_and_counted_elsewhere(example, tmp_path, fault, caplog):
    corpus, folder, options = example
    if fault == "missing" and "names" in options:
        pytest.skip("nothing but its audio says that an utterance of a pair is there")
    before = {split: read_rows(path) for split, path in prepare(corpus, folder, tmp_path / "out", **options).items()}
    files = {Path(rows[1]["wav"]): Path(rows[1]["wav"]).read_bytes() for rows in before.values()}
    broken = {split: {row["ID"] for row in rows if Path(row["wav"]) in files} for split, rows in before.items()}
    for path in files:
        if fault == "silent":
            samples, rate = soundfile.read(path)
            soundfile.write(path, 0 * samples, rate, format="WAV")
        else:
            break_audio(path, fault)
    caplog.clear()
    after = {split: read_rows(path) for split, path in prepare(corpus, folder, tmp_path / "out", **options).items()}
    report = read_rows(tmp_path / "out" / "report.csv")
    assert {(row["split"], row["ID"], row["fault"]) for row in report} == {
        (split, name, fault) for split, names in broken.items() for name in names
    }
    counts = {LEFT_OUT: 0, KEPT: 0}
    for row in report:
        assert row["action"] == (LEFT_OUT if row["split"].startswith("train") else KEPT)
        counts[row["action"]] += 1
    for split, rows in after.items():
        lost = broken[split] if split.startswith("train") else set()
        assert {row["ID"] for row in rows} == {row["ID"] for row in before[split]} - lost
    total = sum(map(len, before.values()))
    if counts[LEFT_OUT]:
        summary = f"{counts[LEFT_OUT]} of {total} utterances are left out of training ({counts[LEFT_OUT]} {fault})"
        assert summary in caplog.text
    assert f"{counts[KEPT]} are kept with a fault ({counts[KEPT]} {fault})" in caplog.text
    with pytest.raises(ValueError, match=f"{len(report)} of .* utterances are faulty, such as .*{fault}") as error:
        prepare(corpus, folder, tmp_path / "out", strict=True, **options)
    assert "report.csv" in one_sentence(error)
    # What is mended is there again.
    for path, content in files.items():
        path.write_bytes(content)
    caplog.clear()
    mended = prepare(corpus, folder, tmp_path / "out", strict=True, **options)
    assert {split: len(read_rows(path)) for split, path in mended.items()} == {k: len(v) for k, v in before.items()}
    assert not [record for record in caplog.records if record.name.endswith(".manifest")]


def test_a_corpus_that_is_mostly_faulty_is_refused(example, tmp_path):
    corpus, folder, options = example
    if "names" in options:
        pytest.skip("nothing but its audio says that an utterance of a pair is there")
    audio = audio_files(folder)
    # A test set alone is refused only if nothing of it is there.
    for path in audio if corpus == "hub5" else audio[: -len(audio) // 8]:
        path.unlink()
    refusal = "are faulty, such as .*missing: no such file.*check the data folder|a disc is missing|holds no recordings"
    with pytest.raises((ValueError, FileNotFoundError), match=refusal) as error:
        prepare(corpus, folder, tmp_path / "out", **options)
    one_sentence(error)
    assert not list((tmp_path / "out").glob("train*.csv"))


def test_unknown_option(example, tmp_path):
    corpus, folder, _ = example
    with pytest.raises(ValueError, match="unknown option of corpus .* 'colour'"):
        prepare(corpus, folder, tmp_path / "out", colour="red")


# AN4


def test_an4_reads_words_and_marks(tiny_an4, tmp_path):
    rows = read_rows(prepare("an4", tiny_an4, tmp_path / "out", dev_utterances=7)["test"])
    assert [row["wrd"] for row in rows if row["spk_id"] == "fcaw"] == ["YES", "RUBOUT G M", "ENTER TWO"]


def test_an4_dev_is_whole_speakers_of_both_sexes(tiny_an4, tmp_path):
    manifests = prepare("an4", tiny_an4, tmp_path / "out", dev_utterances=7)
    assert len(read_rows(manifests["train"])) == 27
    dev = read_rows(manifests["dev"])
    assert len(dev) == 9
    assert sorted({row["spk_id"][0] for row in dev}) == ["f", "m"]


@pytest.mark.parametrize("dev_utterances, left", [(36, "no train"), (1000, "no train"), (0, "no dev")])
def test_an4_impossible_dev(tiny_an4, tmp_path, dev_utterances, left):
    with pytest.raises(ValueError) as error:
        prepare("an4", tiny_an4, tmp_path / "out", dev_utterances=dev_utterances)
    assert left in one_sentence(error) and "dev_utterances" in str(error.value)


@pytest.mark.parametrize(
    "name, line, replacement, place",
    [
        ("an4_train.transcription", 3, "", "an4_train.fileids:3"),
        ("an4_train.fileids", 3, "", "an4_train.transcription:3"),
        ("an4_train.transcription", 2, "RUBOUT G M", "an4_train.transcription:2"),
        ("an4_train.transcription", 2, "YES (an0-fash-b)", "an4_train.transcription:2"),
        ("an4_test.fileids", 1, "an0-fcaw-b", "an4_test.fileids:1"),
        ("an4_test.fileids", 2, "s/fcaw/an1-fcaw-b\ns/fcaw/an1-fcaw-b", "an4_test.fileids:3"),
    ],
)
def test_an4_lists_that_disagree(tiny_an4, tmp_path, name, line, replacement, place):
    path = tiny_an4 / "etc" / name
    lines = path.read_text().splitlines()
    lines[line - 1] = replacement
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError) as error:
        prepare("an4", tiny_an4, tmp_path / "out", dev_utterances=7)
    assert place in one_sentence(error)


@pytest.mark.parametrize("name", ["an4_train.fileids", "an4_test.transcription"])
def test_an4_missing_list(tiny_an4, tmp_path, name):
    (tiny_an4 / "etc" / name).unlink()
    with pytest.raises(FileNotFoundError) as error:
        prepare("an4", tiny_an4, tmp_path / "out", dev_utterances=7)
    assert name in one_sentence(error)


def test_report_lists_exactly_the_faults_of_every_kind(tiny_an4, tmp_path):
    before = read_rows(prepare("an4", tiny_an4, tmp_path / "out", dev_utterances=7)["train"])
    broken = {row["ID"]: fault for row, fault in zip(before, FILE_FAULTS, strict=False)}
    assert set(broken.values()) == set(FILE_FAULTS)
    break_an4(tiny_an4, broken)
    # The last fault is no reason to leave out, the others are: about half of this small corpus.
    after = read_rows(prepare("an4", tiny_an4, tmp_path / "out", dev_utterances=7)["train"])
    report = read_rows(tmp_path / "out" / "report.csv")
    assert tuple(report[0]) == REPORT_COLUMNS
    assert {row["ID"]: row["fault"] for row in report} == broken and len(report) == len(broken)
    assert {row["ID"] for row in after} == {row["ID"] for row in before} - {
        name for name, fault in broken.items() if FAULTS[fault]
    }
    assert all((row["action"] == LEFT_OUT) == FAULTS[row["fault"]] for row in report)


def test_expected_sample_rate_decides_over_the_most_common_one(tiny_an4, tmp_path):
    with pytest.raises(ValueError, match="16000 Hz where 8000 is expected"):
        prepare("an4", tiny_an4, tmp_path / "out", dev_utterances=7, sample_rate=8000)


def test_real_an4(an4_folder, tmp_path):
    rows = {split: read_rows(path) for split, path in prepare("an4", an4_folder, tmp_path / "out").items()}
    assert len(rows["train"]) + len(rows["dev"]) == 948
    assert 90 <= len(rows["dev"]) <= 115
    assert len(rows["test"]) == 130
    assert sum(len(row["wrd"].split()) for row in rows["test"]) == 773
    minutes = {split: sum(float(row["duration"]) for row in of_split) / 60 for split, of_split in rows.items()}
    assert minutes["train"] + minutes["dev"] == pytest.approx(42.44, abs=0.01)
    assert minutes["test"] == pytest.approx(5.95, abs=0.01)
    speakers = {split: {row["spk_id"] for row in of_split} for split, of_split in rows.items()}
    assert len(speakers["train"]) + len(speakers["dev"]) == 74 and len(speakers["test"]) == 10
    assert not speakers["train"] & speakers["dev"] and not speakers["test"] & (speakers["train"] | speakers["dev"])
    assert ("mdcs" in speakers["dev"]) == ("mdcs2" in speakers["dev"])
    assert not read_rows(tmp_path / "out" / "report.csv")


# LibriSpeech


def test_librispeech_takes_the_splits_that_are_there_or_asked_for(tiny_librispeech, tmp_path):
    everything = prepare("librispeech", tiny_librispeech, tmp_path / "all")
    assert sorted(everything) == ["dev-clean", "test-clean", "train-clean-100"]
    assert list(prepare("librispeech", tiny_librispeech, tmp_path / "one", splits=["test-clean"])) == ["test-clean"]
    with pytest.raises(FileNotFoundError, match="no split 'dev-other'"):
        prepare("librispeech", tiny_librispeech, tmp_path / "none", splits=["dev-other"])


def test_librispeech_speaker_is_the_reader(tiny_librispeech, tmp_path):
    rows = read_rows(prepare("librispeech", tiny_librispeech, tmp_path / "out")["test-clean"])
    assert [row["spk_id"] for row in rows] == ["11"] * 3 + ["12"] * 3
    assert rows[1]["wrd"] == "STEW FOR DINNER TURNIPS"


def test_librispeech_audio_without_transcript(tiny_librispeech, tmp_path):
    soundfile.write(tiny_librispeech / "dev-clean" / "1" / "77" / "1-77-0009.flac", tone(100), SAMPLE_RATE)
    with pytest.raises(ValueError) as error:
        prepare("librispeech", tiny_librispeech, tmp_path / "out")
    assert "1-77.trans.txt" in one_sentence(error) and "1-77-0009.flac" in str(error.value)


def test_librispeech_audio_in_a_chapter_without_transcripts(tiny_librispeech, tmp_path):
    (tiny_librispeech / "dev-clean" / "1" / "77" / "1-77.trans.txt").unlink()
    with pytest.raises(ValueError, match="1/77: has audio, such as 1-77-0000.flac, but no transcripts") as error:
        prepare("librispeech", tiny_librispeech, tmp_path / "out")
    one_sentence(error)


def test_librispeech_says_what_is_missing_of_a_split(tiny_librispeech, tmp_path, caplog):
    lines = [";ID |READER|MINUTES| SUBSET |", "77 | 11 | 1.0 | test-clean | 1", "78 | 11 | 2.0 | test-clean | 1"]
    (tiny_librispeech / "CHAPTERS.TXT").write_text("\n".join(lines))
    (tiny_librispeech / "test-clean" / "12" / "77" / "12-77-0001.flac").unlink()
    prepare("librispeech", tiny_librispeech, tmp_path / "out", splits=["test-clean"])
    told = caplog.records[0].getMessage()
    assert (
        "test-clean: holds 5 of 2620 utterances (1 chapters that CHAPTERS.TXT lists are missing, such as 11/78; "
        in told
    )
    assert "1 transcripts have no audio, such as" in told and "12-77.trans.txt:2" in told and "\n" not in told
    with pytest.raises(ValueError, match="holds 5 of 2620 utterances .*; unpack the archive again") as error:
        prepare("librispeech", tiny_librispeech, tmp_path / "out", splits=["test-clean"], complete=True)
    one_sentence(error)
    # A corpus that is only laid out like it has no such counts.
    (tiny_librispeech / "dev-clean").rename(tiny_librispeech / "dev")
    caplog.clear()
    prepare("librispeech", tiny_librispeech, tmp_path / "like", splits=["dev"], complete=True)
    assert not caplog.records


def test_librispeech_splits_that_are_read_together(tiny_librispeech, tmp_path):
    shutil.copytree(tiny_librispeech / "dev-clean", tiny_librispeech / "train-clean-360")
    for path in sorted((tiny_librispeech / "train-clean-360").rglob("*"), reverse=True):
        if path.suffix == ".txt":
            path.write_text(re.sub(r"^(\d+-)", r"9\1", path.read_text(), flags=re.MULTILINE))
        path.rename(path.parent / (path.name if path.name == "77" else f"9{path.name}"))
    rows = read_rows(prepare("librispeech", tiny_librispeech, tmp_path / "out", splits=["train-460"])["train-460"])
    assert {row["spk_id"] for row in rows} == {"21", "22", "91", "92"} and len(rows) == 12
    with pytest.raises(FileNotFoundError, match="no split 'train-other-500'"):
        prepare("librispeech", tiny_librispeech, tmp_path / "out", splits=["train-960"])


def test_librispeech_takes_a_part_of_training_only(tiny_librispeech, tmp_path):
    sizes = {}
    for count in (2, 4):
        manifests = prepare("librispeech", tiny_librispeech, tmp_path / str(count), train_utterances=count)
        sizes[count] = {split: {row["ID"] for row in read_rows(path)} for split, path in manifests.items()}
        assert {split: len(ids) for split, ids in sizes[count].items()} == {
            "dev-clean": 6,
            "test-clean": 6,
            "train-clean-100": count,
        }
    assert sizes[2]["train-clean-100"] < sizes[4]["train-clean-100"]


def test_real_librispeech(tmp_path, caplog):
    folder = Path(os.environ.get("BIGLITTLE_LIBRISPEECH", REPOSITORY.parent / "shared" / "data" / "LibriSpeech"))
    if not (folder / "test-clean").is_dir():
        pytest.skip(f"no LibriSpeech in {folder}; set BIGLITTLE_LIBRISPEECH")
    rows = read_rows(prepare("librispeech", folder, tmp_path / "out", splits=["test-clean"])["test-clean"])
    assert rows and not read_rows(tmp_path / "out" / "report.csv")
    assert len(rows) == COUNTS["test-clean"] or f"holds {len(rows)} of 2620 utterances" in caplog.text


def test_librispeech_line_without_words(tiny_librispeech, tmp_path):
    (tiny_librispeech / "dev-clean" / "1" / "77" / "1-77.trans.txt").write_text("1-77-0000 YES\n1-77-0001\n1-77-0002 A")
    prepare("librispeech", tiny_librispeech, tmp_path / "out")
    (row,) = read_rows(tmp_path / "out" / "report.csv")
    assert (row["ID"], row["fault"], row["action"]) == ("1-77-0001", "no_words", KEPT)


# speechocean762


def test_speechocean762_dev_is_half_children_and_half_female(tiny_speechocean762, tmp_path):
    ages, genders = (
        dict(line.split() for line in (tiny_speechocean762 / "train" / name).open())
        for name in ("spk2age", "spk2gender")
    )
    for count in (2, 4, 6):
        manifests = prepare("speechocean762", tiny_speechocean762, tmp_path / str(count), dev_speakers=count)
        speakers = {row["spk_id"] for row in read_rows(manifests["dev"])}
        assert len(speakers) == count and len(read_rows(manifests["train"])) == 3 * (8 - count)
        assert sum(int(ages[speaker]) < 16 for speaker in speakers) == count / 2
        assert sum(genders[speaker] == "f" for speaker in speakers) == count / 2
    for count, left in ((0, "no dev"), (8, "no train"), (100, "no train")):
        with pytest.raises(ValueError, match=f"dev_speakers: {count} of the 8 .* leave {left}") as error:
            prepare("speechocean762", tiny_speechocean762, tmp_path / "out", dev_speakers=count)
        one_sentence(error)


def test_speechocean762_says_what_is_missing(tiny_speechocean762, tmp_path, caplog):
    next(tiny_speechocean762.rglob("000900001.WAV")).unlink()
    prepare("speechocean762", tiny_speechocean762, tmp_path / "out", dev_speakers=4)
    train, test = (record.getMessage() for record in caplog.records[:2])
    assert "train: holds 24 of 2500 utterances (" in train and "train/text has 24 lines)" in train
    assert "test: holds 11 of 2500 utterances (" in test and "no audio for 1 of its transcripts, such as" in test
    assert "test/text:2" in test and "\n" not in test
    with pytest.raises(ValueError, match="holds 24 of 2500 .*; clone the repository again") as error:
        prepare("speechocean762", tiny_speechocean762, tmp_path / "no", dev_speakers=4, complete=True)
    one_sentence(error)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["text", "wav.scp", "utt2spk", "spk2age", "spk2gender"])
@pytest.mark.parametrize("damage", ["gone", "short", "twice", "empty"])
def test_speechocean762_lists_that_disagree(tiny_speechocean762, tmp_path, name, damage):
    path = tiny_speechocean762 / "train" / name
    first, *others = path.read_text().splitlines(keepends=True)
    place = f"{path}:{len(others) + 2}" if damage == "twice" else str(path)
    if damage == "gone":
        path.unlink()
    elif damage == "empty":
        path.write_text("".join([f"{first.split()[0]}\n", *others]))
    else:
        path.write_text("".join(others if damage == "short" else [first, *others, first]))
    if (name, damage) == ("text", "empty"):
        prepare("speechocean762", tiny_speechocean762, tmp_path / "out", dev_speakers=4)
        (row,) = read_rows(tmp_path / "out" / "report.csv")
        assert (row["ID"], row["fault"]) == (first.split()[0], "no_words")
        return
    with pytest.raises((ValueError, FileNotFoundError), match="restore|data folder") as error:
        prepare("speechocean762", tiny_speechocean762, tmp_path / "out", dev_speakers=4)
    message = one_sentence(error)
    assert place in message and (damage == "gone" or first.split()[0] in message)


@pytest.mark.parametrize(
    "name, wrong, message",
    [
        ("spk2age", "0003\tsix\n", "spk2age:3: 'six' is no age in years"),
        ("spk2gender", "0003\tx\n", "spk2gender:3: 'x' is neither f nor m"),
    ],
)
def test_speechocean762_impossible_ages_and_genders(tiny_speechocean762, tmp_path, name, wrong, message):
    path = tiny_speechocean762 / "train" / name
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], wrong, *lines[3:]]))
    with pytest.raises(ValueError, match=message) as error:
        prepare("speechocean762", tiny_speechocean762, tmp_path / "out", dev_speakers=4)
    one_sentence(error)


def test_speechocean762_speaker_of_both_sets(tiny_speechocean762, tmp_path):
    path = tiny_speechocean762 / "test" / "utt2spk"
    path.write_text(path.read_text().replace(" 0009", " 0001"))
    with pytest.raises(ValueError, match="test/text:1: speaker 0001 is also in train") as error:
        prepare("speechocean762", tiny_speechocean762, tmp_path / "out", dev_speakers=4)
    one_sentence(error)


def test_speechocean762_lexicon(tiny_speechocean762, tmp_path, caplog):
    prepare("speechocean762", tiny_speechocean762, tmp_path / "out", dev_speakers=4)
    lines = (tmp_path / "out" / "lexicon.txt").read_text().splitlines()
    assert [line for line in lines if line.startswith(("A ", "ZOOS "))] == ["A AH", "A EY", "ZOOS Z UW Z"]
    lexicon = tiny_speechocean762 / "resource" / "lexicon.txt"
    lexicon.write_text("A\tAH0\nBEAR\n")
    with pytest.raises(ValueError, match="lexicon.txt:2: the word BEAR has no phones") as error:
        prepare("speechocean762", tiny_speechocean762, tmp_path / "bad", dev_speakers=4)
    one_sentence(error)
    lexicon.unlink()
    caplog.clear()
    prepare("speechocean762", tiny_speechocean762, tmp_path / "none", dev_speakers=4)
    assert not (tmp_path / "none" / "lexicon.txt").exists()
    assert f"{lexicon}: no such file; hybrid recipes need a lexicon" in caplog.text


def test_real_speechocean762(tmp_path, caplog):
    if not (SPEECHOCEAN762 / "train" / "text").is_file():
        pytest.skip(f"no speechocean762 in {SPEECHOCEAN762}; set BIGLITTLE_SPEECHOCEAN762")
    rows = {k: read_rows(path) for k, path in prepare("speechocean762", SPEECHOCEAN762, tmp_path / "out").items()}
    assert {split: len(of_split) for split, of_split in rows.items()} == {"train": 2260, "dev": 240, "test": 2500}
    speakers = {split: {row["spk_id"] for row in of_split} for split, of_split in rows.items()}
    assert {split: len(names) for split, names in speakers.items()} == {"train": 113, "dev": 12, "test": 125}
    hours = {split: sum(float(row["duration"]) for row in of_split) / 3600 for split, of_split in rows.items()}
    assert hours["train"] + hours["dev"] == pytest.approx(2.88, abs=0.005)
    assert hours["test"] == pytest.approx(2.69, abs=0.005)
    words = {split: [word for row in of_split for word in row["wrd"].split()] for split, of_split in rows.items()}
    assert (len(words["train"]) + len(words["dev"]), len(words["test"])) == (15849, 15967)
    assert sum(word not in {*words["train"], *words["dev"]} for word in words["test"]) == 916
    ages = dict(line.split() for line in (SPEECHOCEAN762 / "train" / "spk2age").open())
    genders = dict(line.split() for line in (SPEECHOCEAN762 / "train" / "spk2gender").open())
    dev = [(int(ages[speaker]) < 16, genders[speaker]) for speaker in speakers["dev"]]
    assert all(dev.count((child, gender)) == 3 for child in (True, False) for gender in "fm")
    lexicon = [line.split() for line in (tmp_path / "out" / "lexicon.txt").open()]
    assert len({line[0] for line in lexicon}) == 2604 and len({phone for line in lexicon for phone in line[1:]}) == 39
    assert not read_rows(tmp_path / "out" / "report.csv") and not caplog.records


# Registry


def test_unknown_corpus(tmp_path):
    names = ", ".join(list_corpora())
    with pytest.raises(ValueError, match=f"unknown corpus 'an5': did you mean 'an4'. known are {names}"):
        prepare("an5", tmp_path, tmp_path / "out")


# Audio


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_sphere_samples(tmp_path, byte_order):
    write_sphere(tmp_path / "a.sph", 321, byte_order)
    samples, sample_rate = read_audio(tmp_path / "a.sph")
    assert sample_rate == SAMPLE_RATE and samples.dtype == np.float32
    np.testing.assert_allclose(samples, tone(321), atol=1 / 32768)


def cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def test_bad_audio(tmp_path):
    soundfile.write(tmp_path / "stereo.wav", np.zeros((100, 2)), SAMPLE_RATE)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), SAMPLE_RATE)
    write_sphere(tmp_path / "half.sph", 8000)
    cut_in_half(tmp_path / "half.sph")
    soundfile.write(tmp_path / "half.wav", tone(8000), SAMPLE_RATE)
    cut_in_half(tmp_path / "half.wav")
    (tmp_path / "text.wav").write_text("no audio")
    for name, problem in (
        ("stereo.wav", "2 channels"),
        ("empty.wav", "no samples"),
        ("half.sph", "of the 8000 samples"),
        ("half.wav", "of the 16000 bytes"),
        ("text.wav", "not readable"),
    ):
        with pytest.raises(ValueError, match=problem) as error:
            read_audio(tmp_path / name)
        assert str(tmp_path / name) in one_sentence(error)
    with pytest.raises(FileNotFoundError, match="no such audio file"):
        read_audio(tmp_path / "missing.wav")


def test_cut_off_flac(tmp_path):
    noise = np.random.default_rng(0).standard_normal(SAMPLE_RATE) * 0.1
    soundfile.write(tmp_path / "half.flac", noise, SAMPLE_RATE)
    cut_in_half(tmp_path / "half.flac")
    with pytest.raises(ValueError) as error:
        read_audio(tmp_path / "half.flac")
    assert str(tmp_path / "half.flac") in one_sentence(error)


# Synthesis


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic corpus of 7 speakers."""
    return synthesize(tmp_path_factory.mktemp("synthetic") / "corpus", SMALL)


def test_synthesis_is_read_as_librispeech(synthetic, tmp_path):
    rows = {split: read_rows(path) for split, path in prepare("librispeech", synthetic, tmp_path / "out").items()}
    assert {split: len(of_split) for split, of_split in rows.items()} == {"dev": 6, "test": 6, "train": 12}
    vocabulary = {word for words in SLOTS.values() for word in words}
    vocabulary |= {word for template in TEMPLATES for word in template.split() if word.isupper()}
    for row in (row for of_split in rows.values() for row in of_split):
        assert set(row["wrd"].split()) <= vocabulary
        samples, sample_rate = read_audio(row["wav"])
        assert sample_rate == SAMPLE_RATE and 0.15 < np.abs(samples).max() < 0.95
        assert 0.3 < float(row["duration"]) < 5
    sentences = [{row["wrd"] for row in of_split} for of_split in rows.values()]
    assert sum(map(len, sentences)) == len(set().union(*sentences))


def test_synthesis_shares_no_voice_between_splits(synthetic):
    lines = (synthetic / "SPEAKERS.TXT").read_text().splitlines()[1:]
    voices: dict[str, set[str]] = {}
    for _, split, voice, _, _ in (line.split(" | ") for line in lines):
        voices.setdefault(split, set()).add(voice.partition("+")[2])
    assert sum(map(len, voices.values())) == len(set().union(*voices.values()))


def test_synthesis_makes_the_same_bytes(synthetic, tmp_path):
    assert contents(synthesize(tmp_path / "again", SMALL)) == contents(synthetic)


def test_synthesis_keeps_what_is_complete_and_mends_what_is_not(tmp_path, monkeypatch):
    recipe = Recipe(train_speakers=1, dev_speakers=1, test_speakers=1, utterances=1, held_out_utterances=1)
    corpus = synthesize(tmp_path / "corpus", recipe)
    before = contents(corpus)
    with monkeypatch.context() as patch:
        patch.setattr("biglittle_asr.corpora.synthesis.librispeech_like.Espeak", lambda: pytest.fail("spoke again"))
        synthesize(corpus, recipe)
    next(corpus.glob("train/*/*/*.flac")).unlink()
    synthesize(corpus, recipe)
    assert contents(corpus) == before
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_synthesis_refuses(tmp_path, monkeypatch):
    with pytest.raises(ValueError) as error:
        synthesize(tmp_path / "corpus", Recipe(dev_speakers=0))
    assert "dev" in one_sentence(error)
    with pytest.raises(ValueError) as error:
        synthesize(tmp_path / "corpus", Recipe(test_speakers=1000))
    assert "voices" in one_sentence(error)
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="not empty"):
        synthesize(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "precious"
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ImportError, match=r"pip install 'biglittle-asr\[demo\]'"):
        synthesize(tmp_path / "corpus")
