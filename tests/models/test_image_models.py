"""Image models: every one of them by enumeration, against torchvision, against the tables, and from checkpoints."""

from __future__ import annotations

import argparse
import os
import pickle
import re

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from torchvision.models import resnet

from biglittle_asr.models import create_encoder, create_model, list_models, load_checkpoint, read_checkpoint
from biglittle_asr.nnet import BigLittleStage, Blocks
from biglittle_asr.profiling import count_costs
from support.networks import keep_gates_alive, narrow, randomize_batchnorm

STEMS = {"imagenet": ({}, 64), "small": ({"stem": "small", "small_stem_stride": 2}, 32)}

COUNTS = {
    "resnet18": (11_689_512, 1_814_073_344),
    "resnet34": (21_797_672, 3_663_761_408),
    "resnet50": (25_557_032, 4_089_184_256),
    "resnet101": (44_549_160, 7_801_405_440),
    "resnet152": (60_192_808, 11_513_626_624),
    "resnext50_32x4d": (25_028_904, 4_230_479_872),
    "resnext101_32x4d": (44_177_704, 7_969_996_800),
    "resnext101_64x4d": (83_455_272, 15_460_270_080),
    "seresnext50_32x4d": (27_559_896, 4_232_994_816),
    "seresnext101_32x4d": (48_955_416, 7_974_739_968),
    "bl_resnet50": (26_694_568, 2_856_058_880),
    "bl_resnet101": (41_851_560, 3_893_297_152),
    "bl_resnet152": (57_359_016, 5_039_718_400),
    "bl_resnext50_32x4d": (26_192_168, 3_027_058_688),
    "bl_resnext101_32x4d": (41_512_744, 4_079_149_056),
    "bl_resnext101_64x4d": (77_355_816, 7_142_293_504),
    "bl_seresnext50_32x4d": (28_767_120, 3_029_616_640),
    "bl_seresnext101_32x4d": (45_881_952, 4_083_484_672),
}
SWEEP = {
    ("bl_resnet50", 1, 1): (34_122_408, 5_656_281_088),
    ("bl_resnet50", 1, 2): (30_140_328, 4_346_085_376),
    ("bl_resnet50", 1, 4): (29_023_144, 4_127_719_424),
    ("bl_resnet50", 2, 1): (27_973_416, 3_238_199_296),
    ("bl_resnet50", 2, 2): (26_974_632, 2_910_650_368),
    ("bl_resnet50", 2, 4): (26_694_568, 2_856_058_880),
    ("bl_resnet50", 4, 1): (26_558_184, 2_572_664_832),
    ("bl_resnet50", 4, 2): (26_306_856, 2_490_777_600),
    ("bl_resnet50", 4, 4): (26_236_456, 2_477_129_728),
    ("bl_resnet101", 2, 2): (43_392_680, 4_275_437_568),
    ("bl_resnet101", 4, 2): (41_361_704, 3_528_015_872),
    ("bl_resnet101", 4, 4): (40_974_120, 3_432_480_768),
}


def costs_of(name, **overrides):
    with torch.device("meta"):
        costs = count_costs(create_model(name, **overrides), torch.zeros(1, 3, 224, 224))
    return costs.parameters, costs.macs


@pytest.mark.slow
@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("name", list_models())
def test_every_model_learns(name, stem):
    overrides, size = STEMS[stem]
    torch.manual_seed(0)
    net = narrow(name, **overrides)
    generator = torch.Generator().manual_seed(0)
    randomize_batchnorm(net, generator)
    keep_gates_alive(net)
    logits = net.eval()(torch.randn(2, 3, size, size, generator=generator))
    assert logits.shape == (2, 10) and torch.isfinite(logits).all()
    logits.square().sum().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.any(), f"{key} has no gradient"


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_counts_of_the_tables(name):
    assert costs_of(name) == COUNTS[name]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "alpha", "beta"), SWEEP)
def test_counts_of_the_sweep(name, alpha, beta):
    assert costs_of(name, alpha=alpha, beta=beta) == SWEEP[name, alpha, beta]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in list_models() if not name.startswith(("bl_", "se"))])
