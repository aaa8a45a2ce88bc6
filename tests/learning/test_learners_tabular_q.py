"""Tabular Q-learning: against plain numpy, against Q*, and what its behaviors visit."""

from dataclasses import replace

import numpy as np
import pytest

from p2pfrl.core.distributions.assigned import Values
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.rng import Streams
from p2pfrl.laws.runs import play, text
from p2pfrl.learning.environments.garnet import Garnet
from p2pfrl.learning.environments.gridworld import GridWorld
from p2pfrl.learning.environments.vary import columns
from p2pfrl.learning.learners.base import Task
from p2pfrl.learning.learners.behaviors import EpsilonGreedy, Generative, Given, Uniform
from p2pfrl.learning.learners.tabular_q import TabularQ
from p2pfrl.learning.trainer import Trainer
from p2pfrl.scenario import loads

N = 6
GARNET = Garnet(states=7, actions=3, branching=2)
GRID = GridWorld(rows=3, columns=3, walls=((1, 1),), max_steps=20)


def bound(learner, environment=GARNET, *, agents=N, instances=3, seed=3):
    levels = (
        {"perturbation": Values(list=tuple(np.linspace(0, 1, agents)))}
        if environment is GARNET
        else {}
    )
    physics = environment.physics(
        seed, range(agents), columns(environment, levels, seed, range(agents), agents)
    )
    simulator, evaluator = (environment.simulator(physics, m, seed) for m in (instances, 8))
    return learner.prepare(Task(seed, agents, simulator, evaluator))


def run(learner, groups, environment, chunk=None):
    stack = bound(learner, environment)
    stack.traits = replace(stack.traits, chunk=chunk or stack.traits.chunk)
    trainer = Trainer(stack, N)
    for _ in range(3):
        for group in groups:
            trainer.update(group)
    return trainer


@pytest.mark.parametrize("environment", [GARNET, GRID], ids=["garnet", "gridworld"])
@pytest.mark.parametrize(
    "behavior",
    [Generative(), Uniform(), EpsilonGreedy(epsilon=0.3)],
    ids=["generative", "uniform", "epsilon_greedy"],
)
def test_alone_in_subsets_in_chunks_and_all_together_are_bit_identical(behavior, environment):
    learner = TabularQ(steps=13, behavior=behavior)
    everyone = run(learner, [range(N)], environment)
    for groups, chunk in (
        ([[i] for i in range(N)], None),
        ([[4, 1], [0, 5, 3], [2]], None),
        ([range(N)], 4),
    ):
        other = run(learner, groups, environment, chunk)
        assert np.array_equal(everyone.parameters, other.parameters)
        for name, values in everyone.state.items():
            assert np.array_equal(values, other.state[name]), name
    assert np.abs(everyone.parameters).max() > 0


@pytest.mark.parametrize("environment", [GARNET, GRID], ids=["garnet", "gridworld"])
def test_generative_steps_are_the_rule_in_plain_numpy(environment):
    stack = bound(TabularQ(steps=4, gamma=0.9, lr=0.2), environment, instances=2)
    trainer, agent = Trainer(stack, N), 2
    trainer.update([agent])
    physics = {name: values[agent] for name, values in stack.task.simulator.physics.items()}
    states, actions = stack.shape
    q, noise = np.zeros(stack.shape), Streams.of(3, [agent], "samples", 0)
    for _ in range(4):
        uniform, target = noise.uniform(2, *stack.shape)[0], np.zeros(stack.shape)
        for m in range(2):
            for s in range(states):
                for a in range(actions):
                    place = int(np.argmax(physics["cumulative"][s, a] > uniform[m, s, a]))
                    after = physics["after"][s, a, place]
                    entered = 0.0 if physics["terminal"][s] else physics["entry_reward"][after]
                    future = 0.0 if physics["terminal"][after] else q[after].max()
                    target[s, a] += (physics["action_reward"][s, a] + entered + 0.9 * future) / 2
        q = 0.8 * q + 0.2 * target
    np.testing.assert_allclose(trainer.read(agent)[: q.size].reshape(q.shape), q, atol=1e-13)
    assert (trainer.state["visits"][agent][: q.size] == 4).all()


