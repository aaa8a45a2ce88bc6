"""The common policy as a guide, toward which local learning is drawn."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from typing_extensions import override

from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Memory, Turn
from p2pfrl.learning.corrections.base import Correction


@rule
class Guide(Correction):
    """L <- L + coef E_s[KL(pi_guide(.|s) || pi(.|s))], over the agent's own samples.

    The guide pi_guide is the policy of the exchanged parameters where the round began: a
    coordinator's model, or the mean over neighbors. Unlike prox it holds policies together in the
    states that the agent visits, and lets parameters move that do not matter there. The direction
    is that of distillation: the agent is taught not to give up the actions of the guide, which
    keeps it exploring as the others do. With coef = 0 no bit changes. For learners with a policy
    and fresh samples.

    Reference: the distillation loss of Teh, Bapst, Czarnecki, Quan, Kirkpatrick, Hadsell, Heess,
    Pascanu, "Distral: robust multitask reinforcement learning", NeurIPS 2017, arXiv 1707.04175,
    with the average of the agents in place of a distilled policy, and the KL divergence the other
    way round.

    Attributes:
        coef: weight of the term.
    """

    arrays: ClassVar[tuple[str, ...]] = ("guide",)
    guided_by: ClassVar[str | None] = "guide"
    begins_at_zero: ClassVar[bool] = True
    coef: float = Field(default=0.1, ge=0)

    @property
    @override
    def weight(self) -> float:
        """The coefficient."""
        return self.coef

    @override
    def begin(self, memory: Memory, before: Turn | None, start: Vector, extra: Vector) -> None:
        """Take the policy as it is now as the guide."""
        memory.mark("guide")
