"""Faults of links: partitions and loss."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from p2pfrl.core.needs import Breaks
from p2pfrl.core.rule import rule
from p2pfrl.simulator.faults.base import Fault, World


@rule
class Partition(Fault):
    """Cut every link between agents of different groups; agents in no group form one more.

    Attributes:
        groups: lists of agents that still reach each other. The coordinator stays with the first.
    """

    is_of_links: ClassVar[bool] = True
    groups: tuple[tuple[int, ...], ...] = Field(min_length=1)

    def strike(self, world: World) -> None:
        """Cut the links."""
        world.partition(self.groups)


@rule
class Heal(Fault):
    """Restore the links that a partition cut."""

    is_of_links: ClassVar[bool] = True
    breaks: ClassVar[Breaks] = ()

    def strike(self, world: World) -> None:
        """Restore them."""
        world.heal()


@rule
class Lossy(Fault):
    """Lose messages, besides what the network loses anyway, until a later `loss` fault changes it.

    Attributes:
        probability: of each message, independently; 0 ends it.
    """

    is_of_links: ClassVar[bool] = True
    probability: float = Field(ge=0, le=1)

    def strike(self, world: World) -> None:
        """Set the probability."""
        world.lose(self.probability)
