"""A simulator whose learners pay for what others learn of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.scene import Scene
from p2pfrl.learning.environments.base import Simulator, State, Step

COST = "privacy_cost"
"""The measure of an environment that says what others learn from a step."""


class PricedSimulator(Simulator):
    """A simulator around another one; learners get r - weight x cost, cost its measure `COST`.

    Returns are those that the other one counts, without the cost. Where the measure is not there, a
    step costs nothing.

    Args:
        inner: the simulator that steps.
        weight: lambda, what a unit of the cost takes from the reward.
    """

    def __init__(self, inner: Simulator, weight: float) -> None:
        self.inner, self._weight = inner, weight
        self.spec, self.instances, self.world = inner.spec, inner.instances, inner.world

    @property
    def working(self) -> Callable[[str], None] | None:
        """Called with the agent, the update and the step, where steps are slow."""
        return self.inner.working

    @working.setter
    def working(self, value: Callable[[str], None] | None) -> None:
        self.inner.working = value

    @override
    def init(self, agents: Sequence[int], purpose: str = "environment") -> State:
        return self.inner.init(agents, purpose)

    @override
    def observe(self, agents: Sequence[int], state: State) -> NDArray[np.float32]:
        return self.inner.observe(agents, state)

    @override
    def shown(self, agents: Sequence[int], state: State) -> NDArray[np.float32]:
        return self.inner.shown(agents, state)

    @override
    def begin(
        self, agents: Sequence[int], index: Sequence[int], purpose: str = "environment"
    ) -> None:
        self.inner.begin(agents, index, purpose)

    @override
    def narrow(self, rows: NDArray[np.intp]) -> bool:
        return self.inner.narrow(rows)

    @override
    def with_world(self) -> Simulator | None:
        inner = self.inner.with_world()
        return None if inner is None else PricedSimulator(inner, self._weight)

    @property
    @override
    def baselines(self) -> Mapping[str, Callable[[State], NDArray[Any]]]:
        return self.inner.baselines

    @override
    def picture(self, state: State) -> Scene | NDArray[np.uint8] | None:
        return self.inner.picture(state)

    @override
    def step(self, state: State, action: NDArray[np.generic]) -> Step:
        step = self.inner.step(state, action)
        if COST not in step.measures:
            raise P2PFRLError(
                f"environment.privacy_weight: a step has no measure {COST!r}: an environment must say what others "
                "learn from each step"
            )
        cost = np.nan_to_num(step.measures[COST], nan=0.0)
        return replace(step, reward=step.reward - self._weight * cost)

    @override
    def close(self) -> None:
        self.inner.close()
