"""Settings of recipes: plain HyperPyYAML, no default said twice, every value listed, wrong ones refused."""

from __future__ import annotations

import json
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hyperpyyaml import load_hyperpyyaml
from ruamel.yaml import YAML
from torch import nn

from biglittle_asr.cli import main
from biglittle_asr.commands.recipe import recipe_settings
from biglittle_asr.recipe.run import load_recipe
from biglittle_asr.recipe.settings import YamlDefault
from biglittle_asr.recipe.yaml import RecipeError, read_tree, tag_of
from support.ctc_recipe import small, train_an4, write_tones
from support.recipe_files import ENCODER_FILES, RECIPE_FILES, settings_of
from support.terminal import Terminal

every_file = pytest.mark.parametrize("path", RECIPE_FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")


def placeholders(path: Path) -> list[str]:
    tree = read_tree(path)
    return [key for key in tree if tag_of(tree[key]) == "!PLACEHOLDER"]


def same(one: Any, other: Any) -> bool:
    """Whether two values of a recipe are alike: made by the same code from the same arguments."""
    if isinstance(one, nn.Module):
        shapes = [{name: tensor.shape for name, tensor in module.state_dict().items()} for module in (one, other)]
        return repr(one) == repr(other) and shapes[0] == shapes[1]
    if hasattr(one, "func"):
        return one.func is other.func and same(one.keywords, other.keywords)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    simple = isinstance(one, (str, int, float, bool, list, type(None)))
    return bool(one == other) if simple or hasattr(one, "__dataclass_fields__") else type(one) is type(other)


@pytest.mark.slow
@every_file
def test_hyperpyyaml_alone_reads_what_the_recipe_reads(path: Path, tmp_path: Path) -> None:
    given = {key: f"{tmp_path}/{key}" for key in placeholders(path)} | {"output_folder": str(tmp_path / "out")}
    with path.open() as file:
        plain = load_hyperpyyaml(file, given)
    hparams, _ = load_recipe([str(path), *(f"--{key}={value}" for key, value in given.items())], settings_of(path))
    assert set(settings_of(path).names()) <= hparams.keys()
    for key in plain.keys() - {"__set_seed", "precision"}:
        assert same(plain[key], hparams[key]), key
    # What was in force is written beside the results, and makes the same again.
    again = load_hyperpyyaml((tmp_path / "out" / "hyperparams.yaml").read_text())
    assert again.keys() == hparams.keys() - {"on_fit"}


@pytest.mark.slow
@pytest.mark.parametrize("path", ENCODER_FILES, ids=lambda path: path.stem)
def test_hyperpyyaml_alone_includes_an_encoder(path: Path) -> None:
    assert isinstance(load_hyperpyyaml(f"encoder: !include:{path}\n")["encoder"], nn.Module)


@pytest.mark.slow
@every_file
def test_no_file_repeats_a_default(path: Path) -> None:
    tree, defaults = read_tree(path), settings_of(path).defaults()
    assert not {key for key in tree if key in defaults and (tree[key], tag_of(tree[key])) == (defaults[key], "")}


@pytest.mark.parametrize("model", recipe_settings())
def test_every_setting_has_a_meaning_and_is_explained_once(model: str) -> None:
    settings = recipe_settings()[model]
    assert settings.meanings().keys() == set(settings.names())
    for name, meaning in settings.meanings().items():
        assert meaning.endswith(".") and not meaning.startswith("Of "), name
    assert not any(isinstance(default, YamlDefault) for default in settings.defaults().values())


@pytest.mark.slow
@every_file
def test_every_value_in_force_is_listed_with_its_origin(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", str(path), "seed=7", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert set(settings_of(path).names()) <= values.keys()
    assert values["seed"]["value"] == 7 and values["seed"]["from"] == "command line"
    tree, missing = read_tree(path), placeholders(path)
    for key, value in values.items():
        if key in missing:
            assert value["from"] == "missing"
        elif key != "seed":
            assert value["from"] == tree.places.get(key, "default")
    # The listing itself is a recipe: all in it, nothing to be looked up.
    assert main(["recipe", str(path), "seed=7"]) == 0
    listed = YAML().load(capsys.readouterr().out)
    assert list(listed) == list(values)


@pytest.mark.parametrize(
    "stream, option, bars",
    [(Terminal, [], True), (Terminal, ["--noprogressbar"], False), (StringIO, [], False)],
)
def test_progress_bars_are_for_terminals(stream: type[StringIO], option: list[str], bars: bool, tmp_path: Path) -> None:
    write_tones(tmp_path, ["ONE", "BAD", "GO"])
    words = small(tmp_path, skip_prep=True, skip_test=True, number_of_epochs=1, average_checkpoints="[1]")
    words.remove("--noprogressbar")
    with redirect_stderr(stream()) as said:
        train_an4()([*words, *option])
    assert ("it/s" in said.getvalue() or "s/it" in said.getvalue()) == bars


def overlay(folder: Path, base: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(f"!include:{base}\n{text}")
    return path


def test_includes_resolve_against_the_file_that_names_them(tmp_path: Path) -> None:
    base = next(path for path in RECIPE_FILES if path.name == "ctc_bl_resnet22.yaml")
    path = overlay(tmp_path, base, "number_of_epochs: 3\n")
    words = [str(path), "--data_folder=none", f"--output_folder={tmp_path / 'out'}"]
    hparams, _ = load_recipe(words, settings_of(base))
    assert hparams["number_of_epochs"] == 3 and hparams["encoder"].config.alpha == 4
    assert read_tree(path).places["number_of_epochs"] == f"{path}, line 2"


WRONG = {
    "number_of_epochs: ten": "number_of_epochs: is 'ten', but must be a whole number.",
    "number_of_epochs: 2.5": "number_of_epochs: is 2.5, but must be a whole number.",
    "number_of_epochs: True": "number_of_epochs: is True, but must be a whole number.",
    "skip_test: 1": "skip_test: is 1, but must be True or False.",
    "max_batch_length: long": "max_batch_length: is 'long', but must be a number.",
    "decoding: 3": "decoding: is 3, but must be text or null.",
    "average_checkpoints: 5": "average_checkpoints: is 5, but must be a list.",
    "corpus_options: []": "corpus_options: is [], but must be a mapping.",
    "sparsity: 0.5": "sparsity: is 0.5, but must be a mapping or null.",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_value_of_a_wrong_type_is_refused_in_a_sentence(text: str, tmp_path: Path) -> None:
    base = next(path for path in RECIPE_FILES if path.name == "ctc_bl_resnet22.yaml")
    path = overlay(tmp_path, base, f"{text}\n")
    with pytest.raises(RecipeError) as error:
        load_recipe([str(path), "--data_folder=none", f"--output_folder={tmp_path / 'out'}"], settings_of(base))
    assert str(error.value) == f"{path}: {WRONG[text]}"


@pytest.mark.slow
@every_file
def test_a_setting_without_a_default_is_asked_for_with_its_meaning(path: Path, tmp_path: Path) -> None:
    settings, yaml = settings_of(path), YAML()
    for name in settings.names():
        tree = read_tree(path)
        if name in {"output_folder", *settings.defaults()} or tag_of(tree[name]) == "!PLACEHOLDER":
            continue
        del tree[name]
        file = tmp_path / "less.yaml"
        with file.open("w") as stream:
            yaml.dump(tree, stream)
        with pytest.raises(RecipeError, match=f"lacks the key {name}; .*[.]$"):
            load_recipe([str(file), f"--output_folder={tmp_path / 'out'}"], settings)