def test_plain_models_are_those_of_torchvision(name):
    with torch.device("meta"):
        ours = create_model(name).eval()
        block = {"basic": resnet.BasicBlock, "bottleneck": resnet.Bottleneck}[ours.config.block]
        groups = {"groups": ours.config.groups, "width_per_group": ours.config.base_width}
        theirs = resnet.ResNet(block, list(ours.config.blocks), **groups).eval()
    shapes = {key: value.shape for key, value in theirs.state_dict().items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == shapes
    weights = {}
    for key, shape in shapes.items():
        if key.endswith("num_batches_tracked"):
            weights[key] = torch.tensor(0)
        elif len(shape) < 2:
            weights[key] = torch.empty(shape).uniform_(0.5, 1)
        else:
            weights[key] = torch.empty(shape).uniform_(-1, 1) / shape[1:].numel() ** 0.5
    for net in (theirs, ours):
        net.load_state_dict(weights, assign=True)
    images = torch.randn(1, 3, 33, 35)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images))


def test_one_stage_class_serves_images_and_speech():
    with torch.device("meta"):
        image, speech = create_model("bl_resnet50"), create_encoder("bl_resnet22")
    stages = [image.layer1, image.layer2, image.layer3, *speech.stages]
    assert {type(stage) for stage in stages} == {BigLittleStage}
    assert type(image.layer4) is Blocks


@pytest.mark.parametrize("options", [{}, {"stem": "small"}])
def test_twins_differ_in_nothing_but_what_they_are_compared_for(options):
    """Every stage of a Big-Little net puts out what its plain twin's does, but for where the stride is taken."""
    big_little, plain = narrow("bl_resnet50", **options), narrow("resnet50", **options)
    sizes = []
    for net in (big_little, plain):
        seen = []
        for name in ("layer3", "layer4"):
            net.get_submodule(name).register_forward_hook(lambda _, __, output, seen=seen: seen.append(output.shape))
        with torch.no_grad():
            net.eval()(torch.zeros(1, 3, 32, 32))
        sizes.append(seen)
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize(
    "overrides",
    [{"branches": 3}, {"merge": "concat"}, {"upsampling": "bilinear"}, {"big_little_stages": 4}, {"input_channels": 1}],
)
def test_options_build_and_run(overrides):
    net = narrow("bl_resnet50", alpha=2, beta=2, **overrides).eval()
    with torch.no_grad():
        assert net(torch.zeros(1, net.config.input_channels, 37, 50)).shape == (1, 10)


@pytest.mark.parametrize(
    ("name", "overrides", "said"),
    [
        ("bl_resnet5", {}, "did you mean 'bl_resnet50'?"),
        ("resnet50", {"num_clases": 10}, "did you mean 'num_classes'?"),
        ("resnet50", {"num_classes": 0}, "num_classes is 0"),
        ("resnet50", {"blocks": (3, 4)}, "4 whole numbers"),
        ("resnet50", {"stem": "tiny"}, "imagenet or small"),
        ("resnet50", {"small_stem_stride": 3}, "take 1 or 2"),
        ("resnet50", {"block": "Basic"}, "basic or bottleneck"),
        ("bl_resnet50", {"big_little_stages": 5}, "0 (plain) to 4"),
        ("bl_resnet50", {"alpha": 3}, "does not divide"),
        ("bl_resnext50_32x4d", {"alpha": 64}, "does not divide"),
    ],
)
def test_bad_configuration_is_one_sentence(name, overrides, said):
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        create_model(name, **overrides)
    assert "\n" not in str(error.value)


def test_other_input_is_one_sentence():
    with pytest.raises(ValueError, match="input_channels 3"):
        narrow("resnet18")(torch.zeros(1, 1, 32, 32))


@pytest.fixture(scope="module")
def net():
    net = narrow("resnet18")
    randomize_batchnorm(net, torch.Generator().manual_seed(0))
    return net


