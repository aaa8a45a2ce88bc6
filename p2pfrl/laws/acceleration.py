"""Laws of Chebyshev gossip: the same mean in about the square root of the rounds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from p2pfrl.laws.base import Figure, Law, at_least, at_most, near
from p2pfrl.laws.runs import FLAT, play, slope, start
from p2pfrl.results.record import Record


def _chebyshev() -> Iterator[Figure]:
    fast = play(32, 100, learner=FLAT, topology={"kind": "ring"}, mixing={"kind": "chebyshev"})
    plain = play(32, 1, learner=FLAT, topology={"kind": "ring"}, mixing={"kind": "metropolis"})
    assert plain.lambda_2 is not None
    needed = np.log(1e-6) / np.log(plain.lambda_2)  # the law `spectral` measures this rate
    yield at_most("ring of 32: rounds to 1e-6 of the start", 95, _rounds(fast))
    yield at_least("ring of 32: times fewer than without", 10, float(needed) / _rounds(fast))
    drift = np.abs(fast.parameters.mean(axis=0) - start(fast, 1).mean(axis=0)).max()
    yield at_most("ring of 32: drift of the mean", 2e-14, float(drift))


def _rates() -> Iterator[Figure]:
    for kind, agents, rounds in (
        ("ring", 16, 60),
        ("star", 16, 60),
        ("path", 12, 80),
        ("barabasi_albert", 20, 40),
    ):
        run = play(
            agents, rounds, learner=FLAT, topology={"kind": kind}, mixing={"kind": "chebyshev"}
        )
        assert run.lambda_2 is not None
        yield near(f"{kind} of {agents}: factor per round", run.lambda_2, _late(run), 0.002, 4)


def _late(run: Record) -> float:
    """Return the factor per round over the second half, an upper bound for t times rate^t."""
    return slope(run, len(run.metrics["round"]) // 2)


def _rounds(run: Record) -> float:
    """Return the first round after which disagreement is at most 1e-6 of its first value."""
    first = start(run, 1)
    initial = float(np.sqrt(np.square(first - first.mean(axis=0)).sum(axis=1).mean()))
    reached = np.flatnonzero(run.metrics["consensus_distance"] <= 1e-6 * initial)
    return float(run.metrics["round"][reached[0]]) if len(reached) else float("inf")


LAWS = (
    Law(
        "chebyshev",
        "with a memory of one round a ring of 32 agrees ten times sooner, on the same mean",
        "Montijano, Montijano, Sagues, IEEE TSP 61(3), 2013, arXiv 1111.4825",
        _chebyshev,
    ),
    Law(
        "chebyshev_rate",
        "disagreement shrinks by rho / (1 + sqrt(1 - rho^2)) per round, rho = |lambda_2|",
        "Montijano, Montijano, Sagues, IEEE TSP 61(3), 2013, arXiv 1111.4825",
        _rates,
    ),
)
