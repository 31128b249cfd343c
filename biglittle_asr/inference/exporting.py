"""Recognizers and classifiers as ONNX files, which are compared with the network before they are left behind."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from biglittle_asr.export.files import (
    FLOAT,
    INT8,
    STREAMING,
    TOKENS,
    ExportError,
    cache_folder,
    own_metadata,
    serialized,
    tokens_text,
)
from biglittle_asr.export.graphs import (
    Inputs,
    StepNetwork,
    UtteranceNetwork,
    image_graph,
    stream_graph,
    utterance_graph,
)
from biglittle_asr.export.quantization import quantize
from biglittle_asr.features import GlobalNormalization, SentenceNormalization
from biglittle_asr.files import replacing, write_atomically
from biglittle_asr.inference.audio import Recording
from biglittle_asr.inference.classification import Classifier
from biglittle_asr.inference.recognizer import Recognizer
from biglittle_asr.inference.runtimes import (
    OnnxRuntime,
    Runtime,
    RuntimeNetwork,
    RuntimeStream,
    check_installed,
    find_runtime,
)
from biglittle_asr.messages import show, unknown

TOLERANCE = 1e-3
"""Largest difference between the outputs of a network and of its file, relative to the largest output if above 1."""
MOST_CALIBRATION = 100
"""Recordings that calibration reads; more hardly change the ranges."""
LONGEST_CALIBRATION = 30.0
"""Seconds of each recording that calibration reads."""
STEP_SECONDS = 0.32
"""Default audio per step of a streaming file."""
MOST_STEP_FRAMES = 1 << 15
"""Longest step of a streaming file in feature frames, so that a damaged file cannot ask for all memory."""
TRIED_FRAMES = 16
"""Feature frames of the test run after loading."""
ONNX = "onnx"
"""Folder of the files in a model folder, as on the Hugging Face hub."""
PRETRAINED = Path(__file__).resolve().parents[1] / "pretrained"
"""Folder of the models that come with this package."""
SNAPSHOTS = "snapshots"
"""Folder of the revisions in a Hugging Face hub cache, which is not ours to write to."""


def export_recognizer(
    recognizer: Recognizer,
    folder: Path,
    *,
    inputs: Inputs | None = None,
    calibration: Sequence[Recording] | None = None,
    reduce_range: bool = False,
) -> Path:
    """Write a recognizer's network as an ONNX file for padded batches, and tokens.txt beside it.

    Models other than CTC and hybrid models have their encoder exported, whose frames their search reads.

    Arguments
    ---------
    recognizer : Recognizer
        On the CPU.
    folder : pathlib.Path
        Made if it does not exist.
    inputs : "audio", "features" or "normalized", optional
        What the file takes. Default: features, or normalized features if each utterance is normalized by its own
        statistics, which a window of a long recording does not know.
    calibration : sequence of Recording, optional
        Real audio; the file is then of 8-bit integers, with the ranges of activations measured on it.
    reduce_range : bool
        See :func:`~biglittle_asr.export.quantize`.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ExportError
        If the file does not compute what the network computes; nothing is then left behind.
    OSError, ValueError
        If calibration audio cannot be read, or the folder cannot be written.
    """
    sentence = isinstance(recognizer.normalize, SentenceNormalization)
    inputs = inputs or ("normalized" if sentence else "features")
    if inputs not in get_args(Inputs):
        raise ValueError(f"inputs is {inputs!r}, but must be one of {', '.join(get_args(Inputs))}.")
    utterance = UtteranceNetwork(
        recognizer.model.encoder,
        Head(recognizer),
        None if inputs == "normalized" else recognizer.normalize,
        recognizer.compute_features if inputs == "audio" else None,
    )
    metadata = own_metadata(**utterance_facts(recognizer, inputs)) | {
        "vocab_size": str(recognizer.tokenizer.size),
        "subsampling_factor": str(recognizer.model.encoder.time_stride),
        "normalize_type": "per_feature" if inputs == "normalized" and sentence else "",
        "feature_form": str(recognizer.compute_features.config["form"]),
    }
    real = None if calibration is None else list(_inputs_of(recognizer, calibration, inputs))

    def prepare(graph: Any) -> Any:
        return graph if real is None else quantize(graph, real, reduce_range)

    folder.mkdir(parents=True, exist_ok=True)
    content = serialized(utterance_graph(utterance, metadata, prepare))
    path = folder / (FLOAT if real is None else INT8)
    with replacing(path) as partial:
        partial.write_bytes(content)
        examples = list(_examples(recognizer, inputs)) if real is None else real
        _compare(OnnxRuntime(partial, 1), utterance, examples, None if real is None else 0.1)
    write_atomically(folder / TOKENS, tokens_text(recognizer.tokenizer))
    return path


class Head(nn.Module):
    """What follows a recognizer's encoder, up to what decoding reads: (B, T', D) to (B, T', V)."""

    def __init__(self, recognizer: Recognizer) -> None:
        super().__init__()
        self.kind = recognizer.kind
        self.model = recognizer.model

    def forward(self, encoded: Tensor) -> Tensor:
        """Map an encoder's frames without padding."""
        frames = torch.full((encoded.shape[0],), encoded.shape[1])
        return self.kind.outputs_of(self.model, encoded, frames)[0]


def utterance_facts(recognizer: Recognizer, inputs: str) -> dict[str, Any]:
    """What the metadata of a file for padded batches says to this package; see :func:`export_recognizer`."""
    return {"content": "utterances", "inputs": inputs, "weights": fingerprint(recognizer)}


def stream_facts(recognizer: Recognizer, window: int) -> dict[str, Any]:
    """What the metadata of a file for streaming says to this package.

    Arguments
    ---------
    recognizer : Recognizer
        Causal.
    window : int
        Frames per step, a multiple of the encoder's alignment.
    """
    encoder = recognizer.model.encoder
    # Every window has the same state.
    step = StepNetwork(encoder, Head(recognizer), None, encoder.alignment)
    return {
        "content": "stream",
        "inputs": "features",
        "weights": fingerprint(recognizer),
        "window": window,
        "time_stride": encoder.time_stride,
        "state_size": step.state_size,
        "input_size": encoder.config.input_size,
        "outputs": _output_size(recognizer),
    }


@torch.no_grad()
def _output_size(recognizer: Recognizer) -> int:
    """Values of an output of a file."""
    return int(Head(recognizer)(torch.zeros(1, 1, recognizer.model.encoder.output_size)).shape[2])


def export_stream(recognizer: Recognizer, folder: Path, step_seconds: float = STEP_SECONDS) -> Path:
    """Write a causal recognizer's network as an ONNX file that takes a stream step by step.

    Arguments
    ---------
    recognizer : Recognizer
    folder : pathlib.Path
    step_seconds : float
        Audio per step, rounded up to whole multiples of the encoder's alignment.

    Raises
    ------
    ExportError
        If the recognizer cannot stream, or the file does not compute what the network computes.
    """
    encoder, compute = recognizer.model.encoder, recognizer.compute_features
    if encoder.config.time_padding != "causal" or not isinstance(recognizer.normalize, GlobalNormalization):
        raise ExportError(
            "only a causal model with GlobalNormalization can stream; train one, or export without --streaming."
        )
    frames = step_seconds * recognizer.sample_rate / compute.hop_samples
    window = max(1, -(-round(frames) // encoder.alignment)) * encoder.alignment
    if window > MOST_STEP_FRAMES:
        raise ExportError(f"a step of {step_seconds:g} s is longer than {MOST_STEP_FRAMES} frames; take a shorter one.")
    module = StepNetwork(encoder, Head(recognizer), recognizer.normalize, window)
    metadata = own_metadata(**stream_facts(recognizer, window)) | {
        "window_size": str(window),
        "chunk_shift": str(window),
        "subsampling_factor": str(encoder.time_stride),
        "vocab_size": str(recognizer.tokenizer.size - 1),
        "feature_form": str(compute.config["form"]),
        "normalize_type": "",
        **{f"cache_last_channel_dim{n}": str(size) for n, size in enumerate((1, 1, module.state_size), 1)},
        **{f"cache_last_time_dim{n}": "1" for n in (1, 2, 3)},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / STREAMING
    content = serialized(stream_graph(module, metadata))
    with replacing(path) as partial:
        partial.write_bytes(content)
        runtime = OnnxRuntime(partial, 1)
        whole = UtteranceNetwork(encoder, Head(recognizer), recognizer.normalize)
        for example in _examples(recognizer, "features"):
            stream, features = RuntimeStream(runtime), torch.from_numpy(example).transpose(1, 2)
            with torch.no_grad():
                found = torch.cat([stream.step(features[:, :50]), stream.finish(features[:, 50:])])
                _check(found.numpy(), whole(torch.from_numpy(example))[0].numpy(), None)
    write_atomically(folder / TOKENS, tokens_text(recognizer.tokenizer))
    return path


def export_classifier(
    classifier: Classifier, path: Path, *, calibration: Sequence[np.ndarray[Any, Any]] | None = None
) -> Path:
    """Write an image classifier as an ONNX file, with the names of its classes and its preprocessing as metadata.

    Arguments
    ---------
    classifier : Classifier
    path : pathlib.Path
    calibration : sequence of numpy.ndarray, optional
        Preprocessed images (B, C, H, W); the file is then of 8-bit integers.
    """
    config = classifier.model.config
    metadata = own_metadata(content="images", weights=fingerprint(classifier.model)) | {
        "name": classifier.name,
        "labels": json.dumps(list(classifier.classes or ()), ensure_ascii=False),
        "resize": str(classifier.resize),
        "crop": str(classifier.crop),
    }
    graph = image_graph(classifier.model, config.input_channels, classifier.crop, metadata)
    if calibration is not None:
        graph = quantize(graph, calibration)
    with replacing(path) as partial:
        partial.write_bytes(serialized(graph))
        shape = (3, config.input_channels, classifier.crop, classifier.crop)
        example = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        examples = [example] if calibration is None else list(calibration)
        runtime = OnnxRuntime(partial, 1)
        for images in examples:
            with torch.no_grad():
                expected = classifier.model(torch.from_numpy(images)).numpy()
            _check(runtime.run([images])[0], expected, None if calibration is None else 0.1)
    return path


def run_elsewhere(recognizer: Recognizer, folder: Path, runtime: str, precision: str = "fp32") -> None:
    """Run a recognizer's network in another runtime from now on; all else stays as it is.

    Arguments
    ---------
    recognizer : Recognizer
        On the CPU.
    folder : pathlib.Path
        Its model folder, whose folder `onnx` has or gets the files. Where it cannot be written, a cache has them.
    runtime : str
        Key of :data:`~biglittle_asr.inference.runtimes.RUNTIMES`.
    precision : "fp32" or "int8"
        An int8 file must be there, since it takes audio to make one.

    Raises
    ------
    ValueError
        If there is no such runtime, its package is not installed, or a file is not of these weights.
    FileNotFoundError
        If there is no int8 file.
    """
    chosen = find_runtime(runtime)
    names = {"fp32": FLOAT, "int8": INT8}
    if precision not in names:
        raise ValueError(unknown("precision", precision, names))
    check_installed(chosen)
    weights, threads = fingerprint(recognizer), torch.get_num_threads()

    def opened(name: str, make: Callable[[Path], Path]) -> Runtime:
        path = existing_file(folder, name, weights)
        if path is None and name == INT8:
            raise FileNotFoundError(
                f"{folder / ONNX / INT8}: no such file; make it with biglittle export {folder} {folder / ONNX} --int8 "
                "--calibrate MANIFEST."
            )
        if path is None:
            path = make(place_for_files(folder, weights))
        found = chosen(path, threads)
        check_weights(found, path, folder, weights)
        return found

    normalize, encoder = recognizer.normalize, recognizer.model.encoder
    example = torch.zeros(1, TRIED_FRAMES, encoder.config.input_size)

    def make_stream(place: Path) -> Path:
        # The recognizer's own normalization, whose place InTheFile has taken by now, goes into this file too.
        recognizer.normalize, replaced = normalize, recognizer.normalize
        try:
            return export_stream(recognizer, place)
        finally:
            recognizer.normalize = replaced

    def stream() -> Runtime:
        found = opened(STREAMING, make_stream)
        window = found.facts.get("window")
        if type(window) is not int or window % encoder.alignment or not 0 < window <= MOST_STEP_FRAMES:
            raise ValueError(f"{found.path}: takes steps of {show(window)} frames; export the model again.")
        # The recognizer without its normalization, which is in the file, has another checksum.
        _check_facts(found, stream_facts(recognizer, window) | {"weights": weights})
        RuntimeStream(found).finish(example)
        return found

    utterances = opened(names[precision], lambda place: export_recognizer(recognizer, place))
    if utterances.facts.get("inputs") == "audio":
        raise ValueError(f"{utterances.path}: takes audio; export it again without --inputs.")
    inputs = "features" if utterances.facts.get("inputs") == "features" else "normalized"
    _check_facts(utterances, utterance_facts(recognizer, inputs))
    network = RuntimeNetwork(utterances, stream, encoder.time_stride, _output_size(recognizer))
    network.outputs(example, torch.tensor([TRIED_FRAMES]))
    recognizer.network = network
    if network.normalizes:
        recognizer.normalize = InTheFile()


def _check_facts(runtime: Runtime, expected: Mapping[str, Any]) -> None:
    """Refuse a file whose facts are not those of a recognizer."""
    wrong = [name for name in expected if runtime.facts.get(name) != expected[name]]
    if wrong:
        raise ValueError(
            f"{runtime.path}: its metadata has {show(runtime.facts.get(wrong[0]))} for {wrong[0]}, but the model has "
            f"{show(expected[wrong[0]])}; export the model again."
        )


class InTheFile(nn.Module):
    """Stands for the normalization that an ONNX file contains: leaves features (B, T, F) as they are."""

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        """Return the features."""
        return features

    def step(self, features: Tensor) -> Tensor:
        """Return the features."""
        return features


def check_weights(runtime: Runtime, path: Path, folder: Path, weights: str) -> None:
    """Refuse a file that was made of other weights than those of a model folder."""
    if runtime.facts.get("weights") != weights:
        raise ValueError(f"{path}: was made of other weights than those in {folder}; delete it, or export it again.")


def existing_file(folder: Path, name: str, weights: str) -> Path | None:
    """The file of a model folder, or of the cache, if there is one."""
    places = (folder / ONNX, _cache(weights))
    return next((place / name for place in places if (place / name).is_file()), None)


def place_for_files(folder: Path, weights: str) -> Path:
    """The folder in which files are made: that of the model, or a cache if others own it."""
    real = folder.resolve()
    if os.access(folder, os.W_OK) and SNAPSHOTS not in real.parts and not real.is_relative_to(PRETRAINED):
        return folder / ONNX
    place = _cache(weights)
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    return place


def _cache(weights: str) -> Path:
    return cache_folder() / weights[:16]


def fingerprint(module: nn.Module) -> str:
    """A checksum of a module's weights and statistics, which tells whether a file was made of them.

    Example
    -------
    >>> fingerprint(nn.Linear(1, 1)) == fingerprint(nn.Linear(1, 1))
    False
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def choose(recordings: Sequence[Recording]) -> list[Recording]:
    """Choose recordings for calibration, evenly spread over a list.

    Example
    -------
    >>> recordings = [Recording(str(number), Path("a.wav")) for number in range(1000)]
    >>> [each.name for each in choose(recordings)][:3]
    ['0', '10', '20']
    """
    return list(recordings[:: max(1, len(recordings) // MOST_CALIBRATION)][:MOST_CALIBRATION])


def _inputs_of(recognizer: Recognizer, recordings: Sequence[Recording], inputs: Inputs) -> Iterator[Any]:
    """The inputs of a file for real audio, one utterance (1, ...) at a time."""
    for recording in recordings:
        samples = torch.from_numpy(recording.read(recognizer.sample_rate))
        samples = samples[: round(LONGEST_CALIBRATION * recognizer.sample_rate)].unsqueeze(0)
        yield _input_of(recognizer, samples, inputs)


@torch.no_grad()
def _input_of(recognizer: Recognizer, samples: Tensor, inputs: Inputs) -> Any:
    count = torch.tensor([samples.shape[1]])
    if inputs == "audio":
        return samples.numpy()
    features, frames = recognizer.compute_features(samples, count)
    if inputs == "normalized":
        features = recognizer.normalize(features, frames)
    return np.ascontiguousarray(features.transpose(1, 2).numpy())


def _examples(recognizer: Recognizer, inputs: Inputs) -> Iterator[Any]:
    """Inputs to compare a file on: noise with the rhythm of syllables, of a moment, of odd lengths and of 5 s."""
    generator = torch.Generator().manual_seed(0)
    rate = recognizer.sample_rate
    for count in (1, rate // 100, rate // 7, rate, 5 * rate + 123):
        times = torch.arange(count) / rate
        samples = torch.randn(count, generator=generator) * 0.1 * (2 * torch.pi * 4 * times).sin()
        yield _input_of(recognizer, samples.unsqueeze(0), inputs)


def _compare(runtime: OnnxRuntime, module: UtteranceNetwork, examples: Sequence[Any], tolerance: float | None) -> None:
    """Compare a file with its module: utterance by utterance, and the first ones in a padded batch."""
    for example in examples:
        with torch.no_grad():
            expected = module(torch.from_numpy(example)).numpy()
        outputs, frames = runtime.run([example, np.array([example.shape[-1]])])
        if frames.tolist() != [expected.shape[1]]:
            raise ExportError(f"the exported network gives {frames.tolist()} frames in place of {expected.shape[1]}.")
        _check(outputs, expected, tolerance)


def _check(found: Any, expected: Any, quantized: float | None) -> None:
    """Raise ExportError if outputs differ; by their mean for a quantized network, else by their largest difference."""
    scale = max(1.0, float(np.abs(expected).max()))
    difference = np.abs(found - expected)
    error, limit = (difference.max(), TOLERANCE) if quantized is None else (difference.mean(), quantized)
    if not error / scale <= limit:
        raise ExportError(
            f"the exported network does not compute what the network computes: outputs differ by {error:.2g}, of "
            f"values up to {scale:.2g}."
        )
