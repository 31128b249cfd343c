"""What the docs promise of commands and recipes: JSON as its page has it, options obeyed or refused, small corpora."""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from torch import nn

from biglittle_asr import __version__
from biglittle_asr.cli import COMMANDS, main
from biglittle_asr.commands import profile
from biglittle_asr.corpora import prepare
from biglittle_asr.decoding.lm.arpa import write_arpa
from biglittle_asr.decoding.lm.ngram import train_ngrams
from biglittle_asr.features import GlobalNormalization
from biglittle_asr.inference import save_model
from biglittle_asr.models import CTCModel, create_encoder, create_model
from biglittle_asr.models.foreign import ForeignEncoder, conformer, crdnn
from biglittle_asr.nnet.sparse import sparsify
from biglittle_asr.recipe.run import load_recipe
from biglittle_asr.recipe.yaml import read_tree
from biglittle_asr.tasks.engine.brain import ResumableBrain
from biglittle_asr.tasks.engine.schedule import ByEpoch
from biglittle_asr.tokens.tokenizer import SentencePieceTokenizer
from support import image_recipe, speech_recipes, verdicts
from support.corpora import SAMPLE_RATE, make_an4, make_librispeech, make_speechocean762, make_telephone
from support.ctc_recipe import write_tones
from support.model_folders import make
from support.recipe_files import RECIPE_FILES, settings_of
from support.recognizers import babble, make_recognizer
from support.repository import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "recipes"))
import study  # noqa: E402  (a script, in no package)

PAGE = REPOSITORY / "docs" / "json.md"
TYPES: dict[str, Callable[[Any], bool]] = {
    "any": lambda value: True,
    "whole": lambda value: type(value) is int,
    "number": lambda value: type(value) in (int, float),
    "text": lambda value: isinstance(value, str),
    "list": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
}


# JSON and its page


def page() -> dict[str, dict[str, tuple[str, bool]]]:
    """Title of each table -> key -> type, and whether it is always there."""
    found: dict[str, dict[str, tuple[str, bool]]] = {}
    title = ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("#"):
            title = line.lstrip("# ").split(":")[0]
        row = re.fullmatch(r"\| `(\w+)` \| ([\w ]+) \| ?(.*) ?\|", line)
        if row:
            found.setdefault(title, {})[row[1]] = (row[2], not row[3].startswith("only"))
    return found


OBJECTS = page()


def check(value: Any, title: str, *more: str) -> None:
    """An object has the keys of its table, of the types there, and no others."""
    known = {key: facts for name in (title, *more) for key, facts in OBJECTS[name].items()}
    assert set(value) <= set(known), (title, set(value) - set(known))
    missing = [key for key, (_, always) in known.items() if always and key not in value]
    assert not missing, (title, missing)
    for key, each in value.items():
        assert any(TYPES[kind](each) for kind in known[key][0].split(" or ")), (title, key, each)
    SEEN.update((name, key) for name in (title, *more) for key in value if key in OBJECTS[name])


SEEN: set[tuple[str, str]] = set()


def check_score(value: Any) -> None:
    check(value, "Score")
    for counts in (value["all"], *value["speakers"].values(), *value["labels"].values()):
        check(counts, "Counts")
    if "compared" in value:
        other = dict(value["compared"])
        check(other.pop("matched_pairs"), "Matched pairs")
        check_score(other)


def check_profile(value: Any) -> None:
    for each in value.get("models", [value]):
        check(each, "Profile")
        for layer in each.get("layers", []):
            check(layer, "Layer")
        if each["latency_ms"] is not None:
            check(each["latency_ms"], "Latency")


def check_sweep(value: Any) -> None:
    for each in value.get("models", [value]):
        check(each, "Sweep")
        for variant in each["variants"]:
            check(variant, "Variant")


def check_transcripts(value: Any) -> None:
    for each in value.get("transcripts", [value]):
        check(each, "Transcript")
        for words in (each["words"], *(text["words"] for text in each.get("nbest", []))):
            for word in words:
                check(word, "Word")
        for text in each.get("nbest", []):
            check(text, "Text")
    assert all(set(each) == {"name", "error"} for each in value.get("failures", []))


def check_tuning(value: Any) -> None:
    check(value, "Tuning")
    check(value["greedy"], "Counts")
    if value["lexicon"] is not None:
        check(value["lexicon"], "Counts")
    for trial in (value["best"], *value["trials"]):
        check(trial, "Trial", "Counts")


