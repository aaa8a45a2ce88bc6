"""Replay buffers of a population: the last `capacity` transitions of every agent, as state arrays.

A transition is one row of 2 o + w + 2 numbers: observation, next observation, action of w numbers,
reward, terminated. The next observation is the true successor, also where the time limit cut the
episode: `terminated` alone says that there is no future.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.parameters import Vector
from p2pfrl.learning.environments.base import Step
from p2pfrl.learning.learners.base import State

ROWS, FILLED, SEEN = "replay", "replay_filled", "replay_seen"
"""State arrays: `(b, capacity, width)` transitions; `(b,)` how many were ever put in; `(b,)` how
many there were when the last update ended."""
_ABSENT = -1.0


def counts(state: State) -> NDArray[np.int64]:
    """Return how many transitions were ever put in, `(b,)`: the array itself."""
    filled: NDArray[np.int64] = state[FILLED]  # type: ignore[assignment]
    return filled


@dataclass(frozen=True)
class ReplayBuffer:
    """The form of the buffers, and what is done to them. The arrays are in the learner's state.

    Attributes:
        observation: size of an observation.
        actions: number of discrete actions; 0 where actions are continuous.
        capacity: transitions that are kept.
        action: numbers of one action.
    """

    observation: int
    actions: int
    capacity: int
    action: int = 1

    @property
    def width(self) -> int:
        """Numbers of one transition."""
        return 2 * self.observation + self.action + 2

    def init(self, rows: int) -> State:
        """Return empty buffers."""
        return {
            ROWS: np.zeros((rows, self.capacity, self.width), dtype=np.float32),
            FILLED: np.zeros(rows, dtype=np.int64),
            SEEN: np.zeros(rows, dtype=np.int64),
        }

    def add(
        self, state: State, obs: NDArray[np.float32], action: NDArray[np.generic], step: Step
    ) -> None:
        """Put in one step of all instances, the oldest transitions out.

        Args:
            state: with the buffers.
            obs: `(b, m, o)` what was acted on.
            action: `(b, m)`, or `(b, m, w)`.
            step: what came of it.
        """
        b, m, o = obs.shape
        filled = counts(state)
        places = (filled[:, None] + np.arange(m)) % self.capacity
        rows = np.empty((b, m, self.width), dtype=np.float32)
        rows[..., :o], rows[..., o : 2 * o] = obs, step.next_obs
        rows[..., 2 * o : -2] = action.reshape(b, m, -1)
        rows[..., -2], rows[..., -1] = step.reward, step.terminated
        state[ROWS][np.arange(b)[:, None], places] = rows
        filled += m

    def sample(self, state: State, rows: NDArray[np.intp], uniform: NDArray[np.float64]) -> Vector:
        """Return transitions `(q, B, width)` of q agents `rows`, by uniform numbers `(q, B)`."""
        held = np.minimum(counts(state)[rows], self.capacity)
        places = (uniform * held[:, None]).astype(np.int64)
        places += (rows * self.capacity)[:, None]
        transitions: Vector = state[ROWS].reshape(-1, self.width)  # type: ignore[assignment]
        return transitions.take(places, axis=0)  # faster than an index for each axis

    def fresh(self, state: State, taken: int, least: int) -> Vector:
        """Return the transitions `(count, width)` of the one agent's last update, newest last.

        Args:
            state: with the buffers.
            taken: environment steps of the update.
            least: count is this number at least: the first rows are absent (see `present`) where
                there have been fewer transitions.
        """
        end, count = int(state[SEEN][0]), max(taken, least)
        first = max(0, end - taken)
        rows = np.full((count, self.width), 0.0, dtype=np.float32)
        rows[:, -1] = _ABSENT
        if end > first:
            rows[count - (end - first) :] = state[ROWS][0, np.arange(first, end) % self.capacity]
        return rows

    def present(self, rows: Vector) -> NDArray[np.bool_]:
        """Return which of `(q, width)` rows are possible transitions: others are not taken in."""
        action, terminated = rows[:, -3], rows[:, -1]
        is_action = (action >= 0) & (action < self.actions) & (action == np.floor(action))
        return np.asarray(is_action & ((terminated == 0.0) | (terminated == 1.0)))

    def receive(self, state: State, received: Mapping[int, Vector]) -> None:
        """Put others' transitions into the one agent's buffer, by sender, ascending."""
        for sender in sorted(received):
            rows = received[sender].reshape(-1, self.width)
            rows = rows[self.present(rows)][-self.capacity :]
            filled = counts(state)
            places = (filled[0] + np.arange(len(rows))) % self.capacity
            state[ROWS][0, places] = rows
            filled[0] += len(rows)
