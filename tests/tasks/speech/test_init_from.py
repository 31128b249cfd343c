"""Trainings that start from a trained model: for every kind, 0 epochs give its words; what fits, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from biglittle_asr.features import GlobalNormalization, SentenceNormalization
from biglittle_asr.inference import Recognizer, load_model, pack, save_model
from biglittle_asr.inference.folder.kinds import KINDS
from biglittle_asr.nnet.sparse import report
from biglittle_asr.recipe.run import load_recipe
from biglittle_asr.recipe.yaml import RecipeError
from biglittle_asr.tasks.engine.brain import ResumableBrain
from biglittle_asr.tasks.hybrid.brain import HybridBrain
from biglittle_asr.tasks.hybrid.settings import HybridRecipe
from biglittle_asr.tasks.images.settings import ImageRecipe
from biglittle_asr.tasks.speech.init_from import Start, compact
from biglittle_asr.tokens.tokenizer import CharacterTokenizer, load_tokenizer, train_tokenizer
from support import hybrid_recipe
from support.ctc_recipe import write_tones
from support.model_folders import CHANNELS, CHARACTERS, SEARCH, SMALL, assert_same, make, speech, transcripts
from support.repository import REPOSITORY
from support.speech_recipes import TASKS, command, placeholders, train

OUR_KINDS = [kind for kind in KINDS if KINDS[kind].token_layers]
"""Kinds whose outputs are tokens."""
SPEECH_RECIPES = [
    file for file in sorted(REPOSITORY.glob("hparams/*/*.yaml")) if file.parent.name not in ("encoders", "ImageNet")
]
ENCODER = f"{{channels: {list(CHANNELS)}, output_size: 48}}"
SAME: dict[str, dict[str, Any]] = {
    "ctc": {},
    "attention": {
        "embedding_size": SMALL["attention"]["embedding_size"],
        "decoder": json.dumps({key: SMALL["attention"][key] for key in SMALL["attention"] if key != "embedding_size"}),
        "test_beam_size": SEARCH["attention"]["beam_size"],
        "ctc_decoding_weight": SEARCH["attention"]["ctc_weight"],
        "search_options": json.dumps({key: SEARCH["attention"][key] for key in ("max_decode_ratio", "eos_threshold")}),
    },
    "transducer": {
        "model": json.dumps(SMALL["transducer"]),
        "test_beam_size": SEARCH["transducer"]["beam_size"],
    },
}
"""How a recipe says what `model_folders.make` makes."""

every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def recognizers() -> dict[str, Recognizer]:
    return {kind: make(kind=kind) for kind in KINDS}


@pytest.fixture(scope="module")
def folders(recognizers: dict[str, Recognizer], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("folders")
    return {kind: save_model(place / kind, recognizer) for kind, recognizer in recognizers.items()}


def run(kind: str, place: Path, folder: Path, file: str = "", **options: Any) -> str:
    """Run a recipe from a folder, on the tones in `place`; returns its log."""
    path = REPOSITORY / "hparams" / (file or f"LibriSpeech/{kind}_bl_resnet22.yaml")
    same = {
        "n_mels": 40,
        "feature_form": "hamming",
        "encoder": ENCODER,
        "vocab_size": "null",
        "skip_test": True,
        **SAME[kind],
    }
    train(path.parent.name, kind)(command(path, place, **{**same, "init_from": folder, **options}))
    return (place / "log.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("kind", OUR_KINDS)
def test_no_epoch_gives_the_folders_words(
    kind: str, recognizers: dict[str, Recognizer], folders: dict[str, Path], tmp_path: Path
) -> None:
    # A text that lacks letters which the folder knows.
    write_tones(tmp_path, ["BAD", "CAB"])
    log = run(kind, tmp_path, folders[kind], number_of_epochs=0)
    assert len(set(transcripts(recognizers[kind], *speech(16000, 9000)))) == 2
    assert_same(load_model(tmp_path / "model"), recognizers[kind])
    tensors = len(recognizers[kind].model.state_dict())
    assert f"{tensors} of {tensors} tensors" in log and "left as initialized" not in log
    assert f"{CHARACTERS.size - 1} of {CHARACTERS.size - 1} tokens keep their rows, 0 are new" in log
    assert (tmp_path / "wer_dev.txt").is_file() and "dev, before training: WER" in log
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"Started from: `{folders[kind]}`" in card and "Weights: before training." in card


def test_no_kind_is_missed() -> None:
    assert set(OUR_KINDS) == set(TASKS) == set(SAME) and set(KINDS) - set(OUR_KINDS) == {"hybrid"}


@pytest.mark.slow
def test_learned_statistics_are_loaded_and_learn_on(tmp_path: Path) -> None:
    recognizer = make(normalize=GlobalNormalization(40), time_padding="causal")
    recognizer.normalize.train()
    recognizer.features(*speech(16000, 9000))
    recognizer.eval()
    folder = save_model(tmp_path / "trained", recognizer)
    write_tones(tmp_path, ["BAD", "CAB"])
    fields = f"channels: {list(CHANNELS)}, input_size: 40, output_size: 48, time_padding: causal"
    causal = {
        "file": "AN4/ctc_bl_resnet22_causal.yaml",
        "encoder": f"!include:../encoders/bl_resnet22.yaml {{{fields}}}",
    }
    run("ctc", tmp_path, folder, **causal, number_of_epochs=0)
    assert_same(load_model(tmp_path / "model"), recognizer)
    run("ctc", tmp_path, folder, **causal, number_of_epochs=1)
    learned = torch.load(next(tmp_path.glob("save/CKPT+epoch-0001/normalize.ckpt")))
    assert learned["count"] > recognizer.normalize.state_dict()["count"] > 0


@pytest.mark.slow
def test_new_characters_come_behind_and_change_no_word(
    recognizers: dict[str, Recognizer], folders: dict[str, Path], tmp_path: Path
) -> None:
    write_tones(tmp_path, ["ZOO", "BAD"])
    log = run("ctc", tmp_path, folders["ctc"], number_of_epochs=0)
    assert "2 are new ('O', 'Z')" in log
    loaded = load_model(tmp_path / "model")
    assert loaded.tokenizer.state() == {"symbols": [*CHARACTERS.symbols, "O", "Z"]}
    batch = speech(16000, 9000)
    assert transcripts(loaded, *batch) == transcripts(recognizers["ctc"], *batch)


@pytest.mark.parametrize("kind", OUR_KINDS)
def test_rows_follow_the_tokens_text(kind: str, recognizers: dict[str, Recognizer], tmp_path: Path) -> None:
    trained = recognizers[kind]
    tokenizer = CharacterTokenizer("XHCÄ BA")
    model = make(kind=kind, tokenizer=tokenizer).model
    Start("folder", trained).load(model, SentenceNormalization(), tokenizer)
    there, here = trained.model.state_dict(), model.state_dict()
    own = KINDS[kind].own_tokens
    for name, tensor in here.items():
        if name.split(".")[0] not in KINDS[kind].token_layers:
            assert torch.equal(tensor, there[name]), name
            continue
        assert torch.equal(tensor[0], there[name][0])
        for index, symbol in enumerate(tokenizer.symbols, start=1):
            if symbol == "X":
                expected = there[name][1 : CHARACTERS.size].mean(0)
                torch.testing.assert_close(tensor[index], expected)
            else:
                assert torch.equal(tensor[index], there[name][CHARACTERS.encode(symbol)[0]])
        assert torch.equal(tensor[len(tensor) - own :], there[name][len(there[name]) - own :])


@every_kind
@pytest.mark.parametrize("trained", KINDS)
def test_of_another_kind_the_encoder_is_loaded(kind: str, trained: str, recognizers: dict[str, Recognizer]) -> None:
    model, there = make(kind=kind).model, recognizers[trained].model.state_dict()
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, 0.5)
    tokenizer = None if kind == "hybrid" else CHARACTERS
    Start("folder", recognizers[trained]).load(model, SentenceNormalization(), tokenizer)
    for name, tensor in model.named_parameters():
        if name.startswith("encoder.") or kind == trained != "hybrid":
            assert torch.equal(tensor, there[name]), name
        else:
            assert (tensor == 0.5).all(), name


# Hybrid systems, whose first network starts from the encoder


def hybrid(place: Path, folder: Path) -> list[str]:
    """Command line of a hybrid recipe with the encoder and the features of `make`."""
    encoder = f"{{channels: {list(CHANNELS)}, input_size: 40, input_channels: 1, output_size: 48, time_stride: 4}}"
    features = {"n_mels": 40, "compute_features": "{deltas: False}", "encoder": encoder, "states_per_phone": 1}
    options = {"iterations": "[{epochs: 1}]", "skip_test": True, "silence_states": 1, "init_from": folder}
    return hybrid_recipe.small(place, **features, **options)


@pytest.mark.slow
@every_kind
def test_a_hybrid_system_starts_from_the_encoder_of_every_kind(
    kind: str,
    recognizers: dict[str, Recognizer],
    folders: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[dict[str, torch.Tensor]] = []

    def look(brain: HybridBrain, *arguments: Any) -> None:
        found.append(brain.model.encoder.state_dict())
        raise KeyboardInterrupt

    hybrid_recipe.write_corpus(tmp_path)
    monkeypatch.setattr(HybridBrain, "fit_datasets", look)
    with pytest.raises(KeyboardInterrupt):
        hybrid_recipe.train("AN4")(hybrid(tmp_path, folders[kind]))
    expected = recognizers[kind].model.encoder.state_dict()
    assert found[0].keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found[0].items())
    log = (tmp_path / "log.txt").read_text()
    assert "linear start, turn 1" in log and "the encoder only" in log


@pytest.mark.slow
def test_a_hybrid_system_that_goes_on_needs_no_folder(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["ctc"], tmp_path / "trained")
    hybrid_recipe.write_corpus(tmp_path)
    hybrid_recipe.train("AN4")(hybrid(tmp_path, folder))
    before = (tmp_path / "wer_dev.txt").read_text()
    shutil.rmtree(folder)
    hybrid_recipe.train("AN4")(hybrid(tmp_path, folder))
    assert (tmp_path / "wer_dev.txt").read_text() == before
    assert f"Started from: `{folder}`" in (tmp_path / "model" / "README.md").read_text()


# Trainings that are interrupted


@pytest.mark.slow
def test_a_training_that_goes_on_needs_no_folder_and_ends_in_the_same_weights(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(folders["ctc"], tmp_path / "trained")
    for place in (tmp_path / "whole", tmp_path / "interrupted"):
        write_tones(place, ["BAD", "ZOO"])
    run("ctc", tmp_path / "whole", folder)

    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ResumableBrain, "fit_batch", interrupt)
        run("ctc", tmp_path / "interrupted", folder)
    card = (pack(tmp_path / "interrupted", tmp_path / "packed") / "README.md").read_text()
    assert f"Started from: `{folder}`" in card and "checkpoint of epoch 0" in card
    shutil.rmtree(folder)
    assert "is not read, for the training goes on, which started from" in run("ctc", tmp_path / "interrupted", folder)
    one, other = (load_model(tmp_path / name / "model").state_dict() for name in ("whole", "interrupted"))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_a_tokenizer_is_not_taken_for_one_that_a_folder_had_a_part_in(tmp_path: Path) -> None:
    path, base = tmp_path / "tokenizer.json", CharacterTokenizer("XY")
    assert train_tokenizer(["AB"], path, base=base).state() == {"symbols": list("XYAB")}
    assert train_tokenizer(["AB"], path, base=base).size == train_tokenizer(["AB"], path, going_on=True).size == 5
    for other in (None, CharacterTokenizer("YX")):
        with pytest.raises(ValueError, match="tokenizer made of other transcripts or settings"):
            train_tokenizer(["AB"], path, base=other)


# Tokens


def test_word_pieces_are_kept_unless_another_number_is_wanted(tmp_path: Path) -> None:
    texts = ["RUBOUT G M E F THREE NINE", "ENTER FIVE", "YES NO", "HELP STOP ERASE REPEAT"] * 5
    base = train_tokenizer(texts, tmp_path / "base.json", "bpe", 40)
    for name, size in (("null", None), ("same", 40)):
        kept = train_tokenizer(["ENTER NINE"] * 3, tmp_path / f"{name}.json", "bpe", size, base)
        assert kept.state() == load_tokenizer(tmp_path / f"{name}.json").state() == base.state()
    assert train_tokenizer(texts, tmp_path / "own.json", "bpe", 38, base).size == 38
    assert train_tokenizer(texts, tmp_path / "others.json", "character", None, base).kind == "character"
    with pytest.raises(ValueError, match="bpe pieces cannot spell 'QUIT', as they lack a character of it"):
        train_tokenizer(["QUIT"], tmp_path / "lacking.json", "bpe", 40, base)
    assert not (tmp_path / "lacking.json").exists()


# What fits


@pytest.mark.slow
def test_what_does_not_fit_is_named(folders: dict[str, Path], tmp_path: Path) -> None:
    write_tones(tmp_path, ["BAD", "CAB"])
    encoder = "!include:../encoders/bl_resnet22.yaml {channels: [8, 16, 32, 24], input_size: 40, output_size: 48}"
    log = run("ctc", tmp_path, folders["ctc"], encoder=encoder, number_of_epochs=0)
    assert "of another shape there, left as initialized: encoder.stages.3.*" in log and ", encoder.head.weight" in log
    assert "channels [8, 16, 32, 64] there, [8, 16, 32, 24] here" in log
    assert "encoder.stages.0" not in log


@pytest.mark.slow
def test_a_sparse_training_prunes_the_trained_weights(
    recognizers: dict[str, Recognizer], folders: dict[str, Path], tmp_path: Path
) -> None:
    write_tones(tmp_path, ["BAD", "CAB"])
    run("ctc", tmp_path, folders["ctc"], number_of_epochs=0, sparsity="{rate: 0.5}")
    model, trained = load_model(tmp_path / "model").model, recognizers["ctc"].model.state_dict()
    assert report(model).nonzero < 0.6 * report(recognizers["ctc"].model).nonzero
    for name, tensor in model.state_dict().items():
        assert torch.equal(torch.where(tensor == 0, 0, trained[name]), tensor), name


def test_modules_are_named_once() -> None:
    names = ["a.b.weight", "a.b.bias", "a.c", "d.weight"]
    assert compact(names, names) == ["a.* (3)", "d.weight"]
    assert compact(names[:2], names) == ["a.b.* (2)"] and compact(names[1:2], names) == ["a.b.bias"]


# What is refused


@pytest.mark.slow
@pytest.mark.parametrize(
    "options, message",
    [
        ({"n_mels": 20}, "was trained on other features: compute_features has n_mels 40 there, 20 here"),
        ({"compute_features": "{deltas: True}"}, "compute_features has deltas False there, True here"),
        (
            {"normalize": "!new:biglittle_asr.features.SentenceNormalization {std: False}"},
            "normalize has std True there, False here",
        ),
        (
            {"normalize": "!new:biglittle_asr.features.GlobalNormalization {num_features: 40}"},
            "normalize has SentenceNormalization there, GlobalNormalization here",
        ),
        ({"encoder": "{channels: [4, 4, 4, 4], output_size: 48}"}, "no layer of the encoder in .* fits the recipe's"),
        (
            {"encoder": "!include:../encoders/crdnn.yaml {input_size: 40, rnn_layers: 1, rnn_neurons: 8}"},
            "no layer of the encoder in .* fits the recipe's",
        ),
        ({"init_from": "nowhere"}, "init_from: nowhere: no such model folder"),
        ({"init_from": "{model: 1}"}, "init_from: is .*, but must be text or null"),
        ({"init_from": "''"}, "must be the path of a model folder"),
    ],
)
def test_what_cannot_be_a_start_is_refused(
    options: dict[str, Any], message: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    write_tones(tmp_path, ["BAD", "CAB"])
    with pytest.raises(RecipeError, match=message):
        run("ctc", tmp_path, folders["ctc"], **options)
    assert not (tmp_path / "model").exists()


# The key


@pytest.mark.slow
@pytest.mark.parametrize("file", SPEECH_RECIPES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_every_speech_recipe_takes_the_key_on_the_command_line(file: Path, tmp_path: Path) -> None:
    task = file.name.split("_")[0]
    keys = HybridRecipe if task == "hybrid" else TASKS[task][1]
    options = ["--init_from=trained", f"--output_folder={tmp_path}", "--encoder={channels: [4, 4, 4, 4]}"]
    hparams, _ = load_recipe([str(file), *placeholders(file), *options], keys)
    assert hparams["init_from"] == "trained"


def test_image_recipes_do_not(tmp_path: Path) -> None:
    file = REPOSITORY / "hparams" / "ImageNet" / "cifar10_resnet50.yaml"
    with pytest.raises(RecipeError, match="command line: no recipe key is named init_from"):
        load_recipe([str(file), "--init_from=a", f"--output_folder={tmp_path}"], ImageRecipe)
    own = tmp_path / "own.yaml"
    own.write_text(f"!include:{file}\ninit_from: a\n")
    with pytest.raises(RecipeError, match="no recipe key is named init_from"):
        load_recipe([str(own), f"--output_folder={tmp_path}"], ImageRecipe)
