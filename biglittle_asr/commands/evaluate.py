"""`biglittle evaluate`: a model's errors on speech or images."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from biglittle_asr.commands.networks import override
from biglittle_asr.commands.shared import (
    MODEL,
    add_batch_seconds,
    add_bootstrap,
    add_corpus,
    add_decoding,
    add_engine,
    add_json,
    add_model,
    add_normalizer,
    add_runtime,
    check_folder,
    check_output,
    count,
    decoding_settings,
    find_manifest,
    is_distributed,
    open_engine,
    open_model,
    positive_count,
    print_score,
    set_decoding,
    shared_model,
    tell,
)

BATCH_SIZE = 64
"""Default number of images per batch."""
ONLY_SPEECH = ("corpus", "by_utterance", "output", "normalizer", "engine", "address")
ONLY_IMAGES = ("skip_bad", "batch_size", "workers")
"""Options that apply to only one kind of model."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_model(parser, f"{MODEL}, or of an image model, such as bl_resnet50")
    parser.add_argument(
        "words",
        metavar="[KEY=VALUE ...] DATA",
        nargs="+",
        help="manifest (CSV file with columns ID, wav, wrd, spk_id), folder or URL of shards, or with --corpus the "
        "corpus as downloaded; for images, a folder of class folders, or its shards. Options of a named image model, "
        "such as alpha=4, may come before or after it",
    )
    parser.add_argument("--weights", metavar="FILE", type=Path, help="checkpoint of a named image model")
    parser.add_argument("--skip-bad", "--skip_bad", action="store_true", help="skip images that cannot be read")
    parser.add_argument(
        "--batch-size", "--batch_size", type=positive_count, help=f"images per batch (default: {BATCH_SIZE})"
    )
    parser.add_argument("--workers", type=count, help="processes that read images (default: 0, this process)")
    add_runtime(parser)
    add_corpus(parser, "test")
    parser.add_argument(
        "--by-utterance",
        "--by_utterance",
        action="store_true",
        help="score against the words in the manifest even if it has an STM beside it (test.stm beside test.csv), with "
        "which it is otherwise scored by NIST's method",
    )
    parser.add_argument(
        "--output", type=Path, help="file to write, with counts and the alignment of every utterance, errors marked"
    )
    add_normalizer(parser)
    add_bootstrap(parser)
    add_batch_seconds(parser)
    add_engine(parser)
    add_decoding(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command; raises ValueError or OSError, with a sentence for the user, if it fails."""
    from biglittle_asr.inference.folder.classifier import is_classifier
    from biglittle_asr.models import list_models

    check_output(options.output)
    images = is_classifier(str(options.model))
    if images and options.runtime != "torch":
        raise ValueError(f"{options.model}: classifies images, which run in torch only; leave --runtime out.")
    if not images and options.weights is None:
        check_folder(options.model)
    options.data, options.overrides = _split(options.words)
    if options.overrides and str(options.model) not in list_models():
        raise ValueError(f"{options.model}: a model folder is what it is; leave out {next(iter(options.overrides))}.")
    for name in ONLY_SPEECH if images else ONLY_IMAGES:
        if getattr(options, name) not in (None, False):
            kind = "classifies images" if images else "is no image model"
            raise ValueError(f"{options.model}: {kind}; leave out --{name.replace('_', '-')}.")
    if images:
        _evaluate_images(options)
    elif options.weights is not None:
        names = ", ".join(list_models())
        raise ValueError(f"{options.model}: is no image model's name, which --weights needs; choose one of {names}.")
    else:
        _evaluate_speech(options)


def _split(words: list[str]) -> tuple[str, dict[str, Any]]:
    """Split the words into DATA and the model's options around it; a path that exists is DATA, whatever its name."""
    options = [word for word in words if word.partition("=")[0].isidentifier() and "=" in word]
    options = [word for word in options if not Path(word).exists()]
    data = [word for word in words if word not in options]
    if len(data) != 1:
        raise ValueError(
            f"{' '.join(words)}: {'are several' if data else 'has no'} DATA to evaluate on; give one, and options of "
            "the model as KEY=VALUE."
        )
    return data[0], dict(map(override, options))


def _evaluate_images(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from biglittle_asr.inference import optimize
    from biglittle_asr.inference.classification import evaluate_images, find_images
    from biglittle_asr.inference.folder.classifier import load_classifier
    from biglittle_asr.nnet.devices import usable_device

    if decoding_settings(options) is not None:
        raise ValueError(f"{options.model}: classifies images; leave --lm, --beam and what else is of decoding out.")
    classifier = optimize(load_classifier(str(options.model), options.weights, **options.overrides))
    images = find_images(classifier, options.data, options.skip_bad, options.split)
    if images.empty:
        tell(f"{len(images.empty)} class folders are empty, such as {Path(images.folder) / images.empty[0]}.")
    with tqdm(desc="evaluating", unit=" images", total=len(images.files), disable=None) as bar:
        score = evaluate_images(
            classifier,
            images,
            batch_size=options.batch_size or BATCH_SIZE,
            workers=options.workers or 0,
            device=usable_device(options.device),
            skip_bad=options.skip_bad,
            progress=lambda done, _: bar.update(done - bar.n),
            report=tell,
        )
    if options.json:
        print(json.dumps(score.to_dict()))
        return
    print(f"{classifier.name} on {images.folder}: {score.images} images, {score.skipped} skipped")
    print(f"  top-1 accuracy  {score.top1:6.2f} %   (error {100 - score.top1:.2f} %)")
    print(f"  top-5 accuracy  {score.top5:6.2f} %   (error {100 - score.top5:.2f} %)")
    print(f"  cross-entropy   {score.loss:8.4f} nats")


def _evaluate_speech(options: argparse.Namespace) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="biglittle") as folder:
        _evaluate_manifest(options, find_manifest(options, "test", Path(folder)))


def _evaluate_manifest(options: argparse.Namespace, manifest: Path) -> None:
    from biglittle_asr.corpora.manifest import read_manifest
    from biglittle_asr.inference.evaluation import EVALUATION_COLUMNS, evaluate, evaluate_nist, find_references
    from biglittle_asr.inference.transcription import Failure, audio_progress
    from biglittle_asr.scoring import NistScore, Score, load_normalizer

    rows = read_manifest(manifest, EVALUATION_COLUMNS)
    references = None if options.by_utterance else find_references(manifest)
    normalizer = None if options.normalizer is None else load_normalizer(options.normalizer)
    if normalizer is not None and references is not None:
        raise ValueError(f"--normalizer: is for texts, but {references[0]} is scored as NIST does; add --by-utterance.")
    recognizer = open_model(options)
    set_decoding(recognizer, options)
    failures: list[Failure] = []

    def report(failure: Failure) -> None:
        failures.append(failure)
        tell(str(failure.error))

    score: Score | NistScore
    with ExitStack() as stack:
        unit, engine = "s of audio", None
        if is_distributed(options):
            unit, engine = "utterances", stack.enter_context(open_engine(shared_model(recognizer, options), options))
        progress = stack.enter_context(audio_progress("evaluating", unit=unit))
        given: dict[str, Any] = {"batch_seconds": options.batch_seconds, "bootstrap": options.bootstrap}
        given |= {"progress": progress, "engine": engine}
        if references is None:
            score = evaluate(recognizer, rows, **given, report=report, normalizer=normalizer)
        else:
            tell(f"scoring as NIST does, by {' and '.join(path.name for path in references if path is not None)}.")
            score, _ = evaluate_nist(recognizer, rows, *references, **given, report=report)
    if options.output is not None:
        rules = "" if normalizer is None else f", normalizer {normalizer.name}"
        score.write(options.output, f"{options.model} on {options.data}{rules}")
    print_score(score, options, normalizer=normalizer)
    if failures:
        fate = "are not scored" if references is None else "count as deletions"
        raise ValueError(f"{len(failures)} of {len(rows)} utterances could not be transcribed, and {fate}.")
