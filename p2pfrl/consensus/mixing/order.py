"""The order of training and mixing: which vector of an agent is mixed, and where its progress goes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from typing_extensions import override

from p2pfrl.consensus.mixing.base import Mixing, State
from p2pfrl.core.parameters import Vector
from p2pfrl.core.turn import Turn


class Order(ABC):
    """When an agent's own training is combined with its neighbors' vectors."""

    @abstractmethod
    def outgoing(self, turn: Turn) -> Turn:
        """Return the exchange as receivers are to see it: `own` is what is sent and mixed."""

    def combine(
        self,
        mixing: Mixing,
        turn: Turn,
        received: Mapping[int, Vector],
        weights: Mapping[int, float],
        state: State,
    ) -> tuple[Vector, Any]:
        """Return the mixed vector and the next state; arguments as of `Mixing.mix`."""
        return mixing.mix(self.outgoing(turn), received, weights, state)


class AdaptThenCombine(Order):
    """Mix what training made of the agents: x <- sum_j w_ij (x_j + D_j)."""

    @override
    def outgoing(self, turn: Turn) -> Turn:
        return turn


class CombineWhileAdapting(Order):
    """Mix what training started from, and add one's own progress: x <- sum_j w_ij x_j + D_i."""

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
