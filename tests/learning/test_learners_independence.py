"""An agent's result never depends on the agents that share its batch.

It is exact, for every learner, network and kind of action.
"""

from dataclasses import replace

import numpy as np
import pytest
from learner_worlds import CONTINUOUS, DISCRETE, stack

from p2pfrl.learning.environments.gym import Gym
from p2pfrl.learning.learners.a2c import A2C
from p2pfrl.learning.learners.ppo import PPO
from p2pfrl.learning.learners.reinforce import REINFORCE
from p2pfrl.learning.trainer import Trainer

N, UPDATES = 7, 2
SMALL = {"hidden": (64, 64)}
LEARNERS = {
    "ppo": PPO(**SMALL),
    "ppo_shared": PPO(**SMALL, shared_trunk=True, ent_coef=0.01),
    "ppo_odd": PPO(hidden=(13, 7), steps=15, num_minibatches=5, activation="relu"),
    "ppo_odd_shared": PPO(hidden=(9,), steps=9, num_minibatches=3, shared_trunk=True),
    "a2c": A2C(**SMALL, norm_adv=True),
    "a2c_shared": A2C(**SMALL, shared_trunk=True, steps=5),
    "a2c_rmsprop": A2C(**SMALL, optimizer="rmsprop", steps=7, ent_coef=0.01),
    "reinforce": REINFORCE(**SMALL, steps=33, discounted=True),
    "reinforce_plain": REINFORCE(hidden=(11,), baseline="none", optimizer="sgd", lr=0.1),
}


def run(learner, problem, groups, *, instances=4, chunk=None, order=1):
    """Return the trainer after UPDATES updates of everyone, computed group by group."""
    bound = stack(learner, problem, N, instances=instances)
    bound.traits = replace(bound.traits, chunk=chunk or bound.traits.chunk)
    trainer = Trainer(bound, N)
    for _ in range(UPDATES):
        for group in groups[::order]:
            trainer.update(group)
    return trainer


def assert_same(a, b):
    assert np.array_equal(a.parameters, b.parameters)
    for name, values in a.state.items():
        assert np.array_equal(values, b.state[name]), name


@pytest.mark.parametrize(
    "problem",
    [
        pytest.param(DISCRETE, id="discrete"),
        pytest.param(CONTINUOUS, id="continuous", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("ppo_shared", marks=pytest.mark.slow),
        *(name for name in LEARNERS if name != "ppo_shared"),
    ],
)
def test_alone_in_pairs_in_subsets_in_chunks_and_all_together_are_bit_identical(name, problem):
    everyone = run(LEARNERS[name], problem, [range(N)])
    assert not np.array_equal(everyone.parameters[0], everyone.parameters[1])
    assert_same(everyone, run(LEARNERS[name], problem, [[i] for i in range(N)], order=-1))
    assert_same(everyone, run(LEARNERS[name], problem, [[6, 1, 4], [5, 3], [0, 2]]))
    assert_same(everyone, run(LEARNERS[name], problem, [range(N)], chunk=3))


@pytest.mark.parametrize(
    "instances", [1, 3, *(pytest.param(number, marks=pytest.mark.slow) for number in (2, 8))]
)
def test_any_number_of_instances_is_bit_identical_too(instances):
    learner = PPO(hidden=(64, 64), steps=48, shared_trunk=True)
    together = run(learner, DISCRETE, [range(N)], instances=instances)
    assert_same(together, run(learner, DISCRETE, [[i] for i in range(N)], instances=instances))
    assert_same(together, run(learner, DISCRETE, [[3, 4, 6], [0, 1, 2, 5]], instances=instances))


def test_episodes_end_where_they_would_end_alone():
    learner = REINFORCE(hidden=(16,), episodes=2)
    together = run(learner, DISCRETE, [range(N)], instances=1)
    assert_same(together, run(learner, DISCRETE, [[i] for i in range(N)], instances=1, order=-1))


def test_environments_of_gymnasium_itself_are_bit_identical_too():
    learner = PPO(hidden=(16,), steps=16, num_minibatches=2)
    together = run(learner, Gym(id="CartPole-v1"), [range(N)])
    assert_same(together, run(learner, Gym(id="CartPole-v1"), [[i] for i in range(N)], order=-1))


def test_the_population_does_not_matter():
    learner = PPO(hidden=(16,), steps=16)
    few, many = Trainer(stack(learner, DISCRETE, 3), 3), Trainer(stack(learner, DISCRETE, 70), 70)
    for name in ("gravity",):
        few.stack.simulator._physics[name] = many.stack.simulator._physics[name][:3]
    for _ in range(2):
        few.update(range(3))
        many.update(range(70))
    assert np.array_equal(few.parameters, many.parameters[:3])


@pytest.mark.parametrize("problem", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_evaluation_is_repeatable_and_independent_of_the_batch(problem):
    bound = stack(PPO(hidden=(16,)), problem, N)
    rows = bound.start(range(N), same=False)
    together = bound.evaluator.evaluate(range(N), rows, 3, 5)
    assert np.array_equal(together, bound.evaluator.evaluate(range(N), rows, 3, 5))
    alone = [bound.evaluator.evaluate([i], rows[i : i + 1], 3, 5)[0] for i in range(N)]
    assert np.array_equal(together, alone)
    assert not np.array_equal(together, bound.evaluator.evaluate(range(N), rows, 3, 6))
