"""The contract of a fault: something that happens to the world at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import ClassVar, Protocol

from typing_extensions import override

from p2pfrl.core.needs import Breaks, Composable, Need
from p2pfrl.core.rule import rule
from p2pfrl.core.units import Seconds
from p2pfrl.exchange.attacks.base import Attack


class World(Protocol):
    """The verbs of a world that faults use."""

    def partition(self, groups: Sequence[Sequence[int]]) -> None:
        """Cut every link between different groups; agents in no group form one more."""

    def heal(self) -> None:
        """Restore all links."""

    def crash(self, agent: int) -> None:
        """Kill an agent or coordinator: what it was doing is lost."""

    def restart(self, agent: int) -> None:
        """Start a crashed agent or coordinator from what it had saved."""

    def straggle(self, agent: int, factor: float) -> None:
        """Make an agent's local work take `factor` times as long from its next update on."""

    def lose(self, probability: float) -> None:
        """Lose messages with this probability, besides what the network loses anyway."""

    def leave(self, agent: int) -> None:
        """Take an agent away for good; its neighbors are told at once."""

    def opt_out(self, agent: int) -> None:
        """Let an agent leave for good at the end of its round; its neighbors are told then."""

    def join(self, agent: int) -> None:
        """Start an agent that was not there before."""

    def turn(self, agent: int) -> None:
        """Let an agent become Byzantine."""


@rule
class Fault(Composable, ABC):
    """Something that happens at a time.

    Attributes:
        is_of_presence: somebody comes or goes.
        is_of_links: it happens to messages alone.
        at: virtual time.
    """

    is_of_presence: ClassVar[bool] = False
    is_of_links: ClassVar[bool] = False
    at: Seconds

    @property
    @override
    def breaks(self) -> Breaks:
        """What asks for messages that do not arrive in time."""
        return (Need.EVERY_MESSAGE,)

    @abstractmethod
    def strike(self, world: World) -> None:
        """Do it to the world."""

    def newcomers(self) -> Sequence[int]:
        """Return the agents that are not there before this fault."""
        return ()

    @property
    def attacks(self) -> Attack | None:
        """The attack that begins with this fault; None: none does."""
        return None

    def returning(self) -> Sequence[int]:
        """Return the agents and coordinators that go on from what they saved."""
        return ()

    def absent(self, coordinators: Collection[int]) -> Sequence[int]:
        """Return the coordinators that it names and that are not among these, those of the mode."""
        return ()

    def concerns(self, coordinators: Collection[int]) -> bool:
        """Return whether it can happen to anybody, in a mode with these coordinators."""
        return True
