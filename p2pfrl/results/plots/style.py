"""Style of figures: colors, sizes, units and labels.

Colors are those of Okabe and Ito (2008), which are distinct with any color vision. Every mode has
one color in all figures. Figures are explicit objects; pyplot and its global state are not used.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FuncFormatter,
    LogFormatterSciNotation,
    LogLocator,
    MaxNLocator,
    NullLocator,
)
from numpy.typing import NDArray

from p2pfrl.core.errors import RecordError
from p2pfrl.results.faults import faults
from p2pfrl.results.groups import Curve, Group
from p2pfrl.results.numbers import Scale, drawable, number, scale
from p2pfrl.results.record import UPDATES
from p2pfrl.results.statistics import MIN_SEEDS

if TYPE_CHECKING:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colorbar import Colorbar
    from matplotlib.typing import RcKeyType

INK = "#222222"
GRAY = "#6b6b6b"
PALE = "#d9d9d9"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_COLORS = {
    "gossip": "#0072B2",
    "central": "#D55E00",
    "independent": "#009E73",
    "pooled": "#CC79A7",
    "hierarchical": "#E69F00",
}
ACTIONS = {"train": "#0072B2", "send": "#E69F00", "wait": "#e4e4e4"}
FAULT = "#b2182b"
PANEL = (3.5, 2.9)  # inches
DASHES = (4.0, 2.2)
_PERIOD = 9.0
"""Length of a dash and its gap, in line widths, of a curve that lies on another one."""
_HIDDEN = 2e-3
"""Share of a value by which curves differ at most where one hides the other."""
_ROUNDING = 1e-12
"""Share of values by which rounding makes them differ."""
_MEAN = 3
"""Layer of means in a panel, above bands and single seeds."""
NARROWEST = 2.2
"""Inches of the narrowest panel in which ticks and labels of the usual size have room."""


@dataclass(frozen=True)
class View:
    """How figures are drawn inside the context of `style` or `on`.

    Attributes:
        width: inches of every figure; None for what it needs.
        x: column of the only horizontal axis of curves; None for all that a figure has.
        axes: axes to draw on; empty for a figure of its own.
    """

    width: float | None = None
    x: str | None = None
    axes: tuple[Axes, ...] = ()


_WHOLE = View()
_VIEW: ContextVar[View] = ContextVar("view", default=_WHOLE)

_STYLE: dict[RcKeyType, Any] = {
    "figure.facecolor": "white",
    "figure.dpi": 100,
    "savefig.dpi": 170,
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9a9a9a",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#ececec",
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": GRAY,
    "ytick.color": GRAY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.7,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.hashsalt": "p2pfrl",
    "svg.fonttype": "none",  # text remains text, which can be searched and edited
    "pdf.fonttype": 42,
    "path.simplify": True,
}


_PAPER: dict[RcKeyType, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "lines.linewidth": 1.2,
    "axes.linewidth": 0.6,
    "grid.linewidth": 0.5,
    "savefig.dpi": 300,
}
"""What a figure for a paper has otherwise: text of 7 to 9 points at the width of print."""
COLUMN, PAGE = 3.4, 7.0
"""Inches of a column and of a page of two columns."""

FORMATS: dict[str, dict[str, str | None]] = {
    "svg": {"Date": None, "Creator": "p2pfrl"},
    "png": {"Software": "p2pfrl"},
    "pdf": {"CreationDate": None, "Producer": None, "Creator": "p2pfrl"},
}
"""Format of a file -> its metadata: nothing that differs from time to time.

The name shows later that the file is ours and may be replaced."""


@dataclass(frozen=True)
class Drawing:
    """A finished figure and its caption.

    Attributes:
        figure: the figure.
        caption: explanation of the figure.
        title: heading in the report; empty for that of the kind of figure.
    """

    figure: Figure
    caption: str
    title: str = ""


@contextmanager
def style(
    width: float | None = None, *, paper: bool = False, x: str | None = None
) -> Iterator[None]:
    """Apply the style to all figures drawn and rendered inside the context.

    Args:
        width: inches of every figure, at which text keeps its size and panels are put below each
            other where they would be too narrow; by default figures are as wide as they need.
        paper: whether text has 7 to 9 points and lines are thin; figures are as wide as a column
            then, if no width is given.
        x: column of metrics that is the horizontal axis of curves; by default there is a panel for
            each of several.
    """
    token = _VIEW.set(View(COLUMN if paper and width is None else width, x))
    try:
        with mpl.rc_context({**_STYLE, **_PAPER} if paper else _STYLE):
            yield
    finally:
        _VIEW.reset(token)


@contextmanager
def on(axes: Sequence[Axes], x: str | None = None) -> Iterator[None]:
    """Draw the next figure inside the context on axes of the caller's, in the caller's style."""
    token = _VIEW.set(View(None, x, tuple(axes)))
    try:
        yield
    finally:
        _VIEW.reset(token)


def chosen(columns: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that curves are drawn against: those of a figure, or the one asked for."""
    only = _VIEW.get().x
    return tuple(columns) if only is None else (only,)


