"""Returns and advantages are exact where closed forms exist.

An episode that is cut still has a future.
"""

import numpy as np
import pytest
from learner_worlds import CONTINUOUS, DISCRETE, Constant, Target, stack, task

from p2pfrl.learning.learners.a2c import A2C
from p2pfrl.learning.learners.base import Batch
from p2pfrl.learning.learners.ppo import PPO
from p2pfrl.learning.learners.reinforce import REINFORCE
from p2pfrl.learning.rollout import advantages, collect

GAMMA = 0.9


def constant_value(bound, value):
    """Return rows whose critic says `value` everywhere."""
    rows = bound.start([0, 1], same=True)
    offset = dict(zip((t.name for t in bound.layout.tensors), bound.layout.offsets, strict=True))
    weight = offset["critic.head.weight"]
    rows[:, weight : weight + 16] = 0.0
    rows[:, offset["critic.head.bias"]] = value
    return rows


def roll(bound, rows, steps, index=0):
    state = bound.simulator.init([0, 1])
    options = {"seed": 1, "agents": [0, 1], "index": [index, index], "steps": steps}
    return collect(bound.network, bound.policy, bound.simulator, rows, state, **options)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("shared", [False, True])
def test_a_true_value_has_no_advantage_across_truncation_and_the_end_of_the_rollout(
    shared, gae_lambda
):
    bound = stack(PPO(hidden=(16,), steps=8, shared_trunk=shared), Constant(limit=3), 2)
    value = 1.0 / (1.0 - GAMMA)  # reward 1 for ever
    rollout = roll(bound, constant_value(bound, value), 8)
    assert rollout.finished[0, :, 0].tolist() == [False, False, True] * 2 + [False, False]
    np.testing.assert_allclose(rollout.value, value, rtol=1e-6)
    np.testing.assert_allclose(rollout.next_value, value, rtol=1e-6)
    got = advantages(
        rollout.reward,
        rollout.value,
        rollout.next_value,
        rollout.finished,
        gamma=GAMMA,
        gae_lambda=gae_lambda,
    )
    np.testing.assert_allclose(got, 0.0, atol=1e-5)


def test_a_successor_that_is_cut_off_is_valued_and_not_the_first_state_of_the_next_episode():
    bound = stack(PPO(hidden=(16,), steps=8, activation="relu"), Constant(limit=3), 2)
    rows = bound.start([0, 1], same=True)
    rollout = roll(bound, rows, 8)
    out = np.empty((1, 3, 4), dtype=np.float32)
    x = np.array([[[0.0, 0.1, 0.2, 0.3], [1.0] * 4]], dtype=np.float32)
    bound.network.forward(rows[:1], x, out)
    value = out[0, -1]
    np.testing.assert_allclose(rollout.value[0, :, 0], value[[0, 1, 2, 0, 1, 2, 0, 1]], rtol=1e-5)
    np.testing.assert_allclose(
        rollout.next_value[0, :, 0], value[[1, 2, 3, 1, 2, 3, 1, 2]], rtol=1e-5
    )
    assert abs(value[3] - value[0]) > 1e-2


def test_termination_has_no_future():
    reward = np.ones((1, 4, 1), dtype=np.float32)
    finished = np.array([False, True, False, False])[None, :, None]
    next_value = np.array([5.0, 0.0, 5.0, 5.0], dtype=np.float32)[None, :, None]
    got = advantages(
        reward, np.zeros_like(reward), next_value, finished, gamma=GAMMA, gae_lambda=1.0
    )
    tail = 1 + GAMMA * 5
    expected = [1 + GAMMA * 5 + GAMMA, 1.0, tail + GAMMA * tail, tail]
    np.testing.assert_allclose(got[0, :, 0], expected, rtol=1e-6)


def test_nothing_comes_after_a_terminal_state_of_a_rollout():
    bound = stack(PPO(hidden=(16,), steps=5), Target(), 2)
    rollout = roll(bound, constant_value(bound, 7.0), 5)
    assert rollout.finished.all()
    np.testing.assert_allclose(rollout.value, 7.0, rtol=1e-6)
    assert not rollout.next_value.any()


