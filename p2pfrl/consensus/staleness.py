"""Staleness weights: the factor s(tau) <= 1 of a payload with staleness tau."""

from __future__ import annotations

from abc import ABC, abstractmethod

from pydantic import Field
from typing_extensions import override

from p2pfrl.core.members import Members
from p2pfrl.core.rule import rule


class Staleness(ABC):
    """The factor of a payload of staleness tau."""

    @abstractmethod
    def factor(self, tau: int) -> float:
        """Return s(tau), in (0, 1], with s(0) = 1."""


@rule
class Constant(Staleness):
    """s(tau) = 1 (Xie, Koyejo, Gupta, OPT 2020, arXiv 1903.03934)."""

    @override
    def factor(self, tau: int) -> float:
        return 1.0


@rule
class Polynomial(Staleness):
    """s(tau) = (1 + tau)^-power (Xie, Koyejo, Gupta, OPT 2020, arXiv 1903.03934).

    >>> [round(Polynomial().factor(tau), 4) for tau in (0, 1, 4, 9)]
    [1.0, 0.7071, 0.4472, 0.3162]
    """

    power: float = Field(default=0.5, ge=0)

    @override
    def factor(self, tau: int) -> float:
        return float((1.0 + tau) ** -self.power)


@rule
class Hinge(Staleness):
    """s(tau) = 1 up to `grace`, then 1 / (slope (tau - grace) + 1) (arXiv 1903.03934).

    >>> [round(Hinge().factor(tau), 4) for tau in (4, 5, 9)]
    [1.0, 0.0909, 0.0196]
    """

    slope: float = Field(default=10.0, gt=0)
    grace: int = Field(default=4, ge=0)

    @override
    def factor(self, tau: int) -> float:
        return 1.0 if tau <= self.grace else 1.0 / (self.slope * (tau - self.grace) + 1.0)


RULES: Members[Staleness] = Members(
    __name__, {"constant": "Constant", "polynomial": "Polynomial", "hinge": "Hinge"}
)
