"""Distributions of a scenario's numbers: a latency per message, a speed per agent, each agent's physics.

A distribution is a rule. The `Draw`s turn two uniform numbers into one value (`sample`), so they
serve per message and per agent alike; the others assign values by an agent's place.

>>> LogNormal(median=0.02, sigma=0.5).sample(u1=0.0, u2=0.3)
0.02
>>> Arithmetic(start=0.5, step=0.25).values(seed=1, agents=[0, 2], total=3, purpose="vary").tolist()
[0.5, 1.0]
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.rng import Streams
from p2pfrl.core.rule import rule

_FARTHEST = math.sqrt(
    2.0 * 53.0 * math.log(2.0)
)  # of `_normal`: its first uniform number is at most 1 - 2^-53


def _normal(u1: float, u2: float) -> float:
    """Return a standard normal number from two uniform ones (Box-Muller, the cosine branch)."""
    return math.sqrt(-2.0 * math.log1p(-u1)) * math.cos(2.0 * math.pi * u2)


class Distribution(ABC):
    """The distribution of a number over agents.

    Attributes:
        quantities: names of the fields that have the unit of the key; the others are pure numbers.
    """

    quantities: ClassVar[tuple[str, ...]] = ()

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
    """The same value for everyone."""

    quantities: ClassVar[tuple[str, ...]] = ("value",)
    value: float

    @property
    def bounds(self) -> tuple[float, float]:
        """Value and value."""
        return self.value, self.value

    def sample(self, u1: float, u2: float) -> float:
        """Return the value."""
        return self.value


@rule
class Uniform(Draw):
    """Uniform in [low, high)."""

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
class Normal(Draw):
    """Normal with `mean` and standard deviation `std`."""

    quantities: ClassVar[tuple[str, ...]] = ("mean", "std")
    mean: float = 0.0
    std: float = Field(default=1.0, ge=0)

    @property
    def bounds(self) -> tuple[float, float]:
        """Mean +- 8.57 std, the farthest that 53 random bits reach."""
        return self.mean - _FARTHEST * self.std, self.mean + _FARTHEST * self.std

    def sample(self, u1: float, u2: float) -> float:
        """Return mean + std N(0, 1)."""
        return self.mean + self.std * _normal(u1, u2)


@rule
class LogNormal(Draw):
    """Lognormal: median exp(sigma N(0, 1))."""

    quantities: ClassVar[tuple[str, ...]] = ("median",)
    median: float = Field(default=1.0, gt=0)
    sigma: float = Field(ge=0, le=10)

    @property
    def bounds(self) -> tuple[float, float]:
        """Median exp(+- 8.57 sigma), the farthest that 53 random bits reach."""
        factor = math.exp(_FARTHEST * self.sigma)
        return self.median / factor, self.median * factor

    def sample(self, u1: float, u2: float) -> float:
        """Return median exp(sigma N(0, 1))."""
        return self.median * math.exp(self.sigma * _normal(u1, u2))


@rule
class Exponential(Draw):
    """Exponential with `mean`: the times between events that have no memory, as of a Poisson clock."""

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
    """One of `choices`, each as probable as the others."""

    quantities: ClassVar[tuple[str, ...]] = ("choices",)
    choices: tuple[float, ...] = Field(min_length=1)

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and greatest choice."""
        return min(self.choices), max(self.choices)

    def sample(self, u1: float, u2: float) -> float:
        """Return choice number floor(u1 k)."""
        return self.choices[int(u1 * len(self.choices))]


@rule
class Linspace(Distribution):
    """Evenly spaced over the agents: agent 0 has `low`, agent n-1 has `high` (a lone agent has `low`)."""

    quantities: ClassVar[tuple[str, ...]] = ("low", "high")
    low: float
    high: float

    @property
    def bounds(self) -> tuple[float, float]:
        """The two ends, in order."""
        return min(self.low, self.high), max(self.low, self.high)

    def values(
        self, seed: int, agents: Sequence[int], total: int, purpose: str
    ) -> NDArray[np.float64]:
        """Return low + i (high - low) / (n - 1)."""
        return np.linspace(self.low, self.high, total)[np.asarray(agents, dtype=np.intp)]


@rule
class Arithmetic(Distribution):
    """Agent i has start + i step, whatever the number of agents."""

    quantities: ClassVar[tuple[str, ...]] = ("start", "step")
    start: float
    step: float

    @property
    def bounds(self) -> tuple[float, float]:
        """Start, and infinity on the side of the step."""
        return (self.start, math.inf) if self.step >= 0 else (-math.inf, self.start)

    def values(
        self, seed: int, agents: Sequence[int], total: int, purpose: str
    ) -> NDArray[np.float64]:
        """Return start + i step, rounded to 12 decimals so that 0.5 + 6 * 0.2 is the 1.7 that a file would say."""
        return np.round(self.start + self.step * np.asarray(agents, dtype=np.float64), 12)


@rule
class Values(Distribution):
    """A list with one value per agent."""

    quantities: ClassVar[tuple[str, ...]] = ("list",)
    list: tuple[float, ...] = Field(min_length=1)

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and greatest value."""
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
    """A list that repeats: agent i has element i modulo its length, whatever the number of agents."""

    quantities: ClassVar[tuple[str, ...]] = ("list",)
    list: tuple[float, ...] = Field(min_length=1)

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and greatest value."""
        return min(self.list), max(self.list)

    def values(
        self, seed: int, agents: Sequence[int], total: int, purpose: str
    ) -> NDArray[np.float64]:
        """Return element i modulo the length for agent i."""
        return np.array(self.list, dtype=np.float64)[
            np.asarray(agents, dtype=np.intp) % len(self.list)
        ]


DRAWS: dict[str, type[Draw]] = {
    "constant": Constant,
    "uniform": Uniform,
    "normal": Normal,
    "lognormal": LogNormal,
    "exponential": Exponential,
    "choice": Choice,
}
RULES: dict[str, type[Distribution]] = DRAWS | {
    "linspace": Linspace,
    "arithmetic": Arithmetic,
    "values": Values,
    "cycle": Cycle,
}


def number(value: object) -> float:
    """Return a plain, finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {value!r}")
    return float(value)
