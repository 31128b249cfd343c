#!/usr/bin/env python3
"""Train a CTC model on LibriSpeech, or a corpus laid out like it, then score dev and test by greedy decoding.

python recipes/LibriSpeech/CTC/train.py hparams/LibriSpeech/ctc_bl_resnet22.yaml --data_folder /path/to/LibriSpeech
"""

from collections.abc import Sequence

from biglittle_asr.tasks.ctc import CTCBrain
from biglittle_asr.tasks.data import build_datasets
from biglittle_asr.tasks.recipe import load_recipe, make_tokenizer, prepare_manifests, run


def main(argv: Sequence[str]) -> None:
    """Parse, prepare, build datasets, fit, evaluate."""
    hparams, run_opts = load_recipe(argv)
    manifests = prepare_manifests("librispeech", hparams)
    tokenizer = make_tokenizer(manifests, hparams)
    datasets = build_datasets(manifests, tokenizer, hparams)
    brain = CTCBrain(hparams["model"](output_neurons=tokenizer.size), tokenizer, hparams, run_opts)
    brain.fit_datasets(datasets, hparams)
    brain.evaluate_datasets(datasets, hparams)


if __name__ == "__main__":
    run(main)
