"""Distributions that assign values by an agent's place.

>>> Arithmetic(start=0.5, step=0.25).values(seed=1, agents=[0, 2], total=3, purpose="vary").tolist()
[0.5, 1.0]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from p2pfrl.core.distributions.base import Distribution
from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.rule import rule


@rule
class Linspace(Distribution):
    """Evenly spaced values over the agents: agent 0 has `low` and agent n-1 has `high`.

    A lone agent has `low`.

    Attributes:
        low: value of the first agent.
        high: value of the last agent.
    """

    quantities: ClassVar[tuple[str, ...]] = ("low", "high")
    goes_on: ClassVar[bool] = False
    low: float
    high: float

    @property
    def bounds(self) -> tuple[float, float]:
        """Return the two ends, in ascending order."""
        return min(self.low, self.high), max(self.low, self.high)

    def values(
        self, seed: int, agents: Sequence[int], total: int, purpose: str
    ) -> NDArray[np.float64]:
        """Return low + i (high - low) / (n - 1)."""
        return np.linspace(self.low, self.high, total)[np.asarray(agents, dtype=np.intp)]


@rule
class Arithmetic(Distribution):
    """Agent i has start + i step, whatever the number of agents.

    Attributes:
        start: value of agent 0.
        step: difference between an agent and the one before.
    """

    quantities: ClassVar[tuple[str, ...]] = ("start", "step")
    start: float
    step: float

    @property
    def bounds(self) -> tuple[float, float]:
        """Return the interval between start and infinity, on the side of the step."""
        return (self.start, math.inf) if self.step >= 0 else (-math.inf, self.start)

    def values(
        self, seed: int, agents: Sequence[int], total: int, purpose: str
    ) -> NDArray[np.float64]:
        """Return start + i step, rounded to 12 decimals.

        With rounding, 0.5 + 6 * 0.2 is the 1.7 that a file would say.
        """
        return np.round(self.start + self.step * np.asarray(agents, dtype=np.float64), 12)


@rule
class Values(Distribution):
    """A list with one value per agent.

    Attributes:
        list: one value per agent.
    """

    quantities: ClassVar[tuple[str, ...]] = ("list",)
    goes_on: ClassVar[bool] = False
    list: tuple[float, ...] = Field(min_length=1)

    @property
    def bounds(self) -> tuple[float, float]:
        """Return the least and the greatest value."""
        return min(self.list), max(self.list)

    def values(
        self, seed: int, agents: Sequence[int], total: int, purpose: str
    ) -> NDArray[np.float64]:
        """Return element i for agent i."""
        if len(self.list) != total:
            raise P2PFRLError(
                f"{purpose}: expected one value per agent ({total}), got a list of {len(self.list)}"
            )
        return np.array(self.list, dtype=np.float64)[np.asarray(agents, dtype=np.intp)]


@rule
class Cycle(Distribution):
    """A list that repeats: agent i has element i modulo its length, whatever the number of agents.

    Attributes:
        list: values, repeated over the agents in order.
    """

    quantities: ClassVar[tuple[str, ...]] = ("list",)
    list: tuple[float, ...] = Field(min_length=1)

    @property
    def bounds(self) -> tuple[float, float]:
        """Return the least and the greatest value."""
        return min(self.list), max(self.list)

    def values(
        self, seed: int, agents: Sequence[int], total: int, purpose: str
    ) -> NDArray[np.float64]:
        """Return element i modulo the length for agent i."""
        return np.array(self.list, dtype=np.float64)[
            np.asarray(agents, dtype=np.intp) % len(self.list)
        ]
