"""Asynchronous gossip without a barrier: train, send, mix the messages that have arrived."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.schedules.arrivals import AsynchronousCoordinator, NoDeadline
from p2pfrl.consensus.schedules.base import (
    Available,
    Neighborhood,
    Participants,
    resting,
)
from p2pfrl.consensus.schedules.pairwise import Pairs
from p2pfrl.consensus.staleness import RULES, Polynomial, Staleness
from p2pfrl.core.needs import Breaks, Need
from p2pfrl.core.options import Rule
from p2pfrl.core.rule import rule
from p2pfrl.core.state import Stateful
from p2pfrl.core.types import (
    SKIP,
    Action,
    Event,
    Expired,
    Finish,
    Message,
    Mix,
    PeerJoined,
    Received,
    Send,
    Started,
    Train,
    Trained,
    WaitUntil,
)


@rule
class Asynchronous(NoDeadline):
    """Agents never wait for each other.

    They mix the messages that have arrived, weighted by staleness.

    With mixing "pairwise" this is AD-PSGD: an agent exchanges with one neighbor at a time, which
    answers at once (schedules/pairwise.py). Then no message is stale, and the options on staleness
    have no use. With a coordinator this is FedAsync (Xie, Koyejo, Gupta, OPT 2020, arXiv
    1903.03934): the server moves toward every arriving update by s(staleness).

    Attributes:
        every: local updates per exchange.
        max_staleness: maximum staleness of a payload; staler ones are dropped and counted. No
            maximum by default.
        staleness: the factor s(tau) of a payload with a staleness of tau rounds.

    Reference: Lian et al., "Asynchronous decentralized SGD", ICML 2018, arXiv 1710.06952.
    """

    every: int = Field(default=1, ge=1)
    max_staleness: int | None = Field(default=None, ge=0)
    staleness: Annotated[Staleness, Rule("staleness factors", lambda: RULES)] = Field(
        default_factory=Polynomial
    )

    @property
    @override
    def breaks(self) -> Breaks:
        """Needs of rounds, and of more than one update for a model."""
        return (*super().breaks, Need.CHOICE)

    @override
    def gossip(
        self,
        me: int,
        neighborhood: Neighborhood,
        *,
        rounds: int | None,
        order: Literal["adapt_then_combine", "combine_while_adapting"],
        available: Available,
        first: int = 0,
    ) -> Push:
        return Push(self, me, neighborhood, rounds, available, first)

    @override
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
    ) -> Pairs:
        return Pairs(
            me,
            neighborhood,
            every=self.every,
            rounds=rounds,
            patience=patience,
            pick=pick,
            available=available,
            first=first,
        )

    @override
    def coordinator(
        self, participants: Participants, *, rounds: int | None
    ) -> AsynchronousCoordinator:
        return AsynchronousCoordinator(
            participants, rounds=rounds, max_staleness=self.max_staleness, staleness=self.staleness
        )


class Push(Stateful):
    """State machine of one agent with asynchronous rounds.

    `round` counts the agent's own exchanges, but it is at least the round of every payload that the
    agent mixes. Otherwise a slow or late agent would fall behind without bound, and others would
    drop its payloads as stale.

    An agent that is away by the time of day rests before its next update until it is there again.

    The staleness of a payload is the number of own updates completed since it arrived plus its lag
    in rounds on arrival. Each payload is applied at most once, and only the newest of each
    neighbor.
    """

    STATE: ClassVar[tuple[str, ...]] = (
        "messages_late",
        "deadlines_expired",
        "round",
        "_mixed",
        "_updates_left",
        "_inbox",
        "_newest",
        "_rests_until",
    )

    def __init__(
        self,
        options: Asynchronous,
        me: int,
        neighborhood: Neighborhood,
        rounds: int | None,
        available: Available,
        first: int = 0,
    ) -> None:
        self.messages_late = 0
        self.deadlines_expired = 0
        self.round = first
        self._mixed = 0
        self._options = options
        self._me = me
        self._neighborhood = neighborhood
        self._rounds = rounds
        self._available = available
        self._updates_left = options.every
        self._inbox: dict[int, tuple[Message, int, int]] = {}
        self._newest: dict[int, tuple[int, int]] = {}
        self._rests_until: int | None = None

    def handle(self, event: Event, now: int) -> Sequence[Action]:
        """Return the actions for `event`."""
        if isinstance(event, Received):
            return self._received(event.message)
        if isinstance(event, Trained):
            return self._trained(now)
        if isinstance(event, Started):
            return self._begin(now)
        if isinstance(event, Expired) and event.deadline == self._rests_until:
            return (WaitUntil(None), *self._begin(now))
        if (
            isinstance(event, PeerJoined)
            and self.round
            and event.peer in self._neighborhood.successors(self.round)
        ):
            return (Send((event.peer,), self.round - 1),)
        return ()

    def waits_for(self) -> str:
        """Return what the agent is waiting for, as text; never another agent."""
        what = "its own update" if self._rests_until is None else "the time at which it is there"
        return f"agent {self._me} waits in round {self.round} for {what}"

    def awaits(self) -> Sequence[int]:
        """Return nobody: an agent waits for its own updates only."""
        return ()

    def _begin(self, now: int) -> Sequence[Action]:
        """Begin a round, or rest until the agent is there."""
        until = resting(self._available, now, has_company=False)
        self._rests_until = None if until == now else until
        if until is None:
            return (Finish("agents_gone"),)
        return (Train(),) if until == now else (WaitUntil(until),)

    def _too_old(self, tau: int) -> bool:
        return self._options.max_staleness is not None and tau > self._options.max_staleness

    def _received(self, message: Message) -> Sequence[Action]:
        version = (message.incarnation, message.sequence)
        if message.kind == SKIP or version <= self._newest.get(message.sender, (-1, -1)):
            return ()
        self._newest[message.sender] = version
        lag = max(0, self.round - message.round)
        self._inbox[message.sender] = (message, lag, self._mixed)
        return ()

    def _trained(self, now: int) -> Sequence[Action]:
        self._updates_left -= 1
        if self._updates_left:
            return (Train(),)
        self._updates_left = self._options.every
        active = self._available(self.round, now)
        actions: list[Action] = []
        if active:
            actions.append(Send(self._neighborhood.successors(self.round), self.round))
        received, staleness = [], []
        for sender in sorted(self._inbox) if active else ():
            message, lag, arrived = self._inbox.pop(sender)
            tau = lag + self._mixed - arrived
            if self._too_old(tau):
                self.messages_late += 1
            else:
                received.append(message)
                staleness.append(tau)
        factors = [self._options.staleness.factor(tau) for tau in staleness]
        actions.append(Mix(self.round, received, staleness, factors, active=active))
        self._mixed += 1
        self.round = max(self.round + 1, *(message.round for message in received), 0)
        if self._rounds is not None and self.round >= self._rounds:
            actions.append(Finish())
        else:
            actions += self._begin(now)
        return actions
