"""What users have and rely on keeps working: model folders, interrupted trainings, names, and what commands print.

tests/golden/make.py wrote what is compared here, by the code of its day.
"""

from __future__ import annotations

import importlib
import json
import operator
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from biglittle_asr.inference import load_model, save_model
from biglittle_asr.inference.folder.classifier import load_classifier, save_classifier
from biglittle_asr.inference.folder.kinds import KINDS
from support import golden as cases
from support.golden import GOLDEN, IMAGES, MODELS, SPEECH, TRAINING, differences

LARGEST_BYTES = 1_000_000
"""Largest size of all golden files together."""


def assert_as_before(found: Any, name: str) -> None:
    """Equal to a golden file; floats nearly."""
    wrong = differences(cases.rounded(found), cases.read(name))
    assert not wrong, "\n".join(wrong[:20])


# Model folders


@pytest.mark.slow
@pytest.mark.parametrize("name", SPEECH)
def test_a_folder_of_speech_says_what_it_said(name: str, tmp_path: Path) -> None:
    assert_as_before(cases.observe_speech(name, MODELS / name, tmp_path), f"models/{name}")


def test_a_folder_of_images_says_what_it_said(tmp_path: Path) -> None:
    assert_as_before(cases.observe_images(MODELS / IMAGES, tmp_path), f"models/{IMAGES}")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SPEECH, IMAGES])
def test_a_folder_written_again_has_the_same_tensors(name: str, tmp_path: Path) -> None:
    if name == IMAGES:
        again = save_classifier(tmp_path / name, load_classifier(str(MODELS / name)), "")
    else:
        again = save_model(tmp_path / name, load_model(MODELS / name))
    assert cases.stored(again / "model.safetensors") == cases.stored(MODELS / name / "model.safetensors")


@pytest.mark.parametrize("name", SPEECH)
def test_a_folder_opens_in_speechbrain_as_before(name: str, tmp_path: Path) -> None:
    from speechbrain.inference import ASR

    interface = getattr(ASR, KINDS[name.split("_")[0]].interface)
    asr = interface.from_hparams(source=str(MODELS / name), savedir=str(tmp_path / "fetched"))
    samples = torch.from_numpy(cases.spoken(cases.SAID["r1"], 101)) / 32768
    (text,), _ = asr.transcribe_batch(samples[None], torch.ones(1))
    (expected,) = (
        each["text"] for each in cases.read(f"models/{name}")["transcribe"]["transcripts"] if each["name"] == "r1"
    )
    assert text == expected


def test_every_kind_has_a_golden_folder() -> None:
    assert {name.split("_")[0] for name in SPEECH} == set(KINDS)


# Interrupted trainings


@pytest.mark.slow
@pytest.mark.parametrize("name", cases.STOPS)
def test_an_interrupted_training_ends_as_it_would_have(name: str, tmp_path: Path) -> None:
    main, words = cases.training(name, cases.lay(name, tmp_path / "out"))
    before = sorted(path.name for path in (tmp_path / "out" / "save").glob("CKPT*"))
    main(words)
    found = cases.observe_training(name, tmp_path / "out")
    assert_as_before(found, f"training/{name}")
    # It went on from the checkpoint inside of the last epoch, and did not begin anew.
    epoch, _ = cases.STOPS[name]
    assert f"CKPT+epoch-{epoch:04d}-step" in before[-1] and len(found["epochs"]) == epoch
    log = (tmp_path / "out" / "log.txt").read_text()
    assert f"epoch {epoch}: " in log and f"epoch {epoch - 1}: " not in log


def test_checkpoints_name_no_module_of_this_package() -> None:
    """So that modules can move: a pickle that names one cannot be read once it is elsewhere."""
    files = sorted(TRAINING.rglob("*.ckpt"))
    assert files
    for file in files:
        if not zipfile.is_zipfile(file):
            # Text: a counter, or JSON.
            json.loads(file.read_text())
            continue
        with zipfile.ZipFile(file) as archive:
            (pickled,) = (archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
        assert not any(code.name == "STACK_GLOBAL" for code, _, _ in pickletools.genops(pickled))
        modules = [argument.split()[0] for code, argument, _ in pickletools.genops(pickled) if code.name == "GLOBAL"]
        assert {module.split(".")[0] for module in modules} <= {"collections", "torch"}, file


# Names


@pytest.mark.slow
def test_every_network_has_the_tensors_it_had() -> None:
    found, expected = cases.observe_networks(), cases.read("networks")
    for kind in expected:
        for name in expected[kind]:
            assert found[kind].get(name) == expected[kind][name], f"{name}: its tensors' names or shapes are others"
        new = sorted(found[kind].keys() - expected[kind].keys())
        assert not new, f"{new}: add them by `python tests/golden/make.py networks --overwrite`"


def test_names_that_users_import_are_there() -> None:
    missing = [name for name in (GOLDEN / "names.txt").read_text().split() if not is_there(name)]
    assert not missing, f"keep an alias where these were: {missing}"


def is_there(name: str) -> bool:
    """Whether a dotted name is a module, or a name in one."""
    parts = name.split(".")
    for size in range(len(parts), 0, -1):
        room = ".".join(parts[:size])
        try:
            value: Any = importlib.import_module(room)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{room}.".startswith(f"{error.name}."):
                raise
            continue
        try:
            operator.attrgetter(".".join(parts[size:]))(value) if parts[size:] else value
        except AttributeError:
            return False
        return True
    return False


# Commands


@pytest.mark.slow
def test_commands_print_the_same_json(tmp_path: Path) -> None:
    assert_as_before(cases.observe_commands(tmp_path), "commands")


# The golden files


def test_golden_files_are_small() -> None:
    sizes = {path: path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert sum(sizes.values()) < LARGEST_BYTES and max(sizes.values()) < LARGEST_BYTES / 4
