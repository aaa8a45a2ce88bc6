"""Distributed differential privacy: every agent adds a part of the noise that a sum needs."""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field
from typing_extensions import override

from p2pfrl.core.needs import Breaks, Need
from p2pfrl.core.rule import rule
from p2pfrl.exchange.privacy.gaussian import ClipNoise


@rule
class DistributedNoise(ClipNoise):
    """D <- D min(1, C / ||D||) + N(0, (sigma C)^2 / k I) of each agent, for sums of k or more.

    With secure sums around a coordinator, which nobody may see in part: agents refuse sums of fewer
    than `secure.minimum` vectors, which must be k at least. So the noise of a sum is sigma C or
    more, and epsilon is that of `central_noise`, without trust in the coordinator. Of a sum with c
    agents that tell others their noise, sigma sqrt(1 - c / k) is left. Gaussians of floating point,
    rounded to the grid of the sum, count as Gaussians (Mironov, CCS 2012, has an attack on such
    noise). With a budget that is spent an agent skips, and is missing in the sums.

    Attributes:
        parts: k, vectors in every sum: the agents of a round less those that may stay away.

    Reference: Kairouz, Liu, Steinke, The distributed discrete Gaussian mechanism for federated
        learning with secure aggregation, ICML 2021, arXiv 2102.06387, with Gaussians in place of
        discrete ones.
    """

    guarantee: ClassVar[str] = (
        "distributed: the sum has the noise; agents trust that as many others as a sum needs add "
        "their parts"
    )

    parts: int = Field(ge=3)

    @property
    @override
    def breaks(self) -> Breaks:
        """What clipped changes break, and a second sum of the same changes beside the first."""
        return (*super().breaks, Need.EXTRAS)

    @property
    @override
    def share(self) -> float:
        return 1.0 / math.sqrt(self.parts)
