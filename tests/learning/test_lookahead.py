"""The point that agents train from under look-ahead, and the model that a run ends with."""

import numpy as np
import pytest

from p2pfrl.consensus.server_optimizers.momentum import NormalizedMomentum
from p2pfrl.core.rng import generator
from p2pfrl.laws.afedpg import momentum_errors
from p2pfrl.laws.runs import play
from p2pfrl.laws.watch import watched
from p2pfrl.learning.corrections.lookahead import Lookahead


def test_the_point_lies_beyond_the_model_by_one_minus_alpha_over_alpha_of_its_last_move():
    model, previous = np.array([1.0, 2.0]), np.array([0.0, 4.0])
    assert Lookahead(alpha=0.2).point(model, previous).tolist() == [5.0, -6.0]
    assert Lookahead(alpha=1.0).point(model, previous).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(("kind", "agents"), [("synchronous", 3), ("asynchronous", 3)])
def test_the_last_model_is_where_the_coordinator_is_not_where_it_looks(kind, agents):
    with watched(NormalizedMomentum, "step") as calls:
        run = play(
            agents,
            6,
            mode="central",
            exchange={"payload": "gradient"},
            schedule={"kind": kind},
            coordinator={"server_optimizer": {"kind": "normalized_momentum"}},
            correction={"kind": "lookahead"},
        )
    _, (last, _) = calls[-1]
    assert len(calls) == 6 * (1 if kind == "synchronous" else agents)
    for parameters in run.parameters:
        assert parameters.tolist() == last.tolist()


@pytest.mark.parametrize("seed", [2, 3, 4])
@pytest.mark.parametrize("alpha", [0.05, 0.25])
def test_the_error_shrinks_by_one_minus_alpha_with_lookahead_only(seed, alpha):
    errors = momentum_errors(2, "synchronous", alpha, 20, looks_ahead=True, seed=seed)
    assert np.abs(errors[1:] - (1 - alpha) * errors[:-1]).max() < 1e-11
    assert np.linalg.norm(errors[0]) > 0.1
    errors = momentum_errors(2, "synchronous", alpha, 20, looks_ahead=False, seed=seed)
    assert np.abs(errors[1:] - (1 - alpha) * errors[:-1]).max() > 1e-2


def test_the_identity_is_that_of_the_recursion_written_anew():
    """An independent implementation of two agents' normalized momentum from look-ahead points."""
    run = play(
        2,
        30,
        mode="central",
        seed=8,
        exchange={"payload": "gradient"},
        coordinator={"server_optimizer": {"kind": "normalized_momentum", "alpha": 0.1, "lr": 0.05}},
        correction={"kind": "lookahead", "alpha": 0.1},
    )
    A, optima = run.problem["A"], run.problem["x_star"]
    x = before = generator(8, "start").standard_normal(8)
    d = np.zeros(8)
    for _ in range(30):
        point = x + 9.0 * (x - before)
        g = sum(a @ (point - o) for a, o in zip(A, optima, strict=True)) / 2
        d = 0.9 * d + 0.1 * g
        before, x = x, x - 0.05 * d / np.linalg.norm(d)
    assert np.abs(run.parameters - x).max() < 1e-11


@pytest.mark.parametrize(("agents", "seed", "power"), [(3, 1, 0.5), (5, 6, 1.0), (1, 2, 0.5)])
def test_afedpg_with_delays_is_the_recursion_written_anew(agents, seed, power):
    """With equal latencies, update k comes from agent k mod n.

    It started from the model that its last update made.
    """
    alpha, lr, rounds = 0.2, 0.05, 6
    run = play(
        agents,
        rounds,
        mode="central",
        seed=seed,
        exchange={"payload": "gradient"},
        network={"latency": "1s"},
        schedule={"kind": "asynchronous", "staleness": {"kind": "polynomial", "power": power}},
        coordinator={"server_optimizer": {"kind": "normalized_momentum", "alpha": alpha, "lr": lr}},
        correction={"kind": "lookahead", "alpha": alpha},
    )
    A, optima = run.problem["A"], run.problem["x_star"]
    models = [generator(seed, "start").standard_normal(8)]
    points, d = [models[0]], np.zeros(8)
    for k in range(rounds * agents):
        i, version = k % agents, max(0, k - agents + 1)
        weight = alpha * (1 + k - version) ** -power
        d = (1 - weight) * d + weight * A[i] @ (points[version] - optima[i])
        models.append(models[-1] - lr * d / np.sqrt(d @ d))
        points.append(models[-1] + (1 - alpha) / alpha * (models[-1] - models[-2]))
    assert np.abs(run.parameters - models[-1]).max() < 1e-10
    assert run.staleness[agents - 1] >= (rounds - 1) * agents
