"""`biglittle models`: every named network at its real cost, every recipe, every trained model that is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from biglittle_asr.cli import main
from biglittle_asr.commands import models
from biglittle_asr.inference import ModelCard, save_model
from biglittle_asr.models import list_encoders, list_models
from biglittle_asr.profiling.named import encoder_facts, image_model_facts
from support.recipe_files import RECIPE_FILES
from support.repository import REPOSITORY

AGAIN = "write it anew: python -m biglittle_asr.profiling.named"
COSTS = json.loads(models.COSTS.read_text())


def listed(capsys: Any) -> Any:
    assert main(["models", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_named_network_and_recipe_is_listed(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    found = listed(capsys)
    names = {kind: [network["name"] for network in found[kind]] for kind in ("encoders", "images")}
    assert names == {"encoders": list_encoders(), "images": list_models()}, AGAIN
    assert [Path(recipe["path"]).resolve() for recipe in found["recipes"]] == RECIPE_FILES
    assert all(recipe["what"] for recipe in found["recipes"])
    assert main(["models"]) == 0
    tables = capsys.readouterr().out.split("\n\n")
    for kind, table in zip(("encoders", "images"), tables, strict=False):
        for network in found[kind]:
            (line,) = [line for line in table.splitlines() if line.split(" ")[0] == network["name"]]
            assert f"{network['parameters']:,}" in line and f"{network['macs']:,}" in line
    assert [line.split(" ")[0] for line in tables[2].splitlines()[1:]] == [each["path"] for each in found["recipes"]]


@pytest.mark.slow
@pytest.mark.parametrize("name", list_encoders())
def test_costs_of_encoders_are_those_counted(name: str) -> None:
    assert COSTS["encoders"][name] == encoder_facts(name), AGAIN


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_costs_of_image_models_are_those_counted(name: str) -> None:
    assert COSTS["images"][name] == image_model_facts(name), AGAIN


def test_big_little_networks_are_compared_with_their_twins(capsys: Any) -> None:
    found = listed(capsys)
    for network in (*found["encoders"], *found["images"]):
        assert (network["percent_of_twin"] is None) == (not network["name"].startswith("bl_"))
        if network["percent_of_twin"] is not None:
            assert 0 < network["percent_of_twin"] < 100


def test_trained_models_are_listed_by_being_there(
    recognizer: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "PRETRAINED", tmp_path / "pretrained")
    assert listed(capsys)["pretrained"] == []
    for name in ("small", "with_text"):
        save_model(tmp_path / "pretrained" / name, recognizer, ModelCard() if name == "small" else "# Words\n\nText.\n")
    (tmp_path / "pretrained" / "no_model").mkdir()
    monkeypatch.chdir(tmp_path)
    found = {each["path"]: each["what"] for each in listed(capsys)["pretrained"]}
    assert set(found) == {str(Path("pretrained", name)) for name in ("small", "with_text")}
    assert "Big-Little ResNet-22" in found["pretrained/small"] and found["pretrained/with_text"] == "Words"
    assert main(["models"]) == 0
    assert "with_text  Words" in capsys.readouterr().out


def test_an_installed_package_has_no_recipes(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "CHECKOUT", tmp_path)
    assert listed(capsys)["recipes"] == []
    assert main(["models"]) == 0
    assert "recipe" not in capsys.readouterr().out
