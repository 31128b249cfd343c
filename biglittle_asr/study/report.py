"""Reports of studies: a Markdown table, and plots of error against cost."""

from __future__ import annotations

import itertools
import math
import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from biglittle_asr.files import write_atomically
from biglittle_asr.study.plan import Study, StudyError
from biglittle_asr.study.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ERRORS = {
    "dev_wer": "dev WER, %",
    "test_wer": "test WER, %",
    "hub5_test_wer": "test WER as NIST scores, %",
    "dev_top1_error": "top-1 error, %",
    "dev_top5_error": "top-5 error, %",
}
"""Columns of errors in the table of results, with their names in reports."""

DRAWN = ("dev_wer", "test_wer", "hub5_test_wer", "dev_top1_error")
"""Errors that are plotted. A picture of comparisons has the last that is known."""

FORMATS = (".png", ".svg")

WIDE = 10.0
"""Costs that differ by more than this factor get a logarithmic axis."""

NEAR = 9
"""Distance from a marker to its name, in typographic points, if there is room."""

BIG_LITTLE, PLAIN, INK, FAINT = "#1769aa", "#c2560c", "#1f2933", "#7b8794"


@dataclass(frozen=True)
class Values:
    """Values of several seeds.

    Example
    -------
    >>> Values((3.0, 1.0, 2.0)).describe(2), Values((3.0,)).describe(2), Values(()).describe(2)
    ('2.00 (1.00 to 3.00)', '3.00 (single run)', '')
    """

    all: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean of the values."""
        return statistics.mean(self.all)

    @property
    def reach(self) -> tuple[float, float]:
        """Distances from the mean down to the lowest value and up to the highest."""
        return self.mean - min(self.all), max(self.all) - self.mean

    def describe(self, digits: int) -> str:
        """Write mean and range, or a single value without a range."""
        if not self.all:
            return ""
        if len(self.all) == 1:
            return f"{self.mean:.{digits}f} (single run)"
        return f"{self.mean:.{digits}f} ({min(self.all):.{digits}f} to {max(self.all):.{digits}f})"


@dataclass(frozen=True)
class Summary:
    """The rows of one name, one per seed."""

    name: str
    rows: list[Mapping[str, str]]

    def values(self, column: str, machine: tuple[str, ...] | None = None) -> Values:
        """Collect the values of a column, omitting empty ones; only those of one machine if it is given."""
        rows = [row for row in self.rows if machine is None or machine_of(row) == machine]
        return Values(tuple(float(row[column]) for row in rows if row[column]))

    @property
    def big_little(self) -> bool:
        """Whether the name is that of a Big-Little network: it has the part `bl`, as in bl_resnet22 or an4_ctc_bl."""
        return "bl" in re.split("[_.+-]", self.name)


def summarize(study: Study, results: Results) -> list[Summary]:
    """Group the rows of a study by name, in the order of its file. The last of several rows of a seed counts.

    Raises
    ------
    StudyError
        If there are no rows.
    """
    results.check(study)
    rows = results.read()
    summaries = []
    for name in dict.fromkeys(run.name for run in study.runs):
        seeds = {str(run.seed) for run in study.runs if run.name == name}
        found = {row["seed"]: row for row in rows if row["name"] == name and row["seed"] in seeds}
        if found:
            summaries.append(Summary(name, [found[seed] for seed in sorted(found, key=int)]))
    if not summaries:
        raise StudyError(f"{results.path}: has no run of the study {study.name} yet.")
    return summaries


def write_report(study: Study, results: Results, folder: Path, tell: Callable[[str], None]) -> list[Path]:
    """Write table.md, and a plot of each error as PNG and SVG.

    Arguments
    ---------
    study : Study
    results : Results
    folder : pathlib.Path
        Created if it does not exist.
    tell : callable
        Called with messages about what is left out.

    Returns
    -------
    list of pathlib.Path
        The files written.

    Raises
    ------
    StudyError
        If no run of the study is in the table.
    """
    from biglittle_asr.profiling import save_drawing

    summaries = summarize(study, results)
    missing = [run.label for run in study.runs if not results.has(run)]
    if missing:
        tell(f"{len(missing)} of {len(study.runs)} runs are not in {results.path} yet: {'; '.join(missing)}")
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "table.md"
    write_atomically(table, summary_table(summaries))
    written = [table]
    for error in DRAWN:
        columns = plan_plots(study, summaries, error, tell)
        if columns:
            figure = draw(columns)
            written += [folder / f"{error}{suffix}" for suffix in FORMATS]
            for path in written[-len(FORMATS) :]:
                save_drawing(figure, path)
    return written


def draw_comparisons(studies: Sequence[tuple[Study, Results]], path: Path, tell: Callable[[str], None]) -> None:
    """Draw the networks that studies compare into one picture, PNG or SVG, with a column for the data of each study.

    Raises
    ------
    StudyError
        If no comparison has results of both networks.
    """
    from biglittle_asr.profiling import save_drawing

    columns: list[list[Plot]] = []
    for study, results in studies:
        names = {name for each in study.comparisons for name in (each.run, each.against)}
        summaries = [each for each in summarize(study, results) if each.name in names]
        found = [each for error in DRAWN for each in plan_plots(study, summaries, error, tell) if each[0].pairs]
        columns += {each[0].data: each for each in found}.values()
    if not columns:
        raise StudyError(f"{studies[0][0].name}: has no comparison with results of both networks.")
    save_drawing(draw(columns), path)


# Table


def summary_table(summaries: Sequence[Summary]) -> str:
    """Write a Markdown table with one line per name, and the machines below it."""
    speech = any(each.values("encoder_macs").all for each in summaries)
    columns: dict[str, Callable[[Summary], str]] = {
        "": lambda each: f"`{each.name}`",
        "seeds": lambda each: ", ".join(row["seed"] for row in each.rows),
        "parameters": lambda each: _whole(each, "parameters"),
        f"MACs {'per s of audio' if speech else 'per image'}": lambda each: _whole(each, "macs"),
        f"{time_label(speech)}": lambda each: each.values("latency_ms").describe(1),
        "epochs": lambda each: _whole(each, "epochs"),
        "training, min": lambda each: each.values("minutes").describe(1),
        **{head: _describe(error) for error, head in ERRORS.items()},
    }
    cells = {head: [cell(each) for each in summaries] for head, cell in columns.items()}
    cells = {head: column for head, column in cells.items() if any(column)}
    table = markdown_table([list(cells), *zip(*cells.values(), strict=True)])
    commits = sorted({row["commit"][:12] for each in summaries for row in each.rows} - {""})
    remarks = ["Mean over the seeds, and in brackets the lowest and highest; a single run has no range."]
    if speech:
        remarks.append("Parameters and MACs include the output layer.")
    remarks += [f"Computed on: {machine}." for machine in _machines(summaries)]
    remarks += [f"Commit {', '.join(commits)}."] if commits else []
    return "\n".join([table, *remarks, ""])


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table; its head is the first row.

    Example
    -------
    >>> print(markdown_table([["network", "WER"], ["small", "9.5"]]), end="")
    | network | WER |
    | --- | --- |
    | small | 9.5 |
    """
    head, *others = rows
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ["---"] * len(head), *others))


