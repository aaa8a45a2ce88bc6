"""Secure sums: whether receivers see the vector of every agent, or their sum alone."""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING, ClassVar

from p2pfrl.core.needs import Composable
from p2pfrl.core.rule import rule
from p2pfrl.exchange.secure.ring import FixedPoint

if TYPE_CHECKING:
    from p2pfrl.exchange.secure.keys import Source
    from p2pfrl.exchange.secure.members import Member, Signer
    from p2pfrl.exchange.secure.sums import Sums


class Secure(Composable, ABC):
    """What receivers learn of the vectors that agents send.

    Attributes:
        phases: kinds of the messages that agents send a coordinator in a round, in order; none
            where a message of an agent is all that it takes.
        is_of_neighbors: masks cancel among those whom an agent hears.
        guarantee: what it promises, in words; "" for nothing.
    """

    phases: ClassVar[tuple[str, ...]] = ()
    is_of_neighbors: ClassVar[bool] = False
    guarantee: ClassVar[str] = ""

    @property
    def ring(self) -> FixedPoint | None:
        """How vectors become ring elements; None where they do not."""
        return None

    @property
    def is_on(self) -> bool:
        """Whether vectors are hidden."""
        return self.ring is not None

    def fewest(self, count: int) -> int:
        """Return how many of `count` agents must go on for a sum."""
        return 1

    def longest(self, count: int, *, signature: int = 0) -> int:
        """Return the bytes of the longest message beside vectors, in sums of `count` agents.

        `signature` is the most bytes of a signature.
        """
        return 0

    def contents(self, count: int) -> tuple[int, ...]:
        """Return the bytes of an agent's messages in a round, both ways, that carry no vector.

        There are `count` agents. Signatures and headers come on top.
        """
        return ()

    def member(
        self, me: int, *, run: str, source: Source, signer: Signer, incarnation: int
    ) -> Member:
        """Return an agent's part. Called only if it has `phases`; arguments as of `Member`."""
        raise NotImplementedError(f"{type(self).__name__} has no phases")

    def sums(self, *, run: str, signer: Signer) -> Sums:
        """Return the coordinator's part. Called only if it has `phases`."""
        raise NotImplementedError(f"{type(self).__name__} has no phases")


@rule
class Visible(Secure):
    """Vectors travel as they are, and whoever receives them sees every one."""
