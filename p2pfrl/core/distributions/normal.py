"""Normal and lognormal distributions, drawn by Box and Muller's method.

>>> LogNormal(median=0.02, sigma=0.5).sample(u1=0.0, u2=0.3)
0.02
"""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field

from p2pfrl.core.distributions.base import Draw
from p2pfrl.core.rule import rule

_FARTHEST = math.sqrt(
    2.0 * 53.0 * math.log(2.0)
)  # of `_normal`: its first uniform number is at most 1 - 2^-53


def _normal(u1: float, u2: float) -> float:
    """Return a standard normal number from two uniform ones (Box-Muller, the cosine branch)."""
    return math.sqrt(-2.0 * math.log1p(-u1)) * math.cos(2.0 * math.pi * u2)


@rule
class Normal(Draw):
    """Normal with `mean` and standard deviation `std`.

    Attributes:
        mean: mean.
        std: standard deviation.
    """

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
    """Lognormal: median exp(sigma N(0, 1)).

    Attributes:
        median: median.
        sigma: standard deviation of the logarithm.
    """

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
