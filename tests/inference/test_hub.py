"""Model folders on Hugging Face's hub: a card that it reads, and folders by name, without a network."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import soundfile
import torch
from huggingface_hub.utils import filter_repo_objects
from ruamel.yaml import YAML

from biglittle_asr.cli import main
from biglittle_asr.corpora import CORPORA, LANGUAGES
from biglittle_asr.inference import Classifier, ModelCard, Recognizer, load_model, save_model
from biglittle_asr.inference.classification import ImageScore
from biglittle_asr.inference.folder import hub
from biglittle_asr.inference.folder.head import HubFacts
from biglittle_asr.inference.folder.kinds import KINDS
from biglittle_asr.inference.folder.store import CARD, CONFIG, FILES, NEEDED, WEIGHTS
from biglittle_asr.models import create_model
from biglittle_asr.scoring import score_texts
from support.corpora import SAMPLE_RATE
from support.model_folders import make
from support.recognizers import babble

# The head of the card


def head_of(folder: Path) -> Any:
    """What YAML says that the head is, and what the hub's own reader makes of it."""
    text = (folder / CARD).read_text(encoding="utf-8")
    empty, head, body = text.split("---\n", 2)
    assert empty == "" and body.startswith("\n# ")
    found = YAML(typ="safe").load(io.StringIO(head))
    card = huggingface_hub.ModelCard(text)
    assert card.text.strip() == body.strip()
    # The hub's reader puts scores elsewhere; it would not take wrong ones.
    plain = yaml_of(card)
    assert plain == found
    return found


def yaml_of(card: huggingface_hub.ModelCard) -> Any:
    return YAML(typ="safe").load(io.StringIO(card.data.to_yaml()))


FACTS = HubFacts(language="no", license="cc-by-4.0", datasets=("org/an4",), corpus="1:30 o'clock: \u00e9")
"""With values that YAML would take for others, were they not quoted."""


@pytest.mark.parametrize("kind", KINDS)
def test_the_head_says_what_is_known(kind: str, tmp_path: Path) -> None:
    score = score_texts({"a": "one two three"}, {"a": "one to"}, bootstrap=0).all
    empty = score_texts({"a": ""}, {"a": "one"}, bootstrap=0).all
    card = ModelCard(scores={"dev": score, "test": empty}, hub=FACTS)
    found = head_of(save_model(tmp_path / "model", make(kind=kind), card))
    (index,) = found.pop("model-index")
    assert found == {
        "language": "no",
        "license": "cc-by-4.0",
        "library_name": "biglittle-asr",
        "pipeline_tag": "automatic-speech-recognition",
        "datasets": ["org/an4"],
        "metrics": ["wer"],
    }
    assert KINDS[kind].title in index["name"]
    (result,) = index["results"]  # no rate without words
    assert result["dataset"] == {"name": FACTS.corpus, "type": "org/an4", "split": "dev"}
    assert result["metrics"] == [{"type": "wer", "value": 66.67, "name": "Word error rate, %"}]


def test_the_head_says_nothing_that_is_not_known(tmp_path: Path) -> None:
    bare = {"library_name": "biglittle-asr", "pipeline_tag": "automatic-speech-recognition"}
    assert head_of(save_model(tmp_path / "model", make())) == bare
    score = score_texts({"a": "one"}, {"a": "one"}, bootstrap=0).all
    assert head_of(save_model(tmp_path / "model", make(), ModelCard(scores={"dev": score}))) == bare
    assert head_of(save_model(tmp_path / "model", make(), ModelCard(hub=HubFacts(corpus="an4")))) == bare
    # The whole card is the user's.
    assert (save_model(tmp_path / "model", make(), "# Mine\n") / CARD).read_text() == "# Mine\n"


