"""Pairwise exchanges of one agent: train, ask one neighbor, and answer questions of neighbors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from p2pfrl.consensus.schedules.base import Available, Neighborhood, resting
from p2pfrl.core.state import Stateful
from p2pfrl.core.types import (
    SKIP,
    UPDATE,
    Action,
    Answer,
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
    Train,
    Trained,
    WaitUntil,
)

Pick = Callable[[int, Sequence[int]], int]
"""(round, sorted candidates) -> the neighbor to ask."""
_TRIES = 60
"""Maximum number of times that a question is sent. A neighbor that does not answer has finished."""
_NEVER = (-1, -1)


class Pairs(Stateful):
    """State machine of pairwise exchanges, which are atomic although links lose messages.

    When its local updates are done, the agent asks one neighbor. It trains while it waits for the
    answer, and if the answer takes longer than the training, it waits. It answers the questions of
    others at once, also while it waits. So no agent can block another, and the graph need not be
    bipartite. The agent repeats a question without an answer, with the same number and payload. A
    neighbor that has answered it already repeats the answer and does not move again. So both move
    exactly once, unless one of them crashes in between or the link dies: then the agent that asked
    gives up and continues.

    If two agents ask each other at once, the one with the lower id gets its answer and refuses the
    other question: one exchange for both. With two exchanges each would move halfway twice and end
    at the other's start, and two agents without other neighbors would swap forever.

    Args:
        me: id of this agent.
        neighborhood: the neighbors that it may ask.
        every: local updates per exchange.
        rounds: exchanges after which it finishes. Then it tells its neighbors, which no longer ask
            it.
        patience: nanoseconds until it repeats a question.
        pick: chooses the neighbor to ask.
        available: whether the agent takes part in a round.
        first: first round, after a restart.
    """

    STATE: ClassVar[tuple[str, ...]] = (
        "messages_late",
        "deadlines_expired",
        "round",
        "_updates_left",
        "_asked",
        "_asked_at",
        "_deadline",
        "_updates_since",
        "_tries",
        "_answered",
        "_refused",
        "_absent",
        "_done",
    )

    def __init__(
        self,
        me: int,
        neighborhood: Neighborhood,
        *,
        every: int,
        rounds: int | None,
        patience: int,
        pick: Pick,
        available: Available,
        first: int = 0,
    ) -> None:
        self.messages_late = 0
        self.deadlines_expired = 0
        self.round = first
        self._me = me
        self._neighborhood = neighborhood
        self._every = every
        self._rounds = rounds
        self._patience = patience
        self._pick = pick
        self._available = available
        self._updates_left = every
        self._asked: int | None = None
        self._asked_at = 0
        self._deadline: int | None = None
        self._updates_since = 0
        self._tries = 0
        self._answered: dict[int, tuple[int, int]] = {}
        self._refused: dict[int, tuple[int, int]] = {}
        self._absent: dict[int, None] = {}
        self._done: dict[int, None] = {}

    def handle(self, event: Event, now: int) -> Sequence[Action]:
        """Return the actions for `event`."""
        if isinstance(event, Received):
            return self._received(event.message, now)
        if isinstance(event, Trained):
            return self._trained(now)
        if isinstance(event, Expired):
            return self._expired(event, now)
        if isinstance(event, Missing):
            is_ours = event.peer == self._asked and event.round == self.round
            # The network reports a lost question. `_asked_at` prevents two repeats at one time.
            return self._ask(now) if is_ours and now > self._asked_at else ()
        if isinstance(event, PeerLost):
            self._absent[event.peer] = None
            return self._close((), now) if event.peer == self._asked else ()
        if isinstance(event, PeerJoined):
            self._absent.pop(event.peer, None)
        elif isinstance(event, Started):
            return self._finish() if self._is_over() else self._prepare(now)
        return ()

    def waits_for(self) -> str:
        """Return what the agent is waiting for, as text."""
        is_resting = self._asked is None and self._deadline is not None
        own = "the time at which it is there" if is_resting else "its own update"
        what = own if self._updates_left else f"the answer of {self._asked}"
        return f"agent {self._me} waits in round {self.round} for {what}"

    def awaits(self) -> Sequence[int]:
        """Return the neighbor whose answer is awaited, if one is."""
        return () if self._updates_left or self._asked is None else (self._asked,)

    def _trained(self, now: int) -> Sequence[Action]:
        self._updates_left -= 1
        self._updates_since += 1
        if self._updates_left:
            return (Train(),)
        return self._begin(now) if self._asked is None else ()

    def _prepare(self, now: int) -> list[Action]:
        """Train for the next exchange, or rest until the agent is there."""
        until = resting(self._available, now, has_company=False)
        if until is None:
            return self._finish("agents_gone")
        if until == now:
            return [Train()]
        self._deadline = until
        return [WaitUntil(until)]

    def _begin(self, now: int) -> list[Action]:
        """Begin an exchange after the local updates are done."""
        if not self._available(self.round, now):
            return [Mix(self.round, active=False), *self._end(now)]
        gone = {**self._absent, **self._done}
        near = [j for j in self._neighborhood.successors(self.round) if j not in gone]
        if not near:
            return [Mix(self.round), *self._end(now)]
        self._asked = self._pick(self.round, near)
        self._updates_since = self._tries = 0
        actions = self._ask(now)
        # The agent trains for the next exchange while it waits for the answer.
        if self._rounds is None or self.round + 1 < self._rounds:
            self._updates_left = self._every
            actions.append(Train())
        return actions

    def _ask(self, now: int) -> list[Action]:
        assert self._asked is not None
        self._asked_at = now
        self._deadline = now + self._patience
        return [Send((self._asked,), self.round), WaitUntil(self._deadline)]

    def _expired(self, event: Expired, now: int) -> Sequence[Action]:
        if event.deadline != self._deadline:
            return ()
        if self._asked is None:
            self._deadline = None
            return [WaitUntil(None), *self._prepare(now)]
        self.deadlines_expired += 1
        self._tries += 1
        return self._ask(now) if self._tries < _TRIES else self._close((), now)

    def _received(self, message: Message, now: int) -> Sequence[Action]:
        sender = message.sender
        if message.kind == UPDATE:
            self._done.pop(sender, None)
            return self._questioned(message, now)
        is_done = (
            message.kind == SKIP and self._rounds is not None and message.round >= self._rounds
        )
        if is_done:
            self._done[sender] = None
        if sender != self._asked or not (is_done or message.round == self.round):
            self.messages_late += message.kind != SKIP
            return ()
        return self._close(() if message.kind == SKIP else (message,), now)

    def _questioned(self, message: Message, now: int) -> Sequence[Action]:
        """Answer a question and move, or refuse it.

        A repeated question gets the same answer as before.
        """
        asker, number = message.sender, (message.incarnation, message.round)
        answered, refused = self._answered.get(asker, _NEVER), self._refused.get(asker, _NEVER)
        if number < max(answered, refused):
            self.messages_late += 1
            return ()
        if number == answered:
            return (Answer(message, again=True),)
        # Both have asked each other. The lower id refuses, so that only one exchange happens.
        is_crossed = asker == self._asked and self._me < asker
        if number == refused or is_crossed or not self._available(self.round, now):
            self._refused[asker] = number
            return (Send((asker,), message.round, SKIP),)
        self._answered[asker] = number
        return (Answer(message),)

    def _close(self, received: tuple[Message, ...], now: int) -> list[Action]:
        """End the exchange, and begin the next one if its local updates are done already."""
        self._asked = self._deadline = None
        staleness = [self._updates_since] * len(received)
        actions: list[Action] = [
            WaitUntil(None),
            Mix(self.round, received, staleness, [1.0] * len(received)),
        ]
        self.round += 1
        if self._is_over():
            return [*actions, *self._finish()]
        return actions if self._updates_left else [*actions, *self._begin(now)]

    def _end(self, now: int) -> list[Action]:
        """End a round without an exchange."""
        self.round += 1
        if self._is_over():
            return self._finish()
        self._updates_left = self._every
        return self._prepare(now)

    def _is_over(self) -> bool:
        return self._rounds is not None and self.round >= self._rounds

    def _finish(self, why: str = "") -> list[Action]:
        last = self.round if self._rounds is None else max(self.round, self._rounds)
        return [Send(self._neighborhood.successors(self.round), last, SKIP), Finish(why)]
