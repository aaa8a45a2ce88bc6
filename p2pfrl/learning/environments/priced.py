"""A simulator whose learners pay for what others learn of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.learning.environments.around import AroundSimulator
from p2pfrl.learning.environments.base import Simulator, State, Step

COST = "privacy_cost"
"""The measure of an environment that says what others learn from a step."""


class PricedSimulator(AroundSimulator):
    """A simulator around another one; learners get r - weight x cost, cost its measure `COST`.

    Returns are those that the other one counts, without the cost. Where the measure is not there, a
    step costs nothing.

    Args:
        inner: the simulator that steps.
        weight: lambda, what a unit of the cost takes from the reward.
    """

    def __init__(self, inner: Simulator, weight: float) -> None:
        super().__init__(inner)
        self._weight = weight

    @override
    def narrow(self, rows: NDArray[np.intp]) -> bool:
        return self.inner.narrow(rows)

    @override
    def with_world(self) -> Simulator | None:
        inner = self.inner.with_world()
        return None if inner is None else PricedSimulator(inner, self._weight)

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
