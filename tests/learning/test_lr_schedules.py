"""Learning-rate schedules: their formulas, and the steps that learners take with them."""

import math
from typing import Any

import numpy as np
import pytest
from learner_worlds import CONTINUOUS, DISCRETE, stack

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.parameters import Layout, Tensor
from p2pfrl.laws.runs import text
from p2pfrl.learning.learners.a2c import A2C
from p2pfrl.learning.learners.base import Learner
from p2pfrl.learning.learners.dqn import DQN
from p2pfrl.learning.learners.ppo import PPO
from p2pfrl.learning.learners.reinforce import REINFORCE
from p2pfrl.learning.learners.sac import SAC
from p2pfrl.learning.learners.td3 import TD3
from p2pfrl.learning.lr_schedules import RULES, Constant, Cosine, Linear, LRSchedule, factors
from p2pfrl.learning.optimizers import OPTIMIZERS
from p2pfrl.learning.trainer import Trainer
from p2pfrl.scenario import loads

REPLAY: dict[str, Any] = {"learn_start": 8, "batch_size": 8, "steps": 16, "hidden": (8,)}
LEARNERS: dict[str, tuple[type[Learner], dict[str, Any]]] = {
    "reinforce": (REINFORCE, {"steps": 8, "hidden": (8,)}),
    "a2c": (A2C, {"steps": 8, "hidden": (8,)}),
    "ppo": (PPO, {"steps": 8, "hidden": (8,), "num_minibatches": 2}),
    "dqn": (DQN, REPLAY),
    "sac": (SAC, REPLAY),
    "td3": (TD3, REPLAY),
}


def trainer(name: str, schedule: LRSchedule, **more: Any) -> Trainer:
    learner, options = LEARNERS[name]
    problem = CONTINUOUS if name in ("sac", "td3") else DISCRETE
    made = learner(**(options | more), lr_schedule=schedule)  # type: ignore[call-arg]
    return Trainer(stack(made, problem, 2, instances=1), 2)


def test_the_factors_are_those_of_the_formulas() -> None:
    for k in (0, 1, 7, 40, 41, 1000):
        part = min(k / 40, 1.0)
        assert Constant().factor(k) == 1.0
        assert Linear(updates=40, end=0.1).factor(k) == pytest.approx(1 - 0.9 * part, abs=1e-15)
        half = 0.5 * (1 + math.cos(math.pi * part))
        assert Cosine(updates=40, end=0.1).factor(k) == pytest.approx(0.1 + 0.9 * half, abs=1e-15)
    assert Linear(updates=3).factor(3) == 0.0
    assert Cosine(updates=3, end=2.0).factor(3) == 2.0
    assert set(RULES) == {"constant", "linear", "cosine"}
    found = factors(Linear(updates=4), [0, 3, 9])
    assert found is not None
    assert found.tolist() == [1.0, 0.25, 0.0]
    assert factors(Constant(), [0, 3]) is None


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_a_step_with_factors_is_one_with_as_many_times_the_learning_rate(name: str) -> None:
    layout, rng = Layout((Tensor("x.w", (5, 7)),)), np.random.default_rng(1)
    start, slope = (rng.normal(size=(4, layout.stride)).astype(np.float32) for _ in range(2))
    rows, gradient = layout.zeros(4), layout.zeros(4)
    rows[:], gradient[:] = start, slope
    chosen = np.array([0.5, 0.0, 0.5, 2.0])
    optimizer = OPTIMIZERS[name](0.25)
    optimizer.bind(rows, gradient, optimizer.init(layout, 4), chosen)()
    for row, factor in enumerate(chosen):
        alone, own = OPTIMIZERS[name](0.25 * factor), layout.zeros(1)
        own[:], gradient[:1] = start[row], slope[row]
        alone.bind(own, gradient[:1], alone.init(layout, 1))()
        assert np.array_equal(rows[row], own[0])
    assert np.array_equal(rows[1], start[1])


@pytest.mark.parametrize("name", list(LEARNERS))
def test_the_factor_is_that_of_the_agents_own_update(name: str) -> None:
    """With the factor 0 from the second update on, an agent stands still from its second on."""
    made = trainer(name, Linear(updates=1))
    first = made.parameters.copy()
    made.update([0])
    moved = made.parameters[0].copy()
    assert not np.array_equal(moved, first[0])
    made.update([0, 1])
    assert np.array_equal(made.parameters[0], moved)
    assert not np.array_equal(made.parameters[1], first[1])
    late = made.parameters[1].copy()
    made.update([0, 1])
    assert np.array_equal(made.parameters[1], late)


@pytest.mark.parametrize("name", list(LEARNERS))
def test_a_schedule_that_stays_at_one_changes_no_bit(name: str) -> None:
    plain, one = trainer(name, Constant()), trainer(name, Linear(updates=1, end=1.0))
    for made in (plain, one):
        for _ in range(2):
            made.update([0, 1])
    assert np.array_equal(plain.parameters, one.parameters)


def test_descent_with_a_changing_rate_is_not_plain() -> None:
    options = {"optimizer": "sgd", "max_grad_norm": 0.0}
    assert trainer("a2c", Constant(), **options).stack.traits.rate > 0
    assert trainer("a2c", Linear(updates=5), **options).stack.traits.rate == 0
    tables: dict[str, Any] = {
        "mode": "central",
        "environment": {"id": "CartPole-v1"},
        "learner": {"kind": "a2c", **options, "lr_schedule": {"kind": "cosine", "updates": 5}},
        "correction": {"kind": "control_variate"},
    }
    with pytest.raises(ScenarioError, match=r"leave learner\.lr_schedule constant"):
        loads(text(4, 2, **tables))
