"""Server optimizers against a FedOpt round written anew in numpy, and each alone.

The rounds run through real agents.
"""

import numpy as np
import pytest

from p2pfrl.consensus.server_optimizers import RULES
from p2pfrl.consensus.server_optimizers.adaptive import Adagrad, Adam, Yogi
from p2pfrl.consensus.server_optimizers.momentum import Momentum, NormalizedMomentum, Sgd
from p2pfrl.laws.runs import play, start

OPTIONS = {
    "replace": {},
    "staleness_mix": {"alpha": 0.4},
    "sgd": {"lr": 0.3},
    "momentum": {"lr": 0.5, "beta": 0.8},
    "adam": {"lr": 0.05, "beta1": 0.7, "beta2": 0.95, "tau": 0.01},
    "yogi": {"lr": 0.05, "beta1": 0.7, "beta2": 0.95, "tau": 0.01},
    "adagrad": {"lr": 0.2, "tau": 0.02},
    "scsg": {"lr": 0.05},
    "normalized_momentum": {"lr": 0.1, "alpha": 0.3},
}
WITHOUT_EPISODES = [kind for kind in RULES if not RULES[kind].plays]
"""test_own_episodes.py has those of whole runs with the others."""


def numpy_server(kind, x, deltas, options):
    """Return where a coordinator at `x` ends that takes one step per function x -> Delta."""
    m, v = np.zeros_like(x), np.full_like(x, options.get("tau", 0.0) ** 2)
    for delta_of in deltas:
        delta = delta_of(x)
        if kind == "replace":
            x = x + delta
        elif kind == "staleness_mix":
            x = (1 - options["alpha"]) * x + options["alpha"] * (x + delta)
        elif kind == "sgd":
            x = x + options["lr"] * delta
        elif kind == "momentum":
            m = options["beta"] * m + delta
            x = x + options["lr"] * m
        elif kind == "normalized_momentum":
            m = (1 - options["alpha"]) * m + options["alpha"] * delta
            x = x + options["lr"] * m / np.sqrt((m * m).sum())
        else:
            beta1 = options.get("beta1", 0.0)
            m = beta1 * m + (1 - beta1) * delta
            if kind == "adam":
                v = options["beta2"] * v + (1 - options["beta2"]) * delta**2
            elif kind == "yogi":
                v = v - (1 - options["beta2"]) * delta**2 * np.sign(v - delta**2)
            else:
                v = v + delta**2
            x = x + options["lr"] * m / (np.sqrt(v) + options["tau"])
    return x


@pytest.mark.parametrize("kind", WITHOUT_EPISODES)
@pytest.mark.parametrize(
    ("agents", "seed", "payload"), [(3, 5, "parameters"), (6, 2, "delta"), (4, 9, "gradient")]
)
def test_a_run_is_the_numpy_server(kind, agents, seed, payload):
    steps, lr = (1 if payload == "gradient" else 4), 0.03
    rule = {"kind": kind, **OPTIONS[kind]}
    if payload == "gradient" and kind in ("replace", "staleness_mix"):
        rule, kind = {"kind": "sgd", "lr": 0.04}, "sgd"
    run = play(
        agents,
        6,
        mode="central",
        seed=seed,
        learner={"steps": steps, "lr": lr},
        exchange={"payload": payload},
        coordinator={"server_optimizer": rule},
    )
    A, optima = run.problem["A"], run.problem["x_star"]

    def delta(x):
        ends = []
        for matrix, optimum in zip(A, optima, strict=True):
            y = x
            if payload == "gradient":
                y = y - matrix @ (y - optimum)
            else:
                for _ in range(steps):
                    y = y - lr * matrix @ (y - optimum)
            ends.append(y - x)
        return np.mean(ends, axis=0)

    expected = numpy_server(kind, start(run, seed, spread=0.0)[0], [delta] * 6, {**rule})
    assert np.abs(run.parameters - expected).max() < 1e-11
    assert np.abs(expected).max() < 100


@pytest.mark.parametrize("kind", RULES)
def test_a_stale_target_counts_as_a_weaker_one(kind):
    """Where the step depends on the size of Delta: a factor of 0.25 is a quarter of Delta."""
    rng, rule = np.random.default_rng(1), RULES[kind](**OPTIONS[kind])
    x, delta = rng.standard_normal(5), rng.standard_normal(5)
    stale, _ = rule.step(x, x + delta, 0.25, rule.init(x))
    weak, _ = rule.step(x, x + 0.25 * delta, 1.0, rule.init(x))
    assert stale == pytest.approx(weak, rel=1e-12)
    if kind == "normalized_momentum":  # the same alone, but it weighs less beside what was there
        _, state = rule.step(x, x + delta, 1.0, rule.init(x))
        (before,), (_, (after,)) = state, rule.step(x, x - delta, 0.25, state)
        weight = 0.25 * rule.alpha
        assert after == pytest.approx((1 - weight) * before - weight * delta, rel=1e-12)


@pytest.mark.parametrize("kind", RULES)
def test_a_step_changes_none_of_its_inputs_and_keeps_their_type(kind):
    rule = RULES[kind](**OPTIONS[kind])
    x, target = np.arange(4, dtype=np.float32), np.array([1, 1, 1, 9], dtype=np.float32)
    state = rule.init(x)
    for array in (x, target, *state):
        array.setflags(write=False)
    moved, after = rule.step(x, target, 0.5, state)
    assert moved.dtype == np.float32
    assert not np.shares_memory(moved, x)
    assert (
        [s.dtype for s in after] == [s.dtype for s in state] == [np.dtype(np.float32)] * len(state)
    )


@pytest.mark.parametrize("kind", RULES)
def test_a_coordinator_at_its_target_stays(kind):
    rule, x = RULES[kind](**OPTIONS[kind]), np.array([1.0, -2.0])
    moved, _ = rule.step(x, x.copy(), 1.0, rule.init(x))
    assert moved.tolist() == x.tolist()


def test_defaults_are_those_of_the_papers():
    assert (Adam().beta1, Adam().beta2, Adam().tau, Yogi().lr, Yogi().tau) == (
        0.9,
        0.99,
        1e-3,
        0.01,
        1e-3,
    )
    assert (Adagrad().beta1, Adagrad().tau, Momentum().beta, Momentum().lr, Sgd().lr) == (
        0.0,
        1e-3,
        0.9,
        1.0,
        1.0,
    )
    assert Adam().init(np.zeros(2))[1].tolist() == [1e-6, 1e-6]


def test_every_normalized_step_has_length_lr_and_none_is_taken_without_a_direction():
    rule, rng = NormalizedMomentum(lr=0.05, alpha=0.2), np.random.default_rng(3)
    x, state = rng.standard_normal(7), rule.init(np.zeros(7))
    for _ in range(20):
        moved, state = rule.step(x, x + 100.0 * rng.standard_normal(7), 0.3, state)
        assert np.linalg.norm(moved - x) == pytest.approx(0.05, rel=1e-12)
        x = moved
