"""A wrapper can do all that the learner inside can, but for what it overrides."""

import numpy as np
import pytest
from learner_worlds import DISCRETE, stack

from p2pfrl.build.modes.pooled import Collecting
from p2pfrl.core.errors import ScenarioError
from p2pfrl.learning.learners.base import Exchange, Task, Wrapped
from p2pfrl.learning.learners.dqn import DQN
from p2pfrl.learning.learners.ppo import PPO
from p2pfrl.learning.learners.quadratic import Quadratic
from p2pfrl.learning.personal.apfl import APFL
from p2pfrl.learning.trainer import Trainer

PPO_SMALL = PPO(hidden=(4,), steps=8, num_minibatches=1)


@pytest.mark.parametrize(
    "inner",
    [
        stack(PPO_SMALL, DISCRETE, 2),
        stack(DQN(hidden=(4,), steps=8), DISCRETE, 2),
        Quadratic(dimension=3).prepare(Task(1, 2)),
    ],
    ids=["ppo", "dqn", "quadratic"],
)
def test_a_wrapped_learner_learns_and_offers_as_the_one_inside(inner):
    wrapped = Wrapped(inner)
    for name in ("traits", "evaluator", "exchange", "objective", "pooled"):
        assert getattr(wrapped, name) is getattr(inner, name)
    alone, around = Trainer(inner, 2), Trainer(wrapped, 2)
    first, second = alone.update([0, 1]), around.update([0, 1])
    assert [first[i].loss for i in (0, 1)] == [second[i].loss for i in (0, 1)]
    assert np.array_equal(alone.parameters, around.parameters)


def test_a_collecting_learner_is_evaluated_as_the_one_inside_and_learns_nothing():
    inner = stack(PPO_SMALL, DISCRETE, 2)
    trainer = Trainer(Collecting(inner), 2)
    before = trainer.parameters.copy()
    trainer.update([0, 1])
    assert np.array_equal(trainer.parameters, before)
    assert set(trainer.transitions) == {0, 1}
    evaluated = trainer.stack.evaluator.evaluate([0, 1], before, 2, 0)
    assert np.array_equal(evaluated, inner.evaluator.evaluate([0, 1], before, 2, 0))


def test_personal_models_keep_the_objective_and_are_not_pooled():
    quadratic = Quadratic(dimension=3)
    inner = quadratic.prepare(Task(1, 4))
    personal = APFL().wrap(quadratic.prepare, Task(1, 4))
    rows = personal.start(range(4), same=False)
    assert personal.objective.error(rows) == inner.objective.error(
        inner.start(range(4), same=False)
    )
    assert personal.objective.problem().keys() == inner.objective.problem().keys()
    assert inner.pooled is not None
    assert personal.pooled is None


def test_a_learner_without_offers_refuses_every_name():
    with pytest.raises(ScenarioError, match="this learner has no logits to send"):
        Exchange().offer_size("logits")
