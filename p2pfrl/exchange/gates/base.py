"""The contract of gates: whether an agent sends in this round.

A closed gate sends a skip, which is a header without a payload, so that nobody waits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from typing_extensions import override

from p2pfrl.core.needs import Breaks, Composable, Need
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.core.turn import Turn

State = tuple[Vector, ...]


class Gate(Composable, ABC):
    """Decides before every exchange whether to send.

    Attributes:
        offer: name of the learner's vector by which the gate decides (`Exchange.offer`); None: it
            needs none.
        is_common: it is open or closed for all agents alike that have come to as many exchanges.
    """

    offer: ClassVar[str | None] = None
    is_common: ClassVar[bool] = False

    @property
    @override
    def breaks(self) -> Breaks:
        """The facts that need messages which a closed gate holds back."""
        return (Need.EVERY_MESSAGE, Need.EVERY_ANSWER, Need.WHOLE_EXCHANGES, Need.BOTH_ENDS)

    def bind(self, agents: int) -> Gate:
        """Return the rule for a run of this number of agents."""
        return self

    def init(self, start: Vector) -> State:
        """Return what an agent remembers before its first exchange.

        The vector `start` `(k,)` is its shared vector.
        """
        return ()

    @abstractmethod
    def decide(self, payload: Vector, turn: Turn, state: State) -> tuple[bool, State]:
        """Return whether `payload` is worth sending, and what is remembered.

        This is called once per exchange.
        """


@rule
class Always(Gate):
    """Send every time."""

    breaks: ClassVar[Breaks] = ()

    def decide(self, payload: Vector, turn: Turn, state: State) -> tuple[bool, State]:
        """Return True."""
        return True, state
