"""Synchronous rounds with a coordinator whose exchange has phases, as secure sums need them.

In each phase the agents of the phase before send one kind of message, and the coordinator, when all
have answered or at the deadline, tells those who did what follows from it. An agent that misses a
phase is out of the round. One phase is the update itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import ClassVar, Protocol

from typing_extensions import override

from p2pfrl.consensus.schedules.base import Available, Participants
from p2pfrl.consensus.schedules.central import Client, Coordinator
from p2pfrl.core.types import (
    FINAL,
    KEYS,
    MODEL,
    SKIP,
    UPDATE,
    Action,
    Gather,
    Message,
    Mix,
    Received,
    Respond,
    Send,
    Train,
    WaitUntil,
)
from p2pfrl.core.units import SECOND


class Options(Protocol):
    """The options of synchronous rounds that matter here (see `Synchronous`)."""

    @property
    def every(self) -> int:
        """Local updates per exchange."""

    @property
    def deadline(self) -> float:
        """Seconds to wait for the others of a phase, from its first answer."""

    @property
    def patience(self) -> float:
        """Seconds that agents wait for their coordinator."""

    @property
    def suspect_after(self) -> int:
        """Misses in a row after which an agent is suspected."""

    @property
    def quorum(self) -> float:
        """The share of the agents that answered every phase whose updates are enough."""


@dataclass(frozen=True, slots=True)
class Phases:
    """The phases of an exchange with a coordinator.

    Attributes:
        kinds: of the agents' messages, in order; one of them is the update.
        fewest: agents of the first phase -> how many of them must go on through all others.
    """

    kinds: tuple[str, ...]
    fewest: Callable[[int], int]


class PhasedClient(Client):
    """An agent that answers each phase, also while it trains.

    It begins a round as soon as it hears of it, so the phases before the update take no time of
    their own unless training is faster than they are. An agent that trains for an earlier round
    begins the newer one, too, and its update counts there.
    """

    STATE: ClassVar[tuple[str, ...]] = (*Client.STATE, "_begun")

    def __init__(self, options: Options, *, rounds: int | None, available: Available) -> None:
        super().__init__(
            every=options.every,
            rounds=rounds,
            patience=round(options.patience * SECOND),
            available=available,
        )
        self._begun = -1

    @override
    def _received(self, event: Received, now: int) -> Sequence[Action]:
        message = event.message
        if message.kind not in (MODEL, FINAL):
            return (Respond(message),)
        is_newer = (message.incarnation, message.sequence) > self._newest
        if is_newer and message.kind == MODEL and message.round == self._round == self._begun:
            # Asked again: no round is answered twice, but its keys may be sent again.
            self._newest = message.incarnation, message.sequence
            return (Send(self._to, self._round, KEYS),)
        actions = super()._received(event, now)
        if message.kind == MODEL and self._next is message:  # it trains for an earlier round
            self._begun = message.round
            return (*actions, Send(self._to, message.round, KEYS))
        return actions

    @override
    def _missing_again(self) -> Sequence[Action]:
        """Say that the message of a phase was lost: the agent is out of the round."""
        return (Send(self._to, self._round, SKIP),)

    @override
    def _begin(self, now: int) -> list[Action]:
        actions = super()._begin(now)
        if not any(isinstance(action, Train) for action in actions):
            return actions
        self._begun = self._round
        return [Send(self._to, self._round, KEYS), *actions]


class PhasedCoordinator(Coordinator):
    """Rounds whose exchange has phases, each with the answers that the phase before had.

    A round in which too few go on is given up: nothing is mixed, and the next round begins. So is
    the round in which the coordinator is started again. Who comes back in the middle of a round
    waits for the next one. Who skips before the phase of updates, because it has none, is out of
    the round, also where it answered the phase.
    """

    STATE: ClassVar[tuple[str, ...]] = (
        *Coordinator.STATE,
        "_phase",
        "_first",
        "_updates",
        "_skipped",
    )

    def __init__(
        self, options: Options, participants: Participants, phases: Phases, *, rounds: int | None
    ) -> None:
        super().__init__(
            participants,
            rounds=rounds,
            deadline=round(options.deadline * SECOND),
            suspect_after=options.suspect_after,
            quorum=options.quorum,
        )
        self._phases = phases
        self._phase = 0
        self._first = 0
        self._updates: dict[int, Message] = {}
        self._skipped: dict[int, None] = {}

    @property
    def _kind(self) -> str:
        return self._phases.kinds[self._phase]

    @property
    def _later(self) -> tuple[str, ...]:
        return self._phases.kinds[self._phase + 1 :]

    @override
    def waits_for(self) -> str:
        """Return in words what the coordinator is waiting for."""
        return f"{super().waits_for()} ({self._kind})"

    @override
    def _start(self, now: int) -> list[Action]:
        """Begin the first round; give up the saved one, and begin the next."""
        self._absent, self._misses = {}, {}
        if (not self._awaited and not self._phase) or self._is_last():
            return self._begin(now)
        self._forget(self._counted)
        self.round += 1
        return [Mix(self.round - 1), *self._begin(now)]

    def _forget(self, counted: Mapping[int, int]) -> None:
        """Note that no answer of this round counts.

        `counted` has the last round of every agent that did, before this one.
        """
        self._counted = dict(counted)
        for j in self._asked:
            self._unused[j] = counted.get(j, -1)

    @override
    def _begin(self, now: int) -> list[Action]:
        self._phase, self._updates, self._skipped = 0, {}, {}
        actions = super()._begin(now)
        self._spare = 0
        return actions

    @override
    def _joined(self, peer: int) -> Sequence[Action]:
        if self._phase == 0 and peer not in self._box and peer not in self._skipped:
            return super()._joined(peer)
        self._absent.pop(peer, None)
        self._misses.pop(peer, None)
        return ()

    @override
    def _received(self, event: Received, now: int) -> Iterable[Action]:
        message = event.message
        if message.kind not in (SKIP, self._kind) and message.round == self.round:
            self._misses.pop(message.sender, None)
            self._absent.pop(message.sender, None)
            self.messages_late += not event.again
            return ()
        if message.kind == SKIP and message.round == self.round:
            self._skipped[message.sender] = None
            self._leave(message.sender)
        return super()._received(event, now)

    def _leave(self, peer: int) -> None:
        """Forget what an agent answered, if no update of it follows."""
        if UPDATE in self._later:
            self._box.pop(peer, None)

    @override
    def _answered(self, peer: int, now: int) -> Iterable[Action]:
        self._leave(peer)  # a message of it is lost, perhaps its skip, or its link is
        return super()._answered(peer, now)

    @override
    def _close(self, now: int) -> Iterator[Action]:
        """Yield the actions that end a phase and begin the next, or end the round."""
        kinds, received = self._phases.kinds, [self._box[j] for j in sorted(self._box)]
        kind, count, round = self._kind, len(received), self.round
        if self._phase == 0:
            self._first = count
        if kind == UPDATE:
            self._updates = self._box
        if count < self._phases.fewest(self._first):
            self._box = {}
            yield from super()._close(now)
            return
        if self._phase + 1 < len(kinds):
            yield Gather(self.round, kind, received)
            self._phase += 1
            self._box, self._deadline = {}, None
            self._awaited = {m.sender: None for m in received if m.sender not in self._absent}
            if self._kind == UPDATE:
                wanted = ceil(self._quorum * len(self._awaited))
                self._spare = len(self._awaited) - max(wanted, self._phases.fewest(self._first))
            else:
                self._spare = 0
            yield WaitUntil(None)
            if not self._awaited:
                yield from self._close(now)
            return
        revealed = received if kind != UPDATE else []
        self._box, counted = self._updates, dict(self._counted)
        for action in super()._close(now):
            if isinstance(action, Mix) and action.round == round:
                action.revealed = revealed
                yield action
                if action.is_lost:
                    self._forget(counted)
            else:
                yield action
