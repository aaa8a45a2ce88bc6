"""Policy distillation: agents send their policies in public states, and learn from the mixture."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from p2pfrl.core.needs import Breaks, Need, Needs, OneOf
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Turn
from p2pfrl.core.types import COORDINATOR
from p2pfrl.exchange.payloads.base import Payload, Shared

_LOGITS = "logits"


@rule
class Logits(Payload):
    """The policies pi_i(a | s) in public states s; agent i learns from sum_j w_j pi_j(a | s).

    Averages of probabilities are mixtures of policies, unlike policies of averaged parameters, and
    mean the same for networks of any form. Parameters do not travel: the mixture becomes the target
    of the learner's distillation loss (option `distill`), in place of the last one. A coordinator's
    model is the mixture; its first is zeros, which teach nothing.

    Reference: Jiang, Wang, Zhang, Bao, Tan, Fan, "FedHPD: heterogeneous federated reinforcement
    learning via policy distillation", AAMAS 2025, arXiv 2502.00870. There agents distill in steps
    of their own every so many rounds; here the term is part of every gradient step, so that gossip
    and delays need no phases. For Q networks (FedHQL: Fan et al., 2023, arXiv 2301.11135, exchanges
    Q values) the policy is softmax(Q / temperature).
    """

    modes: ClassVar[tuple[str, ...] | None] = ("gossip", "central")
    why: ClassVar[str] = (
        'a mixture of policies is for agents that learn from it; use mode = "gossip" or "central"'
    )
    needs: ClassVar[Needs] = (
        OneOf("coordinator.aggregator", ("mean",), "a mixture of policies is a mean"),
        Need.TARGET,
        Need.EVERY_NUMBER,
    )
    breaks: ClassVar[Breaks] = (Need.PARAMETERS,)
    offer: ClassVar[str | None] = _LOGITS

    def read(self, model: Shared) -> Vector:
        """Return the agent's probabilities."""
        return model.recall(_LOGITS)

    def write(self, model: Shared, vector: Vector) -> None:
        """Let the learner learn from the mixture."""
        model.receive(_LOGITS, {COORDINATOR: vector})

    def extract(self, turn: Turn) -> Vector:
        """Return the agent's own probabilities."""
        return turn.own

    def parts(self, shared: tuple[str, ...]) -> tuple[str, ...]:
        """Return the name of the vector of probabilities."""
        return (_LOGITS,)

    def size(self, shared: int, offered: int | None) -> int | None:
        """Return how many probabilities there are."""
        return offered

    def first(self, start: Vector, offered: int | None) -> Vector:
        """Return zeros: nothing is known yet."""
        return np.zeros(offered or 0, dtype=start.dtype)

    def scaled(self, vector: Vector, model: Vector, factor: float) -> Vector:
        """Return the mixture between model and vector."""
        return model + factor * (vector - model)

    def target(self, model: Vector, aggregate: Vector) -> Vector:
        """Return the aggregate."""
        return aggregate
