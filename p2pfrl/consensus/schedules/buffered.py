"""Buffered schedule: a coordinator that takes a step after every K updates."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.schedules.arrivals import AsynchronousCoordinator, NoDeadline
from p2pfrl.consensus.schedules.base import Available, Neighborhood, Participants
from p2pfrl.consensus.staleness import RULES, Polynomial, Staleness
from p2pfrl.core.needs import Breaks, Need, Needs
from p2pfrl.core.options import Rule
from p2pfrl.core.rule import rule
from p2pfrl.core.types import Schedule


@rule
class Buffered(NoDeadline):
    """x <- server step of (1/K) sum s(tau_k) u_k, after every K arriving updates u_k.

    No agent waits. s(tau) = 1/sqrt(1 + tau) by default, where tau is the number of models made
    since the start of u_k. K = 1 is schedule asynchronous, and K = n with agents of equal speed is
    schedule synchronous. In the paper another client replaces one that has uploaded; here the same
    client continues from the current model. `stop.rounds` R means n R updates, as in schedule
    asynchronous, so n R / K models: agents do the same work for any K.

    With `fresh_only` this is the round of Rennala NIGT: K gradients at the same point from the
    fastest agents; other gradients are ignored. With payload "parameters" s scales the distance to
    the current model.

    Attributes:
        every: local updates per exchange.
        size: K.
        fresh_only: use only updates of staleness 0.
        max_staleness: maximum staleness of an update; staler ones are dropped and counted. No
            maximum by default.
        staleness: the factor s(tau).

    Reference: Nguyen, Malik, Zhan, Yousefpour, Rabbat, Malek, Huba, Federated learning with
        buffered asynchronous aggregation, AISTATS 2022, arXiv 2106.06639; Tyurin et al., ICLR 2026,
        arXiv 2509.24305 (Rennala NIGT).
    """

    needs: ClassVar[Needs] = (Need.COORDINATOR,)
    every: int = Field(default=1, ge=1)
    size: int = Field(default=10, ge=1)
    fresh_only: bool = False
    max_staleness: int | None = Field(default=None, ge=0)
    staleness: Annotated[Staleness, Rule("staleness factors", lambda: RULES)] = Field(
        default_factory=Polynomial
    )

    def __post_init__(self) -> None:
        if self.fresh_only and self.max_staleness is not None:
            raise ValueError("fresh_only = true is max_staleness = 0: leave max_staleness out")

    @property
    @override
    def breaks(self) -> Breaks:
        """Needs of rounds, and of more than one update for a model if `size` is 1."""
        return (*super().breaks, *((Need.CHOICE.of("size"),) if self.size == 1 else ()))

    @property
    @override
    def together(self) -> int:
        return self.size

    def models(self, rounds: int, agents: int) -> int:
        """Return n R / K, rounded up."""
        return -(-rounds * agents // self.size)

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
        """Raise an error, because gossip has no coordinator to hold a buffer."""
        raise NotImplementedError("schedule 'buffered' needs a coordinator")

    @override
    def coordinator(
        self, participants: Participants, *, rounds: int | None
    ) -> AsynchronousCoordinator:
        return AsynchronousCoordinator(
            participants,
            rounds=rounds,
            max_staleness=0 if self.fresh_only else self.max_staleness,
            staleness=self.staleness,
            size=self.size,
        )
