"""`biglittle score`: score recognized words against reference transcripts."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biglittle_asr.commands.shared import add_bootstrap, add_json, add_normalizer, check_output, print_score, tell
from biglittle_asr.messages import visible

if TYPE_CHECKING:
    from biglittle_asr.scoring import NistScore, Normalizer, Score
    from biglittle_asr.scoring.alignment import AlignedUtterance

ONLY_STM = ("glm", "drop_hesitations", "compare", "filtered")
"""Options that apply only to an STM against a CTM."""
ONLY_NIST = ("fragments", "optional")
"""Options that apply only to NIST's formats."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--ref", required=True, type=Path, help="reference transcripts")
    parser.add_argument("--hyp", required=True, type=Path, help="recognized words")
    nist = add_scoring(parser)
    parser.add_argument(
        "--alignments", type=Path, help="file to write, with the alignment of every utterance, errors marked"
    )
    add_bootstrap(parser)
    nist.add_argument(
        "--compare",
        metavar="CTM",
        type=Path,
        help="CTM of another system, for a significance test of the difference (MAPSSWE)",
    )
    nist.add_argument(
        "--filtered",
        metavar="FOLDER",
        type=Path,
        help="folder for ref.stm and hyp.ctm after mapping, on which sclite counts the same errors",
    )
    add_json(parser)


