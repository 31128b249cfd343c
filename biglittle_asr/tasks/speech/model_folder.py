"""The model folder that a recipe writes at its end."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speechbrain.utils.distributed import ddp_barrier, if_main_process
from speechbrain.utils.logger import get_logger

from biglittle_asr.corpora import LANGUAGES
from biglittle_asr.inference import ModelCard, Recognizer, save_model
from biglittle_asr.inference.folder.card import training_command
from biglittle_asr.inference.folder.config import check_parts
from biglittle_asr.inference.folder.head import HubFacts
from biglittle_asr.inference.folder.kinds import ForeignPartError
from biglittle_asr.inference.folder.packing import started_from
from biglittle_asr.tasks.speech.brain import UtteranceBrain
from biglittle_asr.tasks.speech.data import Datasets

logger = get_logger(__name__)


def make_card(brain: UtteranceBrain, datasets: Datasets, hparams: Mapping[str, Any]) -> ModelCard:
    """Make the card of a training whose network has not been scored yet.

    Arguments
    ---------
    brain : UtteranceBrain
        The Brain, with the weights chosen.
    datasets : Datasets
        The sets, whose sizes go into the card.
    hparams : mapping
        Reads card, data_folder, whose last part goes into the card, and save_folder.
    """
    corpus = Path(hparams["data_folder"]).name
    return ModelCard(
        data=describe_data(corpus, datasets),
        command=training_command(sys.argv),
        precision=brain.precision,
        weights=brain.weights,
        decoding=brain.decoding,
        start=started_from(Path(hparams["save_folder"])),
        hub=HubFacts.of(hparams["card"], corpus),
    )


def known_facts(corpus: str, hparams: Mapping[str, Any]) -> dict[str, Any]:
    """Facts for model hubs: what the recipe gives, and the language of the corpus unless it gives another.

    Example
    -------
    >>> known_facts("an4", {"card": {"license": "mit"}})
    {'language': 'en', 'license': 'mit'}
    """
    language = {"language": LANGUAGES[corpus]} if corpus in LANGUAGES else {}
    return {**language, **hparams["card"]}


def write_model_folder(folder: Path, recognizer: Recognizer, card: ModelCard) -> bool:
    """Write a model folder from the main process, or warn that one cannot be written.

    Arguments
    ---------
    folder : pathlib.Path
    recognizer : Recognizer
    card : ModelCard

    Returns
    -------
    bool
        On all processes: True if the folder was written, False if a part of the recognizer is not from this package.
    """
    try:
        check_parts(recognizer.compute_features, recognizer.normalize, recognizer.model)
    except ForeignPartError as error:
        logger.warning(f"No model folder is written: {error}")
        return False
    if if_main_process():
        save_model(folder, recognizer, card)
    ddp_barrier()
    return True


def describe_data(corpus: str, datasets: Datasets) -> str:
    """Describe the sizes of the sets, in Markdown.

    Example
    -------
    >>> from speechbrain.dataio.dataset import DynamicItemDataset
    >>> rows = {"a": {"duration": 1.5, "spk_id": "jane"}, "b": {"duration": 2.1, "spk_id": "jane"}}
    >>> dataset = DynamicItemDataset(rows)
    >>> print(describe_data("an4", Datasets(dataset, dataset, dataset)).splitlines()[4])
    | train | 2 | 1 | 0.00 |
    """
    lines = [f"Corpus folder: `{corpus}`.", "", "| set | utterances | speakers | hours |", "|---|---|---|---|"]
    for name, dataset in vars(datasets).items():
        rows = [dataset.data[key] for key in dataset.data_ids]
        speakers = {row["spk_id"] for row in rows}
        hours = sum(row["duration"] for row in rows) / 3600
        lines.append(f"| {name} | {len(rows)} | {len(speakers)} | {hours:.2f} |")
    return "\n".join(lines)
