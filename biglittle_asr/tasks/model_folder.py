"""The model folder that a recipe leaves at its end."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speechbrain.utils.distributed import main_process_only
from speechbrain.utils.logger import get_logger

from biglittle_asr.decoding.tokenizer import Tokenizer
from biglittle_asr.inference import ModelCard, Recognizer, save_model
from biglittle_asr.inference.config import check_parts
from biglittle_asr.inference.kinds import ForeignPartError
from biglittle_asr.scoring import Score
from biglittle_asr.tasks.data import Datasets

logger = get_logger(__name__)


@main_process_only
def write_model_folder(
    folder: Path,
    parts: tuple[Any, Any, Any, Tokenizer, Any],
    datasets: Datasets,
    scores: Mapping[str, Score],
    data_folder: str,
    precision: str,
    weights: str,
    decoding: str = "",
    start: str = "",
) -> None:
    """Write recognizer and model card, or a warning where a part is not of this package.

    Arguments
    ---------
    folder : pathlib.Path
    parts : tuple
        Arguments of :class:`Recognizer`: features, normalization, model, tokenizer, settings of the search.
    datasets : Datasets
        Their sizes go into the card.
    scores : mapping from "dev", "test" to Score
    data_folder : str
        Of the corpus; its last part goes into the card.
    precision, weights, decoding, start : str
        See :class:`ModelCard`.
    """
    try:
        check_parts(*parts[:3])
    except ForeignPartError as error:
        logger.warning(f"No model folder is written: {error}")
        return
    card = ModelCard(
        data=describe_data(Path(data_folder).name, datasets),
        command=shlex.join([Path(sys.executable).name, *(word for word in sys.argv if word != "--test_only")]),
        precision=precision,
        weights=weights,
        scores={name: score.all for name, score in scores.items()},
        decoding=decoding,
        start=start,
    )
    save_model(folder, Recognizer(*parts), card)


def describe_data(corpus: str, datasets: Datasets) -> str:
    """Sizes of the sets, in Markdown.

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
