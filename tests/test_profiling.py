"""Costs are exact, and the `profile` command prints them."""

import json

import pytest
import torch
from torch import nn

from biglittle_asr.cli import main
from biglittle_asr.models import create_encoder, list_encoders
from biglittle_asr.profiling import count_costs, encoder_costs, measure_latency


def macs_by_hooks(encoder, frames):
    """An independent count: output elements times the weights that each of them is a sum over."""
    total = 0

    def count(module, _, output):
        nonlocal total
        if isinstance(module, nn.Conv2d | nn.Linear):
            total += output.numel() * module.weight[0].numel()

    handles = [module.register_forward_hook(count) for module in encoder.modules()]
    with torch.no_grad():
        encoder.eval()(torch.zeros(1, frames, encoder.config.input_size))
    for handle in handles:
        handle.remove()
    return total


@pytest.mark.parametrize("name", list_encoders())
def test_macs_equal_an_independent_count(name):
    encoder = create_encoder(name)
    frames = 48
    assert count_costs(encoder, torch.zeros(1, frames, 80)).macs == macs_by_hooks(encoder, frames)


def test_counting_leaves_the_module_alone():
    encoder = create_encoder("bl_resnet22_half").train()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    encoder_costs(encoder)
    assert encoder.training
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


def test_zero_weights_are_told_apart():
    layer = nn.Linear(4, 4, bias=False)
    nn.init.ones_(layer.weight)
    with torch.no_grad():
        layer.weight[0] = 0
    costs = count_costs(layer, torch.zeros(1, 4))
    assert (costs.parameters, costs.nonzero_parameters) == (16, 12)


def test_latency_restores_the_mode():
    layer = nn.BatchNorm1d(3).train()
    latency = measure_latency(layer, torch.zeros(2, 3), runs=3)
    assert layer.training and latency.low <= latency.median <= latency.high


def test_command_prints_one_json_object(capsys):
    assert main(["profile", "bl_resnet22", "alpha=4", "beta=2", "--runs", "0", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["parameters"], facts["macs"], facts["convention"]) == (3_201_584, 336_755_200, "macs")
    assert facts["encoder_macs"] + facts["head_macs"] == facts["macs"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bl_resnet2"], "bl_resnet22"),
        (["bl_resnet22", "alpha"], "KEY=VALUE"),
        (["bl_resnet22", "alfa=2"], "alpha"),
        (["bl_resnet22", "alpha=5"], "does not divide"),
    ],
)
def test_bad_input_is_one_sentence(arguments, said, capsys):
    assert main(["profile", *arguments, "--runs", "0"]) == 1
    message = capsys.readouterr().err
    assert said in message and message.count("\n") == 1
