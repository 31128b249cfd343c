"""Costs as text tables, and a plot of error against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from biglittle_asr.profiling.conventions import CONVENTIONS, count_operations, count_parameters
from biglittle_asr.profiling.costs import Costs

PLOT_FORMATS = (".png", ".svg", ".pdf")


def layer_table(costs: Mapping[str, Costs], convention: str) -> str:
    """Write a table of parameters, operations and memory of every layer, by a convention, with the total.

    Arguments
    ---------
    costs : mapping from str to Costs
        Parts of a model by name, such as encoder and head. The name of a single part is not shown.
    convention : str
        A key of :data:`CONVENTIONS`.

    Example
    -------
    >>> import torch
    >>> from torch import nn
    >>> from biglittle_asr.profiling import count_costs
    >>> net = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU())
    >>> print(layer_table({"net": count_costs(net, torch.zeros(1, 4))}, "macs"))
    convention: macs
    layer   kind    shape out  parameters  not zero  MACs  memory, kB
    0       Linear  1 x 8              32        32    32         0.0
    1       ReLU    1 x 8               0         0     0         0.0
    in all                             32        32    32         0.1
    """
    rule, rows, memory, nonzero = CONVENTIONS[convention], [], 0, 0
    header = ["layer", "kind", "shape out", "parameters", "not zero", rule.unit, "memory, kB"]
    for part, counted in costs.items():
        prefix = f"{part}." if len(costs) > 1 else ""
        memory, nonzero = memory + counted.activation_bytes, nonzero + counted.nonzero_parameters
        for layer in counted.layers:
            rows.append(
                [
                    f"{prefix}{layer.name}".rstrip(".") or layer.kind,
                    layer.kind,
                    " x ".join(map(str, layer.shape)),
                    f"{rule.parameters(layer):,.10g}",
                    f"{layer.nonzero_parameters:,}",
                    f"{rule.operations(layer) / counted.units:,.10g}",
                    f"{layer.activation_bytes / counted.units / 1000:,.1f}",
                ]
            )
    total = [
        "in all", "", "",
        f"{sum(count_parameters(counted, convention) for counted in costs.values()):,.10g}",
        f"{nonzero:,}",
        f"{sum(count_operations(counted, convention) for counted in costs.values()):,.10g}",
        f"{memory / 1000:,.1f}",
    ]  # fmt: skip
    return f"convention: {convention}\n{_aligned([header, *rows, total], left=3)}"


def _aligned(rows: Sequence[Sequence[str]], left: int) -> str:
    """Align rows in columns; the first `left` columns are left-aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            f"{cell:<{width}}" if column < left else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


@dataclass(frozen=True)
class Point:
    """A model in a plot of cost against error."""

    name: str
    cost: float
    """Number of operations."""
    error: float
    """Error in percent."""


def check_plot(path: Path) -> None:
    """Check that a plot can be written, before anything is computed.

    Raises
    ------
    ValueError, FileNotFoundError
        For another format, or a folder that does not exist.
    """
    if path.suffix.lower() not in PLOT_FORMATS:
        raise ValueError(f"{path}: plots are written as {', '.join(PLOT_FORMATS)}; end the name in one of these.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder; make it, or write the plot elsewhere.")


def plot_costs(points: Sequence[Point], path: Path, cost: str) -> None:
    """Plot error against cost (logarithmic). Big-Little models are filled; the lower left corner is best.

    Arguments
    ---------
    points : sequence of Point
    path : pathlib.Path
        PNG, SVG or PDF file.
    cost : str
        Label of the cost axis; it names the convention.
    """
    from matplotlib.figure import Figure

    check_plot(path)
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    for point in points:
        fill = "C0" if point.name.startswith("bl_") else "none"
        axes.scatter(point.cost, point.error, s=40, facecolors=fill, edgecolors="C0" if fill == "C0" else "C1")
        axes.annotate(point.name, (point.cost, point.error), (6, 4), textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel(cost)
    axes.set_ylabel("error (%)")
    axes.margins(0.15)
    axes.grid(alpha=0.3, which="both")
    figure.savefig(path, dpi=150)
