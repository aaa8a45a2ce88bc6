"""The contract of schedules: a rule with the options of a round protocol, and the state machines it makes.

A state machine handles events and returns actions (core/types.py). It does no I/O, reads no clock
and draws nothing, so it runs unchanged in the simulator and on a LAN, and a test can feed it any
order of events.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from p2pfrl.core.needs import Composable
from p2pfrl.core.types import COORDINATOR, Schedule

Available = Callable[[int, int], bool]
"""(round, time in nanoseconds) -> whether the agent takes part in this round."""


class Neighborhood(Protocol):
    """The neighbors of one agent, round by round, in ascending order."""

    def successors(self, round: int) -> Sequence[int]:
        """Return whom it sends to."""

    def predecessors(self, round: int) -> Sequence[int]:
        """Return whom it hears."""


@dataclass(frozen=True, slots=True)
class Alone:
    """The neighborhood of an agent without neighbors: mode `independent`."""

    def successors(self, round: int) -> Sequence[int]:
        """Return nobody."""
        return ()

    def predecessors(self, round: int) -> Sequence[int]:
        """Return nobody."""
        return ()


def always(round: int, now: int) -> bool:
    """Return True: an agent that never sits a round out."""
    return True


@dataclass(frozen=True, slots=True)
class Participants:
    """The participants in a round of a coordinator.

    Attributes:
        agents: number of agents n.
        choose: (round, present agents) -> those that are asked to train, ascending.
        ids: of the agents, ascending; 0 to n-1 where it is empty.
    """

    agents: int
    choose: Callable[[int, Sequence[int]], Sequence[int]]
    ids: tuple[int, ...] = ()

    @property
    def everyone(self) -> Sequence[int]:
        """The ids of all."""
        return self.ids or range(self.agents)


class ScheduleRule(Composable, ABC):
    """Options of a round protocol; makes the state machines of every role.

    Attributes:
        is_asynchronous: whether agents go on without waiting for each other.
        every: local updates per exchange.
        max_staleness: rounds after which a payload is too old to be used; None: never.
    """

    is_asynchronous: ClassVar[bool]
    every: int
    max_staleness: int | None

    @property
    @abstractmethod
    def link_timeout(self) -> float:
        """Seconds until a dead link is noticed, where `network.peer_timeout` does not say."""

    def models(self, rounds: int, agents: int) -> int:
        """Return how many models a coordinator makes in `stop.rounds`: each of n updates where asynchronous."""
        return rounds * agents if self.is_asynchronous else rounds

    @abstractmethod
    def gossip(
        self,
        me: int,
        neighborhood: Neighborhood,
        *,
        rounds: int | None,
        order: Literal["adapt_then_combine", "combine_while_adapting"],
        available: Available,
        first: int = 0,
    ) -> Schedule:
        """Return the state machine of an agent that mixes with its neighbors; `first` is where a restart goes on."""

    def pairs(
        self,
        me: int,
        neighborhood: Neighborhood,
        *,
        rounds: int | None,
        patience: int,
        pick: Callable[[int, Sequence[int]], int],
        available: Available,
        first: int = 0,
    ) -> Schedule:
        """Return the state machine of an agent that exchanges with one neighbor at a time, if there is one.

        It asks whom `pick` makes of (round, neighbors that are there), again after `patience`
        nanoseconds.
        """
        raise NotImplementedError(f"{type(self).__name__} knows no exchange in pairs")

    @abstractmethod
    def client(
        self, *, rounds: int | None, available: Available, coordinator: int = COORDINATOR
    ) -> Schedule:
        """Return the state machine of an agent that trains for a coordinator."""

    @abstractmethod
    def coordinator(self, participants: Participants, *, rounds: int | None) -> Schedule:
        """Return the coordinator's state machine."""

    def edge(self, participants: Participants, *, rounds: int | None, period: int) -> Schedule:
        """Return the state machine of a coordinator that is itself a client, once in `period` rounds."""
        raise NotImplementedError(f"{type(self).__name__} knows no tree")

    def cloud(self, participants: Participants, *, rounds: int | None, period: int) -> Schedule:
        """Return the state machine of the coordinator of such coordinators."""
        raise NotImplementedError(f"{type(self).__name__} knows no tree")