def time_label(speech: bool) -> str:
    """Label of measured times."""
    return f"ms for {'10 s of audio' if speech else 'an image'}"


def machine_of(row: Mapping[str, str]) -> tuple[str, ...]:
    """Return the values in a row, other than the network, that times depend on."""
    return (row["cpu"], row["threads"], row["torch"])


def _describe(error: str) -> Callable[[Summary], str]:
    return lambda each: each.values(error).describe(2)


def _whole(summary: Summary, column: str) -> str:
    """Write a whole number that all seeds share, or else the lowest and highest."""
    values = summary.values(column).all
    if not values:
        return ""
    return " to ".join(f"{value:,.0f}" for value in sorted({min(values), max(values)}))


def _machines(summaries: Sequence[Summary]) -> list[str]:
    found: dict[str, list[str]] = {}
    for each, row in ((summary, row) for summary in summaries for row in summary.rows if row["cpu"]):
        threads = f"{row['threads']} thread{'s' if row['threads'] != '1' else ''} each"
        beside = "alone" if row["jobs"] == "1" else f"up to {row['jobs']} side by side"
        what = f"{row['cpu']} ({row['cpu_flags'] or 'no known flags'}), {row['cores']} cores"
        found.setdefault(f"{what}, {threads}, {beside}, PyTorch {row['torch']}", []).append(each.name)
    if len(found) == 1:
        return list(found)
    return [f"{machine} ({', '.join(dict.fromkeys(names))})" for machine, names in found.items()]


