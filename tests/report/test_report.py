"""Reports: their numbers are those of the score, they show all utterances, ask no address, and escape everything."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile

from biglittle_asr.cli import main
from biglittle_asr.files import write_table
from biglittle_asr.report import recordings, sections
from biglittle_asr.report.page import MOST_EXPERIMENTS, shared_style
from biglittle_asr.scoring import score_texts
from support.experiments import MAKERS, score_json, texts, write_epochs, write_recipe
from support.pages import Element, page_data, parse

PAGE_FILES = Path(sections.__file__).parent / "page"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def report(output: Path, *arguments: object) -> Element:
    assert main(["report", *map(str, arguments), "--output", str(output)]) == 0
    return parse(output.read_text(encoding="utf-8"))


@pytest.fixture(params=MAKERS)
def kind(request: pytest.FixtureRequest) -> str:
    """Every kind of input."""
    return str(request.param)


@pytest.fixture
def made(kind: str, tmp_path: Path) -> tuple[Element, dict[str, Any]]:
    """The report of an experiment of every kind, and the score as JSON."""
    (tmp_path / "in").mkdir()
    arguments, expected = MAKERS[kind](tmp_path / "in", 1)
    return report(tmp_path / "report.html", *arguments), expected


def rows_of(table: Element) -> list[dict[str, str]]:
    """The rows of a table, by the heads of its columns."""
    heads = [cell.text for row in table.one("thead").all("tr") for cell in row.children if isinstance(cell, Element)]
    return [
        dict(zip(heads, (cell.text for cell in row.children if isinstance(cell, Element)), strict=True))
        for row in table.one("tbody").all("tr")
    ]


def written(counts: dict[str, Any]) -> dict[str, str]:
    """Counts as a report's table has them."""
    whole = {"Sub": "substitutions", "Del": "deletions", "Ins": "insertions", "Errors": "errors", "Words": "words"}
    rates = {"WER %": counts["wer"], "SER %": counts["ser"]}
    return {
        **{head: f"{counts[name]:,}" for head, name in whole.items()},
        "Utterances": f"{counts['segments']:,}",
        **{head: "–" if value is None else f"{value:.2f}" for head, value in rates.items()},
    }


# Numbers


def test_totals_are_those_of_the_score(made: tuple[Element, dict[str, Any]]) -> None:
    page, expected = made
    counts = expected["all"]
    card = page.one("article", class_="card")
    assert card.one("", class_="figure").text == f"{counts['wer']:.2f}"
    interval = None
    if counts.get("wer_low") is not None:
        interval = f"{counts['wer_low']:.2f}", f"{counts['wer_high']:.2f}"
        assert card.one("p", class_="interval").text == f"95 % interval {interval[0]} to {interval[1]}"
    for name, title in (("substitutions", "S"), ("deletions", "D"), ("insertions", "I")):
        row = next(row for row in card.all("tr") if row.one("rect").attributes["class"] == title)
        assert row.one("td", class_="number").text == f"{counts[name]:,}"
    tables = page.one("section", id="overview").all("table", class_="counts")
    found = next(row for row in rows_of(tables[0]) if row["Words"] == f"{counts['words']:,}")
    assert written(counts).items() <= found.items()
    assert found["95 % interval"] == ("–" if interval is None else "–".join(interval))
    if counts.get("cer") is not None and "CER %" in found:
        assert found["CER %"] == f"{counts['cer']:.2f}"
    labels = {row["Label"]: row for row in rows_of(tables[1])} if len(tables) > 1 else {}
    assert labels.keys() == expected["labels"].keys()
    for name, each in expected["labels"].items():
        assert written(each).items() <= labels[name].items()


def test_speakers_are_those_of_the_score_the_worst_first(made: tuple[Element, dict[str, Any]]) -> None:
    page, expected = made
    tables = page.all("table", class_="speakers")
    assert bool(tables) == bool(expected["speakers"])
    rates = []
    for row in rows_of(tables[0]) if tables else []:
        counts = expected["speakers"][row["Speaker"]]
        rates.append(-1.0 if counts["wer"] is None else counts["wer"])
        assert row["Words"] == f"{counts['words']:,}" and row["Utterances"] == f"{counts['segments']:,}"
        assert row["WER %"] == ("–" if counts["wer"] is None else f"{counts['wer']:.2f}")
    assert len(rates) == min(len(expected["speakers"]), sections.MOST_SPEAKERS)
    assert rates == sorted(rates, reverse=True)


