"""Pictures of networks: big branch, little branch and merge, with shapes and MACs.

A bar is a residual block. Its height shows the resolution, its width the number of channels. One function per kind of
network describes the picture as data (:class:`Panel`), which is then drawn.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from biglittle_asr.models import BigLittleEncoder, ImageClassifier
from biglittle_asr.nnet import BigLittleBranches, BigLittlePyramid, BigLittleStage, Blocks, BranchedStage
from biglittle_asr.profiling.costs import COUNTED_FRAMES, FRAMES_PER_SECOND

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"big": "#2f6fb3", "little": "#e08a2e", "merge": "#3d9970", "plain": "#7b8794"}
LEGEND = {"big": "big branch", "little": "little branch", "merge": "merge and fusion", "plain": "stem, plain, head"}
INK, FAINT, PAPER = "#26323f", "#66727f", "#f3f5f7"
SUFFIXES = (".svg", ".png")
SECONDS = COUNTED_FRAMES // FRAMES_PER_SECOND
# All sizes are in inches.
LANE, TOP, BOTTOM, MARGIN, GAP = 1.55, 1.55, 1.35, 0.35, 0.12
STAGE_WIDTH, END_WIDTH, PYRAMID_STAGE_WIDTH = 3.35, 1.75, 2.3
TALLEST, WIDEST = 0.8, 0.3


@dataclass
class Group:
    """Consecutive blocks of the same kind."""

    kind: str
    """Key of `COLOURS`."""
    label: str
    blocks: int
    channels: int
    size: tuple[int, ...]
    """(height, width) of the output; (frames, bins) for encoders; () after the mean over frequency."""
    shape: str
    """Channels and size as text."""
    macs: int


@dataclass
class Panel:
    """A stage, or the layers before or after the stages."""

    title: str
    width: float
    before: list[Group] = field(default_factory=list)
    """Groups before the branches; all groups if there are no branches."""
    lanes: list[list[Group]] = field(default_factory=list)
    """Groups of each branch, the big branch first."""
    merge: str = "+"
    """Symbol of the merge."""
    upsampled: bool = False
    """Whether coarser branches are upsampled to the resolution of the finest."""
    after: list[Group] = field(default_factory=list)
    """Groups after the merge."""

    @property
    def groups(self) -> list[Group]:
        """All groups."""
        return [*self.before, *(group for lane in self.lanes for group in lane), *self.after]

    @property
    def macs(self) -> int:
        """MACs of all groups."""
        return sum(group.macs for group in self.groups)


def draw_network(network: ImageClassifier | BigLittleEncoder, name: str, size: int = 224) -> Figure:
    """Draw the architecture of an image classifier or an acoustic encoder.

    Arguments
    ---------
    network : ImageClassifier or BigLittleEncoder
        The network, which is not changed; it may be on the meta device.
    name : str
        Title of the picture.
    size : int
        Height and width of the images for which shapes and MACs are given. For encoders, they are given for a second
        of audio.

    Returns
    -------
    matplotlib.figure.Figure
        The picture, which :func:`save_drawing` can write.

    Example
    -------
    >>> from biglittle_asr.models import create_encoder
    >>> figure = draw_network(create_encoder("bl_resnet22"), "bl_resnet22")
    >>> save_drawing(figure, getfixture("tmp_path") / "bl_resnet22.svg")
    """
    if isinstance(network, ImageClassifier):
        panels = _image_panels(network, _Trace(network, (1, network.config.input_channels, size, size)))
        unit = f"an image of {network.config.input_channels} x {size} x {size}"
    else:
        panels = _encoder_panels(network, _Trace(network, (1, COUNTED_FRAMES, network.config.input_size)))
        unit = f"a second of audio, {FRAMES_PER_SECOND} frames of {network.config.input_size} features"
    parameters = sum(parameter.numel() for parameter in network.parameters())
    total = sum(panel.macs for panel in panels)
    return _render(panels, name, f"{_count(parameters)} parameters, {_count(total)} MACs for {unit}", total)


def save_drawing(figure: Figure, path: str | PathLike[str]) -> None:
    """Write a picture as SVG, with text as text, or as PNG, depending on the file's extension.

    Raises
    ------
    ValueError
        For another extension.
    OSError
        If the file cannot be written.
    """
    import matplotlib

    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: pictures are {' or '.join(SUFFIXES)}; end the name in one of these.")
    # Omit the date and random names, so that the same network gives the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "biglittle"}):
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
        figure.savefig(path, dpi=130, metadata=metadata)


class _Trace:
    """Shapes and MACs of all modules in one forward pass, on the meta device."""

    def __init__(self, network: nn.Module, shape: Sequence[int]) -> None:
        # Imported here, because it imports triton.
        from torch.utils.flop_counter import FlopCounterMode

        shadow = copy.deepcopy(network).to("meta").eval()
        self.seconds = SECONDS if isinstance(network, BigLittleEncoder) else 1
        self.shapes: dict[str, torch.Size] = {}
        for name, module in shadow.named_modules():
            module.register_forward_hook(self._keep(name))
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            shadow(torch.zeros(*shape, device="meta"))
        self._flops = counter.get_flop_counts()
        self._root = type(network).__name__

    def _keep(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            self.shapes[name] = output.shape

        return hook

    def group(self, kind: str, label: str, names: Iterable[str]) -> Group:
        """Make a group of consecutive modules, as blocks of one kind."""
        names = list(names)
        macs = sum(sum(self._flops.get(f"{self._root}.{name}", {}).values()) for name in names) // 2 // self.seconds
        shape = self.shapes[names[-1]]
        if len(shape) < 4:
            # After the last stage: (B, classes) or (B, T, D).
            return Group(kind, label, len(names), shape[-1], (), f"{shape[-1]}", macs)
        channels, height, width = shape[1:]
        if self.seconds > 1:
            size = f"{height / self.seconds:g}/s x {width}"
        else:
            size = f"{height} x {width}"
        return Group(kind, label, len(names), channels, (height, width), f"{channels} x {size}", macs)

    def blocks(self, kind: str, label: str, name: str, blocks: Blocks) -> Group:
        """Make a group of the blocks of a stage or branch."""
        return self.group(kind, f"{label}{_plural(len(blocks), 'block')}", [f"{name}.{i}" for i in range(len(blocks))])


def _image_panels(network: ImageClassifier, trace: _Trace) -> list[Panel]:
    stem = Panel("stem", END_WIDTH, [trace.group("plain", _convolution(network.conv1), ["conv1"])])
    if hasattr(network, "b_conv0"):
        stem.width += 1.85
        stem.lanes = [
            [trace.group("big", "3x3 /2", ["b_conv0"])],
            [trace.group("little", "3x3, 3x3 /2, 1x1", ["l_conv0", "l_conv1", "l_conv2"])],
        ]
        stem.after = [trace.group("merge", "1x1", ["bl_init"])]
    elif isinstance(network.maxpool, nn.MaxPool2d):
        stem.before.append(trace.group("plain", "max-pool", ["maxpool"]))
        stem.width += 0.6
    stages = [(f"layer{i}", network.get_submodule(f"layer{i}")) for i in range(1, 5)]
    head = Panel("head", END_WIDTH, [trace.group("plain", "mean, linear", ["fc"])])
    return [stem, *(_stage_panel(f"stage {i}", *stage, trace) for i, stage in enumerate(stages, 1)), head]


def _encoder_panels(network: BigLittleEncoder, trace: _Trace) -> list[Panel]:
    stem = Panel("stem", END_WIDTH, [trace.group("plain", _convolution(network.stem[0]), ["stem"])])
    if network.config.pyramid:
        middle = [_pyramid_panel(network, trace)]
    else:
        middle = [_stage_panel(f"stage {i + 1}", f"stages.{i}", stage, trace) for i, stage in enumerate(network.stages)]
    pooling = "mean, linear" if network.config.pool_frequency else "all bins, linear"
    head = Panel("head", END_WIDTH, [trace.group("plain", pooling, ["head"])])
    if len(network.time_blocks):
        head.before.append(trace.blocks("plain", "time, ", "time_blocks", network.time_blocks))
        head.width += 1.2
    return [stem, *middle, head]


def _stage_panel(title: str, name: str, stage: nn.Module, trace: _Trace) -> Panel:
    if isinstance(stage, Blocks):
        return Panel(title, STAGE_WIDTH - 0.9, [trace.blocks("plain", "", name, stage)])
    assert isinstance(stage, BigLittleStage | BranchedStage)
    lanes = [
        [trace.blocks(_kind(branch), f"{branch}, ", f"{name}.{branch}", cast(Blocks, stage.get_submodule(branch)))]
        for branch in stage.names
    ]
    panel = Panel(title, STAGE_WIDTH, lanes=lanes, after=[trace.group("merge", "fusion", [f"{name}.fusion.0"])])
    _add_merge(panel, stage, name, trace)
    return panel


def _pyramid_panel(network: BigLittleEncoder, trace: _Trace) -> Panel:
    (pyramid,) = network.stages
    assert isinstance(pyramid, BigLittlePyramid)
    panel = Panel("stages 1 to 4, merged once", 4 * PYRAMID_STAGE_WIDTH)
    for number, branch in enumerate(pyramid.names):
        lane, first = [], 0
        for stage, blocks in enumerate(network.config.blocks, 1):
            count = blocks if number == 0 else pyramid.config.branch_blocks(blocks, number)
            names = [f"stages.0.{branch}.{i}" for i in range(first, first + count)]
            lane.append(trace.group(_kind(branch), f"{branch} stage {stage}, {_plural(count, 'block')}", names))
            first += count
        panel.lanes.append(lane)
    _add_merge(panel, pyramid, "stages.0", trace)
    return panel


def _add_merge(panel: Panel, branches: BigLittleStage | BigLittleBranches, name: str, trace: _Trace) -> None:
    """Add the 1x1 convolutions of a merge: one per branch before a sum, or a single one after a concatenation."""
    panel.upsampled = branches.config.big_stride != (1, 1)
    if branches.config.merge == "concat":
        panel.merge = "c"
        panel.width += 0.5
        panel.after.insert(0, trace.group("merge", "1x1", [f"{name}.concat"]))
        return
    for lane, branch in zip(panel.lanes[1:], branches.names[1:], strict=True):
        lane.append(trace.group("merge", "1x1", [f"{name}.{branch}_e"]))


def _render(panels: list[Panel], title: str, subtitle: str, total: int) -> Figure:
    # Not pyplot, which would choose a window system and keep the figure forever.
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    lanes = max(1, *(len(panel.lanes) for panel in panels))
    width = 2 * MARGIN + sum(panel.width for panel in panels) + GAP * (len(panels) - 1)
    height = TOP + LANE * lanes + 0.55 + BOTTOM
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    pen = _Pen(axes, panels, total)

    axes.text(MARGIN, height - 0.45, title, size=19, weight="bold", color=INK, va="center")
    axes.text(MARGIN, height - 0.85, subtitle, size=11, color=FAINT, va="center")
    x = width - MARGIN + 0.1
    for kind in reversed([kind for kind in COLOURS if any(g.kind == kind for p in panels for g in p.groups)]):
        x -= 0.45 + 0.085 * len(LEGEND[kind])
        axes.add_patch(Rectangle((x, height - 0.54), 0.18, 0.18, color=COLOURS[kind]))
        axes.text(x + 0.26, height - 0.46, LEGEND[kind], size=10, color=INK, va="center")
    key = "a bar is a block; height: resolution, width: channels"
    axes.text(width - MARGIN, height - 0.85, key, size=9, color=FAINT, va="center", ha="right")

    x, floor, ceiling = MARGIN, BOTTOM, height - TOP + 0.35
    for index, panel in enumerate(panels):
        pen.panel(x, floor, ceiling, panel, first=index == 0, last=index == len(panels) - 1)
        x += panel.width + GAP
    pen.shares(MARGIN, 0.45, width - 2 * MARGIN, panels)
    return figure


class _Pen:
    """Draws panels on the axes, all at the same scale."""

    def __init__(self, axes: Any, panels: list[Panel], total: int) -> None:
        groups = [group for panel in panels for group in panel.groups if group.size]
        self.axes = axes
        self.finest = max(group.size[0] * group.size[1] for group in groups)
        self.most_channels = max(group.channels for group in groups)
        self.total = total

    def panel(self, x: float, floor: float, ceiling: float, panel: Panel, first: bool, last: bool) -> None:
        """Draw a panel whose left edge is at x."""
        from matplotlib.patches import Circle, FancyBboxPatch

        style = "round,pad=0,rounding_size=0.1"
        self.axes.add_patch(
            FancyBboxPatch((x, floor), panel.width, ceiling - floor, boxstyle=style, fc=PAPER, ec="none", zorder=0)
        )
        self.axes.text(x + 0.13, ceiling - 0.2, panel.title, size=12, weight="bold", color=INK, va="center")
        percent = 100 * panel.macs / self.total
        share = f"{_count(panel.macs)} MACs, {percent:.{0 if percent >= 1 else 1}f} %"
        self.axes.text(x + 0.13, floor + 0.17, share, size=9.5, color=INK, va="center")
        middle = (floor + ceiling - 0.2) / 2
        right = x + panel.width
        # Lines from the previous panel and into the gap after this one.
        here, end = x + (0.15 if first else -GAP), right + (-0.15 if last else GAP)
        self._line([(here, middle), (end if not panel.lanes else x + 0.22, middle)])
        if not panel.lanes:
            self._row(panel.before, x + 0.1, right - 0.1, middle)
            return
        split = x + 0.22
        if panel.before:
            split = x + 1.1
            self._line([(x, middle), (split, middle)])
            self._row(panel.before, x + 0.1, split - 0.05, middle)
        join = right - (0.3 + 0.8 * len(panel.after))
        for number, lane in enumerate(panel.lanes):
            y = middle + LANE * ((len(panel.lanes) - 1) / 2 - number)
            self._line([(split, middle), (split, y), (join, y), (join, middle)])
            self._row(lane, split + 0.08, join - 0.08, y)
            if panel.upsampled and number < len(panel.lanes) - 1:
                self.axes.text(join + 0.06, y + 0.02, "upsample", size=8, color=FAINT, va="center", ha="left")
        self._line([(join, middle), (end, middle)])
        self.axes.add_patch(Circle((join, middle), 0.13, fc="white", ec=COLOURS["merge"], lw=1.8, zorder=3))
        self.axes.text(
            join, middle - 0.01, panel.merge, size=13, weight="bold", color=COLOURS["merge"], ha="center",
            va="center_baseline" if panel.merge == "c" else "center", zorder=4,
        )  # fmt: skip
        if panel.after:
            self._row(panel.after, join + 0.2, right - 0.06, middle)

    def shares(self, x: float, y: float, width: float, panels: list[Panel]) -> None:
        """Draw a ribbon that shows the panels' shares of MACs, in the order of the network."""
        from matplotlib.patches import Rectangle

        for panel in panels:
            start = x
            for group in panel.groups:
                share = width * group.macs / self.total
                self.axes.add_patch(Rectangle((x, y), share, 0.28, fc=COLOURS[group.kind], ec="none"))
                x += share
            self.axes.plot([x, x], [y - 0.03, y + 0.31], color="white", lw=2, solid_capstyle="butt")
            if x - start > 0.085 * len(panel.title):
                self.axes.text((start + x) / 2, y - 0.17, panel.title, size=9, color=FAINT, ha="center", va="center")
        self.axes.text(MARGIN, y + 0.48, "where the MACs are", size=10, color=FAINT, va="center")

    def _row(self, groups: list[Group], left: float, right: float, y: float) -> None:
        """Draw groups of bars between two edges, each with a label above and shape and MACs below."""
        weights = [1.0 if len(group.label) > 5 else 0.45 for group in groups]
        unit = (right - left) / sum(weights)
        for group, weight in zip(groups, weights, strict=True):
            room = weight * unit
            centre = left + room / 2
            tall = self._bars(group, centre, y, room - 0.12)
            colour = COLOURS[group.kind]
            self._text(centre, y + tall / 2 + 0.12, group.label, 9, colour, "bold")
            if group.label != "1x1":
                self._text(centre, y - tall / 2 - 0.12, group.shape, 8.5, INK)
                if group.macs:
                    self._text(centre, y - tall / 2 - 0.29, _count(group.macs), 8.5, FAINT)
            left += room

    def _bars(self, group: Group, centre: float, y: float, room: float) -> float:
        """Draw one bar per block around a centre, and return their height."""
        from matplotlib.patches import FancyBboxPatch

        tall, wide, gap = 0.25, 0.25, 0.05
        if group.size:
            tall = TALLEST * (group.size[0] * group.size[1] / self.finest) ** 0.25
            wide = max(WIDEST * (group.channels / self.most_channels) ** 0.5, 0.06)
        shrink = min(1.0, room / (group.blocks * (wide + gap)))
        wide, gap = wide * shrink, gap * shrink
        x = centre - (group.blocks * (wide + gap) - gap) / 2
        for _ in range(group.blocks):
            style = f"round,pad=0,rounding_size={min(0.03, wide / 3)}"
            self.axes.add_patch(
                FancyBboxPatch(
                    (x, y - tall / 2), wide, tall, boxstyle=style, fc=COLOURS[group.kind], ec="none", zorder=2
                )
            )
            x += wide + gap
        return tall

    def _line(self, points: list[tuple[float, float]]) -> None:
        xs, ys = zip(*points, strict=True)
        self.axes.plot(xs, ys, color="#9aa5b1", lw=1.6, zorder=1, solid_capstyle="round", solid_joinstyle="round")

    def _text(self, x: float, y: float, text: str, size: float, colour: str, weight: str = "normal") -> None:
        box = {"fc": PAPER, "ec": "none", "pad": 0.6}
        self.axes.text(x, y, text, size=size, color=colour, weight=weight, ha="center", va="center", zorder=3, bbox=box)


def _kind(branch: str) -> str:
    return "big" if branch == "big" else "little"


def _convolution(conv: Any) -> str:
    height, width = conv.kernel_size
    stride = conv.stride[0] if conv.stride[0] == conv.stride[1] else f"({conv.stride[0]}, {conv.stride[1]})"
    return f"{height}x{width}" + (f" /{stride}" if max(conv.stride) > 1 else "")


def _plural(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _count(number: int) -> str:
    """Format a number with three digits and a unit.

    Example
    -------
    >>> _count(2_856_058_880), _count(336_755_200), _count(512)
    ('2.86 G', '337 M', '512')
    """
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            value = number / size
            digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{value:.{digits}f} {unit}"
    return str(number)
