"""Gradient tracking and EXTRA against their equations written anew, on other graphs and seeds."""

from __future__ import annotations

import numpy as np
import pytest

import p2pfrl
from p2pfrl.consensus.mixing import RULES
from p2pfrl.consensus.mixing.tracking import Extra, GradientTracking
from p2pfrl.consensus.theory import lambda_2, matrix
from p2pfrl.consensus.topologies import RULES as TOPOLOGIES
from p2pfrl.consensus.topologies.base import TopologyView
from p2pfrl.core.errors import TopologyError
from p2pfrl.core.rng import Streams
from p2pfrl.laws.runs import play, start
from p2pfrl.scenario import loads

LEARNER = {"curvature": [0.5, 3.0], "spread": 2.0, "initial_spread": 0.5, "dimension": 5}


def diging(x, gradient, W, lr, rounds):
    """Nedic, Olshevsky, Shi, equation 2."""
    g = gradient(x)
    y = g
    for k in range(rounds):
        x = W(k) @ x - lr * y
        new = gradient(x)
        y, g = W(k) @ y + new - g, new
    return x


def combined_after(x, gradient, W, lr, rounds):
    g = gradient(x)
    y = g
    for k in range(rounds):
        x = W(k) @ (x - lr * y)
        new = gradient(x)
        y, g = W(k) @ y + new - g, new
    return x


def extra(x, gradient, W, lr, rounds):
    """Shi, Ling, Wu, Yin, Algorithm 1."""
    identity = np.eye(len(x))
    x, before = W(0) @ x - lr * gradient(x), x
    for k in range(1, rounds):
        halfway = (identity + W(k)) / 2
        x, before = (
            (identity + W(k)) @ x - halfway @ before - lr * (gradient(x) - gradient(before)),
            x,
        )
    return x


METHODS = {
    "diging": ({"kind": "gradient_tracking"}, diging),
    "adapt_then_combine": (
        {"kind": "gradient_tracking", "form": "adapt_then_combine"},
        combined_after,
    ),
    "extra": ({"kind": "extra"}, extra),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("kind", "n", "inner"),
    [
        ("ring", 9, "metropolis"),
        ("star", 7, "lazy"),
        ("erdos_renyi", 12, "metropolis"),
        ("torus", 9, "uniform"),
    ],
)
@pytest.mark.parametrize("seed", [2, 7])
def test_a_run_is_the_method_of_the_paper(method, kind, n, inner, seed):
    options, reference = METHODS[method]
    run = play(
        n,
        25,
        seed=seed,
        learner={**LEARNER, "lr": 0.03},
        topology={"kind": kind},
        mixing={**options, "matrix": {"kind": inner}},
    )
    W = matrix(RULES[inner]().weights(TOPOLOGIES[kind]().at(n, seed, 0)))
    A, x_star = run.problem["A"], run.problem["x_star"]
    expected = reference(
        start(run, seed, 0.5, 5),
        lambda x: np.einsum("nij,nj->ni", A, x - x_star),
        lambda k: W,
        0.03,
        25,
    )
    np.testing.assert_allclose(run.parameters, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["random_matchings", "one_peer_exponential", "directed_ring"])
