"""Style of figures: colors, sizes, units and labels.

Colors are those of Okabe and Ito (2008), which are distinct with any color vision. Every mode has
one color in all figures. Figures are explicit objects; pyplot and its global state are not used.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from p2pfrl.results.groups import Curve, Group
from p2pfrl.results.numbers import Scale
from p2pfrl.results.statistics import MIN_SEEDS

if TYPE_CHECKING:
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
PANEL = (3.5, 2.9)  # inches
DASHES = (4.0, 2.2)

_STYLE: dict[RcKeyType, Any] = {
    "figure.facecolor": "white",
    "figure.dpi": 100,
    "savefig.dpi": 170,
    "font.family": "DejaVu Sans",
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
    "svg.fonttype": "path",
    "path.simplify": True,
}


@dataclass(frozen=True)
class Drawing:
    """A finished figure and its caption."""

    figure: Figure
    caption: str


@contextmanager
def style() -> Iterator[None]:
    """Apply the style to all figures drawn and rendered inside the context."""
    with mpl.rc_context(_STYLE):
        yield


def panels(
    columns: int, rows: int = 1, size: tuple[float, float] = PANEL, *, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """Return a figure and its axes, row by row.

    `size` is the width and height of one panel in inches.
    """
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=sharey)
    return figure, [axes for row in grid for axes in row]


def render(figure: Figure, kind: str) -> bytes:
    """Return the figure as "svg" or "png". Equal figures give equal bytes."""
    out = io.BytesIO()
    # The name shows later that the file is ours and may be replaced.
    metadata = {"svg": {"Date": None, "Creator": "p2pfrl"}, "png": {"Software": "p2pfrl"}}[kind]
    figure.savefig(out, format=kind, metadata=metadata)
    return out.getvalue()


def colors(groups: Sequence[Group]) -> list[str]:
    """Return a color per group: that of its mode if all modes differ, else from the palette."""
    modes = [g.mode for g in groups]
    if len(set(modes)) == len(modes) and all(mode in _COLORS for mode in modes):
        return [_COLORS[mode] for mode in modes]
    return [PALETTE[i % len(PALETTE)] for i in range(len(groups))]


def draw_curve(
    axes: Axes, curve: Curve, divisor: float, color: str, label: str | None = None
) -> None:
    """Draw a mean with its confidence band, or a dot if there is one point.

    Seeds that are too few for a band are drawn as thin lines.
    """
    x = curve.x / divisor
    axes.plot(
        x,
        curve.mean,
        color=color,
        label=label,
        marker="o" if len(x) == 1 else None,
        markersize=5,
        zorder=3,
    )
    if np.isfinite(curve.low).any():
        axes.fill_between(x, curve.low, curve.high, color=color, alpha=0.2, linewidth=0, zorder=2)
    elif len(curve.runs) > 1:
        axes.plot(x, curve.runs.T, color=color, alpha=0.45, linewidth=0.6, zorder=2)


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


def legend(figure: Figure, axes: Axes) -> None:
    """Put the labels of `axes` in one row above the figure."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles,
            labels,
            loc="outside upper left",
            ncols=min(len(labels), 5),
            handlelength=1.6,
            columnspacing=1.6,
        )


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
    if high / low < 100:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_locator(NullLocator())
    if high / low < 100 and low >= 1e-4 and high < 1e5:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def horizontal(axes: Axes, column: str, unit: Scale) -> None:
    """Label the horizontal axis. Rounds have ticks at whole numbers only."""
    axes.set_xlabel(unit.label)
    axes.margins(x=0.02)
    if column == "round":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7, steps=[1, 2, 5, 10]))
        first, last = axes.dataLim.intervalx
        if first == last:
            axes.set_xlim(first - 1, last + 1)
