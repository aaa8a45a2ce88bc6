"""A simulator whose physics drift over the updates of an agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.errors import AgentError
from p2pfrl.learning.drifts.base import Drift
from p2pfrl.learning.environments.base import ArraySimulator, Environment, State, Step
from p2pfrl.learning.environments.vary import misfit, outside

Table = Mapping[str, NDArray[np.generic]]

MARK = "drift_"
"""Prefix of the measures with the values that were in force."""


def drifted(
    environment: Environment,
    physics: Table,
    drift: Mapping[str, Drift],
    seed: int,
    agents: Sequence[int],
    updates: Sequence[int],
) -> dict[str, NDArray[np.generic]]:
    """Return the physics `(b, ...)` of `agents` in their `updates`, tables included.

    Args:
        environment: whose physics.
        physics: `(n, ...)` rows of all agents without drift.
        drift: by name of a physical quantity.
        seed: the run's seed.
        agents: whose, `(b,)`.
        updates: `(b,)` completed updates of each.

    Raises:
        AgentError: a quantity leaves its range.
    """
    rows = np.asarray(agents, dtype=np.intp)
    columns = {
        name: np.asarray(physics[name], dtype=np.float64)[rows] for name in environment.spec.physics
    }
    for name, one in drift.items():
        columns[name] = one.values(columns[name], agents, updates)
        if (row := outside(columns[name], environment.spec.ranges.get(name))) is not None:
            why = misfit(columns[name][row], environment.spec.ranges[name])
            where = f"environment.drift.{name}: update {updates[row]}"
            raise AgentError(int(agents[row]), f"{where}: {why}")
    return environment.physics(seed, agents, columns)


class DriftingSimulator(ArraySimulator):
    """An `ArraySimulator` in which update k of an agent has the physics of its update k.

    The evaluation with number k has the physics of update k. The values in force are measures
    `drift_NAME` of every step. First episodes start with the physics of update 0, and a look at the
    observations between updates is one at these.

    Args:
        environment: the functions.
        physics: `(n, ...)` rows for all agents, without drift.
        instances: parallel copies m per agent.
        seed: the run's seed.
        drift: by name of a physical quantity.
    """

    def __init__(
        self,
        environment: Environment,
        physics: Table,
        instances: int,
        seed: int,
        drift: Mapping[str, Drift],
    ) -> None:
        super().__init__(environment, physics, instances, seed)
        self._drift, self._start = dict(drift), dict(physics)
        names = tuple(MARK + name for name in drift)
        self.spec = replace(self.spec, measures=(*self.spec.measures, *names))

    @override
    def init(self, agents: Sequence[int], purpose: str = "environment") -> State:
        if purpose == "environment" or list(agents) != list(self._agents):
            self._rows = self._at(agents, [0] * len(agents))
        return super().init(agents, purpose)

    @override
    def observe(self, agents: Sequence[int], state: State) -> NDArray[np.float32]:
        return self._look(agents, state, self._rows)

    @override
    def shown(self, agents: Sequence[int], state: State) -> NDArray[np.float32]:
        return self._look(agents, state, self._at(agents, [0] * len(agents)))

    @override
    def begin(
        self, agents: Sequence[int], index: Sequence[int], purpose: str = "environment"
    ) -> None:
        super().begin(agents, index, purpose)
        self._rows = self._at(agents, index)

    @override
    def step(self, state: State, action: NDArray[np.generic]) -> Step:
        made, shape = super().step(state, action), action.shape[:2]
        for name in self._drift:
            value = np.asarray(self._rows[name], dtype=np.float64)
            made.measures[MARK + name] = np.broadcast_to(value, shape)
        return made

    @override
    def _gather(self, agents: Sequence[int]) -> dict[str, NDArray[np.generic]]:
        return self._rows

    def _at(self, agents: Sequence[int], updates: Sequence[int]) -> dict[str, NDArray[np.generic]]:
        table = drifted(self.environment, self._start, self._drift, self._seed, agents, updates)
        return {name: values[:, None] for name, values in table.items()}
