"""How runs of several groups rank: performance profiles, and what it took to reach the target."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from p2pfrl.results.aggregates import bootstrap, profile
from p2pfrl.results.groups import Group
from p2pfrl.results.numbers import dig, drawable, scale
from p2pfrl.results.plots.style import Drawing, colors, legend, panels, whole_numbers
from p2pfrl.results.statistics import MIN_SEEDS

_SCORES = (
    ("final_return.mean", "final return, mean of agents", 1.0),
    ("final_error", "error at the end", -1.0),
)
_POINTS = 200  # thresholds of a profile
_TARGETS = (("rounds", "round"), ("bytes", "bytes_sent"), ("virtual_seconds", "virtual_seconds"))
"""Key of the summary, and the column that has its unit."""


def performance_profile(groups: Sequence[Group]) -> Drawing | None:
    """Draw the share of runs whose final return is above a threshold, against the threshold.

    It needs two groups and two runs of some. For a known optimum and no returns, it is the share
    of runs whose error is below the threshold.
    """
    found = next(
        (score for score in _SCORES if sum(len(_values(g, score[0])) > 0 for g in groups) > 1), None
    )
    if found is None:
        return None
    name, label, sign = found
    values = [sign * _values(g, name) for g in groups]
    shown = [(g, own) for g, own in zip(groups, values, strict=True) if len(own)]
    if max(len(own) for _, own in shown) < 2:
        return None
    every = np.concatenate([own for _, own in shown])
    span = float(np.ptp(every)) or 1.0
    thresholds = np.linspace(every.min() - 0.03 * span, every.max() + 0.03 * span, _POINTS)
    figure, (axes,) = panels(1, size=(4.6, 3.2))
    has_band = False
    for (g, own), color in zip(shown, colors([g for g, _ in shown]), strict=True):
        # The share changes at the values of runs only, so these are drawn exactly, as steps.
        steps = np.unique(np.concatenate([thresholds[[0, -1]], own]))
        axes.step(
            sign * steps, profile([own], steps), where="post", color=color, label=g.label, zorder=3
        )
        if len(own) >= MIN_SEEDS:
            low, high = bootstrap(lambda scores: profile(scores, thresholds), [own])
            axes.fill_between(
                sign * thresholds, low, high, color=color, alpha=0.15, linewidth=0, zorder=2
            )
            has_band = True
    axes.set_xlabel(label)
    axes.set_ylabel(f"share of runs {'above' if sign > 0 else 'below'}")
    axes.set_ylim(-0.03, 1.03)
    legend(figure, axes)
    text = (
        f"Performance profile: the share of runs whose {label.split(',')[0]} is "
        f"{'above' if sign > 0 else 'below'} the value on the horizontal axis. A curve that is higher "
        "everywhere is better at every level. "
    )
    if has_band:
        text += f"Bands are 95% stratified bootstrap intervals, from {MIN_SEEDS} runs on. "
    return Drawing(figure, text)


def _values(group: Group, name: str) -> NDArray[np.float64]:
    """Return the finite values of a key of the summary over the runs."""
    values = drawable([dig(r.summary, name) for r in group.records])
    return values[np.isfinite(values)]


def time_to_target(groups: Sequence[Group]) -> Drawing | None:
    """Draw rounds, bytes and virtual time until the target return, a dot per run and their mean.

    It needs two groups with a target.
    """
    shown = [g for g in groups if g.target is not None]
    found = {key: [_values(g, f"time_to_target.{key}") for g in shown] for key, _ in _TARGETS}
    if len(shown) < 2 or not any(len(own) for own in found["rounds"]):
        return None
    figure, axes = panels(3, size=(3.3, max(1.6, 0.7 + 0.34 * len(shown))), sharey=True)
    rows = np.arange(len(shown))[::-1]
    for panel, (key, column) in zip(axes, _TARGETS, strict=True):
        values = found[key]
        unit = scale(column, max(float(own.max(initial=0.0)) for own in values) or 1.0)
        for row, own, color in zip(rows, values, colors(shown), strict=True):
            if not len(own):
                continue
            x = own / unit.divisor
            panel.scatter(x, np.full(len(x), row), s=16, color=color, alpha=0.6, linewidths=0)
            panel.vlines(x.mean(), row - 0.3, row + 0.3, color=color, linewidth=1.7)
        word = key.replace("_seconds", "_time").replace("_", " ")
        _, opening, sign = unit.label.partition(" (")
        panel.set_xlabel(f"{word} to target{opening}{sign}")
        most = max((float(own.max(initial=0.0)) for own in values), default=0.0) / unit.divisor
        panel.set_xlim(0.0, 1.06 * most or 1.0)
        if key == "rounds" and unit.divisor == 1.0:
            panel.xaxis.set_major_locator(whole_numbers())
        panel.set_ylim(-0.6, len(shown) - 0.4)
        panel.grid(visible=False, axis="y")
    names = []
    for g, own in zip(shown, found["rounds"], strict=True):
        missed = len(g.records) - len(own)
        names.append(f"{g.label}\n({len(own)} of {len(g.records)} runs)" if missed else g.label)
    axes[0].set_yticks(rows, names)
    goals = sorted({g.target for g in shown if g.target is not None})
    return Drawing(
        figure,
        f"What it took until the mean return reached {', '.join(f'{goal:g}' for goal in goals)}: a dot per "
        "run that did, and their mean. A mean over some of the runs is over the fast ones.",
    )
