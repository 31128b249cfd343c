"""Costs are exact under every convention, and the `profile` command prints them."""

import json
import re

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from biglittle_asr.cli import main
from biglittle_asr.commands.networks import find_network
from biglittle_asr.features import LogMel, SentenceNormalization
from biglittle_asr.inference import Recognizer, save_model
from biglittle_asr.inference.folder.classifier import Classifier, save_classifier
from biglittle_asr.models import (
    BigLittleEncoder,
    CTCModel,
    ImageClassifier,
    create_encoder,
    create_model,
    list_encoders,
    list_models,
)
from biglittle_asr.nnet.sparse import sparsify
from biglittle_asr.profiling import (
    CONVENTIONS,
    count_costs,
    count_operations,
    count_parameters,
    encoder_costs,
    head_costs,
    measure_latency,
    micronet_scores,
)
from biglittle_asr.recipe.yaml import read_tree
from biglittle_asr.tokens.tokenizer import CharacterTokenizer
from support.repository import REPOSITORY

CTC_RECIPE = "hparams/AN4/ctc_bl_resnet22.yaml"
IMAGE_RECIPES = [path for path in sorted(REPOSITORY.glob("hparams/*/*.yaml")) if "crop" in read_tree(path)]


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


@pytest.mark.slow
@pytest.mark.parametrize("name", list_encoders())
def test_macs_equal_an_independent_count(name):
    encoder = create_encoder(name)
    frames = 48
    assert count_costs(encoder, torch.zeros(1, frames, 80)).macs == macs_by_hooks(encoder, frames)


def test_the_costs_of_stages_in_the_documentation_are_counted():
    page = (REPOSITORY / "docs" / "big-little.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| \d " + r"\| ([\d.]+) " * 5 + r"\|$", page, re.MULTILINE)
    assert len(rows) == 4
    plain, network = (encoder_costs(create_encoder(name)) for name in ("resnet22", "bl_resnet22"))

    def millions(costs, *parts):
        macs = sum(layer.macs for layer in costs.layers if f"{layer.name}.".startswith(tuple(f"{p}." for p in parts)))
        return f"{macs / costs.units / 1e6:.1f}"

    for stage, *told in rows:
        stage = f"stages.{int(stage) - 1}"
        little = (f"{stage}.little", f"{stage}.little_e")
        branches = [millions(network, *parts) for parts in ((f"{stage}.big",), little, (f"{stage}.fusion",))]
        assert told == [millions(plain, stage), millions(network, stage), *branches]


def sparse_resnet50(**options):
    with torch.device("meta"):
        return sparsify(create_model("resnet50"), 0.9, **options)


def image_costs(model):
    return count_costs(model, torch.empty(1, 3, 224, 224, device="meta"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dense", "parameters", "operations", "scores"),
    [
        ((), 2_558_732, 515_231_310, (1.251568, 0.8460)),
        (("fc",), 4_401_933, 517_074_511, None),
    ],
)
def test_the_sparse_resnet50_counts_as_its_authors_count(dense, parameters, operations, scores):
    costs = image_costs(sparse_resnet50(dense=dense))
    assert count_parameters(costs, "seed-dnw") == parameters
    assert count_operations(costs, "seed-dnw") == operations
    if scores is not None:
        assert costs.nonzero_weights == 2_558_785
        claimed = list(micronet_scores(costs).values())
        assert (round(claimed[0], 6), round(claimed[1], 4)) == scores
        # With the masks, as the rules have it, the parameters alone are worth more than the entry claims.
        assert count_parameters(costs, "micronet") / 6.9e6 == pytest.approx(0.303, abs=5e-4)


def test_the_dense_resnet50_has_the_published_counts():
    with torch.device("meta"):
        costs = image_costs(create_model("resnet50"))
    assert (costs.parameters, costs.weights, costs.macs) == (25_557_032, 25_502_912, 4_089_184_256)
    assert (costs.nonzero_weights, costs.nonzero_macs) == (costs.weights, costs.macs)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in list_models() if "101" not in name and "152" not in name])
def test_image_models_count_like_torch_and_layers_add_up(name):
    with torch.device("meta"):
        model, image = create_model(name), torch.empty(2, 3, 64, 64)
    costs = count_costs(model, image)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(image)
    assert costs.macs == counter.get_total_flops() // 4  # a MAC is two, and so are the images
    assert costs.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert costs.parameters == sum(layer.parameters for layer in costs.layers)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.5, 0.9])
def test_shapes_alone_give_the_zeros_that_values_give(rate):
    encoder = create_encoder("bl_resnet22", channels=(8, 16, 32, 64), input_size=40, output_size=32)
    sparsify(encoder, rate)
    counted = encoder_costs(encoder)
    shapes = encoder_costs(encoder.to("meta"))
    assert (counted.nonzero_weights, counted.macs) == (shapes.nonzero_weights, shapes.macs)
    assert counted.nonzero_weights < counted.weights


