"""What is pinned by tests/golden: recordings and pictures made the same anywhere, and what is observed of today's code.

`tests/golden/make.py` writes what these functions return, tests/test_golden.py compares with it.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import soundfile
import torch
from PIL import Image
from torch import nn

from biglittle_asr.cli import main
from support.corpora import SAMPLE_RATE
from support.ctc_recipe import write_manifests
from support.repository import REPOSITORY

GOLDEN = REPOSITORY / "tests" / "golden"
MODELS, TRAINING = GOLDEN / "models", GOLDEN / "training"
PLACE = "FOLDER"
"""Stands for the folder of a test in what is compared."""

WORDS = "ACE ADD BAD BED CAB CAFE DAB DEAF EBB FACE FED".split()
LETTER_SECONDS = 0.14
SAID = {"r0": "BAD CAFE", "r1": "DEAF ACE ADD", "r2": "BED FACE DAB CAB", "r3": "FED"}
"""Recording -> its words."""
REFERENCES = {"r0": "BAD CAFE", "r1": "DEAF FACE ADD ACE", "r2": "BED FACE CAB", "r3": "FED"}
"""What `biglittle evaluate` is told they are: a substitution, a deletion and an insertion away."""

SEARCHED: dict[str, list[list[str]]] = {
    "ctc": [["--nbest", "2", "--beam", "8"]],
    "ctc_bpe": [["--nbest", "2", "--beam", "8"]],
    "attention": [["--nbest", "2", "--beam", "4"]],
    "transducer": [["--nbest", "2", "--beam", "4"]],
    "hybrid": [["--nbest", "2"]],
}
"""Options with which a folder transcribes once more."""
SPEECH = ("ctc", "ctc_causal", "ctc_bpe", "ctc_unigram", "attention", "transducer", "hybrid")
IMAGES = "images"
CLASSES = ("ape", "bee", "cat", "dog", "elk", "fox", "gnu")


# Recordings and pictures


def spoken(text: str, seed: int = 0) -> np.ndarray:
    """A tone for each letter, silence for each space, over noise: samples (S,) of 16 bits.

    The noise keeps every filter's energy well above what rounding could change.
    """
    rng = np.random.default_rng(seed)
    time = np.arange(round(LETTER_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    fade = np.sin(np.pi * time / LETTER_SECONDS)
    parts = [0 * time if letter == " " else fade * np.sin(2 * np.pi * _pitch(letter) * time) for letter in f" {text} "]
    samples = np.round(9000 * np.concatenate(parts))
    return (samples + rng.integers(-300, 301, len(samples))).astype(np.int16)


def _pitch(letter: str) -> int:
    return 300 + 250 * (ord(letter) - ord("A") + 1)


def write_recordings(folder: Path) -> Path:
    """The recordings of `SAID`; returns their manifest."""
    rows = []
    for index, (name, text) in enumerate(SAID.items()):
        samples = spoken(text, 100 + index)
        soundfile.write(folder / f"{name}.wav", samples, SAMPLE_RATE)
        rows.append([name, len(samples) / SAMPLE_RATE, folder / f"{name}.wav", f"s{index % 2}", REFERENCES[name]])
    write_manifests(folder / "manifests", rows)
    return folder / "manifests" / "test.csv"


def write_corpus(folder: Path, utterances: int = 32) -> None:
    """Manifests of a training set of random words, of which the first few are dev and test."""
    rng, rows = np.random.default_rng(0), []
    (folder / "wav").mkdir(parents=True, exist_ok=True)
    for index in range(utterances):
        text = " ".join(WORDS[choice] for choice in rng.integers(0, len(WORDS), 1 + index % 2))
        samples = spoken(text, index)
        wav = folder / "wav" / f"u{index}.wav"
        soundfile.write(wav, samples, SAMPLE_RATE)
        rows.append([f"u{index}", len(samples) / SAMPLE_RATE, wav, f"s{index % 4}", text])
    write_manifests(folder / "save" / "manifests", rows)
    few = (folder / "save" / "manifests" / "train.csv").read_text().splitlines(keepends=True)[:7]
    for name in ("dev", "test"):
        (folder / "save" / "manifests" / f"{name}.csv").write_text("".join(few))


def picture(label: int, seed: int, size: int = 20) -> Image.Image:
    """A picture of a class: stripes of its own width in its own color, over noise."""
    rng = np.random.default_rng(1000 * label + seed)
    rows = np.arange(size)[:, None] // (1 + label % 3) % 2
    color = np.array([40 + 80 * (label // 3), 40 + 60 * (label % 4), 220 - 30 * label])
    pixels = np.broadcast_to((rows * 60)[..., None], (size, size, 1)) + color + rng.integers(-25, 26, (size, size, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def write_pictures(folder: Path, images: int, seed: int = 0) -> Path:
    """Class folders."""
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for index in range(images):
            picture(label, seed + index).save(folder / name / f"{index}.png")
    return folder


# What is observed


def command(folder: Path, *words: object) -> Any:
    """What a command prints, read as JSON if it asks for that."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main([str(word) for word in words])
    assert status == 0, err.getvalue()
    text = out.getvalue().replace(str(folder), PLACE).replace(str(MODELS), PLACE)
    return json.loads(text) if "--json" in words else text


