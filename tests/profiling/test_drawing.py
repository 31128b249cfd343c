"""Every network draws, and every sweep lists each of its networks once."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
import torch

from biglittle_asr.cli import main
from biglittle_asr.models import create_encoder, create_model, list_encoders, list_models
from biglittle_asr.profiling import count_costs, draw_network, encoder_costs, save_drawing, sweep, sweep_table
from biglittle_asr.profiling.drawing import _count
from support.repository import REPOSITORY

pytestmark = pytest.mark.slow

NETWORKS = {
    **{f"image {name}": (create_model, name, {}) for name in list_models()},
    **{f"encoder {name}": (create_encoder, name, {}) for name in list_encoders()},
    "small": (create_model, "bl_resnet50", {"stem": "small", "num_classes": 10}),
    "three branches": (create_model, "bl_resnet50", {"branches": 3}),
    "concat": (create_model, "bl_resnet50", {"merge": "concat"}),
    "causal": (create_encoder, "bl_resnet22", {"time_padding": "causal", "big_stride": (1, 2)}),
    "context": (create_encoder, "bl_resnet22", {"context_blocks": 2, "pool_frequency": False}),
}


def texts(path):
    return " | ".join("".join(element.itertext()) for element in ElementTree.parse(path).iter() if element.text)


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_network_draws_and_names_its_stages(kind, tmp_path):
    create, name, overrides = NETWORKS[kind]
    with torch.device("meta"):
        network = create(name, **overrides)
    save_drawing(draw_network(network, name, 64), tmp_path / "net.svg")
    drawn = texts(tmp_path / "net.svg")
    assert name in drawn and "head" in drawn and "stem" in drawn
    assert all(f"stage {stage}" in drawn for stage in range(1, 5))
    assert ("little, " in drawn or "little stage" in drawn) == name.startswith("bl_")
    image = torch.zeros(1, 3, 64, 64, device="meta")
    costs = encoder_costs(network) if create is create_encoder else count_costs(network, image)
    assert f"{_count(costs.macs)} MACs for a" in drawn, "what is drawn does not add up to the network's MACs"


PICTURES = [path for path in sorted((REPOSITORY / "docs").glob("*.svg")) if path.stem in list_encoders()]


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_pictures_of_the_documentation_are_what_is_drawn(path, tmp_path):
    save_drawing(draw_network(create_encoder(path.stem), path.stem), tmp_path / path.name)
    assert texts(path) == texts(tmp_path / path.name)


def test_command_draws_svg_and_png(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["draw", "bl_resnet22", "alpha=2"]) == 0
    assert capsys.readouterr().out == "bl_resnet22.svg\n"
    assert "bl_resnet22 alpha=2" in texts("bl_resnet22.svg")
    assert main(["draw", "image:resnet34", "--image-size", "64", "--output", "net.png"]) == 0
    assert (tmp_path / "net.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bl_resnet5"], "bl_resnet50"),
        (["bl_resnet22", "--output", "net.jpg"], "net.jpg: pictures are .svg or .png"),
        (["bl_resnet22", "--output", "no/net.svg"], "no/net.svg: No such file"),
        (["bl_resnet22", "--image-size", "64"], "takes audio"),
        (["bl_resnet22", "alpha=5"], "does not divide"),
    ],
)
def test_bad_input_is_one_sentence(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["draw", *arguments]) == 1
    message = capsys.readouterr().err
    assert said in message and message.count("\n") == 1


def test_sweep_of_an_image_model_has_the_published_errors():
    plain, *variants = sweep("bl_resnet50")
    assert (plain.name, plain.macs, plain.published_error) == ("resnet50", 4_089_184_256, 23.66)
    errors = {(v.alpha, v.betas): v.published_error for v in variants}
    assert errors[2, (2,)] == 22.72 and errors[4, (4,)] == 23.15 and errors[1, (1,)] is None
    assert len(variants) == 9
    assert "not measured here" in sweep_table("bl_resnet50")


def test_sweep_lists_a_network_once(capsys):
    variants = sweep("bl_resnet22")[1:]
    assert main(["profile", "--sweep", "bl_resnet22", "--json"]) == 0
    assert [fact["macs"] for fact in json.loads(capsys.readouterr().out)["variants"][1:]] == [v.macs for v in variants]
    assert [(v.alpha, v.betas) for v in variants[:2]] == [(1, (1,)), (1, (2, 4))]
    assert len({(v.parameters, v.macs) for v in variants}) == len(variants)


@pytest.mark.parametrize("name", ["resnet50", "bl_resnet5"])
def test_sweep_of_other_models_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} is not a Big-Little model"):
        sweep(name)
