"""All agents over time: a map of agents by rounds, and how evenly returns are spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from p2pfrl.results.fairness import fairness
from p2pfrl.results.groups import Group, is_agreed, is_one_model
from p2pfrl.results.numbers import drawable
from p2pfrl.results.plots.data import belong
from p2pfrl.results.plots.style import (
    FAULTS,
    Drawing,
    chosen,
    color_bar,
    colors,
    dots,
    draw_curve,
    headroom,
    horizontal,
    legend,
    level,
    mark_faults,
    over_seeds,
    panels,
    rounds_in_words,
    ticks_of,
    unit_of,
    whole_numbers,
)
from p2pfrl.results.record import Record

_ROWS, _COLUMNS = 256, 400  # of a map; more agents or rounds are averaged
_VIEWS = (
    ("return", "return", "viridis"),
    ("disagreement", "disagreement, log scale", "YlOrBr"),
)
"""Column of agents.csv, title, and color map."""


def agents_by_rounds(groups: Sequence[Group]) -> Drawing | None:
    """Draw a map of one run: a row per agent, a column per round, and its return as color.

    A second one has the distance of an agent's parameters from the average.
    """
    record = groups[0].first
    n = record.graph.n
    if n < 2 or "round" not in record.agents or len(np.unique(record.agents["round"])) < 2:
        return None
    views = []
    for column, title, shades in _VIEWS:
        if column not in record.agents:
            continue
        if column == "disagreement" and (is_one_model(record) or is_agreed(record)):
            continue
        values = drawable(record.agents[column])
        if column == "disagreement":
            values = np.where(values > 0, values, np.nan)
        if np.isfinite(values).any():
            cells, rounds = _cells(record, values, column == "disagreement")
            views.append((title, shades, level(cells), rounds))
    if not views:
        return None
    height = float(np.clip(1.2 + 0.12 * n, 2.2, 4.2))
    figure, axes = panels(len(views), size=(4.4, height))
    for panel, (title, shades, cells, rounds) in zip(axes, views, strict=True):
        image = panel.imshow(
            cells,
            norm="log" if "log" in title else "linear",
            cmap=shades,
            aspect="auto",
            interpolation="nearest",
            origin="lower",
            extent=(rounds[0], rounds[1], -0.5, n - 0.5),
        )
        if len(cells) == n:
            belong(image, range(n))
        panel.grid(visible=False)
        panel.set_xlabel(unit_of(groups[:1], "round").label)
        panel.xaxis.set_major_locator(whole_numbers())
        panel.yaxis.set_major_locator(whole_numbers())
        panel.set_ylabel("agent")
        panel.set_title(title)
        bar = color_bar(figure, image, panel, cells)
        if "log" in title and np.nanmin(cells) < np.nanmax(cells):
            ticks_of(bar.ax.yaxis, float(np.nanmin(cells)), float(np.nanmax(cells)))
    return Drawing(figure, _caption(groups[0], [title for title, *_ in views], views[0][2].shape))


def _cells(
    record: Record, values: NDArray[np.float64], logarithmic: bool
) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Return the mean of `values` per block of agents and rounds, and the first and last round."""
    n, rounds = record.graph.n, drawable(record.agents["round"])
    every = rounds[np.isfinite(rounds)]
    first, last = float(every.min()), float(every.max())
    known = np.isfinite(values) & np.isfinite(rounds)
    values, rounds, ids = values[known], rounds[known], record.agents["agent"][known]
    rows, columns = min(n, _ROWS), min(int(last - first) + 1, _COLUMNS)
    row = np.minimum(ids * rows // n, rows - 1).astype(np.int64)
    span = last - first + 1
    column = np.minimum(((rounds - first) * columns / span).astype(np.int64), columns - 1)
    place = row * columns + column
    weights = np.log(values) if logarithmic else values
    total = np.bincount(place, weights, rows * columns)
    count = np.bincount(place, minlength=rows * columns)
    with np.errstate(invalid="ignore"):
        means = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    cells = (np.exp(means) if logarithmic else means).reshape(rows, columns)
    # An asynchronous run has no row at some numbers of rounds: those before last until the next.
    has_rows = np.zeros(columns, dtype=np.bool_)
    has_rows[np.minimum(((every - first) * columns / span).astype(np.int64), columns - 1)] = True
    shown = np.maximum.accumulate(np.where(has_rows, np.arange(columns), 0))
    return cells[:, shown], (first - 0.5, last + 0.5)


def _caption(group: Group, titles: Sequence[str], shape: tuple[int, ...]) -> str:
    record = group.first
    has_rounds = rounds_in_words([group]) == "round"
    what = "round" if has_rounds else "n updates of all n agents"
    text = f"A row per agent and a column per {what}; white is where an agent has no value. "
    if any("return" in title for title in titles):
        text += "The return is the mean of its last 20 training episodes. "
    if any("disagreement" in title for title in titles):
        text += "Disagreement is the distance of its parameters from the average of all. "
    known = np.unique(record.agents["round"])
    rounds = int(known[-1] - known[0]) + 1
    if len(known) < rounds:
        text += "Where a round has no row, the one before is shown. "
    averaged = [
        f"{-(-whole // shown)} {what}"
        for whole, shown, what in (
            (record.graph.n, shape[0], "agents"),
            (rounds, shape[1], "rounds"),
        )
        if whole > shown
    ]
    if averaged:
        text += f"A cell is the mean of up to {' and '.join(averaged)}. "
    return text + (f"Seed {record.seed} is shown." if len(group.records) > 1 else "")


def fairness_over_rounds(groups: Sequence[Group]) -> Drawing | None:
    """Draw the return of the worst decile of agents beside the mean, and Jain's index.

    It needs returns of at least two agents.
    """
    shown = [
        replace(g, records=tuple(map(_with_fairness, g.records)))
        for g in groups
        if g.first.graph.n > 1 and g.has("round", "return_mean")
    ]
    shown = [g for g in shown if g.has("round", "return_p10")]
    if not shown:
        return None
    (column,) = chosen(("round",))
    if column == "bytes_sent":
        shown = [g for g in shown if g.curve(column, "return_p10").x.any()]
        if not shown:
            return None
    has_index = any(g.has("round", "return_jain") for g in shown)
    figure, axes = panels(2 if has_index else 1, size=(4.3, 3.1))
    unit = unit_of(shown, column)
    for g, color in zip(shown, colors(shown), strict=True):
        name = "worst decile of agents" if len(shown) == 1 else f"{g.label}, worst decile"
        draw_curve(axes[0], g.curve(column, "return_p10"), unit.divisor, color, name)
        mean = g.curve(column, "return_mean")
        label = "mean of agents" if len(shown) == 1 else f"{g.label}, mean"
        axes[0].plot(
            mean.x / unit.divisor,
            mean.mean,
            color=color,
            linewidth=0.9,
            linestyle=(0, (3, 1.5)),
            label=label,
            **dots(mean.mean, 3),
        )
        if has_index:
            draw_curve(axes[1], g.curve(column, "return_jain"), unit.divisor, color)
            for line in axes[1].lines:  # an index of 1 lies on the border
                line.set_clip_on(False)
    axes[0].set_ylabel("return")
    if has_index:
        axes[1].set_ylabel("Jain's index of returns")
        axes[1].set_ylim(top=1.0)
    for panel in axes:
        marked = mark_faults(panel, shown, column, unit.divisor)
        if marked:
            headroom(panel)
        horizontal(panel, column, unit)
    legend(figure, axes[0])
    text = "How evenly agents learn. Left, the 10th percentile of the agents' returns, and dashed their mean. "
    if has_index:
        text += "Right, Jain's index, 1 if all have the same return and 1/n if one agent has all. "
    return Drawing(figure, text + over_seeds(shown) + (FAULTS if marked else ""))


def _with_fairness(record: Record) -> Record:
    """Return the record with two columns: 10th percentile and Jain's index of returns per round."""
    rounds = record.metrics.get("round", np.empty(0))
    columns = {name: np.full(len(rounds), np.nan) for name in ("p10", "jain")}
    if {"round", "return"} <= record.agents.keys():
        own = record.agents["round"]
        order = np.argsort(own, kind="stable")
        values = drawable(record.agents["return"])[order]
        starts = np.searchsorted(own[order], rounds, side="left")
        ends = np.searchsorted(own[order], rounds, side="right")
        for place, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            found = fairness(values[start:end])
            for name, column in columns.items():
                value = found[name]
                column[place] = np.nan if value is None else value
    more = {f"return_{name}": column for name, column in columns.items()}
    return replace(record, metrics={**record.metrics, **more})
