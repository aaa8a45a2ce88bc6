"""Synchronous rounds in which every message counts: a neighbor that is down is waited for.

Mixing rules that need every message (`Need.EVERY_MESSAGE`: gradient tracking, EXTRA, CHOCO,
Chebyshev) run in these rounds. A neighbor that is merely late or down is never left out, so a run
in which agents crash and come back ends with the parameters of the run in which nobody crashed.

Each agent saves its state before it sends the messages of a round (write-ahead), and at the end of
the round. Two agents that hear each other are at most one round apart. An agent that comes back
therefore lacks the messages of two rounds at most. Its neighbors have kept them and send them again
(`_joined`), and it sends its own again, which may not have left (`_started`). Over a one-way edge
the sender may run further ahead: there restarts are refused (scenario/checks/facts.py), and so are
links that lose messages.

A `Send` of a round that has been sent repeats the kept frames (agent.py, exchange/outbox.py). It
does not send the present parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from p2pfrl.consensus.schedules.base import Neighborhood
from p2pfrl.core.errors import P2PFRLError
from p2pfrl.core.state import Stateful
from p2pfrl.core.types import (
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
    Train,
    Trained,
    WaitUntil,
)
from p2pfrl.core.units import SECOND

_AHEAD = 2**14
"""Rounds ahead of ours from which messages are kept.