def check_models(value: Any) -> None:
    check(value, "Models")
    for network in (*value["encoders"], *value["images"]):
        check(network, "Network")
    for file in value["recipes"]:
        check(file, "Listed file")
    for model in value["pretrained"]:
        check(model, "Trained model")


def check_doctor(value: Any) -> None:
    check(value, "Doctor")
    titles = {"threads": "Threads", "cpu": "Processor", "audio": "Decoders"}
    for key, title in titles.items():
        check(value[key], title)
    for gpu in value["gpus"]:
        check(gpu, "GPU")
    for extra in value["extras"].values():
        check(extra, "Extra")


def check_sets(title: str) -> Callable[[Any], None]:
    return lambda value: [check(each, title) for each in value.values()] and None


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, recordings and texts for every command."""
    folder = tmp_path_factory.mktemp("files")
    save_model(folder / "model", make_recognizer())
    arpa = train_ngrams([["AB", "A"], ["BE", "CAB"], ["AB", "BE"]], 2)
    write_arpa(folder / "lm.arpa", arpa.orders)
    rows = ["ID,duration,wav,spk_id,wrd"]
    for index, words in enumerate(("AB A BE CAB", "BE AB")):
        soundfile.write(folder / f"{index}.wav", babble(1 + index / 2, index), SAMPLE_RATE)
        rows.append(f"u{index},{1 + index / 2},{folder / f'{index}.wav'},s{index},{words}")
    (folder / "dev.csv").write_text("\n".join([*rows, ""]))
    (folder / "words.txt").write_text("AB\nA\nBE\nCAB\n")
    (folder / "ref.txt").write_text("jane-1 yes no\njoe-2 one two\n")
    (folder / "hyp.txt").write_text("jane-1 yes\njoe-2 one three\n")
    (folder / "utt2spk").write_text("jane-1 jane\njoe-2 joe\n")
    (folder / "ref.stm").write_text("a 1 jane 0 2 <o,f0> yes (uh) no\nb 1 joe 0 2 <o,f0> one two\n")
    (folder / "hyp.ctm").write_text("a 1 0.1 0.2 yes\nb 1 0.1 0.2 one\n")
    (folder / "other.ctm").write_text("a 1 0.1 0.2 no\nb 1 0.1 0.2 two\n")
    make_an4(folder / "an4")
    image_recipe.make_folder(folder / "images")
    torch.manual_seed(0)
    torch.save(create_model("resnet18", num_classes=3).state_dict(), folder / "net.pt")
    return folder


PRINTED: dict[str, tuple[str, Callable[[Any], None]]] = {
    "score": ("score --ref ref.txt --hyp hyp.txt --utt2spk utt2spk", check_score),
    "score without speakers": ("score --ref ref.txt --hyp hyp.txt --bootstrap 0", check_score),
    "score normalized": ("score --ref ref.txt --hyp hyp.txt --normalizer english", check_score),
    "score by time": ("score --ref ref.stm --hyp hyp.ctm --compare other.ctm", check_score),
    "evaluate": ("evaluate model dev.csv", check_score),
    "evaluate images": (
        "evaluate resnet18 images --weights net.pt",
        lambda value: check(value, "Images"),
    ),
    "models": ("models", check_models),
    "doctor": ("doctor", check_doctor),
    "profile": ("profile bl_resnet22 --layers --seconds 0.1 --runs 1", check_profile),
    "profile of two": ("profile model resnet18 --runs 0 --convention micronet", check_profile),
    "sweep": ("profile bl_resnet22 bl_resnet50 --sweep", check_sweep),
    "transcribe": ("transcribe model 0.wav --nbest 2", check_transcripts),
    "transcribe several": ("transcribe model 0.wav 1.wav", check_transcripts),
    "tune": (
        "tune model dev.csv --lm lm.arpa --lm-weights 0.5 --word-scores 0,1 --output o.json",
        check_tuning,
    ),
    "tune a lexicon": (
        "tune model dev.csv --lexicon words.txt --word-scores 0 --output o.json",
        check_tuning,
    ),
    "lm": ("lm dev.csv new.arpa", lambda value: check(value, "Language model")),
    "prepare": ("prepare an4 an4 manifests --option dev_utterances=6", check_sets("Set")),
    "recipe": (f"recipe {RECIPE_FILES[0]}", check_sets("Recipe")),
    "shard": ("shard dev.csv shards", lambda value: check(value, "Shards")),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", PRINTED)
def test_json_is_what_its_page_says(case: str, files: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(files)
    words, check_all = PRINTED[case]
    capsys.readouterr()
    assert main([*words.split(), "--json"]) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    check_all(json.loads(printed))


@pytest.mark.parametrize("missing", [False, True])
def test_the_json_of_a_verdict_is_what_its_page_says(missing: bool, tmp_path: Path, capsys: Any) -> None:
    recognized: dict[Any, Any] = verdicts.invent(random.Random(1), seeds=[1])
    recognized |= {("twin", 2): [], ("bl", 2): []} if missing else {}
    pairs = [{"run": "bl", "against": "twin"}, {"run": "twin", "against": "bl"}]
    verdicts.write(tmp_path, recognized, comparisons=pairs)
    assert study.main([str(tmp_path / "claim.yaml"), "--verdict", "--json"]) == int(missing)
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    for each in json.loads(printed)["comparisons"]:
        check(each, "Verdict")
        assert bool(each["missing"]) is missing
        for test in each["matched_pairs"]:
            check(test, "Matched pairs")


def test_every_command_with_json_is_on_the_page() -> None:
    with_json = set()
    for command in COMMANDS:
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        if any("--json" in action.option_strings for action in parser._actions):
            with_json.add(command.name)
    assert with_json == {words.split()[0] for words, _ in PRINTED.values()}
    page = PAGE.read_text()
    rows = dict(re.findall(r"^\| `biglittle (\w+)` \| (.*) \|$", page, re.MULTILINE))
    assert set(rows) == with_json and list(rows) == sorted(rows)
    # As GitHub makes them of headings.
    headings = [re.sub(r"[^\w\- ]", "", line.lstrip("# ")).lower() for line in page.splitlines() if line[:1] == "#"]
    anchors = {heading.replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]*)\)", page)) <= anchors
    assert all(f"`biglittle {name}" in page.split("\n## ", 1)[1] for name in with_json)
    assert f"version {__version__}" in page


@pytest.mark.slow
@pytest.mark.parametrize("channel", [[], ["--channel", "1"]])
def test_a_stream_prints_words_with_times_as_lines_of_json(tmp_path: Path, capsys: Any, channel: list[str]) -> None:
    recognizer = make(normalize=GlobalNormalization(40), time_padding="causal")
    folder = save_model(tmp_path / "model", recognizer)
    soundfile.write(tmp_path / "a.wav", babble(2.0, 1), SAMPLE_RATE)
    assert main(["transcribe", str(folder), str(tmp_path / "a.wav"), "--stream", "--json", *channel]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert main(["transcribe", str(folder), str(tmp_path / "a.wav"), "--json", *channel]) == 0
    words = json.loads(capsys.readouterr().out)["words"]
    assert words and [json.loads(line) for line in lines] == words
    for word in words:
        check(word, "Word")
    for kind in ("srt", "ctm"):
        assert main(["transcribe", str(folder), str(tmp_path / "a.wav"), "--stream", "--format", kind]) == 1


# Options obeyed or refused


def sweep_options() -> Iterator[list[str]]:
    parser = argparse.ArgumentParser()
    profile.add_arguments(parser)
    values = {"convention": "micronet", "errors": "1", "plot": "a.png", "dense": "fc", "sparsity": "0.5"}
    for action in parser._actions:
        if action.option_strings and action.dest not in (*profile.SWEPT, "help"):
            value = [] if action.nargs == 0 else [values.get(action.dest, "3")]
            yield [action.option_strings[0], *value]


@pytest.mark.parametrize("option", list(sweep_options()), ids=lambda option: option[0])
def test_a_sweep_refuses_what_it_would_ignore(option: list[str], capsys: Any) -> None:
    assert main(["profile", "bl_resnet22", "--sweep", *option]) == 1
    said = capsys.readouterr()
    assert f"leave out {option[0]}" in said.err and not said.out


@pytest.mark.parametrize("command", ["evaluate", "tune", "transcribe"])
@pytest.mark.parametrize("data", ["nothing.csv", ".", "dev.csv"])
def test_a_mistyped_model_is_blamed_itself(
    command: str, data: str, files: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(files)
    more = ["--lexicon", "words.txt", "--output", "o.json"] if command == "tune" else []
    assert main([command, "modle", data, *more]) == 1
    assert "modle: no such model folder; did you mean 'model'?" in capsys.readouterr().err
    if command == "evaluate":
        assert main([command, "bl_resnet5", data]) == 1
        assert "did you mean 'bl_resnet50'" in capsys.readouterr().err


@pytest.mark.slow
def test_evaluate_takes_options_of_a_named_model(files: Path, tmp_path: Path, capsys: Any) -> None:
    options = ["bl_resnet50", "alpha=4", "channels=[64, 64, 64, 64]", "blocks=[2, 2, 2, 1]"]
    network = create_model("bl_resnet50", alpha=4, channels=[64, 64, 64, 64], blocks=[2, 2, 2, 1], num_classes=3)
    torch.save(network.state_dict(), tmp_path / "net.pt")
    images = str(files / "images")
    for words in (
        [*options, images],
        [options[0], images, *options[1:]],
        [options[0], options[1], images, *options[2:]],
    ):
        assert main(["evaluate", *words, "--weights", str(tmp_path / "net.pt"), "--json"]) == 0, capsys.readouterr().err
        assert json.loads(capsys.readouterr().out)["images"] == 12
    assert main(["evaluate", "bl_resnet50", images, "--weights", str(tmp_path / "net.pt")]) == 1
    assert main(["evaluate", str(files / "model"), "alpha=4", str(files / "dev.csv")]) == 1
    assert "a model folder is what it is; leave out alpha" in capsys.readouterr().err
    assert main(["evaluate", *options, "--weights", str(tmp_path / "net.pt")]) == 1
    assert "has no DATA" in capsys.readouterr().err
    # A folder of such a name is data.
    (tmp_path / "split=val").mkdir()
    image_recipe.make_folder(tmp_path / "split=val" / "images")
    assert main(["evaluate", "resnet18", f"{tmp_path}/split=val/images", "--weights", str(files / "net.pt")]) == 0


def test_the_lines_of_the_costs_page_work() -> None:
    text = (REPOSITORY / "docs" / "costs.md").read_text()
    line = re.search(r"sparsify\(model, rate=0.9, dense=(\[.*?\])\)", text)
    assert line is not None
    sparsify(create_model("resnet18"), rate=0.9, dense=json.loads(line[1]))
    encoder: Callable[[], Any] = lambda: create_encoder("bl_resnet22", channels=(8, 16, 32, 64))  # noqa: E731
    for pattern, model in (("head", encoder()), ("encoder.head", CTCModel(encoder(), 5))):
        assert f"`{pattern}`" in text
        sparsify(model, rate=0.9, dense=[pattern])


# Foreign encoders


class Every(nn.Module):
    """Takes every so many frames."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :: self.stride]


