"""Privacy loss over the rounds of runs whose releases are accounted."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from p2pfrl.results.groups import Group
from p2pfrl.results.plots.style import (
    Drawing,
    colors,
    draw_curve,
    horizontal,
    legend,
    panels,
    unit_of,
    whole_numbers,
)


def epsilon(groups: Sequence[Group]) -> Drawing | None:
    """Draw the largest epsilon of an agent against rounds, with the budget."""
    shown = [g for g in groups if g.has("round", "epsilon")]
    if not shown:
        return None
    near = [g for g in shown if g.first.summary.get("privacy", {}).get("epsilon_at_distance")]
    figure, (axis, *rest) = panels(2 if near else 1, size=(4.2, 3.1))
    for g, color in zip(shown, colors(shown), strict=True):
        draw_curve(axis, g.curve("round", "epsilon"), 1.0, color, g.label)
        if (budget := g.first.summary.get("privacy", {}).get("budget")) is not None:
            axis.axhline(budget, color=color, linewidth=0.8, linestyle=":")
    horizontal(axis, "round", unit_of(shown, "round"))
    axis.set_ylabel("epsilon")
    axis.set_ylim(bottom=0.0)
    if len(shown) > 1:
        legend(figure, axis)
    for panel in rest:
        for g, color in zip(shown, colors(shown), strict=True):
            if g in near:
                _distances(panel, g, color)
    found = shown[0].first.summary.get("privacy", {})
    delta, unit, adjacency, guarantee, noise = (
        found.get(name) for name in ("delta", "unit", "adjacency", "guarantee", "noise")
    )
    return Drawing(
        figure,
        f"What the releases so far cost the agent that pays most: epsilon at delta = {delta:g}; dotted, its budget. "
        f"Unit: {unit}; adjacency: {adjacency}; {guarantee}; {noise}." + (_BESIDE if near else ""),
    )


_BESIDE = (
    " Right: what a single agent learns of another one at this distance, if it hears its neighbors alone, shares "
    "nothing, and changes do not depend on what was heard: a description beside the guarantee, which needs none of "
    "this."
)


def _distances(axis: Axes, g: Group, color: str) -> None:
    """Draw epsilon between pairs of agents against their distance."""
    found = g.first.summary["privacy"]
    values = found["epsilon_at_distance"][1:]
    axis.plot(range(1, len(values) + 1), values, color=color, marker="o", markersize=3)
    axis.set_xlabel("distance in the graph, hops")
    axis.set_ylabel(f"epsilon of one observer, {found['releases_of_distance']} releases")
    axis.set_ylim(bottom=0.0)
    axis.xaxis.set_major_locator(whole_numbers())
