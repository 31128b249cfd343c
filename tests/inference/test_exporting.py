"""Networks outside of PyTorch: every kind of model says the same words in every runtime, and in others' programs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
import torch
from onnx import TensorProto, helper, numpy_helper

from biglittle_asr.cli import main
from biglittle_asr.export.files import FLOAT, INT8, STREAMING, TOKENS, metadata_of, own_metadata
from biglittle_asr.export.quantization import widened
from biglittle_asr.features import GlobalNormalization
from biglittle_asr.inference import load_model, save_model, transcribe_stream
from biglittle_asr.inference.audio import Recording
from biglittle_asr.inference.classification import Classifier
from biglittle_asr.inference.exporting import ONNX, ExportError, export_recognizer, export_stream, run_elsewhere
from biglittle_asr.inference.folder.kinds import KINDS
from biglittle_asr.inference.runtimes import RUNTIMES, OnnxRuntime
from biglittle_asr.models import create_model
from support.corpora import SAMPLE_RATE
from support.model_folders import make, speech, transcripts
from support.networks import randomize_batchnorm
from support.recognizers import babble, make_recognizer
from support.repository import REPOSITORY

pytestmark = pytest.mark.slow
SECONDS = (0.02, 1.3, 2.04, 7.1)
"""Lengths of the recordings; a window of 2 s cuts the longest."""


def small(**changes):
    """A CTC recognizer that the programs of others can run."""
    options = {"form": "sherpa_nemo", "n_mels": 80, "n_fft": 512, "normalization": "GlobalNormalization", **changes}
    return make_recognizer(**options)


def texts(recognizer, window_seconds=60.0):
    audio = [babble(seconds, seed) for seed, seconds in enumerate(SECONDS)]
    found = recognizer.transcribe(audio, sample_rate=SAMPLE_RATE, window_seconds=window_seconds)
    return [each.text for each in found]


@pytest.fixture(scope="module", params=sorted(KINDS))
def any_kind(request, tmp_path_factory):
    """A model folder of every kind, with its network as an ONNX file."""
    recognizer = make(kind=request.param, normalize=GlobalNormalization(40).eval())
    folder = save_model(tmp_path_factory.mktemp(request.param) / "model", recognizer)
    export_recognizer(recognizer, folder / ONNX)
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The folder of a CTC model, with all its ONNX files."""
    recognizer = small(time_padding="causal")
    folder = save_model(tmp_path_factory.mktemp("exported") / "model", recognizer)
    export_recognizer(recognizer, folder / ONNX)
    export_stream(recognizer, folder / ONNX)
    return folder


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
def test_every_kind_of_model_says_the_same_in_every_runtime(any_kind, runtime):
    wavs, samples = speech(16000, 5000, 9999)
    expected = transcripts(load_model(any_kind), wavs, samples)
    assert transcripts(load_model(any_kind, runtime=runtime), wavs, samples) == expected and any(expected)


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
@pytest.mark.parametrize("window_seconds", [2.0, 60.0])
def test_batches_and_windows_change_no_word(exported, runtime, window_seconds):
    expected = texts(load_model(exported))
    assert texts(load_model(exported, runtime=runtime), window_seconds) == expected
    assert len(" ".join(expected)) > 50


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
@pytest.mark.parametrize("seconds", [0.01, 0.32, 1.0, 3.21])
def test_a_stream_has_the_outputs_of_the_whole(exported, runtime, seconds):
    recognizer = load_model(exported, runtime=runtime)
    samples = torch.from_numpy(babble(seconds, 3))[None]
    with torch.inference_mode():
        features, frames = recognizer.features(samples, torch.tensor([samples.shape[1]]))
        whole, _ = recognizer.outputs(features, frames)
        stream = recognizer.stream()
        pieces = [stream.step(piece) for piece in features.split(7, dim=1)]
        found = torch.cat([*pieces, stream.finish(features[:, :0])])
    assert found.shape == whole[0].shape
    torch.testing.assert_close(found, whole[0], atol=1e-5, rtol=1e-5)


