"""Rules of secure sums: options, needs, and the machines that carry them out."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field
from typing_extensions import override

from p2pfrl.core.needs import Breaks, Need, Needs, OneOf
from p2pfrl.core.rule import rule
from p2pfrl.core.types import KEYS, REVEAL, SHARES, UPDATE
from p2pfrl.exchange.secure.base import Secure
from p2pfrl.exchange.secure.entries import packed_size
from p2pfrl.exchange.secure.ring import FixedPoint
from p2pfrl.exchange.secure.shamir import SECRET, SHARE, threshold

if TYPE_CHECKING:
    from p2pfrl.exchange.secure.keys import Source
    from p2pfrl.exchange.secure.members import Member, Signer
    from p2pfrl.exchange.secure.sums import Sums

_SEALED = 128
"""Bytes, with some to spare, that an agent seals for another, or makes public of its keys."""
_TAG = 16
"""Bytes by which a sealed text is longer."""


@rule
class Masked(Secure):
    """Options of vectors in the ring.

    Attributes:
        clip: c, the largest number that travels: what is larger is cut off, entry by entry.
        fraction_bits: f: numbers travel as multiples of 2^-f, and each agent rounds by half of
            that at most.
        ring_bits: b, of a number that travels, a multiple of 8: fewer are fewer bytes. Sums are
            modulo 2^b, so n agents need n clip 2^f < 2^(b-1).
    """

    clip: float = Field(default=1024.0, gt=0)
    fraction_bits: int = Field(default=32, ge=0, le=52)
    ring_bits: int = Field(default=64, ge=16, le=64, multiple_of=8)

    @property
    @override
    def ring(self) -> FixedPoint:
        return FixedPoint(self.clip, self.fraction_bits, self.ring_bits // 8)


_NO_GATE = OneOf("gate", ("none",), "whether a gate opens says what an agent learned")


@rule
class NeighborhoodMasks(Masked):
    """y_ji = w_ij x_j + sum_{k > j} m_jki - sum_{k < j} m_kji in Z_2^64, j and k heard by i.

    Agent j sends neighbor i its vector, weighted as i would weigh it, under masks that cancel in
    the sum of all that i hears: i learns that sum, which is what it mixes, and no vector, unless it
    shares what it hears with others. A sum needs every neighbor, so agents wait for one that is
    down, and each must hear three at least: of fewer the sum is a neighbor, or one neighbor knows
    the other.

    Reference: used here; the masks as in Bonawitz et al., Practical secure aggregation for
        privacy-preserving machine learning, ACM CCS 2017.
    """

    is_of_neighbors: ClassVar[bool] = True
    guarantee: ClassVar[str] = (
        "an agent learns the weighted sum of its neighbors' vectors, and no other; agents that share "
        "what they hear may learn more"
    )
    needs: ClassVar[Needs] = (
        Need.EXACT_MESSAGES,
        Need.NEIGHBORS,
        Need.EVERY_MESSAGE,
        Need.STATIC_GRAPH,
        _NO_GATE,
        OneOf("exchange.payload", ("parameters",), "masks are for what linear mixing adds up"),
    )
    breaks: ClassVar[Breaks] = (Need.SINGLE, Need.CLEAR)


@rule
class OfCoordinator(Masked):
    """Options of sums around a coordinator.

    Attributes:
        minimum: a sum of fewer vectors is refused by the agents: it says too much about each.
    """

    needs: ClassVar[Needs] = (
        Need.ADDS_UP,
        Need.ONE_COORDINATOR,
        Need.ROUNDS,
        _NO_GATE,
        OneOf(
            "exchange.payload",
            ("parameters", "delta", "gradient", "table"),
            "the others hold counts or samples that clipping would change",
        ),
    )
    breaks: ClassVar[Breaks] = (Need.SINGLE, Need.CLEAR)

    minimum: int = Field(default=3, ge=3)

    @override
    def fewest(self, count: int) -> int:
        return max(self.minimum, threshold(count))

    @override
    def longest(self, count: int, *, signature: int = 0) -> int:
        return packed_size(count, _SEALED + signature)

    @abstractmethod
    def machines(self) -> tuple[type[Member], type[Sums]]:
        """Return the state machines of an agent and of the coordinator."""

    @override
    def member(
        self, me: int, *, run: str, source: Source, signer: Signer, incarnation: int
    ) -> Member:
        of_agent, _ = self.machines()
        return of_agent(
            me,
            run=run,
            source=source,
            signer=signer,
            minimum=self.minimum,
            incarnation=incarnation,
        )

    @override
    def sums(self, *, run: str, signer: Signer) -> Sums:
        _, of_coordinator = self.machines()
        return of_coordinator(run=run, signer=signer)


@rule
class SecretShares(OfCoordinator):
    """x_i = sum_j s_ij in Z_2^64, s_ij for agent j, which sends sum_i s_ij: in all sum_i x_i.

    Additive secret sharing. The shares s_ij, j != i, are keystreams, so that agents send each other
    seeds instead of vectors, sealed, by the coordinator. It learns the sum and no vector, unless
    all other agents tell it their shares. An agent that gives shares and then stays away ends the
    sum of its round: without loss and absences this is the cheaper rule, by one phase.

    Reference: Shamir, How to share a secret, Communications of the ACM 22(11), 1979, with additive
        shares; the keystreams as in Bonawitz et al., ACM CCS 2017.
    """

    phases: ClassVar[tuple[str, ...]] = (KEYS, SHARES, UPDATE)
    guarantee: ClassVar[str] = "the coordinator learns the sum of all vectors, and no other"

    @override
    def contents(self, count: int) -> tuple[int, ...]:
        sealed = packed_size(count - 1, SECRET + _TAG)
        return SECRET, packed_size(count, SECRET), sealed, sealed

    @override
    def machines(self) -> tuple[type[Member], type[Sums]]:
        from p2pfrl.exchange.secure.members import SharingMember
        from p2pfrl.exchange.secure.sums import SharingSums

        return SharingMember, SharingSums


@rule
class SecureAggregation(OfCoordinator):
    """y_i = x_i + m_i + sum_{j > i} m_ij - sum_{j < i} m_ji in Z_2^64: m_ij cancel in the sum.

    The mask of a pair follows from a key that only the two know (X25519, HKDF-SHA256, ChaCha20),
    new in every round. Of the n agents of a round any t = floor(2 n / 3) + 1 can take off what is
    left: the masks m_i of those who answered, and the pairs' masks of those who did not, and of no
    agent both. So up to n - t agents may stay away at any moment. With fewer the sum is given up,
    and nothing is known. The coordinator learns the sum, also if it is curious together with fewer
    than n / 3 agents: then the sum of the others.

    Reference: Bonawitz, Ivanov, Kreuter, Marcedone, McMahan, Patel, Ramage, Segal, Seth, Practical
        secure aggregation for privacy-preserving machine learning, ACM CCS 2017. Keys are new in
        every round here, so that what is revealed of one says nothing about another.
    """

    phases: ClassVar[tuple[str, ...]] = (KEYS, SHARES, UPDATE, REVEAL)
    guarantee: ClassVar[str] = (
        "the coordinator learns the sum of the vectors of those who answered, and no other"
    )

    @override
    def contents(self, count: int) -> tuple[int, ...]:
        sealed = packed_size(count - 1, 2 * SHARE + _TAG)
        keys = 3 * SECRET, packed_size(count, 3 * SECRET)
        return *keys, sealed, sealed, packed_size(count, 1), packed_size(count, SHARE)

    @override
    def machines(self) -> tuple[type[Member], type[Sums]]:
        from p2pfrl.exchange.secure.members import AggregationMember
        from p2pfrl.exchange.secure.sums import AggregationSums

        return AggregationMember, AggregationSums
