"""Sparse weights: how many are zero, what their gradient is, and that everything around them works as before."""

import copy

import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from biglittle_asr.models import create_encoder, list_encoders, list_models
from biglittle_asr.nnet.sparse import TopKMask, freeze, report, sparsify
from support.networks import assert_near, narrow, randomize_batchnorm


def small_encoder(name="bl_resnet22"):
    encoder = create_encoder(name, channels=(8, 16, 32, 64), input_size=40, output_size=32)
    randomize_batchnorm(encoder, torch.Generator().manual_seed(1))
    return encoder.eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", list_encoders())
def test_every_encoder_is_pruned_layer_by_layer_and_frozen_to_the_same(name):
    encoder = small_encoder(name)
    names, parameters = list(encoder.state_dict()), [key for key, _ in encoder.named_parameters()]
    sparsify(encoder, rate=0.9, dense=["head"])
    first, *layers = report(encoder).layers
    assert first.name == "stem.0" and first.nonzero == first.elements
    for layer in layers:
        dense = layer.name == "head"
        assert layer.nonzero == layer.elements - (0 if dense else int(0.9 * layer.elements)), layer.name
        assert (layer.rate is None) == dense
    x = torch.randn(1, 9, 40)
    with torch.no_grad():
        before, counted = encoder(x), report(encoder)
        freeze(encoder)
        assert_near(encoder(x), before, 0.0)
    assert list(encoder.state_dict()) == names and [key for key, _ in encoder.named_parameters()] == parameters
    assert report(encoder).nonzero == counted.nonzero


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_every_image_model_is_pruned_and_frozen(name):
    model = narrow(name)
    names, first = list(model.state_dict()), report(model).layers[0].name
    sparsify(model, rate=0.9, dense=["fc"])
    for layer in report(model).layers:
        dense = layer.name in (first, "fc")
        assert layer.nonzero == layer.elements - (0 if dense else int(0.9 * layer.elements)), layer.name
    counted = report(model).nonzero
    assert list(freeze(model).state_dict()) == names and report(model).nonzero == counted


@pytest.mark.parametrize("layer", [nn.Conv1d(4, 6, 3), nn.Conv2d(4, 6, 3, groups=2), nn.Linear(6, 5, bias=False)])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.99])
def test_the_gradient_of_the_masked_weight_goes_to_all_weights(layer, rate):
    layer = copy.deepcopy(layer)
    sparsify(layer, rate, first_layer_dense=False)
    plain = freeze(copy.deepcopy(layer))
    assert int((plain.weight == 0).sum()) == int(rate * plain.weight.numel())
    x = torch.randn({nn.Conv1d: (2, 4, 8), nn.Conv2d: (2, 4, 8, 8), nn.Linear: (2, 6)}[type(plain)])
    layer(x).square().sum().backward()
    plain(x).square().sum().backward()
    gradient = layer.parametrizations.weight.original.grad
    assert_near(gradient, plain.weight.grad)
    assert gradient.count_nonzero() > plain.weight.count_nonzero()


@pytest.mark.parametrize("training", [True, False])
def test_a_pruned_weight_returns_at_the_next_forward(training):
    layer = sparsify(nn.Linear(2, 2, bias=False), 0.5, first_layer_dense=False).train(training)
    weight = layer.parametrizations.weight.original
    with torch.no_grad():
        weight.copy_(torch.tensor([[4.0, -3.0], [2.0, 1.0]]))
        assert layer(torch.eye(2)).T.tolist() == [[4.0, -3.0], [0.0, 0.0]]
        weight[1, 0] = -5.0
        assert layer(torch.eye(2)).T.tolist() == [[4.0, 0.0], [-5.0, 0.0]]


