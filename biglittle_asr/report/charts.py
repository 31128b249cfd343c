"""Charts as SVG for an HTML page.

Positions are in percent of the chart, and sizes of text, lines and markers in pixels. So a chart has legible text at
any width. Colours and line styles are those of the page's style sheet: classes `s0`, `s1`, ... of the experiments.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

LEFT, RIGHT, TOP, BOTTOM = 9.0, 97.0, 5.0, 86.0
"""Edges of the plot in a chart, in percent; tick labels are outside."""
MARKERS = 10
"""About the largest number of markers on a line."""
STEPS = (1.0, 2.0, 5.0, 10.0)
"""Distances between ticks, times a power of 10."""


@dataclass(frozen=True)
class Mark:
    """A point with a name, and with an interval of its y value if it has one."""

    x: float
    y: float
    title: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """Points of one experiment, in the order of their line."""

    style: int
    """Number of the experiment."""
    points: Sequence[Mark]
    dashed: bool = False
    line: bool = True


@dataclass(frozen=True)
class Axis:
    """A range of values, with ticks, and its place in a chart in percent."""

    low: float
    high: float
    ticks: Sequence[float]
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Place of a value in percent of the chart."""
        low, high, value = (math.log(each) if self.logarithmic else each for each in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (value - low) / (high - low)


def linear_axis(values: Iterable[float], start: float, end: float, most: int = 6, whole: bool = False) -> Axis:
    """An axis from 0 to at least the largest value.

    Example
    -------
    >>> linear_axis([3, 42], 0, 100).ticks
    [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]
    """
    largest = max([*values, 0.0]) or 1.0
    step = _step(largest, most)
    step = max(1.0, step) if whole else step
    ticks = [step * number for number in range(math.ceil(largest / step - 1e-9) + 1)]
    return Axis(0.0, ticks[-1], ticks, start, end)


def logarithmic_axis(values: Sequence[float], start: float, end: float) -> Axis:
    """An axis around positive values, with ticks at 1, 2 and 5 times powers of 10.

    Example
    -------
    >>> logarithmic_axis([0.3, 4], 0, 100).ticks
    [0.2, 0.5, 1.0, 2.0, 5.0]
    """
    powers = range(math.floor(math.log10(min(values))) - 1, math.ceil(math.log10(max(values))) + 1)
    known = [float(f"{factor}e{power}") for power in powers for factor in (1, 2, 5)]
    low = max(tick for tick in known if tick <= min(values))
    high = min(tick for tick in known if tick > low and tick >= max(values))
    ticks = [tick for tick in known if low <= tick <= high]
    if len(ticks) > 7:
        ticks = [tick for tick in ticks if f"{tick:e}"[0] == "1"]
    return Axis(low, high, ticks, start, end, logarithmic=True)


def _step(largest: float, most: int) -> float:
    power = 10.0 ** math.floor(math.log10(largest / most))
    return next(step * power for step in STEPS if largest / (step * power) <= most + 1e-9)


def chart(series: Sequence[Series], x: Axis, y: Axis, label: str, x_label: str) -> Markup:
    """Draw lines and points.

    Arguments
    ---------
    series : sequence of Series
        Points whose values are finite and within the axes.
    x, y : Axis
        With places from `LEFT` to `RIGHT`, and from `BOTTOM` to `TOP`.
    label : str
        What the chart shows, for readers who cannot see it.
    x_label : str
        Name and unit of the horizontal axis.
    """
    parts = [*_y_grid(y), *_x_ticks(x, x_label)]
    for each in series:
        parts += _line(each, x, y) if each.line and len(each.points) > 1 else []
    for each in series:
        # Counted from the last point, which always has a marker.
        every = -(-len(each.points) // MARKERS) if each.line else 1
        marked = each.points[::-1][::every]
        parts += [_point(each, point, x.place(point.x), y.place(point.y), y) for point in marked]
    return element("svg", *parts, class_="chart", role="img", aria_label=label)


def interval_row(marks: Sequence[tuple[int, Mark] | None], axis: Axis, emphasis: float | None = None) -> Markup:
    """Draw a row of a dot plot: for each experiment a point, and its interval as a line.

    Arguments
    ---------
    marks : sequence of (int, Mark), or None
        Number of each experiment, and its value as y; None where it has none. The x values are not used.
    axis : Axis
        Horizontal, from 0 to 100 percent of the row.
    emphasis : float, optional
        A value with a line of its own, such as the mean.
    """
    parts = [_vertical(axis.place(tick), "grid") for tick in axis.ticks]
    if emphasis is not None:
        parts.append(_vertical(axis.place(emphasis), "mean"))
    for place, each in enumerate(marks):
        if each is None:
            continue
        style, mark = each
        height = f"{100 * (place + 0.5) / len(marks):.1f}%"
        if mark.low is not None and mark.high is not None:
            ends = {"x1": _percent(axis.place(mark.low)), "x2": _percent(axis.place(mark.high))}
            parts.append(element("line", class_=f"whisker s{style}", y1=height, y2=height, **ends))
        parts.append(_marker(style, _percent(axis.place(mark.y)), height, mark.title))
    return element("svg", *parts, class_=f"dots rows{len(marks)}", aria_hidden="true")


def axis_row(axis: Axis) -> Markup:
    """Draw the tick labels above a dot plot."""
    parts = [
        element("text", number(tick), x=_percent(axis.place(tick)), y="11", class_="middle") for tick in axis.ticks
    ]
    return element("svg", *parts, class_="dots axis", aria_hidden="true")


def number(value: float) -> str:
    """Write a tick's number.

    Example
    -------
    >>> number(0.5), number(40.0), number(154_000_000.0)
    ('0.5', '40', '154 M')
    """
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if value >= size:
            return f"{value / (1e3 if size == 1e4 else size):.4g}{unit}"
    return f"{value:.4g}"


def element(name: str, *children: str | Markup, **attributes: str) -> Markup:
    """An element of SVG; text and attributes are escaped. `class_` is the class, `_` in other names a hyphen.

    Example
    -------
    >>> print(element("text", "a < b", class_="tick", x="5%"))
    <text class="tick" x="5%">a &lt; b</text>
    """
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items()
    )
    inside = Markup("").join(map(escape, children))
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), written, inside)