def test_every_utterance_is_there_with_its_errors(made: tuple[Element, dict[str, Any]]) -> None:
    page, expected = made
    counts = dict.fromkeys("CSDI", 0)
    data = page_data(page)
    wrong = 0
    for _, speaker, seconds, (columns,) in data["utterances"]:
        assert -1 <= speaker < len(data["speakers"]) and (seconds is None or seconds >= 0)
        for column in columns:
            if isinstance(column, str):
                counts["C"] += len(column.split(" "))
            else:
                counts[column[0]] += 1
        wrong += any(not isinstance(column, str) for column in columns)
    names = ("correct", "substitutions", "deletions", "insertions")
    assert list(counts.values()) == [expected["all"][name] for name in names]
    assert len(data["utterances"]) == expected["all"]["segments"]
    assert wrong == expected["all"]["segments_with_errors"]
    assert len({row[0] for row in data["utterances"]}) == len(data["utterances"])
    errors = [sum(not isinstance(column, str) for column in row[3][0]) for row in data["utterances"]]
    assert errors == sorted(errors, reverse=True)


def test_the_most_frequent_errors_are_counted(made: tuple[Element, dict[str, Any]]) -> None:
    page, _ = made
    found: dict[tuple[str, ...], int] = {}
    for row in page_data(page)["utterances"]:
        for column in row[3][0]:
            if not isinstance(column, str):
                found[tuple(column)] = found.get(tuple(column), 0) + 1
    for table in page.all("table", class_="confusions"):
        shown = []
        for row in table.one("tbody").all("tr"):
            head = row.one("th")
            error = tuple(head.attributes[f"data-{name}"] for name in ("kind", "reference", "hypothesis"))
            assert row.one("td", class_="number").text == f"{found[error]:,}"
            shown.append(found[error])
        others = sorted((count for error, count in found.items() if error[0] == error_kind(table)), reverse=True)
        assert shown == others[: sections.MOST_CONFUSIONS]


def error_kind(table: Element) -> str:
    return next(row.attributes["data-kind"] for row in table.all("th") if "data-kind" in row.attributes)


def test_groups_by_length_hold_all_utterances_once(made: tuple[Element, dict[str, Any]]) -> None:
    page, expected = made
    table = page.one("section", id="length").one("table")
    rows = rows_of(table)
    for head, name in (("Utterances", "segments"), ("Words", "words")):
        assert sum(int(row[head].replace(",", "")) for row in rows) == expected["all"][name]


@pytest.mark.slow
def test_a_trained_recipes_scores_are_shown(tmp_path: Path) -> None:
    """What recipes leave is what reports read."""
    from support.ctc_recipe import small, train_an4, write_tones

    write_tones(tmp_path / "out")
    train_an4()(small(tmp_path / "out", skip_prep=True))
    page = report(tmp_path / "report.html", tmp_path / "out", "--audio")
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    table = page.one("section", id="overview").one("table", class_="counts")
    for row, counts in zip(rows_of(table), (scores["dev"], scores["test"]), strict=True):
        assert written(counts["all"]).items() <= row.items()
    costs = {row.one("th").text: row.one("td").text for row in page.one("section", id="costs").one("tbody").all("tr")}
    assert costs["Parameters"] in (tmp_path / "out" / "model" / "README.md").read_text()
    assert costs["MACs per second of audio"] in (tmp_path / "out" / "model" / "README.md").read_text()
    assert costs["Epochs"] == "2"
    assert all(page_data(page)["audio"])
    everything, versions = page.one("section", id="settings").all("table")
    # The precision is SpeechBrain's own option, which is not in the recipe's settings.
    found = {row["Name"]: row["Value"] for row in (*rows_of(everything), *rows_of(versions))}
    assert {"seed": "1234", "precision": "fp32", "encoder.alpha": "4"}.items() <= found.items() and found["torch"]


# Addresses, escapes, structure


