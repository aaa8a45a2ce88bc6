"""A coordinator that steps after every K updates: between rounds with a barrier and none at all."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from p2pfrl.consensus.schedules.arrivals import AsynchronousCoordinator, NoDeadline
from p2pfrl.consensus.schedules.base import Available, Neighborhood, Participants
from p2pfrl.consensus.staleness import RULES, Polynomial, Staleness
from p2pfrl.core.needs import Need, Needs
from p2pfrl.core.options import Rule
from p2pfrl.core.rule import rule
from p2pfrl.core.types import Schedule


@rule
class Buffered(NoDeadline):
    """x <- server step of (1/K) sum s(tau_k) u_k, after every K updates u_k that arrive; nobody waits for anybody.

    s(tau) = 1/sqrt(1 + tau) by default, tau the number of models made since the one that u_k
    started from. K = 1 is schedule asynchronous; K = n with agents of one speed is schedule
    synchronous. In the paper a client that has uploaded is replaced by another one; here it goes on
    from the model of now. `stop.rounds` R means n R updates, as of schedule asynchronous, so n R /
    K models: whatever K is, agents work as much.

    With `fresh_only` this is the round of Rennala NIGT: K gradients at the same point, from whoever
    is fast, and what was computed elsewhere is ignored. With payload "parameters" s scales the
    distance to the model of now.

    Attributes:
        every: local updates per exchange.
        size: K.
        fresh_only: use updates of staleness 0 alone.
        max_staleness: older updates are dropped and counted; none is when not given.
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
        """Refuse: among neighbors nobody holds a buffer."""
        raise NotImplementedError("schedule 'buffered' needs a coordinator")

    def coordinator(
        self, participants: Participants, *, rounds: int | None
    ) -> AsynchronousCoordinator:
        """Return the coordinator's state machine."""
        return AsynchronousCoordinator(
            participants,
            rounds=rounds,
            max_staleness=0 if self.fresh_only else self.max_staleness,
            staleness=self.staleness,
            size=self.size,
        )