On one-way edges as many agents in a line may run ahead.
"""


class Lockstep(Stateful):
    """One agent's rounds that wait for every neighbor.

    Args:
        me: the agent's id.
        neighborhood: whom it sends to and hears.
        every: local updates per exchange.
        rounds: after which it ends; None for never.
        patience: nanoseconds after which a neighbor that is missing ends the run with an error: ten
            times `schedule.deadline`.
        combine_first: it sends before it trains (combine while adapting).
        first: the round at which it goes on.
        has_sent: whether it was saved after the messages of that round were made; they are then
            sent again, and not made anew.
    """

    STATE: ClassVar[tuple[str, ...]] = (
        "deadlines_expired",
        "round",
        "_has_sent",
        "_updates_left",
        "_is_waiting",
        "_deadline",
        "_inbox",
    )

    __slots__ = (
        "_combine_first",
        "_deadline",
        "_every",
        "_has_sent",
        "_inbox",
        "_is_waiting",
        "_me",
        "_neighborhood",
        "_patience",
        "_rounds",
        "_updates_left",
        "deadlines_expired",
        "messages_late",
        "round",
    )

    def __init__(
        self,
        me: int,
        neighborhood: Neighborhood,
        *,
        every: int,
        rounds: int | None,
        patience: int,
        combine_first: bool,
        first: int = 0,
        has_sent: bool = False,
    ) -> None:
        self.messages_late = 0  # stays 0, because nothing is too late here
        self.deadlines_expired = 0
        self.round = first
        self._me = me
        self._neighborhood = neighborhood
        self._rounds = rounds
        self._combine_first = combine_first
        self._every = every
        self._patience = patience
        self._has_sent = has_sent
        self._updates_left = 0
        self._is_waiting = False
        self._deadline: int | None = None
        self._inbox: dict[int, dict[int, Message]] = {}

    def handle(self, event: Event, now: int) -> Sequence[Action]:
        """Return what to do about `event`.

        Raises:
            P2PFRLError: a neighbor did not come back in time.
        """
        return _HANDLERS[type(event)](self, event, now)

    def waits_for(self) -> str:
        """Return in words what this agent is waiting for."""
        if self._is_waiting:
            missing = ", ".join(map(str, self._lacking()))
            return f"agent {self._me} waits in round {self.round} for {missing}"
        return f"agent {self._me} waits in round {self.round} for its own update"

    def awaits(self) -> Sequence[int]:
        """Return the neighbors whose messages of this round are not here yet."""
        return self._lacking() if self._is_waiting else ()

    def _started(self, event: Started, now: int) -> Sequence[Action]:
        """Begin the first round.

        An agent that comes back first repeats its last messages, which may not have arrived.
        """
        again = [self._send(self.round - 1)] if self.round else []
        if not self._has_sent:
            return [*again, *self._begin(now)]
        again.append(self._send(self.round))
        if self._combine_first:
            self._updates_left = self._every
            return [*again, Train()]
        return [*again, *self._wait(now)]

    def _begin(self, now: int) -> Sequence[Action]:
        if self._rounds is not None and self.round >= self._rounds:
            return (Finish(),)
        self._updates_left = self._every
        self._has_sent = self._combine_first
        return (self._send(self.round), Train()) if self._combine_first else (Train(),)

    def _trained(self, event: Trained, now: int) -> Sequence[Action]:
        self._updates_left -= 1
        if self._updates_left:
            return (Train(),)
        if self._combine_first:
            return self._wait(now)
        self._has_sent = True
        return [self._send(self.round), *self._wait(now)]

    def _wait(self, now: int) -> Sequence[Action]:
        self._is_waiting = True
        if not self._lacking():
            return self._mix(now)
        self._deadline = now + self._patience
        return (WaitUntil(self._deadline),)

    def _received(self, event: Received, now: int) -> Sequence[Action]:
        """Keep a message for its round, which ends with the last message.

        A message of a past round is repeated by a neighbor that was restarted. A skip says that a
        neighbor has finished (net/node.py).
        """
        message = event.message
        is_useless = message.round < self.round or message.kind == SKIP
        if is_useless or message.round >= self.round + _AHEAD:
            return ()
        here = self._inbox.setdefault(message.round, {})
        here.setdefault(message.sender, message)
        if not self._is_waiting or message.round != self.round:
            return ()
        if len(here) < len(self._neighborhood.predecessors(self.round)):  # as of nearly every one
            return ()
        return () if self._lacking() else self._mix(now)

    def _lacking(self) -> list[int]:
        """Return the neighbors whose message of this round is not here yet."""
        here = self._inbox.get(self.round, {})
        return [j for j in self._neighborhood.predecessors(self.round) if j not in here]

    def _mix(self, now: int) -> Sequence[Action]:
        self._is_waiting = False
        here = self._inbox.pop(self.round, {})
        received = [here[j] for j in self._neighborhood.predecessors(self.round)]
        actions: list[Action] = [
            Mix(self.round, received, [0] * len(received), [1.0] * len(received))
        ]
        if self._deadline is not None:
            self._deadline = None
            actions.append(WaitUntil(None))
        self.round += 1
        self._has_sent = False
        return [*actions, *self._begin(now)]

    def _expired(self, event: Expired, now: int) -> Sequence[Action]:
        if not self._is_waiting or event.deadline != self._deadline:
            return ()
        self.deadlines_expired += 1
        missing = ", ".join(map(str, self._lacking()))
        raise P2PFRLError(
            f"agent {self._me} waited {self._patience / SECOND:g} s (ten deadlines) in round {self.round} for agent "
            f"{missing}, and a rule needs every message: start the missing process again with the same command, then "
            "this one, or raise schedule.deadline"
        )

    def _joined(self, event: PeerJoined, now: int) -> Sequence[Action]:
        """Send a neighbor that is back the messages of the last round.

        The messages of this round follow if they have left.
        """
        newest = self.round if self._has_sent else self.round - 1
        return [
            Send((event.peer,), r)
            for r in (self.round - 1, self.round)
            if 0 <= r <= newest and event.peer in self._neighborhood.successors(r)
        ]

    def _ignored(self, event: Event, now: int) -> Sequence[Action]:
        """Do nothing: a neighbor that is down is waited for.

        Missed messages come when it is back.
        """
        return ()

    def _send(self, round: int) -> Send:
        return Send(self._neighborhood.successors(round), round)


_HANDLERS: dict[type, Callable[[Lockstep, Any, int], Sequence[Action]]] = {
    Started: Lockstep._started,
    Trained: Lockstep._trained,
    Received: Lockstep._received,
    Missing: Lockstep._ignored,
    Expired: Lockstep._expired,
    PeerLost: Lockstep._ignored,
    PeerJoined: Lockstep._joined,
}
