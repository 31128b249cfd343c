"""A folder with a page that recognizes speech inside a browser: the network, what surrounds it, and onnxruntime-web.

The page's sources are in `biglittle_asr/export/page`. All that they have to know of a model is in `model.json`; the
browser computes samples, features, windows and words from it as they are computed here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from biglittle_asr.audio.resample import ROLLOFF, ZERO_CROSSINGS
from biglittle_asr.export import onnxruntime_web
from biglittle_asr.export.files import FLOAT, INT8, STREAMING, ExportError
from biglittle_asr.features import LogMel, SentenceNormalization
from biglittle_asr.files import replacing_folder
from biglittle_asr.inference.audio import Recording
from biglittle_asr.inference.exporting import (
    STEP_SECONDS,
    check_weights,
    existing_file,
    export_recognizer,
    export_stream,
    fingerprint,
    place_for_files,
)
from biglittle_asr.inference.recognizer import Recognizer
from biglittle_asr.inference.runtimes import OnnxRuntime
from biglittle_asr.inference.streaming import check_streams
from biglittle_asr.tokens.words import PAUSE_SECONDS, TAIL_SECONDS

FACTS = "model.json"
"""Name of the file that describes the model to the page."""
STYLE = "style.css"
"""Name of the page's style sheet, which begins with the one that all pages share."""
PACKAGE = files("biglittle_asr")
WINDOW_SECONDS = 15.0
"""Audio per call of the network: the first words of a long recording must not wait for its end."""
WHOLE_SECONDS = 60.0
"""Longest recording of a network that cannot be cut into windows."""
LIVE_SECONDS = 60.0
"""Longest recording from the microphone with a network that does not stream, as it is read again and again."""


def export_page(
    recognizer: Recognizer,
    model: Path,
    page: Path,
    *,
    calibration: Sequence[Recording] | None = None,
    reduce_range: bool = False,
    step_seconds: float = STEP_SECONDS,
    runtime: Path | None = None,
) -> Path:
    """Write a folder that any web server can offer, with a page that recognizes speech in the browser.

    A causal model streams, in fp32. Of any other, the network of 8-bit integers is taken if the model folder has one,
    or if there is audio to calibrate it. Networks that have to be made are kept in the model folder, or in the user's
    cache if others own that.

    Arguments
    ---------
    recognizer : Recognizer
        A CTC model, on the CPU.
    model : pathlib.Path
        Its folder.
    page : pathlib.Path
        The folder to write. An earlier page is replaced; any other content is refused.
    calibration, reduce_range
        See :func:`~biglittle_asr.inference.exporting.export_recognizer`.
    step_seconds : float
        Audio per step of a causal model.
    runtime : pathlib.Path, optional
        See :func:`~biglittle_asr.export.onnxruntime_web.runtime_files`.

    Returns
    -------
    pathlib.Path
        The page.

    Raises
    ------
    ExportError
        If the model is of another kind, computes deltas, or cannot be exported.
    OSError, ValueError
        If a file cannot be read, onnxruntime-web cannot be had, or the folder holds something else.
    """
    if recognizer.kind.name != "ctc":
        raise ExportError(f"{model}: holds a {recognizer.kind.name} model, but a page runs CTC models only.")
    if recognizer.compute_features.deltas:
        raise ExportError(f"{model}: has features with deltas, which a page does not compute.")
    if page.exists() and not (page.is_dir() and ((page / FACTS).is_file() or not any(page.iterdir()))):
        raise ValueError(f"{page}: holds something other than a page; name a new folder.")
    streams = _streams(recognizer)
    if streams and calibration is not None:
        raise ExportError(f"{model}: holds a causal model, which streams in fp32; leave --int8 and --calibrate out.")
    runtime_files = onnxruntime_web.runtime_files(runtime)
    weights = fingerprint(recognizer)
    if streams:
        # A file of another step is made again.
        anew = step_seconds != STEP_SECONDS
        network = _network(
            model, weights, STREAMING, lambda place: export_stream(recognizer, place, step_seconds), anew
        )
    else:
        integers = calibration is not None or existing_file(model, INT8, weights) is not None
        network = _network(
            model,
            weights,
            INT8 if integers else FLOAT,
            lambda place: export_recognizer(recognizer, place, calibration=calibration, reduce_range=reduce_range),
            calibration is not None,
        )
    facts = describe_model(recognizer, model.resolve().name) | {
        "network": _describe_network(recognizer, network, streams),
        "runtime": {name: len(content) for name, content in runtime_files.items() if name.endswith(".wasm")},
    }
    with replacing_folder(page) as folder:
        for source in (PACKAGE / "export" / "page").iterdir():
            shared = (PACKAGE / "page.css").read_bytes() if source.name == STYLE else b""
            (folder / source.name).write_bytes(shared + source.read_bytes())
        for name, content in runtime_files.items():
            (folder / name).write_bytes(content)
        (folder / network.name).write_bytes(network.read_bytes())
        (folder / FACTS).write_text(json.dumps(facts, ensure_ascii=False) + "\n", encoding="utf-8")
    return page


