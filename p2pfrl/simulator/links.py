"""Links: latency and loss of messages, each draw keyed by the message."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from p2pfrl.core.distributions import Constant, Draw
from p2pfrl.core.rng import MessagePurpose, draw
from p2pfrl.core.state import Stateful
from p2pfrl.core.units import SECOND


class Latency(ABC):
    """Time of flight of a message."""

    @abstractmethod
    def nanoseconds(self, sender: int, receiver: int, number: int) -> int:
        """Return how long message `number` of `sender` takes to `receiver`, apart from its transmission."""


@dataclass(frozen=True, slots=True)
class Fixed(Latency):
    """Every message takes the same time."""

    time: int

    def nanoseconds(self, sender: int, receiver: int, number: int) -> int:
        """Return it."""
        return self.time


@dataclass(frozen=True, slots=True)
class Drawn(Latency):
    """Every message draws anew, from (seed, sender, receiver, number)."""

    seed: int
    distribution: Draw

    def nanoseconds(self, sender: int, receiver: int, number: int) -> int:
        """Return the draw of this message."""
        return round(
            self.distribution.sample(
                *draw(self.seed, sender, receiver, number, MessagePurpose.LATENCY)
            )
            * SECOND
        )


@dataclass(frozen=True, slots=True)
class PerEdge(Latency):
    """Every edge has its own time."""

    times: Mapping[tuple[int, int], int]

    def nanoseconds(self, sender: int, receiver: int, number: int) -> int:
        """Return the edge's."""
        return self.times[sender, receiver]


@dataclass(frozen=True, slots=True)
class PerLink(Latency):
    """Some links have models of their own, all others share one."""

    base: Latency
    own: Mapping[tuple[int, int], Latency]

    def nanoseconds(self, sender: int, receiver: int, number: int) -> int:
        """Return the link's."""
        return self.own.get((sender, receiver), self.base).nanoseconds(sender, receiver, number)


@dataclass(frozen=True, slots=True)
class Jittered(Latency):
    """Another latency plus a time uniform in [0, jitter): later messages may overtake."""

    seed: int
    base: Latency
    jitter: float

    def nanoseconds(self, sender: int, receiver: int, number: int) -> int:
        """Return base plus the draw of this message."""
        extra = draw(self.seed, sender, receiver, number, MessagePurpose.JITTER)[0] * self.jitter
        return self.base.nanoseconds(sender, receiver, number) + round(extra * SECOND)


def drawn(seed: int, distribution: Draw) -> Latency:
    """Return the latency model of a distribution."""
    if isinstance(distribution, Constant):
        return Fixed(round(distribution.value * SECOND))
    return Drawn(seed, distribution)


class Loss(Stateful, ABC):
    """The model of lost messages."""

    @abstractmethod
    def is_lost(self, sender: int, receiver: int, number: int, round: int) -> bool:
        """Return whether message `number`, of `round`, is lost."""


@dataclass(frozen=True, slots=True)
class Never(Loss):
    """No message is lost."""

    def is_lost(self, sender: int, receiver: int, number: int, round: int) -> bool:
        """Return False."""
        return False


@dataclass(frozen=True, slots=True)
class Independent(Loss):
    """Each message is lost with one probability."""

    seed: int
    probability: float

    def is_lost(self, sender: int, receiver: int, number: int, round: int) -> bool:
        """Return the draw of this message."""
        return draw(self.seed, sender, receiver, number, MessagePurpose.LOSS)[0] < self.probability


@dataclass(frozen=True, slots=True)
class Symmetric(Loss):
    """One draw per edge and round: both directions are lost together."""

    seed: int
    probability: float

    def is_lost(self, sender: int, receiver: int, number: int, round: int) -> bool:
        """Return the draw of this edge and round."""
        low, high = (sender, receiver) if sender < receiver else (receiver, sender)
        return draw(self.seed, low, high, round, MessagePurpose.EDGE_LOSS)[0] < self.probability


@dataclass(slots=True)
class Burst(Loss):
    """Gilbert-Elliott: every link is good or bad, and may change before each message.

    Gilbert, "Capacity of a burst-noise channel", Bell System Technical Journal 39, 1960; Elliott,
    1963.
    """

    STATE: ClassVar[tuple[str, ...]] = ("_bad",)
    seed: int
    good_to_bad: float
    bad_to_good: float
    loss_good: float
    loss_bad: float
    _bad: dict[tuple[int, int], bool] = field(default_factory=dict)

    def is_lost(self, sender: int, receiver: int, number: int, round: int) -> bool:
        """Move the link's state on by one message, then return this message's draw."""
        change, loss = draw(self.seed, sender, receiver, number, MessagePurpose.LOSS)
        bad = self._bad.get((sender, receiver), False)
        if change < (self.bad_to_good if bad else self.good_to_bad):
            bad = not bad
        self._bad[sender, receiver] = bad
        return loss < (self.loss_bad if bad else self.loss_good)