def test_a_walk_updates_what_it_visits_in_order():
    stack = bound(
        TabularQ(steps=30, gamma=0.9, lr=0.25, behavior=Uniform()), GRID, agents=1, instances=2
    )
    trainer = Trainer(stack, 1)
    world = {name: values.copy() for name, values in trainer.state.items() if name != "visits"}
    update = trainer.update([0])[0]
    simulator, noise, q = stack.simulator, Streams.of(3, [0], "behavior", 0), np.zeros(stack.shape)
    simulator.begin([0], [0])
    here, visits, returns = (
        np.argmax(simulator.observe([0], world), axis=-1)[0],
        np.zeros(stack.shape),
        [],
    )
    for _ in range(30):
        action = (noise.uniform(2)[0] * 4).astype(int)
        step = simulator.step(world, action[None])
        after = np.argmax(step.next_obs[0], axis=-1)
        for m in range(2):
            future = 0.0 if step.terminated[0, m] else q[after[m]].max()
            q[here[m], action[m]] += 0.25 * (
                step.reward[0, m] + 0.9 * future - q[here[m], action[m]]
            )
            visits[here[m], action[m]] += 1
        returns += step.returns[0][step.finished[0]].tolist()
        here = np.argmax(step.obs[0], axis=-1)
    np.testing.assert_allclose(trainer.read(0)[: q.size].reshape(q.shape), q, atol=1e-14)
    np.testing.assert_array_equal(trainer.state["visits"][0][: q.size].reshape(q.shape), visits)
    assert visits.sum() == update.env_steps == 60
    assert update.returns == tuple(returns)
    assert returns


def test_q_star_satisfies_the_optimality_equation_of_every_agent_and_of_their_mean():
    for environment in (GARNET, GRID):
        stack = bound(TabularQ(gamma=0.9), environment)
        physics, found = stack.simulator.physics, stack.objective.problem()
        goes_on = 1.0 - physics["terminal"]
        backups = []
        for i in range(N):
            ahead = physics["P"][i] @ (goes_on[i] * found["Q_star"][i].max(axis=1))
            np.testing.assert_allclose(
                found["Q_star"][i], physics["R"][i] + 0.9 * ahead, atol=1e-11
            )
            mean_ahead = physics["P"][i] @ (goes_on[i] * found["optimum"].max(axis=1))
            backups.append(physics["R"][i] + 0.9 * mean_ahead)
        np.testing.assert_allclose(found["optimum"], np.mean(backups, axis=0), atol=1e-11)
        assert stack.objective.error(stack.layout.zeros(2))[1] == pytest.approx(
            np.linalg.norm(found["optimum"])
        )


@pytest.mark.parametrize(
    "behavior",
    [
        {"kind": "generative"},
        {"kind": "uniform"},
        pytest.param({"kind": "epsilon_greedy"}, marks=pytest.mark.slow),
    ],
)
def test_agents_find_the_way_through_a_grid(behavior):
    environment = {"id": "gridworld", "rows": 3, "columns": 3, "instances": 4}
    learner = {"kind": "tabular_q", "gamma": 0.9, "steps": 40, "lr": 0.2, "behavior": behavior}
    record = play(
        3, 30, environment=environment, learner=learner, evaluation={"every": 30, "episodes": 40}
    )
    stack = bound(TabularQ(gamma=0.9), GridWorld(rows=3, columns=3), agents=3)
    rows = stack.layout.zeros(3)
    rows[:, :36] = record.parameters
    greedy = stack.evaluator.evaluate(range(3), rows, 64, 0)
    exact = stack.layout.zeros(3)
    exact[:, :36] = stack.optimum.ravel()
    assert greedy.min() > 0.9 * stack.evaluator.evaluate(range(3), exact, 64, 0).mean() > 0.5


def test_given_policies_are_dealt_to_the_agents_in_turn():
    learner = TabularQ(steps=50, behavior=Given(policies=((1.0, 0.0, 0.0), (0.0, 0.25, 0.75))))
    trainer = Trainer(bound(learner), N)
    trainer.update(range(N))
    visits = trainer.state["visits"][:, :21].reshape(N, 7, 3).sum(axis=1)
    assert (visits[::2, 1:] == 0).all()
    assert (visits[1::2, 0] == 0).all()
    assert visits[1::2, 2].sum() / visits[1::2].sum() == pytest.approx(0.75, abs=0.1)


def test_epsilon_greedy_takes_the_best_that_often():
    chances = EpsilonGreedy(epsilon=0.2).policy(np.array([[[1.0, 3.0, 3.0, 0.0]]]), [0])
    np.testing.assert_allclose(chances[0, 0], [0.05, 0.85, 0.05, 0.05])


def test_agents_may_start_apart():
    stack = bound(TabularQ(same_start=False))
    rows = stack.start(range(N), same=False)
    assert (stack.start(range(N), same=True) == 0).all()
    assert len({row[0] for row in rows}) == N
    assert np.array_equal(rows[4], stack.start([4], same=False)[0])


def test_what_it_cannot_do_is_said():
    with pytest.raises(ScenarioError, match="sum to 1"):
        Given(policies=((0.5, 0.4),))
    with pytest.raises(ScenarioError, match="expected 3 probabilities"):
        bound(TabularQ(behavior=Given(policies=((0.5, 0.5),))))
    wrong = {"learner": {"kind": "tabular_q"}, "environment": {"id": "CartPole-v1"}}
    with pytest.raises(ScenarioError, match="given by tables"):
        loads(text(3, 2, **wrong))
    with pytest.raises(ScenarioError, match="behavior"):
        loads(
            text(
                3,
                2,
                learner={"kind": "tabular_q", "behavior": {"kind": "greedy"}},
                environment={"id": "garnet"},
            )
        )
