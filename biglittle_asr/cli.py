"""The `biglittle` command: each subcommand is an entry in `COMMANDS` and a module in `commands/`.

Subcommands import packages only when they run, so that `--help` and `score` do not wait for PyTorch. Results go to
standard output, everything else to standard error. Exit status: 0 for success, 1 for failure (one sentence says why),
2 for wrong usage, 130 after Ctrl-C, 141 if the reader of standard output has gone, as `head` does.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from biglittle_asr import __version__
from biglittle_asr.commands import (
    completion,
    doctor,
    draw,
    evaluate,
    export,
    lm,
    models,
    pack,
    prepare,
    profile,
    recipe,
    report,
    score,
    serve,
    shard,
    transcribe,
    tune,
)
from biglittle_asr.commands.shared import tell
from biglittle_asr.messages import explain_failure
from biglittle_asr.threads import bound_spinning

WRONG_USAGE = 2
"""Exit status without a command, as argparse has it for wrong arguments."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as in shells."""
NO_READER = 141
"""Exit status if nobody reads standard output any more, as in shells (128 + SIGPIPE)."""


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
    examples: tuple[str, ...]
    """One or two command lines, shown by its `--help`."""


COMMANDS = (
    Command(
        "completion",
        "Print a script that completes commands in bash, zsh or fish.",
        completion.add_arguments,
        completion.run,
        (
            "biglittle completion bash >> ~/.bash_completion",
            "biglittle completion fish > ~/.config/fish/completions/biglittle.fish",
        ),
    ),
    Command(
        "doctor",
        "Tell what works here, and how to install the rest.",
        doctor.add_arguments,
        doctor.run,
        ("biglittle doctor", "biglittle doctor --json"),
    ),
    Command(
        "draw",
        "Draw a network: branches and merges, with shapes and MACs.",
        draw.add_arguments,
        draw.run,
        ("biglittle draw bl_resnet50 alpha=4 --output network.svg",),
    ),
    Command(
        "evaluate",
        "Measure a model's errors on speech or images.",
        evaluate.add_arguments,
        evaluate.run,
        (
            "biglittle evaluate MODEL manifests/test.csv --output errors.txt",
            "biglittle evaluate bl_resnet50 /path/to/imagenet/val --weights checkpoint.pth.tar",
        ),
    ),
    Command(
        "export",
        "Write a network for programs without PyTorch.",
        export.add_arguments,
        export.run,
        (
            "biglittle export MODEL MODEL/onnx --int8 --calibrate manifests/train.csv",
            "biglittle export MODEL page --format web",
        ),
    ),
    Command(
        "lm",
        "Train an n-gram language model.",
        lm.add_arguments,
        lm.run,
        ("biglittle lm manifests/train.csv words.arpa --order 3",),
    ),
    Command(
        "models",
        "List named networks with their costs, and recipes.",
        models.add_arguments,
        models.run,
        ("biglittle models", "biglittle models --json"),
    ),
    Command(
        "pack",
        "Make a model folder from a recipe's output.",
        pack.add_arguments,
        pack.run,
        ("biglittle pack results/AN4/ctc_bl_resnet22/1234 an4_model",),
    ),
    Command(
        "prepare",
        "Check a corpus and write its manifests.",
        prepare.add_arguments,
        prepare.run,
        (
            "biglittle prepare an4 /path/to/an4 manifests",
            "biglittle prepare folder my_recordings manifests --strict",
        ),
    ),
    Command(
        "profile",
        "Count a model's parameters and MACs, and time it.",
        profile.add_arguments,
        profile.run,
        (
            "biglittle profile bl_resnet22 resnet22 --runs 0",
            "biglittle profile bl_resnet50 alpha=4 --layers",
        ),
    ),
    Command(
        "recipe",
        "List a recipe's settings, with their defaults.",
        recipe.add_arguments,
        recipe.run,
        ("biglittle recipe hparams/AN4/ctc_bl_resnet22.yaml lr=0.001",),
    ),
    Command(
        "report",
        "Show experiments as an HTML page, and compare them.",
        report.add_arguments,
        report.run,
        ("biglittle report results/AN4/ctc_bl_resnet22/1234 --output report.html",),
    ),
    Command(
        "score",
        "Score recognized words against references.",
        score.add_arguments,
        score.run,
        (
            "biglittle score --ref ref.txt --hyp hyp.txt --alignments errors.txt",
            "biglittle score --ref hub5.stm --hyp system.ctm --glm hub5.glm",
        ),
    ),
    Command(
        "serve",
        "Answer requests for transcriptions over HTTP.",
        serve.add_arguments,
        serve.run,
        ("biglittle serve MODEL",),
    ),
    Command(
        "shard",
        "Pack audio or images into large files, to be streamed.",
        shard.add_arguments,
        shard.run,
        ("biglittle shard manifests/train.csv shards",),
    ),
    Command(
        "transcribe",
        "Transcribe audio.",
        transcribe.add_arguments,
        transcribe.run,
        (
            "biglittle transcribe MODEL recordings/ --format vtt --output captions/",
            "arecord -f S16_LE -r 16000 -c 1 | biglittle transcribe CAUSAL_MODEL - --stream",
        ),
    ),
    Command(
        "tune",
        "Find the weights of a beam search on development data.",
        tune.add_arguments,
        tune.run,
        ("biglittle tune MODEL manifests/dev.csv --lm words.arpa --output decoding.json",),
    ),
)
"""The subcommands, sorted by name."""


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
    try:
        try:
            return _run(arguments)
        finally:
            # At the end of the process it would be too late to notice that nobody reads this.
            sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes standard output again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO_READER


def _run(arguments: Sequence[str] | None) -> int:
    parser = command_parser()
    options = parser.parse_args(arguments)
    if options.run is None:
        # As for other wrong usage, but with the list of commands.
        parser.print_help(sys.stderr)
        parser.exit(WRONG_USAGE)
    try:
        options.run(options)
    except BrokenPipeError:
        raise
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        sentence = explain_failure(error)
        if sentence is None:
            raise
        tell(sentence)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


class _CommandList(argparse.HelpFormatter):
    """Help with one line per command: argparse forgets their indentation, so that the longest name breaks its line."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog)
        self._action_max_length = max(len(command.name) for command in COMMANDS) + 2 * self._indent_increment


def command_parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command line.

    Example
    -------
    >>> command_parser().parse_args(["score", "--ref", "ref.txt", "--hyp", "hyp.txt"]).bootstrap
    1000
    """
    parser = argparse.ArgumentParser(
        prog="biglittle",
        description="Big-Little networks for speech and images.",
        epilog="biglittle COMMAND --help describes a command, with examples.",
        formatter_class=_CommandList,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.set_defaults(run=None, parser=parser)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        subparser = subparsers.add_parser(
            command.name,
            help=command.help,
            description=command.help,
            epilog="\n  ".join(["examples:", *command.examples]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
