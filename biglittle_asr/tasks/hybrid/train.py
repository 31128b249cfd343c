"""The common train.py of hybrid recipes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from biglittle_asr.recipe.prepare import prepare_manifests
from biglittle_asr.recipe.run import load_recipe
from biglittle_asr.tasks.hybrid.flat_start import FlatStart
from biglittle_asr.tasks.hybrid.kaldi_start import KaldiStart
from biglittle_asr.tasks.hybrid.settings import HybridRecipe
from biglittle_asr.tasks.hybrid.training import HybridTraining
from biglittle_asr.tasks.speech.evaluation import remove_scores
from biglittle_asr.tasks.speech.model_folder import known_facts


def train_hybrid(argv: Sequence[str], corpus: str) -> None:
    """Parse, prepare, train, evaluate.

    Arguments and errors are those of :func:`~biglittle_asr.tasks.speech.train.train_recognizer`.
    """
    hparams, run_opts = load_recipe(argv, HybridRecipe)
    hparams["card"] = known_facts(corpus, hparams)
    hparams["on_fit"].append(partial(remove_scores, Path(hparams["output_folder"])))
    manifests = prepare_manifests(corpus, hparams)
    start: type[HybridTraining] = KaldiStart if hparams["kaldi"] else FlatStart
    start(manifests, hparams, run_opts).train().evaluate(hparams)
