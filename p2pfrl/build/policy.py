"""Policies of a record: the greedy policy of an agent's final parameters."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from p2pfrl.core.errors import RecordError
from p2pfrl.learning.environments.base import Spec
from p2pfrl.results.record import Record, is_index
from p2pfrl.scenario import loads
from p2pfrl.scenario.bind import acting


class RecordedPolicy:
    """The greedy policy of one agent's final parameters.

    Attributes:
        agent: whose.

    Args:
        record: the run.
        agent: whose.

    Raises:
        RecordError: there is no such agent, or its learner has no policy.
    """

    def __init__(self, record: Record, agent: int) -> None:
        n = len(record.parameters)
        if not is_index(agent, n):
            raise RecordError(f"policy: expected an agent from 0 to {n - 1}, got {agent!r}")
        scenario = loads(record.scenario)
        self.agent = agent
        self._stack, self._size = acting(scenario, agent)
        section = next(make.environment for make in scenario.makes if agent in make.agents)
        self._states = (0, 0) if section is None else _sizes(section.rule.spec)
        layout = self._stack.layout
        self._row = layout.zeros(1)
        layout.unpack(np.asarray(record.parameters[agent], dtype=layout.dtype), self._row[0])
        if self._size is None or self._act(np.zeros((1, self._size), np.float32)) is None:
            raise RecordError(
                f"policy: the learner of agent {agent} has no policy that acts on one observation; "
                "its numbers are in record.parameters"
            )

    def act(self, obs: ArrayLike) -> NDArray[np.generic]:
        """Return the most likely action at an observation, as the environment takes it.

        Args:
            obs: `(o,)`, or a batch `(m, o)`. The number of a discrete state is taken, too. With
                `learner.frame_stack` the last observations together, oldest first.

        Returns:
            An integer, or `(a,)` numbers within the bounds; `(m,)` or `(m, a)` for a batch.

        Raises:
            RecordError: it is no observation of the agent's environment.
        """
        given = np.asarray(obs)
        size = self._size or 0
        if given.ndim == 0 and given.dtype.kind in "iu" and 0 <= given < size:
            given = np.eye(size)[int(given)]
        if given.dtype.kind not in "biuf" or given.ndim not in (1, 2) or given.shape[-1] != size:
            raise RecordError(
                f"act: expected an observation of {size} numbers, or a batch of them; got "
                f"{given.dtype} of shape {given.shape}"
            )
        actions = self._act(np.atleast_2d(given).astype(np.float32))
        assert actions is not None
        found: NDArray[np.generic] = actions if given.ndim == 2 else actions[0]
        return found

    def table(self) -> NDArray[np.float64]:
        """Return the probability of each action in each state, `(S, A)`, of a tabular environment.

        It is 1 for the most likely action, the first of equals.

        Raises:
            RecordError: observations are not numbers of states.
        """
        states, actions = self._states
        if not states:
            raise RecordError(
                f"table: the environment of agent {self.agent} has no states that could be listed; "
                "act(obs) takes any observation"
            )
        best = np.asarray(self.act(np.eye(states)), dtype=np.intp)
        found: NDArray[np.float64] = np.eye(actions)[best]
        return found

    def _act(self, obs: NDArray[np.float32]) -> NDArray[np.generic] | None:
        found = self._stack.evaluator.act([self.agent], self._row, obs[None])
        return None if found is None else found[0]


def _sizes(spec: Spec) -> tuple[int, int]:
    """Return the number of states, 0 where observations are not one-hot, and of actions."""
    return (spec.states if spec.states == spec.observation else 0), spec.actions
