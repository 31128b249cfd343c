"""Model folders that are broken or hostile: nothing is executed, and what is wrong is said in a sentence."""

import contextlib
import copy
import json
import os
import pickle
import random
import re
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import soundfile
import torch
from torch import Tensor

from biglittle_asr.inference import load_classifier, load_model, save_model
from biglittle_asr.inference.folder.kinds import KINDS
from biglittle_asr.inference.folder.store import CONFIG, NEEDED, SPEECHBRAIN, TOKENIZER, WEIGHTS, stored_state
from biglittle_asr.inference.folder.weights import DTYPES, read_weights
from support.corpora import SAMPLE_RATE
from support.golden import IMAGES, MODELS
from support.model_folders import SMALL, Payload, assert_refused, assert_same, good, make, payload

__all__ = ["good"]


def edit(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Change a JSON file of the folder."""

    def breaks(folder: Path) -> None:
        data = json.loads((folder / name).read_text())
        change(data)
        (folder / name).write_text(json.dumps(data))

    return breaks


def put(key: str, value: Any) -> Callable[[Path], None]:
    """Set a key, written with dots, in config.json."""

    def change(config: Any) -> None:
        *parents, last = key.split(".")
        for parent in parents:
            config = config[parent]
        config[last] = value

    return edit(CONFIG, change)


def replace(name: str, old: str, new: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_text((folder / name).read_text().replace(old, new, 1))


def write(name: str, content: bytes | str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def header(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Change the header of model.safetensors."""

    def breaks(folder: Path) -> None:
        content = (folder / WEIGHTS).read_bytes()
        size = int.from_bytes(content[:8], "little")
        entries = json.loads(content[8 : 8 + size])
        text = change(entries)
        text = (json.dumps(entries) if text is None else text).encode()
        (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])

    return breaks