def panels(
    count: int, size: tuple[float, float] = PANEL, *, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """Return a figure and its axes, side by side as far as the width of the style allows.

    `size` is the width and height of one panel in inches. A panel that must be narrower is lower,
    too, but not by more than a quarter.
    """
    view = _VIEW.get()
    if view.axes:
        if len(view.axes) != count:
            what = f"{count} axes" if count > 1 else "one"
            raise RecordError(f"ax: expected {what} for this figure, got {len(view.axes)}")
        figure = view.axes[0].get_figure(root=True)
        assert figure is not None
        return figure, list(view.axes)
    width = view.width
    columns = count if width is None else max(1, min(count, int(width / min(NARROWEST, size[0]))))
    rows = math.ceil(count / columns)
    each = size[0] if width is None else width / columns
    height = size[1] * min(1.0, max(0.75, each / size[0]))
    figure = Figure(figsize=(each * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = [
        axes for row in figure.subplots(rows, columns, squeeze=False, sharey=sharey) for axes in row
    ]
    for axes in grid[count:]:
        axes.remove()
    return figure, grid[:count]


def unit_of(groups: Sequence[Group], column: str) -> Scale:
    """Return the unit of a horizontal axis, the same in all figures of the same groups.

    A round of an asynchronous run is as many updates as there are agents, and is called so.
    """
    values = [drawable(r.metrics[column]) for g in groups for r in g.records if column in r.metrics]
    largest = max((float(v[np.isfinite(v)].max(initial=0.0)) for v in values), default=0.0)
    unit = scale(column, largest or 1.0)
    if column != "round":
        return unit
    return replace(unit, label=rounds_in_words(groups))


def rounds_in_words(groups: Sequence[Group]) -> str:
    """Return what a round of the runs is called: updates per agent, if they are asynchronous."""
    counts = {UPDATES in record.agents for g in groups for record in g.records}
    if counts == {True}:
        return "updates per agent"
    return "round (or updates per agent)" if True in counts else "round"


def vertical(axes: Sequence[Axes], text: str) -> None:
    """Label the vertical axis of the leftmost panels."""
    for panel in axes:
        place = panel.get_subplotspec()
        if place is None or place.is_first_col():
            panel.set_ylabel(text)


def render(figure: Figure, kind: str) -> bytes:
    """Return the figure as one of `FORMATS`. Equal figures give equal bytes."""
    if (layout := figure.get_layout_engine()) is not None:
        # Once: to save a figure with a layout draws it twice, and in every format again.
        layout.execute(figure)
        figure.set_layout_engine(None)
    out = io.BytesIO()
    figure.savefig(out, format=kind, metadata=FORMATS[kind])
    return out.getvalue()


def colors(groups: Sequence[Group]) -> list[str]:
    """Return a color per group: that of its mode if all modes differ, else from the palette.

    More groups than the palette has colors get colors of a spectrum.
    """
    modes = [g.mode for g in groups]
    if len(set(modes)) == len(modes) and all(mode in _COLORS for mode in modes):
        return [_COLORS[mode] for mode in modes]
    if len(groups) > len(PALETTE):
        spectrum = mpl.colormaps["turbo"](np.linspace(0.03, 0.97, len(groups)))
        return [to_hex(color) for color in spectrum]
    return list(PALETTE[: len(groups)])


def draw_curve(
    axes: Axes, curve: Curve, divisor: float, color: str, label: str | None = None
) -> None:
    """Draw a mean with its confidence band, and points without a neighbor as dots.

    Seeds that are too few for a band are drawn as thin lines. A mean that lies on one that was
    drawn before is dashed, and the next one has shorter dashes, so that all colors are seen.
    """
    x = curve.x / divisor
    drawn = [line for line in axes.lines if line.get_zorder() == _MEAN]
    below = sum(_lies_on(line, x, curve.mean) for line in drawn)
    dash = _PERIOD * (2 / 3) ** below
    axes.plot(
        x,
        curve.mean,
        color=color,
        label=label,
        linestyle=(0.0, (dash, _PERIOD - dash)) if below else "-",
        zorder=_MEAN,
        **dots(curve.mean, 5 * (2 / 3) ** below),
    )
    if np.isfinite(curve.low).any():
        axes.fill_between(x, curve.low, curve.high, color=color, alpha=0.2, linewidth=0, zorder=2)
    elif len(curve.runs) > 1:
        for run in curve.runs:
            axes.plot(x, run, color=color, alpha=0.45, linewidth=0.6, zorder=2, **dots(run, 3))


class Dots(TypedDict, total=False):
    """Options of a line for its markers."""

    marker: str
    markersize: float
    markevery: list[bool]


def dots(values: NDArray[np.float64], size: float, marker: str = "o") -> Dots:
    """Return the options of a line that marks values without a neighbor, which no line shows."""
    known = np.isfinite(values)
    beside = np.zeros_like(known)
    beside[1:] |= known[:-1]
    beside[:-1] |= known[1:]
    lone = known & ~beside
    if not lone.any():
        return {}
    return {"marker": marker, "markersize": size, "markevery": lone.tolist()}


def color_bar(
    figure: Figure,
    marks: ScalarMappable,
    axes: Axes,
    values: NDArray[np.float64],
    *,
    shrink: float = 0.85,
    aspect: float = 24,
) -> Colorbar:
    """Draw the scale of colors beside a panel; where all values are equal, with one number."""
    bar = figure.colorbar(marks, ax=axes, shrink=shrink, aspect=aspect, pad=0.02)
    bar.outline.set_visible(False)
    known = values[np.isfinite(values)]
    if len(known) and np.ptp(known) == 0:
        bar.set_ticks([float(known[0])], labels=[number(float(known[0]))])
        bar.ax.minorticks_off()
    return bar


def level(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values, all equal if rounding alone makes them differ, so that colors do not."""
    known = values[np.isfinite(values)]
    if len(known) and np.ptp(known) <= _ROUNDING * np.abs(known).max():
        return np.where(np.isfinite(values), known[0], np.nan)
    return values


def _lies_on(line: Line2D, x: NDArray[np.float64], y: NDArray[np.float64]) -> bool:
    """Whether a mean has nearly the values of another one, at half of its points or more."""
    others, values = (np.asarray(part, dtype=np.float64) for part in line.get_data())
    if not len(others):
        return False
    is_within = (x >= others[0]) & (x <= others[-1])
    is_equal = np.isclose(y, np.interp(x, others, values), rtol=_HIDDEN, atol=0.0)
    return 2 * int((is_within & is_equal).sum()) >= len(x)


def mark_faults(axes: Axes, groups: Sequence[Group], column: str, divisor: float) -> bool:
    """Mark the faults of all groups on a horizontal axis, and return whether there are any.

    On an axis that is not time, a fault is where its group was at that time, the mean over seeds.
    Where groups have different faults, the label of a group is before its own.
    """
    marked: dict[float, list[str]] = {}
    all_faults = [[(f.seconds, f.kind) for f in faults(g.first)] for g in groups]
    are_shared = all(own == all_faults[0] for own in all_faults)
    for g in groups:
        happened = faults(g.first)
        if not happened:
            continue
        times = [fault.seconds for fault in happened]
        if column != "virtual_seconds":
            progress = g.curve("virtual_seconds", column)
            if progress.is_empty:
                continue
            times = np.interp(times, progress.x, progress.mean).tolist()
        for time, fault in zip(times, happened, strict=True):
            text = fault.kind if are_shared else f"{g.label}: {fault.kind}"
            marked.setdefault(time / divisor, []).append(text)
    for place, kinds in marked.items():
        axes.axvline(place, color=INK, linewidth=0.7, linestyle=(0, (1, 1.5)), alpha=0.7, zorder=1)
        axes.text(
            place,
            0.995,
            ", ".join(dict.fromkeys(kinds)),
            transform=axes.get_xaxis_transform(),
            rotation=90,
            ha="right",
            va="top",
            fontsize=7,
            color=GRAY,
            zorder=1,
        )
    return bool(marked)


def headroom(axes: Axes) -> None:
    """Make room above the data of a linear axis for the names of faults."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.28 * (high - low))


FAULTS = "Dotted verticals mark faults. "
"""Sentence of a caption where `mark_faults` has marked some."""


def over_seeds(groups: Sequence[Group]) -> str:
    """Return the part of a caption that says what bands or thin lines mean; "" for one seed."""
    counts = [len(g.records) for g in groups]
    if max(counts) < 2:
        return ""
    text = f"Lines are means over up to {max(counts)} seeds. "
    if max(counts) >= MIN_SEEDS:
        text += "Bands are 95% intervals of the mean (Student's t). "
    if any(1 < count < MIN_SEEDS for count in counts):
        text += f"Thin lines are single seeds: an interval needs at least {MIN_SEEDS}. "
    return text


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Write each (x, y, text, color) to the right of its point, without overlap.

    The limits of the axes must be final.
    """
    axes.get_xlim(), axes.get_ylim()  # limits are computed when first asked for
    to_axes = axes.transData + axes.transAxes.inverted()
    placed = sorted(
        (*to_axes.transform((x, y)).tolist()[::-1], text, color) for x, y, text, color in ends
    )
    gap, below = 0.06, -math.inf
    heights = []
    for y, *_ in placed:
        below = max(y, below + gap)
        heights.append(below)
    excess = max(0.0, max(heights, default=0.0) - 1.0)
    for (_, x, text, color), y in zip(placed, heights, strict=True):
        axes.text(
            x + 0.015,
            y - excess,
            text,
            color=color,
            transform=axes.transAxes,
            va="center",
            fontsize=8.5,
        )


def legend(
    figure: Figure, axes: Axes | None = None, handles: Sequence[Artist] = (), **options: Any
) -> None:
    """Put the labels of `axes`, or those of `handles`, above the figure.

    There are as many columns as fit, and longer labels are broken into lines. The figure becomes
    higher by all rows but the first.
    """
    if axes is not None:
        handles, labels = axes.get_legend_handles_labels()
    else:
        labels = [str(handle.get_label()) for handle in handles]
    if not handles:
        return
    if own := _VIEW.get().axes:
        own[0].legend(handles=handles, labels=labels)
        return
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    room = 0.98 * figure.bbox.width
    made, columns, letters = None, min(len(labels), 5), 0
    while made is None or made.get_window_extent(renderer).width > room:
        if made is not None:
            made.remove()
            if columns > 1:
                columns -= 1
            else:
                letters = int(0.8 * letters) if letters else max(map(len, labels))
                labels = [textwrap.fill(label, max(8, letters)) for label in labels]
        made = figure.legend(
            handles,
            labels,
            loc="outside upper left",
            ncols=columns,
            **{"handlelength": 1.6, "columnspacing": 1.6, **options},
        )
        if letters and letters <= 8:
            break
    line = 1.7 * FontProperties(size=mpl.rcParams["legend.fontsize"]).get_size_in_points() / 72
    higher = made.get_window_extent(renderer).height / figure.dpi - line
    if higher > 0.05:
        figure.set_figheight(figure.get_figheight() + higher)


def log_floor(values: NDArray[np.float64]) -> float | None:
    """Return the smallest positive finite value, or None if a log scale has nothing to show."""
    positive = values[np.isfinite(values) & (values > 0)]
    return float(positive.min()) if len(positive) else None


def log_axis(axes: Axes, low: float, high: float) -> None:
    """Make the vertical axis logarithmic from `low` to `high`.

    If there are few decades, ticks are at 1, 2 and 5.
    """
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    ticks_of(axes.yaxis, low, high)


def ticks_of(axis: Axis, low: float, high: float) -> None:
    """Put ticks of a logarithmic axis at 1, 2 and 5 if there are few decades.

    An axis of less than a decade has ticks at even distances, as a linear one.
    """
    if high / low < 10:
        axis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
        axis.set_minor_locator(NullLocator())
    elif high / low < 100:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_minor_locator(NullLocator())
    if high / low < 100 and low >= 1e-4 and high < 1e5:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    elif high / low < 100:
        every = (math.inf, math.inf)
        axis.set_major_formatter(LogFormatterSciNotation(minor_thresholds=every))


def whole_numbers() -> MaxNLocator:
    """Return a locator with ticks at whole numbers only."""
    return MaxNLocator(integer=True, nbins=7, steps=[1, 2, 5, 10])


def horizontal(axes: Axes, column: str, unit: Scale) -> None:
    """Label the horizontal axis. Rounds have ticks at whole numbers only."""
    axes.set_xlabel(unit.label)
    axes.margins(x=0.02)
    if column == "round":
        axes.xaxis.set_major_locator(whole_numbers())
        first, last = axes.dataLim.intervalx
        if first == last:
            axes.set_xlim(first - 1, last + 1)
