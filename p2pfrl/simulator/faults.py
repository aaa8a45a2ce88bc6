"""The fault timeline of a simulation: what goes wrong, and when. Each fault is a verb on the world."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Protocol

from pydantic import Field
from typing_extensions import override

from p2pfrl.core.needs import Breaks, Composable, Need
from p2pfrl.core.rule import rule
from p2pfrl.core.units import Seconds


class World(Protocol):
    """The verbs of a world that faults use."""

    def partition(self, groups: Sequence[Sequence[int]]) -> None:
        """Cut every link between different groups; agents in no group form one more."""

    def heal(self) -> None:
        """Restore all links."""

    def crash(self, agent: int) -> None:
        """Kill an agent: what it was doing is lost."""

    def restart(self, agent: int) -> None:
        """Start a crashed agent from what it had saved."""

    def straggle(self, agent: int, factor: float) -> None:
        """Make an agent's local work take `factor` times as long from its next update on."""

    def lose(self, probability: float) -> None:
        """Lose messages with this probability, besides what the network loses anyway."""

    def leave(self, agent: int) -> None:
        """Take an agent away for good; its neighbors are told at once."""

    def join(self, agent: int) -> None:
        """Start an agent that was not there before."""


_OF_ONE_AGENT: Breaks = (Need.EVERY_MESSAGE, Need.BOTH_ENDS, Need.MEMORY)
"""What is broken where an agent comes or goes."""


@rule
class Fault(Composable, ABC):
    """Something that happens at a time.

    Attributes:
        at: virtual time.
    """

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


@rule
class AgentFault(Fault, ABC):
    """A fault of certain agents.

    Attributes:
        agents: whose.
    """

    agents: tuple[int, ...] = Field(min_length=1)

    def strike(self, world: World) -> None:
        """Do it to each agent in turn."""
        for agent in self.agents:
            self.strike_one(world, agent)

    @abstractmethod
    def strike_one(self, world: World, agent: int) -> None:
        """Do it to one agent."""


@rule
class Partition(Fault):
    """Cut every link between agents of different groups; agents in no group form one more.

    Attributes:
        groups: lists of agents that still reach each other. The coordinator stays with the first.
    """

    groups: tuple[tuple[int, ...], ...] = Field(min_length=1)

    def strike(self, world: World) -> None:
        """Cut the links."""
        world.partition(self.groups)


@rule
class Heal(Fault):
    """Restore the links that a partition cut."""

    breaks: ClassVar[Breaks] = ()

    def strike(self, world: World) -> None:
        """Restore them."""
        world.heal()


@rule
class Crash(AgentFault):
    """Kill agents: an update under way and everything in their mailbox is lost."""

    breaks: ClassVar[Breaks] = _OF_ONE_AGENT

    def strike_one(self, world: World, agent: int) -> None:
        """Kill it."""
        world.crash(agent)


@rule
class Restart(AgentFault):
    """Start crashed agents from their last checkpoint (`checkpoint.every`; by default the end of every round)."""

    breaks: ClassVar[Breaks] = _OF_ONE_AGENT

    def strike_one(self, world: World, agent: int) -> None:
        """Start it."""
        world.restart(agent)


@rule
class Straggle(AgentFault):
    """Slow agents down, from their next update on.

    Attributes:
        factor: how many times longer local work takes; 1 restores the agent's own speed.
    """

    breaks: ClassVar[Breaks] = (Need.EVERY_MESSAGE, Need.BOTH_ENDS)
    factor: float = Field(default=10.0, gt=0)

    def strike_one(self, world: World, agent: int) -> None:
        """Slow it down."""
        world.straggle(agent, self.factor)


@rule
class Lossy(Fault):
    """Lose messages, besides what the network loses anyway, until a later `loss` fault changes it.

    Attributes:
        probability: of each message, independently; 0 ends it.
    """

    probability: float = Field(ge=0, le=1)

    def strike(self, world: World) -> None:
        """Set the probability."""
        world.lose(self.probability)


@rule
class Leave(AgentFault):
    """Agents leave for good and say so."""

    breaks: ClassVar[Breaks] = (*_OF_ONE_AGENT, Need.MASS)

    def strike_one(self, world: World, agent: int) -> None:
        """Take it away."""
        world.leave(agent)


@rule
class Join(AgentFault):
    """Agents that were not there before start at this time, and catch up with their neighbors' round."""

    breaks: ClassVar[Breaks] = (*_OF_ONE_AGENT, Need.MASS)

    def newcomers(self) -> Sequence[int]:
        """Return its agents."""
        return self.agents

    def strike_one(self, world: World, agent: int) -> None:
        """Start it."""
        world.join(agent)


RULES: dict[str, type[Fault]] = {
    "partition": Partition,
    "heal": Heal,
    "crash": Crash,
    "restart": Restart,
    "straggle": Straggle,
    "loss": Lossy,
    "leave": Leave,
    "join": Join,
}
