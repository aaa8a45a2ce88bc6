"""Results of a sweep against what was varied: a curve for one key, a heat map for two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from p2pfrl.results.groups import Group
from p2pfrl.results.numbers import dig, drawable, number
from p2pfrl.results.plots.style import INK, PALETTE, Drawing, color_bar, level, panels
from p2pfrl.results.statistics import MIN_SEEDS, Estimate, estimate


class _Measure(NamedTuple):
    name: str
    label: str
    colors: str


class _Shown(NamedTuple):
    measure: _Measure
    estimates: tuple[Estimate, ...]


_MEASURES = (
    _Measure("final_return.mean", "final return, mean of agents", "viridis"),
    _Measure("final_error", "error at the end", "viridis_r"),
    _Measure("time_to_target.rounds", "rounds to target", "viridis_r"),
)
"""Keys of the summary, labels, and color maps in which better is lighter."""
_FAMILIAR = ("mode", "name")
_DECADE = 9.99
"""Ratio of the largest value of a key to its smallest from which on its axis is logarithmic."""


def by_setting(groups: Sequence[Group]) -> Drawing | None:
    """Draw the final return against the one key in which groups differ, or as a map of two keys.

    Of runs without returns it is the error. Where runs have a target, a second panel shows the
    rounds until it. There is no figure of groups that differ in their mode or name alone, or in
    more keys, or of which some go by names that say something else.
    """
    keys = [*groups[0].settings]
    if any([*g.settings] != keys for g in groups):
        return None
    if len(groups) < 2 or not 1 <= len(keys) <= 2 or set(keys) <= set(_FAMILIAR):
        return None
    shown: list[_Shown] = []
    for measure in _MEASURES:
        estimates = tuple(_estimate(g, measure.name) for g in groups)
        is_second = measure.name == "final_error" and shown
        if not is_second and any(one.count for one in estimates):
            shown.append(_Shown(measure, estimates))
    if not shown:
        return None
    return _curves(groups, keys[0], shown) if len(keys) == 1 else _maps(groups, keys, shown)


def _estimate(group: Group, name: str) -> Estimate:
    return estimate(drawable([dig(r.summary, name) for r in group.records]))


def _curves(groups: Sequence[Group], key: str, shown: Sequence[_Shown]) -> Drawing:
    """Draw a dot with its interval per value of a key; numbers are joined by a line."""
    values = [g.settings[key] for g in groups]
    numbers = _numbers(values)
    figure, axes = panels(len(shown), size=(4.0, 3.1))
    for panel, (measure, estimates) in zip(axes, shown, strict=True):
        x = np.arange(len(values), dtype=np.float64) if numbers is None else numbers
        order = np.argsort(x, kind="stable")
        y, low, high = (
            np.array([getattr(one, part) for one in estimates])[order]
            for part in ("mean", "low", "high")
        )
        has_interval = np.isfinite(low)
        if numbers is not None:
            panel.plot(x[order], y, color=PALETTE[0], linewidth=1.2, zorder=2)
        panel.vlines(
            x[order][has_interval],
            low[has_interval],
            high[has_interval],
            color=PALETTE[0],
            linewidth=1.4,
            zorder=2,
        )
        panel.scatter(x[order], y, s=26, color=PALETTE[0], zorder=3)
        for group, place in zip(groups, x, strict=True):
            own = drawable([dig(r.summary, measure.name) for r in group.records])
            if np.isfinite(own).sum() > 1:
                panel.scatter(
                    np.full(len(own), place),
                    own,
                    s=7,
                    color=INK,
                    alpha=0.35,
                    linewidths=0,
                    zorder=1,
                )
        panel.set_xlabel(_short(key))
        panel.set_ylabel(measure.label)
        if numbers is None:
            panel.set_xticks(x, [_text(value) for value in values], rotation=20, ha="right")
            panel.set_xlim(-0.5, len(values) - 0.5)
        elif _is_wide(numbers):
            panel.set_xscale("log")
    text = f"Means over runs against {key}; small dots are single runs. "
    if any(np.isfinite(one.low) for _, own in shown for one in own):
        text += f"Bars are 95% intervals of the mean (Student's t), from {MIN_SEEDS} runs on. "
    return Drawing(figure, text + _missed(shown), f"Against {_short(key)}")


def _maps(groups: Sequence[Group], keys: Sequence[str], shown: Sequence[_Shown]) -> Drawing:
    """Draw a cell per pair of values, with its mean."""
    columns, rows = (_ordered([g.settings[key] for g in groups]) for key in keys)
    are_alike = _short(keys[0]) == _short(keys[1])
    short = {key: key if are_alike else _short(key) for key in keys}
    width = max(3.4, 0.62 * len(columns) + 1.6)
    figure, axes = panels(len(shown), size=(width, max(2.4, 0.4 * len(rows) + 1.3)))
    for panel, (measure, estimates) in zip(axes, shown, strict=True):
        cells = np.full((len(rows), len(columns)), np.nan)
        for g, one in zip(groups, estimates, strict=True):
            cells[
                rows.index(repr(g.settings[keys[1]])), columns.index(repr(g.settings[keys[0]]))
            ] = one.mean
        _map(figure, panel, cells, measure.colors)
        panel.set_title(measure.label)
        for axis, names, key in (("x", columns, keys[0]), ("y", rows, keys[1])):
            ticks = [_text(_of_repr(name, groups, key)) for name in names]
            getattr(panel, f"set_{axis}ticks")(range(len(names)), ticks)
            getattr(panel, f"set_{axis}label")(short[key])
    text = f"Means over runs at every pair of {keys[0]} and {keys[1]}; lighter is better. "
    return Drawing(figure, text + _missed(shown), " by ".join(short.values()))


def _map(figure: Figure, axes: Axes, cells: NDArray[np.float64], colors: str) -> None:
    cells = level(cells)
    image = axes.imshow(cells, cmap=colors, aspect="auto", origin="lower")
    axes.grid(visible=False)
    shades = image.to_rgba(cells) @ np.array([0.299, 0.587, 0.114, 0.0])
    for (row, column), value in np.ndenumerate(cells):
        axes.text(
            column,
            row,
            number(float(f"{value:.3g}")) if np.isfinite(value) else "-",
            ha="center",
            va="center",
            fontsize=7.5,
            color="white" if np.isfinite(value) and shades[row, column] < 0.5 else INK,
        )
    color_bar(figure, image, axes, cells)


def _missed(shown: Sequence[_Shown]) -> str:
    if all(measure is not _MEASURES[2] for measure, _ in shown):
        return ""
    return "Rounds to target are those of the runs that reached it."


def _ordered(values: Sequence[object]) -> list[str]:
    """Return the different values as they are written, numbers in ascending order."""
    numbers = _numbers(values)
    order = range(len(values)) if numbers is None else np.argsort(numbers, kind="stable").tolist()
    return [*dict.fromkeys(repr(values[i]) for i in order)]


def _of_repr(name: str, groups: Sequence[Group], key: str) -> object:
    return next(g.settings[key] for g in groups if repr(g.settings[key]) == name)


def _numbers(values: Sequence[object]) -> NDArray[np.float64] | None:
    """Return values as numbers, or None if one is no number."""
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return np.array(values, dtype=np.float64)
    return None


def _is_wide(numbers: NDArray[np.float64]) -> bool:
    return bool(numbers.min() > 0 and numbers.max() >= _DECADE * numbers.min())


def _short(key: str) -> str:
    return key.removesuffix(".kind").rpartition(".")[2].replace("_", " ")


def _text(value: object) -> str:
    return "not set" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
