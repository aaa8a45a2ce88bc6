"""PAGE: the estimate is exact without noise, and all agents throw one coin."""

import numpy as np
import pytest

import p2pfrl
from p2pfrl.core.rng import Purpose, generator
from p2pfrl.scenario import loads

SCENARIO = """
name = "page"
agents = 3
stop = {{rounds = 25}}
learner = {{kind = "quadratic", dimension = 4, noise = {noise}, lr = 0.1}}
correction = {correction}
"""


def parameters(correction, noise):
    return p2pfrl.run(loads(SCENARIO.format(correction=correction, noise=noise))).parameters


@pytest.mark.parametrize("p", [0.01, 0.5, 1.0])
def test_without_noise_the_estimate_is_the_gradient(p):
    plain = parameters('{kind = "none"}', 0.0)
    assert np.abs(parameters(f'{{kind = "page", p = {p}}}', 0.0) - plain).max() < 1e-12


def test_with_noise_it_is_another_one_unless_every_gradient_is_fresh():
    plain = parameters('{kind = "none"}', 1.0)
    assert np.array_equal(parameters('{kind = "page", p = 1.0}', 1.0), plain)
    assert np.abs(parameters('{kind = "page", p = 0.2}', 1.0) - plain).max() > 1e-3


def test_a_fresh_gradient_is_as_frequent_as_p_says():
    fresh = np.mean([generator(0, Purpose.COIN, step).random() < 0.2 for step in range(1000)])
    assert fresh == pytest.approx(0.2, abs=0.04)


EPISODES = """
name = "page"
agents = 2
stop = {rounds = 12}
environment = {id = "CartPole-v1", instances = 1}
learner = {kind = "reinforce", LENGTH, hidden = [4]}
correction = {kind = "page", fresh = 5}
"""


def test_fresh_gradients_are_those_of_more_episodes():
    record = p2pfrl.run(loads(EPISODES.replace("LENGTH", "episodes = 2")))
    coins = [generator(0, Purpose.COIN, step).random() < 0.2 for step in range(12)]
    wanted = 2 * sum(5 if is_fresh else 2 for is_fresh in [True, *coins[1:]])
    assert any(coins[1:])
    assert record.agents["episodes"][-2:].sum() == wanted


def test_a_batch_of_fresh_episodes_needs_whole_episodes():
    message = "fresh = 5 needs a learner whose updates are whole episodes: .* set learner.episodes"
    with pytest.raises(p2pfrl.ScenarioError, match=message):
        loads(EPISODES.replace("LENGTH", "steps = 8"))
