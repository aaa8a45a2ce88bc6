"""Processes of tabular learners: every agent's tables, and how to sample them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.errors import ScenarioError
from p2pfrl.learning.environments.base import Array, ArraySimulator, Simulator
from p2pfrl.learning.environments.drifting import DriftingSimulator

Numbers = NDArray[np.intp]
_CONVERGED = 1e-14
_MOST_SWEEPS = 100_000


@dataclass(frozen=True)
class Processes:
    """The Markov decision processes of all agents, as tables; without time limits.

    Attributes:
        transition: `(n, S, A, S)` probabilities of the next state.
        reward: `(n, S, A)` expected rewards.
        goes_on: `(n, S)` 1 where the process goes on from a state, 0 where entering it ends the
            episode.
        start: `(n, S)` probabilities of the first state.
        after: `(n, S, A, k)` the possible next states.
        cumulative: `(n, S, A, k)` running sums of their probabilities.
        action_reward: `(n, S, A)` what an action earns.
        entry_reward: `(n, S)` what entering a state earns besides.
    """

    transition: Array
    reward: Array
    goes_on: Array
    start: Array
    after: Numbers
    cumulative: Array
    action_reward: Array
    entry_reward: Array

    @classmethod
    def of(cls, simulator: Simulator | None, learner: str) -> Processes:
        """Return the tables behind a simulator.

        Raises:
            ScenarioError: there is none, or it has no tables.
        """
        if simulator is None:
            raise ScenarioError([f"learner: {learner!r} needs an environment"])
        if isinstance(simulator, DriftingSimulator):
            raise ScenarioError(
                [
                    f"learner: {learner!r} computes with tables, which cannot drift: remove environment.drift"
                ]
            )
        if simulator.spec.members > 1:
            raise ScenarioError(
                [
                    f"learner: {learner!r} learns tables of an environment of one agent, and agents share this one: "
                    "use 'tabular_ac', 'npg' or 'softmax_pg', which know the others"
                ]
            )
        physics = simulator.physics if isinstance(simulator, ArraySimulator) else {}
        if "P" not in physics:
            raise ScenarioError(
                [
                    f"learner: {learner!r} needs an environment given by tables: gridworld, garnet, crossing, "
                    "maintenance, or a class of your own with `Tabular` as its base"
                ]
            )
        first = np.asarray(physics["first"], dtype=np.intp)
        chances = np.diff(np.asarray(physics["start"], dtype=np.float64), axis=-1, prepend=0.0)
        start = np.zeros((len(chances), simulator.spec.states))
        np.put_along_axis(start, first, chances, axis=-1)
        tables = {
            name: np.asarray(physics[key], dtype=np.float64)
            for name, key in (
                ("transition", "P"),
                ("reward", "R"),
                ("cumulative", "cumulative"),
                ("action_reward", "action_reward"),
                ("entry_reward", "entry_reward"),
            )
        }
        return cls(
            goes_on=1.0 - np.asarray(physics["terminal"], dtype=np.float64),
            start=start,
            after=np.asarray(physics["after"], dtype=np.intp),
            **tables,
        )

    def __len__(self) -> int:
        return len(self.reward)

    def mean(self) -> Processes:
        """Return the process of mean transitions and rewards over agents; not to be sampled.

        A state is absorbing in it where it is for all agents; entering a state that ends only some
        agents' episodes ends them with the share of those agents: `transition` of the others is all
        that goes on.
        """
        surviving = (self.transition * self.goes_on[:, None, None, :]).mean(axis=0, keepdims=True)
        return Processes(
            transition=surviving,
            reward=self.reward.mean(axis=0, keepdims=True),
            goes_on=np.ones((1, self.goes_on.shape[1])),
            start=self.start.mean(axis=0, keepdims=True),
            after=self.after[:1],
            cumulative=self.cumulative[:1],
            action_reward=self.action_reward[:1],
            entry_reward=self.entry_reward[:1],
        )

    def optimal(self, gamma: float) -> Array:
        """Return Q* `(n, S, A)` by value iteration, to the last digits.

        Q(s, a) = R(s, a) + gamma sum_s' P(s' | s, a) [s' goes on] max_a' Q(s', a')
        """
        kernel = self.transition * self.goes_on[:, None, None, :]
        values = np.zeros_like(self.reward)
        for _ in range(_MOST_SWEEPS):
            best = values.max(axis=-1)
            after = self.reward + gamma * np.matmul(kernel, best[:, None, :, None])[..., 0]
            moved = float(np.abs(after - values).max())
            values = after
            if moved <= _CONVERGED * max(1.0, float(np.abs(values).max())):
                break
        return values

    def chain(self, policy: Array) -> Array:
        """Return `(n, S, S)`: chains of policies `(1 or n, S, A)`, anew where an episode ends."""
        moves = np.matmul(policy[:, :, None, :], self.transition)[:, :, 0]
        ends = (moves * (1.0 - self.goes_on)[:, None, :]).sum(axis=-1)
        chain: Array = moves * self.goes_on[:, None, :] + ends[:, :, None] * self.start[:, None, :]
        return chain

    def stationary(self, policy: Array) -> Array:
        """Return `(n, S)`: how often a policy's chain visits each state in the long run.

        Every chain's limit distribution is that of its lazy version, which has one whatever the
        period.
        """
        chain = self.chain(policy)
        lazy = (chain + np.eye(chain.shape[-1])) / 2
        for _ in range(40):  # 2^40 steps
            lazy = np.matmul(lazy, lazy)
            lazy /= lazy.sum(axis=-1, keepdims=True)
        limit: Array = np.matmul(self.start[:, None, :], lazy)[:, 0]
        limit /= limit.sum(axis=-1, keepdims=True)
        return limit


def running_sums(chances: Array) -> Array:
    """Return running sums along the last axis, which no number below 1 overshoots."""
    sums: Array = np.cumsum(chances, axis=-1)
    sums[sums >= sums[..., -1:]] = 1.0
    return sums


def search(cumulative: Array, noise: Array) -> Numbers:
    """Return the first place whose running sum, along the last axis, is above uniform `noise`."""
    place: Numbers = np.argmax(cumulative > noise[..., None], axis=-1)
    return place
