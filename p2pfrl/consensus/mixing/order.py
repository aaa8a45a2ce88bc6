"""The order of training and mixing: which vector of an agent is mixed, and where its progress goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from p2pfrl.consensus.mixing.base import Mixing, State
from p2pfrl.core.parameters import Vector
from p2pfrl.core.turn import Turn


class Order(Protocol):
    """When an agent's own training is combined with its neighbors' vectors."""

    def outgoing(self, turn: Turn) -> Turn:
        """Return the exchange as receivers are to see it: `own` is what is sent."""

    def combine(
        self,
        mixing: Mixing,
        turn: Turn,
        received: Mapping[int, Vector],
        weights: Mapping[int, float],
        state: State,
    ) -> tuple[Vector, Any]:
        """Return the mixed vector and the next state; arguments as of `Mixing.mix`."""


@dataclass(frozen=True, slots=True)
class AdaptThenCombine:
    """Mix what training made of the agents: x <- sum_j w_ij (x_j + D_j)."""

    def outgoing(self, turn: Turn) -> Turn:
        """Return the exchange as it is."""
        return turn

    def combine(
        self,
        mixing: Mixing,
        turn: Turn,
        received: Mapping[int, Vector],
        weights: Mapping[int, float],
        state: State,
    ) -> tuple[Vector, Any]:
        """Return what the rule makes of it."""
        return mixing.mix(turn, received, weights, state)


@dataclass(frozen=True, slots=True)
class CombineWhileAdapting:
    """Mix what training started from, and add one's own progress: x <- sum_j w_ij x_j + D_i."""

    def outgoing(self, turn: Turn) -> Turn:
        """Return the exchange with `own` where training started."""
        return replace(turn, own=turn.start)

    def combine(
        self,
        mixing: Mixing,
        turn: Turn,
        received: Mapping[int, Vector],
        weights: Mapping[int, float],
        state: State,
    ) -> tuple[Vector, Any]:
        """Return what the rule makes of the start points, plus own - start."""
        mixed, state = mixing.mix(self.outgoing(turn), received, weights, state)
        mixed += turn.own - turn.start
        return mixed, state


ORDERS: dict[str, Order] = {
    "adapt_then_combine": AdaptThenCombine(),
    "combine_while_adapting": CombineWhileAdapting(),
}
