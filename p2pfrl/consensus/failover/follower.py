"""Followers: agents of a coordinator that has standbys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

from p2pfrl.consensus.failover.fenced import Fenced
from p2pfrl.consensus.schedules.base import Attendance, Available
from p2pfrl.core.types import (
    COORDINATOR,
    SKIP,
    UPDATE,
    VACANT,
    Action,
    Blend,
    Event,
    Message,
    Missing,
    PeerJoined,
    PeerLost,
    Received,
    Schedule,
    Send,
    Started,
    Train,
    Trained,
)


class Follower(Fenced):
    """The schedule of an agent that follows whoever is in office.

    It stores the highest epoch that it has seen and refuses models of lower ones. For the agent's
    own schedule there is one coordinator, which seems to be restarted where another one takes
    office: it sends its model again, and the agent answers again.

    While nobody is in office, the agent goes on training if it may, and averages its parameters
    with those of its neighbors that do the same, if it has any. Its next answer has all of it.

    Args:
        schedule: of an agent that trains for a coordinator.
        voters: ids of the coordinator and its standbys.
        neighbors: whom it averages with while nobody is in office, sorted.
        trains: whether it goes on training then.
        available: whether it is there.
    """

    STATE: ClassVar[tuple[str, ...]] = (
        "_fenced",
        "_epoch",
        "_holder",
        "_round",
        "_is_alone",
        "_busy",
        "_trains_alone",
        "_next",
        "_heard",
    )

    def __init__(
        self,
        schedule: Schedule,
        voters: Sequence[int],
        *,
        neighbors: Sequence[int] = (),
        trains: bool,
        available: Available,
    ) -> None:
        super().__init__(schedule)
        self._voters = frozenset(voters)
        self._neighbors = tuple(neighbors)
        self._trains = trains
        self._available = available
        self._epoch = 0
        self._holder = COORDINATOR
        self._round = 0
        self._is_alone = False
        self._busy = False
        self._trains_alone = False
        self._next: Message | None = None
        self._heard: dict[int, Message] = {}

    def waits_for(self) -> str:
        """Return in words what this agent is waiting for."""
        return self._schedule.waits_for()

    def awaits(self) -> Sequence[int]:
        """Return whoever is in office, where the agent's schedule waits for its coordinator."""
        return [self._holder if id == COORDINATOR else id for id in self._schedule.awaits()]

    def handle(self, event: Event, now: int) -> Iterator[Action]:
        """Yield the actions for `event`."""
        if isinstance(event, Received):
            yield from self._received(event, now)
        elif isinstance(event, Trained):
            yield from self._trained(event, now)
        elif isinstance(event, PeerLost):
            if event.peer == self._holder:
                yield from self._lose(now)
        elif isinstance(event, Missing):
            if event.peer in self._voters:
                yield from self._missing(event, now)
        elif isinstance(event, Started):
            self._busy = self._trains_alone = False
            self._next, self._heard = None, {}
            yield from self._pass(event, now)
        elif not isinstance(event, PeerJoined):  # who is in office says so by a model
            yield from self._pass(event, now)

    def _received(self, event: Received, now: int) -> Iterator[Action]:
        message = event.message
        if message.sender not in self._voters:
            if self._is_alone and self._neighbors:
                self._heard[message.sender] = message
            return
        if message.epoch < self._epoch:
            self._fenced += not event.again
            return
        self._epoch, self._holder = message.epoch, message.sender
        if message.kind == VACANT:
            yield from self._lose(now)
            return
        if self._is_alone:
            self._is_alone, self._heard = False, {}
            yield from self._pass(PeerJoined(COORDINATOR), now)
        # The numbers of a message are those of a term of office: for the agent's schedule a new
        # term is a new incarnation of the one coordinator that it knows.
        message = replace(message, incarnation=message.epoch, sender=COORDINATOR)
        if self._trains_alone:
            self._next = message
        else:
            yield from self._pass(Received(message, event.again), now)

    def _missing(self, event: Missing, now: int) -> Iterator[Action]:
        """Answer a message of a voter that was lost.

        The first message of a term that the agent does not know is answered with a skip: what it
        has for that round is of an earlier term, and would be refused.
        """
        own = Missing(COORDINATOR, event.round)
        if event.epoch > self._epoch:
            yield Send((event.peer,), event.round, SKIP, epoch=self._epoch)
            for action in self._schedule.handle(own, now):
                if not isinstance(action, Send):
                    yield action
        elif event.peer == self._holder:
            yield from self._pass(own, now)

    def _trained(self, event: Trained, now: int) -> Iterator[Action]:
        if not self._trains_alone:
            self._busy = False
            yield from self._pass(event, now)
            return
        self._trains_alone = False
        following, self._next = self._next, None
        if following is not None:
            yield from self._pass(Received(following), now)
        elif self._is_alone:
            yield from self._mix()
            yield from self._train_alone(now)

    def _lose(self, now: int) -> Iterator[Action]:
        """Nobody is in office as far as the agent knows."""
        if not self._is_alone:
            self._is_alone = True
            yield from self._pass(PeerLost(COORDINATOR), now)
            yield from self._train_alone(now)

    def _train_alone(self, now: int) -> Iterator[Action]:
        """Train on, if the agent's own schedule does not and the agent is there."""
        is_there = not isinstance(self._available, Attendance) or self._available(0, now)
        if self._trains and is_there and not (self._busy or self._trains_alone):
            self._trains_alone = True
            yield Train()

    def _mix(self) -> Iterator[Action]:
        """Average with the neighbors that were heard, and send them the own parameters."""
        if not self._neighbors:
            return
        if self._heard:
            heard, self._heard = self._heard, {}
            yield Blend(self._round, [heard[j] for j in sorted(heard)])
        yield Send(self._neighbors, self._round, UPDATE, epoch=self._epoch)

    def _pass(self, event: Event, now: int) -> Iterator[Action]:
        """Let the agent's schedule handle an event."""
        is_new = isinstance(event, Trained)
        for action in self._schedule.handle(event, now):
            if isinstance(action, Train):
                self._busy = True
                yield action
            elif isinstance(action, Send):
                self._round = action.round
                if not (self._is_alone and action.kind == UPDATE):
                    yield replace(action, to=(self._holder,), epoch=self._epoch)
            else:
                yield action
        if is_new and self._is_alone:
            yield from self._train_alone(now)
