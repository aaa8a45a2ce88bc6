"""Updates of whole episodes: of a2c, ppo and dqn as of reinforce."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from learner_worlds import DISCRETE, Constant, stack

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.rule import rule
from p2pfrl.core.types import TRANSITIONS
from p2pfrl.learning.learners.a2c import A2C
from p2pfrl.learning.learners.dqn import DQN, DQNStack, Share
from p2pfrl.learning.learners.ppo import PPO
from p2pfrl.learning.trainer import Trainer

N = 4
PLAIN = {
    "a2c": A2C(hidden=(8,)),
    "ppo": PPO(hidden=(8,), update_epochs=2, num_minibatches=3),
    "dqn": DQN(hidden=(8,), learn_start=8, batch_size=4, train_every=3, epsilon_steps=50),
}
LEARNERS = {name: replace(learner, episodes=2) for name, learner in PLAIN.items()}


@rule
class Endless(Constant):
    """An environment without a time limit."""

    @property
    def spec(self):
        return replace(super().spec, max_steps=None)


def trained(learner, problem, groups, updates=3, **options):
    """Return the trainer after updates of everyone, group by group, and all that they report."""
    trainer, found = Trainer(stack(learner, problem, N, **options), N), []
    for _ in range(updates):
        made = {
            agent: update for group in groups for agent, update in trainer.update(group).items()
        }
        found.append([made[agent] for agent in range(N)])
    return trainer, found


def assert_same(one, other):
    (a, updates), (b, others) = one, other
    assert [list(map(asdict, made)) for made in updates] == [
        list(map(asdict, made)) for made in others
    ]
    assert np.array_equal(a.parameters, b.parameters)
    for name, values in a.state.items():
        assert np.array_equal(values, b.state[name]), name


@pytest.mark.parametrize("name", LEARNERS)
def test_an_update_is_whole_episodes_and_equal_alone_and_with_others(name):
    together = trained(LEARNERS[name], DISCRETE, [range(N)], instances=1)
    assert_same(together, trained(LEARNERS[name], DISCRETE, [[3], [1], [0, 2]], instances=1))
    for made in (update for round in together[1] for update in round):
        assert len(made.returns) == 2
        assert sum(made.returns) == made.env_steps  # a reward of one for every step of a cart
    assert len({made.env_steps for made in together[1][0]}) > 1
    assert len({values.tobytes() for values in together[0].parameters}) == N


@pytest.mark.parametrize("name", LEARNERS)
def test_episodes_of_one_length_are_that_many_steps(name):
    episodes, steps = replace(PLAIN[name], episodes=4), replace(PLAIN[name], steps=12)
    one, other = (
        trained(learner, Constant(limit=3), [range(N)], instances=1)
        for learner in (episodes, steps)
    )
    one[0].state.pop("dqn_taken", None)
    assert_same(one, other)
    a, updates = one
    assert updates[0][0].returns == (3.0,) * 4
    assert not np.array_equal(a.parameters, a.stack.start(range(N), same=True))


def test_minibatches_of_whole_episodes_share_the_samples_evenly():
    descent = stack(replace(LEARNERS["ppo"], norm_adv=False), DISCRETE, 1, instances=1)._descent
    packed = np.arange(20.0, dtype=np.float32).reshape(1, 10, 2)
    order = np.array([[3, 1, 4, 0, 5, 9, 2, 6, 8, 7]])
    parts = list(descent._minibatches(packed, order, 4))
    assert [part.shape for part in parts] == [(1, 2, 2), (1, 2, 3), (1, 2, 2), (1, 2, 3)]
    assert np.array_equal(np.concatenate(parts, axis=2)[0, 0], 2 * order[0])


def test_fewer_samples_than_minibatches_are_a_minibatch_each():
    learner = PPO(hidden=(8,), episodes=2, num_minibatches=16, update_epochs=1)
    trainer, found = trained(learner, Constant(limit=1), [range(N)], updates=1, instances=1)
    assert found[0][0].env_steps == 2
    assert np.isfinite(trainer.parameters).all()
    assert trainer.state["adam_steps"].tolist() == [2] * N


def test_dqn_counts_steps_to_its_next_gradient_step_over_updates():
    learner = DQN(hidden=(8,), episodes=1, train_every=2, learn_start=1)
    trainer, _ = trained(learner, Constant(limit=3), [range(N)], updates=3, instances=1)
    assert trainer.state["dqn_steps"].tolist() == [4] * N  # of nine environment steps
    assert trainer.state["dqn_taken"].tolist() == [[9, 3]] * N


def test_dqn_sends_the_transitions_of_its_last_update_alone():
    share = Share(count=5)
    bound = stack(DQN(hidden=(8,), episodes=1, learn_start=99), Constant(limit=3), N, instances=1)
    task = replace(bound.task, offer=TRANSITIONS)
    trainer = Trainer(DQNStack(replace(bound.learner, share=share), task), N)
    for _ in range(2):
        trainer.update([0])
    sent = trainer.offer(0, TRANSITIONS)
    assert len(sent) == trainer.stack.offer_size(TRANSITIONS)
    rows = sent.reshape(5, -1)
    assert trainer.stack.replay.present(rows).tolist() == [False, False, True, True, True]
    trainer.receive(1, TRANSITIONS, {0: sent})
    assert trainer.state["replay_filled"].tolist() == [6, 3, 0, 0]


@pytest.mark.parametrize("name", LEARNERS)
def test_episodes_need_one_instance_and_an_end(name):
    with pytest.raises(ScenarioError, match=r"learner\.episodes: needs environment\.instances = 1"):
        stack(LEARNERS[name], DISCRETE, 2, instances=4)
    with pytest.raises(ScenarioError, match=r"learner\.episodes: needs .* a time limit"):
        stack(LEARNERS[name], Endless(), 2, instances=1)


def test_the_buffer_must_hold_the_longest_update():
    with pytest.raises(ScenarioError, match=r"episodes x time limit = 1000\); got 999"):
        stack(replace(LEARNERS["dqn"], capacity=999), DISCRETE, 2, instances=1)
