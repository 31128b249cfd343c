"""`biglittle completion`: scripts that know every command, option and choice, and complete file names."""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from biglittle_asr.cli import COMMANDS, main

SHELLS = ("bash", "zsh", "fish")


def script(shell: str, capsys: Any) -> str:
    assert main(["completion", shell]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return str(out)


def options(name: str) -> list[argparse.Action]:
    parser = argparse.ArgumentParser()
    next(command for command in COMMANDS if command.name == name).add_arguments(parser)
    return [action for action in parser._actions if action.option_strings]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_has_every_command_and_option(shell: str, capsys: Any) -> None:
    text = script(shell, capsys)
    for command in COMMANDS:
        assert command.name in text
        for action in options(command.name):
            # fish names long options without their hyphens.
            assert all(option.lstrip("-") in text for option in action.option_strings)
    program = shutil.which(shell)
    if program is not None:
        subprocess.run([program, "-n"], input=text, text=True, check=True)


@pytest.fixture
def complete(tmp_path: Path, capsys: Any) -> Any:
    """What bash offers for the last of some words."""
    (tmp_path / "script").write_text(script("bash", capsys))
    (tmp_path / "calls").mkdir()
    (tmp_path / "calls.csv").touch()

    def words(*line: str) -> set[str]:
        commands = [
            "source ./script",
            f"COMP_WORDS=({shlex.join(line)}); COMP_CWORD={len(line) - 1}",
            "_shtab_biglittle 2>/dev/null",
            'printf "%s\\n" "${COMPREPLY[@]}"',
        ]
        done = subprocess.run(["bash", "-c", "\n".join(commands)], cwd=tmp_path, capture_output=True, text=True)
        return set(done.stdout.split())

    return words


def test_bash_completes_commands(complete: Any) -> None:
    assert complete("biglittle", "") >= {command.name for command in COMMANDS}


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_bash_completes_options_and_choices(command: str, complete: Any) -> None:
    expected = {option for action in options(command) for option in action.option_strings}
    assert complete("biglittle", command, "--") == {option for option in expected if option.startswith("--")}
    for action in options(command):
        if action.choices is not None:
            assert complete("biglittle", command, action.option_strings[0], "") == set(action.choices)


def test_bash_completes_files(complete: Any) -> None:
    assert complete("biglittle", "transcribe", "MODEL", "cal") == {"calls", "calls.csv"}
    assert complete("biglittle", "score", "--ref", "cal") == {"calls", "calls.csv"}
    assert complete("biglittle", "transcribe", "--output", "calls.") == {"calls.csv"}
    assert complete("biglittle", "transcribe", "--channel", "cal") == set()


def test_without_its_package_a_sentence_says_how_to_get_it(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("biglittle: completion needs shtab (")
    assert err.endswith("): pip install 'biglittle-asr[completion]'.\n")
