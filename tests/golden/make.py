"""Pin today's behaviour: write the golden files that tests/test_golden.py compares with.

    OMP_NUM_THREADS=1 python tests/golden/make.py [models] [training] [networks] [commands] [names] [--overwrite]

Model folders and interrupted trainings stand for those that users have: make them anew only to add one, never because
later code cannot read them.
"""

# ruff: noqa: E402 (what tests share is found only once their folder is on the path)

from __future__ import annotations

import argparse
import ast
import json
import math
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import torch
from torch import Tensor, nn

from biglittle_asr.corpora.manifest import read_manifest
from biglittle_asr.features import GlobalNormalization, LogMel, SentenceNormalization
from biglittle_asr.inference import Recognizer, load_model, save_model
from biglittle_asr.inference.folder.classifier import Classifier, load_classifier, save_classifier
from biglittle_asr.inference.folder.kinds import KINDS
from biglittle_asr.models import create_encoder, create_model
from biglittle_asr.tasks.speech.attention import attention_loss
from biglittle_asr.tasks.speech.ctc import ctc_loss
from biglittle_asr.tasks.speech.transducer import transducer_loss
from biglittle_asr.tokens.tokenizer import CharacterTokenizer, SentencePieceTokenizer, Tokenizer
from support import golden as cases
from support.hybrid_recipe import small as hybrid_recipe
from support.hybrid_recipe import write_language
from support.repository import REPOSITORY

SHAPE = {"channels": (4, 8, 8, 16), "input_size": 20, "output_size": 24, "pool_frequency": False}
SMALL = {**SHAPE, "blocks": (2, 1, 1, 1), "big_little_stages": 1}
CHARACTERS = CharacterTokenizer(" ABCDEF")
TEXTS = [" ".join(cases.WORDS[index % 11] for index in (one, 3 * one + 1, 7 * one + 2)) for one in range(40)]

FOLDERS: dict[str, dict[str, Any]] = {
    "ctc": {"encoder": {**SHAPE, "blocks": (2, 2, 2, 2)}},
    "ctc_causal": {"encoder": {**SMALL, "time_padding": "causal"}, "normalize": GlobalNormalization},
    "ctc_bpe": {"tokens": ("bpe", 16)},
    "ctc_unigram": {"tokens": ("unigram", 16)},
    "attention": {
        "arguments": {
            "embedding_size": 8,
            "rnn_type": "gru",
            "attn_type": "location",
            "hidden_size": 24,
            "attn_dim": 16,
            "num_layers": 1,
            "channels": 2,
            "kernel_size": 4,
        },
        "search": {"beam_size": 3, "ctc_weight": 0.3},
    },
    "transducer": {"arguments": {"prediction_size": 16, "joint_size": 24}, "search": {"beam_size": 3}},
}
"""What the folders are made of, where it is not as the first of their kind."""
MOST_STEPS, ENOUGH = 1000, 0.1
"""A network is trained until all batches have a loss (nats an utterance) as low: its words are sure, but not wholly."""
SETTLE = 40
"""Steps after that, slow ones, in which the statistics of BatchNorm become those of the final weights."""
PERTURBED = 4
"""How often a network must say the same although all of its weights are changed a little."""
CHANGE = 1e-4
"""Standard deviation of that change, relative to each weight: far more than arithmetic differs between machines."""


# Model folders


def train_speech(name: str, folder: Path) -> Recognizer:
    """A recognizer of the tones' words, trained as far as `ENOUGH`."""
    kind, made = KINDS[name.split("_")[0]], FOLDERS[name]
    torch.manual_seed(0)
    tokenizer: Tokenizer = CHARACTERS
    if "tokens" in made:
        tokenizer = SentencePieceTokenizer.train(TEXTS * 3, *made["tokens"])
    features = LogMel(n_mels=20)
    encoder = create_encoder("bl_resnet22", **made.get("encoder", SMALL))
    model: Any = kind.build(encoder, tokenizer.size, made.get("arguments", {}))
    normalize = GlobalNormalization(20) if "normalize" in made else SentenceNormalization()
    recognizer = Recognizer(features, normalize, model, tokenizer, kind.search_settings(**made.get("search", {})))
    rows = read_manifest(folder / "save" / "manifests" / "train.csv")
    batches = list(_batches(rows, tokenizer))
    with torch.no_grad():
        normalize.train()
        for wavs, samples, _, _ in batches:
            normalize(*features(wavs, samples))
        normalize.eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    model.train()
    losses, last = [math.inf], MOST_STEPS
    for step in range(MOST_STEPS):
        wavs, samples, tokens, count = batches[step % len(batches)]
        loss = _loss(kind.name, model, *recognizer.features(wavs, samples), tokens, count)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        losses.append(loss.item())
        if last == MOST_STEPS and max(losses[-len(batches) :]) < ENOUGH:
            last = step + SETTLE
            optimizer.param_groups[0]["lr"] /= 20
        if step == last:
            break
    print(f"{name}: loss {losses[-1]:.3f} after {step + 1} steps")
    return recognizer.eval()


