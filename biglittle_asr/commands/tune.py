"""`biglittle tune`: find the weights of a beam search that make the fewest errors on development data."""

from __future__ import annotations

import argparse
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biglittle_asr.commands.shared import (
    add_batch_seconds,
    add_corpus,
    add_json,
    add_language_model,
    add_model,
    check_folder,
    check_output,
    decoding_settings,
    find_manifest,
    positive_count,
    tell,
)

if TYPE_CHECKING:
    from biglittle_asr.inference.tuning import Trial, Tuning


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_model(parser)
    parser.add_argument(
        "data",
        metavar="DATA",
        help="manifest (CSV file with columns ID, wav, wrd), folder or URL of shards, or with --corpus the corpus as "
        "downloaded",
    )
    add_corpus(parser, "dev")
    add_language_model(parser)
    for name, what in (("lm-weights", "weights of the language model"), ("word-scores", "scores of a word, in nats")):
        parser.add_argument(
            f"--{name}",
            f"--{name.replace('-', '_')}",
            type=numbers,
            metavar="X,X,...",
            help=f"{what}, to try (write --{name}=-1,0,1 if the first is negative)",
        )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("decoding.json"),
        metavar="FILE",
        help="JSON file to write, for --decoding of transcribe and evaluate (default: %(default)s)",
    )
    parser.add_argument("--workers", type=positive_count, metavar="N", help="search processes (default: one per core)")
    add_batch_seconds(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command; raises ValueError or OSError, with a sentence for the user, if it fails."""
    from tempfile import TemporaryDirectory

    from biglittle_asr.decoding import write_settings

    check_output(options.output)
    check_folder(options.model)
    with TemporaryDirectory(prefix="biglittle") as folder:
        tuning = _tune(options, find_manifest(options, "dev", Path(folder)))
    write_settings(options.output, tuning.settings)
    if tuning.greedy.errors < tuning.best.counts.errors:
        tell("greedy decoding makes fewer errors: the language model or lexicon does not fit what is said.")
    elif tuning.lexicon is not None and tuning.lexicon.errors <= tuning.best.counts.errors:
        tell(
            f"the best weight of the language model is {tuning.best.lm_weight:g}, and its vocabulary alone does as "
            "well: what helps is that only its words are recognized, as --lexicon without --lm has it."
        )
    if options.json:
        found = {
            "greedy": tuning.greedy.to_dict(),
            "lexicon": None if tuning.lexicon is None else tuning.lexicon.to_dict(),
            "best": _object(tuning.best),
            "trials": [_object(trial) for trial in tuning.trials],
            "output": str(options.output),
        }
        print(json.dumps(found))
        return
    print("lm weight  word score   WER %  sub  del  ins")
    for trial in tuning.trials:
        counts = trial.counts
        print(
            f"{trial.lm_weight:9.2f} {trial.word_score:11.2f} {counts.wer or 0:7.2f} {counts.substitutions:4} "
            f"{counts.deletions:4} {counts.insertions:4}{' *' if trial is tuning.best else ''}"
        )
    lexicon = "" if tuning.lexicon is None else f"lexicon alone: WER {tuning.lexicon.wer:.2f} %; "
    wer = f"greedy: WER {tuning.greedy.wer:.2f} %; {lexicon}best: WER {tuning.best.counts.wer:.2f} %"
    print(f"\n{wer}, written to {options.output}")


def _tune(options: argparse.Namespace, manifest: Path) -> Tuning:
    from tqdm import tqdm

    from biglittle_asr.corpora.manifest import read_manifest
    from biglittle_asr.decoding import DecodingSettings
    from biglittle_asr.inference import load_model
    from biglittle_asr.inference.evaluation import EVALUATION_COLUMNS
    from biglittle_asr.inference.transcription import audio_progress
    from biglittle_asr.inference.tuning import tune
    from biglittle_asr.nnet.devices import usable_device

    rows = read_manifest(manifest, EVALUATION_COLUMNS)
    recognizer = load_model(options.model, usable_device(options.device))
    with ExitStack() as bars:
        progress = bars.enter_context(audio_progress("reading"))
        bar: Any = None

        def show(done: float, total: float) -> None:
            nonlocal bar
            if bar is None:
                bars.close()
                bar = bars.enter_context(tqdm(desc="searching", unit=" utterances", total=total, disable=None))
            bar.update(done - bar.n)

        return tune(
            recognizer,
            rows,
            decoding_settings(options) or DecodingSettings(),
            lm_weights=options.lm_weights,
            word_scores=options.word_scores,
            workers=options.workers or os.cpu_count() or 1,
            batch_seconds=options.batch_seconds,
            progress=progress,
            search_progress=show,
            report=tell,
        )


def numbers(text: str) -> list[float]:
    """Type of an argument: finite numbers separated by commas."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(abs(value) < float("inf") for value in values):
        raise argparse.ArgumentTypeError(f"'{text}' is no list of numbers separated by commas")
    return values


def _object(trial: Trial) -> dict[str, Any]:
    return {"lm_weight": trial.lm_weight, "word_score": trial.word_score, **trial.counts.to_dict()}
