"""Hiding of the vectors that one agent sends: the part of a secure sum that its outbox uses."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from p2pfrl.core.errors import AgentError
from p2pfrl.core.parameters import Vector
from p2pfrl.core.state import State, Stateful
from p2pfrl.core.turn import Turn
from p2pfrl.core.types import KEYS, REVEAL, SHARES, UPDATE, Message
from p2pfrl.exchange.secure.errors import SecureError
from p2pfrl.exchange.secure.ring import FixedPoint, Ring, ring_sum

if TYPE_CHECKING:
    from p2pfrl.exchange.privacy.base import OfRing
    from p2pfrl.exchange.secure.members import Member

MOST_WEIGHT = 256.0
"""The largest weight of a vector, in units of an update: what is larger counts as much."""


def of_weighted(ring: FixedPoint) -> FixedPoint:
    """Return how vectors and their weights become elements, if vectors alone do it as `ring`."""
    return replace(ring, clip=max(ring.clip, 1.0) * MOST_WEIGHT)


ANSWERS = {KEYS: SHARES, SHARES: UPDATE, REVEAL: REVEAL}
"""Kind of a coordinator's message -> kind of the answer."""

_HARMLESS = ("repeated", "stale")
"""Reasons of refusals after which a round goes on."""


class Hiding(Stateful):
    """Turns the vectors of one agent into ring elements, masked.

    Args:
        ring: how numbers become elements.
    """

    __slots__ = ("ring",)

    def __init__(self, ring: FixedPoint) -> None:
        self.ring = ring

    @abstractmethod
    def hide(self, vector: Vector, turn: Turn, to: int) -> Ring | None:
        """Return what is sent of the vector `(k,)` to `to`; None if nothing is sent yet.

        Raises:
            SecureError: nothing will be sent in this round.
        """

    @property
    def is_per_receiver(self) -> bool:
        """Whether every receiver is sent something else."""
        return False

    def packed(self, elements: Ring) -> NDArray[Any]:
        """Return the bytes of elements, as an array."""
        return self.ring.packed(elements)

    def arrives(self, vector: Vector) -> Vector:
        """Return what a vector counts for in the sum, `(k,)`; one that is not finite, as it is."""
        if not np.isfinite(vector).all():
            return vector
        return self.ring.decode(self.ring.encode(vector)).astype(vector.dtype)

    def elements(self, vector: Vector, agent: int) -> Ring:
        """Return the ring elements of a vector.

        Raises:
            AgentError: it is not finite.
        """
        if not np.isfinite(vector).all():
            raise AgentError(agent, "its vector has NaN or infinity, which no secure sum can hold")
        return self.ring.encode(vector)


