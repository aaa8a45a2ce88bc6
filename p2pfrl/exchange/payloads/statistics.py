"""Payloads of sums over an agent's experience, for an aggregator that knows what they mean."""

from __future__ import annotations

from typing import ClassVar

from p2pfrl.core.needs import Needs, OneOf
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Turn
from p2pfrl.exchange.payloads.base import Payload
from p2pfrl.exchange.payloads.changes import OF_GRADIENTS


class _Statistics(Payload):
    """Statistics of the learner from which an aggregator makes a model."""

    modes: ClassVar[tuple[str, ...] | None] = ("central",)
    why: ClassVar[str] = (
        'it is for a coordinator that makes a model of it; use payload = "parameters"'
    )
    offer: ClassVar[str]

    def extract(self, turn: Turn) -> Vector:
        """Return the learner's vector."""
        return turn.memory.recall(self.offer)

    def parts(self, shared: tuple[str, ...]) -> tuple[str, ...]:
        """Return the name of the statistics."""
        return (self.offer,)

    def size(self, shared: int, offered: int | None) -> int | None:
        """Return how many numbers the learner's vector has."""
        return offered


@rule
class Statistics(_Statistics):
    """Sums of rewards and values over the experience, never transition probabilities.

    Aggregator "optimistic" reads them.

    Reference: Labbi et al., "Federated UCBVI: communication-efficient federated regret minimization
    with heterogeneous agents", AISTATS 2025, arXiv 2410.22908, Algorithm 1.
    """

    needs: ClassVar[Needs] = (
        OneOf("coordinator.aggregator", ("optimistic",), "no other knows what the sums mean"),
    )
    offer: ClassVar[str] = "statistics"

    def target(self, model: Vector, aggregate: Vector) -> Vector:
        """Return the aggregate: the next model."""
        return aggregate


@rule
class Fisher(_Statistics):
    """The gradient g_i of a policy, with the numbers that give its Fisher information F_i.

    Aggregator "natural" reads them. Of tabular softmax policies F_i follows from how often agent i
    visits each state, so that a message is S numbers longer than a gradient. Local updates take no
    step.

    Reference: Kakade, "A natural policy gradient", NeurIPS 2001.
    """

    needs: ClassVar[Needs] = (
        *OF_GRADIENTS,
        OneOf("coordinator.aggregator", ("natural",), "no other knows what the visits mean"),
    )
    needs_gradient: ClassVar[bool] = True
    offer: ClassVar[str] = "fisher"

    def target(self, model: Vector, aggregate: Vector) -> Vector:
        """Return model - aggregate; the step size of the server optimizer scales the difference."""
        return model - aggregate


@rule
class FisherPolicy(Fisher):
    """(g_i, d_i, pi_i): the gradient, with the visits and the policy that give F_i.

    Aggregator "natural" with latest = true reads them. With payload "fisher" the policy is that of
    the coordinator's model, which has changed meanwhile where agents do not wait for each other. A
    message is as much longer as the policy.

    Reference: Kakade, "A natural policy gradient", NeurIPS 2001.
    """

    offer: ClassVar[str] = "fisher_policy"

    def scaled(self, vector: Vector, model: Vector, factor: float) -> Vector:
        """Return the payload with gradient and visits scaled: it counts that much in the sums."""
        out = vector.copy()
        out[: len(vector) - len(model)] *= factor
        return out