@pytest.mark.parametrize("real", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("said", [1, 2, 3, 4, 8])
def test_a_foreign_time_stride_is_checked(real: int, said: int) -> None:
    encoder = ForeignEncoder([Every(real)], output_size=5, time_stride=said)
    x, frames = torch.randn(2, 101, 5), torch.tensor([101, 40])
    if real == said:
        assert encoder.encode(x, frames)[1].tolist() == [-(-101 // real), -(-40 // real)]
        return
    with pytest.raises(ValueError, match=rf"time_stride of {said} makes .*; set time_stride to {real}\."):
        encoder.encode(x, frames)


@pytest.mark.slow
@pytest.mark.parametrize("frames", [1, 2, 3, 5, 8, 13, 40, 101, 333])
@pytest.mark.parametrize("make_encoder", [crdnn, conformer])
def test_speechbrains_encoders_keep_their_stride(make_encoder: Any, frames: int) -> None:
    small: dict[Any, dict[str, Any]] = {
        crdnn: {"cnn_channels": (4, 4), "rnn_layers": 1, "rnn_neurons": 8, "dnn_neurons": 16},
        conformer: {"cnn_channels": (4, 4), "d_model": 16, "layers": 1, "d_ffn": 16},
    }
    encoder = make_encoder(**small[make_encoder]).eval()
    try:
        encoder.encode(torch.randn(1, frames, 80), torch.tensor([frames]))
    except ValueError:
        raise
    except RuntimeError:
        assert frames < encoder.time_stride  # SpeechBrain's own pooling leaves nothing


# Tuning


@pytest.mark.slow
def test_tuning_says_where_the_vocabulary_alone_does_as_well(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(files)
    base = ["tune", "model", "dev.csv", "--workers", "1", "--word-scores", "0,1", "--output", "o.json", "--json"]
    assert main([*base, "--lm", "lm.arpa", "--lm-weights", "0"]) == 0
    zero, said = (capsys.readouterr(),) * 2
    found = json.loads(zero.out)
    assert found["best"]["lm_weight"] == 0 and found["lexicon"]["errors"] == found["best"]["errors"]
    if found["greedy"]["errors"] >= found["best"]["errors"]:
        assert "its vocabulary alone does as well" in said.err
    # The same as a lexicon without a language model.
    assert main([*base, "--lexicon", "words.txt"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert alone["best"]["errors"] == found["lexicon"]["errors"] and alone["lexicon"] is None
    # Whatever weights are asked for; those alone are trials.
    assert main([*base, "--lm", "lm.arpa", "--lm-weights", "0.5,1"]) == 0
    others = json.loads(capsys.readouterr().out)
    assert others["lexicon"] == found["lexicon"]
    assert {trial["lm_weight"] for trial in others["trials"]} == {0.5, 1.0}
    assert main([*base[:-1], "--lm", "lm.arpa", "--lm-weights", "0.5"]) == 0
    assert re.search(r"greedy: WER .*; lexicon alone: WER .*; best: WER", capsys.readouterr().out)


@pytest.mark.slow
def test_untuned_weights_hint_at_tune(files: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(files)
    for words in (["transcribe", "model", "0.wav"], ["evaluate", "model", "dev.csv"]):
        for options, hint in (
            (["--lm", "lm.arpa"], True),
            (["--lm", "lm.arpa", "--lm-weight", "0.5"], False),
            (["--lm", "lm.arpa", "--word-score", "1"], False),
            (["--lexicon", "words.txt"], False),
            ([], False),
        ):
            assert main([*words, *options]) == 0
            assert ("`biglittle tune` finds them" in capsys.readouterr().err) is hint, (words, options)


# Scores


@pytest.mark.parametrize("names", [("ref.stm", "nothing.ctm"), ("ref.trn", "nothing.trn")])
def test_an_empty_hypothesis_below_100_percent_is_explained(
    names: tuple[str, str], tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "ref.stm").write_text("a 1 jane 0 2 yes (uh) no\n")
    (tmp_path / "nothing.ctm").write_text(";; nothing\n")
    (tmp_path / "ref.trn").write_text("yes (uh) no (jane-1)\n")
    (tmp_path / "nothing.trn").write_text("(jane-1)\n")
    words = ["score", "--ref", str(tmp_path / names[0]), "--hyp", str(tmp_path / names[1]), "--optional"]
    assert main([*words, *(["--missing-as-empty"] if names[1].endswith("ctm") else [])]) == 0
    said = capsys.readouterr()
    assert "66.67" in said.out and "1 of 3 words count as correct all the same" in said.err


# Small corpora


EPOCH_RECIPES = [path for path in RECIPE_FILES if "number_of_epochs" in read_tree(path)]
"""Recipes that train for a number of epochs; hybrid ones have iterations."""


@pytest.mark.slow
@pytest.mark.parametrize("path", EPOCH_RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_one_epoch_is_enough_for_every_recipe(path: Path, tmp_path: Path) -> None:
    overrides = ["--number_of_epochs=1", f"--output_folder={tmp_path}", *speech_recipes.placeholders(path)]
    hparams, _ = load_recipe([str(path), *overrides], settings_of(path))
    rates = [hparams["lr_annealing"](progress / 10) for progress in range(11)]
    assert max(rates) > 0 and min(rates) >= 0


@pytest.mark.parametrize("epochs", [1, 2, 3])
@pytest.mark.parametrize("warmup", [0, 1, 2, 5])
@pytest.mark.parametrize("schedule", ["cosine", "step"])
def test_a_warm_up_longer_than_the_training_leaves_an_epoch(epochs: int, warmup: int, schedule: str) -> None:
    rate = ByEpoch(0.1, epochs=epochs, schedule=schedule, warmup_epochs=warmup)
    rates = [rate(progress / 100) for progress in range(101)]
    assert all(0 <= each <= 0.1 for each in rates) and rates[-1] > 0
    with pytest.raises(ValueError, match="warmup_epochs: is -1"):
        ByEpoch(0.1, epochs=epochs, warmup_epochs=-1)


SPLITS: dict[str, tuple[Callable[[Path], Path], str, list[int]]] = {
    "an4": (make_an4, "dev_utterances", [100, 0]),
    "speechocean762": (make_speechocean762, "dev_speakers", [99, 0]),
    "switchboard": (lambda folder: make_telephone("switchboard", folder), "dev_conversations", [20, 0]),
    "fisher": (lambda folder: make_telephone("fisher", folder), "dev_conversations", [20, 0]),
}


@pytest.mark.parametrize("corpus", SPLITS)
def test_a_corpus_that_is_too_small_says_what_to_lower(corpus: str, tmp_path: Path) -> None:
    write, option, numbers = SPLITS[corpus]
    folder = write(tmp_path / "data")
    for number, advice in zip(numbers, ("lower it", "raise it"), strict=True):
        with pytest.raises(ValueError, match=rf"{option}: .*{advice}, in a recipe with --corpus_options '\{{{option}:"):
            prepare(corpus, folder, tmp_path / "out", **{option: number})


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_too_many_word_pieces_say_how_many_there_can_be(kind: str) -> None:
    texts = ["ONE TWO THREE", "FOUR FIVE"]
    with pytest.raises(ValueError, match=r"lower it \(--vocab_size \d+\)") as error:
        SentencePieceTokenizer.train(texts, kind, 5000)
    number = re.search(r"--vocab_size (\d+)", str(error.value))
    assert number is not None
    assert SentencePieceTokenizer.train(texts, kind, int(number[1])).size == int(number[1])


@pytest.mark.slow
@pytest.mark.parametrize("task", ["attention", "transducer"])
def test_the_readme_lines_for_small_corpora_work(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (REPOSITORY / "recipes" / "LibriSpeech" / task.title() / "README.md").read_text()
    lines = re.search(r"small corpus(?:.+\n)+\n((?:    .+\n)+)", readme)
    assert lines is not None
    words = re.findall(r"'[^']*'|\"[^\"]*\"|[^\s\\]+", lines[1])
    words = [word.strip("'\"") for word in words]
    assert words[0] == "python" and (REPOSITORY / words[1]).is_file() and (REPOSITORY / words[2]).is_file()
    given = dict(zip(words[3::2], words[4::2], strict=True))
    assert {"--splits", "--vocab_size", "--data_folder"} <= given.keys()
    folder = make_librispeech(tmp_path / "data")
    for split in ("train-clean-100", "dev-clean", "test-clean"):
        (folder / split).rename(folder / split.split("-")[0])
    given["--data_folder"], given["--output_folder"] = str(tmp_path / "data"), str(tmp_path / "out")
    given["--number_of_epochs"], given["--precision"] = "1", "fp32"
    # A network that is as small as the test's corpus.
    given["--encoder"] = "{channels: [4, 8, 8, 16], time_stride: 1}"
    options = {key: value for key, value in speech_recipes.SMALL[task].items() if key != "label_smoothing"}
    given |= {f"--{key}": str(value) for key, value in options.items()}
    given["--vocab_size"] = str(min(int(given["--vocab_size"]), 15))
    argv = [str(REPOSITORY / words[2]), "--noprogressbar", *(f"{key}={value}" for key, value in given.items())]
    speech_recipes.train("LibriSpeech", task)(argv)
    assert (tmp_path / "out" / "scores.json").is_file()


# Before the training


def test_what_ends_without_a_model_folder_says_so_before_it_trains(tmp_path: Path) -> None:
    write_tones(tmp_path, ["ONE", "BAD", "GO"])
    brain, datasets, hparams = speech_recipes.load("ctc", tmp_path, "crdnn", batch_size=3)
    brain.fit_datasets(datasets, hparams)
    lines = (tmp_path / "log.txt").read_text().splitlines()
    first = next(index for index, line in enumerate(lines) if "will end without a model folder" in line)
    assert "ForeignEncoder" in lines[first]
    assert first < next(index for index, line in enumerate(lines) if "epoch 1:" in line)


@pytest.mark.parametrize("cores", [1, 2, 16])
def test_loading_processes_are_no_more_than_the_cores(
    cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import biglittle_asr.tasks.engine.brain as engine

    write_tones(tmp_path, ["ONE", "BAD"])
    brain, datasets, hparams = speech_recipes.load("ctc", tmp_path)
    monkeypatch.setattr(engine, "usable_cores", lambda: cores)
    for wanted in (0, 1, 4, 64):
        loader = ResumableBrain.make_dataloader(brain, datasets.dev, _valid(), num_workers=wanted, batch_size=1)
        assert loader.num_workers == min(wanted, cores)


def _valid() -> Any:
    import speechbrain as sb

    return sb.Stage.VALID
