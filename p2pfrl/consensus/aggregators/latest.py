"""The last payload of every agent: who has nothing new to say counts as before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from typing_extensions import override

from p2pfrl.consensus.aggregators.base import Aggregator, Arrived, Memory
from p2pfrl.core.needs import Need, Needs
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule


@rule
class Latest(Aggregator):
    """Sum or mean over all agents heard so far of the last payload of each, whether it answered this round or not.

    With payload "gradient", reduce = "sum", server optimizer "sgd" and gate "lag" this is LAG, x <-
    x - lr sum_m g_m, and with policy gradients LAPG. With payload "delta" and reduce = "mean" it is
    MIFA: FedAvg that does not forget who is away. It steps in a round in which nobody answers, too.

    Attributes:
        reduce: sum; or mean, over those that were heard.

    Reference: Chen, Giannakis, Sun, Yin, LAG: lazily aggregated gradient, NeurIPS 2018, arXiv
        1805.09965; Gu, Huang, Zhang, Huang, Fast federated learning in the presence of arbitrary
        device unavailability, NeurIPS 2021, arXiv 2106.04159 (MIFA).
    """

    goes_on: ClassVar[bool] = True

    reduce: Literal["sum", "mean"] = "mean"

    @property
    @override
    def needs(self) -> Needs:
        """Payloads that can be summed, where they are."""
        return (Need.SUMMANDS.of("reduce"),) if self.reduce == "sum" else ()

    def aggregate(
        self, received: Sequence[Arrived], model: Vector, state: Memory
    ) -> tuple[Vector, Memory]:
        """Return the sum or mean, in ascending order of agent, and the last payloads by agent."""
        known = {**state, **{arrived.sender: arrived.vector for arrived in received}}
        total = np.zeros_like(model)
        for agent in sorted(known):
            total += known[agent]
        return (total if self.reduce == "sum" else total / len(known)), known
