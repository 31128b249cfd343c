"""Recipe files and their overrides, and one sentence for what goes wrong in them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from speechbrain.utils.run_opts import RunOptions

from biglittle_asr.files import read_yaml
from biglittle_asr.recipe.run import load_recipe, run
from biglittle_asr.recipe.yaml import RecipeError, read_tree, tag_of
from biglittle_asr.tasks.speech.settings import CTCRecipe
from support.ctc_recipe import YAML_FILE, load, small, train_an4, write_tones
from support.recipe_files import RECIPE_FILES
from support.repository import REPOSITORY

TWINS = [
    path
    for path in RECIPE_FILES
    if path.with_name(path.name.replace("_resnet", "_bl_resnet")).is_file() and "_bl_" not in path.name
]
"""Recipes of plain networks."""


@pytest.mark.parametrize("path", TWINS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_twins_differ_in_the_network_only(path: Path) -> None:
    plain, big_little = read_tree(path), read_tree(path.with_name(path.name.replace("_resnet", "_bl_resnet")))
    assert big_little.keys() == plain.keys()
    differing = {
        key for key in plain if (str(plain[key]), tag_of(plain[key])) != (str(big_little[key]), tag_of(big_little[key]))
    }
    network = {"model", "number_of_epochs"} if path.parent.name == "ImageNet" else {"encoder"}
    assert differing == {"output_folder", *network}


def test_encoder_is_changed_on_the_command_line(tmp_path: Path) -> None:
    hparams, _ = load_recipe(small(tmp_path, encoder="{alpha: 2, beta: 3}"), CTCRecipe)
    assert (hparams["encoder"].config.alpha, hparams["encoder"].config.beta) == (2, 3)


@pytest.mark.parametrize(
    "fast, options, precision",
    [(True, [], "bf16"), (False, [], "fp32"), (False, ["--precision", "bf16"], "bf16")],
)
def test_bfloat16_is_no_default_where_the_cpu_is_slow_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast: bool, options: list[str], precision: str
) -> None:
    monkeypatch.setattr("biglittle_asr.recipe.run.cpu_computes_bfloat16", lambda: fast)
    monkeypatch.setattr("biglittle_asr.recipe.run.infer_device", lambda: "cpu")
    arguments = [word for word in small(tmp_path) if not word.startswith("--precision")]
    hparams, run_opts = load_recipe([*arguments, *options], CTCRecipe)
    assert (run_opts.precision if options else hparams["precision"]) == precision
    assert f"\nprecision: {precision}\n" in (tmp_path / "hyperparams.yaml").read_text()


def test_options_of_speechbrain_stand_among_the_values_in_force(tmp_path: Path) -> None:
    given = {"precision": "fp16", "max_grad_norm": 1.5, "grad_accumulation_factor": 3, "ckpt_interval_minutes": 7}
    assert set(given) <= {*CTCRecipe.names()} & RunOptions().as_dict().keys()
    load_recipe(small(tmp_path, **given), CTCRecipe)
    written = read_yaml(tmp_path / "hyperparams.yaml")
    assert {name: written[name] for name in given} == given


@pytest.mark.parametrize(
    "overrides, message",
    [
        (
            {"number_of_epoch": 3},
            "command line: no recipe key is named number_of_epoch; did you mean 'number_of_epochs'?",
        ),
        ({"encoder": "{name: resnet23}"}, "unknown encoder preset 'resnet23'"),
        ({"encoder": "{alhpa: 3}"}, "unknown encoder argument 'alhpa'"),
        ({"lr": "{"}, "is not understood; write --key value"),
    ],
)
def test_wrong_overrides_are_named(tmp_path: Path, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as error:
        load_recipe(small(tmp_path, **overrides), CTCRecipe)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            ("number_of_epochs:", "number_of_epoch:"),
            "line [0-9]+: no recipe key is named number_of_epoch; did you mean 'number_of_epochs'",
        ),
        (("normalize: !new:biglittle_asr.features.SentenceNormalization\n", ""), "lacks the key normalize"),
        (("seed: 1234", "seed: [1234"), "line [0-9]+: is not valid YAML"),
        (("bl_resnet22.yaml", "bl_resnet23.yaml"), "includes .*bl_resnet23.yaml, which does not exist"),
        (("<sample_rate>", "<sample_rat>"), 'The reference "sample_rat" is not valid'),
        (("features.LogMel", "features.LogMell"), "There is no such class as biglittle_asr.features.LogMell"),
    ],
)
def test_wrong_recipe_file_is_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    file = tmp_path / "hparams" / "AN4" / "wrong.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(YAML_FILE.read_text().replace(*change))
    encoders = REPOSITORY / "hparams" / "encoders"
    (tmp_path / "hparams" / "encoders").symlink_to(encoders)
    with pytest.raises((RecipeError, FileNotFoundError), match=f"wrong.yaml.*{message}"):
        load_recipe([str(file), "--data_folder=none", f"--output_folder={tmp_path / 'out'}"], CTCRecipe)


def test_a_key_that_recipes_once_read_is_told(tmp_path: Path) -> None:
    file = tmp_path / "hparams" / "AN4" / "old.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(f"{YAML_FILE.read_text()}\ntest_dataloader_opts: {{batch_size: 16}}\n")
    (tmp_path / "hparams" / "encoders").symlink_to(REPOSITORY / "hparams" / "encoders")
    load_recipe([str(file), *small(tmp_path)[1:]], CTCRecipe)
    assert f"{file}: nothing reads test_dataloader_opts any more; remove it." in (tmp_path / "log.txt").read_text()


def test_missing_recipe_data_and_manifest_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere.yaml: no such recipe file"):
        load_recipe([str(tmp_path / "nowhere.yaml")], CTCRecipe)
    with pytest.raises(RecipeError, match="data_folder has no value; give it on the command line"):
        load_recipe([str(YAML_FILE), f"--output_folder={tmp_path}"], CTCRecipe)
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        load(small(tmp_path, data_folder=tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="train.csv: no such manifest; run without skip_prep"):
        load(small(tmp_path, skip_prep=True))


def test_output_layer_that_disagrees_with_the_tokenizer_is_refused(tmp_path: Path) -> None:
    write_tones(tmp_path)
    with pytest.raises(RecipeError, match="output_neurons: is 7, but the tokenizer .* has 12 tokens with the blank"):
        load(small(tmp_path, skip_prep=True, output_neurons=7))


def test_audio_of_another_sample_rate_is_refused(tmp_path: Path) -> None:
    write_tones(tmp_path)
    soundfile.write(tmp_path / "u0.wav", np.zeros(800), 8000)
    _, datasets, _ = load(small(tmp_path, skip_prep=True))
    with pytest.raises(ValueError, match="u0.wav: sampled at 8000 Hz, but the recipe's sample_rate is 16000"):
        datasets.train[0]


def test_evaluation_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    write_tones(tmp_path)
    with pytest.raises(FileNotFoundError, match="no checkpoint of a whole epoch; train first"):
        train_an4()([*small(tmp_path, skip_prep=True), "--test_only"])


def test_unknown_characters_in_dev_are_reported(tmp_path: Path) -> None:
    write_tones(tmp_path)
    manifest = tmp_path / "save" / "manifests" / "dev.csv"
    manifest.write_text(manifest.read_text().replace("HELLO", "ZOO"))
    _, datasets, _ = load(small(tmp_path, skip_prep=True))
    report = "dev.csv: 1 of 4 utterances have characters that the training transcripts do not (Z)"
    assert report in (tmp_path / "log.txt").read_text()
    assert {datasets.dev[index]["wrd"] for index in range(4)} >= {"ZOO"}


def test_recipe_errors_end_in_one_sentence_and_status_1(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("sys.argv", ["train.py", str(tmp_path / "nowhere.yaml")])
    with pytest.raises(SystemExit) as stop:
        run(train_an4())
    assert stop.value.code == 1
    assert capsys.readouterr().err.startswith("error: ") and capsys.readouterr().out == ""