def _percent(value: float) -> str:
    return f"{value:.2f}%"


def _vertical(place: float, kind: str) -> Markup:
    across = _percent(place)
    return element("line", class_=kind, x1=across, x2=across, y1="0", y2="100%")


def _y_grid(y: Axis) -> list[Markup]:
    parts = []
    for tick in y.ticks:
        height = _percent(y.place(tick))
        parts.append(element("line", class_="grid", x1=_percent(LEFT), x2=_percent(RIGHT), y1=height, y2=height))
        parts.append(element("text", number(tick), class_="tick end", x=_percent(LEFT - 1), y=height, dy="0.32em"))
    return parts


def _x_ticks(x: Axis, label: str) -> list[Markup]:
    parts = [
        element("text", number(tick), class_="tick middle", x=_percent(x.place(tick)), y=_percent(BOTTOM), dy="1.4em")
        for tick in x.ticks
    ]
    return [*parts, element("text", label, class_="label end", x=_percent(RIGHT), y="100%", dy="-0.3em")]


def _line(series: Series, x: Axis, y: Axis) -> list[Markup]:
    # Points of a polyline cannot be in percent, but its frame can be stretched.
    points = " ".join(f"{10 * x.place(point.x):.1f},{10 * y.place(point.y):.1f}" for point in series.points)
    line = element("polyline", class_=f"line s{series.style}{' dashed' if series.dashed else ''}", points=points)
    frame = element("svg", line, viewBox="0 0 1000 1000", preserveAspectRatio="none")
    return [frame]


def _point(series: Series, point: Mark, across: float, up: float, y: Axis) -> Markup:
    parts = []
    if point.low is not None and point.high is not None:
        place = _percent(across)
        ends = {"y1": _percent(y.place(point.low)), "y2": _percent(y.place(point.high))}
        parts.append(element("line", class_=f"whisker s{series.style}", x1=place, x2=place, **ends))
    if series.dashed:
        return element("g", *parts)
    return element("g", *parts, _marker(series.style, _percent(across), _percent(up), point.title))


def _marker(style: int, across: str, up: str, title: str) -> Markup:
    """The marker of an experiment; a shape of the page's definitions."""
    return element("use", element("title", title), class_=f"marker s{style}", href=f"#marker{style}", x=across, y=up)
