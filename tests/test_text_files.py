"""Every reader of text files: byte order marks, line ends and odd white space change nothing that is read."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from biglittle_asr.corpora.manifest import read_manifest
from biglittle_asr.decoding.ctc import lexicon as words
from biglittle_asr.decoding.lm.arpa import read_arpa
from biglittle_asr.decoding.lm.sentences import read_sentences
from biglittle_asr.decoding.settings import read_hotwords, read_settings
from biglittle_asr.files import read_lines
from biglittle_asr.scoring import FORMATS, read_ctm, read_glm, read_pair, read_score, read_stm, read_utt2spk
from biglittle_asr.tokens.lexicon import read_lexicon

ARPA = "\\data\\\nngram 1=4\n\n\\1-grams:\n-99\t<s>\n-0.3\t</s>\n-0.6\tYES\n-0.6\tNO\n\n\\end\\\n"
TEXTS = {"plain": "yes no\ngo on\n", "kaldi": "u1 yes no\nu2 go on\n", "trn": "yes no (u-1)\ngo on (u-2)\n"}
SCORE = "a\nWER 50.00 % (1 error in 2 words: 1 sub, 0 del, 0 ins), SER 100.00 % (1 of 1 utterances)\n\n"
SCORE += "a-1: 2 words, 1 error\nREF: one two\nHYP: one too\nOP:      S\n"
READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    **{
        f"transcripts, {name}": (text, lambda path, name=name: read_pair(path, path, name).references.texts)
        for name, text in TEXTS.items()
    },
    "utt2spk": ("u1 jane\nu2 joe\n", read_utt2spk),
    "STM": ("a A s 0.0 1.0 <o> yes no\nb A s 0.0 1.0 go\n", lambda path: read_stm(path).segments),
    "CTM": ("a A 0.0 0.1 yes 0.9\nb A 0.0 0.1 no\n", read_ctm),
    "GLM": (";; rules\n[A] => [B] / [ ] __ [ ]\nC => D\n", lambda path: read_glm(path).rules),
    "pronunciations": ("A AH\nA(2) EY\nTEA T IY\n", lambda path: read_lexicon(path).pronunciations),
    "words": ("A\nTEA\n", words.read_words),
    "hotwords": ("A 2.5\nTEA\n", read_hotwords),
    "text of language models": ("YES NO\nGO\n", lambda path: list(read_sentences(path))),
    "lines of corpora": ("a one\nb two\n", read_lines),
    "score": (SCORE, lambda path: read_score(path)),
    "settings": ('{"beam": 3}\n', read_settings),
    "ARPA": (ARPA, lambda path: (read_arpa(path, whole=True).counts, read_arpa(path).words)),
    "manifest": ("ID,wav,wrd\na,/x/a.wav,YES\nb,/x/b.wav,NO\n", lambda path: read_manifest(path, ("ID", "wav"))),
}
"""What each reader takes, and how it is called."""
CHANGES: dict[str, Callable[[str], str]] = {
    "byte order mark": lambda text: f"\ufeff{text}",
    "carriage returns": lambda text: text.replace("\n", "\r\n"),
    "both": lambda text: "\ufeff" + text.replace("\n", "\r\n"),
    "no last line end": lambda text: text.removesuffix("\n"),
}
ONE_TEXT = ("settings", "ARPA", "manifest")
"""Files that are no longer files of their kind where two are put together."""


def test_every_format_of_transcripts_is_here() -> None:
    assert set(TEXTS) == set(FORMATS)


def read(folder: Path, name: str, text: str) -> Any:
    path = folder / "file.txt"
    path.write_bytes(text.encode())
    return READERS[name][1](path)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", READERS)
def test_marks_and_line_ends_are_no_text(tmp_path: Path, name: str, change: str) -> None:
    text = READERS[name][0]
    assert read(tmp_path, name, CHANGES[change](text)) == read(tmp_path, name, text)


@pytest.mark.parametrize("name", [name for name in READERS if name not in ONE_TEXT])
def test_files_with_marks_may_be_put_together(tmp_path: Path, name: str) -> None:
    first, *others = READERS[name][0].splitlines(keepends=True)
    marked = "\ufeff" + first + "".join(f"\ufeff{line}" for line in others)
    assert read(tmp_path, name, marked) == read(tmp_path, name, READERS[name][0])


FIELDS = {
    "transcripts, kaldi": ("u{0}1 yes\n", lambda found: list(found)),
    "CTM": ("a A 0.0 0.1 u{0}1 0.5\n", lambda found: [word.word for word in found]),
    "STM": ("a A u{0}1 0.0 1.0 yes\n", lambda found: [segment.speaker for segment in found]),
    "pronunciations": ("u{0}1\tT IY\n", list),
    "words": ("u{0}1 x\n", list),
    "hotwords": ("u{0}1 2.5\n", list),
    "ARPA": (ARPA.replace("YES", "u{0}1"), lambda found: [word for word in found[1] if word[0] == "u"]),
}
"""A file of each reader that knows fields, and what of it holds the word."""


@pytest.mark.parametrize("space", ["\u00a0", "\u3000", "\u2028", "\x85"], ids=ascii)
@pytest.mark.parametrize("name", FIELDS)
def test_only_ascii_white_space_separates_fields(tmp_path: Path, name: str, space: str) -> None:
    text, find = FIELDS[name]
    assert find(read(tmp_path, name, text.format(space))) == [f"u{space}1"]


@pytest.mark.parametrize("name", [name for name in FIELDS if name not in ("ARPA",)])
def test_a_carriage_return_within_a_line_is_white_space(tmp_path: Path, name: str) -> None:
    text = READERS[name][0]
    if name == "words":
        text = "A x\nTEA y\n"
    assert read(tmp_path, name, text.replace(" ", " \r", 1)) == read(tmp_path, name, text)


@pytest.mark.parametrize("name", ["transcripts, plain", "transcripts, kaldi", "STM", "CTM"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.encode("utf-16"), "file.txt:1: not UTF-8 text"),
        (lambda text: text.encode("utf-16-le"), "file.txt:1: has a NUL character"),
        (lambda text: text.replace("\n", "\r").encode(), "its lines end in carriage returns alone"),
    ],
    ids=["UTF-16", "UTF-16 without mark", "old Macintosh"],
)
def test_other_encodings_and_line_ends_are_refused(
    tmp_path: Path, name: str, change: Callable[[str], bytes], message: str
) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(change(READERS[name][0]))
    with pytest.raises(ValueError, match=message):
        READERS[name][1](path)


# Manifests


@pytest.mark.parametrize("space", ["", " ", "  "])
def test_spaces_behind_commas_are_no_text(tmp_path: Path, space: str) -> None:
    path = tmp_path / "a.csv"
    lines = ["ID,duration,wav,spk_id,wrd", 'a,1.31,/x/a.flac,137,"CALL FOUR, PLEASE"', "b,1.5,/x/b.flac,137,"]
    path.write_text("".join(line.replace(",", f",{space}", 4) + "\n" for line in lines))
    rows = read_manifest(path)
    assert [list(row) for row in rows] == [["ID", "duration", "wav", "spk_id", "wrd"]] * 2
    assert [tuple(row.values()) for row in rows] == [
        ("a", "1.31", "/x/a.flac", "137", "CALL FOUR, PLEASE"),
        ("b", "1.5", "/x/b.flac", "137", ""),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('ID,wav,wrd\na,/x/a.wav,YES\nb,/x/b.wav,"FOUR" CALL\n', "a.csv:3: no CSV line .* double these"),
        ("ID;wav;wrd\na;/x/a.wav;YES\n", "names no column ID; commas separate columns"),
        ("ID,wav,wrd\na,/x/a.wav,YES, PLEASE\n", "a.csv:2: has not as many values"),
    ],
)
def test_bad_manifests_are_told_by_their_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_manifest(tmp_path / "a.csv", ("ID", "wav", "wrd"))


def test_a_text_may_be_longer_than_csv_expects(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    text = "WORD " * 50_000
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("ID", "wav", "wrd"), ("a", "/x/a.wav", text)])
    assert read_manifest(path, ("ID", "wav", "wrd"))[0]["wrd"] == text
