"""The last evaluation beside policies without learning, and beside the optimum."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from p2pfrl.results.groups import Group, final_rows
from p2pfrl.results.numbers import drawable
from p2pfrl.results.plots.style import GRAY, INK, Drawing, colors, panels, vertical
from p2pfrl.results.record import EVALUATION

_OWN, _BEST = f"{EVALUATION}own", f"{EVALUATION}optimum"
_DOTS = 64  # maximum number of dots of a bar


def beside(groups: Sequence[Group]) -> Drawing | None:
    """Draw one bar per policy: learned ones, baselines, and the optimum; one dot per agent."""
    learned = [(g, _values(g, _OWN)) for g in groups]
    names = dict.fromkeys(
        name
        for g in groups
        for rows in map(final_rows, g.records)
        for name in rows
        if name.startswith(EVALUATION) and name not in (_OWN, _BEST)
    )
    shades = dict(zip((g.label for g in groups), colors(groups), strict=True))
    bars = [(g.label, shades[g.label], values) for g, values in learned if len(values)]
    if not bars:
        return None
    for name in names:
        values = np.concatenate([_values(g, name) for g in groups])
        bars.append((name.removeprefix(EVALUATION).replace("_", " "), GRAY, values))
    best = np.concatenate([_values(g, _BEST) for g in groups])
    if len(best):
        bars.append(("optimum", INK, best))
    if len(bars) == len([v for _, v in learned if len(v)]):
        return None
    figure, (axes,) = panels(1, size=(max(3.6, 0.85 * len(bars) + 1.2), 3.1))
    for place, (_, color, values) in enumerate(bars):
        mean = float(values.mean())
        axes.bar(place, mean, width=0.62, color=color, alpha=0.35, zorder=2)
        axes.hlines(mean, place - 0.31, place + 0.31, color=color, linewidth=1.7, zorder=3)
        dots = np.sort(values)[np.linspace(0, len(values) - 1, min(len(values), _DOTS)).astype(int)]
        x = place + np.linspace(-0.2, 0.2, len(dots)) if len(dots) > 1 else np.array([place])
        axes.scatter(x, dots, s=11, color=color, linewidths=0, alpha=0.8, zorder=4)
    axes.set_xticks(range(len(bars)), [_broken(label) for label, _, _ in bars], fontsize=7.5)
    axes.axhline(0.0, color=INK, linewidth=0.7)
    low = min(float(values.min()) for _, _, values in bars)
    high = max(float(values.max()) for _, _, values in bars)
    axes.set_ylim(min(0.0, low) - 0.05 * (high - low), max(0.0, high) + 0.05 * (high - low))
    vertical([axes], "return of evaluation episodes")
    return Drawing(
        figure,
        "The last evaluation. Bars are means over agents, dots are agents in order of their return. Gray "
        "policies do not learn; they play the same episodes, and may see more than agents observe. "
        "The optimum is the expected return of the best policy, where it can be computed.",
    )


def _values(group: Group, name: str) -> NDArray[np.float64]:
    """Return a column of the last rows of all agents and seeds, without what is not there."""
    found = [drawable(rows[name]) for rows in map(final_rows, group.records) if name in rows]
    values = np.concatenate(found) if found else np.empty(0)
    return values[np.isfinite(values)]


def _broken(label: str) -> str:
    return label.replace(" · ", "\n").replace(" ", "\n", 2)
