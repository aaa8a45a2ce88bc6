"""Fault timeline, rehearsed without agents to find faults that cannot happen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from p2pfrl.core.errors import ScenarioError
from p2pfrl.core.types import COORDINATOR, is_standby, name_of

if TYPE_CHECKING:
    from p2pfrl.simulator.faults.base import Fault


def rehearse(
    faults: Sequence[Fault],
    agents: int,
    coordinators: Sequence[int],
    hosted: Mapping[int, int] = MappingProxyType({}),
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield faults that cannot happen as (path of the key, reason).

    An example is a restart without a crash.

    Args:
        faults: the timeline.
        agents: number of agents n.
        coordinators: ids of the coordinators.
        hosted: standby -> the agent that it lives with.
    """
    for index, fault in enumerate(faults):
        for position, id in enumerate(getattr(fault, "agents", ())):
            if id in hosted:
                lives = (
                    f"{name_of(id)} lives with agent {hosted[id]}, and dies and comes back with it"
                )
                yield ("faults", index, "agents", position), f"{lives}: name agent {hosted[id]}"
    if set(range(agents)) <= {agent for fault in faults for agent in fault.newcomers()}:
        yield ("faults",), "all agents join later, so no agent is present at the start"
    for index, key, reason in _played(faults, agents, coordinators).problems:
        yield ("faults", index, key), reason


def departures(faults: Sequence[Fault], agents: int) -> list[int]:
    """Return the positions of faults that remove agents for good, in order."""
    taken = _played(faults, agents, ()).taken
    return sorted({index for agent, index in taken.items() if agent >= 0})


def _played(faults: Sequence[Fault], agents: int, coordinators: Sequence[int]) -> Rehearsal:
    """Return the rehearsal after all faults have happened, in order of time."""
    newcomers = [agent for fault in faults for agent in fault.newcomers()]
    stage = Rehearsal(agents, newcomers, coordinators)
    for index in sorted(range(len(faults)), key=lambda position: faults[position].at):
        stage.play(index, faults[index])
    return stage


def refuse_faults(faults: Sequence[Fault]) -> None:
    """Raise an error if there are faults.

    Raises:
        ScenarioError: the timeline has a fault.
    """
    if faults:
        raise ScenarioError(
            ["faults: only the simulator makes them happen: remove them, or --set faults=[]"]
        )


class Rehearsal:
    """A world of faults without agents that collects faults that cannot happen.

    Attributes:
        problems: (position of the fault, its key, reason) of every fault that cannot happen.
        taken: agent that is away -> position of the fault that removed it.

    Args:
        agents: number of agents n.
        newcomers: agents that join later.
        coordinators: ids of the coordinators; faults of coordinators that the mode lacks are
            ignored.
    """

    def __init__(self, agents: int, newcomers: Sequence[int], coordinators: Sequence[int]) -> None:
        self.problems: list[tuple[int, str, str]] = []
        self.taken: dict[int, int] = {}
        self._index = 0
        self._state = dict.fromkeys((*range(agents), *coordinators), "running") | dict.fromkeys(
            newcomers, "yet to join"
        )
        self._agents = agents
        self._coordinators = coordinators
        self._is_parted = False

    def play(self, index: int, fault: Fault) -> None:
        """Apply the fault at position `index` of the timeline."""
        self._index = index
        fault.strike(self)

    def partition(self, groups: Sequence[Sequence[int]]) -> None:
        """Check that groups are not empty, do not overlap, and cut at least one agent off."""
        self._is_parted = True
        seen: dict[int, int] = {}
        for number, group in enumerate(groups):
            for agent in group:
                self._exists("groups", agent)
                if agent in seen:
                    reason = f"agent {agent} is in group {seen[agent]} and in group {number}"
                    self._refuse("groups", reason)
                seen[agent] = number
        if not all(groups):
            self._refuse("groups", "a group is empty")
        elif len(groups) == 1 and len(seen) == self._agents:
            self._refuse("groups", "one group of all agents cuts no link")

    def heal(self) -> None:
        """Check that there is a partition to heal."""
        if not self._is_parted:
            self._refuse("kind", "nothing is partitioned at this time")
        self._is_parted = False

    def crash(self, agent: int) -> None:
        """Check that the agent or coordinator that crashes is running."""
        if agent >= 0 or self._coordinates(agent):
            self._turn(agent, "running", "crashed")

    def restart(self, agent: int) -> None:
        """Check that the agent or coordinator that restarts has crashed."""
        if agent >= 0 or self._coordinates(agent):
            self._turn(agent, "crashed", "running")

    def straggle(self, agent: int, factor: float) -> None:
        """Check that the agent exists."""
        self._exists("agents", agent)

    def turn(self, agent: int) -> None:
        """Check that the agent exists."""
        self._exists("agents", agent)

    def lose(self, probability: float) -> None:
        """Accept any probability."""

    def leave(self, agent: int) -> None:
        """Check that the agent that leaves is running."""
        self._turn(agent, "running", "gone")

    def opt_out(self, agent: int) -> None:
        """Check that the agent that opts out is running; it does not come back."""
        self._turn(agent, "running", "gone")

    def join(self, agent: int) -> None:
        """Check that the agent that joins has not joined before."""
        self._turn(agent, "yet to join", "running")

    def _refuse(self, key: str, reason: str) -> None:
        self.problems.append((self._index, key, reason))

    def _exists(self, key: str, agent: int) -> bool:
        known = 0 <= agent < self._agents
        if not known:
            self._refuse(key, f"there is no agent {agent}: agents are 0 to {self._agents - 1}")
        return known

    def _coordinates(self, id: int) -> bool:
        """Return whether this is a coordinator of the mode.

        An edge that the tree does not have is a problem.
        """
        edges = sum(not is_standby(id) for id in self._coordinators) - 1
        if edges > 0 and id not in self._coordinators:
            there = f"edges are {name_of(COORDINATOR - 1)} to {name_of(-1 - edges)}"
            self._refuse("agents", f"there is no {name_of(id)}: {there}")
        return id in self._coordinators

    def _turn(self, agent: int, before: str, after: str) -> None:
        if agent < 0 or self._exists("agents", agent):
            if self._state[agent] != before:
                who = f"agent {agent}" if agent >= 0 else f"{name_of(agent)}"
                reason = f"{who} is {self._state[agent]} at this time, it must be {before}"
                self._refuse("agents", reason)
            else:
                self._state[agent] = after
                if after == "running":
                    self.taken.pop(agent, None)
                else:
                    self.taken[agent] = self._index
