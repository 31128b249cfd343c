"""`biglittle completion`: a script that completes commands and options in a shell."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from biglittle_asr.extras import missing_extra


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("shell", metavar="SHELL", choices=("bash", "zsh", "fish"), help="bash, zsh or fish")


def run(options: argparse.Namespace) -> None:
    """Run the command; raises ValueError or OSError, with a sentence for the user, if it fails."""
    try:
        import shtab
    except ImportError as error:
        raise ValueError(missing_extra("completion needs shtab", "completion", error)) from error

    for action in _actions(options.parser):
        if action.choices is None and action.nargs != 0 and action.type in (None, Path):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(options.parser, options.shell))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of a parser and of its subcommands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                yield from _actions(subparser)
