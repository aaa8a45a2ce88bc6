"""Order of training and mixing: the vector that is mixed, and when the local change is added."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from typing_extensions import override

from p2pfrl.consensus.mixing.base import Mixing, State
from p2pfrl.core.contract import ARRAY_AND_STATE, is_pair, require_like, returned
from p2pfrl.core.parameters import Vector
from p2pfrl.core.turn import Turn


class Order(ABC):
    """The order in which an agent combines its own training with its neighbors' vectors."""

    @abstractmethod
    def outgoing(self, turn: Turn) -> Turn:
        """Return the exchange as receivers see it: `own` is the vector that is sent and mixed."""

    def combine(
        self,
        mixing: Mixing,
        turn: Turn,
        received: Mapping[int, Vector],
        weights: Mapping[int, float],
        state: State,
    ) -> tuple[Vector, Any]:
        """Return the mixed vector and the next state. The arguments are those of `Mixing.mix`.

        Raises:
            AgentError: the rule returned something else.
        """
        mixed = mixing.mix(self.outgoing(turn), received, weights, state)
        returned(is_pair(mixed), mixed, ARRAY_AND_STATE, mixing, "mix", turn.agent)
        require_like(mixed[0], turn.own, mixing, "mix", turn.agent)
        return mixed


class AdaptThenCombine(Order):
    """Mix the vectors after training: x <- sum_j w_ij (x_j + D_j)."""

    @override
    def outgoing(self, turn: Turn) -> Turn:
        return turn


class CombineWhileAdapting(Order):
    """Mix the vectors before training and add the own change: x <- sum_j w_ij x_j + D_i."""

    @override
    def outgoing(self, turn: Turn) -> Turn:
        return replace(turn, own=turn.start)

    @override
    def combine(
        self,
        mixing: Mixing,
        turn: Turn,
        received: Mapping[int, Vector],
        weights: Mapping[int, float],
        state: State,
    ) -> tuple[Vector, Any]:
        mixed, state = super().combine(mixing, turn, received, weights, state)
        mixed += turn.own - turn.start
        return mixed, state


ORDERS: dict[str, Order] = {
    "adapt_then_combine": AdaptThenCombine(),
    "combine_while_adapting": CombineWhileAdapting(),
}
