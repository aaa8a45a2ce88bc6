"""The inbox of an agent, which turns received messages into vectors.

Some vectors depend on what was received before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from typing_extensions import override

from p2pfrl.core.parameters import Vector
from p2pfrl.core.state import Stateful
from p2pfrl.core.types import Message
from p2pfrl.exchange.compressors.base import Compressor, State


class Inbox(Stateful):
    """The inbox of an agent that needs no memory: every message holds its sender's vector."""

    __slots__ = ()

    def decode(self, messages: Sequence[Message]) -> dict[int, Vector]:
        """Return the received vectors by sender.

        A vector that cannot be known, because an earlier message is missing, is left out.
        """
        return {m.sender: m.payload for m in messages}

    def stand_ins(
        self, round: int, expected: Iterable[int], received: dict[int, Vector]
    ) -> dict[int, Vector]:
        """Return earlier vectors in place of those of `expected` that are not in `received`."""
        return {}


PLAIN = Inbox()
"""One for all agents: it has no state."""


class RememberingInbox(Inbox):
    """The inbox of an agent that remembers what its neighbors sent.

    Args:
        compressor: of the run; where messages hold differences, they are added up here.
        limit: rounds after which a vector is too old to stand in for a missing one; None: never.
        stands_in: whether earlier vectors stand in at all.
    """

    __slots__ = ("_compressor", "_last", "_limit", "_stands_in", "_states")
    STATE: ClassVar[tuple[str, ...]] = ("_states", "_last")

    def __init__(self, compressor: Compressor, limit: int | None, *, stands_in: bool) -> None:
        self._compressor = compressor
        self._limit = limit
        self._stands_in = stands_in
        self._states: dict[int, State | None] = {}
        self._last: dict[int, tuple[int, Vector]] = {}

    @override
    def decode(self, messages: Sequence[Message]) -> dict[int, Vector]:
        if not self._compressor.is_difference:
            return super().decode(messages)
        received = {}
        for m in messages:
            vector, self._states[m.sender] = self._compressor.receive(m, self._states.get(m.sender))
            if vector is not None:
                received[m.sender] = vector
        return received

    @override
    def stand_ins(
        self, round: int, expected: Iterable[int], received: dict[int, Vector]
    ) -> dict[int, Vector]:
        if not self._stands_in:
            return {}
        self._last |= {sender: (round, vector) for sender, vector in received.items()}
        return {
            sender: vector
            for sender in expected
            if sender not in received and sender in self._last
            for then, vector in [self._last[sender]]
            if self._limit is None or round - then <= self._limit
        }
