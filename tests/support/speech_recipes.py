"""The recipes of every kind of model whose outputs are tokens."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from biglittle_asr.corpora.manifest import read_manifest
from biglittle_asr.recipe.prepare import make_tokenizer, prepare_manifests
from biglittle_asr.recipe.run import load_recipe
from biglittle_asr.recipe.yaml import read_tree, tag_of
from biglittle_asr.tasks.speech.attention import AttentionBrain
from biglittle_asr.tasks.speech.brain import RecognitionBrain
from biglittle_asr.tasks.speech.ctc import CTCBrain
from biglittle_asr.tasks.speech.data import build_datasets
from biglittle_asr.tasks.speech.settings import AttentionRecipe, CTCRecipe, TransducerRecipe
from biglittle_asr.tasks.speech.transducer import TransducerBrain
from support.repository import REPOSITORY, recipe_main

TASKS: dict[str, tuple[type[RecognitionBrain], frozenset[str]]] = {
    "ctc": (CTCBrain, CTCRecipe),
    "attention": (AttentionBrain, AttentionRecipe),
    "transducer": (TransducerBrain, TransducerRecipe),
}
ENCODERS = {
    "bl_resnet22": "channels: [4, 8, 16, 32], output_size: 32",
    "crdnn": "cnn_channels: [4, 4], rnn_layers: 1, rnn_neurons: 16, dnn_blocks: 1, dnn_neurons: 32, dropout: 0.0",
    "conformer": "cnn_channels: [4, 4], d_model: 32, heads: 2, layers: 1, d_ffn: 32, kernel_size: 3, dropout: 0.0",
}
SMALL: dict[str, dict[str, Any]] = {
    "ctc": {},
    "attention": {
        "embedding_size": 16,
        "decoder": "{hidden_size: 32, attn_dim: 32, channels: 2, kernel_size: 3}",
        "test_beam_size": 3,
        "label_smoothing": 0.0,
    },
    "transducer": {"model": "{prediction_size: 32, joint_size: 64}", "test_beam_size": 3},
}
RECIPES = sorted(path for task in TASKS for path in REPOSITORY.glob(f"hparams/*/{task}_*.yaml"))


def command(file: Path, folder: Path, **overrides: Any) -> list[str]:
    """Command line of a recipe for the tones in `folder`, small and without chance."""
    task = file.name.split("_")[0]
    options = {
        **({"splits": "{train: train, dev: dev, test: test}"} if "splits" in read_tree(file) else {}),
        "skip_prep": True,
        "output_folder": folder,
        "number_of_epochs": 1,
        "average_checkpoints": "[1]",
        "precision": "fp32",
        "token_type": "character",
        "dropout": 0.0,
        "fea_augment": "null",
        "wav_augment": "null",
        "train_dataloader_opts": "{num_workers: 0}",
        **SMALL[task],
        **overrides,
    }
    return [str(file), "--noprogressbar", *placeholders(file), *(f"--{key}={value}" for key, value in options.items())]


def placeholders(file: Path) -> list[str]:
    """What a recipe must be told on its command line, and no test reads."""
    tree = read_tree(file)
    return [f"--{key}=none" for key in tree if tag_of(tree[key]) == "!PLACEHOLDER"]


def load(task: str, folder: Path, encoder: str = "bl_resnet22", **overrides: Any) -> Any:
    """What the task's train.py builds on LibriSpeech with another encoder: brain, datasets, what the YAML defines."""
    brain_class, keys = TASKS[task]
    file = REPOSITORY / "hparams" / "LibriSpeech" / f"{task}_bl_resnet22.yaml"
    fragment = f"!include:../encoders/{encoder}.yaml {{input_size: 20, {ENCODERS[encoder]}}}"
    options = {"n_mels": 20, "encoder": fragment, "dynamic_batching": False, **overrides}
    hparams, run_opts = load_recipe(command(file, folder, **options), keys)
    manifests = prepare_manifests("librispeech", hparams)
    tokenizer = make_tokenizer(manifests, hparams)
    datasets = build_datasets(manifests, tokenizer, hparams)
    return brain_class(hparams["model"](output_neurons=tokenizer.size), tokenizer, hparams, run_opts), datasets, hparams


def train(corpus: str, task: str) -> Callable[[Sequence[str]], None]:
    """`main` of a recipe's train.py."""
    return recipe_main(corpus, {"ctc": "CTC"}.get(task, task.title()))


def rows_of_test(folder: Path) -> list[dict[str, str]]:
    """The utterances of test."""
    return read_manifest(folder / "save" / "manifests" / "test.csv")
