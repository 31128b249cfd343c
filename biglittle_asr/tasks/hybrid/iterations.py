"""The iterations of a flat start: their plan, their results, and the alignments between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from speechbrain.utils.logger import get_logger

from biglittle_asr.decoding.hmm.tying import Integers, Tying, read_arrays
from biglittle_asr.files import read_table, replacing, write_table
from biglittle_asr.recipe.yaml import RecipeError

logger = get_logger(__name__)


@dataclass(frozen=True)
class Iteration:
    """The training between two alignments."""

    epochs: int
    tied: bool = False
    """Whether states are tied in context; otherwise every phone has its own."""
    mmi: bool = False
    """Whether to train by maximum mutual information: see `mmi.py`."""


@dataclass(frozen=True)
class PartOfSchedule:
    """The part of a whole training's schedule that belongs to one iteration.

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
    """One iteration, a line of iterations.csv."""

    iteration: int
    states: int
    """Outputs of the network: tied states."""
    failed: int
    """Utterances of train and dev that could not be aligned."""
    changed: float
    """Percent of the frames whose phone or state differs from the previous alignment; NaN for the first."""
    score: float
    """Mean log-likelihood per frame along the alignment, in nats; comparable among networks with the same states. NaN
    for alignments that were given."""
    epochs: int
    """0 until it is trained."""
    train_accuracy: float
    """Percent of the frames whose most likely state is the aligned one; measured in training, with augmentation."""
    dev_accuracy: float
    dev_wer: float
    seconds: float
    """Seconds of aligning and training."""


class Table:
    """The file iterations.csv.

    Arguments
    ---------
    path : pathlib.Path
        File to write; existing rows are kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []
        if path.is_file():
            kinds = {field.name: int if field.type == "int" else float for field in fields(Row)}
            for row in read_table(path, kinds, "remove it, or restore it", numbers=True):
                try:
                    values: dict[str, Any] = {name: kind(float(row[name])) for name, kind in kinds.items()}
                except (OverflowError, ValueError) as error:
                    raise ValueError(
                        f"{path}: is not as it was written ({error}); remove it, or restore it."
                    ) from error
                self.rows.append(Row(**values))

    def is_trained(self, iteration: int) -> bool:
        """Whether an iteration is complete."""
        return any(row.iteration == iteration and row.epochs for row in self.rows)

    def aligned(self, row: Row) -> None:
        """Begin an iteration; drop its earlier row and all later ones."""
        self.rows = [each for each in self.rows if each.iteration < row.iteration] + [row]
        self._write()
        found = [f"{row.states} tied states"]
        found.append("the first alignment" if np.isnan(row.changed) else f"{row.changed:.2f} % of the frames changed")
        if not np.isnan(row.score):
            found.append(f"log-likelihood {row.score:.3f} a frame")
        logger.info(f"iteration {row.iteration}: {', '.join(found)}, aligned in {row.seconds:.1f} s")

    def trained(self, epochs: int, train_accuracy: float, dev_accuracy: float, dev_wer: float, seconds: float) -> None:
        """Complete the last iteration."""
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
    """Parse the key `iterations` of a recipe.

    Raises
    ------
    RecipeError
        If its value is malformed.

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
    """Write the context-dependent states of utterances' frames, by ID; the file is written atomically."""
    lengths = np.array([len(each) for each in states.values()], np.int64)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file, ids=np.array(list(states)), lengths=lengths, states=np.concatenate(list(states.values()))
        )


def read_alignments(path: Path) -> dict[str, Integers]:
    """Read the file that :func:`write_alignments` wrote; nothing in it is executed.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged.
    """
    ids, lengths, states = read_arrays(path, "alignments", "ids", "lengths", "states")
    whole = (
        lengths.dtype.kind == states.dtype.kind == "i" and ids.shape == lengths.shape and ids.ndim == states.ndim == 1
    )
    if not whole or (lengths < 0).any() or lengths.sum() != len(states):
        raise ValueError(f"{path}: holds no alignments; restore it, or train again.")
    return dict(zip(map(str, ids), np.split(states, np.cumsum(lengths)[:-1]), strict=True))


def change(tying: Tying, before: Mapping[str, Integers], after: Mapping[str, Integers]) -> float:
    """Percent of the frames whose phone or state has changed, over the utterances that both alignments have."""
    pairs = [(before[name], after[name]) for name in after if name in before]
    frames = sum(len(second) for _, second in pairs)
    moved = sum(int((tying.without_context(a) != tying.without_context(b)).sum()) for a, b in pairs)
    return 100 * moved / max(frames, 1)
