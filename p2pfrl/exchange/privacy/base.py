"""Privacy: what an agent may let others know of what it learned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

from typing_extensions import override

from p2pfrl.core.needs import Composable
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule
from p2pfrl.exchange.privacy.ledger import Ledger
from p2pfrl.exchange.secure.ring import FixedPoint, Ring

OfRing = Callable[[Vector, FixedPoint], Ring]
"""(vector `(k,)`, how numbers become elements) -> what may be added up of it, `(k,)`."""


class Privacy(Composable, ABC):
    """Changes what leaves an agent so that it reveals less.

    Attributes:
        is_accounted: `protect` replaces the change by training at every exchange, before anything
            is made of it, and a ledger counts what that costs. Then scores and steps do not travel.
        is_central: the coordinator aggregates by `sum`, and its ledger counts what that costs.
        releases_always: it also does so in a round of which nothing arrived. Only if `is_central`.
    """

    is_accounted: ClassVar[bool] = False
    is_central: ClassVar[bool] = False

    @property
    def releases_always(self) -> bool:
        """See above."""
        return False

    @abstractmethod
    def release(self, payload: Vector) -> Vector:
        """Return what may be sent instead of `payload`, the last step before compression."""

    def misfit(self, releases: int | None) -> tuple[str, str] | None:
        """Return (option, reason) if the rule does not fit a run; None if it does.

        Agents release at most so often; None: not known.
        """
        return None

    def planned(self, releases: int | None) -> Privacy:
        """Return the rule for a run whose agents release at most so often; None: not known."""
        return self

    def protect(self, change: Vector, ledger: Ledger, round: int) -> Vector | None:
        """Return what replaces the agent's change since its last exchange, `(k,)`.

        All that the agent sends follows from this and from what others sent. None: nothing of the
        change may leave, now or later, because the budget is spent. Called only if `is_accounted`,
        once per exchange.
        """
        return change

    def of_ring(self, ledger: Ledger) -> OfRing | None:
        """Return what makes ring elements of what is sent, with noise of whole numbers.

        None: the noise is in the vector before. Called only if `is_accounted`.
        """
        return None

    def first(self) -> float:
        """Return the bound of the first changes that a coordinator sums. Only if `is_central`."""
        return 0.0

    def sum(
        self, changes: Sequence[Vector], clip: float, ledger: Ledger, round: int
    ) -> tuple[Vector, float] | None:
        """Return the protected sum of changes `(k,)`, and the bound of the next ones.

        None: nothing of these may leave, because the budget is spent. Called only if `is_central`.

        Args:
            changes: of the agents that answered, at least one.
            clip: their bound: `first`, or as this returned it.
            ledger: of the coordinator.
            round: in which it is made.
        """
        return None

    def divisor(self, count: int, agents: int) -> float:
        """Return what the sum of `count` changes is divided by. Called only if `is_central`."""
        return max(1, count)

    def epsilon(self, spent: float) -> float:
        """Return the epsilon of what a ledger says is spent. Called only if it is counted."""
        return 0.0


@rule
class Plain(Privacy):
    """The payload itself: parameters are sent in the clear to neighbors."""

    @override
    def release(self, payload: Vector) -> Vector:
        """Return the payload."""
        return payload
