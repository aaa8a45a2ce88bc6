"""Gradient noise keeps up a disagreement that mixing can only bound.

It is D-PSGD's stationary consensus energy.
"""

from __future__ import annotations

import numpy as np
import pytest

from p2pfrl.consensus.theory import dpsgd_floor
from p2pfrl.laws.noise import energy
from p2pfrl.laws.runs import Array
from p2pfrl.scenario import loads


def ring(n: int) -> Array:
    """Return Metropolis weights of a ring."""
    return (np.eye(n) + np.roll(np.eye(n), 1, axis=0) + np.roll(np.eye(n), -1, axis=0)) / 3.0


def floor(W: Array, lr: float, sigma: float, order: str, curvature: float = 0.0) -> float:
    """Return sum_i ||x_i - mean||^2 / d where f_i = curvature/2 ||x||^2.

    Every mode is a first-order autoregression.

    adapt_then_combine: d <- l_k ((1 - lr a) d - lr z); combine_while_adapting: d <- (l_k - lr a) d
    - lr z.
    """
    modes = np.sort(np.linalg.eigvalsh(W))[:-1]
    gain, factor = (
        (modes, modes * (1 - lr * curvature))
        if order == "adapt_then_combine"
        else (1, modes - lr * curvature)
    )
    return float(lr**2 * sigma**2 * np.sum(gain**2 / (1 - factor**2)))


@pytest.mark.parametrize(
    ("order", "expected"), [("adapt_then_combine", 0.2355), ("combine_while_adapting", 0.3855)]
)
def test_the_floor_of_the_law_is_that_of_the_autoregression(order: str, expected: float) -> None:
    assert floor(ring(16), 0.1, 1.0, order) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    ("order", "kind", "n", "lr", "sigma", "seed"),
    [
        ("adapt_then_combine", "star", 6, 0.05, 2.0, 2),
        ("combine_while_adapting", "star", 6, 0.2, 0.1, 5),
        ("combine_while_adapting", "torus", 9, 0.3, 0.5, 3),
    ],
)
@pytest.mark.slow
def test_noise_floor_on_other_graphs(
    order: str, kind: str, n: int, lr: float, sigma: float, seed: int
) -> None:
    text = f'name = "x"\nagents = {n}\n[stop]\nrounds = 1\n[learner]\nkind = "quadratic"\n[topology]\nkind = "{kind}"'
    scenario = loads(text)
    expected = dpsgd_floor(scenario.mixing.weights(scenario.topology.at(n, 0, 0)), lr, sigma, order)
    measured = energy(n, lr, sigma, order, topology={"kind": kind}, seed=seed)
    assert measured == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(
    ("order", "curvature"),
    [
        pytest.param("adapt_then_combine", 1.0, marks=pytest.mark.slow),
        ("combine_while_adapting", 4.0),
    ],
)
def test_curvature_lowers_the_noise_floor(order: str, curvature: float) -> None:
    measured = energy(10, 0.1, 1.0, order, topology={"kind": "ring"}, curvature=curvature, seed=4)
    assert measured == pytest.approx(floor(ring(10), 0.1, 1.0, order, curvature), rel=0.03)
