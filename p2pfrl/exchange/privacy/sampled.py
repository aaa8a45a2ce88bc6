"""Gaussian releases of secretly sampled agents, and what they cost."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.rule import rule
from p2pfrl.exchange.privacy.accountant import (
    epsilon_of_renyi,
    releases_of_renyi,
    renyi,
    sigma_of_sampled,
)
from p2pfrl.exchange.privacy.gaussian import Gaussian


@rule
class SampledGaussian(Gaussian):
    """Options of Gaussian releases to which each agent contributes with a probability.

    Attributes:
        sampled: q, the probability with which each agent takes part in a round, secretly and
            independently; that of participation "poisson". Not given: nothing is claimed of it.
    """

    sampled: float | None = Field(default=None, gt=0, le=1)

    @override
    def misfit(self, releases: int | None) -> tuple[str, str] | None:
        """Return what `Gaussian` finds, or an option of which no bound is known with sampling."""
        if found := super().misfit(releases):
            return found
        if self.sampled is not None and (option := self._unaccounted()):
            return option, "expected none with sampled: no bound is known here for the two together"
        return None

    def _unaccounted(self) -> str | None:
        """Return the option that is not accounted for together with `sampled`, if one is set."""
        if self.adjacency != "add_remove":
            return "adjacency"
        if self.decay < 1.0:
            return "decay"
        return None

    @override
    def least_noise(self, epsilon: float, releases: int) -> float:
        """Return the lesser of what `Gaussian` needs and of what the bound with sampling does."""
        exact = super().least_noise(epsilon, releases)
        if self.sampled is None or self.sampled == 1.0:
            return exact
        return min(_sigma_of(epsilon, self.delta, self.sampled, releases), exact)

    @property
    @override
    def most(self) -> float:
        """What a ledger may spend: as many releases as the better of both bounds grants."""
        exact = super().most
        if self.sampled is None or self.budget is None:
            return exact
        granted = releases_of_renyi(self._divergences, self.budget, self.delta)
        return max(exact, (granted + 0.5) * self.cost(0) if granted else 0.0)

    @override
    def epsilon(self, spent: float) -> float:
        """Return the lesser of the exact epsilon without sampling and the bound with it."""
        exact = super().epsilon(spent)
        if self.sampled is None or spent <= 0.0:
            return exact
        releases = round(spent / self.cost(0))
        return min(exact, epsilon_of_renyi(releases * self._divergences, self.delta))

    @property
    def _divergences(self) -> NDArray[np.float64]:
        """Those of one release, at all orders."""
        assert self.sampled is not None
        return _renyi(self.noise_multiplier, self.sampled)

    @property
    @override
    def releases_always(self) -> bool:
        return self.sampled is not None

    @override
    def divisor(self, count: int, agents: int) -> float:
        return super().divisor(count, agents) if self.sampled is None else self.sampled * agents


_renyi = lru_cache(maxsize=64)(renyi)
_sigma_of = lru_cache(maxsize=256)(sigma_of_sampled)
