"""Meetings: members of a shared world start their updates together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from p2pfrl.core.state import Stateful


def whole_worlds(agents: Iterable[int], members: int) -> list[int]:
    """Return all agents that share a world with one of `agents`, those included, ascending.

    >>> whole_worlds([1, 5], 2)
    [0, 1, 4, 5]
    """
    firsts = sorted({agent - agent % members for agent in agents})
    return [first + member for first in firsts for member in range(members)]


def worlds_of(agents: Sequence[int], members: int) -> list[int]:
    """Return the worlds of agents, of which all members must be there, in order."""
    worlds = [int(agent) // members for agent in agents[::members]]
    expected = [world * members + member for world in worlds for member in range(members)]
    assert list(agents) == expected, f"worlds of {members} step whole, got agents {list(agents)}"
    return worlds


class Meetings(Stateful):
    """Says which members of a shared world start an update now.

    World w belongs to agents w k to w k + k - 1. It is in one update at a time, which starts when
    all members that are present have asked for it. Those that are not present, because they
    crashed,
    left or finished, take no part: they act as they last learned to, and learn nothing.

    A member that comes back does not wait for the others in its first `grace` updates, because the
    others may be waiting for the messages that it will send after them. The others do not wait for
    it in them either. If they have asked when it asks, they start together.

    A state machine without I/O: the simulator and the processes of a LAN drive it.

    Args:
        members: agents k of a world.
        grace: local updates between two exchanges.
    """

    STATE: ClassVar[tuple[str, ...]] = ("_present", "_asked", "_training")

    def __init__(self, members: int, grace: int) -> None:
        self._members = members
        self._grace = grace
        self._present: dict[int, int] = {}  # agent -> updates before which it does not wait
        self._asked: dict[int, bool] = {}
        self._training: dict[int, bool] = {}

    def world(self, agent: int) -> int:
        """Return the world of an agent."""
        return agent // self._members

    def come(self, agent: int, *, is_back: bool) -> None:
        """An agent is there, at first or again."""
        self._present[agent] = self._grace if is_back else 0

    def leave(self, agent: int) -> None:
        """An agent is gone; an update that it has asked for or started does not end for it."""
        for known in (self._present, self._asked, self._training):
            known.pop(agent, None)

    def ask(self, agent: int) -> None:
        """An agent wants to start an update."""
        self._asked[agent] = True

    def end(self, agent: int) -> None:
        """The update of an agent has ended."""
        self._training.pop(agent, None)

    def start(self, world: int) -> Sequence[int]:
        """Return the members of a world that start an update now, ascending; empty: nobody."""
        members = range(world * self._members, (world + 1) * self._members)
        if any(agent in self._training for agent in members):
            return ()
        asked = [agent for agent in members if agent in self._asked]
        awaited = [agent for agent in members if self._present.get(agent) == 0]
        if any(agent not in self._asked for agent in awaited):
            asked = [agent for agent in asked if self._present[agent]]
        for agent in asked:
            del self._asked[agent]
            self._training[agent] = True
            self._present[agent] = max(0, self._present[agent] - 1)
        return asked

    def waits(self, agent: int) -> tuple[int, ...]:
        """Return the members that an agent which has asked is waiting for."""
        if agent not in self._asked:
            return ()
        world = self.world(agent)
        members = range(world * self._members, (world + 1) * self._members)
        return tuple(i for i in members if self._present.get(i) == 0 and i not in self._asked)
