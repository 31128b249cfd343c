"""`biglittle score`: recognized words compared with what was said."""

from __future__ import annotations

import argparse
from pathlib import Path

from biglittle_asr.commands.shared import add_bootstrap, add_json, print_score, tell


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--ref", required=True, type=Path, help="file of what was said")
    parser.add_argument("--hyp", required=True, type=Path, help="file of what was recognized")
    parser.add_argument(
        "--format",
        choices=("auto", "plain", "kaldi", "trn"),
        default="auto",
        help="of both files: plain (line against line), kaldi (ID words), trn (words (speaker-utterance)); "
        "auto (the default) takes kaldi or trn only where every line clearly has an ID",
    )
    parser.add_argument(
        "--utt2spk", type=Path, help="file with lines `ID speaker`, for kaldi, or in place of the speakers in trn's IDs"
    )
    parser.add_argument("--alignments", type=Path, help="file to write every utterance's alignment to, errors marked")
    add_bootstrap(parser)
    parser.add_argument("--case-sensitive", action="store_true", help="count Yes and yes as two words")
    parser.add_argument(
        "--missing-as-empty", action="store_true", help="count an utterance without hypothesis as an empty hypothesis"
    )
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Do the work; raises ValueError or OSError, with a sentence for the user, if it cannot."""
    from biglittle_asr.scoring import read_pair, read_utt2spk, score_texts

    pair = read_pair(options.ref, options.hyp, options.format)
    if options.format == "auto":
        tell(f"reading {options.ref} and {options.hyp} as {pair.format} (if that is wrong, use --format).")
    speakers = pair.references.speakers
    if options.utt2spk is not None:
        if pair.format == "plain":
            raise ValueError(
                f"{options.utt2spk}: plain text has no utterance IDs to find speakers by; use kaldi or trn."
            )
        speakers = read_utt2spk(options.utt2spk)
    score = score_texts(
        pair.references.texts,
        pair.hypotheses.texts,
        speakers,
        bootstrap=options.bootstrap,
        case_sensitive=options.case_sensitive,
        missing_as_empty=options.missing_as_empty,
    )
    if options.alignments is not None:
        score.write(options.alignments, f"{options.hyp} against {options.ref} ({pair.format})")
    print_score(score, options)
