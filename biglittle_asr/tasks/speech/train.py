"""The common train.py of speech recognition recipes, from the command line to the scores."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from biglittle_asr.recipe.prepare import make_tokenizer, prepare_manifests
from biglittle_asr.recipe.run import load_recipe
from biglittle_asr.tasks.speech.brain import RecognitionBrain
from biglittle_asr.tasks.speech.data import build_datasets
from biglittle_asr.tasks.speech.evaluation import evaluate_recipe, remove_scores
from biglittle_asr.tasks.speech.init_from import find_start
from biglittle_asr.tasks.speech.model_folder import known_facts
from biglittle_asr.tasks.speech.settings import CTCRecipe, TokenRecipe


def train_recognizer(
    argv: Sequence[str], corpus: str, brain_type: type[RecognitionBrain], settings: type[TokenRecipe] = CTCRecipe
) -> None:
    """Parse, prepare, build datasets, fit, evaluate; a test set with an STM is also scored as NIST does.

    Arguments
    ---------
    argv : sequence of str
        The command line, see :func:`~biglittle_asr.recipe.run.load_recipe`.
    corpus : str
        One of `biglittle_asr.corpora.list_corpora()`.
    brain_type : type
        The Brain that trains the model.
    settings : type
        The settings of the recipe.

    Raises
    ------
    ValueError, OSError
        With a message for the user.
    """
    hparams, run_opts = load_recipe(argv, settings)
    hparams["card"] = known_facts(corpus, hparams)
    hparams["on_fit"].append(partial(remove_scores, Path(hparams["output_folder"])))
    start = find_start(hparams, hparams["checkpointer"])
    manifests = prepare_manifests(corpus, hparams)
    tokenizer = make_tokenizer(manifests, hparams, start.tokenizer if start else None)
    datasets = build_datasets(manifests, tokenizer, hparams)
    model = hparams["model"](output_neurons=tokenizer.size)
    if start is not None:
        start.load(model, hparams["modules"]["normalize"], tokenizer)
    brain = brain_type(model, tokenizer, hparams, run_opts)
    brain.fit_datasets(datasets, hparams, is_trained=start is not None)
    brain.choose_average(datasets.dev, hparams)
    evaluate_recipe(brain, brain.recognizer(), datasets, manifests, hparams)
