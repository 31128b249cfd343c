"""Command lines that help, pages and recipe files show, and whether the programs would accept them."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import itertools
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import speechbrain as sb

from biglittle_asr.cli import command_parser
from biglittle_asr.recipe.yaml import check_keys, parse_overrides, read_tree
from support.recipe_files import settings_of
from support.repository import REPOSITORY

PAGES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *sorted((REPOSITORY / "recipes").rglob("*.md")),
]
FILES = [*sorted((REPOSITORY / "hparams").rglob("*.yaml")), *sorted((REPOSITORY / "recipes").rglob("*.py"))]
"""Files that show, at their beginning, how to run them."""
FENCES = ("```bash", "```sh", "```console")
"""How code blocks of shell commands begin; other blocks are indented."""
ELLIPSIS = "..."
"""Stands for further options in a command line."""


def blocks(text: str) -> Iterator[str]:
    """Lines of code blocks and of comments, where a backslash at the end continues them."""
    lines = iter(text.splitlines())
    fenced = False
    for line in lines:
        if line.startswith("```"):
            fenced = line in FENCES
            continue
        # Blocks are indented, comments of YAML too, behind their mark; docstrings are not.
        shown = re.sub(r"^[$#]? *", "", line)
        while shown.endswith("\\"):
            shown = shown[:-1] + re.sub(r"^#? *", "", next(lines))
        if fenced or line.startswith(("    ", "#   ", "python ", "biglittle ", "torchrun ")):
            yield shown


def commands(line: str) -> Iterator[list[str]]:
    """The commands of a line for the shell, as lists of words, without redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&")
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    tokens = itertools.chain(itertools.takewhile(lambda word: not word.startswith("#"), _words(lexer)), "|")
    for word in tokens:
        if word in (">", ">>"):
            next(tokens)
        elif not set(word) <= set("|;&"):
            words.append(word)
        elif words:
            yield words
            words = []


def _words(lexer: shlex.shlex) -> Iterator[str]:
    try:
        yield from lexer
    except ValueError as error:  # prose with an apostrophe; in a command, the missing words are missed
        assert "quotation" in str(error)


def shown(text: str, *programs: str) -> list[list[str]]:
    """Command lines of some programs in the code blocks of a text; variables and wrappers before them are left out."""
    found = []
    for line in blocks(text):
        for words in commands(line):
            names = [index for index, word in enumerate(words) if Path(word).name in programs]
            if names and all("=" in word or word in ("srun",) for word in words[: names[0]]):
                found.append(words[names[0] :])
    return found


def spans(text: str) -> list[list[str]]:
    """What a text has between backticks that begins with `biglittle `."""
    return [shlex.split(span)[1:] for span in re.findall(r"`(biglittle [^`]*)`", text)]


def parse(words: list[str]) -> None:
    """Parse the words after `biglittle` by the command's own parser; raises SystemExit if they are wrong."""
    try:
        command_parser().parse_args(words)
    except SystemExit as stop:
        if stop.code:  # 0 after --help and --version
            raise


class Accepted(Exception):
    """A parser has accepted what it was given."""


def accepts(main: Callable[[], object], program: str, words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a program's own parser accepts the words; the program does nothing."""

    def parse_and_stop(self: argparse.ArgumentParser, *arguments: Any) -> None:
        parse_args(self, *arguments)
        raise Accepted

    parse_args = argparse.ArgumentParser.parse_args
    with monkeypatch.context() as patched:
        patched.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
        patched.setattr(sys, "argv", [program, *words])
        try:
            main()
        except Accepted:
            return True
        except SystemExit as stop:
            return not stop.code  # 0 after --help
    return False


def program(script: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
    """`main` of a script, or of a module as `-m` runs it."""
    if script.endswith(".py"):
        monkeypatch.syspath_prepend(str((REPOSITORY / script).parent))
        name = Path(script).stem
        spec = importlib.util.spec_from_file_location(name, REPOSITORY / script)
        assert spec is not None and spec.loader is not None, script
        module = importlib.util.module_from_spec(spec)
        # Dataclasses look their annotations up there.
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(script)
        if hasattr(module, "__path__"):
            module = importlib.import_module(f"{script}.__main__")
    main: Callable[[], object] = module.main
    return main


def check_recipe(words: list[str]) -> None:
    """Check the words after `python` or torchrun's options: a recipe's script, its YAML file, and the file's keys."""
    script, *rest = words
    assert (REPOSITORY / script).is_file(), script
    arguments = [word for word in rest if word not in (ELLIPSIS, "--profile")]
    if rest.count(ELLIPSIS) and arguments[-1].startswith("--"):
        arguments.append("PATH")  # what the ellipsis stands for
    file, _, overrides = sb.parse_arguments([str(REPOSITORY / arguments[0]), *arguments[1:]])
    tree = read_tree(Path(file))
    check_keys(tree, Path(file), parse_overrides(overrides), settings_of(Path(file)).names())
