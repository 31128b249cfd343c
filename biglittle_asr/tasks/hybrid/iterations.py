"""The iterations of a flat start: what is planned, what came of them, and the alignments between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from speechbrain.utils.logger import get_logger

from biglittle_asr.decoding.hmm.tying import Integers, Tying
from biglittle_asr.files import read_table, replacing, write_table
from biglittle_asr.recipe.yaml import RecipeError

logger = get_logger(__name__)


@dataclass(frozen=True)
class Iteration:
    """What is trained between two alignments."""

    epochs: int
    tied: bool = False
    """Whether states are tied in context; without it, every phone has its own."""
    mmi: bool = False
    """Whether it is trained against all else that could have been said: see `mmi.py`."""


@dataclass(frozen=True)
class PartOfSchedule:
    """What a schedule of the whole training says in one of its iterations.

    Example
    -------
    >>> PartOfSchedule(lambda progress: 10 * progress, 0.25, 0.75)(0.5)
    5.0
    """

    whole: Any
    start: float
    end: float

    def __call__(self, progress: float) -> float:
        """Learning rate at `progress` of the iteration, from 0 to 1."""
        return float(self.whole(self.start + progress * (self.end - self.start)))


@dataclass
class Row:
    """What is known of an iteration, a line of iterations.csv."""

    iteration: int
    states: int
    """Outputs of the network: tied states."""
    failed: int
    """Utterances of train and dev that could not be aligned."""
    changed: float
    """Frames, in percent, that are in another phone, or in another state of theirs, than in the alignment before; not a
    number for the first."""
    score: float
    """Mean log-likelihood of a frame along the alignment, in nats, comparable among networks of the same states; not a
    number for alignments that were given."""
    epochs: int
    """0 until it is trained."""
    train_accuracy: float
    """Frames, in percent, whose most likely state is the alignment's; in training, so with augmentation."""
    dev_accuracy: float
    dev_wer: float
    seconds: float
    """Of aligning and training."""


class Table:
    """The file iterations.csv.

    Arguments
    ---------
    path : pathlib.Path
        Rows that it has already are kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []
        if path.is_file():
            kinds = {field.name: int if field.type == "int" else float for field in fields(Row)}
            for row in read_table(path):
                values: dict[str, Any] = {name: kind(row[name]) for name, kind in kinds.items()}
                self.rows.append(Row(**values))

    def is_trained(self, iteration: int) -> bool:
        """Whether an iteration is over."""
        return any(row.iteration == iteration and row.epochs for row in self.rows)

    def aligned(self, row: Row) -> None:
        """Begin an iteration; forget it and later ones, if there were any."""
        self.rows = [each for each in self.rows if each.iteration < row.iteration] + [row]
        self._write()
        found = [f"{row.states} tied states"]
        found.append("the first alignment" if np.isnan(row.changed) else f"{row.changed:.2f} % of the frames changed")
        if not np.isnan(row.score):
            found.append(f"log-likelihood {row.score:.3f} a frame")
        logger.info(f"iteration {row.iteration}: {', '.join(found)}, aligned in {row.seconds:.1f} s")

    def trained(self, epochs: int, train_accuracy: float, dev_accuracy: float, dev_wer: float, seconds: float) -> None:
        """End the last iteration."""
        row = self.rows[-1]
        row.epochs, row.train_accuracy, row.dev_accuracy, row.dev_wer = epochs, train_accuracy, dev_accuracy, dev_wer
        row.seconds += seconds
        self._write()
        logger.info(
            f"iteration {row.iteration}: frame accuracy {train_accuracy:.2f} % on train, {dev_accuracy:.2f} % on dev, "
            f"dev WER {dev_wer:.2f} %, {row.seconds:.0f} s in all"
        )

    def _write(self) -> None:
        names = [field.name for field in fields(Row)]
        write_table(self.path, names, [[getattr(row, name) for name in names] for row in self.rows])


def read_iterations(entries: Any) -> list[Iteration]:
    """The key `iterations` of a recipe.

    Raises
    ------
    RecipeError
        If it is none.

    Example
    -------
    >>> read_iterations([{"epochs": 2}, {"epochs": 4, "tied": True}])
    [Iteration(epochs=2, tied=False, mmi=False), Iteration(epochs=4, tied=True, mmi=False)]
    """
    known = {field.name for field in fields(Iteration)}
    for entry in entries or [None]:
        if not isinstance(entry, Mapping) or not {"epochs"} <= entry.keys() <= known or not entry["epochs"] > 0:
            raise RecipeError(f"iterations: {entry} is none; write {{epochs: 2}} or {{epochs: 2, tied: True}}.")
    iterations = [Iteration(**entry) for entry in entries]
    if iterations[0].mmi:
        raise RecipeError("iterations: the first cannot be mmi, for there is no network yet that tells words apart.")
    if any(first.tied and not second.tied for first, second in zip(iterations, iterations[1:], strict=False)):
        raise RecipeError("iterations: none without tied states can follow one with them.")
    return iterations


def write_alignments(path: Path, states: Mapping[str, Integers]) -> None:
    """Write the states in context of utterances' frames, by ID; whole or not at all."""
    lengths = np.array([len(each) for each in states.values()], np.int64)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file, ids=np.array(list(states)), lengths=lengths, states=np.concatenate(list(states.values()))
        )


def read_alignments(path: Path) -> dict[str, Integers]:
    """Read what :func:`write_alignments` wrote; nothing in it is executed."""
    with np.load(path, allow_pickle=False) as arrays:
        parts = np.split(arrays["states"], np.cumsum(arrays["lengths"])[:-1])
        return dict(zip(map(str, arrays["ids"]), parts, strict=True))


def change(tying: Tying, before: Mapping[str, Integers], after: Mapping[str, Integers]) -> float:
    """Frames, in percent, whose phone, or state of it, is another than before; of utterances that are in both."""
    pairs = [(before[name], after[name]) for name in after if name in before]
    frames = sum(len(second) for _, second in pairs)
    moved = sum(int((tying.without_context(a) != tying.without_context(b)).sum()) for a, b in pairs)
    return 100 * moved / max(frames, 1)
