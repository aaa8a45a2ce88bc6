"""Tabular actor-critic with an estimate of the reward, for agents that average both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.parameters import Layout, Tensor, Vector
from p2pfrl.core.rng import Purpose, Streams, generator
from p2pfrl.core.rule import rule
from p2pfrl.core.softmax import log_softmax
from p2pfrl.learning.environments.base import Array
from p2pfrl.learning.environments.shared_tabular import joint_action
from p2pfrl.learning.learners.base import (
    Batch,
    Learner,
    Objective,
    Outcome,
    Stack,
    State,
    Task,
    Traits,
)
from p2pfrl.learning.learners.joint import Games
from p2pfrl.learning.learners.processes import running_sums, search
from p2pfrl.learning.learners.softmax import SoftmaxPolicies
from p2pfrl.learning.rollout import Measures, note_returns

_ACTOR, _CRITIC, _REWARD = "actor", "critic", "reward"


@rule
class TabularAC(Learner):
    """Actor-critic with three tables: an actor theta_i, a critic V_i, and the reward R_i(s, a).

    In a shared world a is the joint action of all members, and a_i the agent's own; else both are
    the agent's action. With y = gamma V_i(s'), 0 where the episode ended, V_i(s) += critic_lr (r_i
    + y - V_i(s)), R_i(s, a) += reward_lr (r_i - R_i(s, a)), and theta_i(s, .) += lr (R_i(s, a) + y
    - V_i(s)) grad log pi_i(a_i|s), where pi_i(.|s) is the softmax of theta_i(s, .). Each number
    moves by the mean over the samples of its state, or of its (s, a), in the update; numbers are
    float64, and start at 0; with same_start = false every actor at normal numbers of its own.

    Agents that average `critic` and `reward` with neighbors after every update and keep `actor`
    (exchange.shared) learn for the mean reward of all, which none of them observes: V_i comes to
    the value of the joint policy in mean rewards, and R_i to the mean reward. If the critic alone
    is averaged, the actor follows its own reward with the others' values.

    In the record, objective is the mean over worlds of the discounted mean return of the joint
    policy from the start distribution, without time limit, and error what it falls short of the
    best joint policy, by value iteration. Independent actors may stop at a local optimum.

    Reference: Zhang, Yang, Liu, Zhang, Basar, "Fully decentralized multi-agent reinforcement
    learning with networked agents", ICML 2018, arXiv 1802.08757, Algorithm 2, there for mean
    rewards over time; discounted as in Figura, Kosaraju, Gupta, "Adversarial attacks in
    consensus-based multi-agent reinforcement learning", American Control Conference 2021.

    Attributes:
        gamma: discount.
        steps: steps of one update, in each instance, all with the policy at its start.
        critic_lr: step size of the critic.
        reward_lr: step size of the estimate of the reward.
        lr: step size of the actor.
    """

    gamma: float = Field(default=0.9, ge=0, lt=1)
    steps: int = Field(default=10, ge=1)
    critic_lr: float = Field(default=0.2, ge=0, le=1)
    reward_lr: float = Field(default=0.3, ge=0, le=1)
    lr: float = Field(default=0.3, ge=0)

    @override
    def prepare(self, task: Task) -> TabularACStack:
        """Bind the options to a task.

        Raises:
            ScenarioError: the environment has no tables.
        """
        return TabularACStack(self, task)


class TabularACStack(Stack, SoftmaxPolicies, Objective):
    """Actor-critics of a population, computed in whole worlds."""

    error_is = "value lost against the best joint policy"

    def __init__(self, learner: TabularAC, task: Task) -> None:
        self.learner = learner
        self.task = task
        self.games = Games.of(task.simulator, "tabular_ac")
        assert task.simulator is not None
        self.simulator = task.simulator
        _, k, states, joint = self.games.reward.shape
        self._members, self._choices = k, self.simulator.spec.actions
        shapes = {_ACTOR: (states, self._choices), _CRITIC: (states,), _REWARD: (states, joint)}
        self._shapes = shapes
        self.traits = Traits(
            layout=Layout(tuple(Tensor(*pair) for pair in shapes.items()), "float64"),
            min_steps=learner.steps * self.simulator.instances,
            chunk=64,
            arrays=task.arrays,
        )
        self.evaluator = self.objective = self

    @override
    def start(self, agents: Sequence[int], *, same: bool) -> Vector:
        """Return zeros `(b, stride)`, or with every agent's own normal numbers in the actor."""
        rows = self.layout.zeros(len(agents))
        if not same:
            for table, agent in zip(self._table(rows, _ACTOR), agents, strict=True):
                table += generator(self.task.seed, agent, Purpose.START).standard_normal(
                    table.shape
                )
        return rows

    @override
    def init(self, agents: Sequence[int]) -> State:
        """Return the environments, one row each."""
        return self.simulator.init(agents)

    def _table(self, rows: Vector, name: str) -> Array:
        """Return the view `(b, ...)` of a table in rows `(b, stride)`."""
        shape = self._shapes[name]
        first = self.layout.offsets[list(self._shapes).index(name)]
        view = rows[:, first : first + math.prod(shape)].reshape(len(rows), *shape)
        return np.asarray(view, dtype=np.float64)

    @override
    def update(self, batch: Batch) -> Outcome:
        """Act `steps` steps, then move the tables; the loss is the mean squared TD error."""
        paths, world, returns, measures = self._act(batch)
        learner, own = self.learner, np.arange(len(batch.agents))[:, None]
        theta, values, expected = (self._table(batch.parameters, name) for name in self._shapes)
        ahead = learner.gamma * np.where(paths.terminated, 0.0, values[own, paths.after])
        apart = paths.reward + ahead - values[own, paths.state]
        follows = expected[own, paths.state, paths.joint] + ahead - values[own, paths.state]
        pull = np.zeros_like(theta)
        np.add.at(pull, (own, paths.state, paths.action), follows)
        policy, total = np.exp(log_softmax(theta)), pull.sum(axis=-1, keepdims=True)
        visits = _counts(values.shape, own, paths.state)
        pairs = _counts(expected.shape, own, paths.state, paths.joint)
        change = np.zeros_like(values)
        np.add.at(change, (own, paths.state), apart)
        surprise = np.zeros_like(expected)
        np.add.at(
            surprise,
            (own, paths.state, paths.joint),
            paths.reward - expected[own, paths.state, paths.joint],
        )
        theta += learner.lr * (pull - policy * total) / visits[..., None]
        values += learner.critic_lr * change / visits
        expected += learner.reward_lr * surprise / pairs
        loss = np.square(apart).mean(axis=1)
        steps = np.full(len(loss), self.traits.min_steps, dtype=np.int64)
        state = {**batch.state, **world}
        return Outcome(batch.parameters, state, steps, loss, returns, measures)

    def _act(
        self, batch: Batch
    ) -> tuple[_Paths, State, list[list[float]], dict[str, NDArray[np.float64]]]:
        """Return what all members did, the worlds after it, returns and measures."""
        simulator, agents, steps = self.simulator, batch.agents, self.learner.steps
        m, b = simulator.instances, len(agents)
        world = {
            name: values for name, values in batch.state.items() if name not in self.traits.arrays
        }
        sums = running_sums(np.exp(log_softmax(self._tables(batch.parameters))))
        own = np.arange(b)[:, None]
        noise = Streams.of(self.task.seed, agents, Purpose.ACTION, batch.index).uniform(steps, m)
        paths = _Paths.empty(b, steps * m)
        returns: list[list[float]] = [[] for _ in agents]
        measures = Measures(b, simulator.spec.measures)
        simulator.begin(agents, batch.index)
        here = np.argmax(simulator.observe(agents, world), axis=-1)
        for t in range(steps):
            at = slice(t * m, (t + 1) * m)
            action = search(sums[own, here], noise[:, t])
            joint = joint_action(action.reshape(-1, self._members, m), self._choices)
            step = simulator.step(world, action)
            paths.state[:, at], paths.action[:, at] = here, action
            paths.joint[:, at] = np.repeat(joint, self._members, axis=0)
            paths.after[:, at] = np.argmax(step.next_obs, axis=-1)
            paths.reward[:, at], paths.terminated[:, at] = step.reward, step.terminated
            note_returns(step, returns)
            measures.add(step)
            here = np.argmax(step.obs, axis=-1)
        return paths, world, returns, measures.means()

    @override
    def _tables(self, rows: Vector) -> Array:
        return self._table(rows, _ACTOR)

    @cached_property
    def best(self) -> Array:
        """The highest mean return of any joint policy in each world, `(G,)`."""
        return self.games.best(self.learner.gamma)

    @override
    def problem(self) -> dict[str, NDArray[np.generic]]:
        """Return J_star `(G,)` of the worlds; P and R are the environment's."""
        return {"J_star": self.best}

    @override
    def error(self, parameters: Vector) -> tuple[float, float] | None:
        """Return (mean return of the joint policies, what it lacks); None without all agents."""
        if len(parameters) != self.games.agents:
            return None
        policies = np.exp(log_softmax(self._table(parameters, _ACTOR)))
        policies = policies.reshape(-1, self._members, *policies.shape[1:])
        objective = float(self.games.values(policies, self.learner.gamma).mean())
        return objective, float(self.best.mean()) - objective


@dataclass(frozen=True)
class _Paths:
    """The samples of an update, `(b, steps m)` each.

    Attributes:
        state, after: before and after the step.
        action: the agent's own.
        joint: of all members of its world.
        reward: the agent's own.
        terminated: whether the episode ended in a state without a future.
    """

    state: NDArray[np.intp]
    after: NDArray[np.intp]
    action: NDArray[np.intp]
    joint: NDArray[np.intp]
    reward: Array
    terminated: NDArray[np.bool_]

    @classmethod
    def empty(cls, b: int, size: int) -> _Paths:
        """Return room for as many samples."""
        numbers = [np.empty((b, size), dtype=np.intp) for _ in range(4)]
        state, after, action, joint = numbers
        reward, terminated = np.empty((b, size)), np.empty((b, size), dtype=np.bool_)
        return cls(state, after, action, joint, reward, terminated)


def _counts(shape: tuple[int, ...], *place: NDArray[np.intp]) -> Array:
    """Return how many samples each place has, at least 1."""
    counts = np.zeros(shape)
    np.add.at(counts, place, 1.0)
    return np.maximum(counts, 1.0)
