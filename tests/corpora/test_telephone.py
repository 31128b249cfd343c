"""Switchboard, Fisher and Hub5'00: marks to words, LDC's own lines, what the generator said, and bad input."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from biglittle_asr.audio.files import read_audio
from biglittle_asr.cli import main
from biglittle_asr.corpora import prepare
from biglittle_asr.corpora.telephone import fisher, hub5, switchboard
from biglittle_asr.corpora.telephone.synthesis import Sizes, synthesize_telephone
from biglittle_asr.corpora.telephone.synthesis import main as synthesize_main
from biglittle_asr.corpora.telephone.transcripts import (
    fisher_words,
    hub5_words,
    mend_stm,
    spelled_words,
    switchboard_words,
)
from biglittle_asr.corpora.utterance import Utterance
from support.corpora import make_telephone, telephone_corpora

READERS = {"switchboard": switchboard.read, "fisher": fisher.read, "hub5": hub5.read}
SPELLED = {"TV": ["T", "V"], "TV'S": ["T", "V'S"]}


def one_sentence(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert "\n" not in text and text.endswith("."), text
    return text


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# Words


@pytest.mark.parametrize("normalize", [switchboard_words, fisher_words, hub5_words])
@pytest.mark.parametrize("word", "SUMMER DUMMY THESE DIDN'T THEY'VE UH-HUH UM-HUM I'M HUH-UH UH HMM A AH-HAH".split())
def test_words_without_marks_are_left_alone(normalize, word) -> None:
    assert normalize(word) == normalize(word.lower()) == [word]


@pytest.mark.parametrize("normalize", [switchboard_words, fisher_words, hub5_words])
def test_any_word_without_marks_is_left_alone(normalize) -> None:
    generator = np.random.default_rng(3)
    letters = list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    for _ in range(500):
        first, second = ("".join(generator.choice(letters, generator.integers(1, 9))) for _ in range(2))
        word = first + str(generator.choice(["", "-", "'"])) + second
        assert normalize(word) == [word]


@pytest.mark.parametrize(
    "token, words",
    [
        ("[silence]", []),
        ("<b_aside>", []),
        ("<E_ASIDE>", []),
        ("<b_aside> wait <e_aside>", ["WAIT"]),
        ("<b_aside>wait<e_aside>", ["WAIT"]),
        ("[noise]", ["[NOISE]"]),
        ("[vocalized-noise]", ["[VOCALIZED-NOISE]"]),
        ("[laughter]", ["[LAUGHTER]"]),
        ("[laughter-story]", ["STORY"]),
        ("[LAUGHTER-WORD]", ["WORD"]),
        ("[laughter-uh-huh]", ["UH-HUH"]),
        ("[laughter-they've]", ["THEY'VE"]),
        ("[laughter-ab[solute]-]", ["AB-"]),
        ("-[laughter-y]", ["-Y"]),
        ("[it'n/isn't]", ["IT'N"]),
        ("[lem[guini]-/linguini]", ["LEM-"]),
        ("ex[specially]-/especially]", ["EX-"]),
        ("[laughter-[it'n/isn't]]", ["IT'N"]),
        ("ab[solute]-", ["AB-"]),
        ("PAR[TIAL]-", ["PAR-"]),
        ("par[tial]", ["PAR-"]),
        ("di[dn't]-", ["DI-"]),
        ("-[an]y", ["-Y"]),
        ("[an]y", ["-Y"]),
        ("ammu[n]it-", ["AMMU-IT-"]),
        ("[laughter]-", ["[LAUGHTER]"]),
        ("-[noise]", ["[NOISE]"]),
        ("[solute]-", []),
        ("{coinage}", ["COINAGE"]),
        ("{yuppiedom}", ["YUPPIEDOM"]),
        ("them_1", ["THEM"]),
        ("them_1's", ["THEM'S"]),
        ("tv", ["T", "V"]),
        ("tv's", ["T", "V'S"]),
        ("[laughter-tv]", ["T", "V"]),
    ],
)
def test_switchboard_marks(token, words) -> None:
    assert switchboard_words(token, SPELLED) == switchboard_words(token.upper(), SPELLED) == words
    # What stands around a mark changes nothing.
    assert switchboard_words(f"yes {token} no", SPELLED) == ["YES", *words, "NO"]


@pytest.mark.parametrize(
    "text, words",
    [
        ("((words))", ["WORDS"]),
        ("(( two words ))", ["TWO", "WORDS"]),
        ("(( ))", ["[UNINTELLIGIBLE]"]),
        ("(())", ["[UNINTELLIGIBLE]"]),
        ("[laugh]", ["[LAUGHTER]"]),
        ("[laughter]", ["[LAUGHTER]"]),
        ("[noise]", ["[NOISE]"]),
        ("[sigh]", ["[NOISE]"]),
        ("[lipsmack]", ["[NOISE]"]),
        ("an-", ["AN-"]),
        ("T. V.", ["T", "V"]),
        ("T. V.'s", ["T", "V'S"]),
        ("T._V.", ["T", "V"]),
        ("u.s.", ["U", "S"]),
        ("well, - right?", ["WELL", "RIGHT"]),
    ],
)
def test_fisher_marks(text, words) -> None:
    assert fisher_words(text) == words
    assert fisher_words(f"yes {text} no") == ["YES", *words, "NO"]


@pytest.mark.parametrize(
    "text, words",
    [
        ("{ IT'S / IT IS }", ["IT'S"]),
        ("{ @ / IT }", []),
        ("{ A { B / C } / D }", ["A", "B"]),
        ("(%HESITATION)", ["UH"]),
        ("((%HESITATION)", ["UH"]),
        ("(TH-)", ["TH-"]),
        ("<B_ASIDE> WAIT <E_ASIDE>", ["WAIT"]),
    ],
)
def test_hub5_marks(text, words) -> None:
    assert hub5_words(text) == words
    assert hub5_words(f"YES {text} NO") == ["YES", *words, "NO"]


def test_spelled_words_have_no_other_pronunciation() -> None:
    lexicon = [("t", "t iy"), ("v", "v iy"), ("u", "y uw"), ("s", "eh s"), ("o", "ow"), ("o", "aa"), ("k", "k ey")]
    lexicon += [("tv", "t iy v iy"), ("us", "ah s"), ("us", "y uw eh s"), ("ok", "ow k ey"), ("so", "s ow")]
    spelled = spelled_words((word, phones.split()) for word, phones in lexicon)
    assert spelled == {**SPELLED, "OK": ["O", "K"], "OK'S": ["O", "K'S"]}


# LDC's own lines (the words in them are made up)


def write_call(path: Path, seconds: float = 15.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = 0.1 * np.random.default_rng(0).standard_normal((round(8000 * seconds), 2))
    soundfile.write(path, noise, 8000, format="WAV")


def described(utterances: list[Utterance]) -> list[tuple[object, ...]]:
    return [(each.id, each.speaker, each.words, *each.segment) for each in utterances]


def write_switchboard(folder: Path) -> Path:
    transcripts = folder / "swb_ms98_transcriptions"
    (transcripts / "20" / "2001").mkdir(parents=True)
    (transcripts / "20" / "2001" / "sw2001A-ms98-a-trans.text").write_text(
        "sw2001A-ms98-a-0001 0.000000 0.977625 [silence]\n"
        "sw2001A-ms98-a-0002 0.977625 11.561375 hi um yeah i'd like to talk about how you dress [laughter-for] work "
        "and\n"
        "sw2001A-ms98-a-0003 11.561375 13.283250 [noise] uh-huh ab[solute]- them_1 {yuppiedom} [it'n/isn't] -[an]y "
        "<b_aside> wait <e_aside> [vocalized-noise]\n"
    )
    (transcripts / "20" / "2001" / "sw2001B-ms98-a-trans.text").write_text(
        "sw2001B-ms98-a-0001 0.000000 1.5 tv [laughter]\nsw2001B-ms98-a-0002 1.5 2.5 [noise]\n"
    )
    (transcripts / "sw-ms98-dict.text").write_text("# words\ntv t iy v iy\nt t iy\nv v iy\n")
    write_call(folder / "DISC1" / "SW02001.SPH")
    # Another conversation, so that there is something to split.
    (transcripts / "20" / "2005").mkdir(parents=True)
    for side in "AB":
        path = transcripts / "20" / "2005" / f"sw2005{side}-ms98-a-trans.text"
        path.write_text(f"sw2005{side}-ms98-a-0001 0.0 1.5 yes\n")
    write_call(folder / "DISC2" / "sw02005.sph")
    return folder


def test_lines_of_switchboard(tmp_path) -> None:
    splits = switchboard.read(write_switchboard(tmp_path / "swbd"), dev_conversations=1)
    assert {each.wav.name for each in splits["train"]} | {each.wav.name for each in splits["dev"]} == {
        "SW02001.SPH",
        "sw02005.sph",
    }
    (split,) = (each for each in splits.values() if each[0].wav.name == "SW02001.SPH")
    hi = "HI UM YEAH I'D LIKE TO TALK ABOUT HOW YOU DRESS FOR WORK AND"
    assert described(split) == [
        ("sw2001A-ms98-a-0002", "sw02001-A", hi, 1, 0.977625, 10.58375),
        ("sw2001A-ms98-a-0003", "sw02001-A", "UH-HUH AB- THEM YUPPIEDOM IT'N -Y WAIT", 1, 11.561375, 1.721875),
        ("sw2001B-ms98-a-0001", "sw02001-B", "T V", 2, 0.0, 1.5),
    ]
    assert split[1].source.endswith("sw2001A-ms98-a-trans.text:3")


def test_sounds_are_kept_as_words_of_their_own_where_asked_for(tmp_path) -> None:
    folder = write_switchboard(tmp_path / "swbd")
    splits = switchboard.read(folder, dev_conversations=1, keep_noises=True)
    words = {each.id: each.words for split in splits.values() for each in split}
    assert words["sw2001A-ms98-a-0003"] == "[NOISE] UH-HUH AB- THEM YUPPIEDOM IT'N -Y WAIT [VOCALIZED-NOISE]"
    assert words["sw2001B-ms98-a-0001"] == "T V [LAUGHTER]" and words["sw2001B-ms98-a-0002"] == "[NOISE]"
    assert "sw2001A-ms98-a-0001" not in words
    prepare("switchboard", folder, tmp_path / "out", strict=True, dev_conversations=1, keep_noises=True)
    assert not read_rows(tmp_path / "out" / "report.csv")


def test_lines_of_fisher(tmp_path) -> None:
    transcript = tmp_path / "fe_03_p1_tran" / "data" / "trans" / "000" / "fe_03_00001.txt"
    transcript.parent.mkdir(parents=True)
    transcript.write_text(
        "# fe_03_00001.sph\n# Transcribed at the LDC\n\n3.76 5.54 A: and i generally prefer\n"
        "7.38 8.78 B: an- so the topic is [laughter] ((holidays)) uh\n9.00 9.50 A: (( )) yes\n9.60 9.90 B: [sigh]\n"
    )
    write_call(tmp_path / "fe_03_p1_sph1" / "fe_03_00001.sph")
    assert described(fisher.read_all(tmp_path)) == [
        ("fe_03_00001-A-0002", "fe_03_00001-A", "AND I GENERALLY PREFER", 1, 3.76, 1.78),
        ("fe_03_00001-B-0003", "fe_03_00001-B", "AN- SO THE TOPIC IS HOLIDAYS UH", 2, 7.38, 1.4),
    ]
    kept = [each.words for each in fisher.read_all(tmp_path, keep_noises=True)]
    assert kept == ["AND I GENERALLY PREFER", "AN- SO THE TOPIC IS [LAUGHTER] HOLIDAYS UH", "[NOISE]"]


def test_the_lexicon_has_every_word_of_the_transcripts(tmp_path) -> None:
    folder = write_switchboard(tmp_path / "swbd")
    assert switchboard.extra_files(folder) == {"lexicon.txt": "T t iy\nV v iy\n"}
    prepare("switchboard", telephone_corpora() / "switchboard", tmp_path / "out", dev_conversations=1)
    lexicon = {line.split()[0] for line in (tmp_path / "out" / "lexicon.txt").read_text().splitlines()}
    words = {
        word
        for name in ("train", "dev")
        for row in read_rows(tmp_path / "out" / f"{name}.csv")
        for word in row["wrd"].split()
    }
    assert words <= lexicon and any(word.endswith("-") for word in lexicon)


def test_the_slip_of_fisher_is_mended(tmp_path) -> None:
    for call in ("fe_03_11487", "fe_03_11488"):
        (tmp_path / f"{call}.txt").write_text(f"# {call}.sph\n\n31.09 234.06 A: yes\n31.09 32.00 B: no\n")
        write_call(tmp_path / f"{call}.sph", 0.1)
    times = {each.id: (each.segment.start, each.segment.duration) for each in fisher.read_all(tmp_path)}
    assert times["fe_03_11487-A-0001"] == (231.09, 2.97)
    assert times["fe_03_11487-B-0002"] == (31.09, 0.91)
    assert times["fe_03_11488-A-0001"] == (31.09, 202.97)


def test_lines_of_hub5(tmp_path) -> None:
    stm = tmp_path / "reference" / "hub5e00.english.000405.stm"
    stm.parent.mkdir()
    lines = [
        ";; a comment",
        "en_4156 A en_4156_A 357.64 359.64 <O,en,F,en-F>  HE IS A POLICE OFFICER",
        "sw_4390 B sw_4390_B 10.01 12.30 <O,sw,M,sw-M> (%HESITATION) YEAH { IT'S / IT IS } TRUE",
        "en_4156 B en_4156_B 12.30 13.00 <O,en,F,en-F> IGNORE_TIME_SEGMENT_IN_SCORING",
        "en_4156 B en_4156_B 13.30 14.00 <O,en,F,en-F> ((%HESITATION) <B_ASIDE> WAIT <E_ASIDE>",
    ]
    stm.write_text("\n".join(lines) + "\n")
    (stm.parent / "en20000405_hub5.glm").write_text("[UM] => [(%HESITATION)] / [ ] __ [ ]\n")
    for name in ("en_4156", "sw_4390"):
        write_call(tmp_path / "hub5e_00" / "english" / f"{name}.sph", 0.1)
    assert described(hub5.read(tmp_path)["test"]) == [
        ("en_4156-A-035764-035964", "en_4156-A", "HE IS A POLICE OFFICER", 1, 357.64, 2.0),
        ("en_4156-B-001330-001400", "en_4156-B", "UH WAIT", 2, 13.3, 0.7),
        ("sw_4390-B-001001-001230", "sw_4390-B", "UH YEAH IT'S TRUE", 2, 10.01, 2.29),
    ]
    lines[-1] = "en_4156 B en_4156_B 13.30 14.00 <O,en,F,en-F> (%HESITATION) WAIT "
    assert hub5.extra_files(tmp_path) == {
        "test.stm": "\n".join(lines) + "\n",
        "test.glm": "[UM] => [(%HESITATION)] / [ ] __ [ ]\n",
    }


# What the generator said


@pytest.mark.parametrize("corpus", READERS)
def test_the_reader_finds_what_was_said(corpus) -> None:
    folder = telephone_corpora()
    splits = (
        READERS[corpus](folder / corpus) if corpus == "hub5" else READERS[corpus](folder / corpus, dev_conversations=1)
    )
    found = {
        (each.wav.stem, "AB"[each.segment.channel - 1], f"{each.segment.start:.2f}"): (
            each.words.replace("UH ", ""),
            f"{each.segment.start + each.segment.duration:.2f}",
        )
        for split in splits.values()
        for each in split
    }
    recordings = {path.stem for path in (folder / corpus).rglob("*.sph")}
    assert found == {
        (row["recording"], row["side"], row["start"]): (row["words"], row["stop"])
        for row in read_rows(folder / "said.csv")
        if row["recording"] in recordings
    }
    for utterance in (each for split in splits.values() for each in split):
        samples, rate = read_audio(utterance.wav, utterance.segment)
        assert rate == 8000 and 0.15 < np.abs(samples).max() < 0.7
        # The margins around the words are quiet, which they would not be in the other channel.
        assert np.abs(samples[:400]).max() < 0.05 and np.abs(samples[-400:]).max() < 0.05


@pytest.mark.parametrize("corpus", ["switchboard", "fisher"])
def test_conversations_never_straddle_train_and_dev(corpus) -> None:
    folder = telephone_corpora() / corpus
    conversations = {path.stem for path in folder.rglob("*.sph")}
    smaller: set[str] = set()
    for number in range(1, len(conversations)):
        splits = READERS[corpus](folder, dev_conversations=number)
        train, dev = ({each.wav.stem for each in splits[name]} for name in ("train", "dev"))
        assert not train & dev and train | dev == conversations and len(dev) == number
        assert {each.speaker[-1] for each in splits["dev"]} == {"A", "B"}
        assert smaller < dev
        smaller = dev
    for number, left in ((0, "dev"), (len(conversations), "train")):
        with pytest.raises(ValueError, match=f"dev_conversations: {number} of .* leave no {left} set") as error:
            READERS[corpus](folder, dev_conversations=number)
        one_sentence(error)


def test_everything_together(tmp_path) -> None:
    folder = telephone_corpora()
    options = {"fisher_folder": str(folder / "fisher"), "hub5_folder": str(folder / "hub5"), "dev_conversations": 2}
    manifests = prepare("switchboard", folder / "switchboard", tmp_path / "all", strict=True, **options)
    rows = {split: read_rows(path) for split, path in manifests.items()}
    recordings = {split: {Path(row["wav"]).stem for row in of_split} for split, of_split in rows.items()}
    assert [len(recordings[split]) for split in ("train", "dev", "test")] == [8, 2, 4]
    assert not recordings["train"] & recordings["dev"]
    assert {name[:3] for name in recordings["train"]} == {"sw0", "fe_"}
    assert {name[:3] for name in recordings["test"]} == {"sw_", "en_"}
    stm, glm = (tmp_path / "all" / name for name in ("test.stm", "test.glm"))
    assert "ASIDE" not in stm.read_text() and "((" not in stm.read_text()
    raw = next(folder.rglob("*.stm")).read_text()
    assert "ASIDE" in raw and "((" in raw and stm.read_text() == mend_stm(raw)
    assert glm.read_bytes() == next(folder.rglob("*.glm")).read_bytes()
    alone = prepare("hub5", folder / "hub5", tmp_path / "hub5")
    assert alone["test"].read_bytes() == manifests["test"].read_bytes()
    assert (tmp_path / "hub5" / "test.stm").read_bytes() == stm.read_bytes()


def test_linked_discs_are_followed_and_loops_are_not(tmp_path) -> None:
    folder = telephone_corpora() / "fisher"
    for part in folder.iterdir():
        (tmp_path / part.name).symlink_to(part)
    (tmp_path / "again").symlink_to(tmp_path)
    assert [each.id for each in fisher.read_all(tmp_path)] == [each.id for each in fisher.read_all(folder)]


# Bad input


@pytest.fixture(params=READERS)
def corpus(request, tmp_path) -> tuple[str, Path]:
    return request.param, make_telephone(request.param, tmp_path / "corpus")


def test_missing_recordings(corpus, tmp_path) -> None:
    name, folder = corpus
    recordings = sorted(folder.rglob("*.sph"))
    for path in recordings[:4]:
        path.unlink()
    with pytest.raises(FileNotFoundError) as error:
        prepare(name, folder, tmp_path / "out")
    text = one_sentence(error)
    if len(recordings) > 4:
        assert f"4 of {len(recordings)} conversations with transcripts have no recording, such as" in text
        assert recordings[0].stem in text and "a disc is missing; put all of LDC" in text
    else:
        assert "holds no recordings" in text and "give the folder that holds LDC" in text


@pytest.mark.parametrize(
    "name, pattern, problem",
    [
        ("switchboard", "*-trans.text", "holds no transcripts of Switchboard"),
        ("switchboard", "sw200[1-4]*-trans.text", "4 of 6 conversations with recordings have no transcript"),
        ("fisher", "*.txt", "holds no transcripts of Fisher"),
        ("hub5", "*.stm", "holds no references"),
        ("hub5", "*.glm", "holds no mapping of spellings"),
    ],
)
def test_missing_transcripts(name, pattern, problem, tmp_path) -> None:
    folder = make_telephone(name, tmp_path / "corpus")
    for path in folder.rglob(pattern):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=problem) as error:
        prepare(name, folder, tmp_path / "out")
    assert str(folder) in one_sentence(error)


@pytest.mark.parametrize("side", "AB")
def test_a_side_without_transcript(side, tmp_path) -> None:
    folder = make_telephone("switchboard", tmp_path / "corpus")
    transcript = next(folder.rglob(f"sw2003{side}-ms98-a-trans.text"))
    transcript.unlink()
    with pytest.raises(FileNotFoundError, match=f"has no transcript of side {side} of sw2003; restore") as error:
        prepare("switchboard", folder, tmp_path / "out", dev_conversations=1)
    assert one_sentence(error).startswith(str(transcript.parent))


@pytest.mark.parametrize(
    "name, file, line, text, problem",
    [
        ("switchboard", "sw2002B-ms98-a-trans.text", 2, "sw2002B-ms98-a-0002 0.5 hello", "is not a segment"),
        ("switchboard", "sw2002B-ms98-a-trans.text", 2, "sw2002B-ms98-a-0002 0.5 x1.0 hello", "is not a segment"),
        ("switchboard", "sw2002B-ms98-a-trans.text", 3, "hello", "is not a segment"),
        ("switchboard", "sw2002B-ms98-a-trans.text", 1, "sw2002A-ms98-a-0002 0.5 1.0 hi", "no segment of sw2002B"),
        ("fisher", "fe_03_00002.txt", 4, "0.5 A: hello", "is not start and end"),
        ("fisher", "fe_03_00002.txt", 4, "0.5 1.0 C: hello", "is not start and end"),
        ("fisher", "fe_03_00002.txt", 4, "0.5 1.0 A hello", "is not start and end"),
        ("fisher", "fe_03_00002.txt", 1, "# fe_03_00001.sph", "is the transcript of fe_03_00001, not of fe_03_00002"),
        ("hub5", "hub5e00.english.000405.stm", 5, "en_4156 A en_4156_A 0.5", "is not a recording"),
        ("hub5", "hub5e00.english.000405.stm", 5, "en_4156 A en_4156_A zero 1.0 <O> HI", "is not a recording"),
        ("hub5", "hub5e00.english.000405.stm", 5, "en_4156 C en_4156_C 0.5 1.0 <O> HI", "channel C is neither A nor B"),
    ],
)
def test_malformed_lines(name, file, line, text, problem, tmp_path) -> None:
    folder = make_telephone(name, tmp_path / "corpus")
    (path,) = folder.rglob(file)
    lines = path.read_text().split("\n")
    lines[line - 1] = text
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=problem) as error:
        prepare(name, folder, tmp_path / "out")
    assert one_sentence(error).startswith(f"{path}:{line}: ")


def test_a_channel_that_is_not_there(corpus, tmp_path) -> None:
    name, folder = corpus
    path = sorted(folder.rglob("*.sph"))[0]
    samples, rate = soundfile.read(path)
    soundfile.write(path, samples[:, 0], rate, format="WAV")
    options = {} if name == "hub5" else {"dev_conversations": 1}
    prepare(name, folder, tmp_path / "out", **options)
    report = read_rows(tmp_path / "out" / "report.csv")
    assert len(report) == 4 and {row["file"] for row in report} == {str(path)}
    assert {row["fault"] for row in report} == {"channels"}
    assert all(row["value"].startswith("has no channel 2, but 1 in all") for row in report)


def test_times_outside_of_the_file(corpus, tmp_path) -> None:
    name, folder = corpus
    path = sorted(folder.rglob("*.sph"))[0]
    samples, rate = soundfile.read(path)
    soundfile.write(path, samples[: 3 * rate], rate, format="WAV")
    options = {} if name == "hub5" else {"dev_conversations": 1}
    prepare(name, folder, tmp_path / "out", **options)
    report = [row for row in read_rows(tmp_path / "out" / "report.csv") if row["fault"] != "no_words"]
    assert report and {row["fault"] for row in report} == {"times"}
    assert all("lasts 3.00 s and has no segment from" in row["value"] for row in report)


def test_two_copies_of_a_recording(corpus, tmp_path) -> None:
    name, folder = corpus
    path = sorted(folder.rglob("*.sph"))[0]
    (folder / "copy").mkdir()
    shutil.copy(path, folder / "copy")
    with pytest.raises(ValueError, match=f"{path.name}: is also at .*; remove one of the two") as error:
        prepare(name, folder, tmp_path / "out")
    one_sentence(error)


def test_command_line(tmp_path, capsys) -> None:
    folder = make_telephone("hub5", tmp_path / "corpus")
    assert main(["prepare", "hub5", str(folder), str(tmp_path / "out")]) == 0
    assert "test" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "test.csv",
        "test.stm",
        "test.glm",
        "report.csv",
        "prepared.json",
    }
    arguments = ["prepare", "switchboard", str(telephone_corpora() / "switchboard"), str(tmp_path / "all"), "--json"]
    for option in ("dev_conversations=2", "keep_noises=True", f"hub5_folder={folder}"):
        arguments += ["--option", option]
    assert main(arguments) == 0
    splits = json.loads(capsys.readouterr().out)
    assert [(name, splits[name]["speakers"]) for name in splits] == [("train", 8), ("dev", 4), ("test", 8)]
    assert re.search(r"\[(NOISE|LAUGHTER|VOCALIZED-NOISE)\]", (tmp_path / "all" / "train.csv").read_text())
    assert main([*arguments, "--option", "dev_conversations=few"]) == 1
    assert capsys.readouterr().err == "biglittle: dev_conversations: is 'few', but must be a whole number.\n"
    with pytest.raises(SystemExit):
        main([*arguments, "--option", "dev_conversations"])
    assert "'dev_conversations' is not of the form NAME=VALUE" in capsys.readouterr().err
    next(folder.rglob("*.stm")).write_text("en_4156 A\n")
    assert main(["prepare", "hub5", str(folder), str(tmp_path / "out")]) == 1
    message = capsys.readouterr().err
    assert ".stm:1: is not a recording" in message and message.count("\n") == 1


# The generator

FORMS = {
    "*-trans.text": r"sw\d{4}[AB]-ms98-a-\d{4} \d+\.\d{6} \d+\.\d{6} \S.*",
    "*-word.text": r"sw\d{4}[AB]-ms98-a-\d{4} \d+\.\d{6} \d+\.\d{6} \S+",
    "sw-ms98-dict.text": r"#.*|\S+( [a-z]+)+",
    "fe_03_*.txt": r"# fe_03_\d{5}\.sph|# Transcribed at the LDC||\d+\.\d\d \d+\.\d\d [AB]: \S.*",
    "*.pem": r";;.*|(sw|en)_\d{4} [AB] unknown_speaker \d+\.\d\d \d+\.\d\d",
    "*.stm": r";;.*|(sw|en)_\d{4} ([AB]) (sw|en)_\d{4}_\2 \d+\.\d\d \d+\.\d\d <O,(sw|en),F,(sw|en)-F> +\S.*",
}
"""Every line of LDC's text files, as the reference has them."""


