"""What the train.py of a speech recognition recipe does, from its command line to the scores."""

import json
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from speechbrain.utils.distributed import main_process_only
from speechbrain.utils.logger import get_logger

from biglittle_asr.corpora.manifest import read_manifest
from biglittle_asr.decoding import read_settings
from biglittle_asr.files import write_atomically
from biglittle_asr.inference import load_model
from biglittle_asr.inference.evaluation import evaluate_by_time, find_references
from biglittle_asr.inference.folder.packing import MODEL
from biglittle_asr.recipe.keys import CTC_KEYS
from biglittle_asr.recipe.prepare import make_tokenizer, prepare_manifests
from biglittle_asr.recipe.run import load_recipe
from biglittle_asr.scoring import Hub5Score, Score, TimedWord, write_ctm
from biglittle_asr.tasks.speech.brain import RecognitionBrain
from biglittle_asr.tasks.speech.data import build_datasets
from biglittle_asr.tasks.speech.init_from import find_start

logger = get_logger(__name__)

SCORES_NAME = "scores.json"
"""File in the output folder with the final scores. It is written last, so it also says that the recipe is done."""


def train_recognizer(
    argv: Sequence[str], corpus: str, brain_type: type[RecognitionBrain], keys: Set[str] = CTC_KEYS
) -> None:
    """Parse, prepare, build datasets, fit, evaluate; a test set with an STM is scored as NIST does as well.

    Arguments
    ---------
    argv : sequence of str
        The command line, see :func:`~biglittle_asr.recipe.run.load_recipe`.
    corpus : str
        One of `biglittle_asr.corpora.list_corpora()`.
    brain_type : type
        What trains the model.
    keys : set of str
        That the recipe reads.

    Raises
    ------
    ValueError, OSError
        With a sentence for the user.
    """
    hparams, run_opts = load_recipe(argv, keys)
    remove_scores(Path(hparams["output_folder"]))
    start = find_start(hparams, hparams["checkpointer"])
    manifests = prepare_manifests(corpus, hparams)
    tokenizer = make_tokenizer(manifests, hparams, start.tokenizer if start else None)
    datasets = build_datasets(manifests, tokenizer, hparams)
    model = hparams["model"](output_neurons=tokenizer.size)
    if start is not None:
        start.load(model, hparams["modules"]["normalize"], tokenizer)
    brain = brain_type(model, tokenizer, hparams, run_opts)
    brain.fit_datasets(datasets, hparams, is_trained=start is not None)
    scores: dict[str, Score | Hub5Score | None] = {**brain.evaluate_datasets(datasets, hparams)}
    if not hparams["skip_test"]:
        decoding = hparams.get("decoding")
        scores["hub5_test"] = score_by_time(manifests["test"], brain.output_folder, str(brain.device), decoding)
    write_scores(brain.output_folder, scores)


@main_process_only
def remove_scores(output_folder: Path) -> None:
    """Remove the scores of an earlier run, which this one may change."""
    (output_folder / SCORES_NAME).unlink(missing_ok=True)


@main_process_only
def write_scores(output_folder: Path, scores: Mapping[str, Score | Hub5Score | None]) -> None:
    """Write scores.json: for each set, the object that `biglittle score --json` prints.

    Arguments
    ---------
    output_folder : pathlib.Path
    scores : mapping from "dev", "test", "hub5_test" to score
        Those that are None are left out.
    """
    found = {name: score.to_dict() for name, score in scores.items() if score is not None}
    write_atomically(output_folder / SCORES_NAME, json.dumps(found, indent=1, ensure_ascii=False) + "\n")


@main_process_only
def score_by_time(manifest: Path, output_folder: Path, device: str, decoding: str | None = None) -> Hub5Score | None:
    """Score a trained model on segments by time, if the manifest has references for that beside it.

    Decodes by the beam search whose settings a file holds, or greedily if none is named.

    Writes hub5_test.txt, the counts and alignments, and test.ctm, the words, into the output folder.
    """
    references = find_references(manifest)
    if references is None or not (output_folder / MODEL).is_dir():
        return None
    recognizer = load_model(output_folder / MODEL, device)
    if decoding:
        recognizer.set_search(read_settings(decoding), logger.warning)
    score, words = evaluate_by_time(
        recognizer, read_manifest(manifest), *references, report=lambda failure: logger.warning(str(failure.error))
    )
    report_by_time(score, words, manifest, references[0], output_folder)
    return score


def report_by_time(
    score: Hub5Score, words: Sequence[TimedWord], manifest: Path, stm: Path, output_folder: Path
) -> None:
    """Write test.ctm and hub5_test.txt, and log what NIST's way of scoring finds."""
    write_ctm(output_folder / "test.ctm", words)
    score.write(output_folder / "hub5_test.txt", f"{manifest.stem} by {stm.name}")
    for remark in score.remarks:
        logger.warning(remark)
    logger.info(f"test, as NIST scores: {score.summary()}")
