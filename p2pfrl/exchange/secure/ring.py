"""The ring of secure sums: vectors as fixed-point numbers that add up exactly.

Elements are computed in Z_2^64. On the wire they may have fewer bits b: what is left of them
modulo 2^b adds up modulo 2^b, because 2^b divides 2^64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfrl.core.errors import WireError
from p2pfrl.core.parameters import Vector

Ring = NDArray[np.uint64]
"""A vector of ring elements, `(k,)`; sums wrap around modulo 2^64."""

BYTES = 8
"""Of a ring element."""
_LIMIT = 2**63


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """x -> round(min(max(x, -c), c) 2^f) modulo 2^b.

    Sums of n such numbers are exact, and decoded without overflow, if n c 2^f < 2^(b-1). Decoding
    gives the sum of the clipped vectors up to n 2^-(f+1) per entry.

    Attributes:
        clip: c.
        bits: f.
        width: bytes of an element on the wire, b / 8.
    """

    clip: float
    bits: int
    width: int = BYTES

    @property
    def most(self) -> int:
        """The largest number that an element can stand for, in units of 2^-f."""
        return (1 << (8 * self.width - 1)) - 1

    def capacity(self) -> int:
        """Return the largest number of vectors whose sum cannot overflow."""
        if self.clip >= _LIMIT:
            return 0
        return self.most // math.ceil(self.clip * 2.0**self.bits)

    def largest_clip(self, vectors: int) -> float:
        """Return the largest clip with which a sum of this number of vectors cannot overflow."""
        return math.ldexp(float(self.most // vectors), -self.bits)

    def encode(self, vector: Vector) -> Ring:
        """Return the ring elements of a finite vector, `(k,)`."""
        values = np.clip(np.asarray(vector, dtype=np.float64), -self.clip, self.clip)
        return np.rint(values * 2.0**self.bits).astype(np.int64).view(np.uint64)

    def decode(self, total: Ring) -> NDArray[np.float64]:
        """Return the sum that `total` encodes, `(k,)` float64."""
        unused = np.int64(8 * (BYTES - self.width))
        numbers = (total.view(np.int64) << unused) >> unused  # with the sign of the highest bit
        return numbers.astype(np.float64) * 2.0**-self.bits

    def packed(self, elements: Ring) -> NDArray[Any]:
        """Return the bytes of elements, little-endian, as an array."""
        if self.width == BYTES:
            return elements
        rows = np.ascontiguousarray(elements, "<u8").view(np.uint8).reshape(-1, BYTES)
        return np.ascontiguousarray(rows[:, : self.width])


@dataclass(frozen=True, slots=True)
class Elements:
    """The encoding of masked vectors: little-endian ring elements.

    Attributes:
        more: elements beside those of the payload: 1 for a weight.
        longest: bytes of the longest message that carries no vector.
        width: bytes of an element.
        kept: numbers of a vector -> how many of them travel.
        encoding: its name in frames.
    """

    more: int = 0
    longest: int = 0
    width: int = BYTES
    kept: Callable[[int], int] = int
    encoding: str = "ring"

    def limit(self, size: int, itemsize: int) -> int:
        """Return the bytes of `size` numbers."""
        return self.width * (self.kept(size) + self.more)

    def decode(self, data: memoryview, size: int, dtype: np.dtype[Any]) -> Vector:
        """Return the elements, `(kept + more,)` uint64.

        Raises:
            WireError: there are more or fewer.
        """
        count = self.kept(size) + self.more
        if len(data) != self.width * count:
            expected = f"expected {count} ring elements of {self.width} bytes"
            raise WireError("wrong_layout", f"{expected}, got {len(data)} bytes")
        elements: Vector
        if self.width == BYTES:
            elements = np.frombuffer(data, "<u8").view()
            return elements
        rows = np.zeros((count, BYTES), np.uint8)
        rows[:, : self.width] = np.frombuffer(data, np.uint8).reshape(count, self.width)
        elements = rows.view("<u8").reshape(count)
        return elements


def ring_sum(vectors: list[Ring]) -> Ring:
    """Return the sum of at least one vector, a new array."""
    total = vectors[0].copy()
    for vector in vectors[1:]:
        total += vector
    return total