class OfMember(Hiding):
    """Hides the vectors of an agent of a coordinator.

    Args:
        member: its part in the sums.
        ring: how numbers become elements.
        unit: environment steps of weight 1, where vectors are weighted by steps: then w x and w are
            sent; 0 where all have the same weight.
        extras: vectors as long as x that come after it, and count alike whatever its weight.
        noised: makes elements with noise of whole numbers; None where they have none.
    """

    STATE: ClassVar[tuple[str, ...]] = ()
    __slots__ = ("_extras", "_noised", "_unit", "member")

    def __init__(
        self,
        member: Member,
        ring: FixedPoint,
        unit: float,
        extras: int = 0,
        noised: OfRing | None = None,
    ) -> None:
        super().__init__(ring)
        self._noised = noised
        self.member = member
        self._unit = unit
        self._extras = extras

    @override
    def save(self) -> State:
        """Return what the member remembers."""
        return self.member.save()

    @override
    def restore(self, state: State) -> None:
        """Take over a state."""
        self.member.restore(state)

    @override
    def hide(self, vector: Vector, turn: Turn, to: int) -> Ring | None:
        if self._unit:
            weight = min(turn.env_steps / self._unit, MOST_WEIGHT)
            values = np.clip(np.asarray(vector, dtype=np.float64), -self.ring.clip, self.ring.clip)
            values[: len(values) // (1 + self._extras)] *= weight
            self.elements(vector, turn.agent)
            weighted = of_weighted(self.ring).encode(np.append(values, weight))
            return self.member.submit(turn.round, weighted)
        elements = self.elements(vector, turn.agent)
        if self._noised is not None:
            elements = self._noised(vector, self.ring)
        return self.member.submit(turn.round, elements)

    def keys(self, round: int) -> bytes | None:
        """Return the agent's keys for a round; None if it takes no part in it (any more)."""
        try:
            return self.member.begin(round)
        except SecureError:
            return None

    def respond(self, message: Message) -> tuple[str, bytes | Ring | None]:
        """Return the kind and the content of the answer to the coordinator.

        The content is None where the agent has nothing to say yet. The kind is "" where it ends its
        part in the round.
        """
        try:
            content = self.member.respond(message.kind, message.round, message.payload.tobytes())
        except SecureError as error:
            return (ANSWERS[message.kind] if error.reason in _HARMLESS else ""), None
        return ANSWERS[message.kind], content


class OfCircle(Hiding):
    """Hides what an agent sends to each of its neighbors, among all whom that neighbor hears.

    Each of these adds masks that cancel in the receiver's sum. The keys of a run stay the same;
    masks differ by receiver, round and pair.

    Args:
        me: the agent's id.
        run: name of the run.
        private: its private key.
        public: agent -> public key.
        circle: (round, receiver) -> receiver's row of W, its own weight included.
        ring: how numbers become elements.
    """

    STATE: ClassVar[tuple[str, ...]] = ()
    __slots__ = ("_circle", "_me", "_private", "_public", "_run")

    def __init__(
        self,
        me: int,
        *,
        run: str,
        private: bytes,
        public: Callable[[int], bytes],
        circle: Callable[[int, int], Mapping[int, float]],
        ring: FixedPoint,
    ) -> None:
        super().__init__(ring)
        self._me, self._run = me, run
        self._private, self._public, self._circle = private, public, circle

    @property
    @override
    def is_per_receiver(self) -> bool:
        return True

    @override
    def hide(self, vector: Vector, turn: Turn, to: int) -> Ring | None:
        from p2pfrl.exchange.secure.keys import common, mask_of
        from p2pfrl.exchange.secure.members import pairwise

        row = self._circle(turn.round, to)
        bounded = np.clip(np.asarray(vector, dtype=np.float64), -self.ring.clip, self.ring.clip)
        total = self.elements(bounded * row[self._me], turn.agent)
        for other in row:
            if other in (to, self._me):
                continue
            secret = common(self._private, self._public(other))
            seed, is_added = pairwise(
                secret, self._run, turn.round, self._me, other, f"mask for {to}"
            )
            mask = mask_of(seed, len(total))
            if is_added:
                total += mask
            else:
                total -= mask
        return total

    def opened(
        self, received: Mapping[int, Vector], row: Mapping[int, float], like: Vector
    ) -> tuple[dict[int, Vector], dict[int, float]]:
        """Return what a linear rule mixes in place of masked vectors: their sum, of weight 1.

        Args:
            received: by sender, from all whom the agent hears.
            row: the agent's row of W.
            like: its own vector.
        """
        total = self.ring.decode(ring_sum([received[j].view(np.uint64) for j in sorted(received)]))
        first = min(received)
        weights = {self._me: row[self._me], first: 1.0}
        return {first: total.astype(like.dtype)}, dict(sorted(weights.items()))


def weighed(
    total: Ring, ring: FixedPoint, count: int, *, by_steps: bool, extras: int = 0
) -> tuple[Vector, Vector]:
    """Return the mean of the vectors in a sum, `(k,)`, and of what came after, `(extras k,)`.

    Both are float64.

    Args:
        total: their sum, and that of their weights if `by_steps`.
        ring: how numbers became elements.
        count: how many they are.
        by_steps: whether the vectors are weighted by steps.
        extras: vectors as long as each that came after it, without weights.
    """
    decoded: Vector = ring.decode(total)
    weight = float(count)
    if by_steps:
        decoded, weight = decoded[:-1], float(decoded[-1])
    width = len(decoded) // (1 + extras)
    return decoded[:width] / (weight if weight > 0.0 else 1.0), decoded[width:] / count