def test_additions_are_one_fewer_than_the_weights_that_are_not_zero():
    layer = nn.Conv1d(2, 2, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]]))
    (counted,) = count_costs(layer, torch.zeros(1, 2, 12)).layers  # 10 positions, 3 weights and none
    assert (counted.multiplications, counted.additions, counted.nonzero_macs, counted.macs) == (30, 20, 30, 120)


def test_encoder_and_head_are_apart():
    model = CTCModel(create_encoder("bl_resnet22"), output_neurons=29)
    assert encoder_costs(model.encoder).macs == 336_755_200
    assert head_costs(model).macs == 25 * 512 * 29 and head_costs(model).parameters == 513 * 29


def test_an_input_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"shape \(1, 4, 8, 8\)"):
        count_costs(nn.Conv2d(3, 4, 3), torch.zeros(1, 4, 8, 8))


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


KEYS = {"name", "convention", "input", "parameters", "macs", "nonzero_parameters", "latency_ms"}


def profile(capsys, *arguments):
    assert main(["profile", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_json_has_what_is_measured_and_how(capsys):
    small = ["channels=[8,16,32,64]", "input_size=40", "output_size=32"]
    facts = profile(capsys, "bl_resnet22", *small, "--runs", "2", "--batch", "2")
    assert KEYS | {"encoder_macs", "head_macs"} <= facts.keys()
    assert set(facts["latency_ms"]) == {"median", "low", "high", "threads", "batch", "dtype"}
    assert facts["latency_ms"]["batch"] == 2 and facts["latency_ms"]["dtype"] == "float32"


@pytest.mark.slow
def test_an_image_model_is_profiled_at_any_size_and_sparsity(capsys):
    facts = profile(capsys, "resnet50", "--runs", "0", "--sparsity", "0.9", "--convention", "seed-dnw")
    assert (facts["parameters"], facts["macs"], facts["nonzero_weights"]) == (2_558_732, 515_231_310, 2_558_785)
    assert len(facts["scores"]) == 3 and KEYS <= facts.keys()
    assert profile(capsys, "bl_resnet50", "--image_size", "64", "--runs", "0")["input"] == "1 image: 3 x 64 x 64"


def test_a_name_means_one_network_and_every_network_has_one(capsys):
    for name in list_encoders():
        assert isinstance(find_network(name, {}, None).build(), BigLittleEncoder)
    for name in {*list_models()} - {*list_encoders()}:
        assert find_network(name, {}, None).image_size == find_network(f"image:{name}", {}, None).image_size == 224
    shared = {*list_models()} & {*list_encoders()}
    assert shared
    for name in shared:
        with torch.device("meta"):
            assert isinstance(find_network(f"image:{name}", {}, None).build(), ImageClassifier)
            # As it was asked for before.
            assert isinstance(find_network(name, {}, 64).build(), ImageClassifier)
        assert f"image:{name}" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("path", IMAGE_RECIPES, ids=lambda path: path.stem)
def test_an_image_recipe_is_counted_timed_and_drawn_at_its_own_size(path, capsys, tmp_path, monkeypatch):
    timed = []
    monkeypatch.setattr("biglittle_asr.profiling.measure_latency", lambda _, image, **__: timed.append(image.shape))
    words = [str(path), 'model={"blocks": [2, 2, 2, 1], "channels": [16, 32, 48, 64]}']
    size = read_tree(path)["crop"]
    own, other = profile(capsys, *words), profile(capsys, *words, "--image-size", "48")
    assert own["input"] == f"1 image: 3 x {size} x {size}" and other["input"] == "1 image: 3 x 48 x 48"
    assert timed == [(1, 3, size, size), (1, 3, 48, 48)] and (own["macs"] > other["macs"]) == (size > 48)
    assert profile(capsys, *words, "crop=48", "--runs", "0")["macs"] == other["macs"]
    drawing = tmp_path / "net.svg"
    assert main(["draw", *words, "--output", str(drawing)]) == 0
    assert f"an image of 3 x {size} x {size}" in drawing.read_text()


def test_an_image_model_folder_is_counted_and_drawn_at_its_own_size(capsys, tmp_path):
    network = create_model("resnet18", num_classes=2, channels=(8, 16, 24, 32))
    folder = save_classifier(tmp_path / "model", Classifier("small", network, ("a", "b"), 40, 32), "card")
    facts = profile(capsys, str(folder), "--runs", "1")
    assert facts["input"] == "1 image: 3 x 32 x 32" and facts["latency_ms"]["median"] > 0
    assert profile(capsys, str(folder), "--image-size", "64", "--runs", "0")["macs"] > facts["macs"]
    assert main(["draw", str(folder), "--output", str(tmp_path / "net.svg")]) == 0
    assert "an image of 3 x 32 x 32" in (tmp_path / "net.svg").read_text()


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_every_table_names_its_convention(convention, capsys):
    arguments = ["profile", "resnet18", "--runs", "0", "--convention", convention, "--layers"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert f"convention {convention}:" in out and f"convention: {convention}\n" in out and "layer4.1.conv2" in out
    if convention != "macs":
        assert "score, seed-dnw, 32 bits" in out and "score, micronet, by the challenge's rules" in out


def test_a_recipe_is_profiled_with_and_without_its_output_layer(capsys, tmp_path, monkeypatch):
    recipe = str(REPOSITORY / CTC_RECIPE)
    monkeypatch.chdir(tmp_path)
    facts = profile(capsys, recipe, "--runs", "0")
    assert (facts["macs"], facts["head_macs"]) == (336_755_200, 0)
    facts = profile(capsys, recipe, "output_neurons=29", "--runs", "0")
    assert (facts["encoder_macs"], facts["head_macs"]) == (336_755_200, 25 * 512 * 29)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("task", ["attention", "transducer"])
def test_of_a_recipe_with_a_decoder_the_encoder_counts(task, capsys):
    recipe_file = f"{REPOSITORY}/hparams/LibriSpeech/{task}_bl_resnet22.yaml"
    facts = profile(capsys, recipe_file, "output_neurons=29", "--runs", "0")
    assert (facts["encoder_macs"], facts["head_macs"]) == (encoder_costs(create_encoder("bl_resnet22")).macs, 0)


@pytest.mark.slow
def test_a_model_folder_is_profiled_with_its_output_layer(capsys, tmp_path):
    encoder = create_encoder("bl_resnet22", channels=(8, 16, 32, 64), output_size=32)
    tokenizer = CharacterTokenizer(" AB")
    model = CTCModel(encoder, tokenizer.size)
    save_model(tmp_path / "model", Recognizer(LogMel(), SentenceNormalization(), model, tokenizer))
    facts = profile(capsys, str(tmp_path / "model"), "--runs", "1")
    assert (facts["encoder_macs"], facts["head_macs"]) == (encoder_costs(encoder).macs, 25 * 32 * tokenizer.size)
    assert facts["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert facts["latency_ms"]["median"] > 0 and facts["latency_runs"] == 1


@pytest.mark.slow
def test_models_are_drawn_by_cost_and_error(capsys, tmp_path):
    names = ["resnet22_half", "bl_resnet22_half alpha=2"]
    (tmp_path / "errors.csv").write_text(f"name,error\n{names[1]},10.5\n{names[0]},11\n")
    plot = tmp_path / "plot.svg"
    words = [word for name in names for word in name.split()]
    arguments = ["--runs", "0", "--plot", str(plot), "--errors", str(tmp_path / "errors.csv")]
    assert [model["name"] for model in profile(capsys, *words, *arguments)["models"]] == names
    assert plot.read_text().startswith("<?xml")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bl_resnet2"], "bl_resnet22"),
        (["bl_resnet22", "alpha"], "KEY=VALUE"),
        (["bl_resnet22", "alfa=2"], "alpha"),
        (["bl_resnet22", "alpha=5"], "does not divide"),
        (["alpha=2"], "name the model before it"),
        (["bl_resnet22", "--sparsity", "1"], "below 1"),
        (["bl_resnet22", "--sparsity", "0.9", "--dense", "fc"], "no layer matches 'fc'"),
        (["bl_resnet22", "--dense", "head"], "--sparsity"),
        (["bl_resnet22", "--image_size", "64"], "takes audio"),
        (["bl_resnet50", "--sweep", "--image-size", "64"], "leave out --image-size"),
        (["hparams/ImageNet/cifar10_resnet50.yaml", "crop=0"], "crop is 0"),
        (["resnet18", "num_class=3", "--image_size", "64"], "num_class"),
        (["missing.yaml"], "missing.yaml: no such recipe file"),
        (["hparams/encoders/bl_resnet22.yaml"], "neither a model nor an encoder"),
        (["hparams/AN4/ctc_bl_resnet22.yaml", "lr=1", "nonsense=1"], "nonsense"),
        (["tests"], "config.json"),
        (["resnet18", "--plot", "plot.txt", "--errors", "1"], "plot.txt: plots are written as"),
        (["resnet18", "--plot", "plot.png"], "--errors"),
        (["resnet18", "--plot", "plot.png", "--errors", "1,2"], "2 errors for 1 models"),
        (["resnet18", "--errors", "1"], "--plot"),
    ],
)
def test_bad_input_is_one_sentence(arguments, said, capsys, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    assert main(["profile", *arguments, "--runs", "0"]) == 1
    message = capsys.readouterr().err
    assert said in message and message.count("\n") == 1