def tensors(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Change the tensors of model.safetensors, which stays a good safetensors file."""

    def breaks(folder: Path) -> None:
        state = safetensors.torch.load_file(folder / WEIGHTS)
        change(state)
        safetensors.torch.save_file(state, folder / WEIGHTS)

    return breaks


def cut(where: Callable[[int, int], int]) -> Callable[[Path], None]:
    """Cut model.safetensors at a place that depends on the ends of its header and of its data."""

    def breaks(folder: Path) -> None:
        content = (folder / WEIGHTS).read_bytes()
        header_end = 8 + int.from_bytes(content[:8], "little")
        (folder / WEIGHTS).write_bytes(content[: where(header_end, len(content))])

    return breaks


def claim(size: int) -> Callable[[Path], Any]:
    return lambda folder: (folder / WEIGHTS).write_bytes(
        size.to_bytes(8, "little") + (folder / WEIGHTS).read_bytes()[8:]
    )


def link(name: str, target: str) -> Callable[[Path], None]:
    def breaks(folder: Path) -> None:
        outside = folder.parent / f"outside-{name}"
        (folder / name).rename(outside)
        (folder / name).symlink_to(target.format(outside=outside, name=name))

    return breaks


def folder_instead(name: str) -> Callable[[Path], None]:
    def breaks(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return breaks


def pipe_instead(name: str) -> Callable[[Path], None]:
    def breaks(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return breaks


BIAS, STEM = "model.output.bias", "model.encoder.stem.0.weight"
DEEP = "[" * 100_000

BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (shutil.rmtree, "no such"),
    "empty folder": (lambda folder: [path.unlink() for path in folder.iterdir()], "is no experiment folder"),
    **{f"no {name}": (lambda folder, name=name: (folder / name).unlink(), f"{name}: no such file") for name in NEEDED},
    **{f"empty {name}": (write(name, b""), f"{name}: ") for name in NEEDED},
    **{f"{name} is noise": (write(name, bytes(range(255, 0, -1)) * 9), f"{name}: ") for name in NEEDED},
    **{f"{name} is a folder": (folder_instead(name), f"{name}: is no regular file") for name in NEEDED},
    **{f"{name} is a pipe": (pipe_instead(name), f"{name}: is no regular file") for name in NEEDED},
    **{f"{name} is a link out": (link(name, "{outside}"), "is a link that leads out of the folder") for name in NEEDED},
    **{f"{name} is a link up": (link(name, "../outside-{name}"), "leads out of the folder") for name in NEEDED},
    **{f"{name} is a dead link": (link(name, "nowhere"), "is a link that leads nowhere") for name in NEEDED},
    # config.json
    "config is a list": (write(CONFIG, "[]"), "is not the config of a model folder"),
    "config of another program": (write(CONFIG, '{"model_type": "wav2vec2"}'), "is not the config of a model folder"),
    "config is YAML": (write(CONFIG, "!!python/object/apply:os.system [touch canary]"), "is not valid JSON"),
    "config is nested deeply": (write(CONFIG, DEEP), "nested too deeply"),
    "config is huge": (lambda folder: os.truncate(folder / CONFIG, 1 << 40), "are read"),
    "config has a key twice": (replace(CONFIG, '"version": 1', '"version": 1, "version": 1'), "occurs twice"),
    "config has NaN": (replace(CONFIG, "0.01", "NaN"), "NaN is not a JSON number"),
    "config has infinity": (replace(CONFIG, "0.01", "1e999"), "normalization.min_std is inf"),
    "config has a number of many digits": (replace(CONFIG, "0.01", "9" * 5000), "is not valid JSON"),
    "config is no UTF-8": (write(CONFIG, b'{"format": "\xff"}'), "not UTF-8"),
    "config is cut": (lambda folder: os.truncate(folder / CONFIG, 200), "is not valid JSON"),
    "model of another kind": (put("model.kind", "transducer"), "lacks the tensor model.project_encoded.weight"),
    "newer version": (put("version", 2), "version is 2, but this program reads version 1"),
    "version is text": (put("version", "1"), "version is '1'"),
    "version is true": (put("version", True), "version is True"),
    "unknown key": (put("weights_file", "../../etc/passwd"), "has the unknown key 'weights_file'"),
    "unknown encoder key": (put("encoder.path", "../x"), "has the unknown key 'encoder.path'"),
    "unknown feature key": (put("features.mel\x1b[2J", 1), r"has the unknown key 'features.mel\x1b[2J'"),
    "missing key": (edit(CONFIG, lambda config: config.pop("features")), "lacks the key features"),
    "encoder is text": (put("encoder", "bl_resnet22"), "encoder is 'bl_resnet22', but must be an object"),
    "channels are text": (put("encoder.channels", "8, 16"), "encoder.channels is '8, 16', but must be a list of 4"),
    "three stages": (put("encoder.channels", [8, 16, 32]), "must be a list of 4 whole numbers"),
    "channels are fractions": (put("encoder.channels", [8.5, 16, 32, 64]), "is 8.5, but must be a whole number"),
    "huge channels": (put("encoder.channels", [10**12] * 4), "must be a whole number from 0 to 16384"),
    "large channels": (put("encoder.channels", [2048, 4096, 8192, 16384]), "but the network of config.json has"),
    "no channels": (put("encoder.channels", [0] * 4), "encoder cannot be built (channels is (0, 0, 0, 0)"),
    "a billion blocks": (put("encoder.blocks", [10**9] * 4), "must be a whole number from 0 to 128"),
    "many branches": (put("encoder.branches", 40), "encoder.branches is 40, but must be a whole number from 0 to 4"),
    "flag is a number": (put("encoder.pyramid", 1), "encoder.pyramid is 1, but must be true or false"),
    "number is a flag": (put("encoder.alpha", True), "encoder.alpha is True, but must be a whole number"),
    "alpha that does not divide": (put("encoder.alpha", 3), "encoder cannot be built (alpha 3"),
    "no such padding": (put("encoder.time_padding", "future"), "encoder cannot be built"),
    "block that is code": (put("encoder.block", {"layers": "os.system"}), "must be an object with shortcut"),
    "causal in name only": (put("encoder.block", {"squeeze_excite": "no"}), "must be true or false"),
    "normalization by path": (put("normalization.kind", "os.system"), "normalization.kind is 'os.system', but must be"),
    "normalization is null": (put("normalization", None), "normalization.kind is None"),
    "fewer mel bins": (put("features.n_mels", 20), "encoder.input_size is 40, but there are 20 features"),
    "hop of nothing": (put("features.hop_length", 0), "cannot run"),
    "hop of a month": (put("features.hop_length", 2.6e9), "features.hop_length is 2600000000.0, but must be a number"),
    "window of nothing": (put("features.win_length", 0), "cannot "),
    "negative window": (put("features.win_length", -25.0), "features.win_length is -25.0, but must be a number from 0"),
    "no sample rate": (put("features.sample_rate", 0), "features cannot be built"),
    "transform of nothing": (put("features.n_fft", 0), "features cannot be built"),
    "lowest filter above the highest": (put("features.f_min", 9000.0), "features cannot be built"),
    "no such kind": (put("model.kind", "os.system"), "model.kind is 'os.system', but must be one of ctc, attention"),
    "model is a list": (put("model", ["ctc"]), "model.kind is None"),
    "search is text": (put("search", "greedy"), "search is 'greedy', but must be an object"),
    "facts that are code": (put("training", {"command": ["rm"]}), "must be a number or text"),
    # tokenizer.json
    "fewer symbols": (edit(TOKENIZER, lambda state: state["symbols"].pop()), "they are not of the same model"),
    "symbols of two characters": (edit(TOKENIZER, lambda state: state["symbols"].append("AB")), "single characters"),
    "symbols are numbers": (edit(TOKENIZER, lambda state: state.update(symbols=[1] * 12)), "single characters"),
    "symbol twice": (edit(TOKENIZER, lambda state: state["symbols"].append("A")), "a symbol occurs twice"),
    "symbol that clears the screen": (replace(TOKENIZER, '"A"', r'"\u001b"'), "control characters"),
    "half a character": (replace(TOKENIZER, '"A"', r'"\ud800"'), "control characters"),
    "no such tokenizer": (edit(TOKENIZER, lambda state: state.update(kind="os.system")), "kind must be one of"),
    "tokenizer is a list": (write(TOKENIZER, "[]"), "holds no tokenizer"),
    "tokenizer is nested deeply": (write(TOKENIZER, DEEP), "nested too deeply"),
    "word pieces of nothing": (write(TOKENIZER, '{"kind": "bpe", "model": "AAAA"}'), "is not a SentencePiece model"),
    # model.safetensors
    "weights are a pickle": (lambda folder: (folder / WEIGHTS).write_bytes(payload(folder / "canary")), "is a pickle"),
    "weights are an old pickle": (
        lambda folder: (folder / WEIGHTS).write_bytes(pickle.dumps(Payload(folder / "canary"))),
        "is a pickle",
    ),
    **{f"weights cut to {size} bytes": (cut(lambda *_, size=size: size), "claims") for size in (1, 7, 8, 9)},
    "weights cut in the header": (cut(lambda header_end, end: header_end // 2), "for its header"),
    "weights cut before the header's end": (cut(lambda header_end, end: header_end - 1), "for its header"),
    "weights without data": (cut(lambda header_end, end: header_end), "it has 0 bytes of data"),
    "weights cut in the data": (cut(lambda header_end, end: (header_end + end) // 2), "bytes of data, and should have"),
    "weights without the last byte": (cut(lambda header_end, end: end - 1), "bytes of data, and should have"),
    "weights with one byte more": (
        lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes() + b"!"),
        "bytes of data, and should have",
    ),
    "header of 2 GB": (claim(2 << 30), "claims 2147483648 for its header"),
    "header of 9 EB": (claim((1 << 63) - 1), "claims 9223372036854775807 for its header"),
    "header of minus 1": (claim((1 << 64) - 1), "claims 18446744073709551615 for its header"),
    "header of nothing": (claim(0), "its header is not valid JSON"),
    "2 GB header in a file of 4 GB": (
        lambda folder: (claim(2 << 30)(folder), os.truncate(folder / WEIGHTS, 4 << 30)),
        "has a header of 2147483648 bytes",
    ),
    "header is a list": (header(lambda entries: "[]"), "its header is no JSON object"),
    "header is nested deeply": (header(lambda entries: DEEP), "nested too deeply"),
    "header with a tensor twice": (
        header(lambda entries: json.dumps(entries)[:-1] + f', "{BIAS}": {{}}}}'),
        "occurs twice",
    ),
    "tensor is a number": (header(lambda entries: entries.update({BIAS: 1})), "the header has 1 for dtype"),
    "tensor without shape": (header(lambda entries: entries[BIAS].pop("shape") and None), "for dtype, shape"),
    "offsets are text": (header(lambda entries: entries[BIAS].update(data_offsets="0")), "must be two whole numbers"),
    "offsets are fractions": (
        header(lambda entries: entries[BIAS].update(data_offsets=[0.0, 52.0])),
        "must be two whole numbers",
    ),
    "offsets below 0": (header(lambda entries: entries[BIAS].update(data_offsets=[-52, 0])), "its data begin at -52"),
    "offsets backwards": (header(lambda entries: entries[BIAS]["data_offsets"].reverse()), "do not fit its shape"),
    "offsets behind the end": (
        header(lambda entries: entries[BIAS].update(data_offsets=[1 << 40, (1 << 40) + 52])),
        "its data begin at",
    ),
    "offsets that overlap": (
        header(lambda entries: entries[BIAS].update(data_offsets=[4, 56])),
        "its data begin at",
    ),
    "tensor missing": (tensors(lambda state: state.pop(BIAS)), f"lacks the tensor {BIAS} (1 of"),
    "tensor too many": (tensors(lambda state: state.update({"../x": torch.zeros(1)})), "has the tensor '../x'"),
    "tensors of another network": (tensors(lambda state: (state.clear(), state.update(a=torch.zeros(1)))), "lacks the"),
    "bfloat16": (tensors(lambda state: state.update({BIAS: state[BIAS].bfloat16()})), f"tensor {BIAS} is 'BF16' of"),
    "integers": (tensors(lambda state: state.update({BIAS: state[BIAS].int()})), f"tensor {BIAS} is 'I32' of shape"),
    "turned tensor": (
        tensors(lambda state: state.update({STEM: state[STEM].transpose(0, 2).contiguous()})),
        f"tensor {STEM} is 'F32' of shape [5, 1, 8, 5], but",
    ),
    "not a number": (tensors(lambda state: state[STEM].view(-1)[7:8].fill_(torch.nan)), f"tensor {STEM} has values"),
    "infinite": (tensors(lambda state: state[BIAS][1:2].fill_(-torch.inf)), "infinite or not a number"),
    "negative variance": (
        tensors(lambda state: state["model.encoder.stem.1.running_var"].neg_()),
        "values below 0, which no variance has",
    ),
    "weights that overflow": (tensors(lambda state: state["model.output.weight"].fill_(3e38)), "output is not finite"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", BROKEN)
def test_broken_folders_are_one_sentence(good: Path, tmp_path: Path, capsys: Any, case: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(good, folder)
    breaks, message = BROKEN[case]
    breaks(folder)
    soundfile.write(tmp_path / "a.wav", [0.1] * 8000, SAMPLE_RATE)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert_refused(["pack", str(folder), str(tmp_path / "out")], message, tmp_path, capsys)
    message = message if folder.is_dir() and any(folder.iterdir()) else "no such"
    arguments = ["transcribe", str(folder), str(tmp_path / "a.wav"), "--output", str(tmp_path / "out")]
    assert_refused(arguments, message, tmp_path, capsys)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 200_000  # kB
    assert not (folder / "canary").exists() and not Path("canary").exists()


OF_ANY_FILE = [
    case
    for case in BROKEN
    if case.startswith(("config is", "weights", "header of", "header is", "config.json is", "model.safetensors is"))
    or case in ("empty config.json", "empty model.safetensors", "no config.json", "no model.safetensors")
    if case != "weights that overflow"
]
"""What breaks a folder of images in the same way."""


@pytest.mark.slow
@pytest.mark.parametrize("case", OF_ANY_FILE)
def test_broken_folders_of_images_are_one_sentence(tmp_path: Path, capsys: Any, case: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(MODELS / IMAGES, folder)
    breaks, message = BROKEN[case]
    breaks(folder)
    assert_refused(["pack", str(folder), str(tmp_path / "out")], message, tmp_path, capsys)
    with pytest.raises((OSError, ValueError), match=re.escape(message)):
        load_classifier(folder)
    assert not (folder / "canary").exists()


def test_wrong_values_of_every_key_of_a_classifier_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(MODELS / IMAGES, folder)
    original = json.loads((folder / CONFIG).read_text())
    keys = [(key,) for key in original] + [("network", key) for key in original["network"]]
    for *parents, key in keys:
        for wrong in wrong_values(original["network"][key] if parents else original[key]):
            changed = copy.deepcopy(original)
            (changed["network"] if parents else changed)[key] = wrong
            (folder / CONFIG).write_text(json.dumps(changed))
            # A name is for people, and may be any.
            fine = key == "name" and isinstance(wrong, str) and len(wrong) < 1000
            with contextlib.nullcontext() if fine else pytest.raises(ValueError, match="config.json: "):
                load_classifier(folder)


def test_a_classifier_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(MODELS / IMAGES, folder)
    tensors(lambda state: state["fc.weight"].fill_(3e38))(folder)
    with pytest.raises(ValueError, match="output is not finite"):
        load_classifier(folder)


def wrong_values(good: Any) -> list[Any]:
    """Values of every other kind, and sizes beyond any network's."""
    kinds: dict[type, list[Any]] = {
        list: ["8", None],
        dict: ["8", None],
        bool: [0, None],
        int: [True, -1, 1 << 40, 2.5, "3"],
        float: [-1.0, 1e30, "1"],
        str: [1, "x" * 1000, "os.system"],
    }
    return [*kinds[type(good)], [good], {"a": good}]


@pytest.mark.slow
@pytest.mark.parametrize("section", ["model", "search"])
@pytest.mark.parametrize("kind", KINDS)
def test_wrong_arguments_of_every_kind_are_refused(tmp_path: Path, kind: str, section: str) -> None:
    """Whatever stands at any key; other sizes than the weights have are another network's."""
    folder = save_model(tmp_path / "model", make(kind=kind))
    original = json.loads((folder / CONFIG).read_text())
    for key, value in {**original[section], "strange": ""}.items():
        for wrong in wrong_values(value):
            changed = copy.deepcopy(original)
            changed[section][key] = wrong
            (folder / CONFIG).write_text(json.dumps(changed))
            unused = key == "nonlinearity" and isinstance(wrong, str) and len(wrong) < 1000
            with contextlib.nullcontext() if unused else pytest.raises(ValueError, match=f"config.json: .*{section}"):
                load_model(folder)
    for key in SMALL[kind]:
        changed = copy.deepcopy(original)
        if isinstance(changed["model"][key], int):
            changed["model"][key] += 1
            (folder / CONFIG).write_text(json.dumps(changed))
            with pytest.raises(ValueError, match=r"model.safetensors: (lacks the )?tensor"):
                load_model(folder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_wrong_weights_of_every_kind_are_refused(tmp_path: Path, kind: str) -> None:
    folder = save_model(tmp_path / "model", make(kind=kind))
    state = safetensors.torch.load_file(folder / WEIGHTS)
    for number, name in enumerate(name for name in state if ".encoder." not in name):
        changed, message = (
            ({key: value for key, value in state.items() if key != name}, f"lacks the tensor {name}"),
            ({**state, name: state[name].unsqueeze(0)}, f"tensor {name} is '{DTYPES[state[name].dtype]}' of shape"),
            ({**state, name: torch.full_like(state[name].float(), torch.nan)}, f"tensor {name} "),
        )[number % 3]
        safetensors.torch.save_file(changed, folder / WEIGHTS)
        with pytest.raises(ValueError, match=re.escape(message)):
            load_model(folder)
    state["model.output.weight"].fill_(3e38)
    safetensors.torch.save_file(state, folder / WEIGHTS)
    with pytest.raises(ValueError, match="output is not finite"):
        load_model(folder)


def _wrong_graph(name: str, change: Callable[[Tensor], Any]) -> Callable[[dict[str, Tensor]], Any]:
    return lambda state: change(state[f"model.search_graph.{name}"])


def _loop(arcs: Tensor) -> None:
    """Back and forth between two states, without a frame."""
    arcs[-2:] = torch.tensor([[0, 1, 0, 0], [1, 0, 0, 0]])


@pytest.mark.slow
@pytest.mark.parametrize(
    "change, message",
    [
        (_wrong_graph("arcs", lambda arcs: arcs[:, 2].fill_(1000)), "has input labels that are not from 0 to"),
        (_wrong_graph("arcs", lambda arcs: arcs[:, 3].fill_(-1)), "has output labels that are not from 0 to"),
        (_wrong_graph("arcs", lambda arcs: arcs[0, 1].fill_(1 << 30)), "states of its graph are not numbered"),
        (_wrong_graph("arcs", lambda arcs: arcs[0, 0].fill_(-1)), "states of its graph are not numbered"),
        (_wrong_graph("final_states", lambda states: states.fill_(1 << 30)), "states of its graph are not numbered"),
        (_wrong_graph("arcs", _loop), "cycles"),
        (_wrong_graph("tying", lambda table: table[0].fill_(-1)), "tied states are not a table of outputs"),
        (_wrong_graph("tying", lambda table: table[0, 0, 0, 1].fill_(-1)), "tied states are not a table of outputs"),
        (_wrong_graph("tying", lambda table: table[1].fill_(1000)), "tied states are not a table of outputs"),
    ],
)
def test_graphs_that_cannot_be_searched_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    folder = save_model(tmp_path / "model", make(kind="hybrid"))
    state = safetensors.torch.load_file(folder / WEIGHTS)
    change(state)
    safetensors.torch.save_file(state, folder / WEIGHTS)
    with pytest.raises(ValueError, match=f"model.safetensors: .*{message}"):
        load_model(folder)


def test_file_in_place_of_the_folder(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "model").write_text("")
    assert_refused(["pack", str(tmp_path / "model"), str(tmp_path / "out")], "model: ", tmp_path, capsys)
    with pytest.raises(NotADirectoryError, match="is a file, but must be a model folder"):
        load_model(tmp_path / "model")


def test_what_else_lies_in_a_folder_is_never_read(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(good, folder)
    canary = tmp_path / "canary"
    (folder / SPEECHBRAIN).write_text(f"a: !!python/object/apply:os.system ['touch {canary}']\nb: !apply:os.abort []")
    for name in ("model.ckpt", "pytorch_model.bin", "custom.py", "__init__.py"):
        (folder / name).write_bytes(payload(canary))
    os.mkfifo(folder / "pipe")
    # A link is no harm while it stays inside.
    (folder / WEIGHTS).rename(folder / "v2.safetensors")
    (folder / WEIGHTS).symlink_to("v2.safetensors")
    assert_same(load_model(folder), load_model(good))
    assert not canary.exists()


def test_folder_that_does_not_say_its_kind_is_of_ctc(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(good, folder)
    edit(CONFIG, lambda config: [config.pop("model"), config.pop("search")])(folder)
    assert_same(load_model(folder), load_model(good))


def test_argument_that_an_older_program_did_not_know_has_its_default(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(good, folder)
    edit(CONFIG, lambda config: [config["encoder"].pop("time_padding"), config["features"].pop("floor")])(folder)
    assert_same(load_model(folder), load_model(good))


def test_device_that_is_not_there_is_refused(good: Path) -> None:
    with pytest.raises(ValueError, match="device 'abacus'"):
        load_model(good, "abacus")


def test_every_truncation_of_the_header_is_refused(good: Path, tmp_path: Path) -> None:
    content = (good / WEIGHTS).read_bytes()
    expected = stored_state(load_model(good))
    header_end = 8 + int.from_bytes(content[:8], "little")
    for size in [*range(64), *range(64, header_end, 997), header_end - 1]:
        (tmp_path / WEIGHTS).write_bytes(content[:size])
        with pytest.raises(ValueError, match="is not a whole safetensors file"):
            read_weights(tmp_path / WEIGHTS, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", NEEDED)
def test_damaged_bytes_load_or_are_refused(good: Path, tmp_path: Path, name: str) -> None:
    folder, draw = tmp_path / "model", random.Random(0)
    shutil.copytree(good, folder)
    content = (good / name).read_bytes()
    for _ in range(30):
        damaged = bytearray(content)
        for _ in range(draw.randint(1, 3)):
            place = draw.randrange(min(len(content), 2000))
            damaged[place : place + draw.randint(0, 2)] = bytes(draw.choices(range(256), k=draw.randint(0, 2)))
        (folder / name).write_bytes(damaged)
        with contextlib.suppress(ValueError):
            load_model(folder)
