"""Robust aggregators: up to f of the vectors may be anything, and the aggregate stays bounded."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from p2pfrl.consensus.aggregators.base import Aggregator, Arrived, Memory
from p2pfrl.consensus.aggregators.distances import squared_distances
from p2pfrl.core.needs import Needs
from p2pfrl.core.parameters import Vector
from p2pfrl.core.rule import rule

Rows = NDArray[np.floating]
"""`(k, d)`: one vector a row."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the vectors are aggregated.

    Attributes:
        own: `(d,)`, a vector that is trusted, as an agent's own among its neighbors; None for none.
        start: `(d,)`, the point from which the vectors are changes; None where they are changes.
        last: `(d,)`, the aggregate of the round before; None if there is none.
    """

    own: Vector | None = None
    start: Vector | None = None
    last: Vector | None = None


@rule
class Robust(Aggregator):
    """Options of all robust aggregators.

    If fewer vectors arrive than f needs, f is the largest number that they allow. Numbers beyond
    +-1e100 count as that, so that no square overflows.

    Attributes:
        byzantine: f, how many of the vectors may be anything. A scenario whose coordinator or
            neighborhood has too few vectors for it is refused.
        pre: what is done to the vectors before, in this order. nearest_neighbors: each one becomes
            the mean of the k - f vectors nearest to it, itself included (Allouah et al., AISTATS
            2023, arXiv 2302.01772). bucketing: the means of random pairs take their place
            (Karimireddy, He, Jaggi, ICLR 2022, arXiv 2006.09365, with s = 2); pairs follow from the
            checksums of the vectors, so equal vectors fall into one pair.

    Class variables of a rule:
        bears: (a, b): it needs k >= a f + b vectors.
        reads_byzantine: whether the aggregate depends on f.
        needs_of_neighbors: what it needs where mixing "neighborhood" uses it.
        of_coordinators: options without effect there.
    """

    bears: ClassVar[tuple[int, int]] = (2, 1)
    reads_byzantine: ClassVar[bool] = True
    needs_of_neighbors: ClassVar[Needs] = ()
    of_coordinators: ClassVar[tuple[str, ...]] = ()
    is_robust: ClassVar[bool] = True
    of_several: ClassVar[tuple[str, ...]] = ("",)

    byzantine: int | None = Field(default=None, ge=0)
    pre: tuple[Literal["nearest_neighbors", "bucketing"], ...] = ()

    def __post_init__(self) -> None:
        if len({*self.pre}) < len(self.pre):
            raise ValueError(f"pre names a step twice: {', '.join(self.pre)}")
        if "nearest_neighbors" in self.pre and self.byzantine is None:
            raise ValueError("pre = nearest_neighbors averages k - f vectors: set byzantine")

    @override
    def shortage(self, count: int) -> str | None:
        if self.byzantine is None or self.byzantine <= self.tolerated(count):
            return None
        a, b = self.bears
        least = a * self.byzantine + b
        formula = f"{a} f + {b}" if a > 1 else f"f + {b}"
        if "bucketing" in self.pre:
            least, formula = 2 * least - 1, f"2 ({formula}) - 1"
        return (
            f"needs at least {formula} = {least} vectors for byzantine = {self.byzantine}, and {count} "
            f"take part, which bear {self.tolerated(count)}"
        )

    @override
    def tolerated(self, count: int) -> int:
        a, b = self.bears
        if "bucketing" in self.pre:
            count = -(-count // 2)
        return max(0, (count - b) // a)

    @override
    def aggregate(
        self, received: Sequence[Arrived], model: Vector, state: Memory
    ) -> tuple[Vector, Memory]:
        rows = np.array([arrived.vector for arrived in received])
        out = self.combine(rows, self.place(received, state))
        return out, self.remember(out)

    def place(self, received: Sequence[Arrived], state: Memory) -> Place:
        """Return where a coordinator aggregates."""
        return Place()

    def remember(self, aggregate: Vector) -> Memory:
        """Return the memory after a round."""
        return {}

    def combine(self, rows: Rows, place: Place) -> Vector:
        """Return the aggregate `(d,)` of `(k, d)` vectors, in their dtype."""
        dtype = rows.dtype
        f = self.byzantine or 0
        if self.pre:  # the mean of Byzantine rows may be too large for short numbers
            rows = rows.astype(np.float64, copy=False)
        if rows.dtype == np.float64:
            rows = np.clip(rows, -LARGEST, LARGEST)
        for step in self.pre:
            rows = nearest_neighbors(rows, f) if step == "nearest_neighbors" else bucketing(rows)
        a, b = self.bears
        f = min(f, max(0, (len(rows) - b) // a))
        out: Vector = self.reduce(rows, f, place).astype(dtype, copy=False)
        return out

    @abstractmethod
    def reduce(self, rows: Rows, f: int, place: Place) -> Vector:
        """Return the aggregate, a new array, after the steps of `pre`.

        `f` is at most what the rows bear.
        """


LARGEST = 1e100
"""The largest number that counts as it is."""


def nearest_neighbors(rows: Rows, f: int) -> Rows:
    """Return for each row the mean of the k - f rows nearest to it, itself included, `(k, d)`."""
    keep = max(1, len(rows) - f)
    if keep == len(rows):
        return np.repeat(mean(rows)[None], len(rows), axis=0)
    order = np.argsort(squared_distances(rows), axis=1, kind="stable")[:, :keep]
    return np.array([mean(rows[np.sort(nearest)]) for nearest in order])


def bucketing(rows: Rows) -> Rows:
    """Return the means of pairs of rows, `(ceil(k / 2), d)`; an odd last row stays alone.

    Rows are paired in order of a hash of their bytes: it is random where rows are, does not depend
    on their order, and needs no state.
    """
    keys = [blake2b(row.tobytes(), digest_size=8).digest() for row in rows]
    order = sorted(range(len(rows)), key=lambda position: (keys[position], position))
    pairs = [sorted(order[i : i + 2]) for i in range(0, len(rows), 2)]
    return np.array([mean(rows[pair]) for pair in pairs])


def mean(rows: Rows) -> Vector:
    """Return the mean of rows `(k, d)`, summed in order."""
    total: Vector = rows[0].copy()
    for row in rows[1:]:
        total += row
    total /= total.dtype.type(len(rows))
    return total