# Pictures


class Plot(NamedTuple):
    """One plot: error against one cost, of networks that were scored on the same data."""

    data: str
    error: str
    """Column of the error."""
    cost: str
    """Column of the cost."""
    label: str
    """What the cost is called."""
    summaries: list[Summary]
    pairs: list[tuple[Summary, Summary]]
    """Networks that are joined by an arrow, from the first to the second."""
    machine: tuple[str, ...] | None
    """Machine whose times are shown; None for a cost that no machine changes."""

    def values(self, summary: Summary) -> tuple[Values, Values]:
        """Cost and error of a network."""
        return summary.values(self.cost, self.machine), summary.values(self.error)

    def place(self, summary: Summary) -> tuple[float, float]:
        """Mean cost and mean error of a network."""
        x, y = self.values(summary)
        return x.mean, y.mean


def plan_plots(
    study: Study, summaries: Sequence[Summary], error: str, tell: Callable[[str], None] = print
) -> list[list[Plot]]:
    """Plan the plots of an error: for each data set one against MACs and, if measured, one against time.

    Arguments
    ---------
    study : Study
        Its comparisons become arrows.
    summaries : sequence of Summary
        Those without the error, or without MACs, are left out.
    error : str
        A key of :data:`ERRORS`.
    tell : callable
        Called with a message about times left out, since only the machine with most measurements is shown.
    """
    by_data: dict[str, dict[str, Summary]] = {}
    for each in summaries:
        if each.values(error).all and each.values("macs").all:
            by_data.setdefault(each.rows[0]["data"], {})[each.name] = each
    columns = []
    for data, named in by_data.items():
        shown = list(named.values())
        names = [(each.against, each.run) for each in study.comparisons]
        pairs = [(named[one], named[other]) for one, other in names if {one, other} <= named.keys()]
        speech = any(each.values("encoder_macs").all for each in shown)
        label = f"multiply-accumulates per {'second of audio' if speech else 'image'}"
        columns.append([Plot(data, error, "macs", label, shown, pairs, None)])
        timed, machine = _timed(shown, tell)
        if timed:
            pairs = [pair for pair in pairs if all(each in timed for each in pair)]
            columns[-1].append(Plot(data, error, "latency_ms", time_label(speech), timed, pairs, machine))
    return columns


