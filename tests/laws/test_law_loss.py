"""What lost messages do to the mean: fold and renormalize drift as plain Monte-Carlo."""

from __future__ import annotations

import numpy as np
import pytest

from p2pfrl.laws.lossy import LOSS, ROUNDS, drifts
from p2pfrl.laws.runs import FLAT, play

SEEDS = 6


def monte_carlo(n: int, loss: float, on_loss: str, rounds: int, draws: int) -> float:
    """Return the rms over draws of the mean's change, per coordinate.

    The graph is a ring with one-sided drops.
    """
    rng, drifts = np.random.default_rng(0), []
    for _ in range(draws):
        x = rng.standard_normal((n, 8))
        before = x.mean(axis=0)
        for _ in range(rounds):
            left, right = (rng.random((n, 1)) >= loss for _ in range(2))
            total = left * np.roll(x, 1, axis=0) + right * np.roll(x, -1, axis=0)
            x = (
                (total + (3 - left - right) * x) / 3
                if on_loss == "fold"
                else (total + x) / (1.0 + left + right)
            )
        drifts.append(x.mean(axis=0) - before)
    return float(np.sqrt(np.mean(np.square(drifts))))


@pytest.mark.parametrize("on_loss", ["fold", pytest.param("renormalize", marks=pytest.mark.slow)])
def test_one_sided_drops_move_the_mean_as_a_monte_carlo_says(on_loss: str) -> None:
    rms = float(np.sqrt(np.mean(drifts(on_loss, SEEDS) ** 2)))
    expected = monte_carlo(16, LOSS, on_loss, ROUNDS, draws=100)
    print(f"{on_loss}: measured {rms:.4f}, Monte-Carlo {expected:.4f}")
    assert rms == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize("loss", [0.2, {"kind": "burst", "good_to_bad": 0.1, "bad_to_good": 0.3}])
def test_last_known_values_stand_in(loss: object) -> None:
    run = play(8, 80, learner=FLAT, network={"loss": loss}, mixing={"on_loss": "last_known"})
    assert run.metrics["consensus_distance"][-1] < 1e-3
    assert run.summary["mean_drift"] > 1e-3


def test_losing_everything_is_training_alone() -> None:
    alone = play(6, 20, mode="independent")
    lossy = play(6, 20, network={"loss": 1.0})
    np.testing.assert_array_equal(alone.parameters, lossy.parameters)
    assert lossy.summary["messages_delivered"] == 0
