"""The image recipe: every YAML file, resumption, and images that are broken."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from biglittle_asr.cli import main
from biglittle_asr.inference.folder.classifier import load_classifier
from biglittle_asr.tasks.engine.schedule import ByEpoch
from biglittle_asr.tasks.images.brain import ImageBrain
from support.image_recipe import PLAIN, tiny, train
from support.repository import REPOSITORY, recipe_main

pytestmark = pytest.mark.slow

YAML_FILES = sorted((REPOSITORY / "hparams" / "ImageNet").glob("*.yaml"))


@pytest.mark.parametrize("yaml", YAML_FILES, ids=lambda path: path.stem)
def test_every_yaml_trains_evaluates_and_leaves_a_model(
    yaml: Path, image_sets: Path, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "out"
    recipe_main("ImageNet")(tiny(yaml, image_sets, out))
    for name in ("train_log.txt", "epochs.csv", "curves.png", "score.json", "model/README.md"):
        assert (out / name).stat().st_size > 0
    capsys.readouterr()
    assert main(["evaluate", str(out / "model"), str(image_sets), "--json"]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    expected = json.loads((out / "score.json").read_text())
    assert evaluated == pytest.approx(expected, rel=1e-4) and evaluated["images"] == 6
    # A pruned network leaves plain weights, most of them zero.
    model = load_classifier(out / "model").model
    convolutions = [layer for layer in model.modules() if isinstance(layer, torch.nn.Conv2d)]
    pruned = [layer for layer in convolutions if (layer.weight == 0).double().mean() > 0.8]
    assert len(pruned) == ("sparse" in yaml.name) * (len(convolutions) - 1)


def test_interrupted_and_resumed_equals_undisturbed(image_sets: Path, tmp_path: Path, monkeypatch: Any) -> None:
    options = {"number_of_epochs": 2, "ema_decay": 0.5, "ckpt_interval_steps": 1}
    whole = train(tiny(PLAIN, image_sets, tmp_path / "whole", **options))
    step, arguments = ImageBrain.fit_batch, tiny(PLAIN, image_sets, tmp_path / "resumed", **options)

    def fail(brain: ImageBrain, batch: Any) -> Any:
        if brain.hparams.epoch_counter.current == 2 and brain.step == 3:
            raise KeyboardInterrupt
        return step(brain, batch)

    monkeypatch.setattr(ImageBrain, "fit_batch", fail)
    with pytest.raises(KeyboardInterrupt):
        train(arguments)
    monkeypatch.setattr(ImageBrain, "fit_batch", step)
    resumed = train(arguments)
    for first, second in ((whole.model, resumed.model), (whole.evaluated, resumed.evaluated)):
        other = second.state_dict()
        assert all(torch.equal(tensor, other[name]) for name, tensor in first.state_dict().items())
    assert not torch.equal(whole.model.fc.weight, whole.evaluated.fc.weight)
    assert whole.score == resumed.score and len(resumed.history.rows) == 2


def test_training_skips_and_counts_bad_images_and_evaluation_refuses_them(image_sets: Path, tmp_path: Path) -> None:
    (image_sets / "train" / "ape" / "0.png").write_bytes(b"no image")
    (image_sets / "val" / "bee" / "1.png").write_bytes(b"no image")
    arguments = tiny(PLAIN, image_sets, tmp_path / "out")
    with pytest.raises(ValueError, match=r"bee/1.png: is not a readable image.*without such images \(--skip_bad True"):
        train(arguments)
    brain = train([*arguments, "--skip_bad=True", "--test_only"])
    assert (brain.score.images, brain.score.skipped) == (5, 1)
    with (tmp_path / "out" / "failed_files.csv").open() as file:
        failed = {(row["set"], row["ID"]) for row in csv.DictReader(file)}
    assert {("val", "bee/1.png")} <= failed <= {("val", "bee/1.png"), ("train", "ape/0.png")}


def test_rates_change_between_epochs_only() -> None:
    for schedule in ("cosine", "step"):
        rate = ByEpoch(0.1, epochs=100, schedule=schedule)
        rates = [rate(step / 1000) for step in range(1, 1001)]
        assert all(len(set(rates[start : start + 10])) == 1 for start in range(0, 1000, 10))
        assert rates[0] == 0.1 and rates == sorted(rates, reverse=True)
    with pytest.raises(ValueError, match="schedule: is 'line', but must be cosine or step"):
        ByEpoch(0.1, 10, "line")
