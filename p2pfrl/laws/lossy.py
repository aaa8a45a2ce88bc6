"""Laws of lost messages: symmetric losses keep the mean, one-sided losses move it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from p2pfrl.laws.base import Figure, Law, at_most, near
from p2pfrl.laws.runs import FLAT, Array, play

LOSS, ROUNDS = 0.2, 50


def drifts(on_loss: str, seeds: int) -> Array:
    """Return the final drift of the mean of 16 ring agents, RMS over coordinates, per seed."""
    out = []
    for seed in range(seeds):
        run = play(
            16, ROUNDS, seed=seed, learner=FLAT, network={"loss": LOSS}, mixing={"on_loss": on_loss}
        )
        dropped = run.summary["messages_dropped"] / run.summary["messages_sent"]
        assert abs(dropped - LOSS) < 0.15 * LOSS, dropped
        assert (
            run.metrics["consensus_distance"][-1] < 0.2 * run.summary["initial_consensus_distance"]
        )
        out.append(run.summary["mean_drift"] / 8**0.5)
    return np.array(out)


def _drift() -> Iterator[Figure]:
    yield at_most(
        "ring of 16, 20% loss, symmetric: largest drift of the mean",
        1e-12,
        float(drifts("symmetric", 2).max()),
    )
    rms = float(np.sqrt(np.mean(drifts("renormalize", 8) ** 2)))
    yield near("ring of 16, 20% loss, renormalize: rms drift of the mean", 0.086, rms, 0.03)


LAWS = (
    Law(
        "loss_drift",
        "lost messages move the mean, unless they are lost in both directions of an edge",
        "computed",
        _drift,
    ),
)