def test_the_head_of_an_image_classifier_has_its_accuracy(tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier = Classifier("resnet18", create_model("resnet18", num_classes=2).eval(), ("a", "b"), 40, 32)
    card = ModelCard(scores={"val": ImageScore(50, 61.512, 90.25, 1.5, 2)}, hub=HubFacts(corpus="imagenet"))
    found = head_of(save_model(tmp_path / "model", classifier, card))
    assert found["pipeline_tag"] == "image-classification" and "language" not in found
    (result,) = found["model-index"][0]["results"]
    assert result["dataset"] == {"name": "imagenet", "type": "imagenet", "split": "val"}
    assert result["metrics"] == [{"type": "accuracy", "value": 61.51, "name": "Top-1 accuracy, %"}]


@pytest.mark.parametrize(
    "given, message",
    [
        ({"licence": "mit"}, "card: unknown key 'licence': did you mean 'license'"),
        ({"language": False}, "card: language is False, but must be text"),
        ({"datasets": "an4"}, "card: datasets is 'an4', but must be a list of texts"),
        ({"datasets": [1]}, r"card: datasets is \[1\], but must be a list of texts"),
        ({"corpus": "an4"}, "card: unknown key 'corpus'"),
    ],
)
def test_facts_that_are_none_are_refused(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HubFacts.of(given)


def test_the_language_of_every_corpus_is_known_but_for_your_own() -> None:
    assert set(CORPORA) - set(LANGUAGES) == {"folder"}


# Folders by name

NAME = "some-org/some.model"


@pytest.fixture(autouse=True)
def no_folder_is_remembered() -> Iterator[None]:
    hub.download.cache_clear()
    yield
    hub.download.cache_clear()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, which cannot be reached."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


def put(cache: Path, model: Recognizer) -> Path:
    """Lay a model folder into a cache as the hub's library does: links to blobs."""
    folder = save_model(cache.parent / "made", model)
    place = cache / f"models--{NAME.replace('/', '--')}"
    snapshot = place / "snapshots" / ("0" * 40)
    for path in (place / "blobs", place / "refs", snapshot):
        path.mkdir(parents=True)
    (place / "refs" / "main").write_text("0" * 40)
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(place / "blobs" / str(number))
        (snapshot / path.name).symlink_to(Path("..", "..", "blobs", str(number)))
    return snapshot


def test_a_name_is_a_folder_in_the_cache(
    cache: Path, recognizer: Recognizer, recordings: list[Path], capsys: Any
) -> None:
    put(cache, recognizer)
    expected = recognizer.transcribe(recordings[1]).text
    assert load_model(NAME).transcribe(recordings[1]).text == expected
    assert main(["transcribe", NAME, str(recordings[1])]) == 0
    assert capsys.readouterr().out == f"{expected}\n"
    Path("test.csv").write_text(f"ID,wav,wrd\na,{recordings[1]},{expected}\n")
    assert main(["evaluate", NAME, "test.csv", "--json"]) == 0


def test_a_folder_of_that_name_comes_first(cache: Path, recognizer: Recognizer) -> None:
    put(cache, recognizer)
    local = save_model(Path(NAME), make())
    assert load_model(NAME).tokenizer.state() == load_model(local).tokenizer.state() != recognizer.tokenizer.state()
    shutil.rmtree(NAME)
    # The organization's folder is left, so that the name is a path with a mistake.
    with pytest.raises(FileNotFoundError, match=r"^some-org/some.model: no such model folder\.$"):
        load_model(NAME)


@pytest.mark.parametrize(
    "name", ["nowhere", "/nowhere/model", "../nowhere", "a/b/c", "nowhere/", "a b/c", "~/x", ".a/b"]
)
def test_other_paths_are_no_names(name: str, cache: Path) -> None:
    assert not hub.is_hub_name(Path(name))


@pytest.mark.parametrize("lost", [CONFIG, WEIGHTS])
def test_a_folder_that_is_not_whole_is_refused(lost: str, cache: Path, recognizer: Recognizer) -> None:
    (put(cache, recognizer) / lost).unlink()
    with pytest.raises(FileNotFoundError, match=f"{lost}: no such file; .* is no whole model folder"):
        load_model(NAME)


def test_what_neither_hub_nor_cache_has_is_told_in_a_sentence(cache: Path, capsys: Any) -> None:
    for command in (["transcribe", NAME, "a.wav"], ["evaluate", NAME, "a.csv"], ["tune", NAME, "a.csv", "--lm", "a"]):
        assert main(command) == 1
        (sentence,) = capsys.readouterr().err.splitlines()
        assert sentence.startswith(f"biglittle: {NAME}: no such model folder, and Hugging Face's hub gives none")
        assert sentence.endswith(").")


def test_without_its_package_a_name_is_refused_in_a_sentence(
    cache: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert main(["transcribe", NAME, "a.wav"]) == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"biglittle: {NAME}: no such model folder, and one from Hugging Face's hub needs ")
    assert sentence.endswith("): pip install 'biglittle-asr[hub]'.")


def test_only_files_of_a_model_folder_are_downloaded(
    cache: Path, recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = save_model(tmp_path / "remote", recognizer)
    for name in (
        "modeling.py",
        "pytorch_model.bin",
        "model.ckpt",
        "sub/config.json",
        "config.json.py",
        ".gitattributes",
    ):
        (remote / name).parent.mkdir(exist_ok=True)
        (remote / name).write_text("raise SystemExit")
    asked: list[str] = []

    def snapshot_download(name: str, *, allow_patterns: list[str]) -> str:
        asked.append(name)
        names = [path.relative_to(remote).as_posix() for path in remote.rglob("*") if path.is_file()]
        for each in filter_repo_objects(names, allow_patterns=allow_patterns):
            (tmp_path / "fetched" / each).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(remote / each, tmp_path / "fetched" / each)
        return str(tmp_path / "fetched")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert isinstance(load_model(NAME), Recognizer) and isinstance(load_model(NAME), Recognizer)
    assert asked == [NAME]
    fetched = {path.relative_to(tmp_path / "fetched").as_posix() for path in (tmp_path / "fetched").rglob("*")}
    assert fetched == {*NEEDED, CARD} <= set(FILES)


@pytest.mark.slow
def test_a_program_takes_a_name_without_a_network(recognizer: Recognizer, tmp_path: Path) -> None:
    put(tmp_path / "hub", recognizer)
    soundfile.write(tmp_path / "a.wav", babble(1.0, 1), SAMPLE_RATE)
    code = "import sys; from biglittle_asr.cli import main; sys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "hub")}
    environment["PYTHONPATH"] = str(Path(hub.__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", code, "transcribe", NAME, "a.wav"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == recognizer.transcribe(tmp_path / "a.wav").text + "\n"
