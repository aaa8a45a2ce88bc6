"""Tabular environments: they are their tables, so that anyone can check a result."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.learning.environments.base import Array, Environment

_MOST_PRODUCTS = 10**9  # of an optimum: about a second


@dataclass(frozen=True)
class Tables:
    """A Markov decision process with S states and A actions.

    Attributes:
        transition: `(S, A, S)` probabilities of the next state; rows sum to 1.
        reward: `(S, A)` what an action earns, whatever follows.
        entry: `(S,)` what entering a state earns besides, unless the episode had ended before.
        start: `(S,)` probabilities of the first state.
        terminal: `(S,)` entering it ends the episode.
    """

    transition: Array
    reward: Array
    entry: Array
    start: Array
    terminal: NDArray[np.bool_]


class Tabular(Environment):
    """An environment given by tables; the state is a number, observed one-hot."""

    @property
    @abstractmethod
    def successors(self) -> int:
        """The most states that one action may lead to, for any agent."""

    @abstractmethod
    def tables(self, seed: int, agent: int, row: Mapping[str, float]) -> Tables:
        """Return the tables of `agent`, from its columns and stream (seed, agent, "problem")."""

    def measured(
        self,
        before: NDArray[np.intp],
        action: NDArray[Any],
        after: NDArray[np.intp],
        physics: Mapping[str, NDArray[Any]],
    ) -> dict[str, Array]:
        """Return the measures of a step `(b, m)` by name, those of `spec.measures`.

        Args:
            before: `(b, m)` state that was left.
            action: `(b, m)`.
            after: `(b, m)` state that was entered.
            physics: `(b, 1, ...)` each.
        """
        return {}

    @override
    def optimum(self, physics: Mapping[str, NDArray[Any]]) -> Array | None:
        """Return the best return by dynamic programming; None if it would take long."""
        steps = self.spec.max_steps
        if steps is None or physics["P"].size * steps > _MOST_PRODUCTS:
            return None
        return self.best_return(physics, steps)

    def best_return(self, physics: Mapping[str, NDArray[Any]], steps: int) -> Array:
        """Return the expected return `(b,)` of the best policy over episodes of `steps` steps.

        V_T = 0, V_t(s) = max_a R(s, a) + sum_s' P(s' | s, a) V_(t+1)(s'), where the V of a terminal
        state is 0; then the mean over first states. The best policy knows the step t. So a policy
        that does not may stay below it.

        Args:
            physics: `(b, ...)` rows as `physics` returned them.
            steps: length T of an episode.
        """
        transition, reward, terminal = physics["P"], physics["R"], physics["terminal"]
        b, states, actions, _ = transition.shape
        flat = transition.reshape(b, states * actions, states)
        value = np.zeros((b, states))
        for _ in range(steps):
            ahead = np.where(terminal, 0.0, value)[..., None]
            value = (reward + np.matmul(flat, ahead).reshape(reward.shape)).max(axis=-1)
        chance = np.diff(physics["start"], prepend=0.0, axis=-1)
        first = np.take_along_axis(value, physics["first"].reshape(b, -1).astype(np.intp), axis=-1)
        best: Array = (chance.reshape(b, -1) * first).sum(axis=-1)
        return best

    @override
    def physics(
        self, seed: int, agents: Sequence[int], columns: Mapping[str, Array]
    ) -> dict[str, NDArray[Any]]:
        """Return columns, `P (b,S,A,S)`, expected rewards `R (b,S,A)`, and what `step` looks up."""
        found = [
            self.tables(seed, agent, {name: float(column[i]) for name, column in columns.items()})
            for i, agent in enumerate(agents)
        ]
        transition = np.stack([t.transition for t in found])
        entry = np.stack([t.entry for t in found])
        reward = np.stack([t.reward for t in found])
        terminal = np.stack([t.terminal for t in found])
        after, cumulative = _outcomes(transition, self.successors)
        first, start = _outcomes(np.stack([t.start for t in found]), self.spec.states)
        entering = (transition * entry[:, None, None, :]).sum(axis=-1)
        return dict(columns) | {
            "P": transition,
            "R": reward + np.where(terminal[..., None], 0.0, entering),
            "action_reward": reward,
            "entry_reward": entry,
            "terminal": terminal,
            "after": after,
            "cumulative": cumulative,
            "first": first,
            "start": start,
        }

    @override
    def instance(self, physics: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return `P (n,S,A,S)`, expected `R (n,S,A)`, `terminal (n,S)` and the columns."""
        return {k: physics[k] for k in ("P", "R", "terminal", *self.spec.physics)}

    @override
    def reset(self, physics: Mapping[str, NDArray[Any]], noise: Array) -> Array:
        """Draw first states."""
        return _search(physics["first"], physics["start"], noise)

    @override
    def observe(self, state: Array, physics: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return the state one-hot."""
        out: NDArray[np.float32] = (np.arange(self.spec.states) == state).astype(np.float32)
        return out

    @override
    def step(
        self, state: Array, action: NDArray[Any], physics: Mapping[str, NDArray[Any]], noise: Array
    ) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        """Draw the next state from row (state, action) of the agent's own table."""
        rows = np.arange(len(state))[:, None]
        before = state[..., 0].astype(np.intp)
        place = (rows, 0, before, action)
        out = _search(physics["after"][place], physics["cumulative"][place], noise)
        after = out[..., 0].astype(np.intp)
        reward = physics["action_reward"][place] + physics["entry_reward"][rows, 0, after]
        measures = self.measured(before, action, after, physics)
        return out, reward, physics["terminal"][rows, 0, after], measures


def _outcomes(probabilities: Array, most: int) -> tuple[NDArray[np.int32], Array]:
    """Return possible outcomes `(..., most)`, ascending, and sums of their probabilities.

    The sums are exactly 1 from the last possible outcome on, so that no noise below 1 reaches an
    impossible one.
    """
    is_possible = probabilities > 0
    count = is_possible.sum(axis=-1, keepdims=True)
    assert count.max() <= most
    order = np.argsort(~is_possible, axis=-1, kind="stable")[..., :most]
    sums = np.cumsum(np.take_along_axis(probabilities, order, axis=-1), axis=-1)
    return order.astype(np.int32), np.where(np.arange(1, most + 1) >= count, 1.0, sums)


def _search(outcomes: NDArray[np.int32], cumulative: Array, noise: Array) -> Array:
    """Return `(b, m, 1)`: the first of the running sums `(b, m, k)` above `noise` `(b, m, 1)`."""
    place: NDArray[np.intp] = np.argmax(cumulative > noise, axis=-1)[..., None]
    shape = (*place.shape[:-1], outcomes.shape[-1])
    found: NDArray[np.int32] = np.take_along_axis(np.broadcast_to(outcomes, shape), place, axis=-1)
    return found.astype(np.float64)
