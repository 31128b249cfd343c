"""The history of epochs, in a file that survives a resume, and its plot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

from biglittle_asr.files import read_table, replacing, write_table

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402  (the backend comes first)
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter  # noqa: E402


@dataclass(frozen=True)
class Curves:
    """The results that a task reports for each epoch."""

    loss: str
    """Name and unit of the loss."""
    rates: Mapping[str, str]
    """Columns with results on dev, in percent, and their labels in the plot."""
    dev: str = "dev"
    """Name of the validation set, in the plot and in messages."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of an :class:`EpochHistory`."""
        return ("epoch", "lr", "train_loss", "dev_loss", *self.rates, "seconds")


class EpochHistory:
    """A CSV file with one row per epoch.

    Arguments
    ---------
    path : pathlib.Path
        File to write; existing rows are kept.
    columns : sequence of str
        Keys of its rows.

    Example
    -------
    >>> history = EpochHistory(getfixture("tmp_path") / "epochs.csv", ("epoch", "dev_wer"))
    >>> for wer in (90.0, 50.0):
    ...     history.add({"epoch": len(history.rows) + 1, "dev_wer": wer})
    >>> history.write()
    >>> EpochHistory(history.path, history.columns).rows[1]["dev_wer"]
    50.0
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path = path
        self.columns = tuple(columns)
        self.rows: list[dict[str, float]] = []
        if path.is_file():
            self.rows = [{name: float(value) for name, value in row.items()} for row in read_table(path, numbers=True)]

    def add(self, row: dict[str, float]) -> None:
        """Append an epoch; rows of the same and later epochs from an interrupted run are dropped."""
        self.rows = [old for old in self.rows if old["epoch"] < row["epoch"]] + [row]

    def write(self) -> None:
        """Write the file atomically."""
        write_table(self.path, self.columns, [[row[name] for name in self.columns] for row in self.rows])


def plot_curves(rows: list[dict[str, float]], path: Path, curves: Curves, title: str = "") -> None:
    """Plot loss and rates by epoch; the legends give the last epoch's values.

    Arguments
    ---------
    rows : list of dict
        Rows of an :class:`EpochHistory`.
    path : pathlib.Path
        Image to write, such as curves.png.
    curves : Curves
        Describes the rows.
    title : str
        Name of the training, as the title.
    """
    epochs = [row["epoch"] for row in rows]
    figure, (losses, errors) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for name, label in (("train_loss", "train, augmented"), ("dev_loss", curves.dev)):
        losses.plot(epochs, [row[name] for row in rows], label=f"{label}: {rows[-1][name]:.2f}")
    losses.set(ylabel=curves.loss, yscale="log")
    losses.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    losses.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    losses.yaxis.set_minor_formatter(NullFormatter())
    for name, label in curves.rates.items():
        errors.plot(epochs, [row[name] for row in rows], label=f"{label}: {rows[-1][name]:.1f} %")
    errors.set(ylabel="error (%)", ylim=(0, 105))
    for axes in (losses, errors):
        for line in axes.lines:
            line.set(linewidth=2, marker="o", markersize=3)
        axes.set(xlabel="epoch", xlim=(0, epochs[-1] + 1))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        # Above the axes, where it covers no line.
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    figure.suptitle(title)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format=path.suffix[1:])
    plt.close(figure)