def training_file(state):
    """What a training script saves beside the weights."""
    parameters = [nn.Parameter(torch.zeros(2))]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    parameters[0].grad = torch.ones(2)
    optimizer.step()
    return {
        "epoch": 110,
        "arch": "bL-ResNet",
        "state_dict": {f"module.{key}": value for key, value in state.items()},
        "best_prec1": np.float64(77.6),
        "best": [np.float32(1), np.int64(2), np.bool_(True)],
        "optimizer": optimizer.state_dict(),
        "scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 110).state_dict(),
        "args": argparse.Namespace(lr=0.1, schedule=[30, 60]),
    }


FORMS = {
    "plain.pt": torch.save,
    "module.pth": lambda state, path: torch.save({f"module.{key}": value for key, value in state.items()}, path),
    "training.pth.tar": lambda state, path: torch.save(training_file(state), path),
    "old.pth.tar": lambda state, path: torch.save(training_file(state), path, _use_new_zipfile_serialization=False),
    "torchvision.pth": lambda state, path: torch.save({"model": state, "epoch": 3}, path),
    "safe.safetensors": safetensors.torch.save_file,
    "no_counter.pth": lambda state, path: torch.save(
        {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}, path
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_checkpoints_load_as_they_are_distributed(name, net, tmp_path):
    FORMS[name](net.state_dict(), tmp_path / name)
    other = narrow("resnet18")
    load_checkpoint(other, tmp_path / name)
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in other.state_dict().items())


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def _write(content, zipped=True):
    return lambda state, path: torch.save(content(state), path, _use_new_zipfile_serialization=zipped)


CANARY = "canary"
BROKEN = {
    "hostile": (_write(lambda state: {**state, "x": Hostile(CANARY)}), "mkdir"),
    "hostile, old": (_write(lambda state: {**state, "x": Hostile(CANARY)}, zipped=False), "mkdir"),
    "pickle": (lambda state, path: path.write_bytes(pickle.dumps(Hostile(CANARY), 2)), "mkdir"),
    "whole network": (_write(lambda state: {"state_dict": nn.Linear(2, 2)}), "Linear, which only running code"),
    "text": (lambda state, path: path.write_text("no weights"), "not a whole file"),
    "nothing": (lambda state, path: path.write_bytes(b""), "not a whole file"),
    "no weights": (_write(lambda state: {"epoch": 3}), "holds no weights"),
    "list": (_write(lambda state: [1, 2]), "holds no weights"),
    "other model": (
        _write(lambda state: narrow("bl_resnet50").state_dict()),
        "lacks 79 of the model's 128 keys (layer1",
    ),
    "more keys": (_write(lambda state: {**state, "x.y": torch.zeros(1)}), "1 key that the model does not have (x.y)"),
    "shapes": (
        _write(lambda state: {**state, "conv1.weight": torch.zeros(64, 3, 3, 3)}),
        "conv1.weight is 64x3x3x3 instead of 64x3x7x7",
    ),
    "classes": (
        _write(lambda state: {**state, "fc.weight": torch.zeros(7, 128), "fc.bias": torch.zeros(7)}),
        "weights for 7 classes, but the model has 10: create it with num_classes=7",
    ),
    "not finite": (_write(lambda state: {**state, "fc.bias": torch.full((10,), torch.nan)}), "fc.bias has values"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_checkpoint_that_does_not_fit_is_one_sentence_and_changes_nothing(kind, net, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write, said = BROKEN[kind]
    write(net.state_dict(), tmp_path / "net.pth.tar")
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        load_checkpoint(net, tmp_path / "net.pth.tar")
    assert "net.pth.tar: " in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / CANARY).exists()
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_cut_off_checkpoints_are_refused(net, tmp_path):
    for name in ("plain.pt", "old.pth.tar", "safe.safetensors"):
        FORMS[name](net.state_dict(), tmp_path / name)
        os.truncate(tmp_path / name, (tmp_path / name).stat().st_size // 2)
        with pytest.raises(ValueError, match="not a whole file"):
            read_checkpoint(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path / "missing.pt")
