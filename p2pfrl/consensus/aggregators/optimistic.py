"""Optimistic value iteration of many agents: action values with a bonus from sums of experience."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from p2pfrl.consensus.aggregators.base import Aggregator, Arrived, Memory
from p2pfrl.core.needs import Need, Needs, OneOf
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule


@rule
class Optimistic(Aggregator):
    """Q_h = min(sum_i n_i Q_i / n + b, H), b = c (H / n + sqrt(Var / n)), from h = H down to 1.

    Each round computes one h. n = sum_i n_i counts visits of (h, s, a). Q_i = r_i + P_i V_(h+1) is
    agent i's own estimate with V_(h+1) = max_a Q_(h+1). Var = sum_i n_i P_i V^2 / n - (sum_i n_i
    P_i V / n)^2. Q_h = H if n <= 1. The model is (stage, Q, n). At stage 0 agents play episodes,
    and any message starts a synchronization of H rounds at stages H, ..., 1. Rounds without
    messages do not change the model. If messages of a synchronization are lost, the sums are over
    those that arrived.

    Reference: Labbi et al., "Federated UCBVI: communication-efficient federated regret minimization
    with heterogeneous agents", AISTATS 2025, arXiv 2410.22908, Algorithm 1, with the constants of
    its experiments.

    Attributes:
        bonus: c.
    """

    needs: ClassVar[Needs] = (
        OneOf("exchange.payload", ("statistics",), "it makes a model of sums"),
        Need.BARRIER,
        Need.TARGET,
        Need.NO_CORRECTION,
        Need.EXACT_MESSAGES,
    )
    bonus: float = Field(default=1.0, ge=0)

    def aggregate(
        self, received: Sequence[Arrived], model: Vector, state: Memory
    ) -> tuple[Vector, Memory]:
        """Return the next model.

        Vectors are sums (n_i, n_i Q_i, n_i P_i V, n_i P_i V^2) over (s, a), `(4 S A,)`.
        """
        sums = np.array([arrived.vector for arrived in received], dtype=np.float64).sum(axis=0)
        n, value, ahead, square = sums.reshape(4, -1)
        table = (len(model) - 1) // 2
        horizon = table // len(n)
        stage, after = int(model[0]), model.copy()
        if not stage:
            after[0] = horizon
            return after, state
        seen = np.maximum(n, 1.0)
        variance = np.maximum(square / seen - np.square(ahead / seen), 0.0)
        bonus = np.where(n > 1.0, self.bonus * (horizon / seen + np.sqrt(variance / seen)), horizon)
        place = slice(1 + (stage - 1) * len(n), 1 + stage * len(n))
        after[place] = np.minimum(value / seen + bonus, horizon)
        after[place.start + table : place.stop + table] = n
        after[0] = stage - 1
        return after, state