def read_ctm(text: str) -> list[dict[str, Any]]:
    """Lines of a CTM file; times as they are written."""
    keys = ("recording", "channel", "start", "duration", "word")
    lines = [line.split() for line in text.splitlines()]
    return [{**dict(zip(keys, line, strict=False)), "confidence": float(line[5])} for line in lines]


def observe_speech(name: str, model: Path, folder: Path) -> dict[str, Any]:
    """Words, times, confidences, counts and some outputs of a model folder.

    Arguments
    ---------
    name : str
        One of `SPEECH`.
    model : pathlib.Path
        The model folder.
    folder : pathlib.Path
        An empty one for recordings.
    """
    from biglittle_asr.inference import load_model

    manifest = write_recordings(folder)
    found = {
        "transcribe": command(folder, "transcribe", model, manifest, "--json"),
        "evaluate": command(folder, "evaluate", model, manifest, "--json", "--bootstrap", 100),
        "ctm": read_ctm(command(folder, "transcribe", model, folder / "r1.wav", "--format", "ctm")),
        "searched": {
            " ".join(options): command(folder, "transcribe", model, folder / "r1.wav", "--json", *options)
            for options in SEARCHED.get(name, [])
        },
    }
    if name == "ctc_causal":
        found["stream"] = command(folder, "transcribe", model, folder / "r2.wav", "--stream")
    recognizer = load_model(model)
    samples = torch.from_numpy(spoken(SAID["r1"], 101).astype(np.float32) / 32768)
    with torch.inference_mode():
        outputs, frames = recognizer(samples[None], torch.tensor([len(samples)]))
    found["outputs"] = {"shape": list(outputs.shape), "values": outputs[0, :: len(outputs[0]) // 6, :6].tolist()}
    found["state"] = shapes(recognizer)
    return found


def observe_images(model: Path, folder: Path) -> dict[str, Any]:
    """Best classes, counts and logits of a folder of an image classifier."""
    from biglittle_asr.features.images import evaluation_transform, read_image
    from biglittle_asr.inference.folder.classifier import load_classifier

    images = write_pictures(folder / "images", 2, seed=500)
    classifier = load_classifier(str(model))
    transform = evaluation_transform(classifier.resize, classifier.crop)
    pixels = torch.stack([transform(read_image(path)) for path in sorted(images.rglob("*.png"))])
    with torch.inference_mode():
        logits = classifier.model(pixels)
    best = logits.softmax(-1).topk(5)
    assert classifier.classes is not None
    return {
        "evaluate": command(folder, "evaluate", model, images, "--json"),
        "classes": list(classifier.classes),
        "best": [[classifier.classes[index] for index in row] for row in best.indices.tolist()],
        "probabilities": best.values.tolist(),
        "logits": logits.tolist(),
        "state": shapes(classifier.model),
    }


def shapes(model: nn.Module) -> dict[str, list[int]]:
    """Names and shapes of a model's state."""
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items()}


def stored(file: Path) -> dict[str, list[int]]:
    """The same of a safetensors file."""
    with safetensors.safe_open(file, "pt") as tensors:
        return {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}


def digest(model: nn.Module) -> dict[str, Any]:
    """How many tensors, parameters, and a hash of sorted lines `name shape`."""
    lines = sorted(f"{name} {shape}" for name, shape in shapes(model).items())
    text = "".join(f"{line}\n" for line in lines)
    return {
        "tensors": len(lines),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


def observe_networks() -> dict[str, dict[str, Any]]:
    """Observe every encoder preset and every image model."""
    from biglittle_asr.models import create_encoder, create_model, list_encoders, list_models

    with torch.device("meta"):
        return {
            "encoders": {name: digest(create_encoder(name)) for name in list_encoders()},
            "images": {name: digest(create_model(name)) for name in list_models()},
        }


SCORED = {
    "ref.txt": "jane-1 one two\njoe-1 three\njoe-2 four five six\n",
    "hyp.txt": "joe-1 three three\njane-1 one too\njoe-2 four six\n",
    "utt2spk": "jane-1 jane\njoe-1 joe\njoe-2 joe\n",
    "ref.stm": (
        "a A jane 0.00 2.00 <o,f0> one two\na A jane 2.00 4.00 <o,f0> three\nb A joe 0.00 3.00 <o,f1> four five six\n"
    ),
    "hyp.ctm": "a A 0.10 0.30 one 0.9\na A 0.50 0.40 too 0.8\na A 2.10 0.50 three 0.7\nb A 0.20 0.30 four 0.6\n",
    "other.ctm": "a A 0.10 0.30 one\na A 0.50 0.40 two\na A 2.10 0.50 tree\nb A 0.20 0.30 four\nb A 0.90 0.30 six\n",
}
"""Files of `biglittle score`."""


def observe_commands(folder: Path) -> dict[str, Any]:
    """JSON of commands that need no recording."""
    for name, text in SCORED.items():
        (folder / name).write_text(text)
    score = ("score", "--json", "--ref", folder / "ref.txt", "--hyp", folder / "hyp.txt")
    nist = ("score", "--json", "--ref", folder / "ref.stm", "--hyp", folder / "hyp.ctm")
    folders = {
        f"profile {name}": command(MODELS, "profile", MODELS / name, "--json", "--runs", 0)
        for name in (*SPEECH, IMAGES)
    }
    lines = {
        "score": score,
        "score, speakers": (*score, "--utt2spk", folder / "utt2spk", "--bootstrap", 100),
        "score, NIST": (*nist, "--bootstrap", 100, "--compare", folder / "other.ctm"),
        "profile encoders": ("profile", "bl_resnet22", "resnet22", "alpha=4", "--json", "--runs", 0),
        "profile layers": ("profile", MODELS / IMAGES, "--json", "--runs", 0, "--layers"),
        "profile sparse": ("profile", "resnet18", "--json", "--runs", 0, "--sparsity", 0.9, "--convention", "micronet"),
    }
    found = {name: command(folder, *words) for name, words in lines.items()}
    # The format is told beside what is pinned.
    assert [found[name].pop("format") for name in lines if name.startswith("score")] == ["kaldi", "kaldi", "stm"]
    return found | folders


# Trainings


def recipe(place: str) -> Any:
    """`main` of a recipe's train.py."""
    spec = importlib.util.spec_from_file_location("train", REPOSITORY / "recipes" / place / "train.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def training(name: str, folder: Path) -> tuple[Any, list[str]]:
    """`main` of a recipe, and its command line in a folder, where the data are made if they are not there."""
    common = {
        "output_folder": folder,
        "precision": "fp32",
        "train_dataloader_opts": "{num_workers: 0}",
    }
    if name == "ctc":
        if not (folder / "wav").is_dir():
            write_corpus(folder)
        yaml, place = "AN4/ctc_bl_resnet22.yaml", "AN4/CTC"
        options: dict[str, object] = {
            "data_folder": "none",
            "skip_prep": True,
            "encoder": "{channels: [4, 8, 8, 16], blocks: [2, 1, 1, 1], big_little_stages: 1, "
            "pool_frequency: False, output_size: 24}",
            "n_mels": 20,
            "feature_form": "hamming",
            "fea_augment": "{freq_masks: 0, max_time_masks: 1, time_width: 4}",
            "number_of_epochs": 24,
            "average_checkpoints": "[1]",
            "dynamic_batching": False,
            "batch_size": 4,
            "ckpt_interval_steps": 4,
            "lr": 0.01,
            # It would change the pitch of a letter to that of another.
            "wav_augment": "null",
            # Drawn otherwise by other builds of torch.
            "dropout": 0.0,
        }
    else:
        if not (folder / "data").is_dir():
            write_pictures(folder / "data" / "train", 8)
            write_pictures(folder / "data" / "val", 2, seed=500)
        yaml, place = "ImageNet/cifar10_bl_resnet50.yaml", "ImageNet"
        options = {
            "data_folder": folder / "data",
            "model": "{channels: [8, 8, 8, 8], blocks: [2, 1, 1, 1], big_little_stages: 1}",
            "number_of_epochs": 8,
            "batch_size": 14,
            "crop": 16,
            "resize": 20,
            "padding": 2,
            "ckpt_interval_steps": 2,
            "ema_decay": 0.8,
            "train_dataloader_opts": "{num_workers: 0, pin_memory: False}",
            "valid_dataloader_opts": "{batch_size: 14, num_workers: 0}",
        }
    words = [f"--{key}={value}" for key, value in {**common, **options}.items()]
    return recipe(place), [str(REPOSITORY / "hparams" / yaml), "--noprogressbar", *words]


STOPS = {"ctc": (24, 6), IMAGES: (8, 4)}
"""Epoch and step at which a training was interrupted."""


def observe_training(name: str, folder: Path) -> dict[str, Any]:
    """What a training left in its output folder: epochs, some of the final weights, words or counts."""
    with (folder / "epochs.csv").open(newline="") as file:
        epochs = [{key: float(row[key]) for key in row if key != "seconds"} for row in csv.DictReader(file)]
    with safetensors.safe_open(folder / "model" / "model.safetensors", "pt") as file:
        weights = {key: figures(file.get_tensor(key)) for key in file.keys()}
    found = {"epochs": epochs, "weights": weights}
    if name == "ctc":
        manifest = folder / "save" / "manifests" / "dev.csv"
        found["dev"] = command(folder, "transcribe", folder / "model", manifest)
        found["test"] = (folder / "wer_test.txt").read_text().replace(str(folder), PLACE)
    else:
        found["score"] = json.loads((folder / "score.json").read_text())
    return found


def figures(tensor: torch.Tensor) -> list[float]:
    """A few numbers that stand for a tensor: its root mean square, and its first and last values."""
    values = tensor.double().flatten()
    return [float(values.square().mean().sqrt()), *values[:2].tolist(), *values[-2:].tolist()]


def lay(name: str, folder: Path) -> Path:
    """Copy the interrupted training into a folder."""
    return Path(shutil.copytree(TRAINING / name, folder))


def rounded(value: Any, digits: int = 6) -> Any:
    """The same with floats of so many significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, Mapping):
        return {key: rounded(each, digits) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [rounded(each, digits) for each in value]
    return value


def read(name: str) -> Any:
    """A golden JSON file."""
    return json.loads((GOLDEN / f"{name}.json").read_text())


def differences(found: Any, expected: Any, place: str = "") -> list[str]:
    """Where two values differ: floats by more than 1e-4, those of confidences and scores by more than 1e-3."""
    if isinstance(expected, dict) and isinstance(found, dict):
        if found.keys() != expected.keys():
            return [f"{place}: keys {sorted(found.keys() ^ expected.keys())} are in one of both only"]
        return [line for key in expected for line in differences(found[key], expected[key], f"{place}/{key}")]
    if isinstance(expected, list) and isinstance(found, list):
        if len(found) != len(expected):
            return [f"{place}: {len(found)} items, not {len(expected)}"]
        pairs = enumerate(zip(found, expected, strict=True))
        return [line for index, (one, other) in pairs for line in differences(one, other, f"{place}/{index}")]
    if isinstance(expected, float) and isinstance(found, float | int):
        coarse = any(word in place.rsplit("/", 1)[-1] for word in ("confidence", "score"))
        tolerance = 1e-3 if coarse else 1e-4
        if abs(found - expected) <= tolerance * max(1.0, abs(expected)):
            return []
    elif found == expected and isinstance(found, bool) == isinstance(expected, bool):
        return []
    return [f"{place}: {found!r}, not {expected!r}"]
