"""Importance averaging of tables: entries are weighted by the number of visits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.aggregators.base import Aggregator, Arrived, Memory
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.needs import Needs, OneOf
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule


@rule
class Importance(Aggregator):
    """Q(s,a) = sum_i alpha_i(s,a) Q_i(s,a), alpha_i proportional to (1 - eta)^(-N_i(s,a)).

    N_i are the visits since the last exchange, and eta is the learner's step size: after N_i steps
    an entry keeps (1 - eta)^N_i of its old value. In the paper an agent that never visited (s, a)
    has weight 1. Here it has weight 0, because it sends back the coordinator's own value. If no
    agent visited (s, a), the entry is the plain mean.

    Reference: Woo, Joshi, Chi, "The blessing of heterogeneity in federated Q-learning", ICML 2023,
    arXiv 2305.10697.

    Attributes:
        rate: eta; the learner's lr by default.
    """

    needs: ClassVar[Needs] = (OneOf("exchange.payload", ("table",), "it weighs by visits"),)
    of_several: ClassVar[tuple[str, ...]] = ("", "rate")
    rate: float | None = Field(default=None, ge=0, lt=1)

    def bind(self, lr: float) -> Aggregator:
        """Return the rule with the learner's step size, unless it has its own.

        Raises:
            ScenarioError: the step size is 1. Then one visit erases the old value and its weight is
                infinite.
        """
        if self.rate is not None:
            return self
        if lr >= 1.0:
            raise ScenarioError(
                [f"coordinator.aggregator.rate: needs a learner.lr below 1, got {lr:g}"]
            )
        return replace(self, rate=lr)

    @override
    def aggregate(
        self, received: Sequence[Arrived], model: Vector, state: Memory
    ) -> tuple[Vector, Memory]:
        assert self.rate is not None, "bound to the learner's step size before it is used"
        size = len(model)
        tables = np.array([arrived.vector[:size] for arrived in received])
        visits = np.array([arrived.vector[size:] for arrived in received])
        exponents = np.where(visits > 0, -np.log1p(-self.rate) * visits, -np.inf)
        most = exponents.max(axis=0)
        is_visited = np.isfinite(most)
        weights = np.where(is_visited, np.exp(exponents - np.where(is_visited, most, 0.0)), 1.0)
        weights /= weights.sum(axis=0)
        table: Vector = (weights * tables).sum(axis=0).astype(model.dtype, copy=False)
        return table, state
