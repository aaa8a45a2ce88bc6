"""The contract of gates: whether to send this round. A closed gate sends a header-only skip, so that nobody waits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Turn

State = tuple[Vector, ...]


class Gate(ABC):
    """Decides before every exchange.

    Attributes:
        tells: the name of what the learner must tell (`Stack.tell`) for the gate to decide; None:
            nothing.
        needs_returns: whether it never opens where no episodes end.
        closes: whether it ever holds anything back.
        is_common: it is open or closed for all agents alike that have come to as many exchanges.
        means_unchanged: silence says that what was sent last still holds, so that receivers are to
            go on with it.
    """

    tells: ClassVar[str | None] = None
    needs_returns: ClassVar[bool] = False
    closes: ClassVar[bool] = True
    is_common: ClassVar[bool] = False
    means_unchanged: ClassVar[bool] = False

    def bind(self, agents: int) -> Gate:
        """Return the rule for a run of so many agents."""
        return self

    def init(self, start: Vector) -> State:
        """Return what an agent remembers before its first exchange; `start` `(k,)` is its shared vector."""
        return ()

    @abstractmethod
    def decide(self, payload: Vector, turn: Turn, state: State) -> tuple[bool, State]:
        """Return whether `payload` is worth sending, and what is remembered. Asked once per exchange."""


@rule
class Always(Gate):
    """Send every time."""

    closes: ClassVar[bool] = False

    def decide(self, payload: Vector, turn: Turn, state: State) -> tuple[bool, State]:
        """Return True."""
        return True, state
