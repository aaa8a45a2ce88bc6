"""Tabular actor-critic: against plain loops, and what its tables come to when they are averaged."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from p2pfrl.laws.games import closed
from p2pfrl.laws.runs import play_tables
from p2pfrl.learning.environments.garnet import Garnet
from p2pfrl.learning.environments.networked_mdp import NetworkedMDP
from p2pfrl.learning.learners.base import Task
from p2pfrl.learning.learners.check import check_learner
from p2pfrl.learning.learners.tabular_ac import TabularAC
from p2pfrl.learning.trainer import Trainer

K, S, M = 2, 3, 4


def trainer(learner, *, agents=2 * K, max_steps=5):
    environment = NetworkedMDP(members=K, states=S, max_steps=max_steps)
    columns = {"noise": np.full(agents, 0.5)}
    physics = environment.physics(3, range(agents), columns)
    made = environment.simulator(physics, M, 3)
    stack = learner.prepare(Task(3, agents, made, made))
    return Trainer(stack, agents, same_start=False)


def tables(made, agent):
    stack = made.stack
    return [
        stack._table(made.parameters[[agent]], name)[0].copy()
        for name in ("actor", "critic", "reward")
    ]


def test_an_update_is_that_of_plain_loops(monkeypatch):
    learner = TabularAC(steps=7, lr=0.6, critic_lr=0.3, reward_lr=0.2)
    made = trainer(learner)
    made.update(range(4))
    before = [tables(made, agent) for agent in range(4)]
    seen = []
    act = made.stack._act
    monkeypatch.setattr(made.stack, "_act", lambda batch: seen.append(act(batch)) or seen[-1])
    updates = made.update(range(4))
    paths = seen[0][0]
    for agent in range(4):
        theta, V, R = (values.copy() for values in before[agent])
        old_V, old_R = V.copy(), R.copy()
        rows = list(
            zip(
                *(
                    getattr(paths, n)[agent]
                    for n in ("state", "action", "joint", "reward", "after")
                ),
                strict=True,
            )
        )
        assert len(rows) == 7 * M
        first = agent - agent % K
        for s in range(S):
            here = [row for row in rows if row[0] == s]
            for _, a, j, r, t in here:
                V[s] += 0.3 * (r + 0.9 * old_V[t] - old_V[s]) / len(here)
                pi = np.exp(before[agent][0][s])
                pi /= pi.sum()
                theta[s] += (
                    0.6
                    * (old_R[s, j] + 0.9 * old_V[t] - old_V[s])
                    * ((np.arange(2) == a) - pi)
                    / len(here)
                )
            for j in range(4):
                pair = [r for _, _, other, r, _ in here if other == j]
                for r in pair:
                    R[s, j] += 0.2 * (r - old_R[s, j]) / len(pair)
        for found, expected in zip(tables(made, agent), (theta, V, R), strict=True):
            assert_allclose(found, expected, rtol=0, atol=1e-12)
        both = 2 * paths.action[first] + paths.action[first + 1]
        assert np.array_equal(paths.joint[agent], both)
        assert updates[agent].env_steps == 7 * M


def test_a_world_computes_the_same_in_any_batch():
    together, alone = trainer(TabularAC()), trainer(TabularAC())
    for _ in range(2):
        together.update(range(4))
        for world in ((2, 3), (0, 1)):
            alone.update(world)
    assert np.array_equal(together.parameters, alone.parameters)


def test_it_keeps_the_contract_in_environments_of_ones_own():
    check_learner(TabularAC(steps=3), Garnet(states=4))


def test_averaged_critic_and_reward_come_to_those_of_the_mean_reward():
    """Of fixed policies: V is the value in mean rewards, and R(s, a) the mean reward."""
    record = play_tables(
        2,
        40,
        {
            "environment": {"id": "networked_mdp", "members": 2, "states": 3, "instances": 64},
            "learner": {
                "kind": "tabular_ac",
                "lr": 0.0,
                "gamma": 0.5,
                "critic_lr": 0.3,
                "steps": 5,
                "same_start": False,
            },
            "exchange": {"shared": ("critic", "reward")},
            "evaluation": {"episodes": 0},
        },
        mode="gossip",
    )
    theta = record.parameters[:, :6].reshape(2, 3, 2)
    pi = np.exp(theta) / np.exp(theta).sum(axis=-1, keepdims=True)
    joint = (pi[0][:, :, None] * pi[1][:, None, :]).reshape(3, 4)
    P, r = record.problem["P"][0], record.problem["R"].mean(axis=0)
    V = np.linalg.solve(
        np.eye(3) - 0.5 * np.einsum("sj,sjt->st", joint, P), (joint * r).sum(axis=1)
    )
    for row in record.parameters:
        assert_allclose(row[6:9], V, rtol=0, atol=0.15)
        assert_allclose(row[9:], r.ravel(), rtol=0, atol=0.1)
    value = record.metrics["objective"][-1]
    assert value == pytest.approx(V.mean(), abs=1e-9)


def test_nothing_is_known_of_worlds_that_are_not_whole():
    made = trainer(TabularAC())
    objective = made.stack.objective
    assert objective.error(made.parameters[:3]) is None
    value, lacks = objective.error(made.parameters)
    assert lacks > 0
    assert objective.problem()["J_star"].mean() == pytest.approx(value + lacks)


def test_one_world_learns_for_the_mean_reward():
    assert closed(1, 40, shared=("critic", "reward"), seed=3) > 0.9
