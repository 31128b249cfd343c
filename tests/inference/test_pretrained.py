"""The models that come with the package, and float16 folders, of which they are."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from biglittle_asr.cli import main
from biglittle_asr.inference import load_model
from biglittle_asr.inference.exporting import PRETRAINED
from biglittle_asr.inference.folder.store import WEIGHTS, read_model
from biglittle_asr.inference.folder.weights import HALVED, halve
from support.golden import MODELS

SHIPPED = sorted(path.name for path in PRETRAINED.iterdir())
LARGEST = 6_000_000
"""Bytes of all of them together, in a wheel."""
NOISE = np.random.default_rng(0).normal(size=32000).astype(np.float32) / 10


def test_all_together_are_small() -> None:
    assert sum(path.stat().st_size for path in PRETRAINED.rglob("*") if path.is_file()) <= LARGEST


@pytest.mark.parametrize("name", SHIPPED)
def test_names_load_from_any_folder(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    found = load_model(name).transcribe(NOISE, sample_rate=16000)
    assert found.words == load_model(PRETRAINED / name).transcribe(NOISE, sample_rate=16000).words
    # A folder of the user's comes first.
    shutil.copytree(MODELS / "ctc_bpe", tmp_path / name)
    assert load_model(name).tokenizer.kind == load_model(MODELS / "ctc_bpe").tokenizer.kind != "character"


@pytest.mark.parametrize("name", SHIPPED)
def test_cards_have_scores_and_show_no_machine(name: str) -> None:
    card = (PRETRAINED / name / "README.md").read_text()
    assert card.startswith("---\n") and re.search(r"^\| test \| [\d.]+ \|", card, re.MULTILINE)
    assert all(path.startswith("/path/to/") for path in re.findall(r"(?<![\w.])/\w[\w./-]*", card))


@pytest.mark.slow
def test_scores_of_an4_are_those_of_its_card(an4_folder: Path, capsys: Any) -> None:
    assert main(["evaluate", "an4", str(an4_folder), "--corpus", "an4", "--bootstrap", "0"]) == 0
    found = re.search(r"(\d+) sub, (\d+) del, (\d+) ins", capsys.readouterr().out)
    card = (PRETRAINED / "an4" / "README.md").read_text()
    stated = re.search(r"^\| test \| [^|]*\| [^|]*\| (\d+) / (\d+) / (\d+) \|", card, re.MULTILINE)
    assert found is not None and stated is not None and found.groups() == stated.groups()


@pytest.mark.slow
def test_runtimes_leave_the_package_as_it_is(tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = sorted(PRETRAINED.rglob("*"))
    found = load_model("an4", runtime="onnxruntime").transcribe(NOISE, sample_rate=16000)
    assert found.text == load_model("an4").transcribe(NOISE, sample_rate=16000).text
    assert sorted(PRETRAINED.rglob("*")) == before and list(tmp_path.rglob("model.onnx"))


# Float16


@pytest.mark.parametrize("kind", sorted(path.name for path in MODELS.iterdir() if path.is_dir()))
def test_float16_folders_have_the_same_weights_to_three_digits(kind: str, tmp_path: Path) -> None:
    assert main(["pack", str(MODELS / kind), str(tmp_path / "half"), "--float16"]) == 0
    whole, half = read_model(MODELS / kind).model.state_dict(), read_model(tmp_path / "half").model.state_dict()
    for name, tensor in half.items():
        assert tensor.dtype == whole[name].dtype
        if tensor.numel() < HALVED or not tensor.is_floating_point():
            assert torch.equal(tensor, whole[name])
        else:
            torch.testing.assert_close(tensor, whole[name], rtol=1e-3, atol=1e-7)
    sizes = [(folder / WEIGHTS).stat().st_size for folder in (tmp_path / "half", MODELS / kind)]
    assert sizes[0] < sizes[1] or all(tensor.numel() < HALVED for tensor in whole.values())


def test_values_beyond_float16_are_refused() -> None:
    with pytest.raises(ValueError, match="^tensor a has values that are too large for float16; keep float32.$"):
        halve({"a": torch.full((HALVED,), 1e6)})
