"""Adaptation curves: what newcomers reach after updates of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from p2pfrl.results.groups import Group
from p2pfrl.results.numbers import drawable
from p2pfrl.results.plots.style import (
    GRAY,
    INK,
    Drawing,
    colors,
    legend,
    panels,
    vertical,
    whole_numbers,
)
from p2pfrl.results.record import LEARNED, SCRATCH, Record

_BASELINE, _BEST = "baseline_", "optimum"


def adaptation(groups: Sequence[Group]) -> Drawing | None:
    """Draw the return of newcomers against their updates, from the learned model and from scratch.

    Lines are means over newcomers and seeds; with one group, bands are from the worst to the best
    newcomer.
    """
    shown = [g for g in groups if any(r.newcomers for r in g.records)]
    if not shown:
        return None
    figure, (axes,) = panels(1, size=(4.6, 3.1))
    several = len(shown) > 1
    for g, color in zip(shown, colors(shown), strict=True):
        for name, dashes in ((LEARNED, "-"), (SCRATCH, "--")):
            curves = _curves(g, name)
            if not np.isfinite(curves).any():
                continue
            x, mean = np.arange(len(curves)), _over(np.mean, curves)
            label = "from the learned model" if name == LEARNED else "from scratch"
            axes.plot(
                x,
                mean,
                dashes,
                color=color,
                marker="o",
                markersize=3.5,
                label=f"{g.label}, {label}" if several else label,
                zorder=3,
            )
            if not several:
                low, high = _over(np.min, curves), _over(np.max, curves)
                axes.fill_between(x, low, high, color=color, alpha=0.12, linewidth=0, zorder=1)
    for name, value in _levels(shown).items():
        is_best = name == _BEST
        axes.axhline(value, color=INK if is_best else GRAY, linewidth=0.9, linestyle=":", zorder=2)
        label = name.removeprefix(_BASELINE).replace("_", " ")
        axes.annotate(
            label,
            (1.0, value),
            xycoords=("axes fraction", "data"),
            fontsize=7,
            ha="right",
            va="bottom",
        )
    axes.set_xlabel("local updates of a newcomer")
    axes.xaxis.set_major_locator(whole_numbers())
    vertical([axes], "return of evaluation episodes")
    legend(figure, axes)
    band = "" if several else " Bands are from the worst to the best newcomer."
    return Drawing(
        figure,
        "Agents that took no part in the run, with physics of their own: mean returns with the learned "
        f"model and after local updates from it, and after as many updates from scratch.{band}",
    )


def _curves(group: Group, name: str) -> NDArray[np.float64]:
    """Return a column `(updates + 1, newcomers)` of all seeds, as far as all seeds go."""
    tables = [_table(record, name) for record in group.records if record.newcomers]
    rows = min(len(table) for table in tables)
    return np.concatenate([table[:rows] for table in tables], axis=1)


def _table(record: Record, name: str) -> NDArray[np.float64]:
    new = record.newcomers
    count = int(np.count_nonzero(new["update"] == new["update"][0]))
    values = drawable(new[name])
    return values[: len(values) - len(values) % count].reshape(-1, count)


def _over(
    reduce: Callable[[NDArray[np.float64]], np.floating], curves: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return a statistic of each row; nan where a row has no number."""
    rows = [row[np.isfinite(row)] for row in curves]
    return np.array([reduce(row) if len(row) else np.nan for row in rows], dtype=np.float64)


def _levels(groups: Sequence[Group]) -> dict[str, float]:
    """Return the mean return of each baseline and of the optimum, if there are any."""
    found: dict[str, list[NDArray[np.float64]]] = {}
    for record in (record for g in groups for record in g.records):
        for name, values in record.newcomers.items():
            if name == _BEST or name.startswith(_BASELINE):
                found.setdefault(name, []).append(drawable(values))
    means = {name: float(np.nanmean(np.concatenate(values))) for name, values in found.items()}
    return {name: value for name, value in means.items() if np.isfinite(value)}
