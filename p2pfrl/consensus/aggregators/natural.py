"""Natural gradient of many agents: gradients and Fisher information are averaged, then divided."""

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
    """w = (mean F_i + damping)^+ mean g_i, for tabular softmax policies.

    The server optimizer "sgd" steps along -w. This is not the mean of F_i^+ g_i, which payload
    "gradient" with learner "npg" gives: there every agent counts equally in every state, here by
    how often it visits the state. The gradients must be computed at the coordinator's model, so the
    rule needs synchronous rounds.

    References: Kakade, "A natural policy gradient", NeurIPS 2001; federated, by ADMM: Lan, Wang,
    Anderson, Brinton, Aggarwal, "Improved communication efficiency in federated natural policy
    gradient via ADMM-based gradient updates", NeurIPS 2023.

    Attributes:
        damping: added to the diagonal; with 0, the logits of states that no agent visited do not
            move.
    """

    needs: ClassVar[Needs] = (
        OneOf("exchange.payload", ("fisher",), "it divides by Fisher information"),
        Need.BARRIER,
    )
    damping: float = Field(default=0.0, ge=0)

    def aggregate(
        self, received: Sequence[Arrived], model: Vector, state: Memory
    ) -> tuple[Vector, Memory]:
        """Return w, `(S A,)`, from vectors (g `(S A,)`, visits `(S,)`)."""
        mean = np.array([arrived.vector for arrived in received], dtype=np.float64).sum(
            axis=0
        ) / len(received)
        gradient, visits = mean[: len(model)], mean[len(model) :]
        policy = np.exp(log_softmax(model.astype(np.float64).reshape(len(visits), -1)))
        direction = natural(gradient.reshape(policy.shape), visits, policy, self.damping)
        return direction.ravel().astype(model.dtype, copy=False), state
