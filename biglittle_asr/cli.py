"""The `biglittle` command: each subcommand is an entry in `COMMANDS` and a module in `commands/`.

Subcommands import packages only when they run, so that `--help` and `score` do not wait for PyTorch. Results go to
standard output, everything else to standard error. Exit status: 0 for success, 1 for failure (one sentence says why),
2 for wrong usage, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from biglittle_asr import __version__
from biglittle_asr.commands import (
    draw,
    evaluate,
    export,
    lm,
    pack,
    prepare,
    profile,
    recipe,
    score,
    serve,
    shard,
    transcribe,
    tune,
)
from biglittle_asr.commands.shared import tell
from biglittle_asr.messages import explain_failure
from biglittle_asr.threads import bound_spinning

INTERRUPTED = 130
"""Exit status after Ctrl-C, as in shells."""


@dataclass(frozen=True)
class Command:
    """A subcommand."""

    name: str
    """Name on the command line."""
    help: str
    """One line for `biglittle --help`."""
    add_arguments: Callable[[argparse.ArgumentParser], None]
    """Declares its arguments."""
    run: Callable[[argparse.Namespace], None]
    """Runs the command; raises ValueError or OSError, with a sentence for the user, if it fails."""


COMMANDS = (
    Command("draw", "Draw a network: branches and merges, with shapes and MACs.", draw.add_arguments, draw.run),
    Command(
        "evaluate",
        "Measure a model's errors on a manifest, a corpus or a folder of images.",
        evaluate.add_arguments,
        evaluate.run,
    ),
    Command("export", "Write a model's network for programs without PyTorch.", export.add_arguments, export.run),
    Command("lm", "Train an n-gram language model.", lm.add_arguments, lm.run),
    Command("pack", "Make a model folder from a recipe's output.", pack.add_arguments, pack.run),
    Command("prepare", "Check a corpus and write its manifests.", prepare.add_arguments, prepare.run),
    Command("profile", "Count a model's parameters and MACs, and time it.", profile.add_arguments, profile.run),
    Command("recipe", "List a recipe's settings, with their defaults.", recipe.add_arguments, recipe.run),
    Command("score", "Score recognized words against references.", score.add_arguments, score.run),
    Command("serve", "Answer requests for transcriptions over HTTP.", serve.add_arguments, serve.run),
    Command("shard", "Pack audio or images into large files, to be streamed.", shard.add_arguments, shard.run),
    Command("transcribe", "Transcribe audio.", transcribe.add_arguments, transcribe.run),
    Command("tune", "Find the weights of a beam search on development data.", tune.add_arguments, tune.run),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Arguments
    ---------
    arguments : sequence of str
        The words after `biglittle`; those of the command line if not given.

    Returns
    -------
    int
        Exit status; 0 only for success.

    Raises
    ------
    SystemExit
        After help or version (0), and for wrong usage (2).

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "ref.txt").write_text("one two")
    >>> main(["score", "--ref", str(folder / "ref.txt"), "--hyp", str(folder / "ref.txt"), "--bootstrap", "0"])
    speaker  segments  words  correct  sub  del  ins  errors  WER %  CER %  SER %
    all             1      2        2    0    0    0       0   0.00   0.00   0.00
    <BLANKLINE>
    WER 0.00 % (0 errors in 2 words: 0 sub, 0 del, 0 ins), CER 0.00 %, SER 0.00 % (0 of 1 utterances)
    0
    """
    bound_spinning()  # before subcommands import torch
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        sentence = explain_failure(error)
        if sentence is None:
            raise
        tell(sentence)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="biglittle", description="Big-Little networks for speech and images.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        subparser = subparsers.add_parser(command.name, help=command.help, description=command.help)
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
