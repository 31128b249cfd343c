"""`biglittle report`: experiments as an HTML page."""

from __future__ import annotations

import argparse
from pathlib import Path

from biglittle_asr.commands.score import add_scoring, score_files
from biglittle_asr.commands.shared import add_bootstrap, check_output, positive_count
from biglittle_asr.files import write_atomically

MEGABYTE = 1_000_000
AUDIO_LIMIT = 10
"""Default size of the audio in a page, in MB."""
ONLY_FILES = (
    "utt2spk",
    "normalizer",
    "glm",
    "fragments",
    "optional",
    "drop_hesitations",
    "case_sensitive",
    "missing_as_empty",
)
"""Options that apply only to --ref and --hyp."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "experiments",
        metavar="EXPERIMENT",
        nargs="*",
        type=Path,
        help="output folder of a recipe, also before the end of its training, or a file of `biglittle evaluate "
        "--output` or `biglittle score --alignments`; several are compared",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("report.html"), metavar="FILE", help="page to write (default: %(default)s)"
    )
    parser.add_argument(
        "--set",
        choices=("dev", "test", "hub5_test"),
        help="set of a recipe to show in detail (default: hub5_test, test or dev, the first that all experiments have)",
    )
    parser.add_argument(
        "--manifest",
        type=Path,
        help="manifest of the utterances (CSV file with columns ID, wav, duration), for durations and audio; recipes' "
        "output folders have their own",
    )
    parser.add_argument(
        "--audio", action="store_true", help="put the audio into the page, as small MP3 files (default: link to files)"
    )
    parser.add_argument(
        "--audio-limit",
        "--audio_limit",
        type=positive_count,
        metavar="MB",
        help=f"most audio to put into the page, in MB (default: {AUDIO_LIMIT}); utterances with most errors come first",
    )
    add_bootstrap(parser)
    files = parser.add_argument_group("from files of references and recognized words, as in `biglittle score`")
    files.add_argument("--ref", type=Path, help="reference transcripts")
    files.add_argument(
        "--hyp", type=Path, action="append", default=[], help="recognized words; may be repeated, to compare systems"
    )
    add_scoring(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command; raises ValueError or OSError, with a sentence for the user, if it fails."""
    check_output(options.output)
    _check(options)
    from biglittle_asr.report import build_page, read_experiments, scored_experiment, with_manifest
    from biglittle_asr.report.experiments import short_names

    experiments = read_experiments(options.experiments, options.set, options.bootstrap)
    for name, path in zip(short_names(options.hyp), options.hyp, strict=True):
        scored = score_files(options, path)
        rules = {} if scored.normalizer is None else {"normalizer": scored.normalizer.name}
        experiments.append(scored_experiment(name, scored.score, rules))
    if options.manifest is not None:
        experiments = [with_manifest(experiment, options.manifest) for experiment in experiments]
    limit = MEGABYTE * (options.audio_limit or AUDIO_LIMIT) if options.audio else 0
    write_atomically(options.output, build_page(experiments, options.output.parent, options.bootstrap, limit))
    print(options.output)


def _check(options: argparse.Namespace) -> None:
    """Refuse options that would be ignored, and a report of nothing."""
    if bool(options.hyp) != (options.ref is not None):
        missing, given = ("--hyp", "--ref") if options.ref is not None else ("--ref", "--hyp")
        raise ValueError(f"{given}: takes {missing} as well.")
    if not options.experiments and not options.hyp:
        raise ValueError("There is nothing to report: name an EXPERIMENT, or give --ref and --hyp.")
    unfit = [name for name in ONLY_FILES if not options.hyp and getattr(options, name) not in (None, False)]
    if options.format != "auto" and not options.hyp:
        unfit.append("format")
    if unfit:
        raise ValueError(f"--{unfit[0].replace('_', '-')} is for --ref and --hyp; leave it out.")
    if options.set is not None and all(path.is_file() for path in options.experiments):
        raise ValueError(f"--set {options.set}: is of a recipe's output folder; leave it out.")
    if options.audio_limit is not None and not options.audio:
        raise ValueError("--audio-limit: is of audio in the page; ask for it with --audio.")
