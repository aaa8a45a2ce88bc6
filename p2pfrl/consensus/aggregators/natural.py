"""Natural gradient of many agents: gradients and Fisher information are averaged, then divided."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field
from typing_extensions import override

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

    With `latest` it needs none: the means are those of the last message (g_i, d_i, pi_i) of every
    agent, as in incremental aggregated gradients, and F is the Fisher information of the policies
    of these messages together, sum_i d_i (diag pi - pi pi') with pi ~ sum_i d_i pi_i in each state.
    If all messages are of one model it is sum_i F_i, else it is larger, and w is within the
    advantages that the agents found. So steps have the same fixed points, sum_i g_i = 0, at any
    speeds of the agents.

    References: Kakade, "A natural policy gradient", NeurIPS 2001; federated, by ADMM: Lan, Wang,
    Anderson, Brinton, Aggarwal, "Improved communication efficiency in federated natural policy
    gradient via ADMM-based gradient updates", NeurIPS 2023; the last of all:
    Gurbuzbalaban, Ozdaglar, Parrilo, "On the convergence rate of incremental aggregated gradient
    algorithms", SIAM Journal on Optimization 27(2), 2017, arXiv 1506.02081.

    Attributes:
        damping: added to the diagonal; with 0, the logits of states that no agent visited do not
            move.
        latest: use the last message of every agent, also of those that did not answer; for agents
            that do not wait for each other, with payload "fisher_policy".
    """

    damping: float = Field(default=0.0, ge=0)
    latest: bool = False

    @property
    @override
    def needs(self) -> Needs:
        """Fisher information; that of the coordinator's model, unless `latest`."""
        if self.latest:
            why = "the models of the last messages differ"
            return (OneOf("exchange.payload", ("fisher_policy",), why),)
        why = "it divides by Fisher information"
        return (OneOf("exchange.payload", ("fisher",), why), Need.BARRIER.of("latest"))

    @override
    def aggregate(
        self, received: Sequence[Arrived], model: Vector, state: Memory
    ) -> tuple[Vector, Memory]:
        """Return w, `(S A,)`, from vectors (g `(S A,)`, visits `(S,)`) and, if latest, pi."""
        if self.latest:
            known = {**state, **{arrived.sender: arrived.vector for arrived in received}}
            return self._of_latest([known[agent] for agent in sorted(known)], model), known
        mean = np.array([arrived.vector for arrived in received], dtype=np.float64).sum(
            axis=0
        ) / len(received)
        gradient, visits = mean[: len(model)], mean[len(model) :]
        policy = np.exp(log_softmax(model.astype(np.float64).reshape(len(visits), -1)))
        direction = natural(gradient.reshape(policy.shape), visits, policy, self.damping)
        return direction.ravel().astype(model.dtype, copy=False), state

    def _of_latest(self, vectors: Sequence[Vector], model: Vector) -> Vector:
        size = len(model)
        states = len(vectors[0]) - 2 * size
        gradient, seen = np.zeros((states, size // states)), np.zeros((states, size // states))
        for vector in vectors:
            own = vector.astype(np.float64, copy=False)
            gradient += own[:size].reshape(gradient.shape)
            visits, policy = own[size:-size, None], own[-size:].reshape(seen.shape)
            seen += visits * policy
        gradient /= len(vectors)
        seen /= len(vectors)
        total = seen.sum(axis=-1)
        mixed = seen / np.where(total > 0, total, 1.0)[:, None]
        direction = natural(gradient, total, mixed, self.damping)
        out: Vector = direction.ravel().astype(model.dtype, copy=False)
        return out
