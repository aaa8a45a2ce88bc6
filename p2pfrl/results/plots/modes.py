"""Modes side by side at equal rounds, virtual time and bytes, and problems with a known optimum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from p2pfrl.results.groups import Group
from p2pfrl.results.plots.style import (
    DASHES,
    FAULTS,
    Drawing,
    chosen,
    colors,
    draw_curve,
    horizontal,
    label_ends,
    legend,
    log_axis,
    mark_faults,
    over_seeds,
    panels,
    unit_of,
    vertical,
)

_COLUMNS = {
    "round": "equal rounds",
    "virtual_seconds": "equal virtual time",
    "bytes_sent": "equal bytes",
    "env_steps": "equal experience",
}
_SHOWN = ("round", "virtual_seconds", "bytes_sent")


_ROUNDING = 1e-6
"""Share of a value below which its changes are rounding, and drawn as a flat line."""


def modes(groups: Sequence[Group]) -> Drawing | None:
    """Draw one line per group, at equal rounds, equal virtual time and equal bytes."""
    for column, label, logarithmic in (
        ("return_mean", "return, mean of agents", False),
        ("error", "error", True),
    ):
        shown = [g for g in groups if g.has("round", column)]
        if len(shown) > 1:
            return _side_by_side(shown, column, label, logarithmic=logarithmic)
    return None


def _side_by_side(
    groups: Sequence[Group], column: str, label: str, *, logarithmic: bool
) -> Drawing:
    columns = chosen(_SHOWN)
    figure, axes = panels(len(columns), size=(3.6, 3.2), sharey=True)
    marked = False
    for panel, x in zip(axes, columns, strict=True):
        curves = [g.curve(x, column) for g in groups]
        ends = [float(c.x[-1]) for c in curves if len(c.x) and c.x[-1] > 0]
        unit = unit_of(groups, x)
        for g, curve, color in zip(groups, curves, colors(groups), strict=True):
            if curve.is_empty:
                continue
            if x == "bytes_sent" and curve.x[-1] == 0:
                _silent(panel, float(curve.mean[-1]), color, g.label)
            else:
                draw_curve(panel, curve, unit.divisor, color, g.label)
        if x != "round" and len(ends) > 1 and max(ends) > 1.5 * min(ends):
            panel.axvline(min(ends) / unit.divisor, color="#bbbbbb", linewidth=0.8, zorder=0)
        if x == "virtual_seconds":
            marked = mark_faults(panel, groups, x, unit.divisor)
        horizontal(panel, x, unit)
        panel.set_title(_COLUMNS[x])
    values = np.concatenate([g.curve("round", column).mean for g in groups])
    if logarithmic and values.min() > 0:
        log_axis(axes[0], float(values.min()) / 1.3, float(values.max()) * 1.3)
    vertical(axes, label)
    legend(figure, axes[0])
    kind = kind_of(groups)
    subject = "Scenarios" if kind == "scenario" else f"The same scenario in each {kind}"
    text = (
        f"{subject}. Compare heights along one vertical line: at equal rounds, at equal virtual "
        "time (compute, latency and bandwidth included), and at equal bytes sent by all agents and the coordinator "
        "together. A gray vertical marks where the first of them ended. A "
        f"{kind} that sends nothing is a dashed level: the value it ends at for free."
    )
    caption = f"{text} {over_seeds(groups)}{FAULTS if marked else ''}".strip()
    return Drawing(figure, caption, f"{kind.capitalize()}s side by side")


def kind_of(groups: Sequence[Group]) -> str:
    """Return what every group is one of: a "mode", a "setting" or a "scenario"."""
    if len({g.first.name for g in groups}) > 1:
        return "scenario"
    return "mode" if len({g.mode for g in groups}) == len(groups) else "setting"


def _silent(axes: Axes, value: float, color: str, label: str) -> None:
    axes.axhline(value, color=color, linewidth=1.3, dashes=DASHES, zorder=2)
    axes.annotate(
        f"{label}: sends nothing",
        (0.02, value),  # on the left, where learning curves are low and leave space
        (0, 3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="left",
        fontsize=7.5,
        color=color,
    )


def problem(groups: Sequence[Group]) -> Drawing | None:
    """Draw the error and the objective of a problem whose optimum is known."""
    error = str(groups[0].first.summary.get("error_is", "distance to the optimum (RMS)"))
    views = [
        (column, label)
        for column, label in (("error", error), ("objective", "objective at the average"))
        if any(g.has("round", column) for g in groups)
    ]
    if not views:
        return None
    figure, axes = panels(len(views), size=(4.3, 3.1))
    for panel, (column, label) in zip(axes, views, strict=True):
        shown = [g for g in groups if g.has("round", column)]
        ends = []
        for g, color in zip(shown, colors(shown), strict=True):
            curve = g.curve("round", column)
            draw_curve(panel, curve, 1.0, color, g.label)
            ends.append((float(curve.x[-1]), float(curve.mean[-1]), f"{curve.mean[-1]:.3g}", color))
        values = np.concatenate([g.curve("round", column).mean for g in shown])
        if (values > 0).all() and values.max() > 10 * values.min():
            log_axis(panel, float(values.min()) / 1.3, float(values.max()) * 1.3)
        elif np.ptp(values) <= _ROUNDING * np.abs(values).max():
            middle = float(values.mean())
            room = 0.05 * abs(middle) or 1.0
            panel.set_ylim(middle - room, middle + room)
        horizontal(panel, "round", unit_of(groups, "round"))
        panel.set_ylabel(label)
        label_ends(panel, ends)
    if len(groups) > 1:
        legend(figure, axes[0])
    return Drawing(
        figure,
        f"Left, error: {error}. It falls to a floor: the bias of local steps and disagreement, gradient noise, or what "
        "a common model cannot give to agents that differ. Right, the objective at the average of all parameters. "
        f"Numbers are final values. {over_seeds(groups)}".strip(),
    )
