"""`biglittle transcribe`: transcribe audio."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from biglittle_asr.commands.shared import (
    add_batch_seconds,
    add_decoding,
    add_engine,
    add_model,
    add_runtime,
    is_distributed,
    open_engine,
    open_model,
    positive_count,
    positive_seconds,
    set_decoding,
    shared_model,
    tell,
)

if TYPE_CHECKING:
    from biglittle_asr.inference import Failure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_model(parser)
    add_runtime(parser)
    parser.add_argument(
        "audio",
        metavar="AUDIO",
        nargs="+",
        help="audio file, folder, manifest (CSV file with columns ID and wav), or - for standard input",
    )
    parser.add_argument(
        "--format",
        choices=("text", "json", "ctm", "srt", "vtt", "tsv"),
        default="text",
        help="output format: json and ctm have the times and confidences of words; srt, vtt and tsv the times of "
        "captions (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_const", const="json", dest="format", help="short for --format json")
    parser.add_argument(
        "--stream",
        action="store_true",
        help="print words as they are recognized, from one file, pipe or standard input; with --json, one line of JSON "
        "per word. Needs a causal model",
    )
    parser.add_argument(
        "--output",
        metavar="PATH",
        help="file, or folder for one file per recording (end a new folder's name with a slash); standard output if "
        "not given. With --engine ray, folder for parts of many recordings each, which a later run completes",
    )
    parser.add_argument(
        "--channel",
        type=positive_count,
        metavar="N",
        help="channel to read, from 1 (default: the mean of all channels)",
    )
    parser.add_argument(
        "--window",
        type=positive_seconds,
        default=60.0,
        metavar="SECONDS",
        help="window size for longer audio, which affects memory but no word (default: %(default)g)",
    )
    add_batch_seconds(parser)
    add_engine(parser)
    add_decoding(parser, nbest=True)
    parser.add_argument("--profile", action="store_true", help="show the time of each step at the end")


def run(options: argparse.Namespace) -> None:
    """Run the command; raises ValueError or OSError, with a sentence for the user, if it fails."""
    if is_distributed(options):
        _transcribe_archive(options)
        return
    if options.stream:
        _transcribe_stream(options)
        return
    from tempfile import TemporaryDirectory

    import torch

    from biglittle_asr.inference.inputs import find_recordings
    from biglittle_asr.inference.transcription import Failure, audio_progress, transcribe
    from biglittle_asr.inference.transcripts import TranscriptWriter
    from biglittle_asr.profiling import Stopwatch

    recognizer = open_model(options)
    set_decoding(recognizer, options)
    if recognizer.search is not None and recognizer.search.settings.nbest > 1 and options.format != "json":
        raise ValueError("--nbest: only JSON holds several texts of a recording; take --format json.")
    if options.profile:
        on_gpu = recognizer.model.output.weight.is_cuda
        recognizer.stopwatch = Stopwatch(synchronize=torch.cuda.synchronize if on_gpu else None)
    with TemporaryDirectory(prefix="biglittle") as spool:
        recordings = find_recordings(options.audio, Path(spool), options.channel, tell)
        output = TranscriptWriter(options.format, options.output, len(recordings) > 1)
        failures: list[Failure] = []

        def fail(failure: Failure) -> None:
            failures.append(failure)
            output.add(failure)
            if len(recordings) > 1:
                tell(str(failure.error))

        writable = []
        for recording in recordings:
            try:
                output.check(recording)
                writable.append(recording)
            except ValueError as error:
                fail(Failure(recording, error))
        with audio_progress("transcribing") as progress:
            for result in transcribe(
                recognizer,
                writable,
                window_seconds=options.window,
                batch_seconds=options.batch_seconds,
                progress=progress,
            ):
                if isinstance(result, Failure):
                    fail(result)
                else:
                    output.add(result)
        output.finish([recording.name for recording in recordings])
    if options.profile:
        tell("where the time went, without loading the model:\n" + recognizer.stopwatch.table())
    _raise(failures, len(recordings))


def _raise(failures: Sequence[Failure], recordings: int, place: str = "") -> None:
    if failures and recordings == 1:
        raise failures[0].error
    if failures:
        raise ValueError(f"{len(failures)} of {recordings} recordings could not be transcribed{place}.")


def _transcribe_archive(options: argparse.Namespace) -> None:
    from tempfile import TemporaryDirectory

    from biglittle_asr.inference.archive import FAILURES, FORM, TranscriptArchive
    from biglittle_asr.inference.inputs import find_recordings
    from biglittle_asr.inference.transcription import Failure, audio_progress

    for name in ("stream", "profile"):
        if getattr(options, name):
            raise ValueError(f"--{name}: is of one process; leave it or --engine ray out.")
    if options.output is None:
        raise ValueError("--engine ray: writes parts into a folder; name it with --output FOLDER/.")
    if options.format not in FORM:
        raise ValueError(f"--format {options.format}: is of one recording a file; take {', '.join(FORM)}.")
    recognizer = open_model(options)
    set_decoding(recognizer, options)
    model = shared_model(recognizer, options)
    folder = Path(options.output)
    with TemporaryDirectory(prefix="biglittle") as spool:
        recordings = find_recordings(options.audio, Path(spool), options.channel, tell)
        settings = {**model.facts(), "channel": options.channel}
        with TranscriptArchive(folder, options.format, settings) as archive:
            pending = archive.pending(recordings)
            if len(pending) < len(recordings):
                there = len(recordings) - len(pending)
                tell(f"{there} of {len(recordings)} recordings have their transcripts in {folder} already.")
            if pending:
                with (
                    open_engine(model, options) as engine,
                    audio_progress("transcribing", unit="recordings") as progress,
                ):
                    seconds = {"window_seconds": options.window, "batch_seconds": options.batch_seconds}
                    for result in engine(pending, **seconds, progress=progress):
                        archive.add(result)
                        if isinstance(result, Failure) and len(recordings) > 1:
                            tell(str(result.error))
    _raise(archive.failures, len(recordings), f"; {folder / FAILURES} lists them")


def _transcribe_stream(options: argparse.Namespace) -> None:
    from biglittle_asr.inference.inputs import find_stream
    from biglittle_asr.inference.streaming import transcribe_stream
    from biglittle_asr.inference.transcripts import word_object

    if len(options.audio) != 1 or options.format not in ("text", "json") or options.output is not None:
        raise ValueError("--stream prints the words of one recording: take one, as text or JSON, without --output.")
    recognizer = open_model(options)
    set_decoding(recognizer, options)
    between = ""
    words = transcribe_stream(recognizer, find_stream(options.audio[0], options.channel))
    if options.format == "json":
        for word in words:
            print(json.dumps(word_object(word), ensure_ascii=False), flush=True)
        return
    try:
        for word in words:
            print(f"{between}{word.text}", end="", flush=True)
            between = " "
    finally:
        # End the line at the end of the audio, or if the user stops it.
        if between:
            print()
