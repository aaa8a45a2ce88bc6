"""Laws of plain averaging: the rate of a graph, and the exact value of consensus."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from p2pfrl.consensus.mixing.linear import Laplacian
from p2pfrl.core.graph import Graph
from p2pfrl.core.rule import rule
from p2pfrl.laws.base import Figure, Law, at_least, at_most, near
from p2pfrl.laws.runs import FLAT, play, slope, start

_RATES = {
    "ring": {16: 0.949253, 8: 0.804738},
    "star": {16: 0.9375},
    "torus": {16: 0.6},
    "hypercube": {16: 0.6},
}


def _spectral() -> Iterator[Figure]:
    for kind, sizes in _RATES.items():
        for agents, rate in sizes.items():
            record = play(agents, 60, learner=FLAT, topology={"kind": kind})
            yield near(f"{kind} of {agents}: factor per round", rate, slope(record, 30), 1e-4)


def _one_peer() -> Iterator[Figure]:
    for agents, rounds in ((8, 3), (16, 4)):
        record = play(
            agents,
            rounds,
            learner=FLAT,
            topology={"kind": "one_peer_exponential"},
            mixing={"kind": "uniform"},
        )
        mean = start(record, 1).mean(axis=0)
        error = float(np.abs(record.parameters - mean).max())
        yield at_most(
            f"n = {agents}: largest distance to the mean after {rounds} rounds", 2e-15, error
        )
    record = play(
        12, 4, learner=FLAT, topology={"kind": "one_peer_exponential"}, mixing={"kind": "uniform"}
    )
    left = record.metrics["consensus_distance"][-1] / record.summary["initial_consensus_distance"]
    yield at_least(
        "n = 12: part of the disagreement that is left after 4 rounds", 0.02, float(left)
    )


@rule
class _Unchecked(Laplacian):
    """I - alpha L for any alpha."""

    def check(self, graph: Graph) -> None:
        """Accept any graph."""


def _step_bound() -> Iterator[Figure]:
    for kind, agents, largest in (("ring", 8, 4.0), ("star", 8, 8.0), ("complete", 6, 6.0)):
        for part, factor in ((0.99, 0.98), (1.01, 1.02)):
            unchecked = _Unchecked(alpha=part * 2.0 / largest)
            record = play(agents, 100, learner=FLAT, topology={"kind": kind}, mixing_rule=unchecked)
            what = f"{kind} of {agents}, alpha {part:g} of 2/lambda_max: factor per round"
            yield near(what, factor, slope(record, 60), 1e-4)


LAWS = (
    Law(
        "spectral",
        "consensus distance shrinks by the second eigenvalue of the mixing matrix",
        "Xiao, Boyd, Systems & Control Letters 53, 2004",
        _spectral,
    ),
    Law(
        "laplacian_step",
        "I - alpha L converges below alpha = 2 / lambda_max and diverges above",
        "Xiao, Boyd, Systems & Control Letters 53, 2004",
        _step_bound,
    ),
    Law(
        "one_peer_exponential",
        "one peer per round on n = 2^k agents averages exactly after k rounds",
        "Ying et al., NeurIPS 2021, arXiv 2110.13363",
        _one_peer,
    ),
)
