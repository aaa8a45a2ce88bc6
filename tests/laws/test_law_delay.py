"""x_{k+1} = x_k - lr a x_{k-tau} is stable for lr a < 2 sin(pi / (2 (2 tau + 1))): delay through injected latency.

A coordinator applies every arriving difference at once (`delta`, `replace`, staleness constant). With n = tau + 1
agents on links whose latency is long against transmission, and equal for all, the arrivals go round in the order of
the ids: when an update arrives, exactly the n - 1 others have been applied since the model that it started from.
"""

from __future__ import annotations

import numpy as np
import pytest

from p2pfrl.bench.laws.runs import Array, play
from p2pfrl.consensus.theory import delay_threshold
from p2pfrl.core.rng import generator
from p2pfrl.results.record import Record


def delayed(
    tau: int, product: float, *, curvature: float, latency: str, per_step: str, updates: int, seed: int
) -> Record:
    """Return the run of n = tau + 1 agents with lr a = `product`."""
    n = tau + 1
    return play(
        n, -(-updates // n), mode="central", seed=seed, exchange={"payload": "delta"},
        learner={"dimension": 3, "curvature": [curvature] * 2, "spread": 0.0, "lr": product / curvature},
        schedule={"kind": "asynchronous", "staleness": {"kind": "constant"}},
        network={"latency": latency}, compute={"seconds_per_env_step": per_step},
    )  # fmt: skip


def recursion(start: Array, product: float, tau: int, updates: int) -> Array:
    """Return x_updates of x_{k+1} = x_k - product x_{max(0, k - tau)}."""
    xs = [start]
    for k in range(updates):
        xs.append(xs[-1] - product * xs[max(0, k - tau)])
    return xs[-1]


@pytest.mark.parametrize("tau", range(9))
@pytest.mark.parametrize("part", [0.95, 1.05])
def test_a_delay_of_tau_is_stable_below_the_threshold_and_unstable_above(tau: int, part: float) -> None:
    curvature, latency, per_step = [(1.0, "1s", "1s"), (4.0, "50ms", "20ms"), (0.3, "30s", "40s")][tau % 3]
    updates = 300 + 250 * tau
    product = part * delay_threshold(tau)
    run = delayed(
        tau, product, curvature=curvature, latency=latency, per_step=per_step, updates=updates, seed=tau
    )  # fmt: skip
    start = generator(tau, "start").standard_normal(3)
    total = (tau + 1) * run.summary["rounds"]
    assert total >= updates
    # Every update lags tau models behind, but for the first n, which all started from model 0.
    expected = np.zeros(tau + 1, dtype=np.int64)
    expected[tau] = total - (tau + 1)
    expected += 1
    np.testing.assert_array_equal(run.staleness, expected)
    size, first = np.linalg.norm(run.parameters[0]), np.linalg.norm(start)
    assert size < 1e-3 * first if part < 1 else size > 1e3 * first
    exact = recursion(start, product, tau, total)
    np.testing.assert_allclose(run.parameters, np.broadcast_to(exact, run.parameters.shape), rtol=1e-6)


def test_thresholds_are_those_of_levin_and_may() -> None:
    assert [round(delay_threshold(tau), 3) for tau in (0, 1, 2, 3, 8)] == [2.0, 1.0, 0.618, 0.445, 0.185]
    for tau in range(9):
        at = np.zeros(tau + 2)
        at[0], at[1] = 1.0, -1.0
        at[-1] += delay_threshold(tau)
        assert np.abs(np.roots(at)).max() == pytest.approx(1.0, abs=1e-9)
