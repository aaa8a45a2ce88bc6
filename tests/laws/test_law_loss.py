"""What lost messages do to the mean: symmetric links keep it; fold and renormalize drift as plain Monte-Carlo."""

from __future__ import annotations

import numpy as np
import pytest

from p2pfrl.bench.laws.runs import FLAT, Array, play

SEEDS, LOSS, ROUNDS = 20, 0.2, 50


def monte_carlo(n: int, loss: float, on_loss: str, rounds: int, draws: int) -> float:
    """Return the rms over draws of the mean's change, per coordinate, on a ring with one-sided drops."""
    rng, drifts = np.random.default_rng(0), []
    for _ in range(draws):
        x = rng.standard_normal((n, 8))
        before = x.mean(axis=0)
        for _ in range(rounds):
            left, right = (rng.random((n, 1)) >= loss for _ in range(2))
            total = left * np.roll(x, 1, axis=0) + right * np.roll(x, -1, axis=0)
            x = (total + (3 - left - right) * x) / 3 if on_loss == "fold" else (total + x) / (1.0 + left + right)
        drifts.append(x.mean(axis=0) - before)
    return float(np.sqrt(np.mean(np.square(drifts))))


def drifts(on_loss: str, seeds: int) -> Array:
    """Return the final drift of the mean per coordinate, rms over coordinates, of every seed."""
    out = []
    for seed in range(seeds):
        run = play(16, ROUNDS, seed=seed, learner=FLAT, network={"loss": LOSS}, mixing={"on_loss": on_loss})
        assert run.summary["messages_dropped"] == pytest.approx(LOSS * run.summary["messages_sent"], rel=0.15)
        assert run.metrics["consensus_distance"][-1] < 0.2 * run.summary["initial_consensus_distance"]
        out.append(run.summary["mean_drift"] / 8**0.5)
    return np.array(out)


@pytest.mark.parametrize("on_loss", ["fold", "renormalize"])
def test_one_sided_drops_move_the_mean_as_a_monte_carlo_says(on_loss: str) -> None:
    rms = float(np.sqrt(np.mean(drifts(on_loss, SEEDS) ** 2)))
    expected = monte_carlo(16, LOSS, on_loss, ROUNDS, draws=200)
    print(f"{on_loss}: measured {rms:.4f}, Monte-Carlo {expected:.4f}")
    assert rms == pytest.approx(expected, rel=0.2)
    assert on_loss == "fold" or abs(rms - 0.086) < 0.03


def test_symmetric_drops_keep_the_mean() -> None:
    assert drifts("symmetric", 4).max() <= 1e-12


@pytest.mark.parametrize("loss", [0.2, {"kind": "burst", "good_to_bad": 0.1, "bad_to_good": 0.3}])
def test_last_known_values_stand_in(loss: object) -> None:
    run = play(16, 200, learner=FLAT, network={"loss": loss}, mixing={"on_loss": "last_known"})
    assert run.metrics["consensus_distance"][-1] < 1e-3
    assert run.summary["mean_drift"] > 1e-3


def test_losing_everything_is_training_alone() -> None:
    alone = play(6, 20, mode="independent")
    lossy = play(6, 20, network={"loss": 1.0})
    np.testing.assert_array_equal(alone.parameters, lossy.parameters)
    assert lossy.summary["messages_delivered"] == 0
