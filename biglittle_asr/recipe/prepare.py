"""The manifests and tokenizer of a recipe."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speechbrain.utils.distributed import ddp_barrier, if_main_process, run_on_main

from biglittle_asr.corpora import prepare
from biglittle_asr.corpora.manifest import copy_indices, read_manifest
from biglittle_asr.recipe.yaml import RecipeError
from biglittle_asr.shards import has_shards
from biglittle_asr.tokens.tokenizer import Tokenizer, load_tokenizer, train_tokenizer

OWN_SPLITS = {"train": "train", "dev": "dev", "test": "test"}
"""Names of the sets in a corpus that uses the recipes' names."""


def prepare_manifests(corpus: str, hparams: Mapping[str, Any]) -> dict[str, Path]:
    """Prepare the corpus, unless `skip_prep`; if `data_folder` holds shards, their indices become the manifests.

    Arguments
    ---------
    corpus : str
        One of `biglittle_asr.corpora.list_corpora()`.
    hparams : mapping
        Reads data_folder (a path, or a URL of shards), save_folder, skip_prep, sample_rate, corpus_options (the
        corpus's own, and `strict`, which refuses a corpus with faults instead of leaving them out), and splits: the
        corpus's names for "train", "dev" and "test", as {"train": "train-clean-100", ...}; its other splits are not
        read.

    Returns
    -------
    dict from "train", "dev", "test" to pathlib.Path
        The manifests.

    Raises
    ------
    FileNotFoundError, ValueError
        If the data folder does not hold the corpus, or `splits` does not name all three sets.
    """
    folder = Path(hparams["save_folder"]) / "manifests"
    options = dict(hparams["corpus_options"])
    splits = hparams["splits"] or OWN_SPLITS
    if not isinstance(splits, Mapping) or splits.keys() != OWN_SPLITS.keys():
        raise RecipeError(f"splits: is {splits}, but must be {{train: NAME, dev: NAME, test: NAME}}.")
    if hparams["splits"]:
        options["splits"] = list(splits.values())
    if not hparams["skip_prep"]:
        if has_shards(hparams["data_folder"]):
            run_on_main(copy_indices, args=[hparams["data_folder"], splits.values(), folder])
        else:
            options["sample_rate"] = hparams["sample_rate"]
            run_on_main(prepare, args=[corpus, hparams["data_folder"], folder], kwargs=options)
    return {name: folder / f"{split}.csv" for name, split in splits.items()}


def make_tokenizer(
    manifests: Mapping[str, Path], hparams: Mapping[str, Any], base: Tokenizer | None = None
) -> Tokenizer:
    """Train the tokenizer on the training transcripts, or load an existing one; it is saved as tokenizer.json.

    Arguments
    ---------
    manifests : mapping from "train", "dev", "test" to pathlib.Path
    hparams : mapping
        Reads save_folder, token_type, vocab_size, output_neurons, checkpointer.
    base : Tokenizer, optional
        Tokenizer of the trained model that the training starts from; see :func:`train_tokenizer`.

    Raises
    ------
    ValueError
        If `output_neurons` is set and differs from the tokenizer's size.
    """
    if not manifests["train"].is_file():
        raise FileNotFoundError(f"{manifests['train']}: no such manifest; run without skip_prep, which makes it.")
    path = Path(hparams["save_folder"]) / "tokenizer.json"
    if if_main_process():
        texts = [row["wrd"] for row in read_manifest(manifests["train"])]
        going_on = bool(hparams["checkpointer"].find_checkpoints(max_num_checkpoints=1))
        train_tokenizer(texts, path, hparams["token_type"], hparams["vocab_size"], base, going_on)
    ddp_barrier()
    tokenizer = load_tokenizer(path)
    if hparams["output_neurons"] not in (None, tokenizer.size):
        raise RecipeError(
            f"output_neurons: is {hparams['output_neurons']}, but the tokenizer ({path}) has {tokenizer.size} tokens "
            "with the blank; leave the key empty to take its size."
        )
    return tokenizer
