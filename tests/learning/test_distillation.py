"""Distillation: an agent offers its policy's probabilities, and learns from a mixture.

It works for any network.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from learner_worlds import CONTINUOUS, DISCRETE, task

import p2pfrl
from p2pfrl.core.errors import ScenarioError
from p2pfrl.learning.environments.gridworld import GridWorld
from p2pfrl.learning.learners.a2c import A2C
from p2pfrl.learning.learners.distill import Distill
from p2pfrl.learning.learners.dqn import DQN
from p2pfrl.learning.learners.ppo import PPO
from p2pfrl.learning.trainer import Trainer
from p2pfrl.scenario import loads

LEARNERS = {
    "ppo": PPO(hidden=(16,), steps=16),
    "shared": PPO(hidden=(16,), steps=16, shared_trunk=True),
    "dqn": DQN(hidden=(16,), learn_start=10, steps=16, batch_size=8),
    "warm": A2C(hidden=(16,), steps=8, distill=Distill(temperature=3.0, states=10, coef=2.0)),
}


def bound_to(learner, problem=DISCRETE, agents=3):
    return learner.prepare(replace(task(problem, agents), offer="logits"))


@pytest.mark.parametrize("name", list(LEARNERS))
def test_chances_of_actions_in_public_states_are_offered(name):
    bound = bound_to(LEARNERS[name])
    trainer = Trainer(bound, 3)
    offered = trainer.offer(1, "logits")
    states, temperature = LEARNERS[name].distill.states, LEARNERS[name].distill.temperature
    assert offered.shape == (bound.exchange.offer_size("logits"),) == (states * 2,)
    x = bound.distillation.public[None]
    out = np.empty((1, bound.network.outputs, states), dtype=np.float32)
    bound.network.forward(trainer.parameters[1:2], x, out)
    want = torch.softmax(torch.from_numpy(out[0, :2].T / temperature), dim=1).numpy()
    assert np.allclose(offered.reshape(states, 2), want, atol=1e-6)


def test_public_states_are_everyone_s_and_cover_a_table():
    few, many = (bound_to(PPO(hidden=(8,)), agents=agents) for agents in (3, 9))
    few.simulator._physics = {name: values[:3] for name, values in many.simulator._physics.items()}
    assert np.array_equal(few.distillation.public, many.distillation.public)
    assert len(np.unique(few.distillation.public, axis=1).T) == 64
    grid = bound_to(PPO(hidden=(8,)), GridWorld())
    assert np.array_equal(grid.distillation.public, np.eye(grid.simulator.spec.states))


@pytest.mark.parametrize("name", list(LEARNERS))
def test_the_gradient_is_that_of_the_kl_from_the_mixture(name):
    bound = bound_to(LEARNERS[name])
    trainer, rng = Trainer(bound, 3), np.random.default_rng(0)
    bound.layout.unpack(
        rng.normal(0, 0.7, (3, bound.layout.size)).astype(np.float32), trainer.parameters
    )
    options, mixture = (
        LEARNERS[name].distill,
        rng.dirichlet((1.0, 2.0), (3, LEARNERS[name].distill.states)),
    )
    for agent in range(3):
        trainer.receive(agent, "logits", {-1: mixture[agent].ravel().astype(np.float32)})
    gradient = bound.layout.zeros(3)
    loss = bound.distillation.add(trainer.parameters, trainer.state, gradient)

    def want(rows):
        out = np.empty((3, bound.network.outputs, options.states), dtype=np.float32)
        bound.network.forward(rows, np.repeat(bound.distillation.public[None], 3, axis=0), out)
        log_pi = torch.log_softmax(
            torch.from_numpy(out[:, :2] / options.temperature).double(), dim=1
        ).numpy()
        target = mixture.transpose(0, 2, 1)
        kl = (target * (np.log(target) - log_pi)).sum(axis=1).mean(axis=1)
        return options.coef * options.temperature**2 * kl

    assert np.allclose(loss, want(trainer.parameters), rtol=1e-4)
    for place in rng.choice(80, 6):
        ends = []
        for shift in (-1e-2, 1e-2):
            near = trainer.parameters.copy()
            near[:, place] += shift
            ends.append(want(near))
        assert np.allclose(gradient[:, place], (ends[1] - ends[0]) / 2e-2, atol=3e-3)


def test_no_target_teaches_nothing_and_coef_zero_neither():
    bound = bound_to(PPO(hidden=(8,), distill=Distill(coef=0.0)))
    trainer = Trainer(bound, 3)
    gradient = bound.layout.zeros(3)
    trainer.receive(0, "logits", {-1: np.full(128, 0.5, dtype=np.float32)})
    assert not bound.distillation.add(trainer.parameters, trainer.state, gradient).any()
    bound = bound_to(PPO(hidden=(8,)))
    trainer = Trainer(bound, 3)
    assert not bound.distillation.add(trainer.parameters, trainer.state, gradient).any()
    assert not gradient.any()


def test_it_needs_discrete_actions_and_its_payload():
    with pytest.raises(ScenarioError, match="discrete"):
        bound_to(PPO(), CONTINUOUS)
    with pytest.raises(ScenarioError, match="payload"):
        PPO(distill=Distill(coef=2.0)).prepare(task(DISCRETE, 1))


TEXT = """
name = "x"
agents = 3
mode = "{mode}"
[stop]
rounds = 8
[environment]
id = "CartPole-v1"
[learner]
kind = "ppo"
hidden = [16]
lr = {lr}
same_start = false
distill = {{coef = 5.0, states = 20}}
[exchange]
payload = "logits"
[topology]
kind = "complete"
[network]
latency = 0.0
{more}
"""


def text(mode="gossip", lr=0.0, more=""):
    return TEXT.format(mode=mode, lr=lr, more=more)


@pytest.mark.parametrize("mode", ["gossip", "central"])
def test_chances_travel_and_parameters_do_not(mode):
    record = p2pfrl.run(loads(text(mode)))
    per_message = record.summary["bytes_sent"] / record.summary["messages_sent"]
    assert 20 * 2 * 4 < per_message < 20 * 2 * 4 + 250


@pytest.mark.parametrize("mode", ["gossip", "central"])
def test_agents_that_distill_agree_while_parameters_stay_apart(mode):
    alone = p2pfrl.run(loads(text("independent", lr=1e-3)))
    taught = p2pfrl.run(loads(text(mode, lr=1e-3)))
    assert taught.metrics["policy_kl"][-1] < 0.7 * alone.metrics["policy_kl"][-1]
    assert taught.metrics["consensus_distance"][-1] > 0.5 * alone.metrics["consensus_distance"][-1]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (
            '[exchange]\npayload = "logits"\nshared = ["actor"]',
            "exchange.shared needs parameters that travel",
        ),
        (
            '[exchange]\npayload = "logits"\norder = "combine_while_adapting"',
            "exchange.order 'combine_while_adapting' needs parameters that travel",
        ),
        ('[mixing]\nkind = "push_sum"', "mixing 'push_sum' needs parameters that travel"),
    ],
)
def test_what_works_on_parameters_is_refused_beside_it(more, reason):
    changed = text().replace('[exchange]\npayload = "logits"', "") if "exchange" in more else text()
    with pytest.raises(ScenarioError, match=reason):
        loads(changed + more)