def draw(columns: Sequence[Sequence[Plot]]) -> Figure:
    """Draw plots: those of one data set side by side, those of several in a column each. The lower left is best."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    alone = len(columns) == 1
    most = max(map(len, columns))
    size = (0.7 + 5.6 * most, 4.8) if alone else (0.7 + 4.2 * len(columns), 3.6 * most)
    figure = Figure(figsize=size, layout="constrained", facecolor="white", dpi=150)
    canvas = FigureCanvasAgg(figure)
    shape = (1, most) if alone else (most, len(columns))
    grid: Any = figure.subplots(*shape, sharey="row" if alone else "col", squeeze=False)
    drawn: list[tuple[Axes, Plot]] = []
    for column, places in zip(columns, grid if alone else grid.T, strict=True):
        for plot, axes in itertools.zip_longest(column, places):
            if plot is None:
                axes.remove()
                continue
            _draw_plot(axes, plot)
            drawn.append((axes, plot))
            if axes is places[0] or not alone:
                axes.set_ylabel(ERRORS[plot.error], color=INK)
        places[0].set_title(column[0].data, color=INK, loc="left", fontsize=11)
    _legend(figure, [summary for column in columns for summary in column[0].summaries])
    canvas.draw()
    # Labels are placed on the finished axes, so the layout must not change afterwards.
    figure.set_layout_engine("none")
    for axes, plot in drawn:
        _place_names(axes, plot, canvas.get_renderer())
    return figure


def _timed(summaries: Sequence[Summary], tell: Callable[[str], None]) -> tuple[list[Summary], tuple[str, ...] | None]:
    """Return the networks measured on the machine with most measurements, and that machine."""
    machines = dict.fromkeys(machine_of(row) for each in summaries for row in each.rows if row["latency_ms"])
    by_machine = {
        machine: [each for each in summaries if each.values("latency_ms", machine).all] for machine in machines
    }
    if not by_machine:
        return [], None
    machine = max(by_machine, key=lambda each: len(by_machine[each]))
    left_out = [each.name for each in summaries if each not in by_machine[machine]]
    if left_out:
        tell(f"not in the plot of times, as they were not measured on {machine[0]}: {', '.join(left_out)}")
    return by_machine[machine], machine


def _draw_plot(axes: Axes, plot: Plot) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    style: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 11, "shrinkA": 7, "shrinkB": 7}
    for pair in plot.pairs:
        axes.add_patch(FancyArrowPatch(*map(plot.place, pair), color=FAINT, linewidth=1.2, zorder=1, **style))
    for each in plot.summaries:
        x, y = plot.values(each)
        colour = BIG_LITTLE if each.big_little else PLAIN
        for value in y.all if len(y.all) > 1 else ():
            axes.plot(x.mean, value, "_", color=colour, markersize=9, markeredgewidth=1.4, alpha=0.55, zorder=2)
        vertical, horizontal = ([[part] for part in values.reach] for values in (y, x))
        fill = colour if each.big_little else "white"
        axes.errorbar(
            x.mean, y.mean, vertical, horizontal, fmt="o", color=colour, elinewidth=1.4, capsize=0,
            markersize=8, markerfacecolor=fill, markeredgewidth=1.8, zorder=3,
        )  # fmt: skip
    means = [plot.place(each)[0] for each in plot.summaries]
    if max(means) > WIDE * min(means):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, position: short(value)))
    axes.set_xlabel(plot.label, color=INK)
    axes.margins(x=0.2, y=0.18)
    axes.grid(color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=9)


def _legend(figure: Figure, summaries: Sequence[Summary]) -> None:
    """Add a legend of the colours, if there are two, and of the error bars, if there are any."""
    from matplotlib.lines import Line2D

    handles: list[Line2D] = []
    if len({each.big_little for each in summaries}) == 2:
        for colour, fill, label in ((BIG_LITTLE, BIG_LITTLE, "Big-Little"), (PLAIN, "white", "other")):
            style: dict[str, Any] = {"markerfacecolor": fill, "markeredgewidth": 1.8}
            handles.append(Line2D([], [], linestyle="", marker="o", color=colour, label=label, **style))
    if any(len(each.rows) > 1 for each in summaries):
        handles.append(Line2D([], [], color=FAINT, marker="|", label="lowest to highest seed"))
    if handles:
        figure.legend(handles=handles, loc="outside upper right", ncols=len(handles), frameon=False)


def _place_names(axes: Axes, plot: Plot, renderer: Any) -> None:
    """Write each name next to its point, where it overlaps least with points, bars, lines and other names."""
    import numpy as np
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    unit = renderer.points_to_pixels(1.0)
    taken: list[Bbox] = []
    for pair in plot.pairs:
        start, end = (axes.transData.transform(plot.place(each)) for each in pair)
        taken += _along(start, end, unit) + _along(end, start, unit)
    for each in plot.summaries:
        x, y = plot.values(each)
        left, bottom = axes.transData.transform((min(x.all), min(y.all)))
        right, top = axes.transData.transform((max(x.all), max(y.all)))
        across, up = axes.transData.transform((x.mean, y.mean))
        # The marker and its error bars.
        taken.append(Bbox([[across - 6 * unit, up - 6 * unit], [across + 6 * unit, up + 6 * unit]]))
        taken.append(Bbox([[left, up - 2 * unit], [right, up + 2 * unit]]))
        taken.append(Bbox([[across - 5 * unit, bottom - 2 * unit], [across + 5 * unit, top + 2 * unit]]))
    inside = axes.get_window_extent(renderer)
    for each in plot.summaries:
        place = plot.place(each)
        point = axes.transData.transform(place)
        colour = BIG_LITTLE if each.big_little else PLAIN
        best: tuple[float, Text, list[Bbox]] | None = None
        for number, (offset, (horizontal, vertical)) in enumerate(_offsets()):
            far = max(map(abs, offset)) > NEAR
            line = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.7, "shrinkB": 6, "relpos": _relative(offset)}
            text = axes.annotate(
                each.name, place, offset, textcoords="offset points", color=colour, fontsize=9.5, zorder=4,
                ha=horizontal, va=vertical, arrowprops=line if far else None,
            )  # fmt: skip
            text.update_positions(renderer)
            # The box of the text alone; an annotation's own box includes its line.
            box = Text.get_window_extent(text, renderer)
            boxes = [box, *(_along(point, point + unit * np.array(offset), unit) if far else ())]
            outside = box.width * box.height - _overlap(box, inside)
            covered = sum(_overlap(one, other) for one in boxes for other in taken) + 5 * outside
            # A pixel of overlap is worse than any distance.
            badness = covered + number / 100
            if best is None or badness < best[0]:
                if best is not None:
                    best[1].remove()
                best = badness, text, boxes
            else:
                text.remove()
        assert best is not None
        taken += best[2]


def _along(start: Any, end: Any, unit: float) -> list[Any]:
    """Make small boxes along a line, without its beginning at the point."""
    import numpy as np
    from matplotlib.transforms import Bbox

    count = max(12, round(math.dist(start, end) / (3 * unit)))
    middles = start + np.arange(count // 3, count)[:, None] / count * (end - start)
    return [Bbox([middle - unit, middle + unit]) for middle in middles]


def _relative(offset: tuple[float, float]) -> tuple[float, float]:
    """Find where a line meets a name at an offset: at the side or corner next to the point."""
    across, up = ((0.5 if part == 0 else 0.0 if part > 0 else 1.0) for part in offset)
    return across, up


def _offsets() -> Iterator[tuple[tuple[float, float], tuple[str, str]]]:
    """Yield offsets of a name from its marker, in typographic points, best first. Distant names get a line."""
    across, up = {1: "left", 0: "center", -1: "right"}, {1: "bottom", 0: "center", -1: "top"}
    order = ((1, 0), (1, 1), (1, -1), (-1, 0), (-1, 1), (-1, -1), (0, 1), (0, -1))
    for radius, (x, y) in itertools.product((NEAR, 16, 28, 42, 60, 80), order):
        # A name placed diagonally touches the marker only by its corner, so it may be closer.
        nearer = 0.6 if radius == NEAR and x and y else 1.0
        yield (x * radius * nearer, y * radius * nearer), (across[x], up[y])


def _overlap(first: Any, second: Any) -> float:
    """Compute the common area of two boxes."""
    width = min(first.x1, second.x1) - max(first.x0, second.x0)
    height = min(first.y1, second.y1) - max(first.y0, second.y0)
    return float(max(width, 0.0) * max(height, 0.0))


def short(value: float) -> str:
    """Format a number for an axis.

    Example
    -------
    >>> short(154_000_000), short(2.5e9), short(120), short(0.5)
    ('154 M', '2.5 G', '120', '0.5')
    """
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
