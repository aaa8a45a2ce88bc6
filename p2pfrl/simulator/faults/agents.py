"""Faults of agents and coordinators: they crash, come, go, and slow down."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.json_schema import JsonSchemaValue
from typing_extensions import override

from p2pfrl.core.needs import Breaks, Need
from p2pfrl.core.options import Slot, problem, refuse
from p2pfrl.core.rule import rule
from p2pfrl.core.types import COORDINATOR_NAME, EDGE_NAME, id_of, name_of
from p2pfrl.core.wording import show
from p2pfrl.simulator.faults.base import Fault, World

_OF_MEMBERS: Breaks = (Need.EVERY_MESSAGE, Need.BOTH_ENDS, Need.MEMORY, Need.MASS)
"""What is broken where an agent comes or goes for good."""


_NAMED = f"coordinators have names: '{COORDINATOR_NAME}', '{EDGE_NAME}0', '{EDGE_NAME}1', ..."


class NodeSlot(Slot):
    """Annotation of a field that holds an agent's number, or a coordinator by its name."""

    def __init__(self) -> None:
        super().__init__(int)

    @override
    def read(self, value: object) -> int:
        """Return the id."""
        if isinstance(value, int) and not isinstance(value, bool):
            if value >= 0:
                return value
            raise refuse(problem(f"there is no agent {value}; {_NAMED}", value=value))
        expected = f"an agent's number, '{COORDINATOR_NAME}' or an edge such as '{EDGE_NAME}0'"
        try:
            return id_of(value) if isinstance(value, str) else id_of("")
        except ValueError:
            message = f"expected {expected}, got {show(value)}"
            raise refuse(problem(message, value=value)) from None

    @override
    def dump(self, value: object) -> object:
        """Return the number or the name."""
        return name_of(value) if isinstance(value, int) else value

    @override
    def json_schema(self) -> JsonSchemaValue:
        """Return a number or a name."""
        names = {"type": "string", "pattern": f"^({COORDINATOR_NAME}|{EDGE_NAME}[0-9]+)$"}
        return {"anyOf": [{"type": "integer", "minimum": 0}, names]}


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
class NodeFault(AgentFault, ABC):
    """A fault of certain agents or coordinators.

    Attributes:
        agents: whose: numbers of agents, "coordinator", and in mode hierarchical "edge0", "edge1",
            ...; a mode without this coordinator leaves it out.
    """

    is_of_presence: ClassVar[bool] = True
    agents: tuple[Annotated[int, NodeSlot()], ...] = Field(min_length=1)

    @override
    def absent(self, coordinators: Collection[int]) -> Sequence[int]:
        """Return them."""
        return [id for id in self.agents if id < 0 and id not in coordinators]

    @override
    def concerns(self, coordinators: Collection[int]) -> bool:
        """Return whether it names anybody who is there in this mode."""
        return len(self.absent(coordinators)) < len(self.agents)

    @property
    @override
    def breaks(self) -> Breaks:
        """Links of which both ends must skip at once. The timeline decides the rest: a restart may follow.

        Of coordinators nothing is broken: what they missed is sent again.
        """
        return (Need.BOTH_ENDS,) if any(agent >= 0 for agent in self.agents) else ()


@rule
class Crash(NodeFault):
    """Kill agents or coordinators: an update under way and everything in their mailbox is lost."""

    def strike_one(self, world: World, agent: int) -> None:
        """Kill it."""
        world.crash(agent)


@rule
class Restart(NodeFault):
    """Start crashed agents from their last checkpoint (`checkpoint.every`; by default the end of every round).

    In modes with a coordinator an agent saves itself before it sends, so that it need not train
    again, and the coordinator gets the same update again if it waits for it.
    A coordinator goes on from the model that it had sent last, which it saves before it sends it,
    whatever `checkpoint.every` is. It sends that model again, and agents send their updates again.
    """

    @override
    def returning(self) -> Sequence[int]:
        """Return its agents and coordinators."""
        return self.agents

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
class Leave(AgentFault):
    """Agents leave for good and say so."""

    is_of_presence: ClassVar[bool] = True
    breaks: ClassVar[Breaks] = _OF_MEMBERS

    def strike_one(self, world: World, agent: int) -> None:
        """Take it away."""
        world.leave(agent)


@rule
class Join(AgentFault):
    """Agents that were not there before start at this time, and catch up with their neighbors' round."""

    is_of_presence: ClassVar[bool] = True
    breaks: ClassVar[Breaks] = _OF_MEMBERS

    def newcomers(self) -> Sequence[int]:
        """Return its agents."""
        return self.agents

    def strike_one(self, world: World, agent: int) -> None:
        """Start it."""
        world.join(agent)