def add_scoring(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Declare how a reference file and a file of recognized words are scored; returns the group for an STM."""
    parser.add_argument(
        "--format",
        choices=("auto", "plain", "kaldi", "trn", "stm"),
        default="auto",
        help="format of both files: plain (line by line), kaldi (ID words), trn (words (speaker-utterance)), stm (an "
        "STM against a CTM, scored by NIST's method); auto (the default) chooses stm or trn by the files' suffixes, or "
        "kaldi or trn if every line clearly has an ID",
    )
    parser.add_argument(
        "--utt2spk",
        type=Path,
        help="file with lines `ID speaker`, for kaldi, or for trn to replace the speakers in IDs",
    )
    parser.add_argument("--case-sensitive", action="store_true", help="count Yes and yes as two words")
    add_normalizer(parser)
    parser.add_argument(
        "--missing-as-empty",
        action="store_true",
        help="count an utterance, or a channel of a CTM, without a hypothesis as an empty hypothesis",
    )
    nist = parser.add_argument_group("only for an STM against a CTM, and for trn")
    nist.add_argument(
        "--fragments",
        action=argparse.BooleanOptionalAction,
        help="count a fragment, marked by a hyphen, as correct if it matches the beginning or end of the other word "
        "(sclite's -F; on with --glm)",
    )
    nist.add_argument(
        "--optional",
        action=argparse.BooleanOptionalAction,
        help="do not count deletions and insertions of words in brackets (sclite's -D; on with --glm)",
    )
    stm = parser.add_argument_group("only for an STM against a CTM")
    stm.add_argument("--glm", type=Path, help="file of mapping rules, applied to both files as by NIST's csrfilt")
    stm.add_argument(
        "--drop-hesitations",
        action="store_true",
        default=None,
        help="ignore noises, hesitations and fragments in the CTM, as Kaldi's recipes do for Hub5'00",
    )
    return stm


def run(options: argparse.Namespace) -> None:
    """Run the command; raises ValueError or OSError, with a sentence for the user, if it fails."""
    check_output(options.alignments)
    scored = score_files(options, options.hyp)
    score, normalizer = scored.score, scored.normalizer
    title, remark, more = "", "", {"format": scored.format}
    rules = "" if normalizer is None else f", normalizer {normalizer.name}"
    written = f"{options.hyp} against {options.ref} ({scored.format}{rules})"
    if scored.format == "stm":
        title, written = options.hyp.name, f"{options.hyp} against {options.ref}"
    if options.compare is not None:
        remark = _compare(score, _score_nist(options, options.compare), options, more)
    if options.alignments is not None:
        score.write(options.alignments, written)
    if options.filtered is not None:
        _write_filtered(score, options)
    _tell_look_alikes(score.utterances)
    print_score(score, options, title, remark, more, normalizer)


@dataclass(frozen=True)
class ScoredFiles:
    """The score of a file of recognized words."""

    score: Score
    format: str
    """Format of the files; "stm" is scored by NIST's method."""
    normalizer: Normalizer | None = None


def is_nist(options: argparse.Namespace, hypotheses: Path) -> bool:
    """Whether the files are an STM and a CTM, to be scored by NIST's method."""
    if options.format == "auto" and ".ctm" in options.ref.suffixes and ".stm" in hypotheses.suffixes:
        raise ValueError(f"--ref {options.ref}: is what was recognized; give the STM as --ref, and the CTM as --hyp.")
    named = ".stm" in options.ref.suffixes or ".ctm" in hypotheses.suffixes or options.glm is not None
    return options.format == "stm" or (options.format == "auto" and named)


def score_files(options: argparse.Namespace, hypotheses: Path) -> ScoredFiles:
    """Score a file of recognized words against the references.

    Arguments
    ---------
    options : argparse.Namespace
        With `ref`, `bootstrap` and the options of :func:`add_scoring`.
    hypotheses : pathlib.Path
        The recognized words.

    Raises
    ------
    OSError, ValueError
        If a file cannot be read or scored, or an option is of another format.
    """
    nist = is_nist(options, hypotheses)
    if options.normalizer is not None and options.case_sensitive:
        raise ValueError("--normalizer: writes all words in lower case; leave out --case-sensitive.")
    return ScoredFiles(_score_nist(options, hypotheses), "stm") if nist else _score_texts(options, hypotheses)


def _score_texts(options: argparse.Namespace, hypotheses: Path) -> ScoredFiles:
    from biglittle_asr.scoring import load_normalizer, read_pair, read_utt2spk, score_texts
    from biglittle_asr.scoring.nist.marks import has_marks, optional_word

    def refuse(names: Sequence[str], purpose: str, formats: str) -> None:
        unfit = [name for name in names if getattr(options, name, None) is not None]
        if unfit:
            raise ValueError(
                f"--{unfit[0].replace('_', '-')} is for {purpose}; leave it out, or give --format {formats}."
            )

    refuse(ONLY_STM, "an STM against a CTM", "stm")
    normalizer = None if options.normalizer is None else load_normalizer(options.normalizer)
    pair = read_pair(options.ref, hypotheses, options.format, options.case_sensitive)
    if pair.format != "trn":
        refuse(ONLY_NIST, "NIST's files", "trn or stm")
    if options.format == "auto":
        tell(f"reading {options.ref} and {hypotheses} as {pair.format} (if that is wrong, use --format).")
    speakers = pair.references.speakers
    if options.utt2spk is not None:
        if pair.format == "plain":
            raise ValueError(
                f"{options.utt2spk}: plain text has no utterance IDs to find speakers by; use kaldi or trn."
            )
        speakers = read_utt2spk(options.utt2spk)
    # Only trn files can have NIST's marks.
    texts = [*pair.references.texts.values(), *pair.hypotheses.texts.values()] if pair.format == "trn" else []
    marked = next((text for text in texts if has_marks(text)), None)
    if normalizer is not None and (marked is not None or options.optional or options.fragments):
        marks = "--optional and --fragments" if marked is None else f"marks, as in '{visible(marked)}'"
        raise ValueError(f"--normalizer: knows no {marks}, which are NIST's; leave one of them out.")
    optional = optional_word(texts)
    if optional and options.optional is None and normalizer is None:
        tell(f"{visible(optional)} counts as a word with its brackets; to let it be deleted, use --optional.")
    said, heard = pair.references.texts, pair.hypotheses.texts
    if normalizer is not None:
        said, heard = normalizer(said), normalizer(heard)
    score = score_texts(
        said,
        heard,
        speakers,
        bootstrap=options.bootstrap,
        case_sensitive=options.case_sensitive,
        missing_as_empty=options.missing_as_empty,
        marks=bool(options.optional or options.fragments or marked is not None),
        optional=bool(options.optional),
        fragments=bool(options.fragments),
    )
    return ScoredFiles(score, pair.format, normalizer)


def _score_nist(options: argparse.Namespace, hypotheses: Path) -> NistScore:
    from biglittle_asr.scoring import read_ctm, read_glm, read_stm, score_nist, without_hesitations

    if options.normalizer is not None:
        raise ValueError("--normalizer: is for texts; an STM and a CTM are mapped by rules of NIST's (--glm).")
    if options.utt2spk is not None:
        raise ValueError(f"{options.utt2spk}: an STM names the speakers itself; leave --utt2spk out.")
    stm = read_stm(options.ref)
    glm = read_glm(options.glm) if options.glm is not None else None
    recognized = read_ctm(hypotheses)
    score = score_nist(
        stm.segments,
        without_hesitations(recognized) if options.drop_hesitations else recognized,
        glm,
        fragments=options.fragments,
        optional=options.optional,
        bootstrap=options.bootstrap,
        case_sensitive=options.case_sensitive,
        missing_as_empty=options.missing_as_empty,
    )
    for remark in score.remarks:
        tell(remark)
    return score


def _compare(score: Score, other: NistScore, options: argparse.Namespace, more: dict[str, Any]) -> str:
    """Test the difference of two systems; returns the remark, and adds the JSON's keys to `more`."""
    from biglittle_asr.scoring import NistScore, compare_systems

    assert isinstance(score, NistScore)
    matched_pairs = compare_systems(score, other)
    more["compared"] = {**other.to_dict(), "matched_pairs": matched_pairs.to_dict()}
    sentence = matched_pairs.sentence(options.hyp.name, options.compare.name)
    return f"{options.compare.name}: {other.summary()}\n{sentence}"


def _write_filtered(score: Score, options: argparse.Namespace) -> None:
    from biglittle_asr.scoring import NistScore, read_stm

    assert isinstance(score, NistScore)
    score.write_filtered(options.filtered, read_stm(options.ref).comments)


def _tell_look_alikes(utterances: Sequence[AlignedUtterance]) -> None:
    from biglittle_asr.scoring.lookalikes import count_look_alikes

    count, example = count_look_alikes(utterances)
    if example is not None:
        tell(
            f"{count} substituted word{'s look' if count > 1 else ' looks'} like the reference's, such as "
            f"'{example[1]}' for '{example[0]}'; write such characters in one way in both files."
        )