def test_a_stream_has_the_words_of_the_whole(exported, tmp_path):
    recognizer = load_model(exported, runtime="onnxruntime")
    recording = Recording.of(babble(6, 4), SAMPLE_RATE)
    words = [word.text for word in transcribe_stream(recognizer, recording)]
    assert " ".join(words) == load_model(exported).transcribe(babble(6, 4), sample_rate=SAMPLE_RATE).text and words


def test_padding_changes_nothing_at_all(exported):
    runtime = OnnxRuntime(exported / ONNX / FLOAT, 1)
    features = np.random.default_rng(0).normal(size=(3, 80, 101)).astype(np.float32)
    lengths = np.array([101, 60, 1])
    batch, frames = runtime.run([features, lengths])
    assert frames.tolist() == [26, 15, 1]
    for row, length, count, own in zip(batch, lengths, frames, features, strict=True):
        alone, _ = runtime.run([own[None, :, :length], np.array([length])])
        np.testing.assert_array_equal(row[:count], alone[0])
        assert not row[count:].any()


@pytest.mark.parametrize(
    "normalization, form", [("GlobalNormalization", "hamming"), ("SentenceNormalization", "sherpa_nemo")]
)
def test_a_network_that_takes_audio_computes_what_the_recognizer_computes(tmp_path, normalization, form):
    recognizer = make_recognizer(normalization=normalization, form=form).eval()
    network = OnnxRuntime(export_recognizer(recognizer, tmp_path, inputs="audio"), 1)
    wavs, samples = speech(16000, 777, 1)
    with torch.inference_mode():
        expected, frames = recognizer(wavs, samples)
    found, counts = network.run([wavs.numpy(), samples.numpy()])
    assert counts.tolist() == frames.tolist()
    for row, own, count in zip(found, expected.numpy(), counts, strict=True):
        np.testing.assert_allclose(row[:count], own[:count], atol=2e-4)


def test_integers_say_nearly_the_same(exported):
    recognizer = load_model(exported)
    real = [Recording.of(babble(2, seed), SAMPLE_RATE) for seed in range(10, 14)]
    path = export_recognizer(recognizer, exported / ONNX, calibration=real)
    assert path.name == INT8
    (loop,) = (each for each in onnx.load(path).graph.node if each.op_type == "Loop")
    kinds = {each.op_type for each in loop.attribute[0].g.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds and "AveragePool" not in kinds
    samples = torch.from_numpy(babble(4, 1))[None]
    for runtime in RUNTIMES:
        small = load_model(exported, runtime=runtime, precision="int8")
        with torch.inference_mode():
            one, _ = recognizer(samples, torch.tensor([samples.shape[1]]))
            other, _ = small(samples, torch.tensor([samples.shape[1]]))
        assert (one.argmax(2) == other.argmax(2)).float().mean() > 0.7  # a trained network has larger margins
        assert not torch.equal(one, other)


def test_wider_tensors_between_convolutions_change_no_output():
    rng = np.random.default_rng(0)
    sizes = {"first": (4, 3), "second": (4, 4), "beside": (4, 3), "third": (6, 4), "last": (5, 12)}
    weights = [
        *(
            numpy_helper.from_array(rng.normal(size=(*each, 1, 1)).astype(np.float32), key)
            for key, each in sizes.items()
        ),
        numpy_helper.from_array(rng.normal(size=4).astype(np.float32), "bias"),
    ]
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "first", "bias"], ["a"], "1"),
        node("Relu", ["a"], ["b"], "2"),
        node("Conv", ["b", "second", "bias"], ["c"], "3"),
        node("Conv", ["x", "beside"], ["d"], "4"),
        node("Add", ["c", "d"], ["e"], "5"),
        node("Conv", ["e", "third"], ["f"], "6"),
        node("Concat", ["f", "f"], ["g"], "7", axis=1),
        node("Conv", ["g", "last"], ["y"], "8"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], initializer=weights)
    plain = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    wide = widened(plain)
    shapes = {each.name: tuple(each.dims[:2]) for each in wide.graph.initializer}
    assert [shapes[each.input[1]] for each in wide.graph.node if each.op_type == "Conv"] == [
        (16, 3), (16, 16), (16, 3), (6, 16), (5, 12),
    ]  # fmt: skip
    inputs = {"x": rng.normal(size=(1, 3, 7, 5)).astype(np.float32)}
    before, after = (onnxruntime.InferenceSession(each.SerializeToString()).run(None, inputs) for each in (plain, wide))
    np.testing.assert_allclose(after[0], before[0], rtol=1e-5, atol=1e-5)


