"""Schedule of an edge: several rounds with its agents, then an exchange with the cloud."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, Protocol

from p2pfrl.consensus.schedules.base import Participants
from p2pfrl.consensus.schedules.central import Coordinator
from p2pfrl.core.types import (
    ASKS,
    FINAL,
    SKIP,
    UPDATE,
    Action,
    Adopt,
    Event,
    Expired,
    Message,
    Missing,
    PeerJoined,
    PeerLost,
    Received,
    Send,
    Started,
    WaitUntil,
)
from p2pfrl.core.units import SECOND


class Options(Protocol):
    """The options of an edge's rounds (see `Synchronous`)."""

    @property
    def deadline(self) -> float:
        """Seconds from the first answer of a round to its end."""

    @property
    def suspect_after(self) -> int:
        """Misses in a row after which a participant is not waited for."""

    @property
    def quorum(self) -> float:
        """Share of answers that ends a round."""

    @property
    def patience(self) -> float:
        """Seconds to wait for a coordinator that does not come back."""


class Edge(Coordinator):
    """State machine of an edge: a coordinator for its agents and a client of the cloud.

    In a tree of several levels, edges are in place of its agents, or of the cloud (`above`).

    The edge runs `period` rounds from each model of the cloud. Rounds are numbered continuously:
    round r belongs to model r // period, and after the last of them the edge sends its result to
    the cloud. If all its agents have left, it answers at once. If a model of the cloud is lost, the
    edge continues without it; it asks again for the last one, up to `ASKS` times. A skip answers a
    model that is lost during the rounds of an earlier one. Where a repetition of its model is lost,
    the edge sends its answer again.

    When a link to the cloud comes back, the cloud sends a model. If the edge has answered this
    model before, it sends the answer again. If the model is newer than the one of its rounds, the
    result of the older model counts as the answer. If the cloud does not come back, the edge ends
    with its own model and sends it to its agents.

    After a restart the edge continues with its saved round. It repeats its last report when the
    cloud, which sees it again, repeats its model.

    Args:
        options: of its own rounds: it waits for all of its participants without a deadline if they
            are edges; and `patience`, the seconds without the cloud after which it ends, when its
            rounds are done.
        participants: its agents, or edges.
        rounds: rounds of the run; None for no end.
        period: rounds per model of the cloud.
        above: whose client it is: the cloud, or an edge of a tree with more levels.
    """

    STATE: ClassVar[tuple[str, ...]] = (
        *Coordinator.STATE,
        "_model",
        "_heard",
        "_is_reporting",
        "_next",
        "_alone",
        "_asks",
    )

    def __init__(
        self,
        options: Options,
        participants: Participants,
        *,
        rounds: int | None,
        period: int,
        above: int,
    ) -> None:
        is_of_edges, deadline = participants.everyone[0] < 0, round(options.deadline * SECOND)
        super().__init__(
            participants,
            rounds=None,
            deadline=None if is_of_edges else deadline,
            suspect_after=options.suspect_after,
            quorum=1.0 if is_of_edges else options.quorum,
            idle=deadline,
        )
        self._above = above
        self._last = rounds
        self._period = period
        self._model = -1
        self._heard = (-1, -1)
        self._is_reporting = True
        self._next: Message | None = None
        self._to_wait = round(options.patience * SECOND)
        self._alone: int | None = None
        self._asks = 0

    def handle(self, event: Event, now: int) -> Iterable[Action]:
        """Return the actions for `event`."""
        if self._is_over and not isinstance(event, Started):
            return super().handle(event, now)
        if isinstance(event, Received) and event.message.sender == self._above:
            return self._adopt(event.message, now)
        if isinstance(event, Missing) and event.peer == self._above:
            return self._missing(event.round, now) if event.round >= self._model else ()
        if isinstance(event, PeerLost | PeerJoined) and event.peer == self._above:
            self._alone = now + self._to_wait if isinstance(event, PeerLost) else None
            return [WaitUntil(self._alone)] if self._is_reporting else ()
        if isinstance(event, Expired) and self._is_reporting:
            return self._give_up() if event.deadline == self._alone else ()
        return super().handle(event, now)

    def waits_for(self) -> str:
        """Return what the edge is waiting for, as text."""
        return (
            "an edge waits for the cloud's next model"
            if self._is_reporting
            else super().waits_for()
        )

    def awaits(self) -> Sequence[int]:
        """Return the cloud once this edge has reported, else the agents that are awaited."""
        return (self._above,) if self._is_reporting else super().awaits()

    def _start(self, now: int) -> list[Action]:
        """Wait for the cloud, or continue with the saved round after a restart."""
        self._alone = None
        if not self._is_reporting:
            return super()._start(now)
        self._absent, self._misses = {}, {}
        if self._last is not None and self._model * self._period >= self._last:
            return self._end()
        return []

    def _missing(self, model: int, now: int) -> Iterable[Action]:
        """Continue without a model of the cloud that is lost; ask again for the last one.

        One that it had before is a repetition: the cloud waits for the answer.
        """
        if model == self._model:
            return self._report() if self._is_reporting else ()
        is_last = self._last is not None and model * self._period >= self._last
        self._asks += is_last
        if is_last and self._asks > ASKS:
            self._alone = now
        elif is_last or not self._is_reporting:
            return [Send((self._above,), model, SKIP)]
        return self._open(model, now) if self._is_reporting else ()

    def _adopt(self, message: Message, now: int) -> Iterator[Action]:
        version = (message.incarnation, message.sequence)
        is_behind = message.round < self._model and message.incarnation == self._heard[0]
        if version <= self._heard or is_behind:
            self.messages_late += 1
            return
        self._heard = version
        if message.round == self._model:
            if self._is_reporting:
                yield from self._report()
        elif self._is_reporting:
            yield Adopt(message, message.round - 1)
            yield from self._open(message.round, now)
        else:
            self._next = message

    def _open(self, model: int, now: int) -> Iterator[Action]:
        """Begin the rounds of a model of the cloud, or end with the last model."""
        self._model = model
        self.round = model * self._period
        if self._last is not None and self.round >= self._last:
            self.round = self._last
            yield from self._end()
            return
        self._is_reporting = False
        yield from self._begin(now)

    def _give_up(self) -> list[Action]:
        """End without the cloud."""
        self.deadlines_expired += 1
        return self._end("coordinator_gone")

    def _begin(self, now: int) -> list[Action]:
        is_over = self.round == self._last or self.round == (self._model + 1) * self._period
        if not is_over and any(i not in self._absent for i in self._participants.everyone):
            return super()._begin(now)
        self._is_reporting = True
        self._box, self._awaited, self._deadline = {}, {}, None
        following, self._next = self._next, None
        if following is not None and following.kind == FINAL:
            return [
                WaitUntil(None),
                Adopt(following, following.round - 1),
                *self._open(following.round, now),
            ]
        if following is not None:
            self._model = following.round
        self._alone = None if self._alone is None else max(now, self._alone)
        return [WaitUntil(self._alone), *self._report()]

    def _report(self) -> Sequence[Action]:
        """Send the result of its rounds to the cloud."""
        return (Send((self._above,), self._model, UPDATE),)

    def _joined(self, peer: int) -> Sequence[Action]:
        if not self._is_reporting:
            return super()._joined(peer)
        self._absent.pop(peer, None)
        self._misses.pop(peer, None)
        return ()
