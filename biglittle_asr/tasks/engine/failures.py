"""Files that fail during training or evaluation: logged, recorded, and listed in a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechbrain.utils.distributed import main_process_only
from speechbrain.utils.logger import get_logger

from biglittle_asr.files import write_table
from biglittle_asr.messages import some

logger = get_logger(__name__)

FAILURES_NAME = "failed_files.csv"
"""File in the output folder that lists the failures."""


class Failures:
    """Examples that could not be read, by epoch and set.

    Arguments
    ---------
    folder : Path
        Output folder of the training.
    examples : str
        Plural noun for the examples, for messages.
    fate : str
        How evaluation treats an example that cannot be read.

    Attributes
    ----------
    rows : list of dict
        Failures, each with epoch (None for a final evaluation), set, ID and problem.
    """

    def __init__(self, folder: Path, examples: str, fate: str) -> None:
        self.path = folder / FAILURES_NAME
        self.examples, self.fate = examples, fate
        self.rows: list[dict[str, Any]] = []

    @main_process_only
    def report(self, name: str, epoch: int | None, failed: Sequence[tuple[str, str]]) -> None:
        """Log the failures of one pass over a set, and record them in place of earlier ones of the same pass."""
        if failed:
            where = name if epoch is None else f"epoch {epoch}, {name}"
            number = f"{len(failed)} {self.examples if len(failed) > 1 else self.examples.removesuffix('s')}"
            fate = "left out" if name == "train" else self.fate
            reasons = some([reason.rstrip(".") for _, reason in failed], "; ")
            logger.warning(f"{where}: {number} could not be read, {fate}: {reasons}.")
        self.rows = [row for row in self.rows if (row["epoch"], row["set"]) != (epoch, name)]
        self.rows += [{"epoch": epoch, "set": name, "ID": each, "problem": reason} for each, reason in failed]

    def report_lost(self) -> None:
        """Name the training examples that could not be read, when the training ends."""
        lost = {row["ID"] for row in self.rows if row["set"] == "train"}
        if lost:
            logger.warning(
                f"{some(sorted(lost))}: could not be read in one epoch or more, and were left out there; "
                f"{self.path} says why."
            )

    def write(self) -> None:
        """Write the list, if it has entries."""
        if self.rows or self.path.exists():
            columns = ("epoch", "set", "ID", "problem")
            write_table(self.path, columns, [[row[name] for name in columns] for row in self.rows])