def _batches(rows: Any, tokenizer: Tokenizer, size: int = 8) -> Iterator[tuple[Tensor, ...]]:
    for start in range(0, len(rows), size):
        texts = [row["wrd"] for row in rows[start : start + size]]
        waves = [torch.from_numpy(cases.spoken(text, start + index)) / 32768 for index, text in enumerate(texts)]
        tokens = [torch.tensor(tokenizer.encode(text)) for text in texts]
        yield (
            nn.utils.rnn.pad_sequence(waves, batch_first=True),
            torch.tensor(list(map(len, waves))),
            nn.utils.rnn.pad_sequence(tokens, batch_first=True),
            torch.tensor(list(map(len, tokens))),
        )


def _loss(kind: str, model: Any, features: Tensor, frames: Tensor, tokens: Tensor, count: Tensor) -> Tensor:
    if kind == "ctc":
        return ctc_loss(*model(features, frames), tokens, count)[0].mean()
    if kind == "transducer":
        logits, _, frames = model(features, frames, tokens, count)
        return transducer_loss(logits, frames, tokens, count).mean()
    ctc, log_probs, _, frames = model(features, frames, tokens, count)
    return ctc_loss(ctc, frames, tokens, count)[0].mean() + attention_loss(log_probs, tokens, count, model.eos).mean()


def train_hybrid(folder: Path) -> Recognizer:
    """What the recipe of hybrid systems trains."""
    write_language(folder, cases.WORDS)
    arguments = hybrid_recipe(
        folder,
        encoder="{channels: [4, 8, 8, 16], blocks: [2, 1, 1, 1], big_little_stages: 1, "
        "input_size: 60, pool_frequency: False, output_size: 24, time_stride: 2}",
        n_mels=20,
        iterations="[{epochs: 8}, {epochs: 8}, {epochs: 12}]",
        batch_size=8,
    )
    cases.recipe("AN4/Hybrid")(arguments)
    return load_model(folder / "model")


def train_images() -> Classifier:
    """A classifier of the pictures."""
    from biglittle_asr.features.images import evaluation_transform

    torch.manual_seed(0)
    model = create_model(
        "bl_resnet50",
        channels=[8, 8, 8, 8],
        blocks=[2, 1, 1, 1],
        big_little_stages=1,
        stem="small",
        small_stem_stride=2,
        num_classes=len(cases.CLASSES),
    )
    transform = evaluation_transform(18, 16)
    labels = torch.arange(len(cases.CLASSES)).repeat(8)
    pixels = torch.stack([transform(cases.picture(label, index)) for index, label in enumerate(labels.tolist())])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(40):
        loss = nn.functional.cross_entropy(model(pixels), labels, label_smoothing=0.2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"images: loss {loss.item():.3f}")
    return Classifier("bl_resnet50", model.eval(), cases.CLASSES, 18, 16)


def make_models(place: Path) -> None:
    """Write model folders, and what they say."""
    for name in (*cases.SPEECH, cases.IMAGES):
        make_model(name, place)


def make_model(name: str, place: Path) -> None:
    """Write a model folder, and what it says, if a small change of its weights does not show in that."""
    folder = cases.MODELS / name
    if name == cases.IMAGES:
        save_classifier(folder, train_images(), "# bl_resnet50, seven classes of stripes\n")
    else:
        cases.write_corpus(place / name)
        save_model(folder, train_hybrid(place / name) if name == "hybrid" else train_speech(name, place / name))
    expected = _observe(name, folder)
    for seed in range(PERTURBED):
        _check_same_words(_observe(name, _changed(name, place / f"{name}{seed}", seed)), expected)
    _write(f"models/{name}", expected)