def _streams(recognizer: Recognizer) -> bool:
    try:
        check_streams(recognizer)
    except ValueError:
        return False
    return True


def _network(model: Path, weights: str, name: str, make: Callable[[Path], Path], anew: bool) -> Path:
    """The network's file in or beside a model folder, which is made if it is missing or wanted anew."""
    path = None if anew else existing_file(model, name, weights)
    if path is None:
        return make(place_for_files(model, weights))
    check_weights(OnnxRuntime(path, 1), path, model, weights)
    return path


def _describe_network(recognizer: Recognizer, path: Path, streams: bool) -> dict[str, Any]:
    """What the page has to know about the network's file."""
    facts = OnnxRuntime(path, 1).facts
    if facts.get("inputs") not in ("features", "normalized"):
        raise ExportError(f"{path}: takes audio; delete it, or export it again without --inputs.")
    compute, encoder = recognizer.compute_features, recognizer.model.encoder
    rate = compute.sample_rate / compute.hop_samples
    found = {
        "file": path.name,
        "bytes": path.stat().st_size,
        "precision": "8-bit integers" if path.name == INT8 else "32-bit floats",
        "time_stride": encoder.time_stride,
        "normalized": facts["inputs"] == "normalized",
    }
    if streams:
        return found | {"window": int(facts["window"]), "state_size": int(facts["state_size"])}
    try:
        (before, after), step = encoder.context, encoder.alignment
    except ValueError:
        return found | {"longest": round(WHOLE_SECONDS * rate)}
    size = max(1, round(WINDOW_SECONDS * rate / step)) * step
    return found | {"window": size, "before": -(-before // step) * step, "after": after}


def describe_model(recognizer: Recognizer, name: str) -> dict[str, Any]:
    """What a page has to know about a recognizer, as plain data: all but its network.

    Arguments
    ---------
    recognizer : Recognizer
        With a tokenizer of characters or word pieces.
    name : str
        Shown on the page.

    Example
    -------
    >>> from biglittle_asr.models import CTCModel, create_encoder
    >>> from biglittle_asr.tokens.tokenizer import CharacterTokenizer
    >>> model = CTCModel(create_encoder("bl_resnet22", channels=(8, 16, 32, 64)), output_neurons=4)
    >>> facts = describe_model(Recognizer(LogMel(), SentenceNormalization(), model, CharacterTokenizer(" AB")), "mine")
    >>> facts["tokens"], facts["frame_seconds"], facts["features"]["hop"]
    (['', ' ', 'A', 'B'], 0.04, 160)
    """
    normalize: Any = recognizer.normalize
    tokenizer = recognizer.tokenizer
    return {
        "name": name,
        "features": describe_features(recognizer.compute_features),
        "normalization": normalize.config if isinstance(normalize, SentenceNormalization) else None,
        "resampling": {"zero_crossings": ZERO_CROSSINGS, "rolloff": ROLLOFF},
        "tokens": ["", *(tokenizer.piece(index) for index in range(1, tokenizer.size))],
        "frame_seconds": recognizer.frame_seconds,
        "pause_seconds": PAUSE_SECONDS,
        "tail_seconds": TAIL_SECONDS,
        "live_seconds": LIVE_SECONDS,
    }


def describe_features(compute: LogMel) -> dict[str, Any]:
    """What a page has to know to compute log-mel features, as plain data.

    Arguments
    ---------
    compute : LogMel
        Without deltas.

    Example
    -------
    >>> facts = describe_features(LogMel())
    >>> len(facts["window"]), facts["before"]  # samples, and those before a frame's center
    (400, 200)
    >>> [first for first, weights in facts["filters"]][:3]  # bins of the lowest filters
    [1, 2, 3]
    """
    spectrogram, filters = compute.mel.spectrogram, []
    for column in compute.mel.mel_scale.fb.T:
        used = column.nonzero().flatten().tolist() or [0]
        filters.append([used[0], column[used[0] : used[-1] + 1].tolist()])
    start = (compute.mel.n_fft - compute.window_samples) // 2
    return {
        "sample_rate": compute.sample_rate,
        "hop": compute.hop_samples,
        "n_fft": compute.mel.n_fft,
        "center": compute.center_samples,
        "before": compute.mel.n_fft // 2 - start,
        "left": compute.left_samples,
        "window": spectrogram.window.tolist(),
        "filters": filters,
        "preemphasis": compute.form.preemphasis,
        "reflect": compute.form.reflect,
        "floor": compute.floor,
    }
