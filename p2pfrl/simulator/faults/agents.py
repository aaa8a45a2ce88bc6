"""Faults of agents and coordinators: they crash, come, go, and slow down."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.json_schema import JsonSchemaValue
from typing_extensions import override

from p2pfrl.core.needs import Breaks, Need
from p2pfrl.core.options import Rule, Slot
from p2pfrl.core.problems import problem, refuse
from p2pfrl.core.rule import rule
from p2pfrl.core.types import (
    COORDINATOR_NAME,
    EDGE_NAME,
    MOST_STANDBYS,
    STANDBY_NAME,
    id_of,
    name_of,
)
from p2pfrl.core.wording import show
from p2pfrl.exchange.attacks import RULES as ATTACKS
from p2pfrl.exchange.attacks.base import Attack
from p2pfrl.simulator.faults.base import Fault, World

_OF_MEMBERS: Breaks = (Need.EVERY_MESSAGE, Need.BOTH_ENDS, Need.MEMORY, Need.MASS)
"""What is broken where an agent comes or goes for good."""


_NAMED = f"coordinators have names: '{COORDINATOR_NAME}', '{EDGE_NAME}0', '{EDGE_NAME}1', ..., '{STANDBY_NAME}0', ..."


class NodeSlot(Slot):
    """Annotation of a field that holds the number of an agent or the name of a coordinator."""

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
        standbys = f"{STANDBY_NAME}[0-{MOST_STANDBYS - 1}]"
        pattern = f"^({COORDINATOR_NAME}|{EDGE_NAME}[0-9]+|{standbys})$"
        names = {"type": "string", "pattern": pattern}
        return {"anyOf": [{"type": "integer", "minimum": 0}, names]}


@rule
class AgentFault(Fault, ABC):
    """A fault that happens to certain agents.

    Attributes:
        agents: numbers of the agents.
    """

    agents: tuple[int, ...] = Field(min_length=1)

    def strike(self, world: World) -> None:
        """Apply the fault to each agent in turn."""
        for agent in self.agents:
            self.strike_one(world, agent)

    @abstractmethod
    def strike_one(self, world: World, agent: int) -> None:
        """Apply the fault to one agent."""


@rule
class NodeFault(AgentFault, ABC):
    """A fault that happens to certain agents or coordinators.

    Attributes:
        agents: numbers of agents, "coordinator", in mode hierarchical "edge0", "edge1", ..., and of
            a coordinator with standbys "standby0", ...; a coordinator that the mode does not have
            is left out. With an agent, the standby that lives with it is meant, too.
    """

    is_of_presence: ClassVar[bool] = True
    agents: tuple[Annotated[int, NodeSlot()], ...] = Field(min_length=1)

    @override
    def absent(self, coordinators: Collection[int]) -> Sequence[int]:
        """Return the named coordinators that are not among those of the mode."""
        return [id for id in self.agents if id < 0 and id not in coordinators]

    @override
    def concerns(self, coordinators: Collection[int]) -> bool:
        """Return whether the fault names an agent or coordinator that this mode has."""
        return len(self.absent(coordinators)) < len(self.agents)

    @property
    @override
    def breaks(self) -> Breaks:
        """Return the links of which both ends must skip the round at once.

        The timeline decides the rest: a restart may follow. No link of a coordinator is in the
        result: what a coordinator missed is sent again.
        """
        return (Need.BOTH_ENDS,) if any(agent >= 0 for agent in self.agents) else ()


@rule
class Crash(NodeFault):
    """Kill agents or coordinators: an update under way and everything in their mailbox is lost.

    Nothing happens to one that has done all its rounds: it still gives its last model to whoever
    did not get it.
    """

    def strike_one(self, world: World, agent: int) -> None:
        """Kill the agent or coordinator."""
        world.crash(agent)


@rule
class Restart(NodeFault):
    """Start crashed agents from their last checkpoint, coordinators from their last model.

    Agents save a checkpoint as `checkpoint.every` says, by default at the end of every round. In
    modes with a coordinator an agent saves itself before it sends, so it need not train again, and
    a coordinator that waits for its update gets the same update again. A coordinator saves a model
    before it sends it, whatever `checkpoint.every` is. After a restart it sends the last model
    again, and agents send their updates again.
    """

    @override
    def returning(self) -> Sequence[int]:
        """Return the agents and coordinators that it starts."""
        return self.agents

    def strike_one(self, world: World, agent: int) -> None:
        """Start the agent or coordinator."""
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
        """Slow the agent down."""
        world.straggle(agent, self.factor)


@rule
class Leave(AgentFault):
    """Agents leave for good and say so."""

    is_of_presence: ClassVar[bool] = True
    breaks: ClassVar[Breaks] = _OF_MEMBERS

    def strike_one(self, world: World, agent: int) -> None:
        """Remove the agent."""
        world.leave(agent)


@rule
class OptOut(AgentFault):
    """Agents leave for good, of their own will, at the end of the round that they are in.

    They say so to their neighbors, who mix what they sent in that round and wait for nothing more.
    What was learned from them stays in the others' models. A privacy budget stays spent. An agent
    of coordinators leaves when it gets the next model. Between processes it is `p2pfrl leave`.
    """

    is_of_presence: ClassVar[bool] = True
    breaks: ClassVar[Breaks] = _OF_MEMBERS

    def strike_one(self, world: World, agent: int) -> None:
        """Let the agent leave at the end of its round."""
        world.opt_out(agent)


@rule
class Join(AgentFault):
    """New agents start at this time, and catch up with their neighbors' round."""

    is_of_presence: ClassVar[bool] = True
    breaks: ClassVar[Breaks] = _OF_MEMBERS

    def newcomers(self) -> Sequence[int]:
        """Return the new agents."""
        return self.agents

    def strike_one(self, world: World, agent: int) -> None:
        """Start the agent."""
        world.join(agent)


@rule
class TurnByzantine(AgentFault):
    """Agents become Byzantine at this time: they make an attack, until it ends.

    Attributes:
        attack: a rule of `p2pfrl list attacks`, without agents and without a beginning.
    """

    breaks: ClassVar[Breaks] = ()  # its attack says what it breaks
    attack: Annotated[Attack, Rule("kinds of attack", lambda: ATTACKS)]

    @property
    @override
    def attacks(self) -> Attack:
        """The attack, with its agents and its beginning."""
        return replace(self.attack, agents=self.agents, count=None, from_=float(self.at))

    def strike_one(self, world: World, agent: int) -> None:
        """Let the agent become Byzantine."""
        world.turn(agent)
