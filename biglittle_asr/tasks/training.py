"""What the train.py of a speech recognition recipe does, from its command line to the scores."""

from collections.abc import Sequence, Set
from pathlib import Path

from speechbrain.utils.distributed import main_process_only
from speechbrain.utils.logger import get_logger

from biglittle_asr.corpora.manifest import read_manifest
from biglittle_asr.decoding import read_settings
from biglittle_asr.inference import load_model
from biglittle_asr.inference.evaluation import evaluate_by_time, find_references
from biglittle_asr.inference.packing import MODEL
from biglittle_asr.scoring import Hub5Score, TimedWord, write_ctm
from biglittle_asr.tasks.data import build_datasets
from biglittle_asr.tasks.init_from import find_start
from biglittle_asr.tasks.recipe import CTC_KEYS, load_recipe, make_tokenizer, prepare_manifests
from biglittle_asr.tasks.recognition import RecognitionBrain

logger = get_logger(__name__)


def train_recognizer(
    argv: Sequence[str], corpus: str, brain_type: type[RecognitionBrain], keys: Set[str] = CTC_KEYS
) -> None:
    """Parse, prepare, build datasets, fit, evaluate; a test set with an STM is scored as NIST does as well.

    Arguments
    ---------
    argv : sequence of str
        The command line, see :func:`~biglittle_asr.tasks.recipe.load_recipe`.
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
    start = find_start(hparams, hparams["checkpointer"])
    manifests = prepare_manifests(corpus, hparams)
    tokenizer = make_tokenizer(manifests, hparams, start.tokenizer if start else None)
    datasets = build_datasets(manifests, tokenizer, hparams)
    model = hparams["model"](output_neurons=tokenizer.size)
    if start is not None:
        start.load(model, hparams["modules"]["normalize"], tokenizer)
    brain = brain_type(model, tokenizer, hparams, run_opts)
    brain.fit_datasets(datasets, hparams, is_trained=start is not None)
    brain.evaluate_datasets(datasets, hparams)
    if not hparams["skip_test"]:
        score_by_time(manifests["test"], brain.output_folder, str(brain.device), hparams.get("decoding"))


@main_process_only
def score_by_time(manifest: Path, output_folder: Path, device: str, decoding: str | None = None) -> None:
    """Score a trained model on segments by time, if the manifest has references for that beside it.

    Decodes by the beam search whose settings a file holds, or greedily if none is named.

    Writes hub5_test.txt, the counts and alignments, and test.ctm, the words, into the output folder.
    """
    references = find_references(manifest)
    if references is None or not (output_folder / MODEL).is_dir():
        return
    recognizer = load_model(output_folder / MODEL, device)
    if decoding:
        recognizer.set_search(read_settings(decoding), logger.warning)
    score, words = evaluate_by_time(
        recognizer, read_manifest(manifest), *references, report=lambda failure: logger.warning(str(failure.error))
    )
    report_by_time(score, words, manifest, references[0], output_folder)


def report_by_time(
    score: Hub5Score, words: Sequence[TimedWord], manifest: Path, stm: Path, output_folder: Path
) -> None:
    """Write test.ctm and hub5_test.txt, and log what NIST's way of scoring finds."""
    write_ctm(output_folder / "test.ctm", words)
    score.write(output_folder / "hub5_test.txt", f"{manifest.stem} by {stm.name}")
    for remark in score.remarks:
        logger.warning(remark)
    logger.info(f"test, as NIST scores: {score.summary()}")
