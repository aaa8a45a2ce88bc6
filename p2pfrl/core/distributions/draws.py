"""Distributions whose values are drawn: two uniform numbers become one value.

>>> Uniform(low=1.0, high=3.0).sample(u1=0.25, u2=0.0)
1.5
"""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field

from p2pfrl.core.distributions.base import Draw
from p2pfrl.core.rule import rule


@rule
class Uniform(Draw):
    """Uniform in [low, high).

    Attributes:
        low: lower end.
        high: upper end.
    """

    quantities: ClassVar[tuple[str, ...]] = ("low", "high")
    low: float
    high: float

    def __post_init__(self) -> None:
        if self.high < self.low:
            raise ValueError(f"high must be at least low = {self.low:g}, got {self.high:g}")

    @property
    def bounds(self) -> tuple[float, float]:
        """Low and high."""
        return self.low, self.high

    def sample(self, u1: float, u2: float) -> float:
        """Return low + u1 (high - low)."""
        return self.low + u1 * (self.high - self.low)


@rule
class Exponential(Draw):
    """Exponential with `mean`: the times between events that have no memory, as of a Poisson clock.

    Attributes:
        mean: mean.
    """

    quantities: ClassVar[tuple[str, ...]] = ("mean",)
    mean: float = Field(default=1.0, gt=0)

    @property
    def bounds(self) -> tuple[float, float]:
        """Zero and 36.7 mean, the farthest that 53 random bits reach."""
        return 0.0, self.mean * 53.0 * math.log(2.0)

    def sample(self, u1: float, u2: float) -> float:
        """Return -mean log(1 - u1)."""
        return -self.mean * math.log1p(-u1)


@rule
class Choice(Draw):
    """One of `choices`, each as probable as the others.

    Attributes:
        choices: values, each equally likely.
    """

    quantities: ClassVar[tuple[str, ...]] = ("choices",)
    choices: tuple[float, ...] = Field(min_length=1)

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and greatest choice."""
        return min(self.choices), max(self.choices)

    def sample(self, u1: float, u2: float) -> float:
        """Return choice number floor(u1 k)."""
        return self.choices[int(u1 * len(self.choices))]