def test_advantages_are_the_sums_of_the_paper():
    rng = np.random.default_rng(0)
    reward, value, next_value = rng.normal(size=(3, 2, 20, 3)).astype(np.float32)
    finished = rng.random((2, 20, 3)) < 0.2
    got = advantages(reward, value, next_value, finished, gamma=0.97, gae_lambda=0.8)
    for b, m in np.ndindex(2, 3):
        for t in range(20):
            total, weight = 0.0, 1.0
            for s in range(t, 20):
                total += weight * (reward[b, s, m] + 0.97 * next_value[b, s, m] - value[b, s, m])
                weight *= 0.97 * 0.8
                if finished[b, s, m]:
                    break
            assert got[b, t, m] == pytest.approx(total, rel=1e-4, abs=1e-5)


def test_reinforce_returns_are_discounted_sums_to_the_end_of_the_episode():
    learner = REINFORCE(
        hidden=(4,), steps=6, gamma=GAMMA, reward_scale=1.0, baseline="none", discounted=True
    )
    bound = stack(learner, Constant(limit=3), 2)
    rollout = roll(bound, bound.start([0, 1], same=True), 6)
    weighted, target = bound.plan.targets(rollout)
    returns = [1 + GAMMA + GAMMA**2, 1 + GAMMA, 1.0] * 2
    np.testing.assert_allclose(target[0, :, 0], returns, rtol=1e-6)
    np.testing.assert_allclose(
        weighted[0, :, 0], np.array(returns) * ([1, GAMMA, GAMMA**2] * 2), rtol=1e-6
    )


def test_reinforce_on_episodes_takes_whole_ones_and_means_over_them():
    learner = REINFORCE(
        hidden=(4,), episodes=4, gamma=GAMMA, reward_scale=1.0, baseline="none", optimizer="sgd"
    )
    bound = stack(learner, Constant(limit=3), 1, instances=1)
    assert not bound.traits.fixed_steps
    outcome = bound.update(Batch([0], [0], bound.start([0], same=True), bound.init([0])))
    assert outcome.env_steps.tolist() == [12]
    assert list(outcome.returns[0]) == [3.0] * 4
    # the policy is uniform to 1e-2 at the start: -mean over episodes of sum log(1/2) G
    assert outcome.loss[0] == pytest.approx(
        np.log(2) * (1 + GAMMA + GAMMA**2 + 1 + GAMMA + 1), rel=0.02
    )


def test_what_is_recorded_is_what_happened():
    bound = stack(PPO(hidden=(16,), steps=12), DISCRETE, 2)
    rollout = roll(bound, bound.start([0, 1], same=True), 12)
    assert rollout.obs.shape == (2, 4, 48)
    assert rollout.elapsed[:, 0].tolist() == [[0] * 4] * 2
    again = rollout.finished[:, :-1]
    assert (rollout.elapsed[:, 1:][again] == 0).all()
    assert (rollout.elapsed[:, 1:][~again] == rollout.elapsed[:, :-1][~again] + 1).all()
    clock = roll(stack(PPO(hidden=(16,)), Constant(limit=5), 2), constant_value(bound, 0.0), 5)
    assert clock.measures["clock"].tolist() == [3.0, 3.0]
    assert clock.returns == [[5.0] * 4] * 2


@pytest.mark.parametrize("problem", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_the_first_minibatch_has_ratio_one_so_its_gradient_is_that_of_a2c(problem):
    options = {"hidden": (16,), "steps": 8, "reward_scale": 1.0, "max_grad_norm": 0.0, "lr": 1e-3}
    ppo = PPO(update_epochs=1, num_minibatches=1, norm_adv=False, **options)
    a2c = A2C(**options)
    results = []
    for learner in (ppo, a2c):
        bound = learner.prepare(task(problem, 2))
        results.append(
            bound.update(Batch([0, 1], [0, 0], bound.start([0, 1], same=True), bound.init([0, 1])))
        )
    np.testing.assert_allclose(
        results[0].state["adam_m"], results[1].state["adam_m"], rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize("problem", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_every_agent_and_every_update_draws_its_own_actions(problem):
    bound = stack(PPO(hidden=(16,)), problem, 2)
    rows = bound.start([0, 1], same=True)
    first, again, later = (roll(bound, rows, 16, index) for index in (0, 0, 1))
    assert np.array_equal(first.action, again.action)
    assert not np.array_equal(first.action, later.action)
    assert not np.array_equal(first.action[0], first.action[1])
