"""What an agent remembers of its neighbors: for messages that say what changed, and for those that are missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from p2pfrl.core.parameters import Vector
from p2pfrl.core.types import Message
from p2pfrl.exchange.compressors import Compressor, State


class Hearing:
    """One agent's memory of what it heard.

    Args:
        compressor: of the run.
        limit: rounds after which what was heard is too old to stand in for what is missing; None:
            never.
    """

    __slots__ = ("_compressor", "_last", "_limit", "_states")

    def __init__(self, compressor: Compressor, limit: int | None) -> None:
        self._compressor = compressor
        self._limit = limit
        self._states: dict[int, State | None] = {}
        self._last: dict[int, tuple[int, Vector]] = {}

    def decode(self, messages: Sequence[Message]) -> dict[int, Vector]:
        """Return vectors by sender, without those that cannot be known because something before them is missing."""
        if not self._compressor.is_difference:
            return {m.sender: m.payload for m in messages}
        received = {}
        for m in messages:
            vector, self._states[m.sender] = self._compressor.receive(m, self._states.get(m.sender))
            if vector is not None:
                received[m.sender] = vector
        return received

    def stand_in(
        self, round: int, expected: Iterable[int], received: dict[int, Vector]
    ) -> dict[int, Vector]:
        """Return the last vectors of those of `expected` that are not in `received`, where fresh enough."""
        self._last |= {sender: (round, vector) for sender, vector in received.items()}
        return {
            sender: vector
            for sender in expected
            if sender not in received and sender in self._last
            for then, vector in [self._last[sender]]
            if self._limit is None or round - then <= self._limit
        }
