"""Suspicion of agents over the rounds of a run with a robust rule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from p2pfrl.results.groups import Group
from p2pfrl.results.plots.data import belong
from p2pfrl.results.plots.style import Drawing, panels, unit_of, whole_numbers
from p2pfrl.results.suspects import ALARM

_MOST = 64
"""Agents that have a row each; of more, the most suspected ones are drawn."""


def suspicion(groups: Sequence[Group]) -> Drawing | None:
    """Draw one row per agent: how far its vectors were from what the robust rules chose."""
    agents = groups[0].first.agents
    if "suspicion" not in agents or not np.isfinite(agents["suspicion"]).any():
        return None
    ids, rounds = np.unique(agents["agent"]), np.unique(agents["round"])
    table = np.full((len(ids), len(rounds)), np.nan)
    rows = np.searchsorted(ids, agents["agent"])
    table[rows, np.searchsorted(rounds, agents["round"])] = agents["suspicion"]
    drawn = np.arange(len(ids))
    if len(ids) > _MOST:
        typical = np.nan_to_num([np.nanmean(row) if np.isfinite(row).any() else 0 for row in table])
        drawn = np.sort(np.argsort(-typical, kind="stable")[:_MOST])
    figure, (axis,) = panels(1, size=(6.4, min(6.0, 1.6 + 0.12 * len(drawn))))
    first, last = float(rounds[0]), float(rounds[-1])
    image = axis.imshow(
        table[drawn],
        aspect="auto",
        interpolation="nearest",
        cmap="magma_r",
        vmin=0.0,
        vmax=2.0 * ALARM,
        extent=(first - 0.5, last + 0.5, len(drawn) - 0.5, -0.5),
    )
    belong(image, ids[drawn].tolist())
    step = max(1, -(-len(drawn) // 16))
    axis.set_yticks(range(0, len(drawn), step), [str(ids[i]) for i in drawn[::step]])
    liars = ids[drawn[::step]]
    named = agents["byzantine"] > 0 if "byzantine" in agents else np.zeros(len(rows), dtype=bool)
    known = np.unique(agents["agent"][named])
    for label, agent in zip(axis.get_yticklabels(), liars, strict=True):
        if agent in known:
            label.set_color("crimson")
    axis.set_xlabel(unit_of(groups[:1], "round").label)
    axis.xaxis.set_major_locator(whole_numbers())
    axis.set_ylabel("agent")
    axis.grid(visible=False)
    bar = figure.colorbar(image, ax=axis, extend="max")
    bar.set_label("suspicion")
    bar.ax.axhline(ALARM, color="white", linewidth=1.2)
    left_out = f" The {_MOST} most suspected of {len(ids)} agents." if len(ids) > _MOST else ""
    return Drawing(
        figure,
        "How far each agent's vector was from what the robust rule chose, in units of the median distance of that "
        f"round; the median over all who judged it.{left_out} Honest agents are near 1. A round above {ALARM:g} (line "
        "in the scale) counts as an alarm. Byzantine agents have red numbers.",
    )
