"""FedAvg ends where its closed form says.

Gossip on the complete graph with uniform weights is FedAvg.
"""

from __future__ import annotations

import numpy as np
import pytest

from p2pfrl.laws.fedavg import COMPLETE, both
from p2pfrl.laws.runs import Array, play
from p2pfrl.results.record import Record


def fixed_point(run: Record, lr: float, steps: int) -> Array:
    """Return (sum_i G_i)^-1 sum_i G_i x*_i with G_i = I - (I - lr A_i)^steps."""
    A, x_star = run.problem["A"], run.problem["x_star"]
    identity = np.eye(A.shape[-1])
    total, right = np.zeros_like(identity), np.zeros(A.shape[-1])
    for A_i, x_i in zip(A, x_star, strict=True):
        power = identity
        for _ in range(steps):
            power = power @ (identity - lr * A_i)
        total += identity - power
        right += (identity - power) @ x_i
    return np.linalg.solve(total, right)


@pytest.mark.parametrize("mode", ["central", "gossip"])
@pytest.mark.parametrize(
    ("n", "d", "steps", "lr", "rounds", "seed"),
    [
        pytest.param(5, 4, 1, 0.1, 400, 1, marks=pytest.mark.slow),
        (8, 8, 5, 0.05, 120, 2),
        (16, 3, 20, 0.15, 40, 3),
        (3, 12, 10, 0.02, 200, 4),
    ],
)
def test_fedavg_ends_at_its_closed_form(
    mode: str, n: int, d: int, steps: int, lr: float, rounds: int, seed: int
) -> None:
    learner = {"dimension": d, "steps": steps, "lr": lr}
    run = play(n, rounds, mode=mode, seed=seed, learner=learner, **COMPLETE)
    expected = fixed_point(run, lr, steps)
    optimum = np.linalg.solve(
        run.problem["A"].sum(axis=0),
        np.einsum("nij,nj->i", run.problem["A"], run.problem["x_star"]),
    )
    assert np.abs(run.parameters - expected).max() < 1e-10
    assert (np.abs(expected - optimum).max() > 1e-3) == (steps > 1)


def test_gossip_on_the_complete_graph_costs_n_times_the_messages_of_fedavg() -> None:
    gossip, central = both(5, 25, {"learner": {"steps": 3}}, seed=5)
    assert gossip.metrics.keys() == central.metrics.keys()
    for column in ("error", "objective"):
        np.testing.assert_allclose(gossip.metrics[column], central.metrics[column], rtol=1e-12)
    assert np.ptp(gossip.parameters, axis=0).max() <= 1e-14
    assert gossip.summary["messages_sent"] == 25 * 5 * 4
    assert central.summary["messages_sent"] == 25 * 2 * 5 + 5


def test_gossip_on_the_complete_graph_is_fedavg_for_ppo_with_a_shared_trunk() -> None:
    learner = {"kind": "ppo", "moments": "keep", "steps": 16, "hidden": [16], "shared_trunk": True}
    tables = {
        "environment": {"id": "CartPole-v1", "instances": 2},
        "learner": learner,
        "evaluation": {"episodes": 0},
    }
    gossip, central = both(5, 4, tables, seed=1)
    assert np.abs(gossip.parameters - central.parameters).max() <= 1e-12
    np.testing.assert_array_equal(gossip.metrics["return_mean"], central.metrics["return_mean"])


def test_personal_parts_stay_personal() -> None:
    learner = {
        "kind": "ppo",
        "steps": 16,
        "hidden": [16],
        "shared_trunk": False,
        "same_start": False,
    }
    tables = {
        "environment": {"id": "CartPole-v1", "instances": 2},
        "learner": learner,
        "evaluation": {"episodes": 0},
    }
    shared = play(4, 3, exchange={"shared": ["actor"]}, **tables, **COMPLETE)
    alone = play(4, 3, mode="independent", **tables)
    assert shared.metrics["consensus_actor"][-1] <= 1e-6 * alone.metrics["consensus_actor"][-1]
    assert shared.metrics["consensus_critic"][-1] >= 0.5 * alone.metrics["consensus_critic"][-1]
