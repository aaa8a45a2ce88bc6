"""Disagreement shrinks by |lambda_2(W)| per round.

Mixing keeps the mean where W is doubly stochastic.
"""

from __future__ import annotations

import numpy as np
import pytest

from p2pfrl.consensus.mixing.linear import Laplacian
from p2pfrl.core.errors import ScenarioError, TopologyError
from p2pfrl.core.graph import Graph
from p2pfrl.core.rule import rule as a_rule
from p2pfrl.laws.runs import FLAT, play, slope, start

# Numbers of closed forms: 1/3 + 2/3 cos(2 pi / n) on rings, 1 - 1/n on stars, and so on.
KNOWN = [
    ("ring", 8, {}, 0.804738),
    ("ring", 16, {}, 0.949253),
    ("star", 16, {}, 0.9375),
    ("torus", 16, {}, 0.6),
    ("hypercube", 16, {}, 0.6),
]
OTHERS = [
    ("path", 6, {}, "metropolis"),
    ("grid", 12, {}, "metropolis"),
    ("tree", 8, {}, "metropolis"),
    ("dumbbell", 6, {}, "metropolis"),
    ("erdos_renyi", 12, {"probability": 0.4}, "metropolis"),
    ("watts_strogatz", 11, {}, "metropolis"),
    ("barabasi_albert", 9, {}, "laplacian"),
    ("random_regular", 10, {"degree": 3}, "uniform"),
    ("ring", 9, {}, "uniform"),
    ("ring", 7, {}, "lazy"),
    ("star", 7, {}, "lazy"),
    ("complete", 9, {}, "laplacian"),
]


@pytest.mark.parametrize(
    ("kind", "agents", "options", "expected"),
    # The law `spectral` has the others.
    [KNOWN[0], *(pytest.param(*known, marks=pytest.mark.slow) for known in KNOWN[1:])],
)
def test_disagreement_shrinks_by_the_second_eigenvalue(
    kind: str, agents: int, options: dict[str, object], expected: float
) -> None:
    skip = 80 if expected > 0.9 else 25
    run = play(
        agents,
        skip + (40 if expected > 0.9 else 25),
        learner=FLAT,
        topology={"kind": kind, **options},
    )
    assert run.lambda_2 == pytest.approx(expected, abs=1e-6)
    assert np.log(slope(run, skip)) == pytest.approx(np.log(run.lambda_2), abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "agents", "options", "mixing"),
    [
        pytest.param(*other, marks=[pytest.mark.slow] * (k % 4 > 0))
        for k, other in enumerate(OTHERS)
    ],
)
def test_disagreement_shrinks_as_theory_says_on_other_graphs(
    kind: str, agents: int, options: dict[str, object], mixing: str
) -> None:
    tables = {"learner": FLAT, "topology": {"kind": kind, **options}, "mixing": {"kind": mixing}}
    rate = play(agents, 1, **tables).lambda_2
    assert rate is not None
    rounds = 2 if rate < 1e-9 else min(1500, int(np.log(1e-12) / np.log(rate)))
    run = play(agents, rounds, **tables)
    distance = run.metrics["consensus_distance"]
    if rate < 1e-9:
        assert distance[0] <= 1e-14 * run.summary["initial_consensus_distance"]
    else:
        assert np.log(slope(run, rounds * 4 // 5)) == pytest.approx(np.log(rate), abs=1e-4)
        seen = distance > 1e-6
        assert (distance[1:] <= rate * distance[:-1] * (1 + 1e-8))[seen[1:]].all()


@a_rule
class Unchecked(Laplacian):
    """I - alpha L whatever alpha."""

    def check(self, graph: Graph) -> None:
        """Refuse nothing."""


@pytest.mark.parametrize(
    ("kind", "agents", "largest"),
    # The law `laplacian_step` has the others.
    [
        pytest.param("ring", 8, 4.0, marks=pytest.mark.slow),
        pytest.param("star", 9, 9.0, marks=pytest.mark.slow),
        ("complete", 6, 6.0),
    ],
)
@pytest.mark.parametrize(("part", "expected"), [(0.99, 0.98), (1.01, 1.02)])
def test_laplacian_step_decays_below_two_over_lambda_max_and_grows_above(
    kind: str, agents: int, largest: float, part: float, expected: float
) -> None:
    alpha = part * 2.0 / largest
    rule = Unchecked(alpha=alpha)
    run = play(agents, 100, learner=FLAT, topology={"kind": kind}, mixing_rule=rule)
    assert slope(run, 60) == pytest.approx(expected, abs=1e-4)


def test_laplacian_step_beyond_the_bound_is_refused() -> None:
    with pytest.raises((ScenarioError, TopologyError), match=r"2/lambda_max"):
        play(16, 5, learner=FLAT, mixing={"kind": "laplacian", "alpha": 0.505})


@pytest.mark.parametrize(("agents", "rounds"), [(2, 1), (8, 3), (16, 4)])
def test_one_peer_exponential_averages_exactly_after_log2_rounds(agents: int, rounds: int) -> None:
    run = play(
        agents,
        rounds,
        learner=FLAT,
        topology={"kind": "one_peer_exponential"},
        mixing={"kind": "uniform"},
    )
    distance, initial = run.metrics["consensus_distance"], run.summary["initial_consensus_distance"]
    assert distance[-1] <= 1e-15 * initial
    assert rounds == 1 or distance[-2] > 0.1 * initial


def test_one_peer_exponential_of_twelve_is_not_exact() -> None:
    # No power of two: after one period of 4 rounds what is left of 12 independent starts is .23 of
    # their distance.
    left = []
    for seed in range(8):
        run = play(
            12,
            4,
            seed=seed,
            learner={**FLAT, "dimension": 64},
            topology={"kind": "one_peer_exponential"},
            mixing={"kind": "uniform"},
        )
        left.append(
            run.metrics["consensus_distance"][-1] / run.summary["initial_consensus_distance"]
        )
    W = np.eye(12)
    for hop in (1, 2, 4, 8):
        W = (np.eye(12) + np.roll(np.eye(12), hop, axis=1)) / 2 @ W
    expected = np.sqrt((np.linalg.norm(W) ** 2 - 1) / 11)
    assert np.mean(left) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(
    ("agents", "seed"),
    [(7, 1), (16, 2), *(pytest.param(*run, marks=pytest.mark.slow) for run in ((7, 2), (16, 1)))],
)
def test_random_matchings_keep_the_mean_and_reach_it(agents: int, seed: int) -> None:
    run = play(agents, 100, seed=seed, learner=FLAT, topology={"kind": "random_matchings"})
    begin = start(run, seed)
    assert run.metrics["consensus_distance"][-1] < 1e-6
    assert np.abs(run.parameters - begin.mean(axis=0)).max() < 1e-6
    assert np.abs(run.parameters.mean(axis=0) - begin.mean(axis=0)).max() < 1e-13
    assert run.metrics["mean_drift"].max() < 1e-13


def test_the_mean_is_lost_where_the_matrix_is_not_doubly_stochastic() -> None:
    # Uniform weights on a star: agents agree on the mean weighted by degree + 1.
    run = play(6, 250, learner=FLAT, topology={"kind": "star"}, mixing={"kind": "uniform"})
    begin, weight = start(run, 1), np.array([6.0, 2.0, 2.0, 2.0, 2.0, 2.0])
    assert np.abs(run.parameters - weight @ begin / weight.sum()).max() < 1e-12
