"""The guide is nothing at coefficient zero, and its gradient is that of the KL divergence.

The larger the coefficient, the nearer agents are to the common policy.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from learner_worlds import CONTINUOUS, DISCRETE, task

from p2pfrl.core.errors import ScenarioError
from p2pfrl.learning.corrections.base import Uncorrected
from p2pfrl.learning.corrections.guide import Guide
from p2pfrl.learning.learners.a2c import A2C
from p2pfrl.learning.learners.ppo import PPO
from p2pfrl.learning.learners.reinforce import REINFORCE
from p2pfrl.learning.native.choice import missing
from p2pfrl.learning.policies import policy_of
from p2pfrl.learning.trainer import Trainer
from p2pfrl.scenario import loads

PROBLEMS = pytest.mark.parametrize(
    "problem", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"]
)


ENGINES = [
    "torch",
    pytest.param(
        "native", marks=pytest.mark.skipif(missing() is not None, reason="no native engine")
    ),
]


def trained(learner, problem, correction, updates=3, agents=3, alone=False, engine="torch"):
    """Return the trainer after updates whose guide is always the start."""
    world = replace(task(problem, agents), correction=correction, engine=engine)
    bound = learner.prepare(world)
    trainer = Trainer(bound, agents)
    if correction.arrays:
        trainer.state["guide"][:] = trainer.parameters
    for _ in range(updates):
        for group in [[i] for i in range(agents)] if alone else [range(agents)]:
            trainer.update(group)
    return trainer


@PROBLEMS
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "learner", [PPO(hidden=(16,)), A2C(hidden=(16,)), REINFORCE(hidden=(16,), steps=32)]
)
def test_without_weight_no_bit_changes(learner, problem, engine):
    with_it, without = (
        trained(learner, problem, correction, engine=engine)
        for correction in (Guide(coef=0.0), Uncorrected())
    )
    assert np.array_equal(with_it.parameters, without.parameters)
    assert np.array_equal(with_it.state["adam_v"], without.state["adam_v"])
    assert not np.array_equal(
        with_it.parameters, trained(learner, problem, Guide(coef=1.0), engine=engine).parameters
    )


@PROBLEMS
@pytest.mark.parametrize("shared", [False, True])
def test_who_shares_a_batch_does_not_matter(problem, shared):
    learner = PPO(hidden=(16,), steps=16, shared_trunk=shared)
    runs = [trained(learner, problem, Guide(coef=0.5), alone=alone) for alone in (False, True)]
    assert np.array_equal(runs[0].parameters, runs[1].parameters)


@pytest.mark.slow
@PROBLEMS
def test_the_stronger_the_nearer_the_policy_stays(problem):
    """KL(guide || pi) on the agents' own observations, after ten updates toward elsewhere."""
    apart = []
    for coef in (0.0, 3.0, 30.0):
        trainer = trained(PPO(hidden=(32,), lr=1e-3), problem, Guide(coef=coef), updates=10)
        bound, start = trainer.stack, trainer.stack.start(range(3), same=True)
        obs = np.ascontiguousarray(
            bound.simulator.observe(range(3), {**trainer.state}).transpose(0, 2, 1)
        )
        heads = []
        for rows in (start, trainer.parameters):
            out = np.empty((3, bound.network.outputs, obs.shape[2]), dtype=np.float32)
            bound.network.forward(rows, obs, out)
            heads += [out[:, : bound.policy.outputs], bound.network.log_std(rows)]
        apart.append(float(bound.policy.divergence(*heads).mean()))
    assert apart == sorted(apart, reverse=True)
    assert apart[-1] < 0.1 * apart[0]


@PROBLEMS
def test_the_kl_that_is_differentiated_is_the_one_that_is_reported(problem):
    policy = policy_of(problem.spec)
    k = policy.outputs
    rng = np.random.default_rng(3)
    size = k if policy.has_log_std else 0
    heads = [
        (rng.standard_normal((2, k, 5)), 0.3 * rng.standard_normal((2, size))) for _ in range(2)
    ]
    (a, s), (b, t) = heads
    want = policy.divergence(a, s, b, t)
    got = policy.kl(*map(torch.from_numpy, (a, s, b, t)))
    assert np.allclose(got.numpy(), want, atol=1e-12)


def test_its_gradient_is_coef_times_that_of_the_kl():
    """By a difference quotient of the loss, guide and parameters apart."""
    bound = A2C(hidden=(8,), steps=8).prepare(
        replace(task(DISCRETE, 1), correction=Guide(coef=2.0))
    )
    rng = np.random.default_rng(0)
    rows, guide = bound.start([0], same=True), bound.start([0], same=True)
    for target in (rows, guide):
        bound.layout.unpack(rng.normal(0, 0.7, bound.layout.size).astype(np.float32), target[0])
    descent, packed = bound._descent, rng.standard_normal((1, 6, 12)).astype(np.float32)
    packed = np.concatenate(
        [packed[..., :4], rng.integers(0, 2, (1, 6, 12))[..., :1], packed[..., 5:8]], axis=-1
    )
    columns = np.ascontiguousarray(packed.transpose(0, 2, 1), dtype=np.float32)

    def both(at, shown):
        gradient, out = bound.layout.zeros(1), np.zeros((1, 3, 6), dtype=np.float32)
        return float(descent._gradient(at, columns, out, gradient, shown)[0]), gradient

    def heads(at):
        out = np.zeros((1, 3, 6), dtype=np.float32)
        bound.network.forward(at, columns[:, :4], out)
        return torch.from_numpy(out[:, :2].astype(np.float64)), torch.zeros(1, 0)

    value = both(rows, guide)[0] - both(rows, None)[0]
    assert value == pytest.approx(
        2.0 * float(bound.policy.kl(*heads(guide), *heads(rows)).mean()), rel=1e-3
    )
    gradient = both(rows, guide)[1] - both(rows, None)[1]
    for place in rng.choice(bound.layout.slices(["actor"])[0][1].stop, 5):
        near = [rows.copy() for _ in range(2)]
        near[0][0, place] -= 1e-2
        near[1][0, place] += 1e-2
        ends = [2.0 * float(bound.policy.kl(*heads(guide), *heads(at)).mean()) for at in near]
        assert gradient[0, place] == pytest.approx((ends[1] - ends[0]) / 2e-2, abs=2e-3)


def scenario(learner):
    return f"""
name = "x"
agents = 2
[stop]
rounds = 2
[learner]
{learner}
[correction]
kind = "guide"
"""


@pytest.mark.parametrize(
    "learner", ['kind = "quadratic"', 'kind = "dqn"\n[environment]\nid = "CartPole-v1"']
)
def test_a_learner_without_a_policy_is_refused(learner):
    with pytest.raises(ScenarioError, match="'guide' needs a learner with a policy"):
        loads(scenario(learner))
