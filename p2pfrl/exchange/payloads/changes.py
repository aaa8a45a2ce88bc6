"""Payloads that say how a model should change: the difference made by training, the gradient."""

from __future__ import annotations

from typing import ClassVar

from p2pfrl.core.needs import Need, Needs, OneOf
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Turn
from p2pfrl.exchange.payloads.base import Payload

OF_GRADIENTS: Needs = (
    Need.GRADIENTS,
    Need.STEPS,
    OneOf("schedule.every", (1,), "a gradient is that of one local update"),
    OneOf("learner.moments", ("keep", "reset"), "the coordinator steps and the learner has none"),
)
"""What every payload needs whose local updates take no step."""


@rule
class Delta(Payload):
    """The change Theta_i - theta_start of local training, a pseudo-gradient; central modes only.

    Reddi et al., ICLR 2021, arXiv 2003.00295.
    """

    bounded: ClassVar[tuple[str, ...]] = ("central", "hierarchical")

    def extract(self, turn: Turn) -> Vector:
        """Return own - start."""
        return turn.own - turn.start

    def target(self, model: Vector, aggregate: Vector) -> Vector:
        """Return model + aggregate."""
        return model + aggregate


@rule
class Gradient(Payload):
    """The gradient of the local loss at the coordinator's model; central modes only.

    The agent takes no step. Mnih et al., Asynchronous methods for deep reinforcement learning, ICML
    2016, arXiv 1602.01783 (A3C).
    """

    needs: ClassVar[Needs] = OF_GRADIENTS
    needs_gradient: ClassVar[bool] = True
    bounded: ClassVar[tuple[str, ...]] = ("central", "hierarchical")

    def extract(self, turn: Turn) -> Vector:
        """Return the gradient that the local update left."""
        return turn.memory.recall("gradient")

    def target(self, model: Vector, aggregate: Vector) -> Vector:
        """Return model - aggregate; the step size of the server optimizer scales the difference."""
        return model - aggregate
