"""Consensus distance on a log scale, with the rate that theory predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from p2pfrl.results.groups import Curve, Group, distances, is_agreed, is_one_model
from p2pfrl.results.numbers import Scale, drawable
from p2pfrl.results.plots.style import (
    DASHES,
    FAULTS,
    GRAY,
    INK,
    Drawing,
    chosen,
    colors,
    dots,
    draw_curve,
    horizontal,
    legend,
    log_axis,
    log_floor,
    mark_faults,
    over_seeds,
    panels,
    rounds_in_words,
    unit_of,
    vertical,
)
from p2pfrl.results.record import Record

_PARTS = {
    "consensus_actor": ((0, (1, 1.2)), "^"),
    "consensus_critic": ((0, (3, 1, 1, 1)), "s"),
}
"""Column of a part of the parameters, dashes of its line, and its marker."""
_EXACTLY, _ROUNDED = "exactly 0", "0 but for rounding"
_NEGLIGIBLE = 1e-9  # below it one round of mixing removes all disagreement


def consensus_distance(groups: Sequence[Group]) -> Drawing | None:
    """Draw the consensus distance against rounds, virtual time and bytes, with the line lambda_2^t.

    The consensus distance is sqrt(mean_i ||theta_i - mean||^2). Runs in which a coordinator gives
    every agent the same model have none. What floating-point numbers leave of it, where all agents
    have the same parameters throughout, is drawn as 0.
    """
    shown = [
        replace(g, records=tuple(_without_rounding(with_start(r)) for r in g.records))
        for g in groups
        if g.has("round", "consensus_distance")
        and g.first.graph.n > 1
        and not all(map(is_one_model, g.records))
    ]
    if not shown:
        return None
    known = chosen(("round", "virtual_seconds", "bytes_sent"))
    columns = [c for c in known if _range(shown, c) > 0]
    if columns == ["bytes_sent"]:
        shown = [g for g in shown if _range([g], "bytes_sent") > 0]
    if not columns and known != ("round",) and len(known) == 1:
        return None  # nothing was sent, and bytes were asked for
    columns = columns or ["round"]
    names = [g.label if len(groups) > 1 else "measured" for g in shown]
    figure, axes = panels(len(columns), size=(3.6, 3.1), sharey=True)
    zeros = {g.label: _zero(g) for g in groups if any(g.label == own.label for own in shown)}
    values = np.concatenate([g.curve("round", "consensus_distance").mean for g in shown])
    floor = log_floor(values)
    for panel, column in zip(axes, columns, strict=True):
        unit = unit_of(groups, column)
        for g, color, own in zip(shown, colors(shown), names, strict=True):
            curve = g.curve(column, "consensus_distance")
            if column == "bytes_sent" and not curve.x.any():
                continue
            draw_curve(
                panel,
                _positive(curve),
                unit.divisor,
                color,
                own,
            )
            if len(shown) == 1:
                prefix = f"{own}, " if len(groups) > 1 else ""
                _parts(panel, g, column, unit.divisor, color, prefix)
        horizontal(panel, column, unit)
    vertical(axes, "consensus distance")
    if floor is None:
        for panel, column in zip(axes, columns, strict=True):
            _agreed(panel, shown, column, unit_of(groups, column), zeros)
        if len(shown) > 1:
            legend(figure, axes[0])
        same = "exactly the same parameters in every round"
        if _ROUNDED in zeros.values():
            same = "the same parameters in every round, but for rounding"
        return Drawing(
            figure,
            f"Every agent held {same}: the consensus distance is zero. "
            + _not_drawn(groups, shown),
        )
    low, high = floor, float(np.nanmax(values))
    if high / low < 10:
        low, high = low / 3, high * 1.5
    for panel in axes:
        log_axis(panel, low / 2, high * 2)
    noted = marked = False
    for panel, column in zip(axes, columns, strict=True):
        unit = unit_of(groups, column)
        for g, color in zip(shown, colors(shown), strict=True):
            ink = color if len(shown) > 1 else INK
            name = f"{g.label}, mixing alone" if len(groups) > 1 else "mixing alone"
            noted |= _prediction(panel, g, column, unit.divisor, floor=low / 2, ink=ink, name=name)
        _zeros(panel, shown, column, unit.divisor, zeros)
        marked |= mark_faults(panel, shown, column, unit.divisor)
    legend(figure, axes[0])
    caption = _caption(shown, predicted=noted) + _not_drawn(groups, shown)
    return Drawing(figure, caption + (FAULTS if marked else ""))


def _not_drawn(groups: Sequence[Group], shown: Sequence[Group]) -> str:
    """Return the sentence of a caption about groups without a line, or "" if there is none."""
    drawn = {g.label for g in shown}
    reasons: dict[str, list[str]] = {}
    for g in groups:
        if g.label in drawn:
            continue
        reason = "nothing was measured"
        if all(map(is_one_model, g.records)):
            reason = "a coordinator keeps the parameters of all agents equal"
        elif g.first.graph.n < 2:
            reason = "there is one agent"
        reasons.setdefault(reason, []).append(g.label)
    return "".join(
        f"Not drawn: {', '.join(labels)}, where {reason}. " for reason, labels in reasons.items()
    )


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


def _without_rounding(record: Record) -> Record:
    """Return `record` with distances of 0 if rounding alone makes them differ from it."""
    if not is_agreed(record):
        return record
    zeros = {
        name: np.where(np.isfinite(drawable(values)), 0.0, np.nan)
        for name, values in record.metrics.items()
        if name in ("consensus_distance", *_PARTS)
    }
    return replace(record, metrics={**record.metrics, **zeros})


def _zero(g: Group) -> str:
    """Return the word for the distance of a group whose agents agree in every round."""
    return _ROUNDED if any(distances(record).any() for record in g.records) else _EXACTLY


def _range(groups: Sequence[Group], column: str) -> float:
    curves = [g.curve("round", column) for g in groups]
    return max((float(curve.mean.max()) for curve in curves if len(curve.x)), default=0.0)


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


def _parts(axes: Axes, g: Group, column: str, divisor: float, color: str, prefix: str) -> None:
    for part, (dash, marker) in _PARTS.items():
        curve = _positive(g.curve(column, part))
        if np.isfinite(curve.mean).any():
            label = prefix + part.removeprefix("consensus_")
            axes.plot(
                curve.x / divisor,
                curve.mean,
                color=color,
                linewidth=0.9,
                linestyle=dash,
                alpha=0.75,
                label=label,
                **dots(curve.mean, 4, marker),
            )


def prediction(
    rounds: NDArray[np.float64], distance: NDArray[np.float64], rate: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return rounds and D_peak rate^(round - peak), the distance that mixing alone would leave.

    `peak` is the round of the largest consensus distance D_peak. None if there is nothing after it,
    or if the rate predicts no line.
    """
    if not _NEGLIGIBLE < rate < 1 or not len(rounds):
        return None
    peak = int(np.argmax(distance))
    if distance[peak] <= 0 or peak == len(rounds) - 1:
        return None
    after = rounds[peak:]
    return after, distance[peak] * rate ** (after - after[0])


