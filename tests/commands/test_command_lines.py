"""What is shown is right: examples of every `--help`, and the command lines of pages, recipes and YAML files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from biglittle_asr.cli import COMMANDS, command_parser, main
from support.command_lines import ELLIPSIS, FILES, PAGES, check_recipe, commands, parse, shown, spans
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
def test_recipes_are_started_with_files_and_keys_that_exist(path: Path) -> None:
    for program, *words in shown(path.read_text(encoding="utf-8"), "python", "torchrun"):
        start = next((index for index, word in enumerate(words) if word.startswith(("recipes/", "benchmarks/"))), None)
        if start is None:
            continue  # Python's own -m, or a page of another project
        assert all(word.startswith("-") for word in words[:start]) and (start == 0 or program == "torchrun"), words
        try:
            check_recipe(words[start:])
        except SystemExit:
            pytest.fail(f"{name(path)}: {' '.join(words)}")


def test_what_is_shown_is_found() -> None:
    """Command lines behind pipes, variables, comments and line ends are found; prose is not."""
    text = (
        "Run python recipes/never.py.\n\n    A=1 python recipes/a.py x.yaml \\\n        --key 'a b'  # why\n"
        "    arecord | biglittle transcribe MODEL - --stream # words\n    python -m that; biglittle tune\n"
    )
    assert shown(text, "python", "biglittle") == [
        ["python", "recipes/a.py", "x.yaml", "--key", "a b"],
        ["biglittle", "transcribe", "MODEL", "-", "--stream"],
        ["python", "-m", "that"],
        ["biglittle", "tune"],
    ]
    lines = [line for path in PAGES for line in shown(path.read_text(encoding="utf-8"), "biglittle", "python")]
    assert len(lines) > 50
