"""The last evaluation beside policies without learning, and beside the optimum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from p2pfrl.results.groups import Group, final_rows
from p2pfrl.results.numbers import drawable
from p2pfrl.results.plots.data import belong
from p2pfrl.results.plots.style import GRAY, INK, Drawing, colors, panels, vertical
from p2pfrl.results.record import EVALUATION

_OWN, _BEST = f"{EVALUATION}own", f"{EVALUATION}optimum"
_DOTS = 64  # maximum number of dots of a bar


def beside(groups: Sequence[Group]) -> Drawing | None:
    """Draw one bar per policy: learned ones, baselines, and the optimum; one dot per agent."""
    learned = [(g, _dots(g, _OWN)) for g in groups]
    names = dict.fromkeys(
        name
        for g in groups
        for rows in map(final_rows, g.records)
        for name in rows
        if name.startswith(EVALUATION) and name not in (_OWN, _BEST)
    )
    shades = dict(zip((g.label for g in groups), colors(groups), strict=True))
    bars = [(g.label, shades[g.label], dots) for g, dots in learned if dots.size]
    if not bars:
        return None
    for name in names:
        found = np.concatenate([_dots(g, name) for g in groups], axis=1)
        bars.append((name.removeprefix(EVALUATION).replace("_", " "), GRAY, found))
    best = np.concatenate([_dots(g, _BEST) for g in groups], axis=1)
    if best.size:
        bars.append(("optimum", INK, best))
    if len(bars) == len([dots for _, dots in learned if dots.size]):
        return None
    figure, (axes,) = panels(1, size=(max(3.6, 0.85 * len(bars) + 1.2), 3.1))
    for place, (_, color, (values, agents)) in enumerate(bars):
        mean = float(values.mean())
        axes.bar(place, mean, width=0.62, color=color, alpha=0.35, zorder=2)
        axes.hlines(mean, place - 0.31, place + 0.31, color=color, linewidth=1.7, zorder=3)
        few = np.linspace(0, len(values) - 1, min(len(values), _DOTS)).astype(int)
        order = np.argsort(values, kind="stable")[few]
        x = place + np.linspace(-0.2, 0.2, len(order)) if len(order) > 1 else np.array([place])
        dots = axes.scatter(x, values[order], s=11, color=color, linewidths=0, alpha=0.8, zorder=4)
        belong(dots, agents[order].astype(int).tolist())
    axes.set_xticks(range(len(bars)), [_broken(label) for label, _, _ in bars], fontsize=7.5)
    axes.axhline(0.0, color=INK, linewidth=0.7)
    low = min(float(dots[0].min()) for _, _, dots in bars)
    high = max(float(dots[0].max()) for _, _, dots in bars)
    axes.set_ylim(min(0.0, low) - 0.05 * (high - low), max(0.0, high) + 0.05 * (high - low))
    vertical([axes], "return of evaluation episodes")
    return Drawing(
        figure,
        "The last evaluation. Bars are means over agents, dots are agents in order of their return. Gray "
        "policies do not learn; they play the same episodes, and may see more than agents observe. "
        "The optimum is the expected return of the best policy, where it can be computed.",
    )


def _dots(group: Group, name: str) -> NDArray[np.float64]:
    """Return a column of the last rows of all agents and seeds, and whose they are, `(2, k)`.

    What is not there is left out.
    """
    found = [
        np.array([drawable(rows[name]), rows["agent"]])
        for rows in map(final_rows, group.records)
        if name in rows
    ]
    dots = np.concatenate(found, axis=1) if found else np.empty((2, 0))
    return dots[:, np.isfinite(dots[0])]


def _broken(label: str) -> str:
    return label.replace(" · ", "\n").replace(" ", "\n", 2)
