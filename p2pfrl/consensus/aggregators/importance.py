"""Importance averaging: who visited an entry of the table more often has more to say about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from pydantic import Field

from p2pfrl.consensus.aggregators.base import Aggregator, Arrived, Memory
from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.needs import Needs, OneOf
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule


@rule
class Importance(Aggregator):
    """Q(s,a) = sum_i alpha_i(s,a) Q_i(s,a), alpha_i in proportion to (1 - eta)^(-N_i(s,a)) over those that visited it.

    N_i are the visits since the last exchange, eta the learner's step size: an agent's entry keeps
    (1 - eta)^N_i of what it was. Unlike the paper's, agents that never visited (s, a) have no
    weight at all rather than weight 1: what they send is the model they were sent. Where nobody
    visited, the plain mean.

    Reference: Woo, Joshi, Chi, "The blessing of heterogeneity in federated Q-learning", ICML 2023,
    arXiv 2305.10697.

    Attributes:
        rate: eta; the learner's lr when not given.
    """

    needs: ClassVar[Needs] = (OneOf("exchange.payload", ("table",), "it weighs by visits"),)
    rate: float | None = Field(default=None, ge=0, lt=1)

    def bind(self, lr: float) -> Aggregator:
        """Return itself with the learner's step size, where it has none of its own.

        Raises:
            ScenarioError: a step of 1 keeps nothing of what was, so that one visit weighs
                infinitely.
        """
        if self.rate is not None:
            return self
        if lr >= 1.0:
            raise ScenarioError(
                [f"coordinator.aggregator.rate: needs a learner.lr below 1, got {lr:g}"]
            )
        return replace(self, rate=lr)

    def aggregate(
        self, received: Sequence[Arrived], model: Vector, state: Memory
    ) -> tuple[Vector, Memory]:
        """Return the weighted table, summed in order."""
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
