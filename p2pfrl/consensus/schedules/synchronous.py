"""Synchronous rounds with a barrier among neighbors: train, send, wait, mix."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.schedules.base import Available, Neighborhood, Participants, ScheduleRule
from p2pfrl.core.needs import Breaks, Need, Needs
from p2pfrl.core.rule import rule
from p2pfrl.core.types import COORDINATOR
from p2pfrl.core.units import SECOND, Seconds

if TYPE_CHECKING:  # else state machines are imported when they are made: `validate` makes none
    from p2pfrl.consensus.schedules.central import Client, Coordinator
    from p2pfrl.consensus.schedules.edge import Edge
    from p2pfrl.consensus.schedules.gossip import Gossip


@rule
class Synchronous(ScheduleRule):
    """In every round an agent waits for all its neighbors, or until a deadline.

    Attributes:
        every: local updates per exchange.
        deadline: maximum waiting time, from the end of the own update; a later payload counts as
            late. Agents wait ten times as long for their coordinator, or for a neighbor where a
            rule needs every message; then they end, with an error in the second case.
        suspect_after: number of missed deadlines in a row after which a neighbor is not waited for,
            until it sends again.
        max_staleness: maximum staleness, in rounds, of a late payload, or of a payload that
            replaces a missing one (mixing.on_loss = "last_known"). No maximum by default.
        quorum: with a coordinator, the share of participants whose answers end a round (elastic
            rounds). Later answers count as late. An agent that is still training when the next
            model arrives sends its update for that round.

    Reference: Lian et al., NeurIPS 2017, arXiv 1705.09056.
    """

    is_asynchronous: ClassVar[bool] = False
    every: int = Field(default=1, ge=1)
    deadline: Seconds = Field(default=30.0, gt=0)
    suspect_after: int = Field(default=3, ge=1)
    max_staleness: int | None = Field(default=None, ge=0)
    quorum: float = Field(default=1.0, gt=0, le=1)

    @property
    def link_timeout(self) -> float:
        """Half the deadline: an agent drops a dead neighbor before its own neighbors drop it."""
        return self.deadline / 2

    @property
    @override
    def patience(self) -> float:
        """Ten deadlines."""
        return 10.0 * self.deadline

    @property
    @override
    def needs(self) -> Needs:
        """Needs of `quorum` and `max_staleness`."""
        quorum = (Need.COORDINATOR.of("quorum"),) if self.quorum < 1.0 else ()
        staleness = () if self.max_staleness is None else (Need.NEIGHBORS.of("max_staleness"),)
        return (*quorum, *staleness)

    @property
    @override
    def breaks(self) -> Breaks:
        """Needs of a schedule without rounds, and needs of all answers if `quorum` is below 1."""
        early = (Need.BARRIER.of("quorum"), Need.EVERY_ANSWER.of("quorum"))
        return (Need.NO_ROUNDS, *(early if self.quorum < 1.0 else ()))

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
    ) -> Gossip:
        from p2pfrl.consensus.schedules.gossip import Gossip

        return Gossip(
            self, me, neighborhood, rounds, order == "combine_while_adapting", available, first
        )

    @override
    def client(
        self, *, rounds: int | None, available: Available, coordinator: int = COORDINATOR
    ) -> Client:
        from p2pfrl.consensus.schedules.central import Client

        return Client(
            every=self.every,
            rounds=rounds,
            patience=round(self.patience * SECOND),
            available=available,
            coordinator=coordinator,
        )

    @override
    def coordinator(self, participants: Participants, *, rounds: int | None) -> Coordinator:
        from p2pfrl.consensus.schedules.central import Coordinator

        return Coordinator(
            participants,
            rounds=rounds,
            deadline=round(self.deadline * SECOND),
            suspect_after=self.suspect_after,
            quorum=self.quorum,
        )

    @override
    def edge(
        self, participants: Participants, *, rounds: int | None, period: int, above: int
    ) -> Edge:
        from p2pfrl.consensus.schedules.edge import Edge

        return Edge(self, participants, rounds=rounds, period=period, above=above)

    def cloud(self, participants: Participants, *, rounds: int | None, period: int) -> Coordinator:
        """Return the state machine of the cloud, which waits for all edges without a deadline."""
        from p2pfrl.consensus.schedules.central import Coordinator

        return Coordinator(
            participants,
            rounds=None if rounds is None else -(-rounds // period),
            deadline=None,
            suspect_after=self.suspect_after,
            idle=round(self.deadline * SECOND),
            per_model=period,
        )