def test_equal_inputs_give_equal_bytes(kind: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    arguments, _ = MAKERS[kind](tmp_path / "in", 1)
    report(tmp_path / "first.html", *arguments)
    report(tmp_path / "second.html", *arguments)
    assert (tmp_path / "first.html").read_bytes() == (tmp_path / "second.html").read_bytes()


def check_structure(page: Element) -> None:
    """No address, only the style sheet and the script of the page, and what readers with other tools need."""
    everything = page.all()
    ids = [each.attributes["id"] for each in everything if "id" in each.attributes]
    assert len(set(ids)) == len(ids)
    for element in everything:
        for name, value in element.attributes.items():
            assert not name.startswith("on") and name != "style", (element.name, name)
            if name in ("href", "src", "action", "data", "poster", "srcset", "xlink:href", "formaction"):
                assert value == "data:," or (value.startswith("#") and value[1:] in ids), (element.name, value)
    assert [each.attributes.get("type") for each in page.all("script")] in (["application/json", None], [None])
    policy = dict(
        each.strip().partition(" ")[::2]
        for each in page.one("meta", http_equiv="Content-Security-Policy").attributes["content"].split(";")
    )
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    for name, element in (("style-src", page.one("style")), ("script-src", page.all("script")[-1])):
        digest = base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
        assert policy.pop(name) == f"'sha256-{digest}'"
    allowed = {"'none'", "'self'", "file:", "data:"}
    assert {source for sources in policy.values() for source in sources.split()} <= allowed
    # Accessibility that needs no browser.
    levels = [int(each.name[1]) for each in everything if re.fullmatch("h[1-6]", each.name)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    for element in everything:
        if element.name == "th":
            assert element.attributes.get("scope") in ("row", "col")
        if element.name == "table":
            assert element.all("caption")
        if element.attributes.get("role") in ("img", "region"):
            assert element.attributes["aria-label"]
        if element.name == "svg" and element.attributes.get("aria-hidden") != "true":
            assert "role" in element.attributes or "viewbox" in element.attributes
        if element.name in ("input", "select"):
            assert any(element in label.all() for label in page.all("label"))
        if "aria-labelledby" in element.attributes:
            assert element.attributes["aria-labelledby"] in ids
    regions = [each.attributes["aria-label"] for each in everything if each.attributes.get("role") == "region"]
    assert len(set(regions)) == len(regions)


def test_a_page_asks_no_address(made: tuple[Element, dict[str, Any]]) -> None:
    check_structure(made[0])


def test_style_sheet_and_script_name_no_address() -> None:
    texts = {path.name: path.read_text(encoding="utf-8") for path in PAGE_FILES.iterdir()}
    assert texts.keys() == {"report.html", "report.css", "report.js"}
    for name, text in texts.items():
        addresses = set(re.findall(r"\w+://[^\s\"'`]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not addresses and "url(" not in text and "@import" not in text, name
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|fetch\(|Request", texts["report.js"]
    )
    assert "</" not in texts["report.js"] and "</" not in texts["report.css"]
    assert "|safe" not in texts["report.html"]


HOSTILE = "<script>document.title='owned'</script>"
IMAGE = "\"'><img/src=x/onerror=document.title='owned'>"


def hostile_recipe(folder: Path) -> Path:
    """A recipe's output folder in which every text is code."""
    names = {f"{HOSTILE}{number}": f"one {HOSTILE} {IMAGE}" for number in range(25)}
    heard = {name: f"{IMAGE} </script><!-- {HOSTILE.upper()}" for name in names}
    score = score_texts(names, heard, {name: [HOSTILE, IMAGE, "</script>"][int(name[-1]) % 3] for name in names})
    out = folder / f"{HOSTILE.replace('/', '')}"
    write_recipe(out, score)
    settings = out / "hyperparams.yaml"
    settings.write_text(settings.read_text() + f"hostile: \"{HOSTILE}\"\n'{IMAGE.replace(chr(39), '')}': {{a: 1}}\n")
    (out / "env.log").write_text(f"torch=={HOSTILE}\n")
    return out


def test_hostile_texts_are_escaped(tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(hostile_recipe(tmp_path), other)
    page = report(tmp_path / "report.html", hostile_recipe(tmp_path), other)
    check_structure(page)
    assert not page.all("img")
    data = page_data(page)
    assert sum(HOSTILE in row[0] for row in data["utterances"]) == 25
    values = {cell.text for cell in page.one("section", id="settings").all("td")}
    assert HOSTILE in values
    assert {each.text for each in page.all("th") if "data-speaker" in each.attributes} == {HOSTILE, IMAGE, "</script>"}
    text = (tmp_path / "report.html").read_text()
    assert HOSTILE not in text and IMAGE not in text


def test_every_kind_of_text_file_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "ref.trn").write_text(f"{HOSTILE} one ({IMAGE.replace('(', '')}-1)\n")
    (tmp_path / "hyp.trn").write_text(f"{HOSTILE} two ({IMAGE.replace('(', '')}-1)\n")
    (tmp_path / "ref.stm").write_text(
        f"r{IMAGE} A {HOSTILE} 0 1 <{IMAGE.replace('<', '').replace('>', '')}> {HOSTILE}\n"
    )
    (tmp_path / "hyp.ctm").write_text(f"r{IMAGE} A 0 0.5 {IMAGE}\n")
    for pair in (("ref.trn", "hyp.trn"), ("ref.stm", "hyp.ctm")):
        page = report(tmp_path / "report.html", "--ref", tmp_path / pair[0], "--hyp", tmp_path / pair[1])
        check_structure(page)
        assert not page.all("img")


def test_texts_have_contrast_in_light_and_dark() -> None:
    """At least 4.5 to 1, as WCAG's level AA asks."""
    themes: list[dict[str, str]] = [{}, {}]
    for sheet in (shared_style(), (PAGE_FILES / "report.css").read_text()):
        for theme, part in zip(themes, sheet.split("@media (prefers-color-scheme: dark)", 1), strict=True):
            theme |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", part))
    for theme in (themes[0], {**themes[0], **themes[1]}):
        texts = ("ink", "muted", "accent", *(f"c{number}" for number in range(MOST_EXPERIMENTS)))
        pairs = [(text, back) for text in texts for back in ("paper", "raised")]
        pairs += [(kind, f"{kind}-back") for kind in "SDI"]
        for text, back in pairs:
            assert contrast(theme[text], theme[back]) >= 4.5, (text, back)
        for kind in "SDI":
            assert contrast(theme[f"{kind}-bar"], theme["paper"]) >= 2.7, kind


def contrast(first: str, second: str) -> float:
    """The contrast of two colours by WCAG 2."""
    parts = [[int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)] for colour in (first, second)]
    linear = [[part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in each] for each in parts]
    light = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in linear)
    return (light[1] + 0.05) / (light[0] + 0.05)


# Several experiments


def test_systems_are_compared_as_score_compares_them(tmp_path: Path) -> None:
    for seed, name in ((1, "a"), (2, "b")):
        (tmp_path / name).mkdir()
        arguments, _ = MAKERS["STM and CTM"](tmp_path / name, 1)
        stm = arguments[1]
        lines = Path(arguments[3]).read_text().splitlines(keepends=True)
        plain = [line for line in lines if "*" not in line]
        (tmp_path / f"{name}.ctm").write_text("".join(plain[:: 1 if seed == 1 else 2]))
    files = ["--ref", stm, "--hyp", str(tmp_path / "a.ctm")]
    pairs = score_json(*files, "--compare", str(tmp_path / "b.ctm"), "--missing-as-empty")["compared"]["matched_pairs"]
    page = report(tmp_path / "report.html", *files, "--hyp", tmp_path / "b.ctm", "--missing-as-empty")
    check_structure(page)
    (row,) = rows_of(page.one("table", class_="pairs"))
    assert row["Errors a piece, first − second"] == f"{pairs['mean']:+.3f}".replace("-", "−")
    assert row["Pieces"] == f"{pairs['pieces']:,}"
    assert row["Z"] == f"{pairs['z']:+.2f}".replace("-", "−")


@pytest.mark.parametrize("experiments", range(2, MOST_EXPERIMENTS + 1))
def test_experiments_are_side_by_side(experiments: int, tmp_path: Path) -> None:
    scores = [score_texts(*texts(seed)) for seed in range(experiments)]
    for number, score in enumerate(scores):
        write_recipe(tmp_path / f"e{number}" / "out", score)
    page = report(tmp_path / "report.html", *(tmp_path / f"e{number}" / "out" for number in range(experiments)))
    check_structure(page)
    figures = [card.one("", class_="figure").text for card in page.all("article", class_="card")]
    assert figures == [f"{score.all.wer:.2f}" for score in scores]
    rows = rows_of(page.one("table", class_="pairs"))
    assert len(rows) == experiments * (experiments - 1) // 2
    columns = ("Utterances, first better", "Second better", "As many errors, other words", "Same words")
    for row in rows:
        assert sum(int(row[name]) for name in columns) == scores[0].all.segments
    data = page_data(page)
    assert [each["letter"] for each in data["experiments"]] == list("ABCDEF"[:experiments])
    assert all(len(row[3]) == experiments for row in data["utterances"])
    first, second = ({each.id: each.counts.errors for each in score.utterances} for score in scores[:2])
    assert int(rows[0][columns[0]]) == sum(first[name] < second[name] for name in first)


def test_utterances_that_one_experiment_lacks_are_said(tmp_path: Path) -> None:
    references, hypotheses, speakers = texts(1)
    few = dict(list(references.items())[:40])
    score_texts(references, hypotheses, speakers).write(tmp_path / "all.txt")
    score_texts(few, {name: hypotheses[name] for name in few}, speakers).write(tmp_path / "few.txt")
    page = report(tmp_path / "report.html", tmp_path / "all.txt", tmp_path / "few.txt")
    assert "compared in the 40 utterances that both have" in page.one("section", id="comparison").text
    assert sum(row[3][1] is None for row in page_data(page)["utterances"]) == len(references) - 40
    other = {f"x{name}": text for name, text in references.items()}
    score_texts(other, other).write(tmp_path / "other.txt")
    page = report(tmp_path / "report.html", tmp_path / "all.txt", tmp_path / "other.txt")
    assert "no utterance in common" in page.one("section", id="comparison").text


def test_other_references_are_said(tmp_path: Path) -> None:
    references, hypotheses, _ = texts(1)
    score_texts(references, hypotheses).write(tmp_path / "a.txt")
    score_texts({name: f"{text} more" for name, text in references.items()}, hypotheses).write(tmp_path / "b.txt")
    page = report(tmp_path / "report.html", tmp_path / "a.txt", tmp_path / "b.txt")
    assert f"references of {len(references)} utterances differ" in page.one("section", id="comparison").text


def test_settings_that_differ_are_shown_and_paths_are_not(tmp_path: Path) -> None:
    for number in range(2):
        write_recipe(tmp_path / f"e{number}", score_texts(*texts(number)))
    settings = tmp_path / "e1" / "hyperparams.yaml"
    settings.write_text(settings.read_text().replace("lr: 0.002", "lr: 0.1").replace("seed: 1", "seed: 2"))
    page = report(tmp_path / "report.html", tmp_path / "e0", tmp_path / "e1")
    differing, everything = page.one("section", id="settings").all("table", class_="settings")[:2]
    assert {row["Name"]: (row["A"], row["B"]) for row in rows_of(differing)} == {
        "seed": ("1", "2"),
        "lr": ("0.002", "0.1"),
    }
    found = {row["Name"]: row["A"] for row in rows_of(everything)}
    assert found == {
        "seed": "1", "data_folder": "an4", "lr": "0.002", "encoder.alpha": "4", "model": "CTCModel", "lm": "3gram.arpa",
    }  # fmt: skip
    assert "/home/me" not in (tmp_path / "report.html").read_text()


# Limits


def test_a_long_list_is_cut_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score = score_texts(*texts(1))
    score.write(tmp_path / "wer.txt")
    whole = page_data(report(tmp_path / "report.html", tmp_path / "wer.txt"))
    monkeypatch.setattr(sections, "DATA_LIMIT", 3000)
    page = report(tmp_path / "report.html", tmp_path / "wer.txt")
    data = page_data(page)
    listed = len(data["utterances"])
    assert 0 < listed < score.all.segments
    assert [row[0] for row in data["utterances"]] == [row[0] for row in whole["utterances"][:listed]]
    sentence = f"This list has {listed} of {score.all.segments} utterances, those with the most errors"
    assert sentence in page.one("section", id="utterances").text
    assert page.one("", class_="figure").text == f"{score.all.wer:.2f}"


@pytest.mark.slow
def test_the_page_of_a_large_set_is_small(tmp_path: Path) -> None:
    """As large as LibriSpeech's test-clean."""
    draw = random.Random(0)
    said, heard, speakers = {}, {}, {}
    for number in range(2620):
        name = f"{number % 40}-{number:06}"
        words = [f"word{draw.randrange(1000)}" for _ in range(20)]
        said[name], speakers[name] = " ".join(words), f"{number % 40}"
        heard[name] = " ".join("other" if draw.random() < 0.08 else word for word in words)
    score_texts(said, heard, speakers).write(tmp_path / "wer.txt")
    page = report(tmp_path / "report.html", tmp_path / "wer.txt")
    assert (tmp_path / "report.html").stat().st_size < 1e6
    assert len(page_data(page)["utterances"]) == 2620


def test_many_speakers_are_cut_and_the_page_says_so(tmp_path: Path) -> None:
    names = {f"u{number:03}": "one two" for number in range(sections.MOST_SPEAKERS + 7)}
    score_texts(names, {name: "one" for name in names}, {name: f"s{name}" for name in names}).write(
        tmp_path / "wer.txt"
    )
    page = report(tmp_path / "report.html", tmp_path / "wer.txt")
    assert len(rows_of(page.one("table", class_="speakers"))) == sections.MOST_SPEAKERS
    sentence = f"the {sections.MOST_SPEAKERS} speakers with the highest WER, of {len(names)}"
    assert sentence in page.one("section", id="speakers").text


# Audio


@pytest.fixture
def spoken(tmp_path: Path) -> tuple[list[object], list[float]]:
    """Arguments of a report of utterances with audio files of many kinds, and the durations of the utterances."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    noise = np.random.default_rng(0).normal(0, 0.1, (48000 * 3, 2))
    rows: list[tuple[object, ...]] = []
    kinds = [("wav", 16000), ("flac", 8000), ("wav", 44100), ("wav", 10000), ("ogg", 48000), ("nist", 16000)]
    for number, (suffix, rate) in enumerate(kinds):
        path = folder / f"u {number}.{suffix}"
        soundfile.write(path, noise[: rate * (number + 1) // 4, 0], rate)
        rows.append((f"u{number}", (number + 1) / 4, path, "s", "one", "", ""))
    soundfile.write(folder / "two.wav", noise, 48000)
    rows.append(("u6", 0.5, folder / "two.wav", "s", "one", 2, 1.25))
    write_table(folder / "m.csv", ("ID", "duration", "wav", "spk_id", "wrd", "channel", "start"), rows)
    score_texts({str(row[0]): "one" for row in rows}, {str(row[0]): "two" for row in rows}).write(folder / "wer.txt")
    return [folder / "wer.txt", "--manifest", folder / "m.csv"], [float(str(row[1])) for row in rows]


def test_audio_is_linked_by_relative_paths(spoken: tuple[list[object], list[float]], tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    data = page_data(report(tmp_path / "pages" / "report.html", *spoken[0]))
    assert data["audio"] == []
    for address in data["links"]:
        path, _, part = address.partition("#")
        assert (tmp_path / "pages" / unquote(path)).is_file() and not path.startswith("/") and " " not in path
        assert part in ("", "t=1.25,1.75")
    assert len(data["links"]) == len(spoken[1]) and "#" in data["links"][-1]


def test_audio_is_in_the_page_only_on_request(spoken: tuple[list[object], list[float]], tmp_path: Path) -> None:
    page = report(tmp_path / "report.html", *spoken[0], "--audio")
    data = page_data(page)
    assert data["links"] == []
    for file, seconds in zip(data["audio"], spoken[1], strict=True):
        found = soundfile.info(io.BytesIO(base64.b64decode(file)))
        # MP3 has whole frames, and a delay.
        assert found.format == "MP3" and seconds - 0.01 <= found.duration <= seconds + 0.2
        assert found.samplerate in recordings.SAMPLE_RATES and found.channels == 1
    report(tmp_path / "again.html", *spoken[0], "--audio")
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "report.html").read_bytes()


def test_audio_has_a_limit_and_the_page_says_what_is_left_out(
    spoken: tuple[list[object], list[float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("biglittle_asr.commands.report.MEGABYTE", 10_000)
    page = report(tmp_path / "report.html", *spoken[0], "--audio", "--audio-limit", "1")
    data = page_data(page)
    held = len(data["audio"])
    assert 0 < held < len(spoken[1]) and sum(map(len, data["audio"])) <= 10_000
    assert f"holds the audio of {held} of {len(spoken[1])} utterances" in page.one("section", id="utterances").text


def test_audio_that_cannot_be_read_is_left_out(spoken: tuple[list[object], list[float]], tmp_path: Path) -> None:
    (tmp_path / "a folder" / "u 0.wav").write_bytes(b"no audio")
    (tmp_path / "a folder" / "u 1.flac").unlink()
    page = report(tmp_path / "report.html", *spoken[0], "--audio")
    assert [bool(file) for file in page_data(page)["audio"]] == [False, False, *[True] * 5]
    assert "audio of 5 of 7 utterances" in page.one("section", id="utterances").text
    assert page_data(report(tmp_path / "report.html", *spoken[0]))["links"][1] == ""


# Trainings that have not ended, and bad input


def test_a_training_that_has_not_ended_is_shown(tmp_path: Path) -> None:
    write_epochs(tmp_path / "running" / "out", 3)
    page = report(tmp_path / "report.html", tmp_path / "running" / "out")
    check_structure(page)
    assert "The training has not ended" in page.one("article").text
    assert len(page.one("section", id="learning").one("table").one("tbody").all("tr")) == 3
    assert "running" in page.one("h1").text
    # A training that goes on has the alignments of its last run, but no scores.
    score_texts(*texts(1)).write(tmp_path / "running" / "out" / "wer_test.txt")
    assert page.all() == report(tmp_path / "report.html", tmp_path / "running" / "out").all()
    write_recipe(tmp_path / "done" / "out", score_texts(*texts(1)))
    page = report(tmp_path / "report.html", tmp_path / "running" / "out", tmp_path / "done" / "out")
    check_structure(page)
    assert [each["letter"] for each in page_data(page)["experiments"]] == ["B"]


def test_iterations_of_a_hybrid_system_are_one_curve(tmp_path: Path) -> None:
    for number, epochs in ((1, 3), (2, 2), (10, 4)):
        write_epochs(tmp_path / "out" / "iterations" / str(number), epochs)
    page = report(tmp_path / "report.html", tmp_path / "out")
    rows = rows_of(page.one("section", id="learning").one("table"))
    assert [row["Epoch"] for row in rows] == [str(number) for number in range(1, 10)]
    assert rows[3]["dev WER %"] == rows[5]["dev WER %"] == "100.00"


@pytest.mark.parametrize("values", ["nan", "inf", "0", "1e-300", "1e300"])
def test_odd_losses_are_drawn_or_left_out(values: str, tmp_path: Path) -> None:
    write_epochs(tmp_path / "out", 3)
    path = tmp_path / "out" / "epochs.csv"
    path.write_text(path.read_text() + f"4,0.001,{values},{values},{values},{values},60\n")
    check_structure(report(tmp_path / "report.html", tmp_path / "out"))
    assert not re.search(r"(nan|inf)%", (tmp_path / "report.html").read_text())


EMPTY = {"no errors": "one", "nothing recognized": "", "nothing but errors": "x y z"}


@pytest.mark.parametrize("heard", EMPTY)
@pytest.mark.parametrize("said", ["one", ""])
@pytest.mark.parametrize("utterances", [1, 30])
def test_extremes_are_shown(said: str, heard: str, utterances: int, tmp_path: Path) -> None:
    names = {f"u{number:02}": said for number in range(utterances)}
    score_texts(names, {name: EMPTY[heard] for name in names}, {name: name for name in names}).write(tmp_path / "a.txt")
    for bootstrap in (0, 100):
        page = report(tmp_path / "report.html", tmp_path / "a.txt", "--bootstrap", bootstrap)
        check_structure(page)
        assert len(page_data(page)["utterances"]) == utterances


CHANGES = {
    "hyperparams.yaml": "a: [",
    "epochs.csv": "epoch,dev_wer,seconds\n1,high,3\n",
    "scores.json": "[]",
    "wer_test.txt": "nothing\n",
    "env.log": "\0",
    "save/manifests/test.csv": "ID,wav,duration\nu,/x.wav,long\n",
}
"""Files of a recipe's output folder, and what they must not be."""
BAD: dict[str, Callable[[Path], list[object]]] = {
    **{name: lambda folder, name=name: [folder / name.replace("/", "-")] for name in CHANGES},
    "nothing": lambda folder: [],
    "no such path": lambda folder: [folder / "none"],
    "an empty folder": lambda folder: [folder / "empty"],
    "before the first epoch": lambda folder: [folder / "started"],
    "costs of a study": lambda folder: [folder / "study" / "out"],
    "scores of another run": lambda folder: [folder / "other run"],
    "no set in common": lambda folder: [folder / "good", folder / "dev"],
    "another set": lambda folder: [folder / "good", "--set", "dev"],
    "a set of a file": lambda folder: [folder / "wer.txt", "--set", "dev"],
    "another manifest": lambda folder: [folder / "wer.txt", "--manifest", folder / "other.csv"],
    "no manifest": lambda folder: [folder / "wer.txt", "--manifest", folder / "none.csv"],
    "a reference alone": lambda folder: ["--ref", folder / "ref.txt"],
    "a hypothesis alone": lambda folder: ["--hyp", folder / "ref.txt"],
    "no hypothesis file": lambda folder: ["--ref", folder / "ref.txt", "--hyp", folder / "none"],
    "an option of files": lambda folder: [folder / "good", "--case-sensitive"],
    "a format of files": lambda folder: [folder / "good", "--format", "trn"],
    "a limit of no audio": lambda folder: [folder / "good", "--audio-limit", "3"],
    "too many": lambda folder: [folder / "good"] * (MOST_EXPERIMENTS + 1),
}
"""Wrong arguments, in the folder of the fixture `bad`."""


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    score = score_texts(*texts(1))
    score.write(folder / "wer.txt")
    write_recipe(folder / "good", score)
    write_recipe(folder / "dev", score, "dev")
    for name, text in CHANGES.items():
        shutil.copytree(folder / "good", folder / name.replace("/", "-"))
        (folder / name.replace("/", "-") / name).write_text(text)
    shutil.copytree(folder / "good", folder / "study" / "out")
    (folder / "study" / "costs.json").write_text('{"parameters": null}')
    shutil.copytree(folder / "good", folder / "other run")
    score_texts(*texts(2)).write(folder / "other run" / "wer_test.txt")
    (folder / "empty").mkdir()
    (folder / "started").mkdir()
    (folder / "started" / "epochs.csv").write_text("epoch,dev_wer,seconds\n")
    (folder / "other.csv").write_text("ID,wav,duration\nx,/x.wav,1\n")
    (folder / "ref.txt").write_text("a-1 one\n")
    return folder


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_and_changes_nothing(
    name: str, bad: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "report.html"
    output.write_text("earlier")
    assert main(["report", *map(str, BAD[name](bad)), "--output", str(output)]) == 1
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if "reading" not in line]
    assert out == "" and len(lines) == 1 and lines[0].startswith("biglittle: ") and lines[0].endswith("."), err
    assert output.read_text() == "earlier" and list(tmp_path.iterdir()) == [output]


def test_an_output_that_cannot_be_written_is_told_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for output in (tmp_path, tmp_path / "none" / "report.html"):
        assert main(["report", str(tmp_path / "nothing"), "--output", str(output)]) == 1
        assert str(output.parent if output != tmp_path else output) in capsys.readouterr().err


# In a browser


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_lists_utterances_and_runs_no_code_of_theirs(tmp_path: Path) -> None:
    assert CHROMIUM is not None
    page = tmp_path / "report.html"
    report(page, hostile_recipe(tmp_path))
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    command = [CHROMIUM, *options.split(), "--disable-component-update", "--disable-sync", "--enable-logging=stderr"]
    done = subprocess.run(
        [*command, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    shown = done.stdout
    assert shown.count('<li class="utterance">') == 25
    assert "<title>owned" not in shown and "<img" not in shown
    assert "25 utterances" in shown
