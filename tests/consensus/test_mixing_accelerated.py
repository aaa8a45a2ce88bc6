"""Chebyshev gossip: its recursion, its parameter from the graph, and the mean under training."""

from __future__ import annotations

import math

import numpy as np
import pytest

from p2pfrl.consensus.mixing import RULES
from p2pfrl.consensus.mixing.accelerated import Chebyshev
from p2pfrl.consensus.theory import lambda_2, matrix, predict
from p2pfrl.consensus.topologies import RULES as TOPOLOGIES
from p2pfrl.consensus.topologies.base import TopologyView
from p2pfrl.core.errors import TopologyError
from p2pfrl.laws.runs import play, slope, start


def polynomial(W, x, rho, rounds):
    """Return T_t(W / rho) x / T_t(1 / rho), the result of Chebyshev gossip.

    It is computed by eigenvectors instead of the recursion.
    """
    values, vectors = np.linalg.eigh(W)
    scale = np.array([_chebyshev(rounds, value / rho) for value in values]) / _chebyshev(
        rounds, 1.0 / rho
    )
    return vectors @ (scale[:, None] * (vectors.T @ x))


def _chebyshev(t, x):
    if abs(x) <= 1.0:
        return math.cos(t * math.acos(x))
    return math.copysign(1.0, x) ** t * math.cosh(t * math.acosh(abs(x)))


@pytest.mark.parametrize(
    ("kind", "n", "matrix_kind"),
    [
        ("ring", 11, "metropolis"),
        ("star", 9, "lazy"),
        ("grid", 12, "laplacian"),
        ("barabasi_albert", 14, "metropolis"),
        ("torus", 9, "uniform"),
    ],
)
@pytest.mark.parametrize("rho", [None, 0.7, 0.999])
def test_a_run_without_training_is_the_chebyshev_polynomial_of_its_matrix(
    kind, n, matrix_kind, rho
):
    options = {} if rho is None else {"rho": rho}
    run = play(
        n,
        12,
        seed=4,
        learner={"lr": 0.0, "initial_spread": 1.0},
        topology={"kind": kind},
        mixing={"kind": "chebyshev", "matrix": {"kind": matrix_kind}, **options},
    )
    rows = RULES[matrix_kind]().weights(TOPOLOGIES[kind]().at(n, 4, 0))
    W = matrix(rows)
    second = np.sort(np.abs(np.linalg.eigvalsh(W)))[-2]
    expected = polynomial(W, start(run, 4), second if rho is None else rho, 12)
    np.testing.assert_allclose(run.parameters, expected, rtol=0, atol=1e-12)


def test_a_run_with_training_is_the_recursion_with_both_rounds_moved():
    n, lr, rounds = 10, 0.02, 40
    run = play(
        n,
        rounds,
        seed=2,
        learner={"lr": lr, "initial_spread": 1.0},
        topology={"kind": "ring"},
        mixing={"kind": "chebyshev"},
    )
    rows = RULES["metropolis"]().weights(TOPOLOGIES["ring"]().at(n, 2, 0))
    W, rho = matrix(rows), lambda_2(rows)
    A, x_star = run.problem["A"], run.problem["x_star"]
    y = start(run, 2)
    previous, omega = None, None
    for _ in range(rounds):
        step = -lr * np.einsum("nij,nj->ni", A, y - x_star)
        mean = (y + step).mean(axis=0)
        if previous is None:
            y, previous, omega = W @ (y + step), y + step, 2.0
        else:
            omega = 1.0 / (1.0 - omega * rho**2 / 4.0)
            moved = previous + step
            y, previous = omega * (W @ (y + step) - moved) + moved, y + step
        np.testing.assert_allclose(y.mean(axis=0), mean, rtol=0, atol=1e-12)
    np.testing.assert_allclose(run.parameters, y, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rho", [0.8, pytest.param(0.97, marks=pytest.mark.slow)])
def test_another_rho_is_slower_by_what_rate_says_and_never_diverges(rho):
    run = play(
        16,
        200,
        learner={"lr": 0.0, "initial_spread": 1.0},
        topology={"kind": "ring"},
        mixing={"kind": "chebyshev", "rho": rho},
    )
    best = Chebyshev().rate(0.949253)
    assert best == pytest.approx(0.949253 / (1 + math.sqrt(1 - 0.949253**2)))
    assert run.lambda_2 == pytest.approx(Chebyshev(rho=rho).rate(0.9492530), abs=1e-5)
    assert best < run.lambda_2 < 0.9493
    if run.lambda_2**200 > 1e-13:
        assert slope(run, 80) == pytest.approx(run.lambda_2, abs=0.004)


def test_the_rule_is_fitted_to_its_graph_unless_it_says_rho_itself():
    graph = TOPOLOGIES["ring"]().at(16, 0, 0)
    assert Chebyshev().fit(graph).rho == pytest.approx(0.949253, abs=1e-6)
    assert Chebyshev(rho=0.5).fit(graph).rho == 0.5
    assert Chebyshev().fit(TOPOLOGIES["complete"]().at(5, 0, 0)).rho == 0.0
    assert Chebyshev().rate(0.0) == 0.0
    assert predict(
        TopologyView(TOPOLOGIES["ring"](), 16, 0), Chebyshev()
    ).lambda_2 == pytest.approx(0.7221, abs=1e-4)


def test_on_islands_rho_has_to_be_given():
    graph = TOPOLOGIES["islands"](count=2).at(8, 0, 0)
    with pytest.raises(TopologyError, match=r"mixing\.rho: the graph has 2 islands"):
        RULES["chebyshev"]().check(graph)
    RULES["chebyshev"](rho=0.5).check(graph)


def test_one_way_edges_and_matrices_that_are_not_symmetric_are_refused():
    with pytest.raises(TopologyError, match="mixing 'chebyshev' needs an undirected graph"):
        Chebyshev().check(TOPOLOGIES["directed_ring"]().at(5, 0, 0))
    uniform = Chebyshev(matrix={"kind": "uniform"})
    uniform.check(TOPOLOGIES["ring"]().at(5, 0, 0))
    with pytest.raises(
        TopologyError, match="needs a symmetric matrix on this graph: use kind = 'metropolis'"
    ):
        uniform.check(TOPOLOGIES["star"]().at(5, 0, 0))
    with pytest.raises(TopologyError, match=r"mixing\.matrix\.on_loss: .* sets it itself"):
        Chebyshev(matrix={"kind": "metropolis", "on_loss": "renormalize"}).check(
            TOPOLOGIES["ring"]().at(5, 0, 0)
        )
