"""What is shown is right: examples of every `--help`, and the command lines of pages, recipes and YAML files."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import pytest

from biglittle_asr.cli import COMMANDS, command_parser, main
from support.command_lines import (
    ELLIPSIS,
    FILES,
    PAGES,
    accepts,
    check_recipe,
    commands,
    parse,
    program,
    shown,
    spans,
)
from support.repository import REPOSITORY

PARSERS: dict[str, argparse.ArgumentParser] = {}
for _action in command_parser()._actions:
    if isinstance(_action, argparse._SubParsersAction):
        PARSERS.update(_action.choices)
WIDTH = 80
"""Columns of a terminal."""


def name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


# Help


@pytest.mark.parametrize("command", PARSERS)
def test_every_help_ends_in_examples_that_the_command_accepts(command: str) -> None:
    head, *lines = (PARSERS[command].epilog or "").splitlines()
    assert head == "examples:" and 1 <= len(lines) <= 2
    for line in lines:
        (words,) = [words for words in commands(line) if words[0] == "biglittle"]
        assert words[1] == command
        parse(words[1:])


def test_the_list_of_commands_has_one_line_each(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    listed = [line.split(maxsplit=1) for line in err.splitlines() if line.startswith("    ")]
    assert listed == [[command.name, command.help] for command in COMMANDS]
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == err


def test_commands_are_sorted() -> None:
    assert list(PARSERS) == [command.name for command in COMMANDS] == sorted(PARSERS)


# Pages


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_command_lines_of_pages_are_accepted(path: Path) -> None:
    for words in shown(path.read_text(encoding="utf-8"), "biglittle"):
        try:
            parse([word for word in words[1:] if word != ELLIPSIS])
        except SystemExit:
            pytest.fail(f"{name(path)}: {' '.join(words)}")


@pytest.mark.parametrize("path", [*PAGES, REPOSITORY / "CHANGELOG.md"], ids=name)
def test_commands_in_sentences_exist_with_their_options(path: Path) -> None:
    for words in spans(path.read_text(encoding="utf-8")):
        command = words[0]
        if command == "COMMAND":
            continue
        if command.startswith("-"):
            parse(words)
            continue
        assert command in PARSERS, (name(path), words)
        options = {word.partition("=")[0] for word in words if word.startswith("--")} - {"--help"}
        assert options <= set(PARSERS[command]._option_string_actions), (name(path), words)


@pytest.mark.parametrize("path", [*PAGES, *FILES], ids=name)
def test_scripts_are_started_with_files_keys_and_options_that_exist(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recipes' scripts, other scripts of the repository, and modules of the package."""
    for starter, *words in shown(path.read_text(encoding="utf-8"), "python", "torchrun"):
        line = f"{name(path)}: {starter} {' '.join(words)}"
        if words[0] == "-m" and words[1].startswith("biglittle_asr."):
            assert accepts(program(words[1], monkeypatch), words[1], words[2:], monkeypatch), line
        folders = ("recipes/", "benchmarks/", "tests/")
        start = next((index for index, word in enumerate(words) if word.startswith(folders)), None)
        if start is None:
            continue  # another -m, or a page of another project
        assert all(word.startswith("-") for word in words[:start]) and (start == 0 or starter == "torchrun"), line
        script, *rest = words[start:]
        if script.endswith("/train.py"):
            try:
                check_recipe(words[start:])
            except SystemExit:
                pytest.fail(line)
        elif path.suffix == ".md":
            assert accepts(program(script, monkeypatch), script, rest, monkeypatch), line


@pytest.mark.parametrize("script", ["benchmarks/twins.py", "recipes/study.py", "biglittle_asr.corpora.synthesis"])
def test_an_option_that_no_program_has_is_noticed(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not accepts(program(script, monkeypatch), script, ["bl_resnet22", "--no-such-option"], monkeypatch)


def make_lines(text: str) -> list[list[str]]:
    """What a text shows of make, in code blocks and between backticks."""
    return [*shown(text, "make"), *(span.split() for span in re.findall(r"`(make [^`]*)`", text))]


def test_make_has_the_targets_and_variables_that_are_shown() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    (targets,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    lines = [line for path in PAGES for line in make_lines(path.read_text(encoding="utf-8"))]
    assert len(lines) > 5
    for line in lines:
        for word in line[1:]:
            variable, given, _ = word.partition("=")
            if given:
                assert re.search(rf"\$\({variable}\)|\(or \$\({variable}\)|\$\(or \$\({variable}\)", makefile), line
            else:
                assert word in targets.split(), line


def test_what_is_shown_is_found() -> None:
    """Command lines behind pipes, variables, comments and line ends are found; prose is not."""
    text = (
        "Run python recipes/never.py.\n\n    A=1 python recipes/a.py x.yaml \\\n        --key 'a b'  # why\n"
        "    arecord | biglittle transcribe MODEL - --stream # words\n    python -m that; biglittle tune\n"
    )
    text += "```bash\nmake demo\npython fenced.py\n```\n```python\nmake it\n```\n```console\n$ biglittle lm a b\n```\n"
    assert shown(text, "make") == [["make", "demo"]]
    assert shown(text, "python", "biglittle") == [
        ["python", "recipes/a.py", "x.yaml", "--key", "a b"],
        ["biglittle", "transcribe", "MODEL", "-", "--stream"],
        ["python", "-m", "that"],
        ["biglittle", "tune"],
        ["python", "fenced.py"],
        ["biglittle", "lm", "a", "b"],
    ]
    lines = [line for path in PAGES for line in shown(path.read_text(encoding="utf-8"), "biglittle", "python")]
    assert len(lines) > 50
