"""The ring Z_2^64 of secure sums: vectors as fixed-point numbers that add up exactly."""

from __future__ import annotations

import math
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
    """x -> round(min(max(x, -c), c) 2^f) modulo 2^64.

    Sums of n such numbers are exact, and decoded without overflow, if n c 2^f < 2^63. Decoding
    gives the sum of the clipped vectors up to n 2^-(f+1) per entry.

    Attributes:
        clip: c.
        bits: f.
    """

    clip: float
    bits: int

    def capacity(self) -> int:
        """Return the largest number of vectors whose sum cannot overflow."""
        if self.clip >= _LIMIT:
            return 0
        return (_LIMIT - 1) // math.ceil(self.clip * 2.0**self.bits)

    def largest_clip(self, vectors: int) -> float:
        """Return the largest clip with which a sum of this number of vectors cannot overflow."""
        return math.ldexp(float((_LIMIT - 1) // vectors), -self.bits)

    def encode(self, vector: Vector) -> Ring:
        """Return the ring elements of a finite vector, `(k,)`."""
        values = np.clip(np.asarray(vector, dtype=np.float64), -self.clip, self.clip)
        return np.rint(values * 2.0**self.bits).astype(np.int64).view(np.uint64)

    def decode(self, total: Ring) -> NDArray[np.float64]:
        """Return the sum that `total` encodes, `(k,)` float64."""
        return total.view(np.int64).astype(np.float64) * 2.0**-self.bits


@dataclass(frozen=True, slots=True)
class Elements:
    """The encoding of masked vectors: little-endian ring elements.

    Attributes:
        more: elements beside those of the payload: 1 for a weight.
        longest: bytes of the longest message that carries no vector.
        encoding: its name in frames.
    """

    more: int = 0
    longest: int = 0
    encoding: str = "ring"

    def limit(self, size: int, itemsize: int) -> int:
        """Return the bytes of `size` numbers."""
        return BYTES * (size + self.more)

    def decode(self, data: memoryview, size: int, dtype: np.dtype[Any]) -> Vector:
        """Return the elements, `(size + more,)` uint64.

        Raises:
            WireError: there are more or fewer.
        """
        if len(data) != BYTES * (size + self.more):
            raise WireError(
                "wrong_layout", f"expected {size + self.more} ring elements, got {len(data)} bytes"
            )
        elements: Vector = np.frombuffer(data, "<u8").view()
        return elements


def ring_sum(vectors: list[Ring]) -> Ring:
    """Return the sum of at least one vector, a new array."""
    total = vectors[0].copy()
    for vector in vectors[1:]:
        total += vector
    return total
