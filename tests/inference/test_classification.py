"""Evaluation of classifiers: from folders and checkpoints, on folders of images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from biglittle_asr.cli import main
from biglittle_asr.inference.classification import count_top
from biglittle_asr.inference.folder.classifier import Classifier, load_classifier, save_classifier
from biglittle_asr.models import create_model
from support.image_recipe import FAULTS, TINY, break_image, make_folder

# Evaluation


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """A folder with an untrained classifier of three classes."""
    torch.manual_seed(0)
    model = create_model("resnet18", **TINY, num_classes=3)
    return save_classifier(tmp_path / "model", Classifier("resnet18", model, ("ape", "bee", "cat"), 18, 16), "# card")


def test_a_classifier_comes_back_from_its_folder(classifier: Path) -> None:
    loaded = load_classifier(str(classifier))
    assert (loaded.classes, loaded.resize, loaded.crop) == (("ape", "bee", "cat"), 18, 16)
    torch.manual_seed(0)
    twin = create_model("resnet18", **TINY, num_classes=3).eval()
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(loaded.model(x), twin(x))


def test_the_folder_may_have_some_of_the_classes_only(classifier: Path, tmp_path: Path, capsys: Any) -> None:
    make_folder(tmp_path / "some", ["cat"])
    assert main(["evaluate", str(classifier), str(tmp_path / "some"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 4
    assert main(["evaluate", str(classifier), str(make_folder(tmp_path / "others", ["dog"]))]) == 1
    assert "class folder dog is none of the 3 classes of the model" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "missing"])
def test_bad_images_are_skipped_only_on_demand(classifier: Path, image_sets: Path, fault: str, capsys: Any) -> None:
    break_image(image_sets / "val" / "bee" / "0.png", fault)
    arguments = ["evaluate", str(classifier), str(image_sets / "val"), "--json"]
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "bee/0.png" in err and "--skip_bad" in err
    assert main([*arguments, "--skip_bad"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result) == {"images", "top1", "top5", "loss", "skipped"}
    assert (result["images"], result["skipped"], result["top5"]) == (5, 1, 100.0)


CONFIGS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "version": (lambda config: config.update(version=2), "reads version 1 only"),
    "classes": (lambda config: config.update(classes=["a"]), "classes are 1 names, but num_classes is 3"),
    "size": (lambda config: config["network"].update(channels=[8, 8, 8, 1 << 30]), "network.channels is"),
    "shape": (lambda config: config["network"].update(channels=[8, 8, 8, 16]), "tensor"),
    "field": (lambda config: config["network"].update(depth=50), "has the unknown key 'network.depth'"),
    "default": (lambda config: config["network"].pop("stem"), "tensor conv1.weight is"),
    "key": (lambda config: config.pop("crop"), "lacks the key crop"),
    "crop": (lambda config: config.update(crop=-1), "crop is -1, but must be"),
    "no crop": (lambda config: config.update(crop=0), "but both must be 1 or more"),
    "class twice": (lambda config: config.update(classes=["a", "a", "b"]), "classes are 3 names"),
    "network": (lambda config: config["network"].update(alpha=3, big_little_stages=3), "network cannot be built"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CONFIGS)
def test_a_folder_that_is_not_whole_is_refused(classifier: Path, image_sets: Path, case: str, capsys: Any) -> None:
    change, message = CONFIGS[case]
    config = json.loads((classifier / "config.json").read_text())
    change(config)
    (classifier / "config.json").write_text(json.dumps(config))
    assert main(["evaluate", str(classifier), str(image_sets)]) == 1
    err = capsys.readouterr().err
    assert message in err and str(classifier) in err and err.count("\n") == 1


@pytest.mark.slow
def test_a_checkpoint_of_a_named_model_is_evaluated(image_sets: Path, tmp_path: Path, capsys: Any) -> None:
    model = create_model("resnet18", num_classes=3)
    torch.save(
        {"state_dict": {f"module.{key}": value for key, value in model.state_dict().items()}}, tmp_path / "a.pth.tar"
    )
    arguments = ["evaluate", "resnet18", str(image_sets), "--weights", str(tmp_path / "a.pth.tar"), "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 6
    make_folder(tmp_path / "four", "abcd", images=1)
    for name, data, message in (
        ("resnet18", tmp_path / "four", "has 4 classes, but the model has 3"),
        ("resnet34", image_sets, "a.pth.tar: is no checkpoint of this model: it lacks "),
    ):
        assert main(["evaluate", name, str(data), *arguments[3:]]) == 1
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1


def test_models_that_cannot_be_evaluated_are_refused(classifier: Path, image_sets: Path, capsys: Any) -> None:
    for arguments, message in (
        (["resnet18", str(image_sets)], "has no weights of its own; give a checkpoint with --weights FILE"),
        (
            ["resnet19", str(image_sets), "--weights", "a.pth"],
            "resnet19: is no image model's name, which --weights needs",
        ),
        ([str(classifier), str(image_sets), "--weights", "a.pth"], "folders have their own"),
        ([str(classifier), str(image_sets), "--beam", "5"], "classifies images; leave --lm, --beam"),
        ([str(classifier), str(image_sets), "--corpus", "an4"], "classifies images; leave out --corpus"),
    ):
        assert main(["evaluate", *arguments]) == 1
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1


def test_top_counts_are_those_of_sorting() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(200, 12), torch.randint(0, 12, (200,))
    best = logits.topk(5).indices == labels.unsqueeze(1)
    assert count_top(logits, labels) == (int(best[:, 0].sum()), int(best.sum()))
    # A network that says the same of all classes, or nothing, is right by chance only.
    assert count_top(torch.zeros(10, 10), torch.arange(10)) == (1, 5)
    assert count_top(torch.full((4, 10), torch.nan), torch.zeros(4, dtype=torch.long)) == (0, 0)
