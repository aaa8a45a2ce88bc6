"""FedProx: stay near the point where local training began."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field
from typing_extensions import override

from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Memory, Turn
from p2pfrl.learning.corrections.base import Again, Correction, State


@rule
class Prox(Correction):
    """g <- g + mu (w - theta): local steps on f_i(w) + mu/2 ||w - theta||^2.

    The anchor theta is where the round began. With mu = 0 no bit changes. On quadratics f_i = 1/2
    (x - x*_i)' A_i (x - x*_i), solved to the end by local steps, it ends at (I - mu mean P_i)^-1
    mean P_i A_i x*_i with P_i = (A_i + mu I)^-1: drift is damped, not removed. The paper solves
    local problems to a given inexactness; here the learner takes as many steps as it always takes.
    Parts that are not shared are held near their own values at the start of the round. The first
    step of a round starts at theta, so with one step per exchange the pull is zero.

    Reference: Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, "Federated optimization in heterogeneous
    networks", MLSys 2020, arXiv 1812.06127, Algorithm 2.

    Attributes:
        mu: strength of the pull.
    """

    arrays: ClassVar[tuple[str, ...]] = ("anchor",)
    begins_at_zero: ClassVar[bool] = True
    mu: float = Field(default=0.01, ge=0)

    @override
    def adjust(self, rows: Vector, gradient: Vector, state: State, again: Again) -> None:
        """Pull toward the anchor."""
        if self.mu:
            gradient += self.mu * np.subtract(rows, state["anchor"])

    @override
    def begin(self, memory: Memory, before: Turn | None, start: Vector, extra: Vector) -> None:
        """Take the parameters as they are now as the anchor."""
        memory.mark("anchor")