def _observe(name: str, model: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        if name == cases.IMAGES:
            return cases.observe_images(model, Path(folder))
        return cases.observe_speech(name, model, Path(folder))


@torch.no_grad()
def _changed(name: str, folder: Path, seed: int) -> Path:
    """A model folder again, with weights that are a little different."""
    loaded: Any = load_classifier(str(cases.MODELS / name)) if name == cases.IMAGES else load_model(cases.MODELS / name)
    generator = torch.Generator().manual_seed(seed)
    for parameter in loaded.model.parameters():
        parameter.mul_(1 + CHANGE * torch.randn(parameter.shape, generator=generator))
    return save_classifier(folder, loaded, "") if name == cases.IMAGES else save_model(folder, loaded)


def _check_same_words(found: Any, expected: Any) -> None:
    """Refuse an example in which a small change shows in anything but numbers that are not whole, or in times."""
    differing = [
        line
        for line in cases.differences(found, expected)
        if not re.search(r": -?\d+\.\d[^,]*, not", line) or re.search("/(start|end|duration):", line)
    ]
    if differing:
        raise SystemExit("not robust, train it otherwise: " + "; ".join(differing[:5]))


# Trainings, networks, commands


class Stopped(Exception):
    """The training was interrupted."""


def make_training(place: Path) -> None:
    """Interrupt trainings, and write their save folders and what comes of them."""
    from biglittle_asr.tasks.images.brain import ImageBrain
    from biglittle_asr.tasks.speech.ctc import CTCBrain

    for name, brain in (("ctc", CTCBrain), (cases.IMAGES, ImageBrain)):
        folder = place / "training" / name
        main, words = cases.training(name, folder)
        step = brain.fit_batch

        def fit_batch(self: Any, batch: Any, step: Any = step, stop: Any = cases.STOPS[name]) -> Any:
            if (self.hparams.epoch_counter.current, self.step) == stop:
                raise Stopped
            return step(self, batch)

        brain.fit_batch = fit_batch
        try:
            main(words)
            raise SystemExit(f"{name}: was never interrupted")
        except Stopped:
            brain.fit_batch = step
        # The one inside of the epoch is what the training goes on from; without the one before it, half is left.
        others = shutil.ignore_patterns("manifests", "CKPT+epoch-[0-9][0-9][0-9][0-9]")
        kept = cases.TRAINING / name / "save"
        shutil.copytree(folder / "save", kept, ignore=others)
        print(f"{name}: {sorted(path.name for path in kept.iterdir())}")
        shutil.rmtree(folder)
        main, words = cases.training(name, cases.lay(name, folder))
        main(words)
        expected = cases.observe_training(name, folder)
        print(json.dumps({key: expected[key] for key in ("dev", "score") if key in expected}))
        shutil.rmtree(folder)
        main, words = cases.training(name, folder)
        main(words)
        undisturbed = cases.differences(cases.observe_training(name, folder), expected)
        if undisturbed:
            raise SystemExit(f"{name}: resumed and undisturbed differ: {undisturbed[:5]}")
        _write(f"training/{name}", expected)


def make_networks(place: Path) -> None:
    """Write names and shapes of every registered network."""
    _write("networks", cases.observe_networks())


def make_commands(place: Path) -> None:
    """Write what commands print."""
    with tempfile.TemporaryDirectory() as folder:
        _write("commands", cases.observe_commands(Path(folder)))


# Names


def make_names(place: Path) -> None:
    """Write the names by which users import from this package."""
    (cases.GOLDEN / "names.txt").write_text("".join(f"{name}\n" for name in sorted(set(find_names()))))


def find_names() -> Iterator[str]:
    """Names in `__all__`, in pages, in YAML files, in recipes, in benchmarks and in model folders."""
    for path in sorted((REPOSITORY / "biglittle_asr").rglob("__init__.py")):
        room = ".".join(path.parent.relative_to(REPOSITORY).parts)
        if room == "biglittle_asr.commands":
            # They are for the command line only.
            continue
        yield room
        yield from (f"{room}.{name}" for name in _exported(ast.parse(path.read_text())))
    pages = [REPOSITORY / "README.md", *REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("recipes/**/*.md")]
    for path in [*pages, *REPOSITORY.glob("hparams/**/*.yaml"), *cases.MODELS.glob("*/hyperparams.yaml")]:
        text = path.read_text()
        for room, names in re.findall(r"from (biglittle_asr[\w.]*) import ([\w, ]+)", text):
            yield from (f"{room}.{name.split()[0]}" for name in names.split(","))
        yield from re.findall(r"\bbiglittle_asr(?:\.\w+)+", text)
    for path in [*REPOSITORY.glob("recipes/**/*.py"), *REPOSITORY.glob("benchmarks/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("biglittle_asr"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
    yield "biglittle_asr.cli.main"


def _exported(module: ast.Module) -> Iterator[str]:
    """Names in `__all__`; without it, what a module defines."""
    assigned = [node for node in module.body if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)]
    values = {node.targets[0].id: node.value for node in assigned}
    if "__all__" in values:
        yield from ast.literal_eval(values["__all__"])
        return
    defined = [node.name for node in module.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    yield from (name for name in [*values, *defined] if name == "__version__" or not name.startswith("_"))


MAKERS: dict[str, Callable[[Path], None]] = {
    "models": make_models,
    "training": make_training,
    "networks": make_networks,
    "commands": make_commands,
    "names": make_names,
}
PLACES = {"models": "models", "training": "training", "networks": "networks.json", "commands": "commands.json"}


def _write(name: str, value: Any) -> None:
    path = cases.GOLDEN / f"{name}.json"
    path.write_text(json.dumps(cases.rounded(value), ensure_ascii=False) + "\n")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Write the golden files of tests/test_golden.py.")
    parser.add_argument("parts", nargs="*", help=f"which, of {', '.join(MAKERS)} (default: all)")
    parser.add_argument("--overwrite", action="store_true", help="replace golden files that are there")
    options = parser.parse_args()
    parts = options.parts or list(MAKERS)
    for part in parts:
        if part not in MAKERS:
            parser.error(f"{part}: is none of {', '.join(MAKERS)}")
    targets = [cases.GOLDEN / PLACES.get(part, "names.txt") for part in parts]
    there = [str(target) for target in targets if target.exists()]
    if there and not options.overwrite:
        parser.error(f"{', '.join(there)}: would be replaced; say --overwrite if that is meant")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        for part, target in zip(parts, targets, strict=True):
            if target.is_dir():
                shutil.rmtree(target)
            if target.suffix == "":
                target.mkdir()
            MAKERS[part](Path(place))


if __name__ == "__main__":
    main()
