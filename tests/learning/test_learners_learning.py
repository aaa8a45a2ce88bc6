"""Learners learn; what cannot work is refused; options do something."""

import numpy as np
import pytest
import torch
from learner_worlds import CONTINUOUS, DISCRETE, Constant, Target, stack

from p2pfrl.core.errors import ScenarioError
from p2pfrl.learning.learners import RULES
from p2pfrl.learning.learners.a2c import A2C
from p2pfrl.learning.learners.base import Batch, Task
from p2pfrl.learning.learners.ppo import PPO
from p2pfrl.learning.learners.reinforce import REINFORCE
from p2pfrl.learning.trainer import Trainer


def train(learner, problem, *, agents, instances, updates, seed=1):
    """Return the trainer, and each agent's training returns."""
    trainer = Trainer(stack(learner, problem, agents, instances=instances, seed=seed), agents)
    returns = [[] for _ in range(agents)]
    for _ in range(updates):
        for agent, update in trainer.update(range(agents)).items():
            returns[agent] += update.returns
    return trainer, returns


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_ppo_balances_the_pole_within_30000_steps_per_agent(seed, shared):
    trainer = Trainer(stack(PPO(shared_trunk=shared), DISCRETE, 16, seed=seed), 16)
    returns = [[] for _ in range(16)]
    for _ in range(30_000 // 256):
        for agent, update in trainer.update(range(16)).items():
            returns[agent] += update.returns
        best = np.mean([np.mean(mine[-20:]) for mine in returns if mine])
        if best >= 475:
            break
    assert best >= 475


def test_ppo_balances_the_pole():
    trainer, returns = train(PPO(shared_trunk=True), DISCRETE, agents=4, instances=4, updates=60)
    assert np.mean([np.mean(mine[:20]) for mine in returns]) < 40
    assert np.mean([np.mean(mine[-20:]) for mine in returns]) > 300
    assert trainer.stack.evaluator.evaluate(range(4), trainer.parameters, 2, 0).mean() > 350


@pytest.mark.parametrize(
    "learner",
    [
        PPO(hidden=(16,), lr=1e-2, reward_scale=1.0, steps=16),
        A2C(hidden=(16,), lr=1e-2, reward_scale=1.0, steps=16),
        pytest.param(
            A2C(hidden=(16,), lr=1e-2, reward_scale=1.0, steps=16, optimizer="rmsprop"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            REINFORCE(hidden=(16,), lr=1e-2, reward_scale=1.0, steps=16), marks=pytest.mark.slow
        ),
        pytest.param(
            REINFORCE(
                hidden=(16,), lr=1e-2, reward_scale=1.0, steps=16, baseline="none", norm_adv=True
            ),
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda learner: type(learner).__name__,
)
def test_continuous_actions_find_the_goal(learner):
    bound = stack(learner, Target(), 4, instances=8)
    trainer = Trainer(bound, 4)
    before = bound.evaluator.evaluate(range(4), trainer.parameters, 1, 0)
    assert before == pytest.approx(np.full(4, -0.25), abs=0.02)
    for _ in range(50 if isinstance(learner, PPO) else 150):
        trainer.update(range(4))
    assert (bound.evaluator.evaluate(range(4), trainer.parameters, 1, 0) > -0.03).all()


@pytest.mark.slow
def test_the_standard_deviation_is_learned():
    learner = PPO(hidden=(16,), lr=1e-2, reward_scale=1.0, steps=16)
    trainer, _ = train(learner, Target(), agents=2, instances=8, updates=100)
    assert (trainer.stack.network.log_std(trainer.parameters) < -0.5).all()


@pytest.mark.parametrize(
    "learner",
    [
        PPO(hidden=(16,), steps=8, num_minibatches=1),
        A2C(hidden=(16,), steps=8),
        REINFORCE(hidden=(16,), steps=8),
    ],
    ids=lambda learner: type(learner).__name__,
)
def test_pooled_learning_of_one_agent_is_its_own_learning(learner):
    bound = stack(learner, DISCRETE, 1)
    rows = bound.start([0], same=True)
    collected = bound.pooled.collect(Batch([0], [0], rows.copy(), bound.init([0])))
    assert np.array_equal(collected.parameters, rows)
    assert collected.env_steps.tolist() == [32]
    own = bound.update(Batch([0], [0], rows.copy(), bound.init([0])))
    bound.pooled.learn(rows, bound.optimizer_state(1), list(collected.transitions), 0)
    assert np.array_equal(rows, own.parameters)
    assert np.abs(rows - bound.start([0], same=True)).max() > 1e-4


def test_pooled_learning_takes_as_many_steps_as_one_agent():
    bound = stack(PPO(hidden=(16,), steps=8), DISCRETE, 3)
    rows, state = bound.start([0], same=True), bound.optimizer_state(1)
    collected = bound.pooled.collect(
        Batch(range(3), [0] * 3, bound.start(range(3), same=True), bound.init(range(3)))
    )
    bound.pooled.learn(rows, state, list(collected.transitions), 0)
    assert state["adam_steps"].tolist() == [16.0]


def test_divergence_is_zero_for_equal_policies_and_grows_with_the_distance():
    for problem in (DISCRETE, CONTINUOUS):
        bound = stack(PPO(hidden=(16,)), problem, 4)
        state = bound.init(range(4))
        rows = bound.start(range(4), same=True)
        rng = np.random.default_rng(0)
        noise = bound.layout.zeros(4)
        bound.layout.unpack(rng.normal(size=(4, bound.layout.size)).astype(np.float32), noise)
        small, large = (
            bound.evaluator.divergence(range(4), rows + scale * noise, state)
            for scale in (0.01, 0.1)
        )
        assert bound.evaluator.divergence(range(4), rows, state) == pytest.approx(0.0, abs=1e-9)
        assert 0 < small < large


def test_divergence_is_the_mean_kl_to_the_policy_of_the_mean_parameters():
    bound = stack(PPO(hidden=(16,)), DISCRETE, 3)
    state, rows = bound.init(range(3)), bound.start(range(3), same=False)
    mean, log_pi = bound.layout.zeros(3), []
    rows *= 3.0
    mean[:] = rows.mean(axis=0)
    for parameters in (rows, mean):
        out = np.empty((3, 3, 4), dtype=np.float32)
        x = np.ascontiguousarray(bound.simulator.observe(range(3), state).transpose(0, 2, 1))
        bound.network.forward(parameters, x, out)
        log_pi.append(torch.log_softmax(torch.from_numpy(out[:, :2]).double(), dim=1))
    want = (log_pi[0].exp() * (log_pi[0] - log_pi[1])).sum(dim=1).mean()
    assert bound.evaluator.divergence(range(3), rows, state) == pytest.approx(float(want), rel=1e-6)


def test_learners_without_an_environment_to_learn_in_are_refused():
    with pytest.raises(ScenarioError, match="needs an environment"):
        PPO().prepare(Task(1, 2))


def test_impossible_options_are_refused_with_the_reason():
    with pytest.raises(ScenarioError, match="must divide steps x instances = 20"):
        stack(PPO(steps=5, num_minibatches=8), DISCRETE, 2)
    with pytest.raises(ScenarioError, match=r"environment\.instances = 1"):
        stack(REINFORCE(episodes=2), DISCRETE, 2)
    with pytest.raises(ScenarioError):
        PPO(learning_rate=1e-3)


CHANGES = {
    "ppo": {
        "gamma": 0.5,
        "gae_lambda": 0.1,
        "update_epochs": 1,
        "num_minibatches": 2,
        "clip_coef": 0.001,
        "ent_coef": 0.5,
        "vf_coef": 0.1,
        "max_grad_norm": 0.01,
        "norm_adv": False,
        "reward_scale": 1.0,
        "activation": "relu",
        "lr": 0.1,
        "steps": 16,
        "hidden": (8,),
        "shared_trunk": True,
    },
    "a2c": {
        "gamma": 0.5,
        "gae_lambda": 0.1,
        "ent_coef": 0.5,
        "vf_coef": 0.1,
        "max_grad_norm": 0.001,
        "norm_adv": True,
        "optimizer": "rmsprop",
        "reward_scale": 1.0,
        "activation": "relu",
        "lr": 0.1,
        "steps": 4,
        "hidden": (8,),
        "shared_trunk": True,
    },
    "reinforce": {
        "gamma": 0.5,
        "discounted": True,
        "baseline": "none",
        "ent_coef": 0.5,
        "max_grad_norm": 0.001,
        "norm_adv": True,
        "optimizer": "sgd",
        "reward_scale": 1.0,
        "activation": "relu",
        "lr": 0.1,
        "steps": 16,
        "hidden": (8,),
    },
}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, options in CHANGES.items() for name in options]
)
def test_every_option_does_something(kind, name):
    base = {"hidden": (16,), "steps": 32}
    results = []
    for options in (base, base | {name: CHANGES[kind][name]}):
        trainer = Trainer(stack(RULES[kind](**options), Constant(limit=20), 1), 1)
        trainer.update([0])
        results.append(trainer.parameters)
    assert results[0].shape != results[1].shape or not np.array_equal(*results)


def test_infinite_and_truncated_episodes_count_once():
    trainer, returns = train(
        PPO(hidden=(8,), steps=8), Constant(limit=5), agents=2, instances=2, updates=5
    )
    assert returns == [[5.0] * 16] * 2
    assert trainer.stack.evaluator.evaluate([0, 1], trainer.parameters, 3, 0).tolist() == [5.0, 5.0]