def test_generated_files_have_ldcs_form() -> None:
    for pattern, form in FORMS.items():
        paths = list(telephone_corpora().rglob(pattern))
        assert paths
        for path in paths:
            for line in path.read_text().removesuffix("\n").split("\n"):
                assert re.fullmatch(form, line), (path, line)
    for path in telephone_corpora().rglob("*.sph"):
        info = soundfile.info(path)
        assert (info.format, info.subtype, info.samplerate, info.channels) == ("NIST", "ULAW", 8000, 2)


@pytest.mark.slow
def test_generator_makes_the_same_bytes(tmp_path) -> None:
    sizes = Sizes(switchboard=1, fisher=2, hub5=2, turns=1)
    one, two = (synthesize_telephone(tmp_path / name, sizes) for name in ("one", "two"))
    files = [path.relative_to(one) for path in one.rglob("*") if path.is_file()]
    assert len(files) == 16
    for file in files:
        assert (one / file).read_bytes() == (two / file).read_bytes()


def test_generator_refuses(tmp_path, capsys) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    assert synthesize_main([str(tmp_path)]) == 1
    assert "not empty" in capsys.readouterr().err
    assert synthesize_main([str(tmp_path / "out"), "--recordings", str(tmp_path)]) == 1
    assert "holds no recordings of four speakers" in capsys.readouterr().err
