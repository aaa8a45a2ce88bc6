"""Predicted and measured round times in one figure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from p2pfrl.results.numbers import duration, scale
from p2pfrl.results.plots.style import GRAY, PALETTE, Drawing, horizontal, legend, panels


def prediction(
    real: Mapping[int, NDArray[np.float64]],
    predicted: NDArray[np.float64],
    *,
    was: float,
    said: float,
) -> Drawing:
    """Draw the seconds of every round: one after the other, and as cumulative shares.

    Args:
        real: agent -> seconds of each of its rounds.
        predicted: seconds of every round in the simulator.
        was: typical seconds of a measured round.
        said: typical seconds of a predicted round.
    """
    everyone = np.concatenate([real[agent] for agent in sorted(real)])
    unit = scale("virtual_seconds", float(np.median(everyone)))
    figure, (rounds, shares) = panels(2, size=(3.9, 3.0))
    for position, agent in enumerate(sorted(real)):
        values = real[agent] / unit.divisor
        label = "real, every agent" if position == 0 else None
        rounds.plot(
            np.arange(1, len(values) + 1), values, ".", color=GRAY, markersize=2.5, label=label
        )
    model = predicted / unit.divisor
    rounds.plot(
        np.arange(1, len(model) + 1), model, color=PALETTE[1], linewidth=1.0, label="predicted"
    )
    horizontal(rounds, "round", scale("round", float(len(model))))
    time = unit.label.replace("virtual time", "time of a round")
    rounds.set_ylabel(time)
    rounds.set_ylim(
        0, 1.5 * float(np.quantile(np.concatenate([everyone, predicted]), 0.98)) / unit.divisor
    )
    for values, color in ((everyone / unit.divisor, GRAY), (model, PALETTE[1])):
        shares.plot(np.sort(values), np.arange(1, len(values) + 1) / len(values), color=color)
    shares.set_xlabel(time)
    shares.set_xlim(rounds.get_ylim())
    shares.set_ylabel("share of rounds, cumulative")
    legend(figure, rounds)
    return Drawing(
        figure,
        f"A round took {duration(was)} (median over agents and windows of ten rounds); the calibrated simulator"
        f" predicts {duration(said)}, {abs(said / was - 1):.1%} {'more' if said > was else 'less'}.",
    )
