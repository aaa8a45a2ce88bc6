"""Agents that pay for what others learn from their steps: r - lambda c in place of r."""

from __future__ import annotations

import numpy as np
import pytest

import p2pfrl
from p2pfrl.core.errors import P2PFRLError, ScenarioError
from p2pfrl.learning.environments.microgrid import Microgrid
from p2pfrl.learning.environments.priced import COST, PricedSimulator
from p2pfrl.scenario import Scenario, loads
from p2pfrl.scenario.render import resolved

TEXT = """name = "priced"
agents = 2
stop = {rounds = 2}
environment = {id = "microgrid", instances = 2, max_steps = 24}
learner = {kind = "ppo", steps = 24, hidden = [4]}
evaluation = {episodes = 1}
"""
WEIGHT = "environment.privacy_weight"


def world(**overrides: object) -> Scenario:
    return loads(TEXT, overrides)


def simulators(weight: float) -> tuple[PricedSimulator, PricedSimulator]:
    rule = Microgrid(max_steps=24)
    table = {name: np.full(2, value) for name, value in rule.spec.physics.items()}
    one, other = (PricedSimulator(rule.simulator(table, 3, 5), price) for price in (0.0, weight))
    return one, other


def test_every_reward_is_less_by_the_weighted_cost_and_returns_are_not() -> None:
    free, priced = simulators(0.5)
    states = [simulator.init([0, 1]) for simulator in (free, priced)]
    for simulator in (free, priced):
        simulator.begin([0, 1], [0, 0])
    rng, charged = np.random.default_rng(0), 0.0
    for _ in range(24):
        action = rng.integers(5, size=(2, 3))
        one, other = (
            simulator.step(state, action)
            for simulator, state in zip((free, priced), states, strict=True)
        )
        cost = np.square(other.measures["grid"] - 0.8)
        np.testing.assert_allclose(other.measures[COST], cost, rtol=1e-12)
        np.testing.assert_allclose(other.reward, one.reward - 0.5 * cost, rtol=1e-12, atol=1e-12)
        charged += float(cost.sum())
    assert charged > 1.0
    assert one.finished.all()
    assert np.array_equal(one.returns, other.returns), "recorded returns are those of r"


def test_the_weight_changes_what_is_learned_and_evaluations_are_of_the_reward_itself() -> None:
    plain, priced = p2pfrl.run(world()), p2pfrl.run(world(**{WEIGHT: 1.0}))
    assert not np.array_equal(plain.parameters, priced.parameters)
    assert (priced.agents[COST] > 0).all()
    # The first episodes are those of one policy on the same random numbers.
    assert priced.agents["return"][0] == plain.agents["return"][0]


def test_a_scenario_without_a_weight_does_not_name_it() -> None:
    assert "privacy_weight" not in resolved(world())
    assert "privacy_weight = 0.25" in resolved(world(**{WEIGHT: 0.25}))


@pytest.mark.parametrize(
    ("environment", "learner", "expected"),
    [
        ('{id = "CartPole-v1", privacy_weight = 1.0}', "ppo", "does not say what others"),
        ('{id = "garnet", privacy_weight = 1.0}', "tabular_q", "needs a learner that acts"),
        ('{id = "microgrid", privacy_weight = -1.0}', "ppo", "privacy_weight"),
    ],
)
def test_what_has_no_cost_is_refused(environment: str, learner: str, expected: str) -> None:
    text = f"""name = "x"
agents = 2
stop = {{rounds = 1}}
environment = {environment}
learner = {{kind = "{learner}"}}
"""
    with pytest.raises(ScenarioError, match=expected):
        loads(text)


def test_an_environment_that_does_not_keep_its_word_is_named() -> None:
    free, _ = simulators(1.0)
    inner = free.inner
    state = inner.init([0, 1])
    inner.begin([0, 1], [0, 0])

    step = inner.step

    def without(*arguments: object) -> object:
        found = step(*arguments)  # type: ignore[arg-type]
        found.measures.pop(COST)
        return found

    inner.step = without  # type: ignore[method-assign, assignment]
    with pytest.raises(P2PFRLError, match="privacy_weight: a step has no measure"):
        PricedSimulator(inner, 1.0).step(state, np.zeros((2, 3), dtype=np.int64))