@pytest.mark.parametrize("zeros", [0, 1, 17, 71])
def test_of_equal_weights_the_first_are_zeroed_in_any_memory_format(zeros):
    weight = torch.ones(4, 2, 3, 3)
    mask = TopKMask((zeros + 0.5) / 72, 72)
    expected = torch.cat([torch.zeros(zeros), torch.ones(72 - zeros)]).view_as(weight)
    assert torch.equal(mask(weight), expected)
    masked = mask(weight.to(memory_format=torch.channels_last))
    assert torch.equal(masked, expected) and masked.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("levels", [0, 5], ids=["all different", "many equal"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("zeros", [1, 300, 575])
def test_the_zeroed_weights_are_the_first_of_a_stable_sort(dtype, levels, memory_format, zeros):
    size = (16, 4, 3, 3)
    if levels:
        weight = torch.randint(-levels, levels + 1, size).to(dtype)
    else:
        # 576 numbers of eight bits and an exponent, which bfloat16 can tell apart.
        weight = torch.tensor([(1 + a / 128) * 2.0**b for b in range(5) for a in range(128)][:576], dtype=dtype)
        weight = (weight[torch.randperm(576)] * torch.randn(576).sign()).view(size)
    expected = weight.flatten().clone()
    expected[weight.flatten().abs().sort(stable=True).indices[:zeros]] = 0.0
    masked = TopKMask((zeros + 0.5) / 576, 576)(weight.to(memory_format=memory_format))
    assert torch.equal(masked, expected.view(size)) and masked.is_contiguous(memory_format=memory_format)


@pytest.mark.slow
def test_a_copy_and_a_state_dict_carry_every_weight():
    encoder = sparsify(small_encoder(), 0.8)
    x = torch.randn(1, 9, 40)
    other = sparsify(small_encoder(), 0.8)
    other.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        for twin in (other, copy.deepcopy(encoder)):
            assert torch.equal(twin(x), encoder(x))
            assert all(torch.equal(value, encoder.state_dict()[key]) for key, value in twin.state_dict().items())


def test_freezing_a_copy_leaves_the_first_sparse():
    layer = sparsify(nn.Linear(10, 10), 0.9, first_layer_dense=False)
    names = list(layer.state_dict())
    plain = freeze(copy.deepcopy(layer))
    assert list(layer.state_dict()) == names and type(plain) is nn.Linear
    assert torch.equal(plain.weight, layer.weight)


def test_training_works_under_autocast_with_an_optimizer():
    encoder = sparsify(small_encoder().train(), 0.9)
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        encoder(torch.randn(2, 16, 40)).float().square().mean().backward()
    for parameter in encoder.parameters():
        assert parameter.grad.dtype == torch.float32 and torch.isfinite(parameter.grad).all()
    before = report(encoder).nonzero
    optimizer.step()
    assert report(encoder).nonzero == before


def test_every_parameter_is_used_in_distributed_training(tmp_path):
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = DistributedDataParallel(sparsify(small_encoder().train(), 0.9))
        for _ in range(2):  # the second step fails where a parameter of the first had no gradient
            model(torch.randn(2, 16, 40)).sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
    finally:
        distributed.destroy_process_group()


def test_rate_zero_changes_nothing():
    encoder = small_encoder()
    names = list(encoder.state_dict())
    assert list(sparsify(encoder, 0).state_dict()) == names
    assert report(encoder).nonzero == report(encoder).elements
    assert list(freeze(encoder).state_dict()) == names


def test_patterns_name_layers_and_modules_around_them():
    def dense(*patterns):
        layers = report(sparsify(small_encoder(), 0.9, patterns, first_layer_dense=False)).layers
        return {layer.name for layer in layers if layer.rate is None}

    every = {layer.name for layer in report(small_encoder()).layers}
    assert dense() == set()
    assert dense("stages.0") == dense("stages.0.*") == {name for name in every if name.startswith("stages.0.")}
    assert dense("*.downsample.*", "head") == {name for name in every if "downsample" in name or name == "head"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"rate": 1.0}, "below 1"),
        ({"rate": -0.1}, "from 0 up"),
        ({"rate": "0.9"}, "take a number"),
        ({"rate": True}, "take a number"),
        ({"rate": float("nan")}, "take a number"),
        ({"dense": ["hed"]}, "no layer matches 'hed'"),
    ],
)
def test_bad_arguments_are_refused_and_change_nothing(arguments, said):
    encoder = small_encoder()
    with pytest.raises(ValueError, match=said):
        sparsify(encoder, **arguments)
    assert all(layer.rate is None for layer in report(encoder).layers)


def test_what_cannot_be_sparse_is_refused():
    with pytest.raises(ValueError, match="no convolution or linear layer"):
        sparsify(nn.BatchNorm2d(3))
    with pytest.raises(ValueError, match="freeze the module before"):
        sparsify(sparsify(small_encoder()))
