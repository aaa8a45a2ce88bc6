"""Delay through injected latency is x_{k+1} = x_k - lr a x_{k-tau}, update by update."""

from __future__ import annotations

import numpy as np
import pytest

from p2pfrl.consensus.theory import delay_threshold
from p2pfrl.laws.delay import delayed
from p2pfrl.laws.runs import Array


def recursion(start: Array, product: float, tau: int, updates: int) -> Array:
    """Return x_updates of x_{k+1} = x_k - product x_{max(0, k - tau)}."""
    xs = [start]
    for k in range(updates):
        xs.append(xs[-1] - product * xs[max(0, k - tau)])
    return xs[-1]


@pytest.mark.parametrize(
    "tau", [0, 1, 5, *(pytest.param(tau, marks=pytest.mark.slow) for tau in (3, 8))]
)
@pytest.mark.parametrize("part", [0.95, 1.05])
def test_a_delay_of_tau_is_the_delayed_recursion(tau: int, part: float) -> None:
    run, start, product = delayed(tau, part)
    total = (tau + 1) * run.summary["rounds"]
    assert total >= 300 + 250 * tau
    # Every update lags tau models behind, but for the first n, which all started from model 0.
    expected = np.zeros(tau + 1, dtype=np.int64)
    expected[tau] = total - (tau + 1)
    expected += 1
    np.testing.assert_array_equal(run.staleness, expected)
    exact = recursion(start, product, tau, total)
    np.testing.assert_allclose(
        run.parameters, np.broadcast_to(exact, run.parameters.shape), rtol=1e-6
    )


def test_thresholds_are_those_of_levin_and_may() -> None:
    assert [round(delay_threshold(tau), 3) for tau in (0, 1, 2, 3, 8)] == [
        2.0,
        1.0,
        0.618,
        0.445,
        0.185,
    ]
    for tau in range(9):
        at = np.zeros(tau + 2)
        at[0], at[1] = 1.0, -1.0
        at[-1] += delay_threshold(tau)
        assert np.abs(np.roots(at)).max() == pytest.approx(1.0, abs=1e-9)
