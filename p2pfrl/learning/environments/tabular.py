"""What tabular environments share: they are their tables, so that anyone can check a result against them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.learning.environments.base import Array, Environment


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

    @abstractmethod
    def tables(self, seed: int, agent: int, row: Mapping[str, float]) -> Tables:
        """Return the tables of `agent`, from its own column values and the stream (seed, agent, "problem")."""

    def physics(self, seed: int, agents: Sequence[int], columns: Mapping[str, Array]) -> dict[str, NDArray[Any]]:
        """Return the columns, `P` `(b, S, A, S)`, expected rewards `R` `(b, S, A)`, and what `step` looks up."""
        found = [
            self.tables(seed, agent, {name: float(column[i]) for name, column in columns.items()})
            for i, agent in enumerate(agents)
        ]
        transition = np.stack([t.transition for t in found])
        entry = np.stack([t.entry for t in found])
        reward = np.stack([t.reward for t in found])
        terminal = np.stack([t.terminal for t in found])
        entering = (transition * entry[:, None, None, :]).sum(axis=-1)
        return dict(columns) | {
            "P": transition,
            "R": reward + np.where(terminal[..., None], 0.0, entering),
            "action_reward": reward,
            "entry_reward": entry,
            "terminal": terminal,
            "cumulative": _cumulative(transition),
            "start": _cumulative(np.stack([t.start for t in found])),
        }

    def instance(self, physics: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return `P (n,S,A,S)`, `R (n,S,A)` (expected rewards), `terminal (n,S)` and the columns."""
        return {k: physics[k] for k in ("P", "R", "terminal", *self.spec.physics)}

    def reset(self, physics: Mapping[str, NDArray[Any]], noise: Array) -> Array:
        """Draw first states."""
        return _search(physics["start"], noise)

    def observe(self, state: Array, physics: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return the state one-hot."""
        out: NDArray[np.float32] = (np.arange(self.spec.states) == state).astype(np.float32)
        return out

    def step(
        self, state: Array, action: NDArray[Any], physics: Mapping[str, NDArray[Any]], noise: Array
    ) -> tuple[Array, Array, NDArray[np.bool_], dict[str, Array]]:
        """Draw the next state from row (state, action) of the agent's own table."""
        rows = np.arange(len(state))[:, None]
        before = state[..., 0].astype(np.intp)
        out = _search(physics["cumulative"][rows, 0, before, action], noise)
        after = out[..., 0].astype(np.intp)
        reward = physics["action_reward"][rows, 0, before, action] + physics["entry_reward"][rows, 0, after]
        return out, reward, physics["terminal"][rows, 0, after], {}


def _cumulative(probabilities: Array) -> Array:
    """Return running sums along the last axis that end in exactly 1 from the last possible outcome on."""
    sums = np.cumsum(probabilities, axis=-1)
    last = probabilities.shape[-1] - 1 - np.argmax(probabilities[..., ::-1] > 0, axis=-1)
    out: Array = np.where(np.arange(probabilities.shape[-1]) >= last[..., None], 1.0, sums)
    return out


def _search(cumulative: Array, noise: Array) -> Array:
    """Return `(b, m, 1)`: the first outcome whose running sum `(b, m, S)` is above the uniform `noise` `(b, m, 1)`."""
    found: NDArray[np.intp] = np.argmax(cumulative > noise, axis=-1)
    return found[..., None].astype(np.float64)
