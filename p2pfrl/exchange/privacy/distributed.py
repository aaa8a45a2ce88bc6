"""Distributed differential privacy: every agent adds a part of the noise that a sum needs."""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import ClassVar

import numpy as np
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.needs import Breaks, Need
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.exchange.privacy.accountant import epsilon_of_concentrated, spent_of_concentrated
from p2pfrl.exchange.privacy.base import OfRing
from p2pfrl.exchange.privacy.discrete import discrete_gaussian
from p2pfrl.exchange.privacy.gaussian import SENSITIVITY, ClipNoise, granted
from p2pfrl.exchange.privacy.ledger import Ledger
from p2pfrl.exchange.secure.ring import FixedPoint, Ring

_WITHIN = 1.0 - 2.0**-40
"""Factor of clipped numbers, by which no rounding of floating point takes them beyond the bound."""


@rule
class DistributedNoise(ClipNoise):
    """D <- D min(1, C / ||D||) + N(0, (sigma C)^2 / k I) of each agent, for sums of k or more.

    With secure sums around a coordinator, which nobody may see in part: agents refuse sums of fewer
    than `secure.minimum` vectors, which must be k at least. So the noise of a sum is sigma C or
    more, whoever stays away, and epsilon is that of `central_noise`, without trust in the
    coordinator. Of a sum with c agents that tell others their noise, sigma sqrt(1 - c / k) is left.
    With a budget that is spent an agent skips, and is missing in the sums.

    Gaussians of floating point, rounded to the grid of the sum, count as Gaussians (Mironov, CCS
    2012, has an attack on such noise). If `discrete`, clipped numbers are rounded toward zero to
    whole multiples of 2^-secure.fraction_bits, so that their norm stays within C, and the noise is
    of whole multiples, too. Sums of k discrete Gaussians diverge by at most alpha / (2 sigma^2) +
    tau d, and tau is below 1e-60 where the noise of an agent is four multiples or more, which is
    checked. Epsilon follows from the divergences, and is a little above the exact one of Gaussians.
    The model of the agent itself has no noise before the next one comes: only sums leave it.

    Attributes:
        parts: k, vectors in every sum: the agents of a round less those that may stay away.
        discrete: noise of whole numbers in the ring.

    Reference: Kairouz, Liu, Steinke, The distributed discrete Gaussian mechanism for federated
        learning with secure aggregation, ICML 2021, arXiv 2102.06387, theorem 1 and proposition 14,
        without rotation, and with rounding toward zero in place of random rounding.
    """

    guarantee: ClassVar[str] = (
        "distributed: the sum has the noise; agents trust that as many others as a sum needs add "
        "their parts"
    )

    parts: int = Field(ge=3)
    discrete: bool = False

    @property
    @override
    def breaks(self) -> Breaks:
        """What clipped changes break, and a second sum of the same changes beside the first."""
        return (*super().breaks, Need.EXTRAS)

    @property
    @override
    def share(self) -> float:
        return 1.0 / math.sqrt(self.parts)

    @override
    def misfit(self, releases: int | None) -> tuple[str, str] | None:
        """Return what the other noises find, or an option that whole numbers do not have."""
        if found := super().misfit(releases):
            return found
        if self.discrete and self.norm != "vector":
            return "norm", "expected 'vector' with discrete = true"
        if self.discrete and self.decay < 1.0:
            return "decay", "expected 1 with discrete = true: noise must not fall below the grid"
        return None

    @override
    def least_noise(self, epsilon: float, releases: int) -> float:
        """Return what `Gaussian` needs; of discrete noise what the bound by divergences does."""
        if not self.discrete:
            return super().least_noise(epsilon, releases)
        own, most = SENSITIVITY[self.adjacency], _spent_of(epsilon, self.delta)
        sigma = own * math.sqrt(releases / most) if most > 0.0 else math.inf
        return granted(sigma, own, 1.0, releases, most)

    @property
    @override
    def most(self) -> float:
        """What a ledger may spend."""
        if not self.discrete or self.budget is None:
            return super().most
        return _spent_of(self.budget, self.delta)

    @override
    def epsilon(self, spent: float) -> float:
        """Return the exact epsilon of Gaussians; of discrete ones the bound by divergences."""
        if not self.discrete or spent <= 0.0:
            return super().epsilon(spent)
        found = _epsilon_of(spent, self.delta)
        return found if self.budget is None or spent > self.most else min(found, self.budget)

    @override
    def protect(self, change: Vector, ledger: Ledger, round: int) -> Vector | None:
        """Return the change, clipped, if the ledger grants it; noised unless the ring has it."""
        if not self.discrete:
            return super().protect(change, ledger, round)
        if not ledger.charge(self.cost(ledger.releases), self.most, round):
            return None
        return self.clipped(change).astype(change.dtype)

    @override
    def of_ring(self, ledger: Ledger) -> OfRing | None:
        return partial(self._released, ledger=ledger) if self.discrete else None

    def scale(self, ring: FixedPoint) -> float:
        """Return the scale of the noise of one agent, in units of the grid."""
        return self.share * self.noise_multiplier * self.clip * 2.0**ring.bits

    def _released(self, vector: Vector, ring: FixedPoint, *, ledger: Ledger) -> Ring:
        """Return the elements of a vector of norm C at most, with an agent's part of the noise."""
        values = np.clip(self.clipped(vector) * _WITHIN, -ring.clip, ring.clip)
        whole = np.trunc(values * 2.0**ring.bits).astype(np.int64)
        noise = discrete_gaussian(self.scale(ring), len(vector), ledger.words)
        released: Ring = (whole + noise).view(np.uint64)
        return released


_epsilon_of = lru_cache(maxsize=65536)(epsilon_of_concentrated)
_spent_of = lru_cache(maxsize=256)(spent_of_concentrated)
