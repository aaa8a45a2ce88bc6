"""The contract of a distribution, the one that is constant, and what a number is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.rng import Streams
from p2pfrl.core.rule import rule


class Distribution(ABC):
    """The distribution of a number over agents.

    Attributes:
        quantities: names of the fields that have the unit of the key; the others are pure numbers.
        goes_on: whether agents beyond the n of a run would have values, too.
    """

    quantities: ClassVar[tuple[str, ...]] = ()
    goes_on: ClassVar[bool] = True

    @abstractmethod
    def values(
        self, seed: int, agents: Sequence[int], total: int, purpose: str
    ) -> NDArray[np.float64]:
        """Return one value for each of `agents`, `(b,)`.

        Args:
            seed: the run's seed.
            agents: whose values. A drawn value depends on (seed, agent, purpose) alone.
            total: number of agents n of the run.
            purpose: names the stream, for example "vary-gravity".

        Raises:
            P2PFRLError: there is not one value per agent.
        """

    @property
    @abstractmethod
    def bounds(self) -> tuple[float, float]:
        """No value lies outside of these."""


class Draw(Distribution):
    """A distribution whose values are drawn independently."""

    @abstractmethod
    def sample(self, u1: float, u2: float) -> float:
        """Return the value that belongs to two numbers uniform in [0, 1)."""

    def values(
        self, seed: int, agents: Sequence[int], total: int, purpose: str
    ) -> NDArray[np.float64]:
        """Return one value per agent, each drawn from the stream (seed, agent, purpose)."""
        uniform = Streams.of(seed, agents, purpose).uniform(2).tolist()
        return np.array([self.sample(u1, u2) for u1, u2 in uniform], dtype=np.float64)


@rule
class Constant(Draw):
    """The same value for everyone.

    Attributes:
        value: the value.
    """

    quantities: ClassVar[tuple[str, ...]] = ("value",)
    value: float

    @property
    def bounds(self) -> tuple[float, float]:
        """Value and value."""
        return self.value, self.value

    def sample(self, u1: float, u2: float) -> float:
        """Return the value."""
        return self.value


def number(value: object) -> float:
    """Return a plain, finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {value!r}")
    return float(value)
