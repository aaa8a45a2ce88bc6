"""Aggregation of the last payload of every agent, whether or not it answered in this round."""

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
    """Sum or mean of the last payloads of all agents that have sent one, in this round or before.

    With payload "gradient", reduce = "sum", server optimizer "sgd" and gate "lag" this is LAG, x <-
    x - lr sum_m g_m, and with policy gradients LAPG. With payload "delta" and reduce = "mean" it is
    MIFA: FedAvg that remembers the updates of absent agents. The coordinator also steps in a round
    without answers.

    Attributes:
        reduce: sum; or mean, over the agents that have sent a payload.

    Reference: Chen, Giannakis, Sun, Yin, LAG: lazily aggregated gradient, NeurIPS 2018, arXiv
        1805.09965; Gu, Huang, Zhang, Huang, Fast federated learning in the presence of arbitrary
        device unavailability, NeurIPS 2021, arXiv 2106.04159 (MIFA).
    """

    goes_on: ClassVar[bool] = True

    reduce: Literal["sum", "mean"] = "mean"

    @property
    @override
    def needs(self) -> Needs:
        """Payloads that can be summed, if `reduce` is "sum"."""
        return (Need.SUMMANDS.of("reduce"),) if self.reduce == "sum" else ()

    def aggregate(
        self, received: Sequence[Arrived], model: Vector, state: Memory
    ) -> tuple[Vector, Memory]:
        """Return the sum or mean, in order of agent, and the last payloads by agent."""
        known = {**state, **{arrived.sender: arrived.vector for arrived in received}}
        total = np.zeros_like(model)
        for agent in sorted(known):
            total += known[agent]
        return (total if self.reduce == "sum" else total / len(known)), known
