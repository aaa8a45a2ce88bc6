"""Return of heterogeneous agents against the physics of their environments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from p2pfrl.results.groups import Group, final_rows, varied
from p2pfrl.results.numbers import drawable
from p2pfrl.results.plots.data import belong
from p2pfrl.results.plots.style import Drawing, colors, legend, panels, vertical
from p2pfrl.results.record import PHYSICS

_PANELS = 4


def return_by_physics(groups: Sequence[Group]) -> Drawing | None:
    """Draw one dot per agent and seed: final return against each physics in which agents differ."""
    columns = varied(groups[0].first)[:_PANELS]
    if not columns or not groups[0].has("round", "return_mean"):
        return None
    figure, axes = panels(len(columns), size=(3.9, 3.1), sharey=True)
    for panel, column in zip(axes, columns, strict=True):
        for g, color in zip(groups, colors(groups), strict=True):
            rows = [r for r in map(final_rows, g.records) if column in r]
            if not rows:
                continue
            x = drawable(np.concatenate([r[column] for r in rows]))
            y = drawable(np.concatenate([r["return"] for r in rows]))
            size = 34 if len(x) <= 40 else 14
            dots = panel.scatter(
                x,
                y,
                s=size,
                color=color,
                alpha=0.8,
                linewidths=0.6,
                edgecolors="white",
                label=g.label,
                zorder=3,
                rasterized=len(x) > 2000,
            )
            belong(dots, np.concatenate([r["agent"] for r in rows]).tolist())
        panel.set_xlabel(column.removeprefix(PHYSICS).replace("_", " "))
        panel.margins(0.06)
    vertical(axes, "final return")
    if len(groups) > 1:
        legend(figure, axes[0])
    return Drawing(
        figure,
        "One dot per agent and seed: its final return against the physics of its own environment. A level cloud "
        "means that the parameters serve everyone alike; a slope shows whom averaging favors.",
    )
