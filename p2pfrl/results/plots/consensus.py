"""Consensus distance on a log scale, with the rate that theory predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes

from p2pfrl.results.groups import Curve, Group
from p2pfrl.results.numbers import scale
from p2pfrl.results.plots.style import (
    DASHES,
    GRAY,
    INK,
    Drawing,
    colors,
    draw_curve,
    horizontal,
    legend,
    log_axis,
    log_floor,
    over_seeds,
    panels,
)
from p2pfrl.results.record import Record

_NEGLIGIBLE = 1e-9  # below it one round of mixing removes all disagreement


def consensus_distance(groups: Sequence[Group]) -> Drawing | None:
    """Draw the consensus distance against rounds, virtual time and bytes, with the line lambda_2^t.

    The consensus distance is sqrt(mean_i ||theta_i - mean||^2).
    """
    shown = [
        replace(g, records=tuple(map(with_start, g.records)))
        for g in groups
        if g.has("round", "consensus_distance") and g.first.graph.n > 1
    ]
    if not shown:
        return None
    columns = [c for c in ("round", "virtual_seconds", "bytes_sent") if _range(shown, c) > 0] or [
        "round"
    ]
    figure, axes = panels(len(columns), size=(3.6, 3.1), sharey=True)
    values = np.concatenate([g.curve("round", "consensus_distance").mean for g in shown])
    floor = log_floor(values)
    for panel, column in zip(axes, columns, strict=True):
        unit = scale(column, _range(shown, column))
        for g, color in zip(shown, colors(shown), strict=True):
            curve = g.curve(column, "consensus_distance")
            if column == "bytes_sent" and not curve.x.any():
                continue
            draw_curve(
                panel,
                _positive(curve),
                unit.divisor,
                color,
                g.label if len(shown) > 1 else "measured",
            )
            if len(shown) == 1:
                _parts(panel, g, column, unit.divisor, color)
        horizontal(panel, column, unit)
    axes[0].set_ylabel("consensus distance")
    if floor is None:
        for panel, column in zip(axes, columns, strict=True):
            _agreed(panel, shown, column)
        return Drawing(
            figure,
            "Every agent held exactly the same parameters in every round: the consensus distance is zero.",
        )
    low, high = floor, float(np.nanmax(values))
    if high / low < 10:
        low, high = low / 3, high * 1.5
    for panel in axes:
        log_axis(panel, low / 2, high * 2)
    noted = False
    for panel, column in zip(axes, columns, strict=True):
        unit = scale(column, _range(shown, column))
        for g in shown:
            noted |= _prediction(panel, g, column, unit.divisor, floor=low / 2)
        _zeros(panel, shown, column, unit.divisor)
    legend(figure, axes[0])
    return Drawing(figure, _caption(shown, predicted=noted))


def with_start(record: Record) -> Record:
    """Return `record` with a row for round 0, if the summary has the distance at the start."""
    initial = record.summary.get("initial_consensus_distance")
    rounds = record.metrics["round"]
    if (
        not isinstance(initial, int | float)
        or not initial > 0
        or not len(rounds)
        or not rounds[0] > 0
    ):
        return record
    known = {"consensus_distance": float(initial)} | dict.fromkeys(
        ("round", "virtual_seconds", "bytes_sent"), 0.0
    )
    metrics = {
        name: np.insert(values, 0, known.get(name, np.nan))
        for name, values in record.metrics.items()
    }
    return replace(record, metrics=metrics)


def _range(groups: Sequence[Group], column: str) -> float:
    values = [r.metrics[column] for g in groups for r in g.records if r.has(column)]
    return max((float(np.nanmax(v)) for v in values), default=0.0)


def _positive(curve: Curve) -> Curve:
    keep = curve.mean > 0
    # An interval that reaches zero has no lower end on a log scale: the band then goes down to the
    # lowest seed.
    lowest = curve.runs.min(axis=0, initial=np.inf)
    low = np.where(curve.low > 0, curve.low, np.where(np.isnan(curve.low), np.nan, lowest))
    return Curve(
        curve.x,
        np.where(keep, curve.mean, np.nan),
        np.where(keep, low, np.nan),
        np.where(keep, curve.high, np.nan),
        np.where(curve.runs > 0, curve.runs, np.nan),
    )


def _parts(axes: Axes, g: Group, column: str, divisor: float, color: str) -> None:
    for part, dash in (("consensus_actor", (0, (1, 1.2))), ("consensus_critic", (0, (3, 1, 1, 1)))):
        curve = _positive(g.curve(column, part))
        if np.isfinite(curve.mean).any():
            label = part.removeprefix("consensus_")
            axes.plot(
                curve.x / divisor,
                curve.mean,
                color=color,
                linewidth=0.9,
                linestyle=dash,
                alpha=0.75,
                label=label,
            )


def prediction(record: Record) -> tuple[np.ndarray, np.ndarray] | None:
    """Return rounds and D_peak lambda_2^(round - peak), the distance that mixing alone would leave.

    `peak` is the round of the largest consensus distance D_peak.
    """
    rate = record.lambda_2
    if rate is None or not _NEGLIGIBLE < rate < 1 or not record.has("consensus_distance"):
        return None
    rounds, distance = record.metrics["round"], record.metrics["consensus_distance"]
    keep = np.isfinite(rounds) & np.isfinite(distance)
    rounds, distance = rounds[keep], distance[keep]
    peak = int(np.argmax(distance))
    if distance[peak] <= 0 or peak == len(rounds) - 1:
        return None
    after = rounds[peak:]
    return after, distance[peak] * rate ** (after - after[0])


def _prediction(axes: Axes, g: Group, column: str, divisor: float, *, floor: float) -> bool:
    predicted = prediction(g.first)
    if predicted is None:
        return False
    rounds, values = predicted
    metrics = g.first.metrics
    x = np.interp(rounds, metrics["round"], metrics[column]) / divisor
    label = f"mixing alone, λ₂ = {g.first.lambda_2:.4g}"
    (line,) = axes.plot(
        x,
        np.where(values >= floor, values, np.nan),
        color=INK,
        linewidth=1.1,
        label=label,
        zorder=4,
    )
    line.set_dashes(DASHES)
    return True


def _zeros(axes: Axes, groups: Sequence[Group], column: str, divisor: float) -> None:
    """Mark rounds of exact agreement, which a log scale cannot show.

    Groups that agree in every round are named.
    """
    always = []
    label: str | None = "exactly 0"
    for g, color in zip(groups, colors(groups), strict=True):
        curve = g.curve(column, "consensus_distance")
        zeros = curve.x[curve.mean == 0] / divisor
        if len(zeros) == len(curve.x):
            always.append((f"{g.label}: exactly 0", color))
        elif len(zeros):
            bottom = np.full(len(zeros), 0.02)
            axes.plot(
                zeros,
                bottom,
                "v",
                transform=axes.get_xaxis_transform(),
                markersize=4,
                color=color,
                label=label,
            )
            label = None
    for line, (text, color) in enumerate(always):
        height = 0.03 + 0.07 * line
        axes.text(
            0.98, height, text, transform=axes.transAxes, ha="right", fontsize=7.5, color=color
        )


def _agreed(axes: Axes, groups: Sequence[Group], column: str) -> None:
    unit = scale(column, _range(groups, column))
    for g, color in zip(groups, colors(groups), strict=True):
        draw_curve(axes, g.curve(column, "consensus_distance"), unit.divisor, color)
    axes.set_ylim(-0.1, 1)
    axes.set_yticks([0])
    axes.text(
        0.5, 0.3, "exactly 0 in every round", transform=axes.transAxes, ha="center", color=GRAY
    )


def _caption(groups: Sequence[Group], *, predicted: bool) -> str:
    text = (
        "Root mean square distance of the agents' parameters from their average, after mixing, on a log scale: a "
        "straight line is exponential agreement. "
    )
    if predicted:
        text += (
            "Dashed: what mixing alone would leave of the largest disagreement, multiplied each round by λ₂, the "
            "second-largest modulus of an eigenvalue of the mixing matrix, in synchronous rounds. Pure consensus "
            "follows it; where training adds new disagreement each round, the measured line settles above. "
        )
    text += over_seeds(groups)
    rates = [g for g in groups if g.first.lambda_2 is not None and g.first.lambda_2 <= _NEGLIGIBLE]
    if rates:
        text += "λ₂ is 0 here: one round of mixing ends all disagreement, so no rate is drawn. "
    return text