def test_images_have_their_logits_and_labels(tmp_path, capsys):
    model = create_model("bl_resnet50", num_classes=3).eval()
    randomize_batchnorm(model, torch.Generator().manual_seed(0))
    folder = save_model(tmp_path / "model", Classifier("bl_resnet50", model, ("cat", "dog", "ö"), 64, 64))
    assert main(["export", str(folder), str(tmp_path / "images.onnx")]) == 0
    runtime = OnnxRuntime(tmp_path / "images.onnx", 1)
    images = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(runtime.run([images])[0], model(torch.from_numpy(images)).numpy(), atol=1e-3)
    facts = {each.key: each.value for each in onnx.load(tmp_path / "images.onnx").metadata_props}
    assert json.loads(facts["labels"]) == ["cat", "dog", "ö"] and facts["crop"] == "64"


SIGNALS = """
import signal, subprocess, sys
from pathlib import Path
from biglittle_asr.inference.runtimes import RUNTIMES
runtime, path = RUNTIMES[sys.argv[1]], Path(sys.argv[2])
handled = []
signal.signal(signal.SIGCHLD, lambda number, frame: handled.append(number))
first, second = runtime(path, 1), runtime(path, 1)
del first
del second
subprocess.run(["true"], check=True)
print(bool(handled))
"""


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
def test_signals_are_handled_after_runtimes_have_gone(exported, runtime):
    command = [sys.executable, "-c", SIGNALS, runtime, str(exported / ONNX / FLOAT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


FORK = """
import os, signal, sys
from pathlib import Path
from biglittle_asr.inference.runtimes import RUNTIMES
runtime, path = RUNTIMES[sys.argv[1]], Path(sys.argv[2])
runtime(path, 1)
child = os.fork()
if child == 0:
    signal.alarm(60)
    try:
        runtime(path, 1)
    except ValueError as error:
        print(error, flush=True)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
def test_forked_processes_run_networks_or_say_why_not(exported, runtime):
    command = [sys.executable, "-c", FORK, runtime, str(exported / ONNX / FLOAT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stdout or done.stdout.startswith(f"{runtime} hangs in a process that was forked")
    assert not done.stdout or 'multiprocessing\'s method "spawn"' in done.stdout


# In the programs of others


def test_the_script_of_the_documentation_says_the_same(tmp_path):
    recognizer = small().eval()
    export_recognizer(recognizer, tmp_path / "out", inputs="audio")
    samples = babble(3, 1)
    soundfile.write(tmp_path / "a.wav", samples, SAMPLE_RATE, subtype="FLOAT")
    (script,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / "deployment.md").read_text(), re.DOTALL)
    command = [sys.executable, "-c", script, "a.wav"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert found.split() == recognizer.transcribe(samples, sample_rate=SAMPLE_RATE).text.split() and len(found) > 20


def test_sherpa_onnx_says_the_same(exported):
    sherpa_onnx = pytest.importorskip("sherpa_onnx")
    files = exported / ONNX
    program = sherpa_onnx.OfflineRecognizer.from_nemo_ctc(model=str(files / FLOAT), tokens=str(files / TOKENS))
    recognizer, streams = load_model(exported), []
    # It leaves out a last output frame that has not all of its four feature frames.
    audio = [babble(seconds, seed) for seed, seconds in enumerate((0.4, 1.32, 2.04, 7.12))]
    for samples in audio:
        streams.append(program.create_stream())
        streams[-1].accept_waveform(SAMPLE_RATE, samples)
    program.decode_streams(streams)
    expected = [each.text.split() for each in recognizer.transcribe(audio, sample_rate=SAMPLE_RATE)]
    assert [each.result.text.split() for each in streams] == expected


def test_sherpa_onnx_streams_the_same(exported):
    sherpa_onnx = pytest.importorskip("sherpa_onnx")
    files = exported / ONNX
    program = sherpa_onnx.OnlineRecognizer.from_nemo_ctc(model=str(files / STREAMING), tokens=str(files / TOKENS))
    stream = program.create_stream()
    stream.accept_waveform(SAMPLE_RATE, babble(5, 2))
    # It waits for a whole window, so silence has to push the last frames through.
    stream.accept_waveform(SAMPLE_RATE, np.zeros(SAMPLE_RATE, np.float32))
    stream.input_finished()
    while program.is_ready(stream):
        program.decode_stream(stream)
    expected = load_model(exported).transcribe(babble(5, 2), sample_rate=SAMPLE_RATE).text.split()
    found = program.get_result(stream).split()
    assert found[: len(expected) - 1] == expected[:-1] and len(expected) > 5


def test_onnx_asr_says_what_the_network_says_of_its_features(tmp_path):
    onnx_asr = pytest.importorskip("onnx_asr")
    per_feature = {"min_std": 0.0, "epsilon": 1e-5}
    recognizer = small(normalization="SentenceNormalization", normalization_arguments=per_feature).eval()
    export_recognizer(recognizer, tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "nemo-conformer-ctc", "subsampling_factor": 4}')
    shutil.copy(tmp_path / TOKENS, tmp_path / "vocab.txt")
    program = onnx_asr.load_model("nemo-conformer-ctc", tmp_path)
    samples = babble(4, 1)
    features, frames = program.asr._preprocessor(samples[None], np.array([len(samples)]))
    with torch.inference_mode():
        own, _ = recognizer.outputs(torch.from_numpy(features).transpose(1, 2), torch.from_numpy(frames))
    expected = recognizer.tokenizer.decode(recognizer.tokens(own[0, : -(-int(frames[0]) // 4)]))
    assert program.recognize(samples).split() == expected.split() and len(expected) > 20


# What is refused


@pytest.fixture
def copy(exported, tmp_path):
    """A copy of the exported folder, which a test may damage."""
    shutil.copytree(exported, tmp_path / "model")
    return tmp_path / "model"


def test_a_file_of_other_weights_is_refused(copy):
    save_model(copy.parent / "other", small(time_padding="causal", preset="resnet22"))
    shutil.copytree(copy / ONNX, copy.parent / "other" / ONNX)
    with pytest.raises(ValueError, match=f"{FLOAT}: was made of other weights than those in"):
        load_model(copy.parent / "other", runtime="onnxruntime")


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda content: content[: len(content) // 2], "cannot load it|no ONNX file that"),
        (lambda content: b"", "cannot load it|no ONNX file that"),
        (lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git-lfs|git lfs"),
        (lambda content: content + b"location", "refers to weights in another file"),
        (lambda content: content.replace(b"biglittle_asr", b"biglittle_xyz"), "no ONNX file that"),
    ],
)
@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
def test_a_damaged_file_is_refused_in_a_sentence(copy, damage, message, runtime):
    path = copy / ONNX / FLOAT
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=message) as caught:
        load_model(copy, runtime=runtime)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"runtime": "onnxruntim"}, "onnxruntime"),
        ({"runtime": "onnxruntime", "precision": "int4"}, "int8"),
        ({"runtime": "onnxruntime", "device": "meta"}, "runs on the CPU"),
        ({"precision": "int8"}, "is of other runtimes"),
    ],
)
def test_what_no_runtime_does_is_refused(exported, options, message):
    with pytest.raises(ValueError, match=message):
        load_model(exported, **options)


def test_a_package_that_is_missing_is_named(exported, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for runtime in RUNTIMES:
        with pytest.raises(ValueError, match=f"needs the package {RUNTIMES[runtime].package}; install it with pip"):
            load_model(exported, runtime=runtime)


def test_int8_without_a_file_says_how_to_make_it(copy):
    (copy / ONNX / INT8).unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError, match="biglittle export .* --int8 --calibrate"):
        load_model(copy, runtime="onnxruntime", precision="int8")


def test_a_network_that_computes_something_else_is_not_left_behind(tmp_path, monkeypatch):
    recognizer = small().eval()
    monkeypatch.setattr("biglittle_asr.inference.exporting._check", _refuse)
    with pytest.raises(ExportError, match="does not compute"):
        export_recognizer(recognizer, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def _refuse(*arguments):
    raise ExportError("the exported network does not compute what the network computes.")


@pytest.mark.parametrize("options", [{"time_padding": "same"}, {"normalization": "SentenceNormalization"}])
def test_only_causal_networks_are_exported_for_streams(tmp_path, options):
    with pytest.raises(ExportError, match="only a causal model with GlobalNormalization can stream"):
        export_stream(small(**{"time_padding": "causal", **options}).eval(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_made_where_it_can_be_written(exported, tmp_path, monkeypatch):
    shutil.copytree(exported, tmp_path / "snapshots" / "model")
    folder = tmp_path / "snapshots" / "model"
    shutil.rmtree(folder / ONNX)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recognizer = load_model(folder)
    run_elsewhere(recognizer, folder, "onnxruntime")
    assert recognizer.network is not None and not (folder / ONNX).exists()
    (path,) = (tmp_path / "cache").rglob(FLOAT)
    assert metadata_of(OnnxRuntime(path, 1)._session.get_modelmeta().custom_metadata_map)["inputs"] == "features"


def test_a_missing_file_for_streams_is_made(copy):
    (copy / ONNX / STREAMING).unlink()
    recognizer = load_model(copy, runtime="onnxruntime")
    normalize = recognizer.normalize
    recognizer.stream()
    assert (copy / ONNX / STREAMING).exists() and recognizer.normalize is normalize


def test_saving_a_model_removes_the_files_of_its_old_weights(copy):
    save_model(copy, load_model(copy))
    assert not (copy / ONNX).exists()
    (copy / ONNX).mkdir()
    (copy / ONNX / "notes.txt").touch()
    with pytest.raises(FileExistsError, match="holds notes.txt"):
        save_model(copy, load_model(copy))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--int8"], "--int8 and --calibrate go together"),
        (["--streaming", "--inputs", "audio"], "leave --int8 and --inputs out"),
        (["--int8", "--calibrate", "FOLDER/config.json"], "config.json: not readable as audio"),
        (["--streaming"], None),
    ],
)
def test_the_command_refuses_in_a_sentence(exported, tmp_path, capsys, arguments, message):
    arguments = [each.replace("FOLDER", str(exported)) for each in arguments]
    status = main(["export", str(exported), str(tmp_path / "out"), *arguments])
    printed = capsys.readouterr()
    if message is None:
        assert status == 0 and printed.out.strip().endswith(STREAMING) and (tmp_path / "out" / TOKENS).is_file()
        return
    assert status == 1 and message in printed.err and not list(tmp_path.rglob("*.onnx"))


def test_metadata_of_others_is_not_ours():
    with pytest.raises(ValueError, match="no ONNX file that `biglittle export` has written"):
        metadata_of({"biglittle_asr": "1"})
    assert metadata_of(own_metadata(inputs="audio")) == {"inputs": "audio"}
