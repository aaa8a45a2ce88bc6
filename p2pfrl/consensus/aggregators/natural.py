"""The natural gradient of many agents together: gradients and Fisher information are averaged, then divided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from p2pfrl.consensus.aggregators.base import Aggregator, Arrived, Memory
from p2pfrl.core.needs import Need, Needs, OneOf
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.softmax import log_softmax, natural


@rule
class Natural(Aggregator):
    """w = (mean F_i + damping)^+ mean g_i, for tabular softmax policies; the server optimizer "sgd" steps along -w.

    Not the mean of F_i^+ g_i, which payload "gradient" with learner "npg" gives: that counts every
    agent alike in every state, this one by how often an agent is there. Agents' gradients are those
    at the coordinator's model, so it needs synchronous rounds.

    References: Kakade, "A natural policy gradient", NeurIPS 2001; federated, by other means, Lan,
    Wang, Anderson, Brinton, Aggarwal, "Improved communication efficiency in federated natural
    policy gradient via ADMM-based gradient updates", NeurIPS 2023.

    Attributes:
        damping: added to the diagonal; with none, logits of states that nobody visited stay where
            they are.
    """

    needs: ClassVar[Needs] = (
        OneOf("exchange.payload", ("fisher",), "it divides by Fisher information"),
        Need.BARRIER,
    )
    damping: float = Field(default=0.0, ge=0)

    def aggregate(
        self, received: Sequence[Arrived], model: Vector, state: Memory
    ) -> tuple[Vector, Memory]:
        """Return w, `(S A,)`, of vectors (g `(S A,)`, visits `(S,)`)."""
        mean = np.array([arrived.vector for arrived in received], dtype=np.float64).sum(
            axis=0
        ) / len(received)
        gradient, visits = mean[: len(model)], mean[len(model) :]
        policy = np.exp(log_softmax(model.astype(np.float64).reshape(len(visits), -1)))
        direction = natural(gradient.reshape(policy.shape), visits, policy, self.damping)
        return direction.ravel().astype(model.dtype, copy=False), state
