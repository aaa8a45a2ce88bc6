"""Learning curves: the return against rounds and against environment steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from p2pfrl.results.groups import Group
from p2pfrl.results.numbers import drawable
from p2pfrl.results.plots.style import (
    FAULTS,
    GRAY,
    INK,
    Drawing,
    chosen,
    colors,
    draw_curve,
    headroom,
    horizontal,
    legend,
    mark_faults,
    over_seeds,
    panels,
    rounds_in_words,
    unit_of,
    vertical,
)
from p2pfrl.results.record import Record


def learning_curves(groups: Sequence[Group]) -> Drawing | None:
    """Draw the mean return with its spread over agents and its confidence interval over seeds."""
    shown = [g for g in groups if g.has("round", "return_mean")]
    if not shown:
        return None
    columns = chosen(("round", "env_steps"))
    figure, every = panels(len(columns), size=(4.3, 3.1), sharey=True)
    for axes, column in zip(every, columns, strict=True):
        unit = unit_of(shown, column)
        for g, color in zip(shown, colors(shown), strict=True):
            if len(shown) == 1:
                _spread(axes, g, column, unit.divisor, color)
            draw_curve(
                axes,
                g.curve(column, "return_mean"),
                unit.divisor,
                color,
                _label(g, alone=len(shown) == 1),
            )
        if len(shown) == 1:
            _evaluations(axes, shown[0], column, unit.divisor)
        _target(axes, shown)
        marked = mark_faults(axes, shown, column, unit.divisor)
        horizontal(axes, column, unit)
    if marked:
        headroom(every[0])  # of all panels: they share the axis
    vertical(every, "return")
    legend(figure, every[0])
    return Drawing(figure, _caption(shown, columns) + (FAULTS if marked else ""))


def _label(g: Group, *, alone: bool) -> str:
    return "mean of agents" if alone else g.label


def _spread(axes: Axes, g: Group, column: str, divisor: float, color: str) -> None:
    """Draw the range over agents, and for one seed also the middle half."""
    low, high = g.curve(column, "return_min"), g.curve(column, "return_max")
    if len(low.x) and np.array_equal(low.x, high.x) and g.first.graph.n > 1:
        axes.fill_between(
            low.x / divisor,
            low.mean,
            high.mean,
            color=color,
            alpha=0.1,
            linewidth=0,
            label="all agents",
            zorder=1,
        )
    quartiles = _quartiles(g.first) if len(g.records) == 1 and g.first.graph.n > 3 else None
    if quartiles is not None:
        rounds, quarter, three = quartiles
        x = np.interp(rounds, g.first.metrics["round"], g.first.metrics[column])
        axes.fill_between(
            x / divisor,
            quarter,
            three,
            color=color,
            alpha=0.2,
            linewidth=0,
            label="middle half",
            zorder=2,
        )


def _quartiles(record: Record) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    rounds, returns = record.agents.get("round"), record.agents.get("return")
    if rounds is None or returns is None:
        return None
    returns = drawable(returns)
    keep = np.isfinite(returns)
    rounds, returns = rounds[keep], returns[keep]
    values, starts = np.unique(np.sort(rounds), return_index=True)
    if len(values) < 2:
        return None
    order = np.argsort(rounds, kind="stable")
    parts = np.split(returns[order], starts[1:])
    quarters = np.array([np.quantile(part, (0.25, 0.75)) for part in parts])
    return values, quarters[:, 0], quarters[:, 1]


def _evaluations(axes: Axes, g: Group, column: str, divisor: float) -> None:
    marks = (
        ("evaluation_own", "o", "evaluation, own parameters"),
        ("evaluation_mean_parameters", "D", "evaluation, mean parameters"),
    )
    for name, marker, label in marks:
        curve = g.curve(column, name)
        if not curve.is_empty:
            axes.plot(
                curve.x / divisor,
                curve.mean,
                linestyle="none",
                marker=marker,
                markersize=4.2 if marker == "D" else 6,
                markerfacecolor="white" if marker == "o" else INK,
                markeredgecolor=INK,
                markeredgewidth=0.9,
                label=label,
                zorder=4 if marker == "o" else 5,
            )


def _target(axes: Axes, groups: Sequence[Group]) -> None:
    for target in sorted({g.target for g in groups if g.target is not None}):
        axes.axhline(target, color=GRAY, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
        x, text = 0.01, f"target {target:g}"
        axes.text(
            x,
            target,
            text,
            transform=axes.get_yaxis_transform(),
            va="bottom",
            fontsize=7.5,
            color=GRAY,
        )


_AGAINST = {
    "round": "rounds",
    "env_steps": "the environment steps of all agents together",
    "bytes_sent": "the bytes sent by all",
    "virtual_seconds": "virtual time",
}


def _caption(groups: Sequence[Group], columns: Sequence[str]) -> str:
    seeds = max(len(g.records) for g in groups)
    has_rounds = rounds_in_words(groups) == "round"
    names = _AGAINST if has_rounds else {**_AGAINST, "round": "updates per agent"}
    against = " and against ".join(names[column] for column in columns)
    text = (
        "Undiscounted return: the mean over agents of each one's last 20 training episodes, against "
        f"{against}. "
    )
    if len(groups) == 1:
        text += "The pale band spans the worst and the best agent"
        text += (
            ", the darker one the middle half of the agents. "
            if seeds == 1
            else ", averaged over seeds. "
        )
    text += over_seeds(groups)
    if len(groups) == 1 and groups[0].has("round", "evaluation_own"):
        text += (
            "Marks are evaluations apart from training: of each agent's own parameters (circles) and of the "
            "average of all parameters (diamonds). Diamonds below circles mean that the agents disagree too much to "
            "be averaged. "
        )
    return text
