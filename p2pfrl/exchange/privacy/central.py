"""Central differential privacy: a trusted coordinator clips what it hears and noises the mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.needs import Breaks, Need, Needs, OneOf
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.exchange.privacy.ledger import Ledger
from p2pfrl.exchange.privacy.sampled import SampledGaussian


@rule
class CentralNoise(SampledGaussian):
    """Mean of D_i min(1, C / ||D_i||), plus N(0, (sigma C / k)^2 I), over the k agents that answer.

    The coordinator adds the noise to the sum, and every model that it sends follows from noised
    sums. Agents send their changes D_i in the clear and trust it (central privacy): nobody else is
    trusted, if messages are encrypted. The noise of the mean is sqrt(k) times smaller than that of
    `clip_noise` with the same epsilon. One ledger, the coordinator's, charges every model for all
    agents, whoever took part. An agent that is away counts as zero. With a budget that is spent
    the coordinator goes on receiving, and its aggregates are zero from then on.

    With `count_noise` the bound C adapts: C <- C exp(-rate (b - quantile)), b the fraction of
    changes within the bound plus N(0, (count_noise / k)^2). Both noises together cost as much as
    sigma: the sum gets (sigma^-2 - (2 count_noise)^-2)^(-1/2), which needs count_noise > sigma / 2.

    With `sampled` the agents of a round are drawn by participation "poisson", and what the sum is
    divided by is q n, not the number that answered, which would tell. A release is made in every
    round, also where nobody takes part. Then epsilon is the lesser of the exact one without
    sampling and the Renyi bound of the sampled Gaussian. It holds against those who see models and
    do not know who took part: not against who watches the network, sees the record of the
    coordinator, or is asked.

    Attributes:
        count_noise: sigma_b of the count of changes within the bound, in agents; a twentieth of
            the agents in the paper. Not given: C stays.
        quantile: the fraction of changes that C should bound.
        rate: of the adaptation.

    Reference: McMahan, Ramage, Talwar, Zhang, ICLR 2018, arXiv 1710.06963; adaptive clipping:
        Andrew, Thakkar, McMahan, Ramaswamy, Differentially private learning with adaptive clipping,
        NeurIPS 2021, arXiv 1905.03871; sampling: Mironov, Talwar, Zhang, 2019, arXiv 1908.10530.
    """

    is_accounted: ClassVar[bool] = False
    is_central: ClassVar[bool] = True
    guarantee: ClassVar[str] = (
        "central: the coordinator adds noise to the sum; agents trust it and nobody else"
    )
    needs: ClassVar[Needs] = (
        Need.BOUNDED,
        Need.ONE_COORDINATOR,
        Need.PLAIN_MEAN,
        Need.SINGLE,
        OneOf("gate", ("none", "every"), "others close by what an agent learned"),
    )
    breaks: ClassVar[Breaks] = (Need.CLEAR, Need.STEPS_OF_EACH, Need.EXTRAS)

    count_noise: float | None = Field(default=None, gt=0)
    quantile: float = Field(default=0.5, gt=0, lt=1)
    rate: float = Field(default=0.2, gt=0)

    @property
    @override
    def idle(self) -> tuple[str, ...]:
        """Options of the adaptation, where there is none."""
        fixed = ("quantile", "rate") if self.count_noise is None else ()
        return (*super().idle, *fixed)

    @override
    def misfit(self, releases: int | None) -> tuple[str, str] | None:
        """Return what its base finds, or that the count would need more noise than there is."""
        if found := super().misfit(releases):
            return found
        largest = self.planned(releases).sigma(0)
        if self.count_noise is not None and self.count_noise <= largest / 2.0:
            return "count_noise", (
                f"expected more than sigma / 2 = {largest / 2.0:.4g}, got {self.count_noise:g}: less noise than the "
                "two releases may have together"
            )
        return None

    @override
    def _unaccounted(self) -> str | None:
        return super()._unaccounted() or (None if self.count_noise is None else "count_noise")

    @override
    def first(self) -> float:
        return self.clip

    @override
    def sum(
        self, changes: Sequence[Vector], clip: float, ledger: Ledger, round: int
    ) -> tuple[Vector, float] | None:
        number = ledger.releases
        if not ledger.charge(self.cost(number), self.most, round):
            return None
        size = len(changes[0])
        noise = ledger.noise(size + 1)
        total, within = np.zeros(size), 0
        for change in changes:
            inside, is_within = self.within(change, clip)
            total += inside
            within += is_within
        total += self.of_sum(number) * self.bound(size) * (clip / self.clip) * noise[:size]
        if self.count_noise is None:
            return total, clip
        fraction = (within - len(changes) / 2 + self.count_noise * noise[-1]) / len(changes) + 0.5
        return total, clip * math.exp(-self.rate * (fraction - self.quantile))

    def within(self, change: Vector, clip: float) -> tuple[Vector, bool]:
        """Return the change within the bound `clip`, and whether it was within."""
        scaled = self.clipped(np.asarray(change, dtype=np.float64) * (self.clip / clip))
        size = np.abs(change).max() if self.norm == "entry" else np.linalg.norm(change)
        return scaled * (clip / self.clip), bool(size <= clip)

    def of_sum(self, release: int) -> float:
        """Return the noise of the sum, in units of the bound: what the count leaves of sigma."""
        sigma = self.sigma(release)
        if self.count_noise is None:
            return sigma
        return float((sigma**-2 - (2.0 * self.count_noise) ** -2) ** -0.5)