def _prediction(
    axes: Axes, g: Group, column: str, divisor: float, *, floor: float, ink: str, name: str
) -> bool:
    """Draw the prediction of a group: a line, or an area if seeds have different rates."""
    curve = g.curve("round", "consensus_distance")
    lines = [prediction(curve.x, curve.mean, rate) for rate in (g.rates[:1] + g.rates[-1:])]
    found = [line for line in lines if line is not None]
    if not found:
        return False
    progress = g.curve("round", column)
    x = np.interp(found[0][0], progress.x, progress.mean) / divisor
    # Below the panel a line goes on, out of sight, so that it does not end before its lower edge.
    low, high = (drawable(y) for _, y in (found[0], found[-1]))
    rates = f"λ₂ = {g.rates[0]:.4g}"
    if len(g.rates) == 1:
        (line,) = axes.plot(x, low, color=ink, linewidth=1.1, label=f"{name}, {rates}", zorder=4)
        line.set_dashes(DASHES)
        return True
    label = f"{name}, {rates} to {g.rates[-1]:.4g}"
    low, high = np.fmax(low, floor), np.fmax(high, floor)
    axes.fill_between(
        x, low, high, facecolor="none", edgecolor=ink, hatch="//////", linewidth=0.3, label=label
    )
    return True


def _zeros(
    axes: Axes, groups: Sequence[Group], column: str, divisor: float, words: Mapping[str, str]
) -> None:
    """Mark rounds of exact agreement, which a log scale cannot show.

    Groups that agree in every round are named, each with its word for zero.
    """
    always = []
    label: str | None = _EXACTLY
    for g, color in zip(groups, colors(groups), strict=True):
        curve = g.curve(column, "consensus_distance")
        zeros = curve.x[curve.mean == 0] / divisor
        if len(zeros) == len(curve.x):
            always.append((f"{g.label}: {words[g.label]}", color))
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


def _agreed(
    axes: Axes, groups: Sequence[Group], column: str, unit: Scale, words: Mapping[str, str]
) -> None:
    for g, color in zip(groups, colors(groups), strict=True):
        curve = g.curve(column, "consensus_distance")
        if column != "bytes_sent" or curve.x.any():
            draw_curve(axes, curve, unit.divisor, color)
    axes.set_ylim(-0.1, 1)
    axes.set_yticks([0])
    zero = _ROUNDED if _ROUNDED in words.values() else _EXACTLY
    axes.text(0.5, 0.3, f"{zero} in every round", transform=axes.transAxes, ha="center", color=GRAY)


def _caption(groups: Sequence[Group], *, predicted: bool) -> str:
    has_rounds = rounds_in_words(groups) == "round"
    when = "at the end of a round" if has_rounds else "after every n updates of all n agents"
    text = (
        f"Root mean square distance of the agents' parameters from their average {when}, on a log "
        "scale: a straight line is exponential agreement. "
    )
    if predicted and any(len(g.rates) > 1 for g in groups):
        text += "Hatched, from the smallest to the largest λ₂ of seeds whose graphs differ: what "
    elif predicted:
        text += "Dashed: what "
    if predicted:
        text += (
            "mixing alone would leave of the largest disagreement, multiplied each round by λ₂, the "
            "second-largest modulus of an eigenvalue of the mixing matrix, in synchronous rounds. Pure consensus "
            "follows it; where training adds new disagreement each round, the measured line settles above. "
            "A dashed line that leaves the panel at its lower edge is below every distance that was measured. "
        )
    text += over_seeds(groups)
    if any(g.rates and g.rates[-1] <= _NEGLIGIBLE for g in groups):
        text += "λ₂ is 0 here: one round of mixing ends all disagreement, so no rate is drawn. "
    return text
