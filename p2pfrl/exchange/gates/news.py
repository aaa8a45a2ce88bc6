"""A gate that leaves the decision to the learner."""

from __future__ import annotations

from typing import ClassVar

from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Turn
from p2pfrl.exchange.gates.base import Gate, State


@rule
class News(Gate):
    """Send when the learner says that there is news: with "ucbvi", when a count has doubled since the last exchange.

    Reference: Labbi et al., "Federated UCBVI: communication-efficient federated regret minimization
    with heterogeneous agents", AISTATS 2025, arXiv 2410.22908, section 3.
    """

    tells: ClassVar[str | None] = "news"

    def decide(self, payload: Vector, turn: Turn, state: State) -> tuple[bool, State]:
        """Return what the learner tells."""
        assert self.tells is not None
        return bool(turn.memory.recall(self.tells)[0]), state
