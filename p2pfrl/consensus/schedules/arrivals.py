"""Asynchronous coordinator: it answers every update with the current model, without rounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from typing_extensions import override

from p2pfrl.consensus.schedules.base import Available, Participants, ScheduleRule
from p2pfrl.consensus.schedules.central import Client, lacking_last
from p2pfrl.consensus.staleness import Polynomial, Staleness
from p2pfrl.core.needs import Breaks, Need
from p2pfrl.core.state import Stateful
from p2pfrl.core.types import (
    ASKS,
    COORDINATOR,
    FINAL,
    MODEL,
    SKIP,
    Action,
    Event,
    Expired,
    Finish,
    Message,
    Missing,
    Mix,
    PeerJoined,
    PeerLost,
    Received,
    Send,
    Started,
    WaitUntil,
)
from p2pfrl.core.units import SECOND

_PATIENCE = 300 * 10**9
"""Nanoseconds after which an agent without a coordinator, or a coordinator without agents, ends."""

_OLD = 10**9
"""A staleness at which every factor that fades is below 1."""


class NoDeadline(ScheduleRule):
    """Base of round protocols without waiting."""

    is_asynchronous: ClassVar[bool] = True
    staleness: Staleness

    @property
    @override
    def breaks(self) -> Breaks:
        """Needs of rounds, and of payloads that count in full at any staleness."""
        limits = (Need.WHOLE_EXCHANGES.of("max_staleness"),)
        factors = (Need.WHOLE_EXCHANGES.of("staleness"),)
        fading = (Need.FULL_WEIGHT.of("staleness"),)
        return (
            Need.ROUNDS,
            Need.BARRIER,
            Need.EVERY_MESSAGE,
            Need.EVERY_ANSWER,
            Need.BOTH_ENDS,
            *(limits if self.max_staleness is not None else ()),
            *(factors if self.staleness != Polynomial() else ()),
            *(fading if self.staleness.factor(_OLD) != 1.0 else ()),
        )

    @property
    def link_timeout(self) -> float:
        """One second, because no agent waits for a dead peer."""
        return 1.0

    @property
    @override
    def patience(self) -> float:
        """300 s, for the coordinator."""
        return _PATIENCE / SECOND

    @override
    def client(
        self, *, rounds: int | None, available: Available, coordinator: int = COORDINATOR
    ) -> Client:
        return Client(
            every=self.every,
            rounds=rounds,
            patience=_PATIENCE,
            available=available,
            retag=False,
            coordinator=coordinator,
        )


class AsynchronousCoordinator(Stateful):
    """Makes a new model from every `size` updates that arrive, each weighted by its staleness.

    The staleness of an update is the number of models made since the one it started from. The
    coordinator applies `rounds` times n updates, the last few even if they are fewer than `size`,
    and then sends the final model to all agents. After a restart it sends its saved model to all
    agents that it knows. An agent that has sent an update gets the current model at once. Updates
    that arrive at the same time are handled together, so their order does not matter if together
    they make a new model. If all agents have been gone for 300 seconds (virtual ones in a
    simulation), the coordinator applies the updates it has and ends. So it does if `ASKS` updates
    per agent in a row are lost, or cannot be used, as those with numbers that are not finite. After
    its end it still sends the last model again to an agent that did not get it.

    Args:
        participants: the agents that are asked at the start.
        rounds: see above; None for no end.
        size: updates per model.
        max_staleness: maximum staleness of an update that is used.
        staleness: the factor of an update.
    """

    STATE: ClassVar[tuple[str, ...]] = (
        "messages_late",
        "deadlines_expired",
        "version",
        "_asked",
        "_updates_left",
        "_newest",
        "_buffer",
        "_waiting",
        "_absent",
        "_deadline",
        "_is_over",
        "_missing",
    )

    def __init__(
        self,
        participants: Participants,
        *,
        rounds: int | None,
        max_staleness: int | None,
        staleness: Staleness,
        size: int = 1,
    ) -> None:
        self.messages_late = 0
        self.deadlines_expired = 0
        self.version = 0
        self._asked: tuple[int, ...] = ()
        self._participants = participants
        self._updates_left = None if rounds is None else rounds * participants.agents
        self._size = size
        self._max_staleness = max_staleness
        self._staleness = staleness
        self._newest: dict[int, tuple[int, int]] = {}
        self._buffer: list[Message] = []
        self._waiting: dict[int, None] = {}
        self._absent: dict[int, None] = {}
        self._deadline: int | None = None
        self._is_over = False
        self._missing = 0

    def handle(self, event: Event, now: int) -> Sequence[Action]:
        """Return the actions for `event`."""
        if self._is_over and not isinstance(event, Started):
            return [Send(to, self.version, FINAL) for to in lacking_last(event, self.version)]
        if isinstance(event, Received):
            return self._received(event.message, now)
        if isinstance(event, Expired):
            return self._expired(event.deadline)
        if isinstance(event, Started):
            return self._start()
        if isinstance(event, PeerLost):
            return self._lost(event.peer, now)
        if isinstance(event, PeerJoined):
            return (*self._found(event.peer), Send((event.peer,), self.version, MODEL))
        if isinstance(event, Missing):
            self._missing += 1
            if self._missing > ASKS * self._participants.agents:
                return self._end("unreachable")
            return (Send((event.peer,), self.version, MODEL),)
        return ()

    def waits_for(self) -> str:
        """Return what the coordinator is waiting for, as text."""
        return f"the coordinator waits at version {self.version} for any update"

    def awaits(self) -> Sequence[int]:
        """Return nobody: the update of any agent will do."""
        return ()

    def rounds_ended(self) -> int:
        """Return the updates in its models per agent."""
        return self.version * self._size // self._participants.agents

    def _start(self) -> Sequence[Action]:
        """Send the first model, or the saved one after a restart."""
        if not self._asked:
            self._asked = tuple(self._participants.choose(0, self._participants.everyone))
        if self._updates_left == 0 or self._is_over:
            return self._end()
        self._absent, self._waiting, self._deadline = {}, {}, None
        return (Send(sorted({*self._asked, *self._newest}), self.version, MODEL),)

    def _received(self, message: Message, now: int) -> Sequence[Action]:
        version = (message.incarnation, message.sequence)
        if version <= self._newest.get(message.sender, (-1, -1)):
            return ()
        self._newest[message.sender] = version
        if message.kind == SKIP:
            return (Send((message.sender,), self.version, MODEL),)
        if self._max_staleness is not None and self.version - message.round > self._max_staleness:
            self.messages_late += 1
            return (Send((message.sender,), self.version, MODEL),)
        self._buffer.append(message)
        self._missing = 0
        self._waiting[message.sender] = None
        if self._updates_left is not None:
            self._updates_left -= 1
        if self._updates_left == 0:
            return self._end()
        if len(self._buffer) == self._size:
            return (self._mix(), *self._answer())
        return (WaitUntil(now),)

    def _lost(self, peer: int, now: int) -> Sequence[Action]:
        self._absent[peer] = None
        if self._deadline is not None or len(self._absent) < self._participants.agents:
            return ()
        self._deadline = now + _PATIENCE
        return (WaitUntil(self._deadline),)

    def _found(self, peer: int) -> Sequence[Action]:
        self._absent.pop(peer, None)
        if self._deadline is None:
            return ()
        self._deadline = None
        return (WaitUntil(None), *self._answer())

    def _expired(self, deadline: int) -> Sequence[Action]:
        if deadline == self._deadline:
            self.deadlines_expired += 1
            return self._end()
        return (
            (*self._answer(), WaitUntil(self._deadline))
            if self._deadline is not None
            else self._answer()
        )

    def _end(self, why: str = "") -> Sequence[Action]:
        self._is_over = True
        last = (self._mix(),) if self._buffer else ()
        return (*last, Send(self._participants.everyone, self.version, FINAL), Finish(why))

    def _answer(self) -> Sequence[Action]:
        waiting, self._waiting = sorted(self._waiting), {}
        return (Send(waiting, self.version, MODEL),) if waiting else ()

    def _mix(self) -> Mix:
        """Return the action that makes the next model."""
        received = sorted(self._buffer, key=lambda m: (m.sender, m.incarnation, m.sequence))
        staleness = [max(0, self.version - m.round) for m in received]
        self._buffer = []
        self.version += 1
        return Mix(
            self.version - 1,
            received,
            staleness,
            [self._staleness.factor(tau) for tau in staleness],
        )
