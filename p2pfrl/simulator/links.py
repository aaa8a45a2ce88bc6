"""Latency of links, each draw keyed by the message."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from p2pfrl.core.distributions.base import Constant, Draw
from p2pfrl.core.rng import MessagePurpose, draw
from p2pfrl.core.units import SECOND


class Latency(ABC):
    """Time of flight of a message."""

    @abstractmethod
    def nanoseconds(self, sender: int, receiver: int, number: int) -> int:
        """Return the latency of message `number` from `sender` to `receiver`.

        The time of its transmission is not included.
        """


@dataclass(frozen=True, slots=True)
class Fixed(Latency):
    """Every message takes the same time."""

    time: int

    def nanoseconds(self, sender: int, receiver: int, number: int) -> int:
        """Return the fixed time."""
        return self.time


@dataclass(frozen=True, slots=True)
class Drawn(Latency):
    """Latency drawn anew for every message, from (seed, sender, receiver, number)."""

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
        """Return the time of the edge."""
        return self.times[sender, receiver]


@dataclass(frozen=True, slots=True)
class PerLink(Latency):
    """Some links have models of their own, all others share one."""

    base: Latency
    own: Mapping[tuple[int, int], Latency]

    def nanoseconds(self, sender: int, receiver: int, number: int) -> int:
        """Return the time that the model of the link gives."""
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
