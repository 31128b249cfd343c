"""`biglittle export`: write a model's network for programs without PyTorch."""

from __future__ import annotations

import argparse
from pathlib import Path

from biglittle_asr.commands.shared import positive_seconds, tell


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", metavar="MODEL", type=Path, help="model folder, for speech or for images")
    parser.add_argument(
        "out",
        metavar="OUT",
        type=Path,
        help="folder to write model.onnx, model.int8.onnx or model.streaming.onnx to, with tokens.txt; `--runtime` "
        "looks for them in MODEL/onnx. For images, a file. For --format web, a new folder or an earlier page",
    )
    parser.add_argument(
        "--format",
        choices=("onnx", "web"),
        default="onnx",
        help="onnx files, or web: a folder with a page that recognizes speech in the browser, for CTC models "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--inputs",
        choices=("audio", "features", "normalized"),
        help="what the network takes: samples, log-mel features, or normalized features (default: features, or "
        "normalized ones where each utterance is normalized by its own statistics)",
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        help="compute in 8-bit integers, with ranges measured on the audio of --calibrate",
    )
    parser.add_argument(
        "--calibrate",
        metavar="AUDIO",
        nargs="+",
        default=[],
        help="audio files, folders or manifests of training data for --int8; about a hundred recordings are read",
    )
    parser.add_argument(
        "--reduce-range",
        "--reduce_range",
        action="store_true",
        help="weights of 7 bits, for x86 processors without VNNI",
    )
    parser.add_argument(
        "--streaming", action="store_true", help="a causal model, as a network that takes a stream in steps"
    )
    parser.add_argument(
        "--step", type=positive_seconds, default=0.32, metavar="SECONDS", help="audio per step (default: %(default)g)"
    )
    parser.add_argument(
        "--onnxruntime-web",
        "--onnxruntime_web",
        type=Path,
        metavar="FOLDER",
        help="unpacked copy of the npm package onnxruntime-web for --format web (default: let npm get it)",
    )


def run(options: argparse.Namespace) -> None:
    """Run the command; raises ValueError or OSError, with a sentence for the user, if it fails."""
    from tempfile import TemporaryDirectory

    from biglittle_asr.commands.shared import check_folder
    from biglittle_asr.inference.classification import Classifier
    from biglittle_asr.inference.exporting import choose, export_classifier, export_recognizer, export_stream
    from biglittle_asr.inference.folder.store import existing_folder, find_folder, read_model
    from biglittle_asr.inference.inputs import find_recordings
    from biglittle_asr.inference.web import export_page

    if options.int8 != bool(options.calibrate):
        raise ValueError("--int8 and --calibrate go together: ranges of 8-bit integers are measured on real audio.")
    if options.streaming and (options.int8 or options.inputs):
        raise ValueError("--streaming: takes features, and computes in fp32; leave --int8 and --inputs out.")
    if options.format == "web":
        if options.streaming or options.inputs:
            raise ValueError("--format web: chooses what a network takes; leave --streaming and --inputs out.")
    elif options.onnxruntime_web:
        raise ValueError("--onnxruntime-web: is of pages; add --format web.")
    check_folder(options.model)
    model = read_model(options.model)
    if isinstance(model, Classifier):
        if options.format == "web":
            raise ValueError(f"{options.model}: classifies images; a page recognizes speech.")
        if options.int8 or options.streaming or options.inputs:
            raise ValueError(f"{options.model}: classifies images; leave the options for speech out.")
        print(export_classifier(model, options.out))
        return
    if options.streaming:
        print(export_stream(model, options.out, options.step))
        return
    calibration = None
    with TemporaryDirectory(prefix="biglittle") as spool:
        if options.int8:
            calibration = choose(find_recordings(options.calibrate, Path(spool), tell=tell))
            tell(f"calibrating on {len(calibration)} recordings.")
        if options.format == "web":
            path = export_page(
                model,
                find_folder(existing_folder(options.model)),
                options.out,
                calibration=calibration,
                reduce_range=options.reduce_range,
                step_seconds=options.step,
                runtime=options.onnxruntime_web,
            )
        else:
            path = export_recognizer(
                model, options.out, inputs=options.inputs, calibration=calibration, reduce_range=options.reduce_range
            )
    print(path)