def test_gradient_tracking_holds_on_graphs_that_change_or_go_one_way(kind):
    n, inner = 8, "metropolis" if kind == "random_matchings" else "uniform"
    run = play(
        n,
        60,
        seed=3,
        learner={**LEARNER, "lr": 0.03},
        topology={"kind": kind},
        mixing={"kind": "gradient_tracking", "matrix": {"kind": inner}},
    )
    view = TopologyView(TOPOLOGIES[kind](), n, 3)
    A, x_star = run.problem["A"], run.problem["x_star"]
    expected = diging(
        start(run, 3, 0.5, 5),
        lambda x: np.einsum("nij,nj->ni", A, x - x_star),
        lambda k: matrix(RULES[inner]().weights(view.at(k))),
        0.03,
        60,
    )
    np.testing.assert_allclose(run.parameters, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mixing", [{"kind": "gradient_tracking"}, {"kind": "extra"}])
def test_timing_changes_nothing(mixing):
    slow = {
        "network": {
            "latency": {"kind": "lognormal", "median": "20ms", "sigma": 1.0},
            "jitter": "50ms",
        },
        "compute": {
            "seconds_per_env_step": "5ms",
            "speed": {"kind": "lognormal", "median": 1.0, "sigma": 1.0},
        },
    }
    runs = [
        play(
            7,
            25,
            learner={"lr": 0.02, "noise": 0.5},
            mixing=mixing,
            schedule={"deadline": "1h"},
            **timing,
        )
        for timing in ({}, slow)
    ]
    np.testing.assert_array_equal(runs[0].parameters, runs[1].parameters)


def test_trackers_travel_beside_the_parameters_and_extra_sends_no_more_than_dpsgd():
    plain, tracked, extra = (
        play(6, 5, mixing={"kind": kind}).summary["bytes_sent"]
        for kind in ("metropolis", "gradient_tracking", "extra")
    )
    assert tracked - plain == 6 * 2 * 5 * 8 * 8
    assert extra == plain


def test_matrices_that_lose_the_mean_are_refused():
    star, ring = TOPOLOGIES["star"]().at(5, 0, 0), TOPOLOGIES["directed_ring"]().at(5, 0, 0)
    uniform = GradientTracking(matrix={"kind": "uniform"})
    uniform.check(ring)
    with pytest.raises(
        TopologyError, match="'gradient_tracking' needs a matrix whose columns sum to 1"
    ):
        uniform.check(star)
    with pytest.raises(TopologyError, match="mixing 'metropolis' needs an undirected graph"):
        GradientTracking().check(ring)
    with pytest.raises(TopologyError, match="mixing 'extra' needs an undirected graph"):
        Extra().check(ring)
    with pytest.raises(TopologyError, match="mixing 'extra' needs a symmetric matrix"):
        Extra(matrix={"kind": "uniform"}).check(star)
    for rule in (GradientTracking, Extra):
        with pytest.raises(TopologyError, match=r"mixing\.matrix\.on_loss"):
            rule(matrix={"kind": "metropolis", "on_loss": "symmetric"}).check(star)


@pytest.mark.slow
def test_extra_without_training_agrees_at_the_rate_it_says():
    run = play(
        16,
        300,
        learner={"lr": 0.0, "initial_spread": 1.0},
        topology={"kind": "ring"},
        mixing={"kind": "extra"},
    )
    rows = RULES["metropolis"]().weights(TOPOLOGIES["ring"]().at(16, 0, 0))
    assert run.lambda_2 == pytest.approx(((1 + lambda_2(rows)) / 2) ** 0.5)
    distance = run.metrics["consensus_distance"]
    rounds = run.metrics["round"]
    assert np.exp(np.polyfit(rounds[50:], np.log(distance[50:]), 1)[0]) == pytest.approx(
        run.lambda_2, abs=2e-3
    )
    assert Extra().rate(1.0) == 1.0


def test_the_recipe_mdpgt_is_the_iteration_of_the_paper():
    """Return the result of gradient tracking with momentum-based variance reduction.

    On one sample: u <- g + (1 - beta) (u - g(x_before)), v <- W v + u - u_before, x <- W (x - lr
    v).
    """
    n, rounds, lr, beta, seed = 7, 15, 0.02, 0.5, 11
    learner = {"kind": "quadratic", "dimension": 8, "lr": lr, "initial_spread": 1.0, "noise": 0.5}
    tables = {
        "agents": n,
        "topology.kind": "star",
        "stop.rounds": rounds,
        "seed": seed,
        "learner": learner,
    }
    run = p2pfrl.run(loads('name = "m"\nextends = "mdpgt"\n', tables))
    W = np.diag([1 / n] + [1 - 1 / n] * (n - 1))
    W[0, 1:] = W[1:, 0] = 1 / n
    A, x_star, x = run.problem["A"], run.problem["x_star"], start(run, seed)
    v = u = before = np.zeros_like(x)
    for t in range(rounds):
        noise = 0.5 * Streams.of(seed, range(n), "gradient", [t] * n).normal(8)
        g, g_before = (np.einsum("nij,nj->ni", A, y - x_star) + noise for y in (x, before))
        u, last = g + (1 - beta) * (u - g_before) if t else g, u
        v, before = W @ v + u - last, x
        x = W @ (x - lr * v)
    np.testing.assert_allclose(run.parameters, x, atol=1e-12)
