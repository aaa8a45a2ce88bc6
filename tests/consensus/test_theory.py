"""Theory against its golden numbers, and against direct iteration of the same recursions."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfrl.consensus import spectrum, theory
from p2pfrl.consensus.mixing import RULES as MIXING
from p2pfrl.consensus.topologies import RULES as TOPOLOGIES
from p2pfrl.consensus.topologies.base import TopologyView
from p2pfrl.core.errors import TopologyError


def view(kind: str, n: int, seed: int = 0) -> TopologyView:
    return TopologyView(TOPOLOGIES[kind](), n, seed)


def rows(kind: str, n: int, mixing: str = "metropolis") -> theory.Rows:
    return MIXING[mixing]().weights(view(kind, n).at(0))


@pytest.mark.parametrize(
    ("kind", "n", "mixing", "expected"),
    [
        ("ring", 16, "metropolis", 0.949253),
        ("ring", 8, "metropolis", 0.804738),
        ("ring", 32, "metropolis", 0.987190),
        ("path", 16, "metropolis", 0.987190),
        ("star", 16, "metropolis", 0.937500),
        ("torus", 16, "metropolis", 0.600000),
        ("hypercube", 16, "metropolis", 0.600000),
        ("exponential", 16, "uniform", 0.600000),
        ("complete", 16, "metropolis", 0.0),
        ("complete", 16, "uniform", 0.0),
    ],
)
def test_second_eigenvalues_are_those_of_the_literature(kind, n, mixing, expected):
    weights = rows(kind, n, mixing)
    assert theory.lambda_2(weights) == pytest.approx(expected, abs=1e-6)
    assert theory.spectral_gap(weights) == pytest.approx(1 - expected, abs=1e-6)


@pytest.mark.parametrize("n", [5, 16, 33, 100])
def test_the_ring_has_its_closed_form(n):
    assert theory.lambda_2(rows("ring", n)) == pytest.approx(
        1 / 3 + 2 / 3 * math.cos(2 * math.pi / n), abs=1e-12
    )


@pytest.mark.parametrize(
    "kind", ["ring", "path", "star", "torus", "hypercube", "tree", "dumbbell", "erdos_renyi"]
)
def test_disagreement_decays_like_lambda_2(kind):
    weights = rows(kind, 16)
    x = np.random.default_rng(0).standard_normal((16, 4))
    rate = theory.lambda_2(weights)
    settle = 6 * math.ceil(math.log(1e-7) / math.log(rate))
    W, distance = theory.matrix(weights), []
    for round in range(settle + 20):
        x = W @ x
        distance.append(np.linalg.norm(x - x.mean(axis=0)))
        if round < settle:
            x = (x - x.mean(axis=0)) / distance[-1]
    assert math.exp((math.log(distance[-1]) - math.log(distance[-11])) / 10) == pytest.approx(
        rate, abs=1e-5
    )


@pytest.mark.parametrize("n", [2, 8, 16, 64])
def test_one_peer_exponential_averages_exactly_where_n_is_a_power_of_two(n):
    graphs, mixing = view("one_peer_exponential", n), MIXING["uniform"]()
    product = np.eye(n)
    for round in range(graphs.period):
        product = theory.matrix(mixing.weights(graphs.at(round))) @ product
    assert np.abs(product - 1 / n).max() <= 1e-15
    prediction = theory.predict(graphs, mixing)
    assert prediction.lambda_2 == 0.0
    assert prediction.doubly_stochastic
    assert prediction.rounds_to(1e-6) == graphs.period == math.log2(n)


def test_one_peer_exponential_of_twelve_is_not_exact():
    graphs, mixing = view("one_peer_exponential", 12), MIXING["uniform"]()
    matrices = [theory.matrix(mixing.weights(graphs.at(round))) for round in range(4)]
    product = matrices[3] @ matrices[2] @ matrices[1] @ matrices[0]
    assert sorted(set(product.ravel())) == [1 / 16, 2 / 16]
    residual = np.linalg.norm(product - 1 / 12, ord=2)
    assert residual == pytest.approx(0.209129, abs=1e-6)
    assert theory.predict(graphs, mixing).lambda_2 == pytest.approx(residual**0.25, abs=1e-9)


@pytest.mark.parametrize(
    ("kind", "bound", "best", "rate"),
    [
        ("ring", 0.5, 0.4817, 0.9267),
        ("star", 0.125, 0.1176, None),
        ("complete", 0.125, 0.0625, 0.0),
    ],
)
def test_laplacian_bounds_and_best_constants(kind, bound, best, rate):
    graph = view(kind, 16).at(0)
    assert 2 / theory.laplacian_max(graph) == pytest.approx(bound, abs=1e-9)
    alpha = theory.best_alpha(graph)
    assert alpha == pytest.approx(best, abs=5e-5)
    if rate is not None:
        assert theory.lambda_2(MIXING["laplacian"](alpha=alpha).weights(graph)) == pytest.approx(
            rate, abs=5e-5
        )


@settings(max_examples=30)
@given(n=st.integers(2, 40), seed=st.integers(0, 99))
def test_fourier_and_dense_eigenvalues_agree(n, seed):
    rng = np.random.default_rng(seed)
    line = {int(k): float(v) for k, v in enumerate(rng.random(n)) if v > 0.4} or {0: 1.0}
    circulant = [{(i + k) % n: v / sum(line.values()) for k, v in line.items()} for i in range(n)]
    dense = np.linalg.eigvals(theory.matrix(circulant))
    found = theory.eigenvalues(circulant)
    assert np.abs(dense[:, None] - found).min(axis=1).max() < 1e-7
    assert theory.lambda_2(circulant) == pytest.approx(float(np.sort(np.abs(dense))[-2]), abs=1e-7)


@pytest.mark.parametrize(
    ("kind", "mixing"),
    [
        ("path", "metropolis"),
        ("random_regular", "metropolis"),
        ("star", "metropolis"),
        ("star", "uniform"),
    ],
)
def test_sparse_eigenvalues_agree_with_dense_ones(kind, mixing, monkeypatch):
    weights = rows(kind, 300, mixing)
    dense = theory.lambda_2(weights)
    largest = theory.laplacian_max(view(kind, 300).at(0))
    monkeypatch.setattr(spectrum, "DENSE", 10)
    assert theory.lambda_2(weights) == pytest.approx(dense, abs=1e-9)
    assert theory.laplacian_max(view(kind, 300).at(0)) == pytest.approx(largest, abs=1e-7)


@pytest.mark.parametrize("n", [12, 35, 36])
def test_eigenvalues_of_a_torus_are_those_of_its_dense_matrix(n, monkeypatch):
    weights = rows("torus", n)
    found = spectrum._doubly_circulant(weights)
    expected = np.linalg.eigvalsh(theory.matrix(weights))
    assert np.abs(found.imag).max() < 1e-12
    assert np.sort(found.real) == pytest.approx(expected, abs=1e-12)
    monkeypatch.setattr(spectrum, "DENSE", 10)
    monkeypatch.setattr(spectrum, "_symmetric", None)
    assert theory.lambda_2(weights) == pytest.approx(np.sort(np.abs(expected))[-2], abs=1e-12)


def test_a_matrix_that_is_a_torus_but_for_one_number_or_edge_is_none():
    weights = rows("torus", 35)
    for changed in ({**weights[9], 9: 0.3}, {**weights[9], 20: 0.0}):
        other = (*weights[:9], changed, *weights[10:])
        assert spectrum._doubly_circulant(other) is None
    assert spectrum._doubly_circulant(rows("grid", 35)) is None
    assert spectrum._doubly_circulant(rows("complete", 100)) is None, "it is circulant"


def test_long_rows_are_circulant_if_all_their_numbers_are():
    weights = rows("complete", 100)
    values = spectrum._circulant(weights)
    assert np.sort(np.abs(values))[-2:] == pytest.approx([0.0, 1.0], abs=1e-12)
    changed = {**weights[9], 9: 0.3}
    assert spectrum._circulant((*weights[:9], changed, *weights[10:])) is None
    assert spectrum._circulant((*weights[:9], {**weights[9]}, *weights[10:])) is not None


def test_a_thin_graph_is_resolved_where_lanczos_alone_does_not_converge(monkeypatch):
    monkeypatch.setattr(spectrum, "DENSE", 10)
    expected = 1 / 3 + 2 / 3 * math.cos(math.pi / 2000)
    assert theory.lambda_2(rows("path", 2000)) == pytest.approx(expected, abs=1e-11)


def test_a_sequence_contracts_by_the_modulus_of_its_product():
    mixing = MIXING["metropolis"]()
    sequence = [mixing.weights(view(kind, 9).at(0)) for kind in ("path", "star")]
    product = theory.matrix(sequence[1]) @ theory.matrix(sequence[0])
    second = np.sort(np.abs(np.linalg.eigvals(product)))[-2]
    assert theory.contraction(sequence) == pytest.approx(math.sqrt(second), abs=1e-12)


def test_random_matchings_shrink_disagreement_by_their_mean_square_rate():
    prediction = theory.predict(view("random_matchings", 16), MIXING["metropolis"]())
    assert prediction.period is None
    assert prediction.lambda_2 == pytest.approx(math.sqrt(14 / 30), rel=0.06)


def test_rounds_are_the_ceiling_of_the_ratio_of_logarithms():
    assert theory.rounds_to(1e-6, 0.6) == math.ceil(math.log(1e-6) / math.log(0.6)) == 28
    assert theory.rounds_to(1e-6, theory.lambda_2(rows("ring", 16))) == 266
    assert theory.rounds_to(1e-6, 0.0) == 1
    assert theory.rounds_to(1e-6, theory.lambda_2(rows("random_matchings", 6))) is None


def test_one_agent_agrees_with_itself():
    assert theory.predict(view("ring", 1), MIXING["metropolis"]()) == theory.Prediction(
        0.0, 1, True
    )


def test_predicting_refuses_what_mixing_refuses():
    with pytest.raises(TopologyError, match="needs an undirected graph"):
        theory.predict(view("exponential", 8), MIXING["metropolis"]())


def test_the_noise_floor_of_both_orders():
    weights = rows("ring", 16)
    assert theory.dpsgd_floor(weights, 0.1, 1.0, "adapt_then_combine") == pytest.approx(
        0.2355, abs=5e-5
    )
    assert theory.dpsgd_floor(weights, 0.1, 1.0, "combine_while_adapting") == pytest.approx(
        0.3855, abs=5e-5
    )
    assert theory.dpsgd_floor(weights, 0.2, 3.0, "adapt_then_combine") == pytest.approx(
        36 * 0.2355, rel=1e-3
    )
    with pytest.raises(ValueError, match="order is one of"):
        theory.dpsgd_floor(weights, 0.1, 1.0, "sideways")
    with pytest.raises(ValueError, match="symmetric"):
        theory.dpsgd_floor(rows("star", 5, "uniform"), 0.1, 1.0, "adapt_then_combine")


@pytest.mark.parametrize("order", ["adapt_then_combine", "combine_while_adapting"])
def test_the_noise_floor_is_where_simulated_noise_settles(order):
    weights = rows("star", 6)
    W, rng = theory.matrix(weights), np.random.default_rng(0)
    x, energy = np.zeros((6, 4000)), []
    for round in range(300):
        noise = 0.1 * rng.standard_normal(x.shape)
        x = W @ (x - noise) if order == "adapt_then_combine" else W @ x - noise
        if round >= 100:
            energy.append(np.square(x - x.mean(axis=0)).sum() / x.shape[1])
    assert np.mean(energy) == pytest.approx(theory.dpsgd_floor(weights, 0.1, 1.0, order), rel=0.03)


@pytest.mark.parametrize("steps", [1, 20])
def test_fedavg_ends_at_its_fixed_point(steps):
    rng = np.random.default_rng(3)
    A = np.stack([(B @ B.T) / 5 + 0.2 * np.eye(5) for B in rng.standard_normal((10, 5, 5))])
    x_star = rng.standard_normal((10, 5))
    x = np.zeros(5)
    for _ in range(2000):
        local = np.tile(x, (10, 1))
        for _ in range(steps):
            local -= 0.05 * np.einsum("nij,nj->ni", A, local - x_star)
        x = local.mean(axis=0)
    predicted = theory.fedavg_fixed_point(A, x_star, 0.05, steps)
    assert np.abs(x - predicted).max() < 1e-10
    optimum = np.linalg.solve(A.sum(axis=0), np.einsum("nij,nj->i", A, x_star))
    assert (np.abs(predicted - optimum).max() < 1e-12) == (steps == 1)


@pytest.mark.parametrize("tau", range(9))
def test_delay_is_stable_below_its_threshold_and_not_above(tau):
    for factor, stable in ((0.99, True), (1.01, False)):
        companion = np.diag(np.ones(tau), -1)
        companion[0, 0] = 1.0
        companion[0, tau] -= factor * theory.delay_threshold(tau)
        assert (np.abs(np.linalg.eigvals(companion)).max() < 1.0) == stable


@pytest.mark.parametrize(
    ("times", "ratio"),
    [((1, 1, 1, 4), 3.25), ((1, 2, 3, 4), 2.083), ((2, 2), 1.0), ((1, 1, 1, 100), 75.25)],
)
def test_asynchrony_gains_the_slowest_time_over_the_harmonic_mean(times, ratio):
    rates = theory.throughput(times)
    assert rates.ratio == pytest.approx(ratio, abs=5e-4)
    assert rates.asynchronous == pytest.approx(sum(1 / t for t in times))
    assert rates.synchronous == pytest.approx(len(times) / max(times))


def test_predicting_a_ring_imports_neither_networkx_nor_scipy_nor_torch():
    code = """
import sys
from p2pfrl.consensus import mixing, theory, topologies
from p2pfrl.consensus.topologies.base import TopologyView
view = TopologyView(topologies.RULES["ring"](), 16, 0)
theory.predict(view, mixing.RULES["metropolis"]())
print(sorted({"networkx", "scipy", "torch"} & {name.partition(".")[0] for name, m in sys.modules.items() if m}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_sparse_product_equals_the_dense_one():
    weights = rows("barabasi_albert", 20)
    x = np.random.default_rng(0).standard_normal((20, 3))
    assert np.allclose(spectrum.product(weights, x), theory.matrix(weights) @ x, atol=1e-15)
    assert np.array_equal(theory.sparse_matrix(weights).toarray(), theory.matrix(weights))
