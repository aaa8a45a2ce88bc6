"""Laws of plain averaging: how fast a graph agrees, and exactly on which value."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from p2pfrl.bench.laws.base import Figure, Law, at_most, near
from p2pfrl.bench.laws.runs import FLAT, play, slope, start

_RATES = {"ring": {16: 0.949253, 8: 0.804738}, "star": {16: 0.9375}, "torus": {16: 0.6}, "hypercube": {16: 0.6}}


def _spectral() -> Iterator[Figure]:
    for kind, sizes in _RATES.items():
        for agents, rate in sizes.items():
            record = play(agents, 60, learner=FLAT, topology={"kind": kind})
            yield near(f"{kind} of {agents}: factor per round", rate, slope(record, 30), 1e-4)


def _one_peer() -> Iterator[Figure]:
    for agents, rounds in ((8, 3), (16, 4)):
        record = play(
            agents, rounds, learner=FLAT, topology={"kind": "one_peer_exponential"}, mixing={"kind": "uniform"}
        )
        mean = start(record, 1).mean(axis=0)
        error = float(np.abs(record.parameters - mean).max())
        yield at_most(f"n = {agents}: largest distance to the mean after {rounds} rounds", 2e-15, error)


LAWS = (
    Law(
        "spectral",
        "consensus distance shrinks by the second eigenvalue of the mixing matrix",
        "Xiao, Boyd, Systems & Control Letters 53, 2004",
        _spectral,
    ),
    Law(
        "one_peer_exponential",
        "one peer per round on n = 2^k agents averages exactly after k rounds",
        "Ying et al., NeurIPS 2021, arXiv 2110.13363",
        _one_peer,
    ),
)
