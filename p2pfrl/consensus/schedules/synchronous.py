"""Rounds with a barrier among neighbors: train, send, wait for everyone who is awaited, mix."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.schedules.base import Available, Neighborhood, Participants, ScheduleRule
from p2pfrl.consensus.schedules.central import Client, Coordinator
from p2pfrl.consensus.schedules.edge import Edge
from p2pfrl.consensus.schedules.gossip import Gossip
from p2pfrl.core.needs import Breaks, Need, Needs
from p2pfrl.core.rule import rule
from p2pfrl.core.types import COORDINATOR
from p2pfrl.core.units import SECOND, Seconds


@rule
class Synchronous(ScheduleRule):
    """Every round waits for all awaited neighbors, or until the deadline. Lian et al., NeurIPS 2017, arXiv 1705.09056.

    Attributes:
        every: local updates per exchange.
        deadline: how long to wait for neighbors, from the end of one's own update; a later arrival
            counts as late.
        suspect_after: misses in a row after which a neighbor is not awaited until it is heard
            again.
        max_staleness: rounds for which a payload still counts that came too late, or that stands in
            for a missing one (mixing.on_loss = "last_known"); any number when not given.
        quorum: with a coordinator, the share of those asked whose answers end a round: elastic
            rounds. What comes later counts as late; the update of whoever still trains when the
            next model comes counts for that round.
    """

    is_asynchronous: ClassVar[bool] = False
    every: int = Field(default=1, ge=1)
    deadline: Seconds = Field(default=30.0, gt=0)
    suspect_after: int = Field(default=3, ge=1)
    max_staleness: int | None = Field(default=None, ge=0)
    quorum: float = Field(default=1.0, gt=0, le=1)

    @property
    def link_timeout(self) -> float:
        """Half the deadline: a dead neighbor is noticed before those who wait for us give us up too."""
        return self.deadline / 2

    @property
    @override
    def needs(self) -> Needs:
        """What `quorum` and `max_staleness` are for."""
        quorum = (Need.COORDINATOR.of("quorum"),) if self.quorum < 1.0 else ()
        is_limited = self.max_staleness is not None
        return (*quorum, *((Need.NEIGHBORS.of("max_staleness"),) if is_limited else ()))

    @property
    @override
    def breaks(self) -> Breaks:
        """What asks for no rounds; where a share of the answers is enough, what asks for all."""
        early = (Need.BARRIER.of("quorum"), Need.EVERY_ANSWER.of("quorum"))
        return (Need.NO_ROUNDS, *(early if self.quorum < 1.0 else ()))

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
        """Return the state machine of an agent that mixes with its neighbors."""
        return Gossip(
            self, me, neighborhood, rounds, order == "combine_while_adapting", available, first
        )

    def client(
        self, *, rounds: int | None, available: Available, coordinator: int = COORDINATOR
    ) -> Client:
        """Return the state machine of an agent that trains for a coordinator."""
        return Client(
            every=self.every,
            rounds=rounds,
            patience=round(10 * SECOND * self.deadline),
            available=available,
            coordinator=coordinator,
        )

    def coordinator(self, participants: Participants, *, rounds: int | None) -> Coordinator:
        """Return the coordinator's state machine."""
        return Coordinator(
            participants,
            rounds=rounds,
            deadline=round(self.deadline * SECOND),
            suspect_after=self.suspect_after,
            quorum=self.quorum,
        )

    def edge(self, participants: Participants, *, rounds: int | None, period: int) -> Edge:
        """Return the state machine of a coordinator between agents and cloud."""
        return Edge(
            participants,
            rounds=rounds,
            period=period,
            deadline=round(self.deadline * SECOND),
            suspect_after=self.suspect_after,
            quorum=self.quorum,
            patience=round(10 * SECOND * self.deadline),
        )

    def cloud(self, participants: Participants, *, rounds: int | None, period: int) -> Coordinator:
        """Return the state machine of the cloud, which waits for all edges that are there, however long they take."""
        models = None if rounds is None else -(-rounds // period)
        return Coordinator(
            participants,
            rounds=models,
            deadline=None,
            suspect_after=self.suspect_after,
            idle=round(self.deadline * SECOND),
        )
