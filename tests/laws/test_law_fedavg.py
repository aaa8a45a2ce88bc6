"""FedAvg ends where its closed form says, and gossip on the complete graph with uniform weights is FedAvg."""

from __future__ import annotations

import numpy as np
import pytest

from p2pfrl.bench.laws.runs import Array, play
from p2pfrl.results.record import Record

COMPLETE = {"topology": {"kind": "complete"}, "mixing": {"kind": "uniform"}}


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
    [(5, 4, 1, 0.1, 400, 1), (8, 8, 5, 0.05, 120, 2), (16, 3, 20, 0.15, 40, 3), (3, 12, 10, 0.02, 200, 4)],
)
def test_fedavg_ends_at_its_closed_form(
    mode: str, n: int, d: int, steps: int, lr: float, rounds: int, seed: int
) -> None:
    learner = {"dimension": d, "steps": steps, "lr": lr}
    run = play(n, rounds, mode=mode, seed=seed, learner=learner, **COMPLETE)
    expected = fixed_point(run, lr, steps)
    optimum = np.linalg.solve(
        run.problem["A"].sum(axis=0), np.einsum("nij,nj->i", run.problem["A"], run.problem["x_star"])
    )
    assert np.abs(run.parameters - expected).max() < 1e-10
    assert (np.abs(expected - optimum).max() > 1e-3) == (steps > 1)


@pytest.mark.parametrize(("n", "steps", "every"), [(2, 1, 1), (5, 3, 1), (16, 2, 1), (31, 1, 1), (6, 2, 3)])
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_gossip_on_the_complete_graph_is_fedavg(n: int, steps: int, every: int, noise: float) -> None:
    tables = {"learner": {"steps": steps, "noise": noise}, "schedule": {"every": every}, **COMPLETE}
    runs = {mode: play(n, 25, mode=mode, seed=n, **tables) for mode in ("gossip", "central")}
    gossip, central = runs["gossip"], runs["central"]
    assert np.abs(gossip.parameters - central.parameters).max() <= 1e-12
    assert gossip.metrics.keys() == central.metrics.keys()
    for column in ("error", "objective"):
        np.testing.assert_allclose(gossip.metrics[column], central.metrics[column], rtol=1e-12)
    assert np.ptp(gossip.parameters, axis=0).max() <= 1e-14
    assert gossip.summary["messages_sent"] == 25 * n * (n - 1)
    assert central.summary["messages_sent"] == 25 * 2 * n + n


@pytest.mark.parametrize("shared_trunk", [False, True])
def test_gossip_on_the_complete_graph_is_fedavg_for_ppo(shared_trunk: bool) -> None:
    learner = {"kind": "ppo", "moments": "keep", "steps": 16, "hidden": [16], "shared_trunk": shared_trunk}
    tables = {
        "environment": {"id": "CartPole-v1", "instances": 2}, "learner": learner, "evaluation": {"episodes": 0},
        **COMPLETE,
    }  # fmt: skip
    gossip, central = (play(5, 4, mode=mode, **tables) for mode in ("gossip", "central"))
    first = play(5, 1, **tables)
    assert np.abs(gossip.parameters - central.parameters).max() <= 1e-12
    assert gossip.metrics.keys() == central.metrics.keys()
    np.testing.assert_array_equal(gossip.metrics["return_mean"], central.metrics["return_mean"])
    assert np.abs(gossip.parameters - first.parameters).max() > 1e-3


def test_personal_parts_stay_personal() -> None:
    learner = {"kind": "ppo", "steps": 16, "hidden": [16], "shared_trunk": False, "same_start": False}
    tables = {"environment": {"id": "CartPole-v1", "instances": 2}, "learner": learner, "evaluation": {"episodes": 0}}
    shared = play(4, 3, exchange={"shared": ["actor"]}, **tables, **COMPLETE)
    alone = play(4, 3, mode="independent", **tables)
    assert shared.metrics["consensus_actor"][-1] <= 1e-6 * alone.metrics["consensus_actor"][-1]
    assert shared.metrics["consensus_critic"][-1] >= 0.5 * alone.metrics["consensus_critic"][-1]
