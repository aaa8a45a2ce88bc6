"""Contract of schedules: a rule with the options of a round protocol, and its state machines.

A state machine handles events and returns actions (core/types.py). It does no I/O, reads no clock
and draws no random numbers, so it runs unchanged in the simulator and on a LAN, and a test can send
it events in any order.
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


@dataclass(frozen=True, slots=True)
class Attendance:
    """An `Available` by the time of day: an agent that is there at some times and away at others.

    While nobody is there, no round passes: whoever is away waits until somebody is.

    Attributes:
        is_there: time -> whether the agent is there.
        returns: time -> the first time from then on at which the agent is there; None for never.
        opens: the same of the first agent of the run that is there.
    """

    is_there: Callable[[int], bool]
    returns: Callable[[int], int | None]
    opens: Callable[[int], int | None]

    def __call__(self, round: int, now: int) -> bool:
        """Return whether the agent takes part."""
        return self.is_there(now)


def resting(available: Available, now: int, *, has_company: bool = True) -> int | None:
    """Return until when an agent that is away rests; `now` for not at all, None for ever.

    It rests while nobody is there. Without company, which means that it hears nobody, it rests
    until it is there itself.
    """
    if not isinstance(available, Attendance):
        return now
    return available.opens(now) if has_company else available.returns(now)


class Neighborhood(Protocol):
    """Neighbors of one agent in every round, sorted."""

    def successors(self, round: int) -> Sequence[int]:
        """Return the agents that it sends to."""

    def predecessors(self, round: int) -> Sequence[int]:
        """Return the agents that it receives from."""


@dataclass(frozen=True, slots=True)
class Alone:
    """Neighborhood of an agent without neighbors, in mode `independent`."""

    def successors(self, round: int) -> Sequence[int]:
        """Return no agents."""
        return ()

    def predecessors(self, round: int) -> Sequence[int]:
        """Return no agents."""
        return ()


def always(round: int, now: int) -> bool:
    """Return True: the agent never sits out a round."""
    return True


@dataclass(frozen=True, slots=True)
class Participants:
    """Agents of a coordinator, and the choice of those that take part in a round.

    Attributes:
        agents: number of agents n.
        choose: (round, present agents) -> those that are asked to train, sorted.
        ids: ids of the agents, sorted; empty for 0 to n-1.
    """

    agents: int
    choose: Callable[[int, Sequence[int]], Sequence[int]]
    ids: tuple[int, ...] = ()

    @property
    def everyone(self) -> Sequence[int]:
        """Ids of all agents."""
        return self.ids or range(self.agents)


class ScheduleRule(Composable, ABC):
    """Options of a round protocol. It makes the state machines of all roles.

    Attributes:
        is_asynchronous: whether agents proceed without waiting for each other.
        every: local updates per exchange.
        max_staleness: maximum staleness, in rounds, of a payload that is used; None for no maximum.
    """

    is_asynchronous: ClassVar[bool]
    every: int
    max_staleness: int | None

    @property
    @abstractmethod
    def link_timeout(self) -> float:
        """Seconds until a link counts as dead, unless `network.peer_timeout` sets them."""

    @property
    def patience(self) -> float:
        """Seconds to wait for a participant that is needed to continue; 0 if there is none."""
        return 0.0

    @property
    def together(self) -> int | None:
        """How many updates a coordinator aggregates at once; None for those of all participants."""
        return 1 if self.is_asynchronous else None

    def models(self, rounds: int, agents: int) -> int:
        """Return how many models a coordinator makes in `stop.rounds`.

        An asynchronous coordinator makes one model per n updates.
        """
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
        """Return the state machine of an agent that mixes with its neighbors.

        After a restart it begins in round `first`.
        """

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
        """Return the state machine of an agent that exchanges with one neighbor at a time.

        `pick` chooses the neighbor from (round, present neighbors). The agent repeats its question
        after `patience` nanoseconds.
        """
        raise NotImplementedError(f"{type(self).__name__} supports no pairwise exchange")

    @abstractmethod
    def client(
        self, *, rounds: int | None, available: Available, coordinator: int = COORDINATOR
    ) -> Schedule:
        """Return the state machine of an agent that trains for a coordinator."""

    @abstractmethod
    def coordinator(self, participants: Participants, *, rounds: int | None) -> Schedule:
        """Return the coordinator's state machine."""

    def edge(
        self,
        participants: Participants,
        *,
        rounds: int | None,
        period: int,
        above: int,
    ) -> Schedule:
        """Return the state machine of an edge, a coordinator that is a client of the one `above`.

        It exchanges with the one above, the cloud or another edge, once in `period` rounds. If its
        participants are edges, it waits for all of them without a deadline.
        """
        raise NotImplementedError(f"{type(self).__name__} supports no tree")

    def cloud(self, participants: Participants, *, rounds: int | None, period: int) -> Schedule:
        """Return the state machine of the cloud, the coordinator of edges."""
        raise NotImplementedError(f"{type(self).__name__} supports no tree")
